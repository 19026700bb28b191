// Package artifacttest is the suite that every artifact store has to pass, whatever file system or options it works with.
package artifacttest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
)

// Store is what the suite asks of a store.
type Store interface {
	Put(ctx context.Context, name artifact.Name, write func(io.Writer) error) (*meta.Artifact, error)
	Exists(a *meta.Artifact) bool
	Verify(a *meta.Artifact) error
	Remove(a *meta.Artifact) error
	Collect(ctx context.Context, name artifact.Name, keep *meta.Artifact) ([]string, error)
	RemoveAll(kind, namespace, name string) (int, error)
	Alias(name artifact.Name, alias string) error
	URL(path string) string
	Handler() http.Handler
	Close() error
}

// Open opens a store in dir with the given options, of which it may change what it is about. It fails the test on an error.
type Open func(t *testing.T, dir string, o artifact.StoreOptions) Store

// Run runs the suite.
func Run(t *testing.T, open Open) {
	s := suite{open: open}
	t.Run("put", s.put)
	t.Run("put refuses", s.putRefuses)
	t.Run("failed put", s.failedPut)
	t.Run("replace", s.replace)
	t.Run("equal content", s.equalContent)
	t.Run("verify", s.verify)
	t.Run("reopen", s.reopen)
	t.Run("adopt 2.9", s.adopt)
	t.Run("retention records", s.retentionRecords)
	t.Run("retention ttl", s.retentionTTL)
	t.Run("retention times", s.retentionTimes)
	t.Run("retention exclusions", s.retentionExclusions)
	t.Run("remove all", s.removeAll)
	t.Run("alias", s.alias)
	t.Run("concurrency", s.concurrency)
}

type suite struct{ open Open }

var start = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// fixture is one open store with a clock.
type fixture struct {
	Store
	dir   string
	clock *clocktesting.FakePassiveClock
}

func (s suite) fixture(t *testing.T, dir string) *fixture {
	t.Helper()
	clock := clocktesting.NewFakePassiveClock(start)
	store := s.open(t, dir, artifact.StoreOptions{AdvertisedAddr: "store.test:9090", Clock: clock})
	t.Cleanup(func() { _ = store.Close() })
	return &fixture{Store: store, dir: dir, clock: clock}
}

func app(file string) artifact.Name {
	return artifact.Name{Kind: "GitRepository", Namespace: "apps", Object: "app", File: file}
}

func text(content string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, content)
		return err
	}
}

