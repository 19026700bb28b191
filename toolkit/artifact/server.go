package artifact

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

const (
	headerTimeout = 10 * time.Second
	readTimeout   = 30 * time.Second
	idleTimeout   = 2 * time.Minute
	maxHeader     = 16 << 10
	// A client has stallTimeout for each pacedBytes, about a kilobyte a second. The time for a whole transfer is not limited: a slow
	// reader of a large file gets it (reliability 127).
	stallTimeout = time.Minute
	pacedBytes   = 64 << 10
)

// Server returns an HTTP server for the handler of a store (alone or with others), not yet listening. Clients that send their request
// slowly, or stop reading, are cut off (reliability 077).
func Server(addr string, h http.Handler) *http.Server {
	return &http.Server{
		Addr:              addr,
		Handler:           h,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      stallTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
	}
}

// Handler serves the names of the store to GET and HEAD, ranges included. "/" answers 200 for readiness probes. Directories are not
// listed, and blobs, unfinished files, lock files and everything else that is not an artifact does not exist (reliability 077). A file
// whose content is not what was stored is not served.
func (s *Store) Handler() http.Handler { return http.HandlerFunc(s.serve) }

func (s *Store) serve(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "405 method not allowed", http.StatusMethodNotAllowed)
		return
	}
	if r.URL.Path == "/" {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(http.StatusOK)
		return
	}
	name, ok := parseName(strings.TrimPrefix(r.URL.Path, "/"))
	if !ok {
		http.NotFound(w, r)
		return
	}
	f, digest, err := s.served(name)
	switch {
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrMismatch):
		http.NotFound(w, r)
		return
	case err != nil:
		// The text names paths of this machine: it is for the operator, not for the client.
		http.Error(w, "500 artifact cannot be read", http.StatusInternalServerError)
		return
	}
	defer f.Close()
	w.Header().Set("Content-Type", contentType(name.File))
	w.Header().Set("ETag", `"`+digest.String()+`"`)
	// No Last-Modified: names share files, so a younger content can have the older file.
	http.ServeContent(w, r, "", time.Time{}, &paced{f: f, control: http.NewResponseController(w)})
}

// served opens the file of a name, through the root so that no link leads out of the store.
func (s *Store) served(name Name) (_ *os.File, _ Digest, err error) {
	f, err := s.root.Open(name.Path())
	if err != nil {
		if !resourceError(err) {
			// Whatever else the root refuses, such as a link that leads out or a path through a file, is no artifact.
			err = ErrNotFound
		}
		return nil, Digest{}, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	want := s.recorded(name)
	algo := want.Algo
	if algo == "" {
		algo = s.options.Digest
	}
	got, err := s.blobs.digest(f, s.file(name), algo)
	if err != nil {
		return nil, Digest{}, err
	}
	if want != (Digest{}) && want != got {
		return nil, Digest{}, ErrMismatch
	}
	return f, got, nil
}

func contentType(file string) string {
	switch {
	case strings.HasSuffix(file, ".gz"), strings.HasSuffix(file, ".tgz"):
		return "application/gzip"
	case strings.HasSuffix(file, ".yaml"), strings.HasSuffix(file, ".yml"):
		return "application/yaml"
	}
	return "application/octet-stream"
}

// paced extends the write deadline of a response while its reader makes progress.
type paced struct {
	f       *os.File
	control *http.ResponseController
	read    int
}

func (p *paced) Read(b []byte) (int, error) {
	n, err := p.f.Read(b)
	if p.read += n; p.read >= pacedBytes {
		p.read = 0
		_ = p.control.SetWriteDeadline(time.Now().Add(stallTimeout))
	}
	return n, err
}

func (p *paced) Seek(offset int64, whence int) (int64, error) { return p.f.Seek(offset, whence) }

var _ io.ReadSeeker = (*paced)(nil)
