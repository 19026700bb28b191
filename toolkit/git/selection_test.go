package git_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/archive"
	"github.com/seed-79636ae9/flux/toolkit/git"
	"github.com/seed-79636ae9/flux/toolkit/secret"
)

// listing returns the paths of a tree, files with their content.
func listing(t testing.TB, checkout *git.Checkout) []string {
	t.Helper()
	var out []string
	check(t, checkout.Tree().Walk(t.Context(), func(e archive.Entry) error {
		if e.Open == nil {
			out = append(out, e.Path)
			return nil
		}
		r, err := e.Open()
		if err != nil {
			return err
		}
		defer r.Close()
		out = append(out, e.Path+"="+string(must(io.ReadAll(r))))
		return nil
	}))
	return out
}

func fetchSelected(t testing.TB, o git.Options, s git.Selection) ([]string, error) {
	t.Helper()
	client := must(git.New(o))
	defer client.Close()
	checkout, err := client.FetchSelected(t.Context(), git.Reference{Branch: "main"}, s, t.TempDir())
	if err != nil {
		return nil, err
	}
	defer checkout.Close()
	return listing(t, checkout), nil
}

func files(pairs ...string) map[string]*testkit.GitFile {
	out := map[string]*testkit.GitFile{}
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i]] = &testkit.GitFile{Content: pairs[i+1]}
	}
	return out
}

// TestSparse: only what is in the directories belongs to the tree (gitrepository 70, 71).
func TestSparse(t *testing.T) {
	server := gitServer(t)
	repo := must(server.Repo("app"))
	must(repo.Commit(testkit.GitCommit{Branch: "main", Message: "1", Files: files(
		"root.yaml", "r", "a/x", "x", "a/deep/y", "y", "ab/z", "z", "c/d/e/f", "f", "c/d/g", "g")}))
	for name, test := range map[string]struct {
		dirs []string
		want []string
		err  string
	}{
		"none":           {nil, []string{"a", "a/deep", "a/deep/y=y", "a/x=x", "ab", "ab/z=z", "c", "c/d", "c/d/e", "c/d/e/f=f", "c/d/g=g", "root.yaml=r"}, ""},
		"prefix of more": {[]string{"./a"}, []string{"a", "a/deep", "a/deep/y=y", "a/x=x"}, ""},
		"nested":         {[]string{"c/d/e/", "a/deep"}, []string{"a", "a/deep", "a/deep/y=y", "c", "c/d", "c/d/e", "c/d/e/f=f"}, ""},
		"a file":         {[]string{"c/d/g"}, []string{"c", "c/d", "c/d/g=g"}, ""},
		"overlapping":    {[]string{"ab", "ab/z"}, []string{"ab", "ab/z=z"}, ""},
		"missing":        {[]string{"a", "absent"}, nil, "absent"},
		"above the root": {[]string{"../a"}, nil, "../a"},
		"below a file":   {[]string{"a/x/y"}, nil, "a/x/y"},
	} {
		got, err := fetchSelected(t, git.Options{URL: server.URL + "/app.git"}, git.Selection{Sparse: test.dirs})
		if test.err != "" {
			var missing *git.PathError
			if !errors.As(err, &missing) || missing.Path != test.err {
				t.Errorf("%s: %v, want a PathError of %q", name, err, test.err)
			}
			continue
		}
		if diff := cmp.Diff(test.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
	}
	everything := must(fetchSelected(t, git.Options{URL: server.URL + "/app.git"}, git.Selection{}))
	dot := must(fetchSelected(t, git.Options{URL: server.URL + "/app.git"}, git.Selection{Sparse: []string{"a", "."}}))
	if diff := cmp.Diff(everything, dot); diff != "" {
		t.Errorf("the root as a directory (-everything +got):\n%s", diff)
	}
}

// TestSparseSavesBytes: where the server can, only the files of the directories travel; elsewhere the result is the same.
func TestSparseSavesBytes(t *testing.T) {
	root := t.TempDir()
	lib := must(testkit.NewGitRepo(root + "/lib.git"))
	commit := must(lib.Commit(testkit.GitCommit{Branch: "main", Message: "1", Files: files("f", "x")}))
	repo := must(testkit.NewGitRepo(root + "/app.git"))
	content := files(".gitmodules", module("d3/lib", "../lib.git"))
	for i := range 20 {
		content[fmt.Sprintf("d%d/f", i)] = &testkit.GitFile{Content: random(50_000, i)}
	}
	content["d3/lib"] = &testkit.GitFile{Submodule: commit}
	content["d4/link"] = &testkit.GitFile{Symlink: "f"}
	must(repo.Commit(testkit.GitCommit{Branch: "main", Message: "1", Files: content}))
	backend := must(testkit.GitHandler(root))
	var bytes int64
	old := false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if old {
			r.Header.Del("Git-Protocol")
		}
		backend.ServeHTTP(&countingResponse{w, &bytes}, r)
	}))
	defer server.Close()
	o := git.Options{URL: server.URL + "/app.git"}
	want := []string{"d3", "d3/f=" + random(50_000, 3), "d3/lib", "d3/lib/f=x", "d4", "d4/f=" + random(50_000, 4), "d4/link"}
	for _, mode := range []string{"filter", "old protocol", "no filter"} {
		old, bytes = mode == "old protocol", 0
		if mode == "no filter" {
			testkitGit(t, repo, "config", "uploadpack.allowFilter", "false")
		}
		got := must(fetchSelected(t, o, git.Selection{Sparse: []string{"d3", "d4"}, Submodules: true}))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", mode, diff)
		}
		if saved := bytes < 120_000; saved != (mode == "filter") {
			t.Errorf("%s: %d bytes", mode, bytes)
		}
	}
}

