package provider

import (
	"context"
	"errors"
	"net/http"
	"strings"
)

const bitbucketBase = "https://api.bitbucket.org/2.0"

// bitbucket posts build statuses to Bitbucket Cloud (provider 10-14).
func bitbucket() Type {
	return Type{
		Name: "bitbucket", Title: "Bitbucket Cloud", Group: CommitStatus, StatusUpdates: true,
		Address: "https or ssh URL of the repository on bitbucket.org",
		Secret:  "`token`: `user:app-password`, or `email:API-token`",
		New: func(c Config) (Notifier, error) {
			r, err := parseRepository(c.Address)
			if err != nil {
				return nil, err
			}
			owner, name, err := r.ownerAndName()
			if err != nil {
				return nil, err
			}
			user, password, ok := strings.Cut(c.Token, ":")
			if !ok || user == "" || password == "" {
				return nil, errors.New("the token is not of the form user:app-password: set the key 'token' in the Secret of spec.secretRef to that")
			}
			sign := func(_ context.Context, header http.Header) error {
				header.Set("Authorization", basicAuthorization(user, password))
				header.Set("Accept", "application/json")
				return nil
			}
			repo := apiPath("repositories", owner, name)
			return notifyStatus(&c, bitbucketBuilds{forge{http: c.HTTP, base: bitbucketBase, sign: sign}, repo}, false)
		},
	}
}

// bitbucketBuilds are the builds of one repository in the API of Bitbucket Cloud.
type bitbucketBuilds struct {
	forge
	// repo is the path of the repository.
	repo string
}

// bitbucketBuild is a build as both Bitbuckets know it.
type bitbucketBuild struct {
	Key         string `json:"key"`
	Name        string `json:"name"`
	Description string `json:"description"`
	State       string `json:"state"`
	URL         string `json:"url"`
}

func bitbucketState(s *commitStatus) string {
	if s.verdict == failed {
		return "FAILED"
	}
	return "SUCCESSFUL"
}

func (h bitbucketBuilds) path(s *commitStatus) string {
	return h.repo + apiPath("commit", s.sha, "statuses", "build")
}

// posted implements statusHost.
func (h bitbucketBuilds) posted(ctx context.Context, s *commitStatus) (bool, error) {
	return buildPosted(ctx, &h.forge, h.path(s)+apiPath(s.buildKey()), s)
}

// post implements statusHost. The URL is required, and there is no page to lead to.
func (h bitbucketBuilds) post(ctx context.Context, s *commitStatus) error {
	return h.send(ctx, http.MethodPost, h.path(s), bitbucketBuild{
		Key: s.buildKey(), Name: cutForForge(s.objectTitle(), maxStatusName), Description: s.description, State: bitbucketState(s),
		URL: "https://bitbucket.org",
	})
}

// buildPosted asks for the build at the path. A host that has none answers 404 (provider 47).
func buildPosted(ctx context.Context, f *forge, path string, s *commitStatus) (bool, error) {
	var found bitbucketBuild
	err := f.get(ctx, path, nil, &found)
	if status, ok := errors.AsType[*StatusError](err); ok && status.Code == http.StatusNotFound {
		return false, nil
	}
	return err == nil && found.State == bitbucketState(s) && found.Description == s.description, err
}
