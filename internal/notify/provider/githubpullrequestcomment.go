package provider

import (
	"context"
	"net/http"
	"net/url"
)

// githubPullRequestComment comments on pull requests (provider 16).
func githubPullRequestComment() Type {
	return Type{
		Name: "githubpullrequestcomment", Title: "GitHub pull request comment", Group: Comment, Address: gitHubAddress, Secret: gitHubSecret,
		New: func(c Config) (Notifier, error) {
			api, err := newGitHub(&c)
			if err != nil {
				return nil, err
			}
			return notifyComment(&c, gitHubComments{api}, "flux-pr-comment-key"), nil
		},
	}
}

type gitHubComments struct{ *gitHub }

func (h gitHubComments) list(ctx context.Context, request string, page int) ([]comment, bool, error) {
	query := url.Values{"direction": {"asc"}, "sort": {"created"}}
	// What was a preview is in every version of the API by now; 2.9 names it (recording notification/provider-github-pr-comment).
	header := http.Header{"Accept": {"application/vnd.github.squirrel-girl-preview"}}
	return listPage(ctx, &h.forge, h.repo+apiPath("issues", request, "comments"), query, page, header)
}

// own implements commentHost. The installation of an app may not ask who it is; then every comment of a bot that bears our mark is ours.
func (h gitHubComments) own(ctx context.Context) (func(account) bool, error) {
	if h.app {
		return func(a account) bool { return a.Type == "Bot" }, nil
	}
	return sameAccount(ctx, &h.forge)
}

func (h gitHubComments) create(ctx context.Context, request, body string) error {
	return h.send(ctx, http.MethodPost, h.repo+apiPath("issues", request, "comments"), commentBody{body})
}

func (h gitHubComments) update(ctx context.Context, _, id, body string) error {
	return h.send(ctx, http.MethodPatch, h.repo+apiPath("issues", "comments", id), commentBody{body})
}
