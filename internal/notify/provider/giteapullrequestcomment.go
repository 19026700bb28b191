package provider

import (
	"context"
	"net/http"
)

// giteaPullRequestComment comments on pull requests of Gitea and Forgejo (provider 16).
func giteaPullRequestComment() Type {
	return Type{
		Name: "giteapullrequestcomment", Title: "Gitea pull request comment", Group: Comment, Address: giteaAddress, Secret: giteaSecret,
		New: func(c Config) (Notifier, error) {
			api, err := newGitea(&c)
			if err != nil {
				return nil, err
			}
			return notifyComment(&c, giteaComments{api}, "flux-pr-comment-key"), nil
		},
	}
}

type giteaComments struct{ *giteaRepository }

// list implements commentHost: Gitea gives all comments at once.
func (h giteaComments) list(ctx context.Context, request string, _ int) ([]comment, bool, error) {
	var list []comment
	err := h.get(ctx, h.repo+apiPath("issues", request, "comments"), nil, &list)
	return list, false, err
}

func (h giteaComments) own(ctx context.Context) (func(account) bool, error) {
	return sameAccount(ctx, &h.forge)
}

func (h giteaComments) create(ctx context.Context, request, body string) error {
	return h.send(ctx, http.MethodPost, h.repo+apiPath("issues", request, "comments"), commentBody{body})
}

func (h giteaComments) update(ctx context.Context, _, id, body string) error {
	return h.send(ctx, http.MethodPatch, h.repo+apiPath("issues", "comments", id), commentBody{body})
}
