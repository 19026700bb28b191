package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/testkit"
)

// noise is text that does not compress, the same for the same run.
func (a *arena) noise(size int) string {
	b := make([]byte, size)
	source := rand.NewChaCha8([32]byte{byte(*seed)})
	_, _ = source.Read(b)
	return string(b)
}

// watched creates a source of a repository of its own that looks every second.
func (a *arena) watched(t *testing.T, files map[string]*testkit.GitFile) *scene {
	t.Helper()
	s := a.newScene(t)
	revision := s.push(files)
	s.create(&sourcev1.GitRepository{ObjectMeta: s.meta(), Spec: sourcev1.GitRepositorySpec{
		URL: a.git.URL + "/" + s.name + ".git", Interval: "1s", Timeout: "30s", Ref: &sourcev1.GitRepositoryRef{Branch: "main"},
	}})
	s.awaitArtifact(revision)
	return s
}

// change commits another content and returns the artifact it becomes.
func change(s *scene, content string) *meta.Artifact {
	s.t.Helper()
	s.awaitArtifact(s.push(map[string]*testkit.GitFile{"change.txt": {Content: content}}))
	return offered(s)
}

func offered(s *scene) *meta.Artifact {
	s.t.Helper()
	o := s.gitRepository()
	await(s, &sourcev1.GitRepositoryList{}, o, func(found *sourcev1.GitRepository) string {
		if found == nil || found.Status.Artifact == nil {
			return "it has no artifact"
		}
		o = found
		return ""
	})
	return o.Status.Artifact
}

