package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/seed-79636ae9/flux/internal/kind"
	"github.com/seed-79636ae9/flux/internal/notify"
	"github.com/seed-79636ae9/flux/internal/ops"
)

// lineSink collects the lines of a LogSource and tells of each.
type lineSink struct {
	mu    sync.Mutex
	lines []string
	more  chan struct{}
}

func newLineSink() *lineSink { return &lineSink{more: make(chan struct{}, 1000)} }

func (s *lineSink) see(line []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, string(line))
	s.more <- struct{}{}
}

func (s *lineSink) wait(n int) {
	for range n {
		<-s.more
	}
}

func TestLogFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "flux.log")
	if err := os.WriteFile(path, []byte("one\ntwo\r\n\nthree\nhalf"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := LogFile{Path: path, Clock: clock.RealClock{}}
	for name, tc := range map[string]struct {
		tail int64
		want []string
	}{
		"all": {-1, []string{"one", "two", "three"}}, "none": {0, nil}, "two": {2, []string{"two", "three"}}, "more than there are": {9, []string{"one", "two", "three"}},
	} {
		t.Run(name, func(t *testing.T) {
			sink := newLineSink()
			if err := file.Lines(t.Context(), LogOptions{Tail: tc.tail}, sink.see); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, sink.lines); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if err := (LogFile{Path: path + "x", Clock: clock.RealClock{}}).Lines(t.Context(), LogOptions{}, nil); err == nil {
		t.Error("a missing file is no error")
	}
}

// armedClock tells when somebody begins to wait for it.
type armedClock struct {
	*clocktesting.FakeClock
	armed chan struct{}
}

func (c armedClock) NewTicker(d time.Duration) clock.Ticker {
	t := c.FakeClock.NewTicker(d)
	c.armed <- struct{}{}
	return t
}

func TestLogFileFollow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "flux.log")
	write := func(flag int, text string) {
		t.Helper()
		f, err := os.OpenFile(path, flag|os.O_WRONLY|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	write(0, "one\nhalf")
	fake, armed := clocktesting.NewFakeClock(now()), make(chan struct{}, 1)
	sink := newLineSink()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- LogFile{Path: path, Clock: armedClock{fake, armed}}.Lines(ctx, LogOptions{Follow: true, Tail: -1}, sink.see)
	}()
	sink.wait(1)
	write(os.O_APPEND, " a line\ntwo\n")
	<-armed
	fake.Step(followInterval)
	sink.wait(2)
	// A restarted environment begins its log anew.
	write(os.O_TRUNC, "new\n")
	fake.Step(followInterval)
	sink.wait(1)
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"one", "half a line", "two", "new"}, sink.lines); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestScanLines(t *testing.T) {
	long := strings.Repeat("x", maxLogLine+1)
	var got []string
	if err := scanLines(strings.NewReader("a\n"+long+"\nb"), func(l []byte) { got = append(got, string(l)) }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a", "b"}, got); diff != "" {
		t.Errorf("a line beyond the limit must be dropped (-want +got):\n%s", diff)
	}
}

// TestLogSources proves that a local environment of the kubeconfig is asked before the cluster's pods.
func TestLogSources(t *testing.T) {
	path := filepath.Join(t.TempDir(), "flux.log")
	line := `{"level":"info","ts":"2026-01-02T03:00:00.000Z","msg":"done","controllerKind":"Kustomization","name":"app","namespace":"flux-system"}`
	if err := os.WriteFile(path, []byte(line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var asked []string
	find := func(source LogSource) LogSourceFunc {
		return func(_ context.Context, c *rest.Config) (LogSource, error) {
			asked = append(asked, c.Host)
			return source, nil
		}
	}
	c, out, _ := testConfig()
	c.LogSources = []LogSourceFunc{find(nil), find(LogFile{Path: path, Clock: clock.RealClock{}})}
	if code := run(t.Context(), c, []string{"logs", "--server", "http://127.0.0.1:1"}); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	if want := "2026-01-02T03:00:00.000Z info Kustomization/app.flux-system - done\n"; out.String() != want {
		t.Errorf("got %q, want %q", out, want)
	}
	if len(asked) != 2 {
		t.Errorf("%d sources were asked, want both", len(asked))
	}
}

func testConfig() (c Config, stdout, stderr *bytes.Buffer) {
	stdout, stderr = &bytes.Buffer{}, &bytes.Buffer{}
	return Config{
		Program: "flux", Version: "v2.9.0", Kinds: Kinds(), Components: Components(),
		Streams: Streams{In: strings.NewReader(""), Out: stdout, Err: stderr},
		Clock:   clocktesting.NewFakeClock(now()), Getenv: func(string) string { return "" },
	}, stdout, stderr
}

// TestLiveLine proves that a terminal sees what blocks a wait, on one line that is gone afterwards.
func TestLiveLine(t *testing.T) {
	c, _, stderr := testConfig()
	c.Streams.Live = true
	f := newFactory(c)
	api := newFakeAPI(t, now)
	api.add(t, `
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: app, namespace: flux-system}
status: {conditions: [{type: Ready, status: "False", message: "dependency is\nnot ready"}]}`)
	obj := kind.Object{Unstructured: api.objects["kustomize.toolkit.fluxcd.io/kustomizations/flux-system/app"]}
	live := f.live()
	live.show(obj)
	live.show(obj)
	live.clear()
	live.clear()
	want := "\r\x1b[K◎ Kustomization/flux-system/app: dependency is not ready\r\x1b[K"
	if got := stderr.String(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestErrors is the list of common failures: each names what failed and ends with a command to run (cli 2).
func TestErrors(t *testing.T) {
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	t.Setenv("HOME", t.TempDir())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := "http://" + l.Addr().String()
	l.Close()
	for name, tc := range map[string]struct {
		args []string
		want []string
	}{
		"unreachable":         {[]string{"get", "ks", "--server", closed}, []string{"list kustomizations", "connection refused", "try 'flux check --pre'"}},
		"unreachable, pre":    {[]string{"check", "--pre", "--server", closed}, []string{"read the version of the cluster", "try 'flux check --pre'"}},
		"no such context":     {[]string{"get", "ks", "--context", "nowhere"}, []string{"connect to the cluster", "nowhere", "try 'kubectl config view --minify'"}},
		"bad flag value":      {[]string{"get", "ks", "--timeout", "soon"}, []string{"--timeout", "try 'flux get kustomizations --help'"}},
		"missing name":        {[]string{"delete", "ks"}, []string{"name is required", "try 'flux delete kustomization --help'"}},
		"too many names":      {[]string{"reconcile", "ks", "a", "b"}, []string{"unexpected argument 'b'", "--help'"}},
		"unknown verb":        {[]string{"gett"}, []string{"gett", "try 'flux --help'"}},
		"unknown shell":       {[]string{"completion", "tcsh"}, []string{"tcsh", "try 'flux completion --help'"}},
		"no manifests":        {[]string{"install", "--export", "--manifests", "/nonexistent"}, []string{"/nonexistent"}},
		"nothing to trace":    {[]string{"trace"}, []string{"name the object", "try 'flux trace --help'"}},
		"name unlike the API": {[]string{"create", "ks", "A", "--source=a"}, []string{"'A' is invalid", "--help'"}},
	} {
		t.Run(name, func(t *testing.T) {
			c, stdout, stderr := testConfig()
			if code := run(t.Context(), c, tc.args); code != 1 {
				t.Errorf("exit code %d, want 1", code)
			}
			if stdout.Len() > 0 {
				t.Errorf("errors are not data: %q", stdout)
			}
			if n := strings.Count(strings.TrimSpace(stderr.String()), "\n"); n > 0 && name != "unreachable, pre" {
				t.Errorf("more than one line: %q", stderr)
			}
			for _, part := range append(tc.want, "✗ ") {
				if !strings.Contains(stderr.String(), part) {
					t.Errorf("%q lacks %q", stderr, part)
				}
			}
		})
	}
}

func TestHintsAreSpecific(t *testing.T) {
	f := newFactory(Config{Program: "flux", Getenv: func(string) string { return "" }})
	err := fmt.Errorf("outer: %w", hinted(&ops.NotFoundError{Kind: notify.ReceiverKind(), Namespace: "a", Name: "b"}, "flux get receivers"))
	if got := f.hint(err, ""); got != "flux get receivers" {
		t.Errorf("the explicit hint is lost: %q", got)
	}
	if got := f.hint(errors.New("plain"), ""); got != "" {
		t.Errorf("a hint out of nowhere: %q", got)
	}
}

// TestKubectlPlugin covers the binary linked as kubectl-flux.
func TestKubectlPlugin(t *testing.T) {
	c, stdout, _ := testConfig()
	c.Program = program("/usr/local/bin/kubectl-flux")
	if code := run(t.Context(), c, []string{"get", "--help"}); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	if !strings.Contains(stdout.String(), "kubectl flux get") {
		t.Errorf("help does not speak of `kubectl flux`:\n%s", stdout)
	}
}

func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "fish", "powershell", "zsh"} {
		c, stdout, stderr := testConfig()
		if code := run(t.Context(), c, []string{"completion", shell}); code != 0 || stdout.Len() < 1000 || stderr.Len() > 0 {
			t.Errorf("%s: exit code %d, %d bytes, %q", shell, code, stdout.Len(), stderr)
		}
	}
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	api := newFakeAPI(t, now)
	api.add(t, "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {name: app, namespace: flux-system}\n---\napiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {name: infra, namespace: flux-system}")
	c, stdout, _ := testConfig()
	if code := run(t.Context(), c, []string{"__complete", "suspend", "ks", "--server", api.URL, "app", ""}); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	if !strings.HasPrefix(stdout.String(), "infra\n:4") {
		t.Errorf("completions of the second name: %q", stdout)
	}
}

// TestCreateOverSSH covers cli 24: a deploy key is generated and confirmed, the host key collected, and both kept
// in a Secret of the object's name.
func TestCreateOverSSH(t *testing.T) {
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	host := serveSSH(t)
	api := newFakeAPI(t, now)
	api.reactions = []reaction{{Object: "GitRepository/flux-system/podinfo", When: "written", Status: map[string]any{
		"conditions": []any{map[string]any{"type": "Ready", "status": "True"}}, "artifact": map[string]any{"revision": "main@sha1:aaa"},
	}}}
	create := func(input string, further ...string) (code int, stderr string) {
		c, _, errs := testConfig()
		c.Streams.In = strings.NewReader(input)
		args := append([]string{"create", "source", "git", "podinfo", "--url", "ssh://git@" + host + "/podinfo", "--branch", "main", "--server", api.URL}, further...)
		return run(t.Context(), c, args), errs.String()
	}
	if code, stderr := create("n\n"); code != 1 || !strings.Contains(stderr, "deploy key was not confirmed") || len(api.writes) > 0 {
		t.Fatalf("a key that was not confirmed is used: %d, %q, %v", code, stderr, api.writes)
	}
	code, stderr := create("y\n")
	if code != 0 || !strings.Contains(stderr, "✚ deploy key: ecdsa-sha2-nistp384 ") || !strings.Contains(stderr, "✔ collected public key from SSH server:") {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	secret := api.objects["/secrets/flux-system/podinfo"]
	for _, k := range []string{"identity", "identity.pub", "known_hosts"} {
		if secret == nil || (kind.Object{Unstructured: secret}).Field("data", k) == "" {
			t.Errorf("the Secret lacks %s", k)
		}
	}
	repo := kind.Object{Unstructured: api.objects["source.toolkit.fluxcd.io/gitrepositories/flux-system/podinfo"]}
	if got := repo.Field("spec", "secretRef", "name"); got != "podinfo" {
		t.Errorf("secretRef = %q", got)
	}
	if strings.Contains(stderr, "PRIVATE KEY") {
		t.Error("the private key is printed")
	}
	pair, err := ops.GenerateKey(ops.KeyOptions{Algorithm: "ed25519"})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "id")
	if err := os.WriteFile(path, pair.Private, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, stderr := create("", "--silent", "--private-key-file", path); code != 0 || !strings.Contains(stderr, "✚ deploy key: ssh-ed25519 ") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

// serveSSH answers handshakes until the test ends.
func serveSSH(t *testing.T) string {
	t.Helper()
	pair, err := ops.GenerateKey(ops.KeyOptions{Algorithm: "ed25519"})
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.ParsePrivateKey(pair.Private)
	if err != nil {
		t.Fatal(err)
	}
	config := &ssh.ServerConfig{NoClientAuth: true}
	config.AddHostKey(signer)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _, _, _ = ssh.NewServerConn(conn, config)
			}()
		}
	}()
	return l.Addr().String()
}

// TestWriteDocs proves that the reference is complete, links to itself only, and drops pages of commands that went.
func TestWriteDocs(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "flux_gone.md")
	for _, path := range []string{stale, filepath.Join(dir, "index.md")} {
		if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, _, _ := testConfig()
	if err := WriteDocs(NewRoot(c), dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(stale); !os.IsNotExist(err) {
		t.Error("the page of a command that is gone stays")
	}
	if _, err := os.Stat(filepath.Join(dir, "index.md")); err != nil {
		t.Error("a page that is not of the reference was removed")
	}
	pages, err := filepath.Glob(filepath.Join(dir, "flux*.md"))
	if err != nil || len(pages) < 90 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range strings.Split(string(text), "](")[1:] {
			target, _, _ := strings.Cut(part, ")")
			if _, err := os.Stat(filepath.Join(dir, target)); err != nil {
				t.Errorf("%s links to %s, which does not exist", filepath.Base(page), target)
			}
		}
		if home, _ := os.UserHomeDir(); home != "" && strings.Contains(string(text), home) {
			t.Errorf("%s depends on this machine", filepath.Base(page))
		}
	}
}

// TestUninstallNamesTheCluster covers cli 61: who is about to delete an installation is told which one.
func TestUninstallNamesTheCluster(t *testing.T) {
	api := newFakeAPI(t, now)
	path := filepath.Join(t.TempDir(), "config")
	config := `{apiVersion: v1, kind: Config, current-context: staging, users: [{name: me}],
clusters: [{name: c, cluster: {server: "` + api.URL + `"}}],
contexts: [{name: staging, context: {cluster: c, user: me}}, {name: production, context: {cluster: c, user: me}}]}`
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		flags []string
		want  string
	}{
		"current context": {nil, "staging (" + api.URL + ")"},
		"chosen context":  {[]string{"--context=production"}, "production (" + api.URL + ")"},
		"address":         {[]string{"--server=" + api.URL}, api.URL},
		"another cluster": {[]string{"--cluster=c"}, api.URL},
	} {
		t.Run(name, func(t *testing.T) {
			c, _, stderr := testConfig()
			if code := run(t.Context(), c, append([]string{"uninstall", "--kubeconfig", path}, tc.flags...)); code != 1 {
				t.Errorf("exit code %d without an answer, want 1", code)
			}
			want := "Are you sure you want to delete Flux and its custom resource definitions from cluster " + tc.want + "? [y/N]"
			if !strings.Contains(stderr.String(), want) {
				t.Errorf("%q lacks %q", stderr, want)
			}
		})
	}
}

func TestHeadline(t *testing.T) {
	for message, want := range map[string]struct {
		head string
		rest []string
	}{
		"":                             {},
		"one":                          {head: "one"},
		"one\n":                        {head: "one"},
		"\n one \r\n\n two\nthree\n":   {"one", []string{"two", "three"}},
		"failed:\nbad\nworse":          {"failed: bad", []string{"worse"}},
		"failed:\nbecause:\nbad\nmore": {"failed: because: bad", []string{"more"}},
		"failed:":                      {head: "failed:"},
		"one\nlogs:\ntwo":              {"one", []string{"logs:", "two"}},
	} {
		head, rest := headline(message)
		if diff := cmp.Diff(want.head, head) + cmp.Diff(want.rest, rest); diff != "" {
			t.Errorf("headline(%q) (-want +got):\n%s", message, diff)
		}
	}
}
