package provider

import (
	"context"
	"net/http"
	"net/url"
)

// gitlabMergeRequestComment comments on merge requests (provider 16).
func gitlabMergeRequestComment() Type {
	return Type{
		Name: "gitlabmergerequestcomment", Title: "GitLab merge request comment", Group: Comment, Address: gitLabAddress, Secret: gitLabSecret,
		New: func(c Config) (Notifier, error) {
			api, err := newGitLab(&c)
			if err != nil {
				return nil, err
			}
			return notifyComment(&c, gitLabNotes{api}, "flux-mr-comment-key"), nil
		},
	}
}

type gitLabNotes struct{ *gitLab }

func (h gitLabNotes) path(request string) string {
	return h.project + apiPath("merge_requests", request, "notes")
}

func (h gitLabNotes) list(ctx context.Context, request string, page int) ([]comment, bool, error) {
	return listPage(ctx, &h.forge, h.path(request), url.Values{"order_by": {"created_at"}, "sort": {"asc"}}, page, nil)
}

func (h gitLabNotes) own(ctx context.Context) (func(account) bool, error) {
	return sameAccount(ctx, &h.forge)
}

func (h gitLabNotes) create(ctx context.Context, request, body string) error {
	return h.send(ctx, http.MethodPost, h.path(request), commentBody{body})
}

func (h gitLabNotes) update(ctx context.Context, request, id, body string) error {
	return h.send(ctx, http.MethodPut, h.path(request)+apiPath(id), commentBody{body})
}
