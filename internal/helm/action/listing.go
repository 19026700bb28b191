package action

import (
	"slices"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Listing is what a run knows of the records of one release: their metadata, listed once and kept up by what the run itself writes. So an
// action lists nothing again. Who else writes meanwhile is found out by the API server, since two records cannot have one name. The zero
// Listing knows nothing. It is safe for concurrent use.
type Listing struct {
	mu        sync.Mutex // guards what follows
	known     bool
	namespace string
	release   string
	items     []metav1.PartialObjectMetadata
}

// Newest returns the resource version of the record with the highest version, and false if the records are not known or there are none.
func (l *Listing) Newest() (resourceVersion string, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	found, err := newest(l.items)
	if err != nil || found == nil {
		return "", false
	}
	return found.ResourceVersion, true
}

// set replaces what is known by the records of a release in a namespace.
func (l *Listing) set(namespace, release string, items []metav1.PartialObjectMetadata) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known, l.namespace, l.release, l.items = true, namespace, release, slices.Clone(items)
}

// get returns the records of a release in a namespace, and false if they are not known.
func (l *Listing) get(namespace, release string) ([]metav1.PartialObjectMetadata, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.known || l.namespace != namespace || l.release != release {
		return nil, false
	}
	return slices.Clone(l.items), true
}

// wrote notes a record that was created or updated.
func (l *Listing) wrote(m metav1.PartialObjectMetadata) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.known || l.namespace != m.Namespace || l.release != m.Labels[nameLabel] {
		return
	}
	for i := range l.items {
		if l.items[i].Name == m.Name {
			l.items[i] = m
			return
		}
	}
	l.items = append(l.items, m)
}

// deleted notes that a record is gone.
func (l *Listing) deleted(namespace, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.namespace == namespace {
		l.items = slices.DeleteFunc(l.items, func(m metav1.PartialObjectMetadata) bool { return m.Name == name })
	}
}

// outlined is as much of the metadata of a record as is needed of it.
func outlined(m *metav1.PartialObjectMetadata) metav1.PartialObjectMetadata {
	return metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
		Namespace: m.Namespace, Name: m.Name, ResourceVersion: m.ResourceVersion, Labels: m.Labels,
	}}
}
