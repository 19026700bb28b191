package provider

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/seed-79636ae9/flux/toolkit/secret"
)

// maxBuildURL is the length of a build's URL that Bitbucket Data Center takes.
const maxBuildURL = 450

// bitbucketServer posts build statuses to Bitbucket Data Center (provider 10-13, 47).
func bitbucketServer() Type {
	return Type{
		Name: "bitbucketserver", Title: "Bitbucket Data Center and Server", Group: CommitStatus, StatusUpdates: true,
		Address: "https clone URL of the repository, `https://host/scm/project/repository.git`; a path before `/scm/` is kept",
		Secret:  "`token`: an HTTP access token; or `username` and `password`",
		New: func(c Config) (Notifier, error) {
			r, err := parseRepository(c.Address)
			if err != nil {
				return nil, err
			}
			builds, err := findServerBuilds(r)
			if err != nil {
				return nil, err
			}
			builds.http = c.HTTP
			if builds.page = secret.RedactURL(c.Address); len(builds.page) > maxBuildURL {
				builds.page = r.origin()
			}
			if builds.sign, err = signServer(&c); err != nil {
				return nil, err
			}
			return notifyStatus(&c, *builds, false)
		},
	}
}

// serverBuilds are the builds of one repository in the API of Bitbucket Data Center.
type serverBuilds struct {
	forge
	// repo is the path of the repository.
	repo string
	// page is the URL that a build leads to: it is required, and there is none for builds of ours.
	page string
}

// findServerBuilds takes a clone URL apart. It holds "scm" between where the server begins and the repository.
func findServerBuilds(r *repository) (*serverBuilds, error) {
	at := slices.Index(r.path, "scm")
	if at < 0 || len(r.path)-at != 3 {
		return nil, errors.New("the address is not a clone URL of Bitbucket Data Center: set spec.address to https://host/scm/project/repository.git")
	}
	out := &serverBuilds{repo: apiPath("projects", r.path[at+1], "repos", r.path[at+2])}
	out.base = r.origin() + apiPath(r.path[:at]...) + "/rest/api/latest"
	return out, nil
}

func signServer(c *Config) (func(context.Context, http.Header) error, error) {
	authorization := "Bearer " + c.Token
	if c.Token == "" {
		if c.Username == "" || c.Password == "" {
			return nil, errors.New("there are no credentials: give the Secret of spec.secretRef the key 'token', or 'username' and 'password'")
		}
		authorization = basicAuthorization(c.Username, c.Password)
	}
	return func(_ context.Context, header http.Header) error {
		header.Set("Authorization", authorization)
		header.Set("Accept", "application/json")
		// Without these, the server takes the request for one that a foreign page has made a browser send.
		header.Set("X-Atlassian-Token", "no-check")
		header.Set("X-Requested-With", "XMLHttpRequest")
		return nil
	}, nil
}

func (h serverBuilds) path(s *commitStatus) string {
	return h.repo + apiPath("commits", s.sha, "builds")
}

// posted implements statusHost.
func (h serverBuilds) posted(ctx context.Context, s *commitStatus) (bool, error) {
	return buildPosted(ctx, &h.forge, h.path(s)+"?"+url.Values{"key": {s.buildKey()}}.Encode(), s)
}

// post implements statusHost.
func (h serverBuilds) post(ctx context.Context, s *commitStatus) error {
	return h.send(ctx, http.MethodPost, h.path(s), bitbucketBuild{
		Key: s.buildKey(), Name: cutForForge(fmt.Sprintf("%s [%s]", s.objectTitle(), s.description), maxStatusName),
		Description: s.description, State: bitbucketState(s), URL: h.page,
	})
}
