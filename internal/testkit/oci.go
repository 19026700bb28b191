package testkit

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Registry is an OCI registry over plain HTTP on loopback, in memory. It can be told to fail like those of others.
type Registry struct {
	server   *httptest.Server
	handler  http.Handler
	requests atomic.Int64

	mu       sync.Mutex // guards what follows
	fault    RegistryFault
	pageSize int
	lists    map[string][]string // by repository: shown in place of what was pushed
	stale    map[string][]string // by repository: the lists at the time the fault began
}

// RegistryFault is a way in which a registry fails.
type RegistryFault int

// Ways to fail. All but RegistryDown and RegistryResets are about lists of tags alone.
const (
	// RegistryWorks is no fault.
	RegistryWorks RegistryFault = iota
	// TagsCut shows the first half of the tags, as if there were no more.
	TagsCut
	// TagsEmpty shows no tags.
	TagsEmpty
	// TagsReordered shows the tags in an order of its own, in every answer another one.
	TagsReordered
	// TagsStale shows the tags there were when the fault began.
	TagsStale
	// TagsBrokenPage answers the second page with an error.
	TagsBrokenPage
	// TagsTorn ends in the middle of the answer.
	TagsTorn
	// TagsThrottled answers 429 and asks to be left alone for two seconds.
	TagsThrottled
	// TagsHang does not answer until the client gives up.
	TagsHang
	// RegistryDown answers everything with 503.
	RegistryDown
	// RegistryResets resets every connection.
	RegistryResets
)

// NewRegistry starts a registry; Close ends it.
func NewRegistry() *Registry {
	quiet := registry.Logger(log.New(io.Discard, "", 0))
	r := &Registry{handler: registry.New(quiet, registry.WithReferrersSupport(true)), lists: map[string][]string{}}
	r.server = httptest.NewServer(r)
	return r
}

// ServeHTTP implements http.Handler.
func (r *Registry) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	r.requests.Add(1)
	fault, pageSize := r.mode()
	switch fault {
	case RegistryDown:
		http.Error(w, "down", http.StatusServiceUnavailable)
		return
	case RegistryResets:
		reset(w)
		return
	}
	repo, isList := strings.CutSuffix(strings.TrimPrefix(request.URL.Path, "/v2/"), "/tags/list")
	if tags, ok := r.tags(repo); isList && ok && (fault != RegistryWorks || pageSize > 0 || r.shown(repo)) {
		r.list(w, request, repo, tags)
		return
	}
	r.handler.ServeHTTP(w, request)
}

func (r *Registry) mode() (RegistryFault, int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fault, r.pageSize
}

// list answers a request for a page of tags the way the fault says.
func (r *Registry) list(w http.ResponseWriter, request *http.Request, repo string, tags []string) {
	fault, pageSize := r.mode()
	last := request.URL.Query().Get("last")
	switch fault {
	case TagsCut:
		tags = tags[:len(tags)/2]
	case TagsEmpty:
		tags = nil
	case TagsReordered:
		// Whoever pages must not see the order change between two pages.
		pageSize = 0
		rand.Shuffle(len(tags), func(i, j int) { tags[i], tags[j] = tags[j], tags[i] })
	case TagsStale:
		r.mu.Lock()
		tags = r.stale[repo]
		r.mu.Unlock()
	case TagsBrokenPage:
		pageSize = max(1, len(tags)/2)
		if last != "" {
			http.Error(w, "broken page", http.StatusInternalServerError)
			return
		}
	case TagsThrottled:
		w.Header().Set("Retry-After", "2")
		http.Error(w, "too many requests", http.StatusTooManyRequests)
		return
	case TagsHang:
		<-request.Context().Done()
		return
	}
	if last != "" {
		tags = tags[sort.SearchStrings(tags, last+"\x00"):]
	}
	if pageSize > 0 && len(tags) > pageSize {
		tags = tags[:pageSize]
		w.Header().Set("Link", fmt.Sprintf(`</v2/%s/tags/list?n=%d&last=%s>; rel="next"`, repo, pageSize, tags[pageSize-1]))
	}
	body, err := json.Marshal(map[string]any{"name": repo, "tags": tags})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if fault == TagsTorn {
		body = body[:len(body)/2]
	}
	// Who is gone does not listen.
	_, _ = w.Write(body)
}

