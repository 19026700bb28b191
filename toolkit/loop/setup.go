package loop

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	ctrlevent "sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/seed-79636ae9/flux/api/meta"
)

// queue is the work queue of a controller.
type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// Handle lets the outside of the API server (a watch of managed objects, a webhook) wake objects of a controller.
type Handle struct {
	mu    sync.Mutex // guards queue, which exists from the controller's start on
	queue queue
}

// Enqueue asks for a run of the object; a parked wait goes on. Before the controller has started there is nothing to
// do: every object is reconciled at the start (_common 6).
func (h *Handle) Enqueue(key types.NamespacedName) {
	h.mu.Lock()
	q := h.queue
	h.mu.Unlock()
	if q == nil {
		return
	}
	q.Add(reconcile.Request{NamespacedName: key})
}

// EnqueueAfter asks for a run of the object after a while; a parked wait goes on.
func (h *Handle) EnqueueAfter(key types.NamespacedName, d time.Duration) {
	if d <= 0 {
		h.Enqueue(key)
		return
	}
	h.mu.Lock()
	q := h.queue
	h.mu.Unlock()
	if q != nil {
		q.AddAfter(reconcile.Request{NamespacedName: key}, d)
	}
}

// SetupWithManager adds the controller to a manager.
func (c *Controller[O]) SetupWithManager(mgr ctrl.Manager, o Options) (*Handle, error) {
	e := newEngine(c, o)
	o = e.o
	name := strings.ToLower(c.Kind)
	gvk, err := apiutil.GVKForObject(c.New(), mgr.GetScheme())
	if err != nil {
		return nil, fmt.Errorf("setting up the %s controller: %w", c.Kind, err)
	}
	ctl, err := controller.New(name, mgr, controller.Options{
		Reconciler:              e,
		MaxConcurrentReconciles: o.Concurrent,
		RateLimiter: &limiter{
			TypedRateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](o.MinRetryDelay, o.MaxRetryDelay),
			parking:          e.parking,
		},
		LogConstructor: logConstructor(mgr.GetLogger(), name, gvk),
	})
	if err != nil {
		return nil, fmt.Errorf("setting up the %s controller: %w", c.Kind, err)
	}
	h := &Handle{}
	sources := []source.Source{
		source.Func(func(_ context.Context, q queue) error {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.queue = q
			e.parking.openFor(func(key types.NamespacedName) { addFirst(q, key) })
			return nil
		}),
		source.Kind[client.Object](mgr.GetCache(), c.New(), e.own()),
	}
	for _, w := range c.Watches {
		sources = append(sources, source.Kind(mgr.GetCache(), w.Object, e.mapped(w)))
	}
	for _, s := range sources {
		if err := ctl.Watch(s); err != nil {
			return nil, fmt.Errorf("watching for the %s controller: %w", c.Kind, err)
		}
	}
	// Parked runs have no worker that the manager would wait for.
	return h, mgr.Add(manager.RunnableFunc(func(ctx context.Context) error {
		<-ctx.Done()
		e.parking.drain()
		return nil
	}))
}

// limiter keeps the count of failures while a run is parked: its worker returns without an error, which says nothing yet.
type limiter struct {
	workqueue.TypedRateLimiter[reconcile.Request]
	parking *parking
}

// Forget implements workqueue.TypedRateLimiter.
func (l *limiter) Forget(r reconcile.Request) {
	if !l.parking.isParked(r.NamespacedName) {
		l.TypedRateLimiter.Forget(r)
	}
}

// logConstructor gives the log lines of a run the keys that `flux logs` reads (wire.md 18b).
func logConstructor(log logr.Logger, name string, gvk schema.GroupVersionKind) func(*reconcile.Request) logr.Logger {
	log = log.WithValues("controller", name, "controllerGroup", gvk.Group, "controllerKind", gvk.Kind)
	return func(req *reconcile.Request) logr.Logger {
		if req == nil {
			return log
		}
		return log.WithValues(gvk.Kind, klog.KRef(req.Namespace, req.Name), "namespace", req.Namespace, "name", req.Name)
	}
}

// own handles events of the kind itself: a new generation or request token starts a run and ends a parked wait
// (_common 5); every object is reconciled at the start (_common 6); and the cache may have caught up with our write.
func (e *engine[O]) own() handler.EventHandler {
	return handler.Funcs{
		CreateFunc: func(_ context.Context, ev ctrlevent.CreateEvent, q queue) {
			add(q, client.ObjectKeyFromObject(ev.Object), ev.IsInInitialList)
		},
		UpdateFunc: func(_ context.Context, ev ctrlevent.UpdateEvent, q queue) {
			key := client.ObjectKeyFromObject(ev.ObjectNew)
			if asksForRun(ev.ObjectOld, ev.ObjectNew) {
				e.parking.outdate(key, ev.ObjectNew, !e.c.Policy.TokensWait)
				q.Add(reconcile.Request{NamespacedName: key})
			}
			if e.writes.caughtUp(key, ev.ObjectNew.GetResourceVersion()) {
				q.Add(reconcile.Request{NamespacedName: key})
			}
		},
		DeleteFunc: func(_ context.Context, ev ctrlevent.DeleteEvent, q queue) {
			key := client.ObjectKeyFromObject(ev.Object)
			e.parking.interrupt(key)
			q.Add(reconcile.Request{NamespacedName: key})
		},
	}
}

// asksForRun implements the predicate of _common 5.
func asksForRun(before, after client.Object) bool {
	if before.GetGeneration() != after.GetGeneration() {
		return true
	}
	token, asked := after.GetAnnotations()[meta.ReconcileRequestAnnotation]
	return asked && token != before.GetAnnotations()[meta.ReconcileRequestAnnotation]
}

// mapped handles events of a watched type.
func (e *engine[O]) mapped(w Watch) handler.EventHandler {
	wake := func(before, after client.Object, initial bool, q queue) {
		for _, key := range w.Map(before, after) {
			// In this order: the run that the event starts must not be interrupted by it.
			if w.Interrupts && !initial {
				obj := after
				if after == nil {
					obj = before
				}
				e.parking.changed(key, obj, after == nil)
			}
			add(q, key, initial)
		}
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, ev ctrlevent.CreateEvent, q queue) {
			wake(nil, ev.Object, ev.IsInInitialList, q)
		},
		UpdateFunc: func(_ context.Context, ev ctrlevent.UpdateEvent, q queue) {
			wake(ev.ObjectOld, ev.ObjectNew, false, q)
		},
		DeleteFunc: func(_ context.Context, ev ctrlevent.DeleteEvent, q queue) {
			wake(ev.Object, nil, false, q)
		},
	}
}

// addFirst enqueues a key before all others: what is nearly done holds memory and dependents.
func addFirst(q queue, key types.NamespacedName) {
	req := reconcile.Request{NamespacedName: key}
	if pq, ok := q.(priorityqueue.PriorityQueue[reconcile.Request]); ok {
		first := -handler.LowPriority
		pq.AddWithOpts(priorityqueue.AddOpts{Priority: &first}, req)
		return
	}
	q.Add(req)
}

// add enqueues a key; what only stems from the start of the process comes after what happens now.
func add(q queue, key types.NamespacedName, initial bool) {
	req := reconcile.Request{NamespacedName: key}
	if pq, ok := q.(priorityqueue.PriorityQueue[reconcile.Request]); ok && initial {
		low := handler.LowPriority
		pq.AddWithOpts(priorityqueue.AddOpts{Priority: &low}, req)
		return
	}
	q.Add(req)
}