// TestSparseLimits: what is not selected does not count.
func TestSparseLimits(t *testing.T) {
	server := gitServer(t)
	repo := must(server.Repo("app"))
	must(repo.Commit(testkit.GitCommit{Branch: "main", Message: "1", Files: files("a/x", "x", "b/y", random(20_000, 1), "c/deep/er/z", "z")}))
	for name, test := range map[string]struct {
		limits git.Limits
		dirs   []string
		ok     bool
	}{
		"bytes elsewhere": {git.Limits{TreeBytes: 100}, []string{"a"}, true},
		"bytes":           {git.Limits{TreeBytes: 100}, []string{"b"}, false},
		"object":          {git.Limits{ObjectBytes: 10_000}, []string{"b"}, false},
		"pack":            {git.Limits{PackBytes: 10_000}, []string{"b"}, false},
		"depth elsewhere": {git.Limits{TreeDepth: 2}, []string{"a"}, true},
		"depth":           {git.Limits{TreeDepth: 2}, []string{"c"}, false},
		"paths":           {git.Limits{TreeEntries: 2}, []string{"c"}, false},
	} {
		_, err := fetchSelected(t, git.Options{URL: server.URL + "/app.git", Limits: test.limits}, git.Selection{Sparse: test.dirs})
		if test.ok && err != nil || !test.ok && !errors.Is(err, git.ErrLimit) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func module(path, url string) string {
	return fmt.Sprintf("[submodule %q]\n\tpath = %s\n\turl = %s\n", path, path, url)
}

// withModules commits .gitmodules and links to a commit.
func withModules(t testing.TB, repo *testkit.GitRepo, text, commit string, paths ...string) string {
	t.Helper()
	content := files(".gitmodules", text, "own", "1")
	for _, path := range paths {
		content[path] = &testkit.GitFile{Submodule: commit}
	}
	return must(repo.Commit(testkit.GitCommit{Branch: "main", Message: "modules", Files: content}))
}

// TestSubmodules fetches nested submodules (gitrepository 72).
func TestSubmodules(t *testing.T) {
	server := gitServer(t)
	inner := must(server.Repo("team/inner"))
	first := must(inner.Commit(testkit.GitCommit{Branch: "main", Message: "1", Files: files("f", "inner")}))
	must(inner.Commit(testkit.GitCommit{Branch: "main", Message: "2", Files: files("f", "newer")}))
	outer := must(server.Repo("team/outer"))
	outerCommit := withModules(t, outer, module("in/side", "../inner.git"), first, "in/side", "unlisted")
	repo := must(server.Repo("app"))
	text := module("lib", "./../team/outer.git/") + module("ghost", server.URL+"/team/none.git") + "[other]\n\tx = y\n"
	withModules(t, repo, text, outerCommit, "lib", "z/lib")
	o := git.Options{URL: server.URL + "/app.git"}

	want := []string{".gitmodules=" + text, "lib", "own=1", "z", "z/lib"}
	if diff := cmp.Diff(want, must(fetchSelected(t, o, git.Selection{}))); diff != "" {
		t.Errorf("without submodules (-want +got):\n%s", diff)
	}
	want = []string{
		".gitmodules=" + text, "lib", "lib/.gitmodules=" + module("in/side", "../inner.git"), "lib/in", "lib/in/side",
		"lib/in/side/f=inner", "lib/own=1", "lib/unlisted", "own=1", "z", "z/lib",
	}
	if diff := cmp.Diff(want, must(fetchSelected(t, o, git.Selection{Submodules: true}))); diff != "" {
		t.Errorf("with submodules (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"own=1"}, must(fetchSelected(t, o, git.Selection{Submodules: true, Sparse: []string{"own"}}))); diff != "" {
		t.Errorf("sparse (-want +got):\n%s", diff)
	}

	for name, limits := range map[string]git.Limits{
		"number of submodules":         {Submodules: 1},
		"depth of submodules":          {SubmoduleDepth: 1},
		"number of paths in the tree":  {TreeEntries: 5},
		"size of the files":            {TreeBytes: 100},
		"number of objects in the":     {Objects: 7},
		"length of a path":             {PathBytes: 12},
		"depth of the tree":            {TreeDepth: 2},
		"size of the list of referenc": {AdvertisementBytes: 10},
	} {
		limited := o
		limited.Limits = limits
		_, err := fetchSelected(t, limited, git.Selection{Submodules: true})
		if !errors.Is(err, git.ErrLimit) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v, want ErrLimit", name, err)
		}
	}
}

// TestHostileSubmodules (reliability 007).
func TestHostileSubmodules(t *testing.T) {
	server := gitServer(t)
	inner := must(server.Repo("inner"))
	commit := must(inner.Commit(testkit.GitCommit{Branch: "main", Message: "1", Files: files("f", "x")}))
	for i, test := range []struct {
		modules  string
		property error
	}{
		{module("../../x", "../inner.git"), git.ErrMalformed},
		{"[submodule \"../../x\"]\n\tpath = lib\n\turl = ../inner.git\n", git.ErrMalformed},
		{"[submodule \"a\"]\n\tpath = /lib\n\turl = ../inner.git\n", git.ErrMalformed},
		{"[submodule \"a\"]\n\tpath = lib\n", git.ErrMalformed},
		{module("lib", "../inner.git") + "[submodule \"b\"]\n\tpath = lib\n\turl = ../inner.git\n", git.ErrMalformed},
		{"[submodule \"a", git.ErrMalformed},
		{module("lib", "ext::sh -c touch"), git.ErrInvalidURL},
		{module("lib", "file:///etc"), git.ErrInvalidURL},
		{module("lib", "/etc"), git.ErrInvalidURL},
		{module("lib", "--upload-pack=touch"), git.ErrInvalidURL},
		{module("lib", "-oProxyCommand=touch:x"), git.ErrInvalidAuth},
		{module("lib", "../../../inner.git"), git.ErrInvalidURL},
		{module("lib", "git://127.0.0.1/inner.git"), git.ErrInvalidURL},
		{module("lib", "../absent.git"), git.ErrNotFound},
		{module("lib", "../app0.git"), git.ErrReferenceNotFound}, // has no such commit
		{module("lib", strings.Repeat("x", 2<<20)), git.ErrLimit},
	} {
		name := fmt.Sprint("app", i)
		withModules(t, must(server.Repo(name)), test.modules, commit, "lib")
		_, err := fetchSelected(t, git.Options{URL: server.URL + "/" + name + ".git"}, git.Selection{Submodules: true})
		if !errors.Is(err, test.property) {
			t.Errorf("%.80q: %v, want %v", test.modules, err, test.property)
		}
	}
}

// TestSubmoduleCredentials: credentials are for one server (gitrepository 72; reliability 007).
func TestSubmoduleCredentials(t *testing.T) {
	root := t.TempDir()
	lib := must(testkit.NewGitRepo(root + "/lib.git"))
	commit := must(lib.Commit(testkit.GitCommit{Branch: "main", Message: "1", Files: files("f", "x")}))
	backend := must(testkit.GitHandler(root))
	serve := func(seen *[]string, mu *sync.Mutex) *httptest.Server {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			*seen = append(*seen, r.Header.Get("Authorization"))
			mu.Unlock()
			backend.ServeHTTP(w, r)
		}))
		t.Cleanup(s.Close)
		return s
	}
	var mu sync.Mutex
	var atHome, abroad []string
	home, other := serve(&atHome, &mu), serve(&abroad, &mu)
	repo := must(testkit.NewGitRepo(root + "/app.git"))
	withModules(t, repo, module("lib", home.URL+"/lib.git")+module("other", other.URL+"/lib.git"), commit, "lib", "other")
	_, err := fetchSelected(t, git.Options{
		URL: home.URL + "/app.git", Auth: git.Auth{Basic: &secret.Basic{Username: "user", Password: "pass"}},
	}, git.Selection{Submodules: true})
	check(t, err)
	if strings.Join(abroad, "") != "" || len(abroad) == 0 {
		t.Errorf("another server got %q", abroad)
	}
	for _, header := range atHome {
		if header != "Basic dXNlcjpwYXNz" {
			t.Errorf("the server itself got %q", header)
		}
	}
	if len(atHome) != 4 {
		t.Errorf("%d requests, want 4", len(atHome))
	}
}

