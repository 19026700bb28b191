package oci

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/Masterminds/semver/v3"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/seed-79636ae9/flux/toolkit/throttle"
)

// HelmChartLayer is the media type of the layer that holds a Helm chart.
const HelmChartLayer = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"

// Reference selects a manifest of a repository. The first field set of Digest,
// SemVer and Tag decides; none means the tag latest (contract: ocirepository 7,
// 71).
type Reference struct {
	// Digest of the manifest, as sha256:<hex>.
	Digest string
	// SemVer is a range; the highest tag within it is taken.
	SemVer string
	// SemVerFilter is a regular expression that a tag has to match somewhere to
	// count for SemVer (contract: ocirepository 9, 62).
	SemVerFilter string
	Tag          string
	// Helm: tags are versions of Helm charts, which spell + as _ (contract:
	// ocirepository 12, 63).
	Helm bool
}

// Resolved is what a reference stands for.
type Resolved struct {
	// Tag that was looked at; "" for a digest.
	Tag string
	// Digest of the manifest or index, as <algorithm>:<hex>.
	Digest string
}

// Revision returns what was resolved as artifacts carry it: <tag>@<digest>, or
// <digest> without a tag (contract: ocirepository 14-17, wire 8).
func (r Resolved) Revision() string {
	if r.Tag == "" {
		return r.Digest
	}
	return r.Tag + "@" + r.Digest
}

// Resolve finds what a reference stands for now. A digest costs no request.
// Equal questions with equal credentials, asked at the same time or shortly
// after each other, cost as much as one; see Options.Fresh and
// Options.Since. Errors until the tag
// is chosen have the property ErrSelect (contract: ocirepository 9-17).
func (c *Client) Resolve(ctx context.Context, repo name.Repository, ref Reference) (Resolved, error) {
	if ref.Digest != "" {
		h, err := v1.NewHash(ref.Digest)
		if err != nil {
			return Resolved{}, &propertyError{ErrInvalidReference, err}
		}
		return Resolved{Digest: h.String()}, nil
	}
	var choose func([]string) string
	if ref.SemVer != "" {
		var err error
		if choose, err = chooser(ref); err != nil {
			return Resolved{}, &propertyError{ErrSelect, err}
		}
	}
	s, err := c.session(ctx, repo)
	if err != nil {
		return Resolved{}, err
	}
	key := probeKey{session: s.key, repository: repo.RepositoryStr(), reference: ref}
	return c.pool.ask(ctx, key, c.notBefore, func() (Resolved, error) {
		tag := cmp.Or(ref.Tag, name.DefaultTag)
		if choose != nil {
			tags, err := c.Tags(ctx, repo)
			if err != nil {
				return Resolved{}, &propertyError{ErrSelect, err}
			}
			if tag = choose(tags); tag == "" {
				return Resolved{}, &propertyError{ErrSelect, &propertyError{ErrNoMatch, fmt.Errorf("no match found for semver: %s", ref.SemVer)}}
			}
		}
		d, err := c.head(ctx, repo.Tag(tag))
		return Resolved{Tag: tag, Digest: d}, err
	})
}

// head returns the digest of a tag. Registries that do not answer HEAD, or
// leave the digest out, are asked for the manifest (contract: ocirepository 14).
func (c *Client) head(ctx context.Context, tag name.Tag) (found string, err error) {
	if _, err := name.NewTag(tag.Name(), name.StrictValidation); err != nil {
		return "", &propertyError{ErrInvalidReference, err}
	}
	err = c.do(ctx, tag.Repository, func(p *remote.Puller) error {
		d, err := p.Head(ctx, tag)
		if err == nil {
			found = d.Digest.String()
			return nil
		}
		var network *url.Error
		if ctx.Err() != nil || throttle.Delay(err) > 0 || errors.As(err, &network) {
			return err
		}
		got, err := p.Get(ctx, tag)
		if err == nil {
			found = got.Digest.String()
		}
		return err
	})
	return found, err
}

