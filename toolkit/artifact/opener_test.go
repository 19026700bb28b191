package artifact_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/archive"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
)

// tarball packs "path content" pairs.
func tarball(t testing.TB, files ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	zw := gzip.NewWriter(&out)
	tw := tar.NewWriter(zw)
	for _, file := range files {
		path, content, _ := strings.Cut(file, " ")
		if err := tw.WriteHeader(&tar.Header{Name: path, Mode: 0o600, Size: int64(len(content)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(tw, content)
	}
	if err := errors.Join(tw.Close(), zw.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// remote is an artifact server in memory.
type remote struct {
	body   []byte
	answer func(call int, r *http.Request) (*http.Response, error) // nil: 200 with the body

	calls atomic.Int32
	mu    sync.Mutex
	seen  []*http.Request
}

func (s *remote) RoundTrip(r *http.Request) (*http.Response, error) {
	call := int(s.calls.Add(1))
	s.mu.Lock()
	s.seen = append(s.seen, r)
	s.mu.Unlock()
	if s.answer != nil {
		response, err := s.answer(call, r)
		if response != nil {
			response.Request = r
		}
		return response, err
	}
	return reply(200, s.body), nil
}

func reply(code int, body []byte) *http.Response {
	return &http.Response{
		StatusCode: code, Status: fmt.Sprintf("%d %s", code, http.StatusText(code)), Header: http.Header{},
		Body: io.NopCloser(bytes.NewReader(body)),
	}
}

func artifactOf(t testing.TB, body []byte) *meta.Artifact {
	t.Helper()
	h := artifact.SHA256.New()
	h.Write(body)
	size := int64(len(body))
	return &meta.Artifact{
		Path: "gitrepository/apps/app/f.tar.gz", URL: "http://store.test/gitrepository/apps/app/f.tar.gz",
		Digest: fmt.Sprintf("sha256:%x", h.Sum(nil)), Size: &size,
	}
}

func opener(t testing.TB, s *artifact.Store, dir string, o artifact.OpenerOptions) *artifact.Opener {
	t.Helper()
	op, err := artifact.NewOpener(s, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = op.Close() })
	return op
}

func read(t *testing.T, tree *artifact.Tree, file string) string {
	t.Helper()
	data, err := fs.ReadFile(tree.FS(), file)
	if err != nil {
		t.Error(err)
	}
	return string(data)
}

// left returns how many trees, and how many unfinished files, are in a cache directory.
func left(t *testing.T, dir string) (trees, unfinished int) {
	t.Helper()
	for sub, n := range map[string]*int{"trees": &trees, "tmp": &unfinished} {
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil {
			t.Fatal(err)
		}
		*n = len(entries)
	}
	return trees, unfinished
}

func TestOpenFromStore(t *testing.T) {
	for _, linked := range []bool{true, false} {
		t.Run(fmt.Sprintf("linked %v", linked), func(t *testing.T) {
			s := open(t, t.TempDir(), artifact.StoreOptions{AdvertisedAddr: "store.test"})
			if !linked {
				s.WithoutLinks()
			}
			server := &remote{}
			op := opener(t, s, t.TempDir(), artifact.OpenerOptions{Transport: server})
			a, err := s.Put(t.Context(), app("f.tar.gz"), func(w io.Writer) error {
				_, err := w.Write(tarball(t, "deploy/a.yaml kind: A"))
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			tree, err := op.Open(t.Context(), a)
			if err != nil {
				t.Fatal(err)
			}
			defer tree.Close()
			if got := read(t, tree, "deploy/a.yaml"); got != "kind: A" {
				t.Errorf("file holds %q", got)
			}
			if server.calls.Load() != 0 {
				t.Error("asked over HTTP for what the store has")
			}
		})
	}
}

// A data directory of 2.9 is opened before its source was reconciled.
func TestOpenAdoptsFromStore(t *testing.T) {
	dir := t.TempDir()
	body := tarball(t, "a 1")
	a := artifactOf(t, body)
	path := filepath.Join(dir, filepath.FromSlash(a.Path))
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, body, 0o600)); err != nil {
		t.Fatal(err)
	}
	server := &remote{}
	op := opener(t, open(t, dir, artifact.StoreOptions{}), t.TempDir(), artifact.OpenerOptions{Transport: server})
	tree, err := op.Open(t.Context(), a)
	if err != nil || server.calls.Load() != 0 {
		t.Fatalf("%v, %d requests", err, server.calls.Load())
	}
	tree.Close()
}

// What users see of a file is what the archive says of it, without the right to write. On disk there is one file, of ours alone.
func TestOpenIsReadOnly(t *testing.T) {
	dir, body := t.TempDir(), tarball(t, "dir/run.sh x")
	op := opener(t, nil, dir, artifact.OpenerOptions{Transport: &remote{body: body}})
	tree, err := op.Open(t.Context(), artifactOf(t, body))
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	for name, want := range map[string]fs.FileMode{".": fs.ModeDir | 0o550, "dir": fs.ModeDir | 0o550, "dir/run.sh": 0o400} {
		info, err := fs.Stat(tree.FS(), name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("%s has mode %s, want %s", name, info.Mode(), want)
		}
	}
	for _, info := range unpacked(t, dir) {
		if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %s", info.Name(), info.Mode())
		}
	}
}

// unpacked lists what a cache directory has of trees.
func unpacked(t *testing.T, dir string) []fs.FileInfo {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, "trees"))
	if err != nil {
		t.Fatal(err)
	}
	infos := make([]fs.FileInfo, len(entries))
	for i, e := range entries {
		if infos[i], err = e.Info(); err != nil {
			t.Fatal(err)
		}
	}
	return infos
}

// A tree that nobody uses holds no descriptor, and can be read again.
func TestIdleTreesAreClosed(t *testing.T) {
	body := tarball(t, "a 1")
	op := opener(t, nil, t.TempDir(), artifact.OpenerOptions{Transport: &remote{body: body}})
	visit := func() *artifact.Tree {
		t.Helper()
		tree, err := op.Open(t.Context(), artifactOf(t, body))
		if err != nil {
			t.Fatal(err)
		}
		return tree
	}
	one, two := visit(), visit()
	one.Close()
	if got := read(t, two, "a"); got != "1" {
		t.Errorf("file holds %q after another user has left", got)
	}
	two.Close()
	if _, err := fs.ReadFile(two.FS(), "a"); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("read after the last user has left: %v", err)
	}
	three := visit()
	defer three.Close()
	if got := read(t, three, "a"); got != "1" {
		t.Errorf("file holds %q", got)
	}
}