// TestSubmodulesOverSSH: relative and short URLs use the key; no other host gets it.
func TestSubmodulesOverSSH(t *testing.T) {
	server := sshServer(t, testkit.SSHServerOptions{})
	lib := must(testkit.NewGitRepo(server.Root + "/org/lib.git"))
	commit := must(lib.Commit(testkit.GitCommit{Branch: "main", Message: "1", Files: files("f", "x")}))
	repo := must(testkit.NewGitRepo(server.Root + "/org/top.git"))
	withModules(t, repo, module("lib", "../lib.git"), commit, "lib")
	o := git.Options{URL: server.URL + "/org/top.git", Auth: sshAuth(server)}
	got := must(fetchSelected(t, o, git.Selection{Submodules: true}))
	if want := "lib/f=x"; !strings.Contains(strings.Join(got, " "), want) {
		t.Errorf("%q, want %q", got, want)
	}
	must(repo.Commit(testkit.GitCommit{Branch: "main", Message: "2", Files: files(".gitmodules", module("lib", "git@elsewhere.test:org/lib.git"))}))
	_, err := fetchSelected(t, o, git.Selection{Submodules: true})
	if !errors.Is(err, git.ErrInvalidAuth) || !strings.Contains(err.Error(), "is not presented to ssh://elsewhere.test:22") {
		t.Errorf("another host: %v, want ErrInvalidAuth", err)
	}
}

