package loop

import (
	"context"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// reads is what a run has read, by UID: which event is news to it depends on that.
type reads struct {
	mu       sync.Mutex // guards versions
	versions map[types.UID]string
}

type readsKey struct{}

// note remembers the version of an object in the run that ctx belongs to, if it belongs to one.
func note(ctx context.Context, obj client.Object) {
	r, ok := ctx.Value(readsKey{}).(*reads)
	if !ok {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.versions[obj.GetUID()] = obj.GetResourceVersion()
}

// verdictOn tells an event apart: older says that the run has read the object as it was before, current that it has read it as it is.
func (r *reads) verdictOn(obj client.Object) (older, current bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	version, ok := r.versions[obj.GetUID()]
	if !ok {
		return false, false
	}
	order, err := resourceversion.CompareResourceVersion(version, obj.GetResourceVersion())
	return err != nil || order < 0, err == nil && order >= 0
}

// Noting returns a client whose reads the runs of the loop remember. A change of an object that a run has read then ends its wait even if
// the change comes before the wait begins, and one that the run knows already does not.
func Noting(c client.Client) client.Client { return noting{c} }

type noting struct{ client.Client }

// Get implements client.Reader.
func (n noting) Get(ctx context.Context, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
	err := n.Client.Get(ctx, key, obj, opts...)
	if err == nil {
		note(ctx, obj)
	}
	return err
}

// NotingReader is Noting for a reader.
func NotingReader(r client.Reader) client.Reader { return notingReader{r} }

type notingReader struct{ client.Reader }

// Get implements client.Reader.
func (n notingReader) Get(ctx context.Context, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
	err := n.Reader.Get(ctx, key, obj, opts...)
	if err == nil {
		note(ctx, obj)
	}
	return err
}
