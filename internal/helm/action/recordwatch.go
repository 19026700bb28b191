package action

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
	"unique"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"

	"github.com/seed-79636ae9/flux/toolkit/kube"
)

// How long until a watch of records that ended is tried again: soon after a failure that may pass, much later when the API server does not
// let us watch.
const (
	rewatchFirst   = 800 * time.Millisecond
	rewatchMost    = 30 * time.Second
	rewatchRefused = 5 * time.Minute
)

// recordWatch sees the metadata of all records of a cluster through one watch, and keeps of each what tells whether a release has changed.
// Its identity is the controller's own: what it shows may be compared with what somebody has read with rights of their own, and told to
// nobody.
type recordWatch struct {
	client *kube.Client
	once   sync.Once
	wanted chan struct{} // closed with the first question: who asks nothing watches nothing

	mu       sync.Mutex // guards what follows
	synced   bool
	records  map[recordID]*watchedRecord
	releases map[recordID][]*watchedRecord // by the names of releases
}

type watchedRecord struct {
	release recordID
	version int // 0: its label cannot be read
	// resourceVersion tells the states of all records of a cluster apart.
	resourceVersion string
}

func newRecordWatch(client *kube.Client) *recordWatch {
	return &recordWatch{client: client, wanted: make(chan struct{}), records: map[recordID]*watchedRecord{}, releases: map[recordID][]*watchedRecord{}}
}

// newest returns the resource version of the newest record of a release, empty if there is none, and false if the watch cannot tell.
func (w *recordWatch) newest(namespace, release string) (resourceVersion string, ok bool) {
	w.once.Do(func() { close(w.wanted) })
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.synced {
		return "", false
	}
	highest := 0
	for _, r := range w.releases[recordID{namespace, release}] {
		if r.version == 0 {
			return "", false
		}
		if r.version > highest {
			highest, resourceVersion = r.version, r.resourceVersion
		}
	}
	return resourceVersion, true
}

// run watches until ctx ends.
func (w *recordWatch) run(ctx context.Context, c clock.Clock, log logr.Logger) error {
	select {
	case <-w.wanted:
	case <-ctx.Done():
		return nil
	}
	mc, err := metadata.NewForConfigAndClient(w.client.Config(), w.client.HTTP())
	if err != nil {
		return fmt.Errorf("failed to build the metadata client: %w", err)
	}
	resource, selector := mc.Resource(secrets), labels.Set{ownerLabel: helmOwner}.String()
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.LabelSelector = selector
			return resource.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.LabelSelector = selector
			return resource.Watch(ctx, o)
		},
	}
	reflector := cache.NewReflectorWithOptions(lw, nil, recordStore{w}, cache.ReflectorOptions{
		Name: "records", TypeDescription: "records of Helm", Logger: &log, Clock: c,
	})
	backoff := wait.Backoff{Duration: rewatchFirst, Factor: 2, Jitter: 0.3, Steps: 8, Cap: rewatchMost}
	delay := backoff.DelayWithReset(c, 2*rewatchMost)
	refused := false
	for ctx.Err() == nil {
		err := reflector.ListAndWatchWithContext(ctx)
		if ctx.Err() != nil {
			return nil
		}
		w.lose()
		pause := delay()
		switch {
		case err == nil:
		case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
			if !refused {
				log.Info("cannot watch the records of Helm, they will be listed in each run", "error", err.Error())
			}
			refused, pause = true, rewatchRefused
		default:
			log.Info("watch of the records of Helm ended", "error", err.Error())
		}
		select {
		case <-c.After(pause):
		case <-ctx.Done():
		}
	}
	return nil
}

// lose notes that the watch shows nothing until it has listed again.
func (w *recordWatch) lose() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.synced = false
}

// put notes a record; the caller holds mu.
func (w *recordWatch) put(m *metav1.PartialObjectMetadata) {
	w.remove(m.Namespace, m.Name)
	// What many records have in common is kept once.
	namespace := unique.Make(m.Namespace).Value()
	r := &watchedRecord{release: recordID{namespace, unique.Make(m.Labels[nameLabel]).Value()}, resourceVersion: m.ResourceVersion}
	if v, err := versionOf(m); err == nil {
		r.version = v
	}
	w.records[recordID{namespace, m.Name}] = r
	w.releases[r.release] = append(w.releases[r.release], r)
}

// remove notes that a record is gone; the caller holds mu.
func (w *recordWatch) remove(namespace, name string) {
	id := recordID{namespace, name}
	r := w.records[id]
	if r == nil {
		return
	}
	delete(w.records, id)
	left := slices.DeleteFunc(w.releases[r.release], func(other *watchedRecord) bool { return other == r })
	if len(left) == 0 {
		delete(w.releases, r.release)
		return
	}
	w.releases[r.release] = left
}

// recordStore is where the reflector of a recordWatch delivers.
type recordStore struct{ w *recordWatch }

// reduce keeps of a record what put needs.
func (s recordStore) reduce(obj any) (any, error) {
	switch o := obj.(type) {
	case *metav1.PartialObjectMetadata:
		return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
			Namespace: o.Namespace, Name: o.Name, ResourceVersion: o.ResourceVersion,
			Labels: map[string]string{nameLabel: o.Labels[nameLabel], versionLabel: o.Labels[versionLabel]},
		}}, nil
	case cache.DeletedFinalStateUnknown:
		return s.reduce(o.Obj)
	}
	return nil, fmt.Errorf("a watch of records delivered a %T", obj)
}

// Transformer lets the reflector reduce records while it still streams the initial list.
func (s recordStore) Transformer() cache.TransformFunc { return s.reduce }

func (s recordStore) Add(obj any) error { return s.Update(obj) }

func (s recordStore) Update(obj any) error {
	m, err := s.reduce(obj)
	if err != nil {
		return err
	}
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.w.put(m.(*metav1.PartialObjectMetadata))
	return nil
}

func (s recordStore) Delete(obj any) error {
	m, err := s.reduce(obj)
	if err != nil {
		return err
	}
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	o := m.(*metav1.PartialObjectMetadata)
	s.w.remove(o.Namespace, o.Name)
	return nil
}

func (s recordStore) Replace(list []any, _ string) error {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	clear(s.w.records)
	clear(s.w.releases)
	for _, obj := range list {
		m, err := s.reduce(obj)
		if err != nil {
			return err
		}
		s.w.put(m.(*metav1.PartialObjectMetadata))
	}
	s.w.synced = true
	return nil
}

// Resync has nothing to do: nothing queues behind this store.
func (s recordStore) Resync() error { return nil }
