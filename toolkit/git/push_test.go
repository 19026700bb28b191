package git_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/git"
	"github.com/seed-79636ae9/flux/toolkit/secret"
)

var bot = git.Signature{Name: "bot", Email: "bot@example.com", When: time.Unix(1_800_000_000, 0).UTC()}

// shelf is a repository of files of all sorts on a server.
func shelf(t testing.TB, server *testkit.GitServer) *testkit.GitRepo {
	t.Helper()
	repo := must(server.Repo("app"))
	lib := must(repo.Commit(testkit.GitCommit{Branch: "lib", Message: "lib", Files: map[string]*testkit.GitFile{"l": {Content: "l"}}}))
	must(repo.Commit(testkit.GitCommit{Branch: "main", Message: "first", Files: map[string]*testkit.GitFile{
		"a.yaml": {Content: "a: 1\n"}, "a": {Content: "file beside a.yaml"}, "deploy/web.yaml": {Content: "b: 1\n"}, "deploy-old": {Content: "x"},
		"deploy/run.sh": {Content: "#!/bin/sh\n", Executable: true}, "link": {Symlink: "a.yaml"}, "vendor/lib": {Submodule: lib},
		"bare/deep/er/c.yaml": {Content: "c: 1\n"},
	}}))
	return repo
}

func clientOf(t testing.TB, o git.Options) *git.Client {
	t.Helper()
	client := must(git.New(o))
	t.Cleanup(client.Close)
	return client
}

// draft edits files on top of what the branch is now.
func draft(t testing.TB, client *git.Client, branch string, o git.DraftOptions) *git.Draft {
	t.Helper()
	checkout := must(client.Fetch(t.Context(), git.Reference{Branch: branch}, t.TempDir()))
	defer checkout.Close()
	o.Author = bot
	if o.Message == "" {
		o.Message = "edit"
	}
	return must(checkout.Draft(t.Context(), o))
}

func edit(name, content string) git.DraftOptions {
	return git.DraftOptions{Files: map[string][]byte{name: []byte(content)}}
}

func tip(t testing.TB, repo *testkit.GitRepo, ref string) string {
	t.Helper()
	return strings.TrimSpace(testkitGit(t, repo, "for-each-ref", "--format=%(objectname)", ref))
}

