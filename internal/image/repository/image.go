package repository

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	imagev1 "github.com/seed-79636ae9/flux/api/image/v1"
)

// Parse returns the repository of an image, whose address has neither scheme, tag nor digest; insecure allows plain HTTP.
// Its errors say what to change in spec.image (imagerepository 3, 23).
func Parse(image string, insecure bool) (name.Repository, error) {
	if scheme, _, ok := strings.Cut(image, "://"); ok {
		return name.Repository{}, fmt.Errorf("image '%s' should not include URL scheme; remove '%s://'", image, scheme)
	}
	if _, digest, ok := strings.Cut(image, "@"); ok {
		return name.Repository{}, fmt.Errorf("image '%s' should not include a digest; remove '@%s'", image, digest)
	}
	// A colon before the last slash is that of a port.
	if _, tag, ok := strings.Cut(image[strings.LastIndexByte(image, '/')+1:], ":"); ok {
		return name.Repository{}, fmt.Errorf("image '%s' should not include a tag; remove ':%s'", image, tag)
	}
	var options []name.Option
	if insecure {
		options = append(options, name.Insecure)
	}
	repo, err := name.NewRepository(image, options...)
	if err == nil && slices.ContainsFunc(strings.Split(repo.RepositoryStr(), "/"), func(part string) bool { return strings.Trim(part, ".") == "" }) {
		err = errors.New("a part of its path is empty or has nothing but dots")
	}
	if err != nil {
		return name.Repository{}, fmt.Errorf("image '%s' is not the address of an image, such as 'ghcr.io/example/app': %w", image, err)
	}
	return repo, nil
}

// Exclusion is the exclusion list of an ImageRepository, compiled.
type Exclusion []*regexp.Regexp

// NewExclusion compiles the exclusion list of an object (imagerepository 11, 35).
func NewExclusion(obj *imagev1.ImageRepository) (Exclusion, error) {
	var out Exclusion
	for i, pattern := range obj.GetExclusionList() {
		r, err := regexp.Compile(pattern)
		if err != nil {
			return nil, fmt.Errorf("spec.exclusionList[%d] is not a regular expression: %w", i, err)
		}
		out = append(out, r)
	}
	return out, nil
}

// Excludes reports whether a tag is left out.
func (e Exclusion) Excludes(tag string) bool {
	return slices.ContainsFunc(e, func(r *regexp.Regexp) bool { return r.MatchString(tag) })
}

// validTag is what registries accept as a tag. It is also what may be written to a file or shown to a person.
var validTag = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)

// usable returns the tags without those that are tags in name alone and those that are left out. It reuses the slice, and
// gives up when ctx ends: patterns can be slow.
func (e Exclusion) usable(ctx context.Context, tags []string) ([]string, error) {
	kept := tags[:0]
	for _, tag := range tags {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if validTag.MatchString(tag) && !e.Excludes(tag) {
			kept = append(kept, tag)
		}
	}
	return kept, nil
}
