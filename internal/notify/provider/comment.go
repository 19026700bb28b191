package provider

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/seed-79636ae9/flux/toolkit/event"
)

const (
	// maxComment is the length of a comment that GitHub takes; GitLab takes more.
	maxComment = 65536
	// commentsPerPage is the most that GitHub and GitLab give at once.
	commentsPerPage = 100
	// maxCommentPages bounds how far a comment of ours is looked for.
	maxCommentPages = 20
)

// comment is a comment on a pull or merge request, with the fields of the hosts that matter here.
type comment struct {
	ID   int64  `json:"id"`
	Body string `json:"body"`
	// User wrote it, says GitHub and Gitea; GitLab calls it Author.
	User   account `json:"user"`
	Author account `json:"author"`
}

// account is a user of a Git host.
type account struct {
	ID int64 `json:"id"`
	// Type is GitHub's: "User" or "Bot".
	Type string `json:"type"`
}

func (c *comment) writer() account {
	if c.Author.ID != 0 {
		return c.Author
	}
	return c.User
}

// commentBody is what is written of a comment.
type commentBody struct {
	Body string `json:"body"`
}

// commentHost is a Git host that has comments on pull or merge requests, here called requests.
type commentHost interface {
	// list returns a page of the comments of a request, the oldest first, and whether there may be more. Pages begin with 1.
	list(ctx context.Context, request string, page int) (comments []comment, more bool, err error)
	// own returns what tells accounts from the one that writes our comments.
	own(ctx context.Context) (func(account) bool, error)
	create(ctx context.Context, request, body string) error
	update(ctx context.Context, request, id, body string) error
}

// notifyComment returns a Notifier that keeps one comment for each object on a request (provider 16).
func notifyComment(c *Config, host commentHost, prefix string) Notifier {
	uid := c.Provider.UID
	return NotifierFunc(func(ctx context.Context, e event.Payload) error {
		request := e.Metadata[changeRequestKey]
		if request == "" {
			return nil
		}
		if number, err := strconv.ParseUint(request, 10, 63); err != nil || number == 0 {
			return fmt.Errorf("the metadata '%s' of the event is not the number of a pull or merge request", changeRequestKey)
		}
		mark := fmt.Sprintf("<!-- %s:%s/%s -->", prefix, uid, objectPath(&e))
		body := cutForForge(mark+"\n\n"+statusMarkdown(&e), maxComment)
		id, err := findComment(ctx, host, request, mark)
		if err != nil {
			return fmt.Errorf("could not list comments: %w%s", err, refusalHint(err))
		}
		if id == "" {
			if err := host.create(ctx, request, body); err != nil {
				return fmt.Errorf("could not create comment: %w%s", err, refusalHint(err))
			}
			return nil
		}
		if err := host.update(ctx, request, id, body); err != nil {
			return fmt.Errorf("could not update comment: %w%s", err, refusalHint(err))
		}
		return nil
	})
}

// findComment returns the id of the first comment of ours that begins with the mark, "" when there is none. Who we are is asked only when
// there is one to decide on.
func findComment(ctx context.Context, host commentHost, request, mark string) (string, error) {
	var own func(account) bool
	for page := 1; page <= maxCommentPages; page++ {
		comments, more, err := host.list(ctx, request, page)
		if err != nil {
			return "", err
		}
		for i := range comments {
			c := &comments[i]
			if !strings.HasPrefix(strings.TrimSpace(c.Body), mark) {
				continue
			}
			if own == nil {
				if own, err = host.own(ctx); err != nil {
					return "", fmt.Errorf("asking whose the token is: %w", err)
				}
			}
			if own(c.writer()) {
				return strconv.FormatInt(c.ID, 10), nil
			}
		}
		if !more {
			break
		}
	}
	return "", nil
}

// listPage asks for a page of comments as GitHub and GitLab number them.
func listPage(ctx context.Context, f *forge, path string, query url.Values, page int, header http.Header) ([]comment, bool, error) {
	query.Set("per_page", strconv.Itoa(commentsPerPage))
	if page > 1 {
		query.Set("page", strconv.Itoa(page))
	}
	var list []comment
	err := f.get(ctx, path+"?"+query.Encode(), header, &list)
	return list, len(list) >= commentsPerPage, err
}

// sameAccount asks whose the credentials are. All hosts answer this at the same path.
func sameAccount(ctx context.Context, f *forge) (func(account) bool, error) {
	var me account
	if err := f.get(ctx, "/user", nil, &me); err != nil {
		return nil, err
	}
	if me.ID == 0 {
		return nil, errors.New("the answer has no id")
	}
	return func(a account) bool { return a.ID == me.ID }, nil
}
