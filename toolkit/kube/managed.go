package kube

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"
	"unique"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/clock"
)

// How long until a watch that ended is tried again: soon after a failure that may pass, later when the server does not know the
// kind, much later when it does not let us watch.
const (
	retryFirst   = 800 * time.Millisecond
	retryMost    = 30 * time.Second
	retryRefused = 5 * time.Minute
)

// Sight says how much a Managed knows of an object.
type Sight uint8

const (
	// Unseen: the kind is not watched, or not yet, or may not be; ask the API server.
	Unseen Sight = iota
	// Absent: the watch shows no such object with owner labels.
	Absent
	// Present: the state is what the watch last showed.
	Present
)

// Change is one observed change of a managed object. Before or After is nil when the object was not, or is no longer, in view.
type Change struct {
	Kind            schema.GroupKind
	Namespace, Name string
	Before, After   *State
}

// ManagedOptions is what a Managed needs.
type ManagedOptions struct {
	// Client watches; its identity must be able to list and watch what is to be seen.
	Client *Client
	Lens   *Lens
	// OnChange is called for each change of a state, in order per object, from the goroutine of the kind's watch. It must
	// not block and may call the Managed. Optional.
	OnChange func(Change)
	Clock    clock.Clock
	Log      logr.Logger
}

// Managed sees all objects that carry one kind of owner's labels, through one watch per kind that is filtered on the server
// and keeps a State per object (architecture 5b.3). It answers what its own identity sees: verdicts on behalf of a tenant must
// only be given for the tenant's own objects, which the Owner of a State tells.
type Managed struct {
	o ManagedOptions

	mu     sync.Mutex // guards all below
	ctx    context.Context
	kinds  map[schema.GroupKind]*kindWatch
	owners map[Owner][]schema.GroupKind
	subs   map[Owner]map[chan struct{}]struct{}
	closed bool
	wg     sync.WaitGroup
}

// kindWatch is the watch of one kind; Managed.mu guards it.
type kindWatch struct {
	gvk     schema.GroupVersionKind
	cancel  context.CancelFunc
	wanted  map[Owner]struct{}
	synced  chan struct{} // closed when objects is complete; replaced when it no longer is
	isSync  bool
	refused error
	seen    string // the newest resource version the watch has shown
	objects map[objectKey]kept
}

// objectKey shares each namespace's text between all objects in it; names are mostly of their own.
type objectKey struct {
	namespace unique.Handle[string]
	name      string
}

func keyOf(namespace, name string) objectKey { return objectKey{unique.Make(namespace), name} }

// NewManaged makes a Managed that watches nothing until Run and Track.
func NewManaged(o ManagedOptions) *Managed {
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	return &Managed{
		o: o, kinds: map[schema.GroupKind]*kindWatch{}, owners: map[Owner][]schema.GroupKind{},
		subs: map[Owner]map[chan struct{}]struct{}{},
	}
}

// Lens is the lens all states are made with.
func (m *Managed) Lens() *Lens { return m.o.Lens }

// Run watches until ctx ends. It returns when the last watch has stopped.
func (m *Managed) Run(ctx context.Context) error {
	m.mu.Lock()
	if m.ctx != nil {
		m.mu.Unlock()
		return errors.New("the managed objects are already being watched")
	}
	m.ctx = ctx
	for _, w := range m.kinds {
		m.start(w)
	}
	m.mu.Unlock()
	<-ctx.Done()
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.wg.Wait()
	return nil
}

// Track says which kinds an owner's inventory holds. Kinds it no longer names, and nobody else does, are no longer watched.
// An empty list is Forget.
func (m *Managed) Track(owner Owner, kinds []schema.GroupVersionKind) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var groupKinds []schema.GroupKind
	for _, gvk := range kinds {
		gk := gvk.GroupKind()
		if slices.Contains(groupKinds, gk) {
			continue
		}
		groupKinds = append(groupKinds, gk)
		w := m.kinds[gk]
		if w == nil {
			w = &kindWatch{gvk: gvk, wanted: map[Owner]struct{}{}, objects: map[objectKey]kept{}, synced: make(chan struct{})}
			m.kinds[gk] = w
			m.start(w)
		}
		w.wanted[owner] = struct{}{}
	}
	for _, gk := range m.owners[owner] {
		if slices.Contains(groupKinds, gk) {
			continue
		}
		w := m.kinds[gk]
		delete(w.wanted, owner)
		if len(w.wanted) == 0 {
			if w.cancel != nil {
				w.cancel()
			}
			delete(m.kinds, gk)
		}
	}
	if len(groupKinds) == 0 {
		delete(m.owners, owner)
		return
	}
	m.owners[owner] = groupKinds
}