// A push over every way to a server (imageupdateautomation 36), judged by git itself: the commit is sound, changes what it should
// and nothing else, and says who made it (imageupdateautomation 24, 49).
func TestPush(t *testing.T) {
	authority := must(testkit.NewCA())
	secure := must(testkit.NewGitServer(t.TempDir(), must(authority.ServerTLS())))
	t.Cleanup(secure.Close)
	plain := gitServer(t)
	shell := must(testkit.NewGitSSHServer(plain.Root, testkit.SSHServerOptions{}))
	t.Cleanup(shell.Close)
	for name, test := range map[string]struct {
		server *testkit.GitServer
		url    string
		auth   git.Auth
	}{
		"HTTP":   {plain, plain.URL, git.Auth{}},
		"basic":  {plain, plain.URL + "/auth", git.Auth{Basic: &secret.Basic{Username: testkit.GitUser, Password: testkit.GitPassword}}},
		"bearer": {plain, plain.URL + "/auth", git.Auth{Bearer: testkit.GitToken}},
		"HTTPS":  {secure, secure.URL, must(git.AuthFromSecret(secure.URL, map[string][]byte{"ca.crt": authority.PEM}))},
		"SSH":    {plain, shell.URL, sshAuth(shell)},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.RemoveAll(filepath.Join(test.server.Root, "app.git")); err != nil {
				t.Fatal(err)
			}
			repo := shelf(t, test.server)
			before := tip(t, repo, "refs/heads/main")
			client := clientOf(t, git.Options{URL: test.url + "/app.git", Auth: test.auth})
			d := draft(t, client, "main", git.DraftOptions{
				Files:   map[string][]byte{"a.yaml": []byte("a: 2\n"), "deploy/web.yaml": []byte("b: 2\n"), "deploy/run.sh": []byte("#!/bin/sh\nid\n")},
				Message: "Update\n\nbody",
			})
			if err := client.Push(t.Context(), d, git.Update{Ref: "refs/heads/main", From: &d.Parent}, t.TempDir()); err != nil {
				t.Fatal(err)
			}
			if got := tip(t, repo, "refs/heads/main"); got != d.Hash || d.Parent != before {
				t.Errorf("main is at %s, the draft is %s on %s, which was %s", got, d.Hash, d.Parent, before)
			}
			testkitGit(t, repo, "fsck", "--strict", "--full")
			got := testkitGit(t, repo, "log", "-1", "--format=%an <%ae> %at|%cn <%ce> %ct|%B", "--raw", "--abbrev=7", "main")
			const want = "bot <bot@example.com> 1800000000|bot <bot@example.com> 1800000000|Update\n\nbody\n"
			if !strings.HasPrefix(got, want) {
				t.Errorf("log:\n%s", got)
			}
			var changed []string
			for line := range strings.Lines(got) {
				if fields := strings.Fields(line); strings.HasPrefix(line, ":") {
					changed = append(changed, fields[0]+" "+fields[1]+" "+fields[5])
				}
			}
			if diff := cmp.Diff([]string{":100644 100644 a.yaml", ":100755 100755 deploy/run.sh", ":100644 100644 deploy/web.yaml"}, changed); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
			if got := testkitGit(t, repo, "show", "main:deploy/web.yaml"); got != "b: 2\n" {
				t.Errorf("deploy/web.yaml: %q", got)
			}
			// Once more is no error, and no commit.
			if err := client.Push(t.Context(), d, git.Update{Ref: "refs/heads/main", From: &d.Parent}, t.TempDir()); err != nil {
				t.Error(err)
			}
		})
	}
}