// TestPinnedCommit: a commit behind the tip costs the history without its files, and the commit (gitrepository 27, 28).
func TestPinnedCommit(t *testing.T) {
	root := t.TempDir()
	repo := must(testkit.NewGitRepo(root + "/app.git"))
	var hashes []string
	for i := range 20 {
		hashes = append(hashes, must(repo.Commit(testkit.GitCommit{Branch: "main", Message: fmt.Sprint(i), Files: files("f", random(200_000, i))})))
	}
	orphan := strings.TrimSpace(testkitGit(t, repo, "commit-tree", "-m", "in no branch", "main^{tree}"))
	backend := must(testkit.GitHandler(root))
	var bytes int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		backend.ServeHTTP(&countingResponse{w, &bytes}, r)
	}))
	defer server.Close()
	client := must(git.New(git.Options{URL: server.URL + "/app.git"}))
	defer client.Close()
	for _, ref := range []git.Reference{{Commit: hashes[3]}, {Commit: hashes[3], Branch: "main"}} {
		bytes = 0
		checkout := must(client.Fetch(t.Context(), ref, t.TempDir()))
		if checkout.Commit.Hash != hashes[3] || bytes > 300_000 {
			t.Errorf("%v: got %s at the cost of %d bytes, want one file of 200,000", ref, checkout.Revision, bytes)
		}
		check(t, checkout.Close())
	}
	_, err := client.Fetch(t.Context(), git.Reference{Commit: orphan}, t.TempDir())
	if !errors.Is(err, git.ErrReferenceNotFound) {
		t.Errorf("a commit in no branch: %v, want ErrReferenceNotFound", err)
	}
	// A server that sends only what references point to costs the history.
	for _, kv := range [][2]string{{"uploadpack.allowAnySHA1InWant", "false"}, {"uploadpack.allowFilter", "false"}} {
		testkitGit(t, repo, "config", kv[0], kv[1])
	}
	checkout := must(client.Fetch(t.Context(), git.Reference{Commit: hashes[3]}, t.TempDir()))
	if checkout.Commit.Hash != hashes[3] {
		t.Errorf("from the history: %s", checkout.Revision)
	}
	check(t, checkout.Close())
}

