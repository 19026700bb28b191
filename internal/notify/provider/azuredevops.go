package provider

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"

	"github.com/seed-79636ae9/flux/toolkit/auth"
)

// devOpsVersion is the oldest version of the API that has all that is used, for servers of one's own.
const devOpsVersion = "5.0"

// azureDevOps posts statuses to Azure DevOps (provider 10-13, 42, 46).
func azureDevOps() Type {
	return Type{
		Name: "azuredevops", Title: "Azure DevOps", Group: CommitStatus, StatusUpdates: true,
		Address: "https URL of the repository, `https://dev.azure.com/organization/project/_git/repository`, or its ssh URL",
		Secret:  "`token`: a personal access token; without it, the identity of `spec.serviceAccountName` or of the controller is used",
		New: func(c Config) (Notifier, error) {
			r, err := parseRepository(c.Address)
			if err != nil {
				return nil, err
			}
			statuses, err := findDevOps(r)
			if err != nil {
				return nil, err
			}
			if c.Token == "" {
				if err := checkIdentity(&c); err != nil {
					return nil, err
				}
			}
			statuses.http, statuses.sign = c.HTTP, signDevOps(&c, statuses.page)
			return notifyStatus(&c, *statuses, false)
		},
	}
}

// devOpsStatuses are the commit statuses of one repository in the API of Azure DevOps.
type devOpsStatuses struct {
	forge
	// repo is the path of the repository.
	repo string
	// page is the URL of the repository.
	page *url.URL
}

// findDevOps takes a clone URL apart: organization or collection, project, "_git", repository. The project may be left out when the
// repository has its name. In ssh URLs it is "v3", organization, project, repository.
func findDevOps(r *repository) (*devOpsStatuses, error) {
	const ssh = "ssh.dev.azure.com"
	parts, host := r.path, r.host
	if host == ssh && len(parts) == 4 && parts[0] == "v3" {
		host, parts = "dev.azure.com", []string{parts[1], parts[2], "_git", parts[3]}
	}
	at := slices.Index(parts, "_git")
	if at < 1 || at != len(parts)-2 || host == ssh {
		return nil, errors.New("the address is not the URL of a repository of Azure DevOps: " +
			"set spec.address to https://dev.azure.com/organization/project/_git/repository")
	}
	before, project, name := parts[:at-1], parts[at-1], parts[at+1]
	if host == "dev.azure.com" && len(before) == 0 {
		before, project = parts[:at], name
	}
	page, err := url.Parse(r.scheme + "://" + host + apiPath(parts...))
	if err != nil {
		return nil, errors.New("the address is not a URL: set spec.address to the https URL of the repository")
	}
	out := &devOpsStatuses{repo: apiPath(project, "_apis", "git", "repositories", name), page: page}
	out.base = r.scheme + "://" + host + apiPath(before...)
	return out, nil
}

// signDevOps prefers the token (provider 42).
func signDevOps(c *Config, page *url.URL) func(context.Context, http.Header) error {
	return func(ctx context.Context, header http.Header) error {
		header.Set("Accept", "application/json")
		// An unknown token gets 401 then, and not a page to sign in at.
		header.Set("X-TFS-FedAuthRedirect", "Suppress")
		if c.Token != "" {
			header.Set("Authorization", basicAuthorization("", c.Token))
			return nil
		}
		login, err := c.Auth.Git(ctx, auth.Azure, credentialRequest(c), page)
		if errors.Is(err, auth.ErrUnsupported) {
			return errors.New("there is no token, and no identity for this address: give the Secret of spec.secretRef the key 'token', or set " +
				"spec.address to a repository at dev.azure.com")
		}
		if err != nil {
			return err
		}
		header.Set("Authorization", "Bearer "+login.Bearer)
		return nil
	}
}

type devOpsContext struct {
	Genre string `json:"genre"`
	Name  string `json:"name"`
}

type devOpsStatus struct {
	ID          int64         `json:"id,omitempty"`
	Context     devOpsContext `json:"context"`
	State       string        `json:"state"`
	Description string        `json:"description"`
}

func (h devOpsStatuses) path(s *commitStatus, query url.Values) string {
	query.Set("api-version", devOpsVersion)
	return h.repo + apiPath("commits", s.sha, "statuses") + "?" + query.Encode()
}

func (h devOpsStatuses) status(s *commitStatus) devOpsStatus {
	out := devOpsStatus{Context: devOpsContext{Genre: "fluxcd", Name: s.id}, State: "succeeded", Description: s.description}
	if summary := s.event.Metadata[summaryKey]; summary != "" {
		out.Context.Genre += ":" + summary
	}
	if s.verdict == failed {
		out.State = "error"
	}
	return out
}

// posted implements statusHost.
func (h devOpsStatuses) posted(ctx context.Context, s *commitStatus) (bool, error) {
	var answer struct {
		Value []devOpsStatus `json:"value"`
	}
	if err := h.get(ctx, h.path(s, url.Values{"latestOnly": {"true"}}), nil, &answer); err != nil {
		return false, err
	}
	want := h.status(s)
	var newest devOpsStatus
	for _, each := range answer.Value {
		if each.Context == want.Context && each.ID >= newest.ID {
			newest = each
		}
	}
	newest.ID = 0
	return newest == want, nil
}

// post implements statusHost.
func (h devOpsStatuses) post(ctx context.Context, s *commitStatus) error {
	return h.send(ctx, http.MethodPost, h.path(s, url.Values{}), h.status(s))
}