// Trees without content take memory, which has a limit of its own.
func TestIdleIndexLimit(t *testing.T) {
	dir := t.TempDir()
	op := opener(t, nil, dir, artifact.OpenerOptions{Transport: &remote{answer: func(_ int, r *http.Request) (*http.Response, error) {
		return reply(200, tarball(t, r.URL.Path[1:])), nil
	}}})
	op.LimitIdleIndexes(3000)
	for i := range 5 {
		name := fmt.Sprint(i)
		a := artifactOf(t, tarball(t, name))
		a.URL = "http://store.test/" + name
		tree, err := op.Open(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		tree.Close()
	}
	if trees, _ := left(t, dir); trees != 2 {
		t.Errorf("%d trees, want two of a good kilobyte each", trees)
	}
}

// Someone who cleans up temporary files costs an unpacking, and no error.
func TestOpenAfterCleanup(t *testing.T) {
	dir, body := t.TempDir(), tarball(t, "a 1")
	op := opener(t, nil, dir, artifact.OpenerOptions{Transport: &remote{body: body}})
	for range 2 {
		tree, err := op.Open(t.Context(), artifactOf(t, body))
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, tree, "a"); got != "1" {
			t.Errorf("file holds %q", got)
		}
		tree.Close()
		for _, info := range unpacked(t, dir) {
			if err := os.Remove(filepath.Join(dir, "trees", info.Name())); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := op.TrimCache(-time.Second); err != nil {
		t.Errorf("trim what is gone: %v", err)
	}
}

// Hundreds of openings of one digest cost one fetch and one unpacking.
func TestOpenOnceForMany(t *testing.T) {
	dir := t.TempDir()
	body := tarball(t, "a 1", "b 2")
	a := artifactOf(t, body)
	release := make(chan struct{})
	server := &remote{answer: func(int, *http.Request) (*http.Response, error) {
		<-release
		return reply(200, body), nil
	}}
	op := opener(t, nil, dir, artifact.OpenerOptions{Transport: server})
	var wg sync.WaitGroup
	trees := make([]*artifact.Tree, 300)
	for i := range trees {
		wg.Go(func() {
			tree, err := op.Open(t.Context(), a)
			if err != nil {
				t.Error(err)
				return
			}
			trees[i] = tree
		})
	}
	close(release)
	wg.Wait()
	if n, unfinished := left(t, dir); n != 1 || unfinished != 0 || server.calls.Load() != 1 {
		t.Errorf("%d trees, %d unfinished, %d requests", n, unfinished, server.calls.Load())
	}
	for _, tree := range trees {
		wg.Go(func() {
			if err := errors.Join(tree.Close(), tree.Close()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if freed, err := op.TrimCache(-time.Second); freed == 0 || err != nil {
		t.Errorf("trimmed %d bytes, %v", freed, err)
	}
	if n, _ := left(t, dir); n != 0 {
		t.Errorf("%d trees left", n)
	}
}

func TestOpenOutlivesImpatientCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body := tarball(t, "a 1")
		a := artifactOf(t, body)
		cancelled := make(chan struct{}, 1)
		server := &remote{answer: func(call int, r *http.Request) (*http.Response, error) {
			select {
			case <-time.After(20 * time.Second):
				return reply(200, body), nil
			case <-r.Context().Done():
				cancelled <- struct{}{}
				return nil, r.Context().Err()
			}
		}}
		op := opener(t, nil, t.TempDir(), artifact.OpenerOptions{Transport: server})
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		first := make(chan error, 1)
		go func() {
			_, err := op.Open(impatient, a)
			first <- err
		}()
		synctest.Wait()
		tree, err := op.Open(t.Context(), a)
		if err != nil {
			t.Fatalf("the patient caller: %v", err)
		}
		if err := <-first; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the impatient caller: %v", err)
		}
		if err := tree.Close(); err != nil || len(cancelled) != 0 || server.calls.Load() != 1 {
			t.Errorf("%v, %d requests, %d cancelled", err, server.calls.Load(), len(cancelled))
		}
		if _, err := op.TrimCache(-time.Second); err != nil {
			t.Fatal(err)
		}

		alone, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = op.Open(alone, a)
		if !errors.Is(err, context.DeadlineExceeded) || len(cancelled) != 1 {
			t.Errorf("the last caller: %v, %d cancelled", err, len(cancelled))
		}
	})
}

// kustomization 22
func TestFetchRetries(t *testing.T) {
	body := tarball(t, "a 1")
	refused := errors.New("connection refused")
	status := func(codes ...int) func(int, *http.Request) (*http.Response, error) {
		return func(call int, _ *http.Request) (*http.Response, error) {
			if call > len(codes) {
				return reply(200, body), nil
			}
			return reply(codes[call-1], nil), nil
		}
	}
	for _, tc := range []struct {
		name      string
		answer    func(int, *http.Request) (*http.Response, error)
		wantErr   error
		wantText  string
		wantCalls int32
		wantTime  time.Duration
	}{
		{"at once", status(), nil, "", 1, 0},
		{"server errors pass", status(500, 503, 429, 502), nil, "", 5, (5 + 10 + 20 + 30) * time.Second},
		{"no connection passes", func(call int, _ *http.Request) (*http.Response, error) {
			if call == 1 {
				return nil, refused
			}
			return reply(200, body), nil
		}, nil, "", 2, 5 * time.Second},
		{"nine retries", func(int, *http.Request) (*http.Response, error) { return nil, refused },
			refused, "fetch from 'store.test'", 10, (5 + 10 + 20 + 6*30) * time.Second},
		{"not found", status(404), artifact.ErrNotFound, "artifact not found", 1, 0},
		{"gone", status(410), artifact.ErrNotFound, "artifact not found", 1, 0},
		{"forbidden", status(403), nil, "403 Forbidden", 1, 0},
		{"silent server", func(call int, r *http.Request) (*http.Response, error) {
			if call == 1 {
				<-r.Context().Done()
				return nil, r.Context().Err()
			}
			return reply(200, body), nil
		}, nil, "", 2, (30 + 5) * time.Second},
		{"stalled body", func(call int, r *http.Request) (*http.Response, error) {
			if call == 1 {
				response := reply(200, nil)
				response.Body = io.NopCloser(&stalled{first: body[:10], ctx: r.Context()})
				return response, nil
			}
			return reply(200, body), nil
		}, nil, "", 2, (30 + 5) * time.Second},
		{"cut body", func(call int, r *http.Request) (*http.Response, error) {
			if call == 1 {
				response := reply(200, nil)
				response.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body[:10]), broken{}))
				return response, nil
			}
			return reply(200, body), nil
		}, nil, "", 2, 5 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				server := &remote{answer: tc.answer}
				op := opener(t, nil, dir, artifact.OpenerOptions{Transport: server, Retries: artifact.DefaultRetries})
				start := time.Now()
				tree, err := op.Open(t.Context(), artifactOf(t, body))
				if took := time.Since(start); took != tc.wantTime {
					t.Errorf("took %s, want %s", took, tc.wantTime)
				}
				if server.calls.Load() != tc.wantCalls {
					t.Errorf("%d requests, want %d", server.calls.Load(), tc.wantCalls)
				}
				if tc.wantText == "" {
					if err != nil {
						t.Fatal(err)
					}
					tree.Close()
					return
				}
				if err == nil || !strings.Contains(err.Error(), tc.wantText) || (tc.wantErr != nil && !errors.Is(err, tc.wantErr)) {
					t.Errorf("error %v, want %q", err, tc.wantText)
				}
				if trees, unfinished := left(t, dir); trees+unfinished != 0 {
					t.Errorf("left %d trees, %d unfinished files", trees, unfinished)
				}
			})
		})
	}
}