// Include adds kinds to those that are tracked for an owner.
func (m *Managed) Include(owner Owner, kinds []schema.GroupVersionKind) {
	m.mu.Lock()
	all := slices.Clone(kinds)
	for _, gk := range m.owners[owner] {
		all = append(all, m.kinds[gk].gvk)
	}
	m.mu.Unlock()
	m.Track(owner, all)
}

// Forget drops all about an owner.
func (m *Managed) Forget(owner Owner) { m.Track(owner, nil) }

// Lookup returns what is known of an object.
func (m *Managed) Lookup(gk schema.GroupKind, namespace, name string) (State, Sight) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.kinds[gk]
	if w == nil || !w.isSync {
		return State{}, Unseen
	}
	k, ok := w.objects[keyOf(namespace, name)]
	if !ok {
		return State{}, Absent
	}
	return k.state(), Present
}

// Seen returns the newest resource version the watch of a kind has shown, or "" if the kind is not in view.
func (m *Managed) Seen(gk schema.GroupKind) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if w := m.kinds[gk]; w != nil && w.isSync {
		return w.seen
	}
	return ""
}

// Refused returns why a kind cannot be watched, so that its objects must be polled; nil if it can or has not been tried.
func (m *Managed) Refused(gk schema.GroupKind) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if w := m.kinds[gk]; w != nil {
		return w.refused
	}
	return nil
}

// Sync waits until the tracked kinds of an owner are in view or refused, or ctx ends.
func (m *Managed) Sync(ctx context.Context, owner Owner) error {
	for {
		m.mu.Lock()
		var pending chan struct{}
		for _, gk := range m.owners[owner] {
			if w := m.kinds[gk]; !w.isSync && w.refused == nil {
				pending = w.synced
				break
			}
		}
		m.mu.Unlock()
		if pending == nil {
			return nil
		}
		select {
		case <-pending:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Subscribe returns a channel that receives after each change of an object of the owner; changes that come faster than the
// reader are one. The function ends the subscription.
func (m *Managed) Subscribe(owner Owner) (<-chan struct{}, func()) {
	ch := make(chan struct{}, 1)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.subs[owner] == nil {
		m.subs[owner] = map[chan struct{}]struct{}{}
	}
	m.subs[owner][ch] = struct{}{}
	return ch, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.subs[owner], ch)
		if len(m.subs[owner]) == 0 {
			delete(m.subs, owner)
		}
	}
}

// Objects counts the objects in view, for a metric.
func (m *Managed) Objects() map[schema.GroupKind]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := make(map[schema.GroupKind]int, len(m.kinds))
	for gk, w := range m.kinds {
		n[gk] = len(w.objects)
	}
	return n
}

// start runs a kind's watch; the caller holds mu.
func (m *Managed) start(w *kindWatch) {
	if m.ctx == nil || m.closed || w.cancel != nil {
		return
	}
	ctx, cancel := context.WithCancel(m.ctx)
	w.cancel = cancel
	m.wg.Go(func() {
		defer cancel()
		m.follow(ctx, w)
	})
}

