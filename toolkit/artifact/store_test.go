//go:build unix

package artifact_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
	"github.com/seed-79636ae9/flux/toolkit/artifact/artifacttest"
)

// The test binary is also the process that gets killed.
const childDir = "ARTIFACT_TEST_CHILD_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		child(dir)
	}
	os.Exit(m.Run())
}

func TestStore(t *testing.T) {
	for _, algo := range []artifact.Algo{"", artifact.SHA384, artifact.SHA512, artifact.BLAKE3} {
		t.Run("digest "+string(algo), func(t *testing.T) {
			artifacttest.Run(t, func(t *testing.T, dir string, o artifact.StoreOptions) artifacttest.Store {
				o.Digest = algo
				return open(t, dir, o)
			})
		})
	}
	t.Run("no hard links", func(t *testing.T) {
		artifacttest.Run(t, func(t *testing.T, dir string, o artifact.StoreOptions) artifacttest.Store {
			return open(t, dir, o).WithoutLinks()
		})
	})
}

func TestOpenStoreRefuses(t *testing.T) {
	if _, err := artifact.OpenStore(t.TempDir(), artifact.StoreOptions{Digest: artifact.SHA1}); err == nil {
		t.Error("sha1 accepted for new artifacts")
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := artifact.OpenStore(filepath.Join(file, "below"), artifact.StoreOptions{}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("storage below a file: %v", err)
	}
}

// wire 8
func TestAdvertisedAddr(t *testing.T) {
	for listen, want := range map[string]string{
		":9090": "localhost:9090", "0.0.0.0:9090": "host-1:9090", "10.0.0.1:80": "10.0.0.1:80", "[::1]:9090": "[::1]:9090",
	} {
		if got, err := artifact.AdvertisedAddr(listen, "host-1"); got != want || err != nil {
			t.Errorf("%s: %s, %v, want %s", listen, got, err, want)
		}
	}
	if _, err := artifact.AdvertisedAddr("9090", "h"); err == nil {
		t.Error("address without colon accepted")
	}
}

// content says its own name and length, so that a cut file is found whatever its digest.
func content(file string, size int) []byte {
	r := rand.New(rand.NewPCG(uint64(size), 0))
	body := make([]byte, size)
	for i := range body {
		body[i] = byte(r.Uint32())
	}
	return append([]byte(fmt.Sprintf("%s %d\n", file, size)), body...)
}

func checkContent(file string, data []byte) error {
	header, body, _ := bytes.Cut(data, []byte("\n"))
	var name string
	var size int
	if _, err := fmt.Sscanf(string(header), "%s %d", &name, &size); err != nil || name != file || len(body) != size {
		return fmt.Errorf("%s holds %d bytes after %q", file, len(body), header)
	}
	return nil
}

// child stores artifacts until it is killed, printing each when it is stored.
func child(dir string) {
	s, err := artifact.OpenStore(dir, artifact.StoreOptions{})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	fmt.Println("ready")
	for i := 0; ; i++ {
		name := artifact.Name{Kind: "GitRepository", Namespace: "apps", Object: fmt.Sprint(i % 3), File: fmt.Sprint(i % 7)}
		a, err := s.Put(context.Background(), name, func(w io.Writer) error {
			_, err := w.Write(content(name.File, 1000*(i%50)))
			return err
		})
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		fmt.Println("stored", i, a.Path, a.Digest)
		if i%5 == 0 {
			if _, err := s.Collect(context.Background(), name, a); err != nil {
				fmt.Println("error", err)
				os.Exit(1)
			}
		}
	}
}

// reliability 097, reliability 126: a process killed at any moment leaves whole files only, and its lock does not stay (reliability 128).
func TestKilledAtAnyMoment(t *testing.T) {
	dir := t.TempDir()
	for round := range 12 {
		command := exec.Command(os.Args[0])
		command.Env = append(os.Environ(), childDir+"="+dir)
		out, err := command.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		last := ""
		kill := time.AfterFunc(time.Hour, func() {})
		for lines.Scan() {
			switch line := lines.Text(); {
			case line == "ready":
				kill = time.AfterFunc(time.Duration(5+13*round)*time.Millisecond, func() { _ = command.Process.Kill() })
			case strings.HasPrefix(line, "error"):
				t.Fatal(line)
			default:
				last = line
			}
		}
		kill.Stop()
		_ = command.Wait()

		s := open(t, dir, artifact.StoreOptions{LockWait: 10 * time.Second})
		if last != "" {
			var i int
			var a meta.Artifact
			if _, err := fmt.Sscanf(last, "stored %d %s %s", &i, &a.Path, &a.Digest); err != nil {
				t.Fatalf("line %q: %v", last, err)
			}
			// The put that was cut off may have replaced the file by then, but only by a whole one.
			if err := s.Verify(&a); err != nil && !errors.Is(err, artifact.ErrMismatch) {
				t.Errorf("last stored artifact: %v", err)
			}
		}
		checkNames(t, dir, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func checkNames(t *testing.T, dir string, s *artifact.Store) {
	t.Helper()
	found := 0
	err := filepath.WalkDir(filepath.Join(dir, "gitrepository"), func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		found++
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		relative, _ := filepath.Rel(dir, path)
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/"+filepath.ToSlash(relative), nil))
		if w.Code != http.StatusOK || !bytes.Equal(w.Body.Bytes(), data) {
			t.Errorf("%s: served %d with %d bytes", relative, w.Code, w.Body.Len())
		}
		return checkContent(e.Name(), data)
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "tmp")); err != nil || len(left) != 0 {
		t.Errorf("unfinished files %v, %v", left, err)
	}
	_ = filepath.WalkDir(filepath.Join(dir, "blobs"), func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			if info, err := e.Info(); err != nil || info.Sys().(*syscall.Stat_t).Nlink < 2 {
				t.Errorf("%s has no name", path)
			}
		}
		return err
	})
}

// reliability 132, reliability 128
func TestOneProcessPerDirectory(t *testing.T) {
	dir := t.TempDir()
	command := exec.Command(os.Args[0])
	command.Env = append(os.Environ(), childDir+"="+dir)
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); line != "ready\n" {
		t.Fatalf("child says %q, %v", line, err)
	}
	_, err = artifact.OpenStore(dir, artifact.StoreOptions{})
	if !errors.Is(err, artifact.ErrLocked) || !strings.Contains(err.Error(), fmt.Sprintf("process %d on ", command.Process.Pid)) {
		t.Errorf("second process: %v", err)
	}
	_ = command.Process.Kill()
	go func() { _, _ = io.Copy(io.Discard, lines) }()
	s := open(t, dir, artifact.StoreOptions{LockWait: 10 * time.Second})
	_ = command.Wait()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// reliability 129, reliability 125
func TestErrorsNameTheRemedy(t *testing.T) {
	s := open(t, t.TempDir(), artifact.StoreOptions{})
	for cause, want := range map[error]string{
		syscall.ENOSPC: "enlarge the volume", syscall.EMFILE: "raise the limit of open files", syscall.EROFS: "mount a writable volume",
		syscall.EACCES: "fsGroup",
	} {
		_, err := s.Put(t.Context(), app("f"), func(io.Writer) error { return &os.PathError{Op: "write", Path: "f", Err: cause} })
		if !errors.Is(err, cause) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "gitrepository/apps/app/f") {
			t.Errorf("%v: error %q", cause, err)
		}
	}
}