func (f *fixture) store(t *testing.T, name artifact.Name, content string) *meta.Artifact {
	t.Helper()
	a, err := f.Put(t.Context(), name, text(content))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// get returns what the server answers to a path.
func (f *fixture) get(path string) (int, string) {
	w := httptest.NewRecorder()
	f.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/"+path, nil))
	return w.Code, w.Body.String()
}

// files returns the names below kind directories, and what is left in the place for unfinished files.
func (f *fixture) files(t *testing.T) (names []string, unfinished int) {
	t.Helper()
	err := filepath.WalkDir(f.dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		relative, _ := filepath.Rel(f.dir, path)
		top, _, below := strings.Cut(filepath.ToSlash(relative), "/")
		switch {
		case top == "tmp":
			unfinished++
		case below && top != "blobs" && top != "records":
			names = append(names, filepath.ToSlash(relative))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names, unfinished
}

// blobs returns how many blobs there are.
func (f *fixture) blobs(t *testing.T) int {
	t.Helper()
	n := 0
	err := filepath.WalkDir(filepath.Join(f.dir, "blobs"), func(_ string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			n++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// wire 8, gitrepository 59, gitrepository 65
func (s suite) put(t *testing.T) {
	f := s.fixture(t, t.TempDir())
	a := f.store(t, app("abc.tar.gz"), "content")
	if a.Path != "gitrepository/apps/app/abc.tar.gz" || a.URL != "http://store.test:9090/"+a.Path || f.URL(a.Path) != a.URL {
		t.Errorf("path %q, URL %q", a.Path, a.URL)
	}
	if a.Size == nil || *a.Size != 7 || !a.LastUpdateTime.Time.Equal(start) {
		t.Errorf("size %v, time %v", a.Size, a.LastUpdateTime)
	}
	digest, err := artifact.ParseDigest(a.Digest)
	if err != nil {
		t.Fatal(err)
	}
	h := digest.Algo.New()
	_, _ = io.WriteString(h, "content")
	if got := fmt.Sprintf("%x", h.Sum(nil)); got != digest.Hex {
		t.Errorf("digest %s, want %s", a.Digest, got)
	}
	data, err := os.ReadFile(filepath.Join(f.dir, filepath.FromSlash(a.Path)))
	if err != nil || string(data) != "content" {
		t.Errorf("file holds %q, %v", data, err)
	}
	if info, err := os.Stat(filepath.Join(f.dir, filepath.FromSlash(a.Path))); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("gitrepository 64: mode of the file is %v, %v", info.Mode(), err)
	}
	if !f.Exists(a) || f.Verify(a) != nil {
		t.Errorf("exists %v, verify %v", f.Exists(a), f.Verify(a))
	}
	if code, body := f.get(a.Path); code != 200 || body != "content" {
		t.Errorf("served %d %q", code, body)
	}
	if _, unfinished := f.files(t); unfinished != 0 {
		t.Errorf("%d unfinished files", unfinished)
	}
}

func (s suite) putRefuses(t *testing.T) {
	f := s.fixture(t, t.TempDir())
	for _, name := range []artifact.Name{
		{Kind: "GitRepository", Namespace: "apps", Object: "app"},
		{Kind: "GitRepository", Namespace: "apps", File: "f"},
		{Kind: "GitRepository", Object: "app", File: "f"},
		{Namespace: "apps", Object: "app", File: "f"},
		{Kind: "blobs", Namespace: "apps", Object: "app", File: "f"},
		{Kind: "Tmp", Namespace: "apps", Object: "app", File: "f"},
		app("../f"), app(".."), app("a/b"), app(`a\b`), app(".hidden"), app("f.lock"), app("f\x00"), app(strings.Repeat("x", 256)),
	} {
		if _, err := f.Put(t.Context(), name, text("x")); err == nil {
			t.Errorf("%+v was stored", name)
		}
	}
	if names, unfinished := f.files(t); len(names)+unfinished != 0 {
		t.Errorf("left %v and %d unfinished", names, unfinished)
	}
}

// reliability 097
func (s suite) failedPut(t *testing.T) {
	f := s.fixture(t, t.TempDir())
	before := f.store(t, app("f"), "old")
	broken := errors.New("clone ended early")
	_, err := f.Put(t.Context(), app("f"), func(w io.Writer) error {
		_, _ = io.WriteString(w, "half")
		return broken
	})
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "gitrepository/apps/app/f") {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err = f.Put(ctx, app("f"), func(w io.Writer) error {
		cancel()
		_, err := io.WriteString(w, "half")
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if err := f.Verify(before); err != nil {
		t.Error(err)
	}
	if names, unfinished := f.files(t); len(names) != 1 || unfinished != 0 {
		t.Errorf("left %v and %d unfinished", names, unfinished)
	}
}

func (s suite) replace(t *testing.T) {
	f := s.fixture(t, t.TempDir())
	before := f.store(t, app("chart-1.tgz"), "old")
	after := f.store(t, app("chart-1.tgz"), "new")
	if err := f.Verify(after); err != nil {
		t.Error(err)
	}
	if err := f.Verify(before); !errors.Is(err, artifact.ErrMismatch) {
		t.Errorf("replaced artifact: %v", err)
	}
	if _, body := f.get(after.Path); body != "new" {
		t.Errorf("served %q", body)
	}
	if n := f.blobs(t); n > 1 {
		t.Errorf("%d blobs, the replaced one stayed", n)
	}
}

// gitrepository 65: the same content under another commit has the same digest.
func (s suite) equalContent(t *testing.T) {
	f := s.fixture(t, t.TempDir())
	one := f.store(t, app("1"), "same")
	two := f.store(t, app("2"), "same")
	again := f.store(t, app("2"), "same")
	if one.Digest != two.Digest || two.Digest != again.Digest {
		t.Errorf("digests %s, %s, %s", one.Digest, two.Digest, again.Digest)
	}
	if n := f.blobs(t); n > 1 {
		t.Errorf("%d blobs for one content", n)
	}
	if err := f.Remove(one); err != nil {
		t.Fatal(err)
	}
	if err := f.Remove(one); err != nil {
		t.Errorf("second removal: %v", err)
	}
	if err := f.Verify(two); err != nil {
		t.Errorf("the other name lost its content: %v", err)
	}
	if err := f.Remove(two); err != nil {
		t.Fatal(err)
	}
	if n := f.blobs(t); n != 0 {
		t.Errorf("%d blobs without names", n)
	}
}

// gitrepository 8
func (s suite) verify(t *testing.T) {
	f := s.fixture(t, t.TempDir())
	a := f.store(t, app("f"), "content")
	with := func(change func(*meta.Artifact)) *meta.Artifact {
		b := a.DeepCopy()
		change(b)
		return b
	}
	for _, tc := range []struct {
		name string
		a    *meta.Artifact
		want error
	}{
		{"good", a, nil},
		{"nil", nil, artifact.ErrNotFound},
		{"no digest", with(func(b *meta.Artifact) { b.Digest = "" }), artifact.ErrMismatch},
		{"unparseable digest", with(func(b *meta.Artifact) { b.Digest = "sha256:zz" }), artifact.ErrMismatch},
		{"other digest", with(func(b *meta.Artifact) { b.Digest = "sha256:" + strings.Repeat("0", 64) }), artifact.ErrMismatch},
		{"other algorithm", with(func(b *meta.Artifact) { b.Digest = "sha1:040f06fd774092478d450774f5ba30c5da78acc8" }), nil},
		{"other path", with(func(b *meta.Artifact) { b.Path = "gitrepository/apps/app/g" }), artifact.ErrNotFound},
		{"path outside", with(func(b *meta.Artifact) { b.Path = "../../etc/passwd" }), artifact.ErrNotFound},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := f.Verify(tc.a); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
	path := filepath.Join(f.dir, filepath.FromSlash(a.Path))
	if err := os.WriteFile(path, []byte("tampered"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.Verify(a); !errors.Is(err, artifact.ErrMismatch) {
		t.Errorf("tampered file: %v", err)
	}
	if code, body := f.get(a.Path); code != 404 {
		t.Errorf("tampered file is served: %d %q", code, body)
	}
	// Storing the right content again repairs the name, and the blob that other names will share.
	again := f.store(t, app("f"), "content")
	other := f.store(t, app("g"), "content")
	if err := errors.Join(f.Verify(again), f.Verify(other)); err != nil {
		t.Errorf("not repaired: %v", err)
	}
}

// reliability 126
func (s suite) reopen(t *testing.T) {
	dir := t.TempDir()
	f := s.fixture(t, dir)
	one, two := f.store(t, app("1"), "one"), f.store(t, app("2"), "two")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "tmp", "draft-of-a-killed-process"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, filepath.FromSlash(two.Path)), []byte("rot"), 0o600); err != nil {
		t.Fatal(err)
	}
	f = s.fixture(t, dir)
	if err := f.Verify(one); err != nil {
		t.Error(err)
	}
	if err := f.Verify(two); !errors.Is(err, artifact.ErrMismatch) {
		t.Errorf("rotten file: %v", err)
	}
	if _, unfinished := f.files(t); unfinished != 0 {
		t.Errorf("%d unfinished files after a start", unfinished)
	}
}

// A data directory of 2.9: files, a lock left by a killed process (reliability 128), a link.
func (s suite) adopt(t *testing.T) {
	dir := t.TempDir()
	base := filepath.Join(dir, "ocirepository", "apps", "app")
	if err := os.MkdirAll(base, 0o700); err != nil {
		t.Fatal(err)
	}
	for file, content := range map[string]string{"sha256:aa.tar.gz": "content", "sha256:aa.tar.gz.lock": "", "sha256:bb.tar.gz": "other"} {
		if err := os.WriteFile(filepath.Join(base, file), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("sha256:aa.tar.gz", filepath.Join(base, "latest.tar.gz")); err != nil {
		t.Fatal(err)
	}
	f := s.fixture(t, dir)
	a := &meta.Artifact{
		Path:   "ocirepository/apps/app/sha256:aa.tar.gz",
		Digest: "sha256:ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73",
	}
	for _, path := range []string{a.Path, "ocirepository/apps/app/latest.tar.gz"} {
		if code, body := f.get(path); code != 200 || body != "content" {
			t.Errorf("%s: served %d %q", path, code, body)
		}
	}
	if code, _ := f.get(a.Path + ".lock"); code != 404 {
		t.Errorf("lock file answered %d", code)
	}
	if err := f.Verify(a); err != nil {
		t.Error(err)
	}
	wrong := a.DeepCopy()
	wrong.Path = "ocirepository/apps/app/sha256:bb.tar.gz"
	if err := f.Verify(wrong); !errors.Is(err, artifact.ErrMismatch) {
		t.Errorf("foreign content: %v", err)
	}
	next := f.store(t, artifact.Name{Kind: "OCIRepository", Namespace: "apps", Object: "app", File: "sha256:cc.tar.gz"}, "new")
	f.clock.SetTime(time.Now().Add(time.Hour))
	removed, err := f.Collect(t.Context(), artifact.Name{Kind: "OCIRepository", Namespace: "apps", Object: "app"}, next)
	slices.Sort(removed)
	if diff := cmp.Diff([]string{a.Path, wrong.Path}, removed); diff != "" || err != nil {
		t.Errorf("collected (-want +got):\n%s%v", diff, err)
	}
	if names, _ := f.files(t); len(names) != 3 {
		t.Errorf("left %v, want the new file, the link and the lock file", names)
	}
}

// gitrepository 7, and recording gitrepository/retention-two-records: collection before each new artifact leaves three.
func (s suite) retentionRecords(t *testing.T) {
	f := s.fixture(t, t.TempDir())
	var current *meta.Artifact
	var removed []string
	for i := range 4 {
		gone, err := f.Collect(t.Context(), app(""), current)
		if err != nil {
			t.Fatal(err)
		}
		removed = append(removed, gone...)
		current = f.store(t, app(fmt.Sprint(i)), fmt.Sprint(i))
	}
	if diff := cmp.Diff([]string{"gitrepository/apps/app/0"}, removed); diff != "" {
		t.Errorf("removed (-want +got):\n%s", diff)
	}
	for i, want := range []int{404, 200, 200, 200} {
		if code, _ := f.get(fmt.Sprintf("gitrepository/apps/app/%d", i)); code != want {
			t.Errorf("artifact %d answers %d, want %d", i, code, want)
		}
	}
}

// gitrepository 7
func (s suite) retentionTTL(t *testing.T) {
	f := s.fixture(t, t.TempDir())
	f.store(t, app("old"), "old")
	f.clock.SetTime(start.Add(50 * time.Second))
	current := f.store(t, app("new"), "new")
	for _, step := range []struct {
		at   time.Duration
		want []string
	}{{60 * time.Second, nil}, {61 * time.Second, []string{"gitrepository/apps/app/old"}}, {time.Hour, nil}} {
		f.clock.SetTime(start.Add(step.at))
		removed, err := f.Collect(t.Context(), app(""), current)
		if diff := cmp.Diff(step.want, removed); diff != "" || err != nil {
			t.Errorf("after %s (-want +got):\n%s%v", step.at, diff, err)
		}
	}
	if err := f.Verify(current); err != nil {
		t.Errorf("the current artifact is gone: %v", err)
	}
	removed, err := f.Collect(t.Context(), app(""), nil)
	if len(removed) != 1 || err != nil {
		t.Errorf("without a current artifact removed %v, %v", removed, err)
	}
	if removed, err := f.Collect(t.Context(), artifact.Name{Kind: "k", Namespace: "n", Object: "never stored"}, nil); len(removed) != 0 || err != nil {
		t.Errorf("unknown object: %v, %v", removed, err)
	}
}

// reliability 130: files whose times are equal, in 1970 or in 2037, and a clock that steps.
func (s suite) retentionTimes(t *testing.T) {
	for _, tc := range []struct {
		name string
		time time.Time
	}{{"equal", start}, {"1970", time.Unix(0, 0)}, {"2037", time.Date(2037, 1, 1, 0, 0, 0, 0, time.UTC)}} {
		t.Run(tc.name, func(t *testing.T) {
			f := s.fixture(t, t.TempDir())
			var current *meta.Artifact
			for i := range 6 {
				current = f.store(t, app(fmt.Sprint(i)), fmt.Sprint(i))
				if err := os.Chtimes(filepath.Join(f.dir, filepath.FromSlash(current.Path)), tc.time, tc.time); err != nil {
					t.Fatal(err)
				}
			}
			removed, err := f.Collect(t.Context(), app(""), current)
			want := []string{"gitrepository/apps/app/0", "gitrepository/apps/app/1", "gitrepository/apps/app/2", "gitrepository/apps/app/3"}
			if diff := cmp.Diff(want, removed); diff != "" || err != nil {
				t.Errorf("removed (-want +got):\n%s%v", diff, err)
			}
		})
	}
	t.Run("clock steps back", func(t *testing.T) {
		f := s.fixture(t, t.TempDir())
		f.store(t, app("old"), "old")
		current := f.store(t, app("new"), "new")
		f.clock.SetTime(start.Add(-24 * time.Hour))
		if removed, err := f.Collect(t.Context(), app(""), current); len(removed) != 0 || err != nil {
			t.Errorf("a day before it was stored: removed %v, %v", removed, err)
		}
		f.clock.SetTime(start.Add(-24*time.Hour + 2*time.Minute))
		if removed, err := f.Collect(t.Context(), app(""), current); len(removed) != 1 || err != nil {
			t.Errorf("two minutes later: removed %v, %v", removed, err)
		}
	})
	t.Run("2.9 left files of the future", func(t *testing.T) {
		dir := t.TempDir()
		base := filepath.Join(dir, "gitrepository", "apps", "app")
		if err := os.MkdirAll(base, 0o700); err != nil {
			t.Fatal(err)
		}
		for _, file := range []string{"b", "a", "c"} {
			path := filepath.Join(base, file)
			future := start.Add(1000 * time.Hour)
			if err := errors.Join(os.WriteFile(path, []byte(file), 0o600), os.Chtimes(path, future, future)); err != nil {
				t.Fatal(err)
			}
		}
		f := s.fixture(t, dir)
		current := f.store(t, app("current"), "current")
		removed, err := f.Collect(t.Context(), app(""), current)
		if diff := cmp.Diff([]string{"gitrepository/apps/app/a", "gitrepository/apps/app/b"}, removed); diff != "" || err != nil {
			t.Errorf("removed (-want +got):\n%s%v", diff, err)
		}
		f.clock.SetTime(start.Add(2 * time.Minute))
		removed, err = f.Collect(t.Context(), app(""), current)
		if diff := cmp.Diff([]string{"gitrepository/apps/app/c"}, removed); diff != "" || err != nil {
			t.Errorf("later removed (-want +got):\n%s%v", diff, err)
		}
	})
	t.Run("ages survive a restart", func(t *testing.T) {
		dir := t.TempDir()
		f := s.fixture(t, dir)
		// Equal content: the file is as old as the first name, the second name is not.
		f.store(t, app("1"), "same")
		f.clock.SetTime(start.Add(time.Hour))
		f.store(t, app("2"), "same")
		current := f.store(t, app("3"), "current")
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		f = s.fixture(t, dir)
		f.clock.SetTime(start.Add(time.Hour + 30*time.Second))
		removed, err := f.Collect(t.Context(), app(""), current)
		if diff := cmp.Diff([]string{"gitrepository/apps/app/1"}, removed); diff != "" || err != nil {
			t.Errorf("removed (-want +got):\n%s%v", diff, err)
		}
	})
}

// gitrepository 7: lock files and links are ignored, the walk is capped.
func (s suite) retentionExclusions(t *testing.T) {
	f := s.fixture(t, t.TempDir())
	current := f.store(t, app("current"), "current")
	base := filepath.Join(f.dir, "gitrepository", "apps", "app")
	if err := errors.Join(os.WriteFile(filepath.Join(base, "x.lock"), nil, 0o600), os.Symlink("current", filepath.Join(base, "link"))); err != nil {
		t.Fatal(err)
	}
	for i := range 1100 {
		if err := os.WriteFile(filepath.Join(base, fmt.Sprintf("left-%d", i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f.clock.SetTime(time.Now().Add(time.Hour))
	first, err := f.Collect(t.Context(), app(""), current)
	if err != nil || len(first) > 1000 || len(first) < 900 {
		t.Errorf("first walk removed %d, %v", len(first), err)
	}
	second, err := f.Collect(t.Context(), app(""), current)
	if err != nil || len(first)+len(second) != 1100 {
		t.Errorf("both walks removed %d, %v", len(first)+len(second), err)
	}
	if names, _ := f.files(t); len(names) != 3 {
		t.Errorf("left %v", names)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f.store(t, app("one more"), "one more")
	f.clock.SetTime(time.Now().Add(3 * time.Hour))
	if removed, err := f.Collect(ctx, app(""), current); len(removed) != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("after its time was up removed %v, %v", removed, err)
	}
}

// gitrepository 73
func (s suite) removeAll(t *testing.T) {
	f := s.fixture(t, t.TempDir())
	f.store(t, app("1"), "same")
	f.store(t, app("2"), "two")
	if err := f.Alias(app("2"), "latest.tar.gz"); err != nil {
		t.Fatal(err)
	}
	other := f.store(t, artifact.Name{Kind: "GitRepository", Namespace: "apps", Object: "app-2", File: "1"}, "same")
	n, err := f.RemoveAll("GitRepository", "apps", "app")
	if n != 2 || err != nil {
		t.Errorf("removed %d, %v", n, err)
	}
	if names, _ := f.files(t); len(names) != 1 {
		t.Errorf("left %v", names)
	}
	if err := f.Verify(other); err != nil {
		t.Errorf("the other object lost its artifact: %v", err)
	}
	if n, err := f.RemoveAll("GitRepository", "apps", "app"); n != 0 || err != nil {
		t.Errorf("second time removed %d, %v", n, err)
	}
	for _, name := range []string{"..", "", "a/b"} {
		if _, err := f.RemoveAll("GitRepository", "apps", name); err == nil {
			t.Errorf("name %q accepted", name)
		}
	}
	if n, err := f.RemoveAll("GitRepository", "apps", "app-2"); n != 1 || err != nil || f.blobs(t) != 0 {
		t.Errorf("removed %d, %v, %d blobs left", n, err, f.blobs(t))
	}
}

// wire 8: latest.tar.gz and index.yaml
func (s suite) alias(t *testing.T) {
	f := s.fixture(t, t.TempDir())
	for _, content := range []string{"1", "2", "2"} {
		f.store(t, app(content), content)
		if err := f.Alias(app(content), "latest.tar.gz"); err != nil {
			t.Fatal(err)
		}
		if code, body := f.get("gitrepository/apps/app/latest.tar.gz"); code != 200 || body != content {
			t.Errorf("alias answers %d %q, want %q", code, body, content)
		}
	}
	if target, err := os.Readlink(filepath.Join(f.dir, "gitrepository", "apps", "app", "latest.tar.gz")); target != "2" || err != nil {
		t.Errorf("link to %q, %v", target, err)
	}
	for _, alias := range []string{"", "../x", "x.lock"} {
		if err := f.Alias(app("1"), alias); err == nil {
			t.Errorf("alias %q accepted", alias)
		}
	}
}

func (s suite) concurrency(t *testing.T) {
	f := s.fixture(t, t.TempDir())
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			name := artifact.Name{Kind: "GitRepository", Namespace: "apps", Object: fmt.Sprintf("app-%d", worker%4)}
			for i := range 20 {
				name.File = fmt.Sprint(i % 5)
				a, err := f.Put(t.Context(), name, text(fmt.Sprintf("content %d", i%3)))
				if err != nil {
					t.Errorf("put: %v", err)
					return
				}
				if _, err := f.Collect(t.Context(), name, a); err != nil {
					t.Errorf("collect: %v", err)
				}
				if worker == 0 && i%7 == 0 {
					if _, err := f.RemoveAll(name.Kind, name.Namespace, name.Object); err != nil {
						t.Errorf("remove: %v", err)
					}
				}
				f.get(a.Path)
			}
		})
	}
	wg.Wait()
	for worker := range 4 {
		if _, err := f.RemoveAll("GitRepository", "apps", fmt.Sprintf("app-%d", worker)); err != nil {
			t.Error(err)
		}
	}
	if names, unfinished := f.files(t); len(names)+unfinished+f.blobs(t) != 0 {
		t.Errorf("left %v, %d unfinished, %d blobs", names, unfinished, f.blobs(t))
	}
}
