package provider_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-79636ae9/flux/internal/notify/provider"
	"github.com/seed-79636ae9/flux/internal/notify/provider/providertest"
	"github.com/seed-79636ae9/flux/toolkit/event"
)

// onRequest is an event about a pull request.
func onRequest(e event.Payload) event.Payload {
	metadata := map[string]string{"change_request": "42"}
	for key, value := range e.Metadata {
		metadata[key] = value
	}
	e.Metadata = metadata
	return e
}

// commentSuite is a suite of a type that comments: events without a request are not for it (provider 16, alert 16).
func commentSuite(name string, config func(base string) provider.Config) providertest.Suite {
	many, failed := onRequest(providertest.Applied()), onRequest(providertest.Failed())
	for i := range 40 {
		many.Metadata[fmt.Sprintf("key-%02d", i)] = fmt.Sprintf("`value` %d", i)
	}
	return providertest.Suite{
		Type: name, Config: config, Answer: gitAnswering(200, "[]"), Silent: []string{"applied", "failed", "progressing"}, Event: &failed,
		Cases: []providertest.Case{
			{Name: "good news", Event: onRequest(providertest.Applied())}, {Name: "bad news", Event: failed},
			{Name: "no metadata", Event: onRequest(providertest.Progressing())}, {Name: "much metadata", Event: many},
		},
	}
}

// provider 16
func TestGitHubComment(t *testing.T) {
	commentSuite("githubpullrequestcomment", func(base string) provider.Config {
		return provider.Config{Address: base + "/org/app.git", Token: providertest.Canary}
	}).Run(t)
}

// provider 16
func TestGitLabComment(t *testing.T) {
	commentSuite("gitlabmergerequestcomment", func(base string) provider.Config {
		return provider.Config{Address: base + "/group/sub/app.git", Token: providertest.Canary}
	}).Run(t)
}

// provider 16
func TestGiteaComment(t *testing.T) {
	commentSuite("giteapullrequestcomment", func(base string) provider.Config {
		return provider.Config{Address: base + "/org/app", Token: providertest.Canary}
	}).Run(t)
}

// gitThread is a pull or merge request on a Git host.
type gitThread struct {
	author   string // what the host calls the writer of a comment
	paged    bool
	comments []map[string]any
	// written are requests that change something.
	written []string
	me      int
	lists   int
}

func (h *gitThread) add(writer int, kind, body string) {
	h.comments = append(h.comments, map[string]any{
		"id": 1000 + len(h.comments), "body": body, h.author: map[string]any{"id": writer, "login": fmt.Sprint("user-", writer), "type": kind},
	})
}

// crowd adds comments of others; a hundred of them are longer than an answer is usually read.
func (h *gitThread) crowd(n int) {
	for range n {
		h.add(8, "User", strings.Repeat("hello ", 150))
	}
}

func (h *gitThread) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	switch {
	case r.Method != http.MethodGet:
		body, _ := io.ReadAll(r.Body)
		var said struct{ Body string }
		_ = json.Unmarshal(body, &said)
		first, _, _ := strings.Cut(said.Body, "\n")
		h.written = append(h.written, r.Method+" "+r.URL.Path+" "+first)
		_, _ = io.WriteString(w, `{"id":1}`)
	case strings.HasSuffix(r.URL.Path, "/user"):
		if h.me == 0 {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"id": h.me, "login": "me"})
	default:
		h.lists++
		page, size := 1, len(h.comments)
		if h.paged {
			if size = 100; r.URL.Query().Get("page") != "" {
				page, _ = strconv.Atoi(r.URL.Query().Get("page"))
			}
		}
		from := min((page-1)*size, len(h.comments))
		_ = json.NewEncoder(w).Encode(append([]map[string]any{}, h.comments[from:min(from+size, len(h.comments))]...))
	}
}

