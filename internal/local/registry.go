package local

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
)

// maxManifest is what registries commonly accept as a manifest, in bytes (OCI distribution spec, "pushing manifests").
const maxManifest = 4 << 20

// registry is an OCI registry on disk. The library keeps blobs there by itself, but manifests in memory; they are written down as they
// come and pushed again at the start.
type registry struct {
	dir  string
	next http.Handler
	// pushed is called with the name of a repository after a manifest has arrived.
	pushed func(repository string)
}

// storedManifest is a manifest as it was pushed.
type storedManifest struct {
	Path string `json:"path"` // of the request
	Type string `json:"type"`
	Body []byte `json:"body"`
}

func openRegistry(dir string, pushed func(string)) (*registry, error) {
	blobs, manifests := filepath.Join(dir, "blobs"), filepath.Join(dir, "manifests")
	for _, d := range []string{blobs, manifests} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("open the registry: %w", err)
		}
	}
	quiet := log.New(io.Discard, "", 0)
	r := &registry{
		dir:    manifests,
		pushed: pushed,
		next:   ggcr.New(ggcr.Logger(quiet), ggcr.WithBlobHandler(ggcr.NewDiskBlobHandler(blobs)), ggcr.WithReferrersSupport(true)),
	}
	if err := r.restore(); err != nil {
		return nil, fmt.Errorf("open the registry: %w", err)
	}
	return r, nil
}

// restore pushes what was written down. An index is refused until what it lists is there, hence the rounds.
func (r *registry) restore() error {
	files, err := filepath.Glob(filepath.Join(r.dir, "*.json"))
	if err != nil {
		return err
	}
	for len(files) > 0 {
		var left []string
		for _, file := range files {
			done, err := r.restoreOne(file)
			if err != nil {
				return err
			}
			if !done {
				left = append(left, file)
			}
		}
		if len(left) == len(files) {
			return fmt.Errorf("%d stored manifests miss what they refer to, such as %s", len(left), left[0])
		}
		files = left
	}
	return nil
}

func (r *registry) restoreOne(file string) (bool, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return false, err
	}
	var m storedManifest
	if err := json.Unmarshal(content, &m); err != nil {
		return false, fmt.Errorf("read %s: %w", file, err)
	}
	request, err := http.NewRequest(http.MethodPut, m.Path, bytes.NewReader(m.Body))
	if err != nil {
		return false, fmt.Errorf("read %s: %w", file, err)
	}
	request.Header.Set("Content-Type", m.Type)
	answer := newAnswer()
	r.next.ServeHTTP(answer, request)
	return answer.code == http.StatusCreated, nil
}

// ServeHTTP passes requests on and remembers what manifests come and go.
func (r *registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	repository, isManifest := manifestOf(req.URL.Path)
	if !isManifest || (req.Method != http.MethodPut && req.Method != http.MethodDelete) {
		r.next.ServeHTTP(w, req)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxManifest))
	if err != nil {
		http.Error(w, "the manifest is too large", http.StatusRequestEntityTooLarge)
		return
	}
	req.Body = io.NopCloser(bytes.NewReader(body))
	answer := newAnswer()
	r.next.ServeHTTP(answer, req)
	switch {
	case answer.code/100 != 2:
	case req.Method == http.MethodDelete:
		err = os.Remove(r.file(req.URL.Path))
	default:
		// Before the answer: what a client was told to be there survives a crash.
		err = r.store(storedManifest{Path: req.URL.Path, Type: req.Header.Get("Content-Type"), Body: body})
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		http.Error(w, err.Error(), http.StatusInsufficientStorage)
		return
	}
	answer.copyTo(w)
	if req.Method == http.MethodPut && answer.code == http.StatusCreated {
		r.pushed(repository)
	}
}

func (r *registry) store(m storedManifest) error {
	content, err := json.Marshal(m)
	if err != nil {
		return err
	}
	path := r.file(m.Path)
	if err := os.WriteFile(path+".tmp", content, 0o600); err != nil {
		return fmt.Errorf("store the manifest: %w", err)
	}
	return os.Rename(path+".tmp", path)
}

// file is named by a hash, since the names of repositories hold slashes and may be long.
func (r *registry) file(path string) string {
	sum := sha256.Sum256([]byte(path))
	return filepath.Join(r.dir, hex.EncodeToString(sum[:16])+".json")
}

// manifestOf returns the repository in /v2/<repository>/manifests/<reference>.
func manifestOf(path string) (repository string, ok bool) {
	rest, ok := strings.CutPrefix(path, "/v2/")
	if !ok {
		return "", false
	}
	i := strings.LastIndex(rest, "/manifests/")
	if i <= 0 {
		return "", false
	}
	return rest[:i], true
}

// answer holds an answer back.
type answer struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func newAnswer() *answer { return &answer{header: http.Header{}, code: http.StatusOK} }

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(code int) { a.code = code }

func (a *answer) Write(p []byte) (int, error) { return a.body.Write(p) }

func (a *answer) copyTo(w http.ResponseWriter) {
	maps.Copy(w.Header(), a.header)
	w.WriteHeader(a.code)
	// A failed write means that the client went away; there is nobody left to tell.
	_, _ = w.Write(a.body.Bytes())
}