type stalled struct {
	first []byte
	ctx   context.Context
}

func (s *stalled) Read(p []byte) (int, error) {
	if len(s.first) > 0 {
		n := copy(p, s.first)
		s.first = s.first[n:]
		return n, nil
	}
	<-s.ctx.Done()
	return 0, s.ctx.Err()
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestFetchTellsWhatItWasStuckOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &remote{answer: func(int, *http.Request) (*http.Response, error) { return nil, errors.New("connection refused") }}
		op := opener(t, nil, t.TempDir(), artifact.OpenerOptions{Transport: server, Retries: 9})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := op.Open(ctx, artifactOf(t, tarball(t, "a 1")))
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("error %v", err)
		}
	})
}

// kustomization 23, reliability 041
func TestFetchRefuses(t *testing.T) {
	body := tarball(t, "a 1")
	escape := tarball(t, "../../outside 1")
	size := func(n int64) func(*meta.Artifact) { return func(a *meta.Artifact) { a.Size = &n } }
	for _, tc := range []struct {
		name    string
		body    []byte
		change  func(*meta.Artifact)
		options artifact.OpenerOptions
		want    error
		calls   int32
	}{
		{"other content", tarball(t, "a 2"), size(1 << 20), artifact.OpenerOptions{Retries: 9}, artifact.ErrMismatch, 1},
		{"larger than announced", body, size(10), artifact.OpenerOptions{Retries: 9}, artifact.ErrTooLarge, 1},
		{"larger than allowed", body, func(a *meta.Artifact) { a.Size = nil }, artifact.OpenerOptions{MaxBytes: 10}, artifact.ErrTooLarge, 1},
		{"no digest", body, func(a *meta.Artifact) { a.Digest = "" }, artifact.OpenerOptions{}, artifact.ErrMismatch, 0},
		{"unknown digest", body, func(a *meta.Artifact) { a.Digest = "md5:00" }, artifact.OpenerOptions{}, artifact.ErrMismatch, 0},
		{"upper-case digest", body, func(a *meta.Artifact) { a.Digest = strings.ToUpper(a.Digest) }, artifact.OpenerOptions{}, artifact.ErrMismatch, 0},
		{"host not allowed", body, nil, artifact.OpenerOptions{AllowHost: func(h string) bool { return h == "other.test" }}, artifact.ErrHostDenied, 0},
		{"file URL", body, func(a *meta.Artifact) { a.URL = "file:///etc/passwd" }, artifact.OpenerOptions{}, artifact.ErrHostDenied, 0},
		{"no URL", body, func(a *meta.Artifact) { a.URL = "" }, artifact.OpenerOptions{}, artifact.ErrHostDenied, 0},
		{"broken URL", body, func(a *meta.Artifact) { a.URL = "http://u:hunter2@h:port/" }, artifact.OpenerOptions{}, artifact.ErrHostDenied, 0},
		{"escaping archive", escape, nil, artifact.OpenerOptions{}, archive.ErrUnsafe, 1},
		{"archive beyond limits", body, nil, artifact.OpenerOptions{Limits: &archive.Limits{Bytes: 1}}, archive.ErrUnsafe, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			a := artifactOf(t, body)
			if bytes.Equal(tc.body, escape) {
				a = artifactOf(t, escape)
			}
			if tc.change != nil {
				tc.change(a)
			}
			server := &remote{body: tc.body}
			tc.options.Transport = server
			op := opener(t, nil, dir, tc.options)
			_, err := op.Open(t.Context(), a)
			if !errors.Is(err, tc.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("error %v, want %v", err, tc.want)
			}
			if server.calls.Load() != tc.calls {
				t.Errorf("%d requests, want %d", server.calls.Load(), tc.calls)
			}
			if trees, unfinished := left(t, dir); trees+unfinished != 0 {
				t.Errorf("left %d trees, %d unfinished files", trees, unfinished)
			}
		})
	}
	t.Run("no artifact", func(t *testing.T) {
		op := opener(t, nil, t.TempDir(), artifact.OpenerOptions{})
		if _, err := op.Open(t.Context(), nil); !errors.Is(err, artifact.ErrNotFound) {
			t.Errorf("error %v", err)
		}
	})
}