// follow keeps the watch of a kind going until ctx ends.
func (m *Managed) follow(ctx context.Context, w *kindWatch) {
	backoff := wait.Backoff{Duration: retryFirst, Factor: 2, Jitter: 0.3, Steps: 8, Cap: retryMost}
	delay := backoff.DelayWithReset(m.o.Clock, 2*retryMost)
	var list *listing
	for ctx.Err() == nil {
		err := func() error {
			res, err := m.o.Client.Mapper.Served(ctx, w.gvk.GroupKind(), w.gvk.Version)
			if err != nil {
				return err
			}
			if list == nil || list.resource.GroupVersionKind != res.GroupVersionKind {
				// A new version needs a new reflector; its first list replaces what the old one had shown.
				if list, err = m.newListing(w, res); err != nil {
					return err
				}
			}
			return list.reflector.ListAndWatchWithContext(ctx)
		}()
		if ctx.Err() != nil {
			return
		}
		pause := delay()
		switch {
		case err == nil:
		case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err), apierrors.IsMethodNotSupported(err):
			m.refuse(w, err)
			pause = retryRefused
		case apierrors.IsNotFound(err), meta.IsNoMatchError(err):
			m.refuse(w, err)
			// The kind may have moved to another version, or be gone with its CRD.
			m.o.Client.Mapper.Invalidate()
			pause = retryMost
		default:
			m.o.Log.Info("watch of managed objects ended", "kind", w.gvk.String(), "error", err.Error())
		}
		select {
		case <-m.o.Clock.After(pause):
		case <-ctx.Done():
		}
	}
}

// refuse takes a kind out of view and wakes all who wait for its objects, so that they poll instead.
func (m *Managed) refuse(w *kindWatch, err error) {
	m.mu.Lock()
	first := w.refused == nil
	w.refused = err
	if w.isSync {
		w.isSync = false
		w.synced = make(chan struct{})
	}
	clear(w.objects)
	if first {
		close(w.synced)
		w.synced = make(chan struct{})
	}
	for owner := range w.wanted {
		m.notify(owner)
	}
	m.mu.Unlock()
	if first {
		m.o.Log.Info("cannot watch managed objects, they will be polled", "kind", w.gvk.String(), "error", err.Error())
	}
}

// notify wakes the subscribers of an owner; the caller holds mu.
func (m *Managed) notify(owner Owner) {
	for ch := range m.subs[owner] {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// put records what the watch showed of one object; after is nil when it left the view.
func (m *Managed) put(w *kindWatch, namespace, name string, after *State) {
	m.mu.Lock()
	var change Change
	var changed bool
	if m.kinds[w.gvk.GroupKind()] == w {
		change, changed = m.record(w, namespace, name, after)
	}
	m.mu.Unlock()
	if changed {
		m.tell(change)
	}
}

// replace records a complete list: what is not in it has left the view.
func (m *Managed) replace(w *kindWatch, items []*observed, resourceVersion string) {
	m.mu.Lock()
	if m.kinds[w.gvk.GroupKind()] != w {
		m.mu.Unlock()
		return
	}
	gone := maps.Clone(w.objects)
	var changes []Change
	for _, it := range items {
		delete(gone, keyOf(it.Namespace, it.Name))
		if c, ok := m.record(w, it.Namespace, it.Name, &it.state); ok {
			changes = append(changes, c)
		}
	}
	for k := range gone {
		if c, ok := m.record(w, k.namespace.Value(), k.name, nil); ok {
			changes = append(changes, c)
		}
	}
	w.seen = resourceVersion
	w.refused = nil
	if !w.isSync {
		w.isSync = true
		close(w.synced)
		// Those who wait for an object that the watch does not show must learn that it is in view now.
		for owner := range w.wanted {
			m.notify(owner)
		}
	}
	m.mu.Unlock()
	for _, c := range changes {
		m.tell(c)
	}
}

// record stores one state and says whether it is news; the caller holds mu.
func (m *Managed) record(w *kindWatch, namespace, name string, after *State) (Change, bool) {
	key := keyOf(namespace, name)
	old, had := w.objects[key]
	c := Change{Kind: w.gvk.GroupKind(), Namespace: namespace, Name: name, After: after}
	switch {
	case after == nil && !had:
		return c, false
	case after == nil:
		delete(w.objects, key)
	default:
		k := keep(*after)
		if had && old == k {
			return c, false
		}
		w.objects[key] = k
		if NotOlder(after.ResourceVersion, w.seen) {
			w.seen = after.ResourceVersion
		}
		m.notify(after.Owner)
	}
	if had {
		before := old.state()
		c.Before = &before
		if after == nil || before.Owner != after.Owner {
			m.notify(before.Owner)
		}
	}
	return c, true
}

func (m *Managed) tell(c Change) {
	if m.o.OnChange != nil {
		m.o.OnChange(c)
	}
}