// TestPinnedCommitOverSSH: a conversation ends with each pack, so there are two of them.
func TestPinnedCommitOverSSH(t *testing.T) {
	server := sshServer(t, testkit.SSHServerOptions{})
	repo := must(testkit.NewGitRepo(server.Root + "/org/pinned.git"))
	first := must(repo.Commit(testkit.GitCommit{Branch: "main", Message: "1", Files: files("f", "x")}))
	must(repo.Commit(testkit.GitCommit{Branch: "main", Message: "2", Files: files("f", "y")}))
	client := must(git.New(git.Options{URL: server.URL + "/org/pinned.git", Auth: sshAuth(server)}))
	defer client.Close()
	checkout := must(client.FetchSelected(t.Context(), git.Reference{Commit: first}, git.Selection{Sparse: []string{"f"}}, t.TempDir()))
	defer checkout.Close()
	if diff := cmp.Diff([]string{"f=x"}, listing(t, checkout)); diff != "" {
		t.Errorf("tree (-want +got):\n%s", diff)
	}
	if n := len(server.Commands()); n != 2 {
		t.Errorf("%d conversations, want 2: %q", n, server.Commands())
	}
}

// random is text that does not compress, the same for the same seed.
func random(n, seed int) string {
	r := rand.NewChaCha8([32]byte{byte(seed)})
	b := make([]byte, n)
	_, _ = r.Read(b)
	return string(b)
}

type countingResponse struct {
	http.ResponseWriter
	n *int64
}

func (c *countingResponse) Write(p []byte) (int, error) {
	*c.n += int64(len(p))
	return c.ResponseWriter.Write(p)
}

func (c *countingResponse) Flush() { c.ResponseWriter.(http.Flusher).Flush() }