func TestFetchRedirects(t *testing.T) {
	body := tarball(t, "a 1")
	redirect := func(to string) func(int, *http.Request) (*http.Response, error) {
		return func(_ int, r *http.Request) (*http.Response, error) {
			if r.URL.Host == "mirror.test" {
				return reply(200, body), nil
			}
			response := reply(302, nil)
			response.Header.Set("Location", to)
			return response, nil
		}
	}
	allowed := func(host string) bool { return host == "store.test" || host == "mirror.test" }
	for to, want := range map[string]error{
		"http://mirror.test/f": nil, "http://evil.test/f": artifact.ErrHostDenied, "ftp://mirror.test/f": artifact.ErrHostDenied,
	} {
		server := &remote{answer: redirect(to)}
		op := opener(t, nil, t.TempDir(), artifact.OpenerOptions{Transport: server, AllowHost: allowed, Retries: 9})
		if tree, err := op.Open(t.Context(), artifactOf(t, body)); !errors.Is(err, want) {
			t.Errorf("redirect to %s: %v, want %v", to, err, want)
		} else if err == nil {
			tree.Close()
		}
	}
}

// kustomization 24
func TestFetchHostOverrides(t *testing.T) {
	hosts := artifact.HostOverrides{SourceController: "127.0.0.1:1", SourceWatcher: "127.0.0.1:2"}
	for _, tc := range []struct {
		hosts     artifact.HostOverrides
		url, want string
	}{
		{hosts, "http://source-controller.flux-system.svc.cluster.local./gitrepository/a/b/c", "127.0.0.1:1"},
		{hosts, "http://source-watcher.flux-system.svc.cluster.local./externalartifact/a/b/c", "127.0.0.1:2"},
		{artifact.HostOverrides{SourceController: "127.0.0.1:1"}, "http://source-watcher.flux-system/x", "source-watcher.flux-system"},
		{artifact.HostOverrides{}, "http://store.test:9090/x", "store.test:9090"},
	} {
		body := tarball(t, "a 1")
		server := &remote{body: body}
		op := opener(t, nil, t.TempDir(), artifact.OpenerOptions{Transport: server, Hosts: tc.hosts, UserAgent: "kustomize-controller/v1"})
		a := artifactOf(t, body)
		a.URL = tc.url
		tree, err := op.Open(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		tree.Close()
		r := server.seen[0]
		if r.URL.Host != tc.want || r.UserAgent() != "kustomize-controller/v1" || r.Header.Get("Accept-Encoding") != "identity" {
			t.Errorf("%s: asked %s with %v, want %s", tc.url, r.URL.Host, r.Header, tc.want)
		}
	}
}

// Equal content under a URL that is gone does not fail the one that is there.
func TestOpenSharesByURLToo(t *testing.T) {
	body := tarball(t, "a 1")
	both := make(chan struct{}, 2)
	server := &remote{answer: func(_ int, r *http.Request) (*http.Response, error) {
		both <- struct{}{}
		for len(both) < 2 {
			time.Sleep(time.Millisecond)
		}
		if r.URL.Host == "gone.test" {
			return reply(404, nil), nil
		}
		return reply(200, body), nil
	}}
	dir := t.TempDir()
	op := opener(t, nil, dir, artifact.OpenerOptions{Transport: server})
	gone := artifactOf(t, body)
	gone.URL = "http://gone.test/f"
	failed := make(chan error, 1)
	go func() {
		_, err := op.Open(t.Context(), gone)
		failed <- err
	}()
	tree, err := op.Open(t.Context(), artifactOf(t, body))
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	if err := <-failed; !errors.Is(err, artifact.ErrNotFound) {
		t.Errorf("error %v", err)
	}
	again, err := op.Open(t.Context(), gone)
	if trees, _ := left(t, dir); err != nil || trees != 1 {
		t.Fatalf("content that is here was not found by digest: %d trees, %v", trees, err)
	}
	again.Close()
}

func TestCacheLimits(t *testing.T) {
	dir := t.TempDir()
	clock := clocktesting.NewFakeClock(time.Unix(1000, 0))
	bodies := map[string][]byte{}
	server := &remote{answer: func(_ int, r *http.Request) (*http.Response, error) { return reply(200, bodies[r.URL.Path]), nil }}
	op := opener(t, nil, dir, artifact.OpenerOptions{
		Transport: server, Clock: clock, FileCacheBytes: -1,
		// A tree here is a block of content and an index of a kilobyte.
		TreeCacheBytes: 4 * (4096 + 1500),
	})
	visit := func(name string) *artifact.Tree {
		t.Helper()
		body := tarball(t, "name "+name)
		a := artifactOf(t, body)
		a.URL = "http://store.test/" + name
		bodies["/"+name] = body
		clock.Step(time.Second)
		tree, err := op.Open(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, tree, "name"); got != name {
			t.Errorf("%s holds %q", name, got)
		}
		return tree
	}
	held := visit("held")
	for _, name := range []string{"a", "b", "c", "a", "b", "a"} {
		visit(name).Close()
	}
	if calls := server.calls.Load(); calls != 4 {
		t.Errorf("%d fetches of 4 contents", calls)
	}
	for i := range 10 {
		visit(fmt.Sprint(i)).Close()
	}
	before := server.calls.Load()
	visit("9").Close()
	visit("a").Close()
	if fetched := server.calls.Load() - before; fetched != 1 {
		t.Errorf("%d fetches, want that of the one pushed out", fetched)
	}
	trees, unfinished := left(t, dir)
	if trees > 6 || unfinished != 0 {
		t.Errorf("%d trees, %d unfinished: beyond the limit", trees, unfinished)
	}
	if got := read(t, held, "name"); got != "held" {
		t.Errorf("the tree in use holds %q", got)
	}
	clock.Step(time.Hour)
	visit("fresh").Close()
	if _, err := op.TrimCache(time.Minute); err != nil {
		t.Fatal(err)
	}
	if trees, _ := left(t, dir); trees != 2 {
		t.Errorf("%d trees after trimming, want the one in use and the fresh one", trees)
	}
	held.Close()
}

func TestFileCacheLimit(t *testing.T) {
	dir := t.TempDir()
	clock := clocktesting.NewFakeClock(time.Unix(1000, 0))
	server := &remote{answer: func(_ int, r *http.Request) (*http.Response, error) {
		return reply(200, []byte(strings.Repeat(r.URL.Path, 100))), nil
	}}
	fetch := func(op *artifact.Opener, name string) {
		t.Helper()
		body := []byte(strings.Repeat("/"+name, 100))
		a := artifactOf(t, body)
		a.URL = "http://store.test/" + name
		clock.Step(time.Second)
		f, err := op.File(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, body) {
			t.Errorf("%s holds %d bytes, %v", name, len(got), err)
		}
	}
	options := artifact.OpenerOptions{Transport: server, Clock: clock, FileCacheBytes: 450}
	op := opener(t, nil, dir, options)
	for _, name := range []string{"a", "b", "a", "c", "a", "b"} {
		fetch(op, name)
	}
	if calls := server.calls.Load(); calls != 4 {
		t.Errorf("%d fetches, want a, b, c, and b again", calls)
	}
	if err := op.Close(); err != nil {
		t.Fatal(err)
	}
	op = opener(t, nil, dir, options)
	fetch(op, "b")
	if calls := server.calls.Load(); calls != 4 {
		t.Errorf("%d fetches after a restart, want what is there to be used", calls)
	}
	if freed, err := op.TrimCache(-time.Second); freed != 400 || err != nil {
		t.Errorf("trimmed %d bytes, %v", freed, err)
	}
}

func TestOpenerStart(t *testing.T) {
	dir := t.TempDir()
	readOnly := filepath.Join(dir, "trees", "left-by-a-killed-process", "sub")
	if err := errors.Join(os.MkdirAll(readOnly, 0o700), os.WriteFile(filepath.Join(readOnly, "f"), nil, 0o400), os.Chmod(readOnly, 0o500),
		os.MkdirAll(filepath.Join(dir, "tmp"), 0o700), os.WriteFile(filepath.Join(dir, "tmp", "half"), nil, 0o400)); err != nil {
		t.Fatal(err)
	}
	op := opener(t, nil, dir, artifact.OpenerOptions{})
	if trees, unfinished := left(t, dir); trees+unfinished != 0 {
		t.Errorf("%d trees and %d unfinished files of an earlier process", trees, unfinished)
	}
	if _, err := artifact.NewOpener(nil, dir, artifact.OpenerOptions{}); !errors.Is(err, artifact.ErrLocked) {
		t.Errorf("second opener: %v", err)
	}
	if err := op.Close(); err != nil {
		t.Error(err)
	}
	opener(t, nil, dir, artifact.OpenerOptions{})
}

// reliability 127: what is being read stays whole although retention removes it, and afterwards the answer is 404.
func TestOverTheWire(t *testing.T) {
	s := open(t, t.TempDir(), artifact.StoreOptions{RetentionRecords: 1})
	server := httptest.NewServer(nil)
	defer server.Close()
	server.Config.Handler = s.Handler()
	put := func(content string) *meta.Artifact {
		t.Helper()
		a, err := s.Put(t.Context(), app(content+".tar.gz"), func(w io.Writer) error {
			_, err := w.Write(tarball(t, "f "+content))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		a.URL = server.URL + "/" + a.Path
		return a
	}
	one := put("one")
	response, err := http.Get(one.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	two := put("two")
	if removed, err := s.Collect(t.Context(), app(""), two); len(removed) != 1 || err != nil {
		t.Fatalf("collected %v, %v", removed, err)
	}
	if data, err := io.ReadAll(response.Body); err != nil || int64(len(data)) != *one.Size {
		t.Errorf("transfer broke after %d bytes: %v", len(data), err)
	}
	op := opener(t, nil, t.TempDir(), artifact.OpenerOptions{})
	if _, err := op.Open(t.Context(), one); !errors.Is(err, artifact.ErrNotFound) {
		t.Errorf("collected artifact: %v", err)
	}
	tree, err := op.Open(t.Context(), two)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	if got := read(t, tree, "f"); got != "two" {
		t.Errorf("file holds %q", got)
	}
}

func FuzzParseDigest(f *testing.F) {
	for _, s := range []string{"", "sha256:", "sha1:040f06fd774092478d450774f5ba30c5da78acc8", "sha256:../../../etc/passwd", ":", "SHA256:00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := artifact.ParseDigest(s)
		if err != nil {
			if !errors.Is(err, artifact.ErrMismatch) {
				t.Errorf("%q: %v", s, err)
			}
			return
		}
		if diff := cmp.Diff(s, d.String()); diff != "" || strings.ContainsAny(d.Hex, "/.\\") {
			t.Errorf("%q is read as %q", s, d)
		}
	})
}

func TestDigests(t *testing.T) {
	for text, want := range map[artifact.Algo]string{
		artifact.SHA1:   "a9993e364706816aba3e25717850c26c9cd0d89d",
		artifact.SHA256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
		artifact.BLAKE3: "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85",
	} {
		h := text.New()
		_, _ = io.WriteString(h, "abc")
		if got := fmt.Sprintf("%x", h.Sum(nil)); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	for name, want := range map[string]bool{"sha256": true, "sha384": true, "sha512": true, "blake3": true, "sha1": false, "md5": false, "": false} {
		if _, err := artifact.ParseAlgo(name); (err == nil) != want {
			t.Errorf("wire 14: --artifact-digest-algo=%s: %v", name, err)
		}
	}
}

func BenchmarkOpenHit(b *testing.B) {
	body := tarball(b, "a 1")
	op := opener(b, nil, b.TempDir(), artifact.OpenerOptions{Transport: &remote{body: body}})
	a := artifactOf(b, body)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			tree, err := op.Open(b.Context(), a)
			if err != nil {
				b.Fatal(err)
			}
			tree.Close()
		}
	})
}

func BenchmarkOpenMiss(b *testing.B) {
	files := make([]string, 500)
	for i := range files {
		files[i] = fmt.Sprintf("dir-%d/file-%d.yaml %s", i%20, i, strings.Repeat("key: value\n", 100))
	}
	body := tarball(b, files...)
	s := open(b, b.TempDir(), artifact.StoreOptions{})
	a, err := s.Put(b.Context(), app("f.tar.gz"), func(w io.Writer) error {
		_, err := w.Write(body)
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	op := opener(b, s, b.TempDir(), artifact.OpenerOptions{TreeCacheBytes: -1})
	for b.Loop() {
		tree, err := op.Open(b.Context(), a)
		if err != nil {
			b.Fatal(err)
		}
		tree.Close()
	}
}
