package receiver

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/seed-79636ae9/flux/api/meta"
	notificationv1 "github.com/seed-79636ae9/flux/api/notification/v1"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

// maxCalls is how many calls of one Receiver are worked on at a time: one sender must not take the memory of all.
const maxCalls = 32

// index finds Receivers by the path of their webhook and by their Secret. It follows the cache, but what the reconciler has found out
// counts at once: whoever reads Ready in the status can call.
type index struct {
	dropped func(path string) // hears of paths that are served no more

	mu       sync.RWMutex // guards what follows
	entries  map[types.NamespacedName]*entry
	paths    map[string][]*entry
	bySecret map[types.NamespacedName]map[types.NamespacedName]bool
}

// entry is a Receiver. Its fields are guarded by the index; the objects they point to never change.
type entry struct {
	key    types.NamespacedName
	object *notificationv1.Receiver
	found  *findings // of the last run; nil: what the status says counts
	rules  *rules    // last compiled, maybe for an older generation; nil: not yet
	path   string    // under which the entry is filed
	secret types.NamespacedName
	calls  chan struct{} // one for each call under way
	// thinking is held by who evaluates expressions of the Receiver.
	thinking chan struct{}
}

// findings are what a run has found out about a generation of a Receiver.
type findings struct {
	uid        types.UID
	generation int64
	path       string
	ready      bool
}

// target is what a call needs to know of the Receiver it reached. Nobody changes what it points to.
type target struct {
	*entry
	object *notificationv1.Receiver
	rules  *rules // nil: not compiled yet
	ready  bool
}

func newIndex(dropped func(path string)) *index {
	return &index{
		dropped: dropped, entries: map[types.NamespacedName]*entry{}, paths: map[string][]*entry{},
		bySecret: map[types.NamespacedName]map[types.NamespacedName]bool{},
	}
}

// observe takes note of a Receiver as the cache shows it. The object must not be changed afterwards.
func (i *index) observe(obj *notificationv1.Receiver) {
	i.mu.Lock()
	defer i.mu.Unlock()
	key := client.ObjectKeyFromObject(obj)
	e := i.entries[key]
	switch {
	case e == nil:
		e = &entry{key: key, calls: make(chan struct{}, maxCalls), thinking: make(chan struct{}, 1)}
		i.entries[key] = e
	case e.object.UID == obj.UID && older(obj, e.object):
		return
	}
	e.object = obj
	i.file(e)
}

// older compares states of one object. Versions that cannot be ordered count as news.
func older(a, b client.Object) bool {
	order, err := resourceversion.CompareResourceVersion(a.GetResourceVersion(), b.GetResourceVersion())
	return err == nil && order < 0
}

// begin takes note of the object of a run, whose findings replace those of the last one. The Secret is filed before it is read, so that
// no change of it gets lost.
func (i *index) begin(obj *notificationv1.Receiver) {
	i.observe(obj)
	i.mu.Lock()
	defer i.mu.Unlock()
	if e := i.entries[client.ObjectKeyFromObject(obj)]; e != nil {
		e.found = nil
		i.file(e)
	}
}

// found takes note of what a run has found out.
func (i *index) found(key types.NamespacedName, f findings) {
	i.mu.Lock()
	defer i.mu.Unlock()
	e := i.entries[key]
	if e == nil || e.object.UID != f.uid {
		return
	}
	e.found = &f
	i.file(e)
}

// forget drops a Receiver.
func (i *index) forget(namespace, name string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	key := types.NamespacedName{Namespace: namespace, Name: name}
	if e := i.entries[key]; e != nil {
		i.move(e, "", types.NamespacedName{})
		delete(i.entries, key)
	}
}

// current returns the findings if they are about the object as it is now.
func (e *entry) current() *findings {
	if f := e.found; f != nil && f.uid == e.object.UID && f.generation == e.object.Generation {
		return f
	}
	return nil
}

// file puts an entry where it is to be found.
func (i *index) file(e *entry) {
	var path string
	if e.object.DeletionTimestamp.IsZero() {
		path = e.object.Status.WebhookPath
		if f := e.current(); f != nil {
			path = f.path
		}
	}
	var secret types.NamespacedName
	if ref := e.object.Spec.SecretRef; ref != nil {
		secret = types.NamespacedName{Namespace: e.key.Namespace, Name: ref.Name}
	}
	i.move(e, path, secret)
}

// move files an entry under a path and a Secret; empty: under none.
func (i *index) move(e *entry, path string, secret types.NamespacedName) {
	if path != e.path {
		if rest := slices.DeleteFunc(i.paths[e.path], func(other *entry) bool { return other == e }); len(rest) > 0 {
			i.paths[e.path] = rest
		} else if e.path != "" {
			delete(i.paths, e.path)
			i.dropped(e.path)
		}
		if path != "" {
			i.paths[path] = append(i.paths[path], e)
		}
		e.path = path
	}
	if secret != e.secret {
		if delete(i.bySecret[e.secret], e.key); len(i.bySecret[e.secret]) == 0 {
			delete(i.bySecret, e.secret)
		}
		if secret.Name != "" {
			if i.bySecret[secret] == nil {
				i.bySecret[secret] = map[types.NamespacedName]bool{}
			}
			i.bySecret[secret][e.key] = true
		}
		e.secret = secret
	}
}

// byPath returns the Receiver of a path. Should several have the same (receiver 40), the one that was there first has it.
func (i *index) byPath(path string) (target, bool) {
	i.mu.RLock()
	defer i.mu.RUnlock()
	found := i.paths[path]
	if len(found) == 0 {
		return target{}, false
	}
	e := slices.MinFunc(found, func(a, b *entry) int {
		if c := a.object.CreationTimestamp.Compare(b.object.CreationTimestamp.Time); c != 0 {
			return c
		}
		return compareKeys(a.key, b.key)
	})
	t := target{entry: e, object: e.object, ready: status.IsTrue(e.object.Status.Conditions, meta.ReadyCondition)}
	if f := e.current(); f != nil {
		t.ready = f.ready
	}
	if e.rules != nil && e.rules.of(e.object) {
		t.rules = e.rules
	}
	return t, true
}

// keep remembers the compiled rules of a Receiver, in place of older ones.
func (i *index) keep(key types.NamespacedName, r *rules) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if e := i.entries[key]; e != nil {
		e.rules = r
	}
}

// compiled returns the rules of an object if they were compiled already, nil otherwise.
func (i *index) compiled(obj *notificationv1.Receiver) *rules {
	i.mu.RLock()
	defer i.mu.RUnlock()
	if e := i.entries[client.ObjectKeyFromObject(obj)]; e != nil && e.rules != nil && e.rules.of(obj) {
		return e.rules
	}
	return nil
}

// usersOf returns the Receivers that refer to a Secret, in an order that stays the same.
func (i *index) usersOf(secret types.NamespacedName) []types.NamespacedName {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return slices.SortedFunc(maps.Keys(i.bySecret[secret]), compareKeys)
}

func compareKeys(a, b types.NamespacedName) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// admit makes room for one more call, and returns what gives it back. It tells when there is none.
func (t *target) admit() (release func(), ok bool) {
	select {
	case t.calls <- struct{}{}:
		return func() { <-t.calls }, true
	default:
		return nil, false
	}
}
