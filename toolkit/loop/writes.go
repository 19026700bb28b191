package loop

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
)

// writes remembers the resourceVersion of our last write per object until the cache has shown it, so that no
// run works on a state that is older than what we have written.
type writes struct {
	mu      sync.Mutex // guards last and awaited
	last    map[types.NamespacedName]string
	awaited map[types.NamespacedName]bool // a run was put off until the cache shows last
}

func newWrites() *writes {
	return &writes{last: map[types.NamespacedName]string{}, awaited: map[types.NamespacedName]bool{}}
}

func (w *writes) note(key types.NamespacedName, version string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last[key] = version
}

// aheadOf reports whether we have written a newer version than the given one, and if so remembers that a run
// waits for the cache; otherwise the memory is dropped.
func (w *writes) aheadOf(key types.NamespacedName, cached string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.behind(key, cached) {
		w.awaited[key] = true
		return true
	}
	return false
}

// caughtUp tells, once, that the cache now shows what a put-off run waits for.
func (w *writes) caughtUp(key types.NamespacedName, shown string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.behind(key, shown) || !w.awaited[key] {
		return false
	}
	delete(w.awaited, key)
	return true
}

// behind compares a version with our last write and drops the memory once it is reached. Versions that cannot
// be ordered count as reached: the optimistic lock of every patch still protects the object.
func (w *writes) behind(key types.NamespacedName, version string) bool {
	last, ok := w.last[key]
	if !ok {
		return false
	}
	if order, err := resourceversion.CompareResourceVersion(version, last); err == nil && order < 0 {
		return true
	}
	delete(w.last, key)
	return false
}

func (w *writes) forget(key types.NamespacedName) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.last, key)
	delete(w.awaited, key)
}
