package provider

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/seed-79636ae9/flux/toolkit/auth"
)

// What the documentation says of the types that speak with GitHub.
const (
	gitHubAddress = "https or ssh URL of the repository, on github.com or a server of GitHub Enterprise"
	gitHubSecret  = "`token` or `password`: an access token; or the keys of a GitHub App: `githubAppID`, `githubAppPrivateKey`, " +
		"`githubAppInstallationOwner` or `githubAppInstallationID`, and `githubAppBaseURL` (optional)"
)

// github posts commit statuses to GitHub (provider 10-16, 44-46).
func github() Type {
	return Type{
		Name: "github", Title: "GitHub", Group: CommitStatus, StatusUpdates: true, Address: gitHubAddress, Secret: gitHubSecret,
		New: func(c Config) (Notifier, error) {
			api, err := newGitHub(&c)
			if err != nil {
				return nil, err
			}
			return notifyStatus(&c, gitHubStatuses{api}, false)
		},
	}
}

// gitHub is one repository in GitHub's API.
type gitHub struct {
	forge
	// repo is the path of the repository.
	repo string
	// app: the token is that of an installation of a GitHub App.
	app bool
}

// installationPrefix begins tokens of installations of GitHub Apps.
const installationPrefix = "ghs_"

func newGitHub(c *Config) (*gitHub, error) {
	r, err := parseRepository(c.Address)
	if err != nil {
		return nil, err
	}
	owner, name, err := r.ownerAndName()
	if err != nil {
		return nil, err
	}
	token := gitToken(c)
	if token == "" && len(c.Secret[auth.GitHubAppIDKey]) == 0 {
		return nil, fmt.Errorf("there is neither a token nor a GitHub App: give the Secret of spec.secretRef the key 'token', or '%s' and the "+
			"other keys of an app", auth.GitHubAppIDKey)
	}
	sign := func(ctx context.Context, header http.Header) error {
		bearer := token
		if bearer == "" {
			var err error
			if bearer, err = gitHubAppToken(ctx, c); err != nil {
				return err
			}
		}
		header.Set("Authorization", "Bearer "+bearer)
		header.Set("X-Github-Api-Version", "2022-11-28")
		if header.Get("Accept") == "" {
			header.Set("Accept", "application/vnd.github.v3+json")
		}
		return nil
	}
	return &gitHub{
		forge: forge{http: c.HTTP, base: gitHubBase(r), sign: sign}, repo: apiPath("repos", owner, name),
		app: token == "" || strings.HasPrefix(token, installationPrefix),
	}, nil
}

// gitHubBase is where the API of a host is (provider 44). Tenants of ghe.com have it beside them, as github.com has.
func gitHubBase(r *repository) string {
	if r.host == "github.com" || strings.HasSuffix(r.host, ".ghe.com") {
		return r.scheme + "://api." + r.host
	}
	return r.origin() + "/api/v3"
}

// gitHubAppToken is the token of an installation of the app that the Secret describes (provider 15, 45).
func gitHubAppToken(ctx context.Context, c *Config) (string, error) {
	login, err := c.Auth.GitHubApp(ctx, credentialRequest(c), c.Secret, c.TLS)
	if err == nil {
		return login.Password, nil
	}
	// The Secret says who is asked for the token. Whoever reads the events of an Alert must not read what that one has answered. It is no
	// StatusError, which is taken for an answer about the repository.
	var answered interface{ StatusCode() int }
	if errors.As(err, &answered) {
		err = fmt.Errorf("request failed with status code %d", answered.StatusCode())
	}
	return "", fmt.Errorf("could not obtain a token of the GitHub App of spec.secretRef: %w", err)
}

type gitHubStatuses struct{ *gitHub }

type gitHubStatus struct {
	State       string `json:"state"`
	Description string `json:"description"`
	Context     string `json:"context"`
}

func (h gitHubStatuses) status(s *commitStatus) gitHubStatus {
	state := "success"
	if s.verdict == failed {
		state = "failure"
	}
	return gitHubStatus{State: state, Description: s.description, Context: s.id}
}

// posted implements statusHost. The newest statuses come first, and a context is the same in upper and lower case.
func (h gitHubStatuses) posted(ctx context.Context, s *commitStatus) (bool, error) {
	var list []gitHubStatus
	query := url.Values{"per_page": {"50"}}
	if err := h.get(ctx, h.repo+apiPath("commits", s.sha, "statuses")+"?"+query.Encode(), nil, &list); err != nil {
		return false, err
	}
	want := h.status(s)
	for _, each := range list {
		if strings.EqualFold(each.Context, want.Context) {
			return each.State == want.State && each.Description == want.Description, nil
		}
	}
	return false, nil
}

// post implements statusHost.
func (h gitHubStatuses) post(ctx context.Context, s *commitStatus) error {
	return h.send(ctx, http.MethodPost, h.repo+apiPath("statuses", s.sha), h.status(s))
}
