package buckettest

import (
	"crypto/md5" //nolint:gosec // S3 names content so
	"encoding/hex"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// Bucket is the name of the bucket of the servers.
const Bucket = "app-bucket"

// object is an object as it is now.
type object struct {
	content string
	// version grows with each write to the bucket.
	version int64
}

// md5 names the content.
func (o object) md5() string {
	sum := md5.Sum([]byte(o.content)) //nolint:gosec // S3 names content so
	return hex.EncodeToString(sum[:])
}

// Store holds the objects of a server.
type Store struct {
	// PageSize is how many objects a page of a listing holds at most.
	PageSize int
	// Endless makes every listing lead to its own first page.
	Endless bool
	// OnGet runs before an object is read; may be nil.
	OnGet func(key string)
	// Missing tells which objects are listed and cannot be read; nil: none.
	Missing func(key string) bool

	mu       sync.Mutex // guards what follows
	objects  map[string]object
	versions int64
	gets     int
}

// Put writes an object.
func (s *Store) Put(key, content string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.objects == nil {
		s.objects = map[string]object{}
	}
	s.versions++
	s.objects[key] = object{content, s.versions}
}

// Delete removes an object.
func (s *Store) Delete(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, key)
}

// Clear removes all objects.
func (s *Store) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.objects)
}

// Gets returns how many objects were read since the last call.
func (s *Store) Gets() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.gets
	s.gets = 0
	return n
}

func (s *Store) get(key string) (object, bool) {
	if s.OnGet != nil {
		s.OnGet(key)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gets++
	o, ok := s.objects[key]
	if s.Missing != nil && s.Missing(key) {
		return object{}, false
	}
	return o, ok
}

// entry is an object in a listing.
type entry struct {
	key string
	object
}

// page returns the objects after a key, and the key that the next page follows; empty: there is none.
func (s *Store) page(prefix, after string, most int) (page []entry, next string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.PageSize > 0 {
		most = s.PageSize
	}
	if s.Endless {
		after = ""
	}
	for _, key := range slices.Sorted(maps.Keys(s.objects)) {
		if !strings.HasPrefix(key, prefix) || key <= after {
			continue
		}
		if len(page) == most {
			return page, page[most-1].key
		}
		page = append(page, entry{key, s.objects[key]})
	}
	if s.Endless {
		next = "again"
	}
	return page, next
}

// serve sends an object.
func serve(w http.ResponseWriter, r *http.Request, o object, etag string) {
	w.Header().Set("ETag", etag)
	w.Header().Set("Last-Modified", "Thu, 01 Jan 2026 12:00:00 GMT")
	w.Header().Set("Content-Type", "application/octet-stream")
	if r.Method != http.MethodHead {
		_, _ = w.Write([]byte(o.content))
	}
}