const (
	// maxPages bounds the pages of a list of tags: a registry may send any number of
	// empty ones.
	maxPages = 10_000
	// tagsPerPage is how many tags a page is asked to hold.
	tagsPerPage = 1000
	// maxTag is the length of the longest tag that can be asked for. Longer ones are
	// left out: their number alone would not bound the list.
	maxTag = 128
)

// Tags lists the tags of a repository, page by page. A page that fails fails the
// list.
func (c *Client) Tags(ctx context.Context, repo name.Repository) (tags []string, err error) {
	err = c.do(ctx, repo, func(p *remote.Puller) error {
		tags, err = c.list(ctx, p, repo)
		return err
	})
	return tags, err
}

func (c *Client) list(ctx context.Context, p *remote.Puller, repo name.Repository) (tags []string, err error) {
	lister, err := p.Lister(ctx, repo)
	if err != nil {
		return nil, err
	}
	var seen map[string]bool // set once there was doubt about the end of the list
	for pages := 0; lister.HasNext(); pages++ {
		page, err := lister.Next(ctx)
		if err != nil {
			return nil, err
		}
		before := len(tags)
		for _, tag := range page.Tags {
			if seen[tag] || len(tag) > maxTag {
				continue
			}
			tags = append(tags, tag)
			if seen != nil {
				seen[tag] = true
			}
		}
		if len(tags) > c.options.Limits.Tags {
			return nil, limitError("the repository", int64(c.options.Limits.Tags), "tags")
		}
		if pages >= maxPages {
			return nil, limitError("the list of tags", maxPages, "pages")
		}
		// A full page that names no next one may be the end, or what a registry that
		// names none has cut off. What comes after its last tag tells; a registry that
		// knows no such question sends the same again.
		if page.Next == "" && len(page.Tags) == tagsPerPage && len(tags) > before {
			if seen == nil {
				seen = make(map[string]bool, len(tags))
				for _, tag := range tags {
					seen[tag] = true
				}
			}
			page.Next = pageAfter(repo, page.Tags[tagsPerPage-1])
		}
	}
	return tags, nil
}

// pageAfter is the address of the page of tags that come after one.
func pageAfter(repo name.Repository, last string) string {
	u := url.URL{
		Scheme: repo.Scheme(), Host: repo.RegistryStr(), Path: "/v2/" + repo.RepositoryStr() + "/tags/list",
		RawQuery: url.Values{"n": {strconv.Itoa(tagsPerPage)}, "last": {last}}.Encode(),
	}
	return u.String()
}

// chooser returns the function that picks the highest of the tags in a range, ""
// if none is (contract: ocirepository 9-13, 62, 63).
func chooser(ref Reference) (func([]string) string, error) {
	constraint, err := semver.NewConstraint(ref.SemVer)
	if err != nil {
		return nil, &propertyError{ErrInvalidReference, fmt.Errorf("semver '%s' parse error: %w", ref.SemVer, err)}
	}
	filter, err := regexp.Compile(ref.SemVerFilter)
	if err != nil {
		return nil, &propertyError{ErrInvalidReference, fmt.Errorf("semverFilter parse error: %w", err)}
	}
	return func(tags []string) string {
		var best *semver.Version
		chosen := ""
		for _, tag := range tags {
			if !filter.MatchString(tag) {
				continue
			}
			text := strings.TrimPrefix(tag, "v")
			if ref.Helm {
				text = strings.ReplaceAll(text, "_", "+")
			}
			v, err := semver.StrictNewVersion(text)
			if err != nil || !constraint.Check(v) {
				continue
			}
			// Versions that differ in nothing that counts are told apart by their text, so
			// that the order of the list does not matter.
			if best == nil || v.GreaterThan(best) || v.Equal(best) && tag > chosen {
				best, chosen = v, tag
			}
		}
		return chosen
	}, nil
}
