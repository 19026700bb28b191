package loop

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	testclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

// widget is a kind with nothing but what the loop needs.
type widget struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              widgetSpec   `json:"spec"`
	Status            widgetStatus `json:"status,omitempty"`
}

type widgetSpec struct {
	Suspend bool `json:"suspend,omitempty"`
}

type widgetStatus struct {
	meta.ReconcileRequestStatus `json:",inline"`
	ObservedGeneration          int64              `json:"observedGeneration,omitempty"`
	LastHandledForceAt          string             `json:"lastHandledForceAt,omitempty"`
	LastHandledResetAt          string             `json:"lastHandledResetAt,omitempty"`
	Conditions                  []metav1.Condition `json:"conditions,omitempty"`
	Inventory                   []string           `json:"inventory,omitempty"`
}

func (w *widget) GetConditions() []metav1.Condition       { return w.Status.Conditions }
func (w *widget) SetConditions(c []metav1.Condition)      { w.Status.Conditions = c }
func (w *widget) GetObservedGeneration() int64            { return w.Status.ObservedGeneration }
func (w *widget) SetObservedGeneration(g int64)           { w.Status.ObservedGeneration = g }
func (w *widget) GetLastHandledReconcileRequest() string  { return w.Status.LastHandledReconcileAt }
func (w *widget) SetLastHandledReconcileRequest(s string) { w.Status.LastHandledReconcileAt = s }
func (w *widget) GetLastHandledForceRequest() string      { return w.Status.LastHandledForceAt }
func (w *widget) SetLastHandledForceRequest(s string)     { w.Status.LastHandledForceAt = s }
func (w *widget) GetLastHandledResetRequest() string      { return w.Status.LastHandledResetAt }
func (w *widget) SetLastHandledResetRequest(s string)     { w.Status.LastHandledResetAt = s }
func (w *widget) IsSuspended() bool                       { return w.Spec.Suspend }
func (w *widget) GetInterval() time.Duration              { return 10 * time.Minute }
func (w *widget) DeepCopyObject() runtime.Object {
	out := *w
	w.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	out.Status.Conditions = append([]metav1.Condition(nil), w.Status.Conditions...)
	out.Status.Inventory = append([]string(nil), w.Status.Inventory...)
	return &out
}

type widgetList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []widget `json:"items"`
}

func (l *widgetList) DeepCopyObject() runtime.Object {
	out := *l
	out.Items = append([]widget(nil), l.Items...)
	return &out
}

// behaviour is a kind's Reconcile and Finalize as the test wants them.
type behaviour struct {
	reconcile func(context.Context, *widget, *Run) error
	finalize  func(context.Context, *widget, *Run) error
}

func (b *behaviour) Reconcile(ctx context.Context, w *widget, r *Run) error {
	return b.reconcile(ctx, w, r)
}
func (b *behaviour) Finalize(ctx context.Context, w *widget, r *Run) error {
	return b.finalize(ctx, w, r)
}
func (b *behaviour) MergeStatus(_, live, ours *widget) {
	for _, id := range live.Status.Inventory {
		found := false
		for _, o := range ours.Status.Inventory {
			found = found || o == id
		}
		if !found {
			ours.Status.Inventory = append(ours.Status.Inventory, id)
		}
	}
}

// recorder keeps the events of a test.
type recorder struct {
	mu     sync.Mutex // guards events
	events []event.Event
}

func (r *recorder) Emit(_ client.Object, e event.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

func (r *recorder) take() []event.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.events
	r.events = nil
	return out
}

// bench is an engine on a fake API server and a fake clock.
type bench struct {
	t      *testing.T
	clock  *testclock.FakeClock
	client client.Client
	engine *engine[*widget]
	events *recorder
	writes int
	do     *behaviour
	before func() // called before every status patch
	after  func() // called after every status patch
}

var now = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func newBench(t *testing.T, policy Policy, objects ...*widget) *bench {
	t.Helper()
	gv := schema.GroupVersion{Group: "test.example.com", Version: "v1"}
	scheme := runtime.NewScheme()
	scheme.AddKnownTypeWithName(gv.WithKind("Widget"), &widget{})
	scheme.AddKnownTypeWithName(gv.WithKind("WidgetList"), &widgetList{})
	metav1.AddToGroupVersion(scheme, gv)
	b := &bench{t: t, clock: testclock.NewFakeClock(now), events: &recorder{}, do: &behaviour{
		reconcile: func(context.Context, *widget, *Run) error { return nil },
		finalize:  func(context.Context, *widget, *Run) error { return nil },
	}}
	builder := fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&widget{})
	for _, o := range objects {
		builder = builder.WithObjects(o)
	}
	b.client = interceptor.NewClient(builder.Build(), interceptor.Funcs{
		Patch: func(ctx context.Context, c client.WithWatch, obj client.Object, p client.Patch, opts ...client.PatchOption) error {
			b.writes++
			return c.Patch(ctx, obj, p, opts...)
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, obj client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			if b.before != nil {
				b.before()
			}
			b.writes++
			err := c.SubResource(sub).Patch(ctx, obj, p, opts...)
			if b.after != nil {
				b.after()
			}
			return err
		},
	})
	c := &Controller[*widget]{
		Name: "widget-controller", Kind: "Widget", New: func() *widget { return &widget{} }, Reconciler: b.do,
		FailReason: "ReconciliationFailed", Policy: policy,
		Conditions: status.Table{
			Failures: []string{"FetchFailed"}, Sticky: []string{"ArtifactInStorage"},
			ReadyReason: meta.SucceededReason, RecoveryReason: meta.SucceededReason,
		},
	}
	b.engine = newEngine(c, Options{Client: b.client, Reader: b.client, Events: b.events, Clock: b.clock, Concurrent: 1})
	return b
}

func newWidget() *widget {
	return &widget{
		ObjectMeta: metav1.ObjectMeta{Name: "w", Namespace: "ns", Generation: 1, Finalizers: []string{meta.Finalizer}},
		Status:     widgetStatus{ObservedGeneration: -1},
	}
}

var widgetKey = types.NamespacedName{Namespace: "ns", Name: "w"}

func (b *bench) run() (reconcile.Result, error) {
	return b.engine.Reconcile(context.Background(), reconcile.Request{NamespacedName: widgetKey})
}

// step runs once and expects no error for the queue.
func (b *bench) step() reconcile.Result {
	b.t.Helper()
	result, err := b.run()
	if err != nil {
		b.t.Fatalf("reconcile: %v", err)
	}
	return result
}

func (b *bench) get() *widget {
	b.t.Helper()
	w := &widget{}
	if err := b.client.Get(context.Background(), widgetKey, w); err != nil {
		b.t.Fatal(err)
	}
	return w
}

// change edits the live object as a user would.
func (b *bench) change(f func(*widget)) {
	b.t.Helper()
	w := b.get()
	f(w)
	if err := b.client.Update(context.Background(), w); err != nil {
		b.t.Fatal(err)
	}
}

func condition(w *widget, conditionType string) string {
	c := status.Find(w.Status.Conditions, conditionType)
	if c == nil {
		return "-"
	}
	return string(c.Status) + " " + c.Reason + ": " + c.Message
}

var errTest = errors.New("boom")
