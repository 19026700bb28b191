package provider

import (
	"context"
	"errors"
	"net/http"
)

// What the documentation says of the types that speak with Gitea.
const (
	giteaAddress = "https or ssh URL of the repository"
	giteaSecret  = "`token` or `password`: an access token with the scopes `write:repository`, for comments `write:issue` and `read:user`"
)

// gitea posts commit statuses to Gitea and Forgejo (provider 10-14, 44, 46).
func gitea() Type {
	return Type{
		Name: "gitea", Title: "Gitea and Forgejo", Group: CommitStatus, StatusUpdates: true, Address: giteaAddress, Secret: giteaSecret,
		New: func(c Config) (Notifier, error) {
			api, err := newGitea(&c)
			if err != nil {
				return nil, err
			}
			return notifyStatus(&c, giteaStatuses{api}, true)
		},
	}
}

// giteaRepository is one repository in Gitea's API.
type giteaRepository struct {
	forge
	// repo is the path of the repository.
	repo string
}

func newGitea(c *Config) (*giteaRepository, error) {
	r, err := parseRepository(c.Address)
	if err != nil {
		return nil, err
	}
	owner, name, err := r.ownerAndName()
	if err != nil {
		return nil, err
	}
	token := gitToken(c)
	if token == "" {
		return nil, errors.New("there is no token: give the Secret of spec.secretRef the key 'token'")
	}
	sign := func(_ context.Context, header http.Header) error {
		header.Set("Authorization", "token "+token)
		return nil
	}
	return &giteaRepository{forge: forge{http: c.HTTP, base: r.origin() + "/api/v1", sign: sign}, repo: apiPath("repos", owner, name)}, nil
}

type giteaStatuses struct{ *giteaRepository }

// posted implements statusHost. Servers differ in the order of their lists; ids grow.
func (h giteaStatuses) posted(ctx context.Context, s *commitStatus) (bool, error) {
	type entry struct {
		ID          int64  `json:"id"`
		Status      string `json:"status"`
		Description string `json:"description"`
		Context     string `json:"context"`
	}
	var list []entry
	if err := h.get(ctx, h.repo+apiPath("commits", s.sha, "statuses")+"?limit=50&page=1", nil, &list); err != nil {
		return false, err
	}
	var newest entry
	for _, each := range list {
		if each.Context == s.id && each.ID >= newest.ID {
			newest = each
		}
	}
	return newest.Context == s.id && newest.Status == h.state(s) && newest.Description == s.description, nil
}

// post implements statusHost.
func (h giteaStatuses) post(ctx context.Context, s *commitStatus) error {
	return h.send(ctx, http.MethodPost, h.repo+apiPath("statuses", s.sha), struct {
		State       string `json:"state"`
		TargetURL   string `json:"target_url"`
		Description string `json:"description"`
		Context     string `json:"context"`
	}{State: h.state(s), Description: s.description, Context: s.id})
}

func (h giteaStatuses) state(s *commitStatus) string {
	switch s.verdict {
	case failed:
		return "failure"
	case pending:
		return "pending"
	default:
		return "success"
	}
}