// Who was faster keeps the branch (reliability 083): nothing is overwritten, and the loser can tell.
func TestPushMoved(t *testing.T) {
	server := gitServer(t)
	repo := shelf(t, server)
	client := clientOf(t, git.Options{URL: server.URL + "/app.git"})
	d := draft(t, client, "main", edit("a.yaml", "a: 2\n"))
	theirs := must(repo.Commit(testkit.GitCommit{Branch: "main", Message: "faster", Files: map[string]*testkit.GitFile{"z": {Content: "z"}}}))
	absent := ""
	for name, u := range map[string]git.Update{
		"expected":        {Ref: "refs/heads/main", From: &d.Parent},
		"expected absent": {Ref: "refs/heads/main", From: &absent},
		"by force":        {Ref: "refs/heads/main", From: &d.Parent, Force: true},
		"expected there":  {Ref: "refs/heads/none", From: &d.Parent},
	} {
		if err := client.Push(t.Context(), d, u, t.TempDir()); !errors.Is(err, git.ErrMoved) {
			t.Errorf("%s: %v, want ErrMoved", name, err)
		}
	}
	if got := tip(t, repo, "refs/heads/main"); got != theirs {
		t.Errorf("main is at %s", got)
	}
	// Somebody holds the lock of the reference: the race is lost on the server.
	lock := filepath.Join(repo.Dir, "refs", "heads", "free.lock")
	if err := os.WriteFile(lock, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := client.Push(t.Context(), d, git.Update{Ref: "refs/heads/free"}, t.TempDir()); !errors.Is(err, git.ErrMoved) {
		t.Errorf("locked: %v, want ErrMoved", err)
	}
}

// imageupdateautomation 43, 45, 46: only force lets go of commits of others; without it the history tells.
func TestPushFastForward(t *testing.T) {
	server := gitServer(t)
	repo := shelf(t, server)
	first := tip(t, repo, "refs/heads/main")
	lib := tip(t, repo, "refs/heads/lib")
	must(repo.Commit(testkit.GitCommit{Branch: "main", Message: "second", Files: map[string]*testkit.GitFile{"z": {Content: "z"}}}))
	for _, filter := range []string{"true", "false"} {
		testkitGit(t, repo, "config", "uploadpack.allowFilter", filter)
		client := clientOf(t, git.Options{URL: server.URL + "/app.git"})
		d := draft(t, client, "main", edit("a.yaml", "a: "+filter+"\n"))
		for name, test := range map[string]struct {
			at    string
			force bool
			draft *git.Draft
			to    string
			want  error
		}{
			"absent":                {"", false, d, "", nil},
			"at the parent":         {d.Parent, false, d, "", nil},
			"at an older one":       {first, false, d, "", nil},
			"at another":            {lib + "~0", false, d, "", nil},
			"ahead":                 {"orphan", false, d, "", git.ErrNonFastForward},
			"ahead, with force":     {"orphan", true, d, "", nil},
			"no draft":              {first, false, nil, d.Parent, nil},
			"no draft, not a child": {"orphan", false, nil, d.Parent, git.ErrNonFastForward},
			"no draft, at it":       {d.Parent, false, nil, d.Parent, nil},
		} {
			ref := "refs/heads/" + strings.NewReplacer(" ", "-", ",", "").Replace(name)
			switch {
			case test.at == "orphan":
				tree := strings.TrimSpace(testkitGit(t, repo, "rev-parse", "lib^{tree}"))
				test.at = strings.TrimSpace(testkitGit(t, repo, "commit-tree", "-m", "theirs", tree))
				fallthrough
			case test.at != "":
				testkitGit(t, repo, "update-ref", ref, test.at)
			default:
				testkitGit(t, repo, "update-ref", "-d", ref)
			}
			err := client.Push(t.Context(), test.draft, git.Update{Ref: ref, To: test.to, Force: test.force}, t.TempDir())
			if !errors.Is(err, test.want) || (test.want == nil) != (err == nil) {
				t.Errorf("%s: %v, want %v", name, err, test.want)
				continue
			}
			want := test.to
			switch {
			case test.want != nil:
				want = test.at
			case want == "":
				want = d.Hash
			}
			if got := tip(t, repo, ref); got != want {
				t.Errorf("%s: %s is at %s, want %s", name, ref, got, want)
			}
		}
	}
}

// imageupdateautomation 13, 47: options reach the hooks of the server, and what a hook says reaches the user.
func TestPushHooks(t *testing.T) {
	server := gitServer(t)
	repo := shelf(t, server)
	client := clientOf(t, git.Options{URL: server.URL + "/app.git"})
	d := draft(t, client, "main", edit("a.yaml", "a: 2\n"))
	options := []string{"ci.skip=true", "a=b c"}
	err := client.Push(t.Context(), d, git.Update{Ref: "refs/heads/main", Options: options}, t.TempDir())
	if !errors.Is(err, git.ErrUnsupported) {
		t.Errorf("a server without options: %v", err)
	}
	testkitGit(t, repo, "config", "receive.advertisePushOptions", "true")
	hook := filepath.Join(repo.Dir, "hooks", "pre-receive")
	script := "#!/bin/sh\necho \"$GIT_PUSH_OPTION_COUNT $GIT_PUSH_OPTION_0 $GIT_PUSH_OPTION_1\" >options\nif [ \"$GIT_PUSH_OPTION_0\" = no ]; then echo 'ask first' >&2; exit 1; fi\n"
	if err := os.WriteFile(hook, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	before := tip(t, repo, "refs/heads/main")
	err = client.Push(t.Context(), d, git.Update{Ref: "refs/heads/main", Options: []string{"no"}}, t.TempDir())
	if !errors.Is(err, git.ErrRejected) || !strings.Contains(err.Error(), "pre-receive hook declined: ask first") {
		t.Errorf("refused: %v", err)
	}
	if got := tip(t, repo, "refs/heads/main"); got != before {
		t.Error("the refused push arrived")
	}
	if err := client.Push(t.Context(), d, git.Update{Ref: "refs/heads/main", Options: options}, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	if got := string(must(os.ReadFile(filepath.Join(repo.Dir, "options")))); got != "2 ci.skip=true a=b c\n" {
		t.Errorf("the hook saw %q", got)
	}
	for _, bad := range []string{"a\nb", strings.Repeat("x", 5000), "a\x00"} {
		if err := client.Push(t.Context(), d, git.Update{Ref: "refs/heads/main", Options: []string{bad}}, t.TempDir()); err == nil {
			t.Errorf("option %.10q was sent", bad)
		}
	}
}

// A hook that the server runs after the push is not cut off: whoever is to be told of the push, is.
func TestPushWaitsForHooks(t *testing.T) {
	server := gitServer(t)
	shell := must(testkit.NewGitSSHServer(server.Root, testkit.SSHServerOptions{}))
	t.Cleanup(shell.Close)
	repo := shelf(t, server)
	script := "#!/bin/sh\necho begun\nsleep 0.3\necho more\necho x >>told\n"
	check(t, os.WriteFile(filepath.Join(repo.Dir, "hooks", "post-receive"), []byte(script), 0o755))
	for i, client := range []*git.Client{
		clientOf(t, git.Options{URL: server.URL + "/app.git"}), clientOf(t, git.Options{URL: shell.URL + "/app.git", Auth: sshAuth(shell)}),
	} {
		d := draft(t, client, "main", edit("a.yaml", fmt.Sprintf("a: %d\n", i+10)))
		check(t, client.Push(t.Context(), d, git.Update{Ref: "refs/heads/main"}, t.TempDir()))
		if told := string(must(os.ReadFile(filepath.Join(repo.Dir, "told")))); told != strings.Repeat("x\n", i+1) {
			t.Errorf("after push %d the hook has written %q", i, told)
		}
	}
}

// reliability 049: names that no reference can have are refused before anybody is asked, deletions among them.
func TestPushRefuses(t *testing.T) {
	server := gitServer(t)
	shelf(t, server)
	client := clientOf(t, git.Options{URL: server.URL + "/app.git"})
	d := draft(t, client, "main", edit("a.yaml", "a: 2\n"))
	server.Close()
	for _, ref := range []string{
		"", "main", "HEAD", "refs/heads", "refs/heads/", "refs/heads/a b", "refs/heads/a..b", "refs/heads/../x", "refs/heads/.a", "refs/heads/a.lock",
		"refs/heads/a~", "refs/heads/a^", "refs/heads/a:b", "refs/heads/*", "refs/heads/a\nb", "refs/heads/a\x00b", "refs/heads/a@{b", "refs/heads/a//b",
		"refs/heads/a.", `refs/heads/a\b`, "refs/heads/a[b", "refs/heads/a?",
	} {
		if err := client.Push(t.Context(), d, git.Update{Ref: ref}, t.TempDir()); !errors.Is(err, git.ErrInvalidRef) {
			t.Errorf("%q: %v", ref, err)
		}
	}
	for _, to := range []string{strings.Repeat("0", 40), "abc", "main"} {
		if err := client.Push(t.Context(), nil, git.Update{Ref: "refs/heads/main", To: to, Force: true}, t.TempDir()); !errors.Is(err, git.ErrInvalidRef) {
			t.Errorf("to %q: %v", to, err)
		}
	}
}

// A draft is made only of files that are there.
func TestDraft(t *testing.T) {
	server := gitServer(t)
	shelf(t, server)
	client := clientOf(t, git.Options{URL: server.URL + "/app.git"})
	for _, sparse := range [][]string{nil, {"deploy"}} {
		checkout := must(client.FetchSelected(t.Context(), git.Reference{Branch: "main"}, git.Selection{Sparse: sparse}, t.TempDir()))
		for name, want := range map[string]bool{
			"deploy/web.yaml": true, "deploy": false, "deploy/none": false, "none": false, "link": false, "link/x": false, "vendor/lib": false,
			"vendor/lib/l": false, "deploy/web.yaml/x": false, "": false, "../x": false, "deploy/": false,
		} {
			_, err := checkout.Draft(t.Context(), git.DraftOptions{Files: map[string][]byte{name: []byte("new")}, Author: bot})
			var missing *git.PathError
			if want != (err == nil) || err != nil && !errors.As(err, &missing) {
				t.Errorf("%q: %v", name, err)
			}
		}
		// imageupdateautomation 28: nothing changes, and there is no commit.
		for _, files := range []map[string][]byte{nil, {"deploy/web.yaml": []byte("b: 1\n")}} {
			if _, err := checkout.Draft(t.Context(), git.DraftOptions{Files: files, Author: bot}); !errors.Is(err, git.ErrUnchanged) {
				t.Errorf("%q: %v, want ErrUnchanged", files, err)
			}
		}
		if err := checkout.Close(); err != nil {
			t.Error(err)
		}
	}
}

// What a spec says about the author cannot write other fields of the commit, and a message cannot either.
func TestDraftFields(t *testing.T) {
	server := gitServer(t)
	repo := shelf(t, server)
	testkitGit(t, repo, "config", "receive.fsckObjects", "true")
	client := clientOf(t, git.Options{URL: server.URL + "/app.git"})
	for i, test := range []struct{ name, email, message, want string }{
		{"a\ncommitter b <c> 1 +0000", "x>\n\ny@z", "m", "acommitter b c 1 +0000|xy@z|m\n"},
		{"", "x@y", "", "|x@y|\n"},
		{"ä\xff", "x@y", "a\x00b\n\n\n", "ä|x@y|ab\n"},
		{"a", "x@y", "tree 1\n\n  b\r\n", "a|x@y|tree 1\n\n  b\r\n"},
	} {
		checkout := must(client.Fetch(t.Context(), git.Reference{Branch: "main"}, t.TempDir()))
		d, err := checkout.Draft(t.Context(), git.DraftOptions{
			Files: map[string][]byte{"a.yaml": fmt.Appendf(nil, "a: %d\n", i+10)}, Message: test.message,
			Author: git.Signature{Name: test.name, Email: test.email, When: bot.When.In(time.FixedZone("", -5400))},
		})
		if err := errors.Join(err, checkout.Close(), client.Push(t.Context(), d, git.Update{Ref: "refs/heads/main"}, t.TempDir())); err != nil {
			t.Fatal(err)
		}
		got := testkitGit(t, repo, "log", "-1", "--format=%cn|%ce|%B", "main")
		if strings.TrimRight(got, "\n") != strings.TrimRight(test.want, "\n") {
			t.Errorf("commit: %q, want %q", got, test.want)
		}
		if got := testkitGit(t, repo, "log", "-1", "--format=%ai", "main"); !strings.HasSuffix(got, "-0130\n") {
			t.Errorf("date: %q", got)
		}
	}
}

// A proxy is used for pushes too (imageupdateautomation 61), and what a server answers shows no password.
func TestPushSecrets(t *testing.T) {
	server := gitServer(t)
	shelf(t, server)
	client := clientOf(t, git.Options{URL: server.URL + "/app.git"})
	d := draft(t, client, "main", edit("a.yaml", "a: 2\n"))
	var seen []string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.URL.String())
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, "no entry for hunter2 and %s", r.Header.Get("Proxy-Authorization"))
	}))
	defer proxy.Close()
	u := must(url.Parse(strings.Replace(proxy.URL, "http://", "http://me:swordfish@", 1)))
	through := clientOf(t, git.Options{
		URL: "http://git.test/app.git", Proxy: u, Auth: git.Auth{Basic: &secret.Basic{Username: "user", Password: "hunter2"}},
	})
	err := through.Push(t.Context(), d, git.Update{Ref: "refs/heads/main"}, t.TempDir())
	if !errors.Is(err, git.ErrAuthorization) || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "swordfish") ||
		strings.Contains(err.Error(), "bWU6c3dvcmRmaXNo") {
		t.Errorf("push: %v", err)
	}
	if diff := cmp.Diff([]string{"http://git.test/app.git/info/refs?service=git-receive-pack"}, seen); diff != "" {
		t.Errorf("the proxy saw (-want +got):\n%s", diff)
	}
}