// provider 16: the comment of an object is found by its mark and its writer, and changed in place.
func TestCommentInPlace(t *testing.T) {
	const mark = "<!-- flux-pr-comment-key:u1/Kustomization/prod/app -->"
	const noteMark = "<!-- flux-mr-comment-key:u1/Kustomization/prod/app -->"
	hosts := []struct {
		kind, mark, author, create, update string
		paged                              bool
	}{
		{"githubpullrequestcomment", mark, "user", "POST /api/v3/repos/org/app/issues/42/comments", "PATCH /api/v3/repos/org/app/issues/comments/", true},
		{"giteapullrequestcomment", mark, "user", "POST /api/v1/repos/org/app/issues/42/comments", "PATCH /api/v1/repos/org/app/issues/comments/", false},
		{"gitlabmergerequestcomment", noteMark, "author", "POST /api/v4/projects/org/app/merge_requests/42/notes",
			"PUT /api/v4/projects/org/app/merge_requests/42/notes/", true},
	}
	for _, host := range hosts {
		for _, test := range []struct {
			name string
			fill func(h *gitThread)
			want string // id of the changed comment; empty: a new one
		}{
			{"no comment", func(*gitThread) {}, ""},
			{"ours", func(h *gitThread) { h.add(8, "User", "hello"); h.add(7, "User", host.mark+"\n\nold") }, "1001"},
			{"the first of ours", func(h *gitThread) { h.add(7, "User", host.mark); h.add(7, "User", host.mark) }, "1000"},
			{"after a blank line", func(h *gitThread) { h.add(7, "User", "\r\n"+host.mark+"\r\n") }, "1000"},
			{"of another writer", func(h *gitThread) { h.add(8, "User", host.mark+"\n\nold") }, ""},
			{"first of another, then ours", func(h *gitThread) { h.add(8, "Bot", host.mark); h.add(7, "User", host.mark) }, "1001"},
			{"of another provider", func(h *gitThread) { h.add(7, "User", strings.Replace(host.mark, "u1", "u2", 1)) }, ""},
			{"of an object with a longer name", func(h *gitThread) { h.add(7, "User", strings.Replace(host.mark, "app", "app-2", 1)) }, ""},
			{"quoted in ours of another object", func(h *gitThread) { h.add(7, "User", "<!-- x -->\n\nthe message holds "+host.mark) }, ""},
			{"without text", func(h *gitThread) {
				h.comments = append(h.comments, map[string]any{"id": 5, "body": nil, h.author: nil})
				h.add(7, "User", host.mark)
			}, "1001"},
			{"behind many", func(h *gitThread) { h.crowd(150); h.add(7, "User", host.mark) }, "1150"},
			{"behind more", func(h *gitThread) { h.crowd(250); h.add(7, "User", host.mark) }, "1250"},
		} {
			t.Run(host.kind+"/"+test.name, func(t *testing.T) {
				h := &gitThread{author: host.author, paged: host.paged, me: 7}
				test.fill(h)
				c, _ := gitHost(t, host.kind, h.ServeHTTP)
				if err := tellGitHost(t, c, onRequest(providertest.Applied())); err != nil {
					t.Fatal(err)
				}
				want := host.create + " " + host.mark
				if test.want != "" {
					want = host.update + test.want + " " + host.mark
				}
				if diff := cmp.Diff([]string{want}, h.written); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
}

// provider 16: there is an end to looking for a comment.
func TestCommentsWithoutEnd(t *testing.T) {
	h := &gitThread{author: "user", paged: true, me: 7}
	h.crowd(2500)
	c, _ := gitHost(t, "githubpullrequestcomment", h.ServeHTTP)
	if err := tellGitHost(t, c, onRequest(providertest.Applied())); err != nil {
		t.Fatal(err)
	}
	if h.lists != 20 || len(h.written) != 1 {
		t.Errorf("%d lists, written %q", h.lists, h.written)
	}
}

// provider 16: the token of an app's installation may not ask who it is, and needs not.
func TestCommentOfApp(t *testing.T) {
	const mark = "<!-- flux-pr-comment-key:u1/Kustomization/prod/app -->"
	h := &gitThread{author: "user", paged: true}
	h.add(8, "User", mark)
	h.add(9, "Bot", mark)
	c, _ := gitHost(t, "githubpullrequestcomment", h.ServeHTTP)
	c.Token = "ghs_abc"
	if err := tellGitHost(t, c, onRequest(providertest.Applied())); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"PATCH /api/v3/repos/org/app/issues/comments/1001 " + mark}, h.written); diff != "" {
		t.Error(diff)
	}
	c.Token = "ghp_abc"
	err := tellGitHost(t, c, onRequest(providertest.Applied()))
	if err == nil || !strings.Contains(err.Error(), "asking whose the token is: request failed with status code 403") {
		t.Errorf("error = %v", err)
	}
}

// provider 16: the number of a request is one; nothing else gets into a path.
func TestCommentNumber(t *testing.T) {
	for _, number := range []string{"x", "0", "-1", "42/../../x", "4 2", "99999999999999999999", "!42"} {
		for _, kind := range []string{"githubpullrequestcomment", "giteapullrequestcomment", "gitlabmergerequestcomment"} {
			c, calls := gitHost(t, kind, gitAnswering(200, "[]"))
			e := onRequest(providertest.Applied())
			e.Metadata["change_request"] = number
			if err := tellGitHost(t, c, e); err == nil || !strings.Contains(err.Error(), "change_request") {
				t.Errorf("%s %q: error = %v", kind, number, err)
			}
			if len(calls()) != 0 {
				t.Errorf("%s %q: calls are %q", kind, number, calls())
			}
		}
	}
}

// GitHub's limit of 65536 characters is kept, and the mark survives it.
func TestCommentLength(t *testing.T) {
	var said struct{ Body string }
	c, _ := gitHost(t, "githubpullrequestcomment", func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			_ = json.NewDecoder(r.Body).Decode(&said)
		}
		gitAnswering(200, "[]")(w, r)
	})
	e := onRequest(providertest.Applied())
	e.Message = strings.Repeat("ü🚀", 12000)
	if err := tellGitHost(t, c, e); err != nil {
		t.Fatal(err)
	}
	const mark = "<!-- flux-pr-comment-key:u1/Kustomization/prod/app -->\n"
	if len(said.Body) > 65536 || !strings.HasPrefix(said.Body, mark) || !strings.HasSuffix(said.Body, "…") {
		t.Errorf("%d bytes, %.60q", len(said.Body), said.Body)
	}
}

