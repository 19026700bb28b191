// Package receiver is the kind Receiver: it gives every Receiver the path of a webhook, and serves the webhooks. A call that proves where
// it comes from asks the objects of the Receiver to reconcile at once. Each type of sender has a file of its own and an entry in Types.
package receiver

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/seed-79636ae9/flux/api/meta"
	notificationv1 "github.com/seed-79636ae9/flux/api/notification/v1"
	"github.com/seed-79636ae9/flux/internal/component"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

// Name is the upstream name of the component: event source and field manager.
const Name = "notification-controller"

// Limits of a call (receiver 9, wire.md 11).
const (
	// MaxBody is the largest body in bytes; a larger one is answered with 413.
	MaxBody = 3 << 20
	// MaxHeader bounds the request line and the headers, in bytes.
	MaxHeader = 256 << 10
	// HeaderTimeout is how long a caller may take to send the headers.
	HeaderTimeout = 10 * time.Second
	// ReadTimeout is how long a caller may take to send the whole call.
	ReadTimeout = 30 * time.Second
	// idleTimeout is how long a connection may wait for its next call.
	idleTimeout = 60 * time.Second
)

// HTTPServer returns a server with the limits of calls. The caller gives it a listener.
func HTTPServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler: handler, MaxHeaderBytes: MaxHeader, ReadHeaderTimeout: HeaderTimeout, ReadTimeout: ReadTimeout, IdleTimeout: idleTimeout,
	}
}

// Options are what the flags of the component say.
type Options struct {
	// NoCrossNamespaceRefs refuses resources of other namespaces (receiver 18).
	NoCrossNamespaceRefs bool
	// ExportPaths labels the metrics of calls with the path of the webhook (--export-http-path-metrics).
	ExportPaths bool
	// Registry takes the metrics of calls; nil: they are counted for nobody.
	Registry prometheus.Registerer
	Log      logr.Logger
}

// Server reconciles Receivers and answers their webhooks. It answers 503 until Follow has succeeded and the Receivers are known.
type Server struct {
	options Options
	index   *index
	issuers *issuers
	metrics *HTTPMetrics
	// thinkingTime is what all evaluations for one call may take together.
	thinkingTime time.Duration
	backend      atomic.Pointer[backend] // nil before Follow

	following sync.Mutex // serialises Follow
}

// backend is what a Server needs of the process.
type backend struct {
	client client.Client // patches objects
	reader client.Reader // reads live
	synced func() bool   // whether the index holds all Receivers
}

// New returns a Server that knows no Receiver yet.
func New(o Options) *Server {
	s := &Server{
		options: o, issuers: newIssuers(issuersOptions{}), thinkingTime: thinkingTime,
		metrics: NewHTTPMetrics(o.Registry, "gotk_receiver", "webhook-receiver"),
	}
	s.index = newIndex(s.metrics.forget)
	return s
}

// Follow begins to follow Receivers, so that their webhooks are answered. It returns an error while the kind is not installed, and does
// nothing once it has succeeded. Every process answers, also those that wait for the lease.
func (s *Server) Follow(ctx context.Context, host *component.Host) error {
	s.following.Lock()
	defer s.following.Unlock()
	if s.backend.Load() != nil {
		return nil
	}
	informer, err := host.Manager.GetCache().GetInformer(ctx, &notificationv1.Receiver{})
	if err != nil {
		return fmt.Errorf("following Receivers: %w", err)
	}
	registration, err := informer.AddEventHandler(s.index.handler())
	if err != nil {
		return fmt.Errorf("following Receivers: %w", err)
	}
	s.backend.Store(&backend{client: host.Client, reader: host.Reader, synced: registration.HasSynced})
	return nil
}

// Setup adds the controller of Receivers to the host. It is called once.
func (s *Server) Setup(ctx context.Context, host *component.Host) error {
	if err := s.Follow(ctx, host); err != nil {
		return err
	}
	var watches []loop.Watch
	if host.Common.WatchConfigs != nil && !host.Common.Gates["DisableConfigWatchers"] {
		secrets := &metav1.PartialObjectMetadata{}
		secrets.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
		watches = append(watches, loop.Watch{Object: secrets, Map: s.onSecret})
	}
	_, err := s.controller(host.Reader, watches).SetupWithManager(host.Manager, s.loopOptions(host.LoopOptions()))
	return err
}

// loopOptions are those of the host, as Receivers have them: events stay in the cluster (receiver 5), and runs come when the event of
// the last one has said, without a spread (receiver 7).
func (s *Server) loopOptions(o loop.Options) loop.Options {
	o.JitterPercent = 0
	o.Events = localEvents{o.Events}
	gone := o.Gone
	o.Gone = func(kind, namespace, name string) {
		s.index.forget(namespace, name)
		if gone != nil {
			gone(kind, namespace, name)
		}
	}
	return o
}

func (s *Server) controller(reader client.Reader, watches []loop.Watch) *loop.Controller[*notificationv1.Receiver] {
	return &loop.Controller[*notificationv1.Receiver]{
		Name: Name, Kind: notificationv1.ReceiverKind,
		New:        func() *notificationv1.Receiver { return &notificationv1.Receiver{} },
		Reconciler: &reconciler{index: s.index, reader: reader},
		Conditions: status.Table{ReadyReason: meta.SucceededReason},
		FailReason: meta.FailedReason,
		Policy:     loop.Policy{SuspendObserves: loop.WhenReadyExists},
		Watches:    watches,
	}
}

// localEvents keeps the events of Receivers in the cluster, and tells every failure with one reason (receiver 5).
type localEvents struct{ next loop.Emitter }

// Emit implements loop.Emitter.
func (l localEvents) Emit(obj client.Object, e event.Event) {
	e.Local = true
	if e.Severity == event.Error {
		e.Reason = meta.FailedReason
	}
	l.next.Emit(obj, e)
}

// handler follows the cache of Receivers.
func (i *index) handler() toolscache.ResourceEventHandler {
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) {
			if o, ok := obj.(*notificationv1.Receiver); ok {
				i.observe(o)
			}
		},
		UpdateFunc: func(_, obj any) {
			if o, ok := obj.(*notificationv1.Receiver); ok {
				i.observe(o)
			}
		},
		DeleteFunc: func(obj any) {
			if last, ok := obj.(toolscache.DeletedFinalStateUnknown); ok {
				obj = last.Obj
			}
			if o, ok := obj.(*notificationv1.Receiver); ok {
				i.forget(o.Namespace, o.Name)
			}
		},
	}
}