// reliability 129: the kernel itself says that there is no space.
func TestFullVolume(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("no /dev/full here")
	}
	s := open(t, t.TempDir(), artifact.StoreOptions{})
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	_, err = s.Put(t.Context(), app("f"), func(io.Writer) error {
		_, err := full.Write([]byte("x"))
		return err
	})
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "--artifact-retention-ttl") {
		t.Errorf("error %v", err)
	}
}

// reliability 077, kustomization 22
func TestHandler(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, artifact.StoreOptions{})
	a, err := s.Put(t.Context(), app("f.tar.gz"), func(w io.Writer) error {
		_, err := io.WriteString(w, "0123456789")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	base := filepath.Join(dir, "gitrepository", "apps", "app")
	if err := errors.Join(
		os.WriteFile(filepath.Join(base, "f.tar.gz.lock"), []byte("x"), 0o600),
		os.WriteFile(filepath.Join(base, ".hidden"), []byte("x"), 0o600),
		os.WriteFile(filepath.Join(dir, "tmp", "draft-1"), []byte("x"), 0o600),
		os.Symlink("/etc/passwd", filepath.Join(base, "outside")),
		os.Symlink("../../../lock", filepath.Join(base, "inside")),
		os.Symlink("outside", filepath.Join(base, "twice")),
	); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s.Handler())
	defer server.Close()
	blob := strings.ReplaceAll(a.Digest, ":", "/")
	for _, tc := range []struct {
		method, path, ranges string
		wantCode             int
		wantBody             string
	}{
		{"GET", "/", "", 200, ""},
		{"HEAD", "/", "", 200, ""},
		{"GET", "/" + a.Path, "", 200, "0123456789"},
		{"HEAD", "/" + a.Path, "", 200, ""},
		{"GET", "/" + a.Path, "bytes=2-4", 206, "234"},
		{"GET", "/" + a.Path, "bytes=50-", 416, ""},
		{"GET", "/gitrepository", "", 404, "404 page not found\n"},
		{"GET", "/gitrepository/", "", 404, "404 page not found\n"},
		{"GET", "/gitrepository/apps/app", "", 404, "404 page not found\n"},
		{"GET", "/gitrepository/apps/app/", "", 404, "404 page not found\n"},
		{"GET", "/gitrepository/apps/app/absent", "", 404, "404 page not found\n"},
		{"GET", "/" + a.Path + "/below", "", 404, "404 page not found\n"},
		{"GET", "/" + a.Path + ".lock", "", 404, "404 page not found\n"},
		{"GET", "/gitrepository/apps/app/.hidden", "", 404, "404 page not found\n"},
		{"GET", "/gitrepository/apps/app/outside", "", 404, "404 page not found\n"},
		{"GET", "/gitrepository/apps/app/twice", "", 404, "404 page not found\n"},
		{"GET", "/GitRepository/apps/app/f.tar.gz", "", 404, "404 page not found\n"},
		{"GET", "/blobs/" + blob, "", 404, "404 page not found\n"},
		{"GET", "/blobs/sha256/../" + blob, "", 404, "404 page not found\n"},
		{"GET", "/tmp/draft-1", "", 404, "404 page not found\n"},
		{"GET", "/records/gitrepository/apps/app.json", "", 404, "404 page not found\n"},
		{"GET", "/lock", "", 404, "404 page not found\n"},
		{"GET", "/../../etc/passwd", "", 404, "404 page not found\n"},
		{"GET", "/%2e%2e/%2e%2e/etc/passwd", "", 404, "404 page not found\n"},
		{"GET", "/gitrepository/apps/..%2f..%2f..%2fetc/passwd", "", 404, "404 page not found\n"},
		{"GET", "/gitrepository/apps/app/..%5c..", "", 404, "404 page not found\n"},
		{"GET", "//gitrepository/apps/app/f.tar.gz", "", 404, "404 page not found\n"},
		{"PUT", "/" + a.Path, "", 405, "405 method not allowed\n"},
		{"DELETE", "/" + a.Path, "", 405, "405 method not allowed\n"},
		{"POST", "/", "", 405, "405 method not allowed\n"},
	} {
		t.Run(tc.method+" "+tc.path+" "+tc.ranges, func(t *testing.T) {
			request, err := http.NewRequest(tc.method, server.URL, nil)
			if err != nil {
				t.Fatal(err)
			}
			request.URL.Opaque = strings.TrimPrefix(server.URL, "http:") + tc.path
			if tc.ranges != "" {
				request.Header.Set("Range", tc.ranges)
			}
			response, err := http.DefaultTransport.RoundTrip(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			body, _ := io.ReadAll(response.Body)
			if response.StatusCode != tc.wantCode || (tc.wantCode != 416 && string(body) != tc.wantBody) {
				t.Errorf("%d %q, want %d %q", response.StatusCode, body, tc.wantCode, tc.wantBody)
			}
			if tc.wantCode == 200 && tc.path != "/" {
				got := []string{response.Header.Get("Content-Type"), response.Header.Get("Etag"), response.Header.Get("Content-Encoding"), fmt.Sprint(response.ContentLength)}
				if diff := cmp.Diff([]string{"application/gzip", `"` + a.Digest + `"`, "", "10"}, got); diff != "" {
					t.Errorf("headers (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func BenchmarkPut(b *testing.B) {
	for _, size := range []int{1 << 10, 1 << 20} {
		for _, kind := range []string{"new", "equal"} {
			b.Run(fmt.Sprintf("%d KiB %s", size>>10, kind), func(b *testing.B) {
				s := open(b, b.TempDir(), artifact.StoreOptions{})
				data := content("f", size)
				b.SetBytes(int64(size))
				for i := 0; b.Loop(); i++ {
					if kind == "new" {
						copy(data, fmt.Sprintf("%016d", i))
					}
					if _, err := s.Put(b.Context(), app(fmt.Sprint(i%4)), func(w io.Writer) error {
						_, err := w.Write(data)
						return err
					}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	s := open(b, b.TempDir(), artifact.StoreOptions{})
	a, err := s.Put(b.Context(), app("f"), func(w io.Writer) error {
		_, err := w.Write(content("f", 1<<20))
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := s.Verify(a); err != nil {
			b.Fatal(err)
		}
	}
}

// reliability 038: objects whose names would be equal when they are strung together have paths of their own.
func TestNamesStayApart(t *testing.T) {
	seen := map[string]artifact.Name{}
	for _, kind := range []string{"Bucket", "GitRepository"} {
		for _, o := range [][2]string{{"a", "b-c"}, {"a-b", "c"}, {"a", "b.c"}, {"a.b", "c"}, {"a", "b"}, {"a-b-c", "a"}} {
			n := artifact.Name{Kind: kind, Namespace: o[0], Object: o[1], File: "f.tar.gz"}
			if other, taken := seen[n.Path()]; taken {
				t.Errorf("%v and %v have one path: %s", n, other, n.Path())
			}
			seen[n.Path()] = n
		}
	}
}