// Each step that fails is named.
func TestCommentFails(t *testing.T) {
	const mark = "<!-- flux-pr-comment-key:u1/Kustomization/prod/app -->"
	for fails, want := range map[string]string{
		"list":  "could not list comments: request failed with status code 410",
		"user":  "could not list comments: asking whose the token is: request failed with status code 410",
		"id":    "could not list comments: asking whose the token is: the answer has no id",
		"POST":  "could not create comment: request failed with status code 410",
		"PATCH": "could not update comment: request failed with status code 410",
	} {
		h := &gitThread{author: "user", paged: true, me: 7}
		if fails != "POST" {
			h.add(7, "User", mark)
		}
		c, _ := gitHost(t, "githubpullrequestcomment", func(w http.ResponseWriter, r *http.Request) {
			step := r.Method
			if r.Method == http.MethodGet {
				step = "list"
				if strings.HasSuffix(r.URL.Path, "/user") {
					step = "user"
				}
			}
			switch {
			case fails == step:
				w.WriteHeader(http.StatusGone)
			case fails == "id" && step == "user":
				_, _ = io.WriteString(w, "{}")
			default:
				h.ServeHTTP(w, r)
			}
		})
		if err := tellGitHost(t, c, onRequest(providertest.Applied())); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s fails: error = %v, want %q", fails, err, want)
		}
	}
}