// whole fails unless the artifact is served with the digest it is advertised with.
func whole(t *testing.T, a *meta.Artifact) {
	t.Helper()
	resp, err := http.Get(a.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	checkDigest(t, a, resp.StatusCode, resp.Body)
}

func checkDigest(t *testing.T, a *meta.Artifact, code int, body io.Reader) {
	t.Helper()
	h := sha256.New()
	n, err := io.Copy(h, body)
	if got := "sha256:" + hex.EncodeToString(h.Sum(nil)); err != nil || code != http.StatusOK || got != a.Digest {
		t.Errorf("%s answers %d with %d bytes of digest %s, %v, want %s", a.URL, code, n, got, err, a.Digest)
	}
}

// files are the names that the store offers for the scene.
func (a *arena) files(s *scene) []string {
	entries, err := os.ReadDir(filepath.Join(a.storage, "gitrepository", a.namespace, s.name))
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// server is reliability 077: what the artifact server shows to whom, and what it takes to keep it from serving.
func (a *arena) server(t *testing.T) {
	artifact := offered(a.ctl)
	base := "http://" + a.sut.StorageAddr
	get := func(method, path string) (int, string) {
		t.Helper()
		// What url.Parse would clean stays as it is.
		req := &http.Request{Method: method, URL: &url.URL{Scheme: "http", Host: a.sut.StorageAddr, Opaque: "//" + a.sut.StorageAddr + path}, Header: http.Header{}}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatalf("%s %s: %v", method, path, err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		return resp.StatusCode, string(body)
	}
	if code, body := get(http.MethodGet, "/"); code != http.StatusOK || strings.Contains(body, "gitrepository") {
		t.Errorf("/ answers %d %q", code, body)
	}
	dir := "/gitrepository/" + a.namespace + "/" + a.ctl.name
	for _, path := range []string{
		"/gitrepository", "/gitrepository/", dir, dir + "/", dir + "/.", dir + "/../" + a.ctl.name + "/", "/blobs/", "/blobs/sha256/", "/records/", "/tmp/", "/.lock",
		"/../../etc/passwd", "/..%2f..%2f..%2fetc/passwd", "/%2e%2e/%2e%2e/%2e%2e/etc/passwd", dir + "/..%2f..%2f..%2f..%2fflux.log",
		dir + "/%00", dir + `/..\..\x`, "/" + artifact.Path + ".lock", "/" + artifact.Path + "/", "//" + artifact.Path, "/blobs/sha256/" + strings.TrimPrefix(artifact.Digest, "sha256:"),
	} {
		if code, body := get(http.MethodGet, path); code != http.StatusNotFound && code != http.StatusBadRequest || strings.Contains(body, ".tar.gz") {
			t.Errorf("%s answers %d %.200q", path, code, body)
		}
	}
	for _, method := range []string{http.MethodPut, http.MethodPost, http.MethodDelete, http.MethodPatch, "MKCOL"} {
		if code, _ := get(method, "/"+artifact.Path); code != http.StatusMethodNotAllowed {
			t.Errorf("%s answers %d", method, code)
		}
	}
	stop := a.watchControl(t)
	defer stop()
	for range 2000 {
		c, err := net.Dial("tcp", a.sut.StorageAddr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nA: "); err != nil {
			t.Fatal(err)
		}
	}
	begin := time.Now()
	if code, _ := get(http.MethodGet, "/"); code != http.StatusOK {
		t.Errorf("%s answers %d beside 2000 half-open connections", base, code)
	}
	whole(t, offered(a.ctl))
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("two requests beside 2000 half-open connections took %s", took)
	}
}

// slowReader is reliability 127: a reader outlives the artifact it reads, and gets all of it.
func (a *arena) slowReader(t *testing.T) {
	s := a.watched(t, map[string]*testkit.GitFile{"large": {Content: a.noise(12 << 20)}})
	first := offered(s)
	slow, err := http.Get(first.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Body.Close()
	for i := range 4 {
		whole(t, change(s, fmt.Sprint("r", i)))
	}
	err = poll(t.Context(), patience, func() bool {
		resp, err := http.Get(first.URL)
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusNotFound
	})
	if err != nil {
		t.Errorf("the replaced artifact is still offered: %v", err)
	}
	checkDigest(t, first, slow.StatusCode, slow.Body)
	whole(t, offered(s))
}

// retention is reliability 130: the age of artifacts is not what the times of files say.
func (a *arena) retention(t *testing.T) {
	s := a.watched(t, map[string]*testkit.GitFile{"a": {Content: "a"}})
	far := []time.Time{time.Date(2037, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(1970, 1, 2, 0, 0, 0, 0, time.UTC), time.Now().Add(24 * time.Hour), time.Now().Add(-24 * time.Hour)}
	for i := range 6 {
		latest := change(s, fmt.Sprint("r", i))
		for _, name := range a.files(s) {
			at := far[i%len(far)]
			err := os.Chtimes(filepath.Join(a.storage, "gitrepository", a.namespace, s.name, name), at, at)
			if err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
		}
		whole(t, latest)
	}
	latest := offered(s)
	current := filepath.Base(latest.Path)
	var names []string
	err := poll(t.Context(), patience, func() bool {
		names = a.files(s)
		return len(names) <= 2
	})
	if err != nil {
		t.Errorf("the store has %q: %v", names, err)
	}
	if !strings.Contains(strings.Join(names, " "), current) {
		t.Errorf("the store has %q without the current %s", names, current)
	}
	whole(t, latest)
}

// killed is reliability 097 and 126: the process ends while artifacts are written, the last time with the disk of some
// moment before. What is offered afterwards is whole.
func (a *arena) killed(t *testing.T) {
	s := a.watched(t, map[string]*testkit.GitFile{"a": {Content: "a"}})
	s.push(map[string]*testkit.GitFile{"large": {Content: a.noise(32 << 20)}})
	drafts := filepath.Join(a.storage, "tmp")
	err := poll(t.Context(), patience, func() bool {
		var size int64
		_ = filepath.WalkDir(drafts, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				if info, err := d.Info(); err == nil {
					size += info.Size()
				}
			}
			return nil
		})
		return size > 1<<20
	})
	if err != nil {
		t.Fatalf("no artifact is under way: %v", err)
	}
	a.revive(t, "")
	s.awaitArtifact("main@sha1:" + head(t, s))
	whole(t, offered(s))

	for round := range 2 {
		snapshot := filepath.Join(t.TempDir(), "storage")
		for i := range 4 {
			s.push(map[string]*testkit.GitFile{"round": {Content: fmt.Sprintf("%d.%d", round, i)}})
		}
		s.request(s.gitRepository())
		// Files come and go under the copy: that is the point.
		_ = exec.Command("cp", "-a", a.storage, snapshot).Run()
		a.revive(t, snapshot)
		s.awaitArtifact("main@sha1:" + head(t, s))
		whole(t, offered(s))
		whole(t, offered(a.ctl))
	}
	err = filepath.WalkDir(a.storage, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.HasSuffix(path, ".tar.gz") {
			if info, err := d.Info(); err == nil && info.Size() == 0 {
				t.Errorf("%s is empty", path)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if names := entries(t, drafts); len(names) > 0 {
		err := poll(t.Context(), patience, func() bool { names = entries(t, drafts); return len(names) == 0 })
		if err != nil {
			t.Errorf("unfinished files are left: %q", names)
		}
	}
}

// revive kills the process and starts it again, with the storage of the snapshot if there is one.
func (a *arena) revive(t *testing.T, snapshot string) {
	t.Helper()
	if err := a.sut.Kill(); err != nil {
		t.Fatal(err)
	}
	if snapshot != "" {
		if err := os.RemoveAll(a.storage); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(snapshot, a.storage); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.sut.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.pid = a.sut.PID()
}

func head(t *testing.T, s *scene) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.repo.Dir, "refs/heads/main"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}
