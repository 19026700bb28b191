package action

import (
	"container/list"
	"encoding/json"
	"errors"
	"sync"

	chart "helm.sh/helm/v4/pkg/chart/v2"
	release "helm.sh/helm/v4/pkg/release/v1"
)

// DefaultCacheBytes bounds the releases that are remembered of one cluster: those that actions are at work on, and some more. What nobody
// has touched is not looked at.
const DefaultCacheBytes = 4 << 20

// recordCache remembers decoded releases without their charts, the last used ones, so that a record is read once and not at each look. A
// record that has changed has another resource version.
type recordCache struct {
	limit int

	mu    sync.Mutex // guards what follows
	size  int
	items map[recordID]*list.Element
	used  *list.List // of *cachedRecord, the last used one first
}

type recordID struct{ namespace, name string }

type cachedRecord struct {
	id              recordID
	resourceVersion string
	release         *release.Release
	size            int
}

func newRecordCache(limit int) *recordCache {
	return &recordCache{limit: limit, items: map[recordID]*list.Element{}, used: list.New()}
}

// get returns a release of the caller's own, or nil.
func (c *recordCache) get(namespace, name, resourceVersion string) *release.Release {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.items[recordID{namespace, name}]
	if e == nil {
		return nil
	}
	r := e.Value.(*cachedRecord)
	if r.resourceVersion != resourceVersion {
		return nil
	}
	c.used.MoveToFront(e)
	return cloned(r.release)
}

// put remembers a release.
func (c *recordCache) put(namespace, name, resourceVersion string, rel *release.Release) {
	r := &cachedRecord{id: recordID{namespace, name}, resourceVersion: resourceVersion, release: cloned(rel), size: sizeOf(rel)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.items[r.id]; e != nil {
		c.drop(e)
	}
	c.items[r.id] = c.used.PushFront(r)
	c.size += r.size
	for c.size > c.limit {
		c.drop(c.used.Back())
	}
}

func (c *recordCache) drop(e *list.Element) {
	r := c.used.Remove(e).(*cachedRecord)
	delete(c.items, r.id)
	c.size -= r.size
}

// sizeOf estimates the memory of a release without its chart.
func sizeOf(rel *release.Release) int {
	n := 2<<10 + len(rel.Manifest) + len(rel.Info.Notes) + len(rel.Info.Description)
	for _, h := range rel.Hooks {
		n += 512 + len(h.Manifest)
	}
	if config, err := json.Marshal(rel.Config); err == nil {
		// Maps take a multiple of their text.
		n += 8 * len(config)
	}
	return n
}

// cloned copies what anybody may change of a release.
func cloned(rel *release.Release) *release.Release {
	c := *rel
	info := *rel.Info
	c.Info = &info
	if rel.Chart != nil {
		c.Chart = &chart.Chart{Metadata: rel.Chart.Metadata}
	}
	c.Hooks = nil
	for _, h := range rel.Hooks {
		hook := *h
		c.Hooks = append(c.Hooks, &hook)
	}
	c.Config, _ = copied(rel.Config).(map[string]any)
	return &c
}

// copied copies a JSON-like value.
func copied(v any) any {
	switch v := v.(type) {
	case map[string]any:
		if v == nil {
			return v
		}
		out := make(map[string]any, len(v))
		for k, child := range v {
			out[k] = copied(child)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, child := range v {
			out[i] = copied(child)
		}
		return out
	}
	return v
}

func isNotFound(err error) bool { return errors.Is(err, ErrNotFound) }
