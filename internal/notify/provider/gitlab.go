package provider

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
)

// What the documentation says of the types that speak with GitLab.
const (
	gitLabAddress = "https or ssh URL of the project, groups included"
	gitLabSecret  = "`token` or `password`: an access token with the scope `api`"
)

// gitlab posts commit statuses to GitLab (provider 10-14, 46).
func gitlab() Type {
	return Type{
		Name: "gitlab", Title: "GitLab", Group: CommitStatus, StatusUpdates: true, Address: gitLabAddress, Secret: gitLabSecret,
		New: func(c Config) (Notifier, error) {
			api, err := newGitLab(&c)
			if err != nil {
				return nil, err
			}
			return notifyStatus(&c, gitLabStatuses{api}, false)
		},
	}
}

// gitLab is one project in GitLab's API.
type gitLab struct {
	forge
	// project is the path of the project.
	project string
}

func newGitLab(c *Config) (*gitLab, error) {
	r, err := parseRepository(c.Address)
	if err != nil {
		return nil, err
	}
	if len(r.path) < 2 {
		return nil, errors.New("the address has no group: set spec.address to a URL that ends with group/project")
	}
	token := gitToken(c)
	if token == "" {
		return nil, errors.New("there is no token: give the Secret of spec.secretRef the key 'token'")
	}
	sign := func(_ context.Context, header http.Header) error {
		header.Set("Private-Token", token)
		header.Set("Accept", "application/json")
		return nil
	}
	project := apiPath("projects", strings.Join(r.path, "/"))
	return &gitLab{forge: forge{http: c.HTTP, base: r.origin() + "/api/v4", sign: sign}, project: project}, nil
}

type gitLabStatuses struct{ *gitLab }

// posted implements statusHost. GitLab gives the latest status of each name and branch.
func (h gitLabStatuses) posted(ctx context.Context, s *commitStatus) (bool, error) {
	var list []struct {
		Status      string `json:"status"`
		Description string `json:"description"`
		Name        string `json:"name"`
	}
	query := url.Values{"name": {s.id}, "per_page": {"100"}}
	if err := h.get(ctx, h.project+apiPath("repository", "commits", s.sha, "statuses")+"?"+query.Encode(), nil, &list); err != nil {
		return false, err
	}
	for _, each := range list {
		if each.Name == s.id && each.Status == h.state(s) && each.Description == s.description {
			return true, nil
		}
	}
	return false, nil
}

// post implements statusHost.
func (h gitLabStatuses) post(ctx context.Context, s *commitStatus) error {
	return h.send(ctx, http.MethodPost, h.project+apiPath("statuses", s.sha), struct {
		State       string `json:"state"`
		Name        string `json:"name"`
		Description string `json:"description"`
	}{h.state(s), s.id, s.description})
}

func (h gitLabStatuses) state(s *commitStatus) string {
	if s.verdict == failed {
		return "failed"
	}
	return "success"
}