// reset ends the connection without a word.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// Fail makes the registry fail, or work again.
func (r *Registry) Fail(f RegistryFault) {
	stale := map[string][]string{}
	if f == TagsStale {
		for _, repo := range r.repositories() {
			stale[repo], _ = r.tags(repo)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault, r.stale = f, stale
}

// Pages makes the registry list tags in pages of a size; zero: in one.
func (r *Registry) Pages(size int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pageSize = size
}

// Show makes the registry list these tags for a repository, whatever was pushed to it.
func (r *Registry) Show(repo string, tags ...string) {
	tags = slices.Clone(tags)
	slices.Sort(tags)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lists[repo] = tags
}

func (r *Registry) shown(repo string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lists[repo] != nil
}

// tags returns the tags of a repository in ascending order, and whether it exists. The caller owns the slice.
func (r *Registry) tags(repo string) ([]string, bool) {
	r.mu.Lock()
	tags := slices.Clone(r.lists[repo])
	r.mu.Unlock()
	if tags != nil {
		return tags, true
	}
	var answer struct {
		Tags []string `json:"tags"`
	}
	ok := r.ask("/v2/"+repo+"/tags/list?n=1000000", &answer)
	slices.Sort(answer.Tags)
	return answer.Tags, ok
}

func (r *Registry) repositories() []string {
	var answer struct {
		Repositories []string `json:"repositories"`
	}
	r.ask("/v2/_catalog?n=1000000", &answer)
	return answer.Repositories
}

// ask reads what the registry would answer if it worked.
func (r *Registry) ask(path string, answer any) bool {
	recorder := httptest.NewRecorder()
	r.handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, path, nil))
	return recorder.Code == http.StatusOK && json.Unmarshal(recorder.Body.Bytes(), answer) == nil
}

// Untag takes repository:tag away from the registry.
func (r *Registry) Untag(ref string) error {
	parsed, err := name.ParseReference(r.Host()+"/"+ref, name.Insecure)
	if err != nil {
		return fmt.Errorf("naming the image %q: %w", ref, err)
	}
	if err := remote.Delete(parsed); err != nil {
		return fmt.Errorf("untagging %s: %w", ref, err)
	}
	return nil
}

// Requests is how many requests the registry has had.
func (r *Registry) Requests() int64 { return r.requests.Load() }

// Host is the registry's host:port.
func (r *Registry) Host() string { return strings.TrimPrefix(r.server.URL, "http://") }

// Close ends the registry and drops what it holds.
func (r *Registry) Close() { r.server.Close() }

// Push uploads an image as repository:tag below this registry, and under each further tag.
func (r *Registry) Push(ref string, img v1.Image, tags ...string) error {
	parsed, err := name.ParseReference(r.Host()+"/"+ref, name.Insecure)
	if err != nil {
		return fmt.Errorf("naming the image %q: %w", ref, err)
	}
	if err := remote.Write(parsed, img); err != nil {
		return fmt.Errorf("pushing %s: %w", ref, err)
	}
	for _, tag := range tags {
		if err := remote.Tag(parsed.Context().Tag(tag), img); err != nil {
			return fmt.Errorf("tagging %s as %s: %w", ref, tag, err)
		}
	}
	return nil
}

// Layer is one layer of an image to build: either Files, packed by TarGzip, or Raw bytes.
type Layer struct {
	MediaType string
	Files     map[string]string
	Raw       string
}

// BuildImage builds an OCI image whose digest depends on the arguments alone.
func BuildImage(configType string, annotations map[string]string, layers []Layer) (v1.Image, error) {
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	img = mutate.ConfigMediaType(img, types.MediaType(configType))
	if len(annotations) > 0 {
		img = mutate.Annotations(img, annotations).(v1.Image)
	}
	for _, l := range layers {
		content := []byte(l.Raw)
		if l.Files != nil {
			var err error
			if content, err = TarGzip(l.Files); err != nil {
				return nil, err
			}
		}
		var err error
		if img, err = mutate.Append(img, mutate.Addendum{Layer: static.NewLayer(content, types.MediaType(l.MediaType))}); err != nil {
			return nil, fmt.Errorf("adding a layer of type %s: %w", l.MediaType, err)
		}
	}
	return img, nil
}

// TarGzip packs files, sorted by name, with mode 0644 and neither times nor owners: equal files
// give equal bytes.
func TarGzip(files map[string]string) ([]byte, error) {
	var b bytes.Buffer
	zw := gzip.NewWriter(&b)
	tw := tar.NewWriter(zw)
	for _, path := range sortedKeys(files) {
		content := files[path]
		if err := tw.WriteHeader(&tar.Header{Name: path, Mode: 0o644, Size: int64(len(content))}); err != nil {
			return nil, fmt.Errorf("packing %s: %w", path, err)
		}
		if _, err := io.WriteString(tw, content); err != nil {
			return nil, fmt.Errorf("packing %s: %w", path, err)
		}
	}
	if err := tw.Close(); err != nil {
		return nil, fmt.Errorf("closing the tar: %w", err)
	}
	if err := zw.Close(); err != nil {
		return nil, fmt.Errorf("closing the gzip stream: %w", err)
	}
	return b.Bytes(), nil
}
