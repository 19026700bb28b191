// Package component says what a component of the process is: its upstream name, its flags, the rights it needs
// and how it is set up. It knows no concrete kind.
package component

import (
	"context"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/seed-79636ae9/flux/internal/kind"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
	"github.com/seed-79636ae9/flux/toolkit/auth"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/kube"
	"github.com/seed-79636ae9/flux/toolkit/loop"
)

// Component is one of the controllers that upstream ships as a program of its own.
type Component struct {
	// Manifest is how the component is installed: its upstream name, rights and needs.
	Manifest
	// Short is the prefix of the component's flags in `flux run` where plain names would collide, e.g. source.
	Short string
	// Concurrent is the default of --concurrent.
	Concurrent int
	// RequeueDependency is the default of --requeue-dependency; zero: that of most components.
	RequeueDependency time.Duration
	// GracefulShutdown is the default of --graceful-shutdown-timeout; zero: that of most components.
	GracefulShutdown time.Duration
	// Kinds are the kinds the component reconciles.
	Kinds []kind.Kind
	// Unsharded components see all objects of their kinds whatever --watch-label-selector says (wire.md 14).
	Unsharded bool
	// Requires are the kinds that must be installed before the component can start; it waits for them.
	Requires []schema.GroupVersionKind
	// FeatureGates are the gates the component knows, with their defaults (wire.md 15).
	FeatureGates map[string]bool
	// New returns an instance with its own options, ready to bind flags.
	New func() Instance
}

// Instance is a component of one process.
type Instance interface {
	// BindFlags declares the flags that only this component has, under their upstream names.
	BindFlags(fs *pflag.FlagSet)
	// AddToScheme registers the types the component reads and writes.
	AddToScheme(scheme *runtime.Scheme) error
	// Setup starts the component's controllers in the host's manager. It is called once the component's lease is held.
	Setup(ctx context.Context, host *Host) error
}

// Endpoint is what a component serves on an address of its own.
type Endpoint struct {
	// Flag is the name of the flag that says the address, for messages.
	Flag string
	// Addr is the host:port to listen on.
	Addr string
	// Handler answers.
	Handler http.Handler
	// Server returns the HTTP server with the limits that suit the handler, not yet listening.
	Server func(addr string, h http.Handler) *http.Server
	// Posts: the handler takes what is posted, and can share an address with one that is read from.
	Posts bool
}

// Server is an instance that serves HTTP.
type Server interface {
	// Serving returns the endpoints, after Prepare.
	Serving() []Endpoint
}

// EventTaker is an instance that takes the events of the components of its process.
type EventTaker interface {
	// TakeEvent takes one event. It returns soon once ctx has ended, and false when it knows the event already.
	TakeEvent(ctx context.Context, p event.Payload) bool
	// Drain finishes what was taken, until ctx ends. It is called once no more events come.
	Drain(ctx context.Context) error
}

// Preparer is an instance that others depend on before anything is set up, e.g. the one that holds the artifact store.
type Preparer interface {
	// Prepare opens what the host shares. It must not touch the API server.
	Prepare(host *Host) error
	// Release gives it back at the end of the process.
	Release() error
}

// Common are the options every upstream controller has; the components of a process share them, except Concurrent.
type Common struct {
	Concurrent            int
	MaxParked             int
	JitterPercent         int
	MinRetryDelay         time.Duration
	MaxRetryDelay         time.Duration
	RequeueDependency     time.Duration
	HTTPRetry             int
	NoCrossNamespaceRefs  bool
	DefaultServiceAccount string
	// WatchConfigs selects the ConfigMaps and Secrets whose changes are events (_common 51).
	WatchConfigs labels.Selector
	// Gates are the feature gates of the component as the user set them.
	Gates map[string]bool
}

// Host is the process a component runs in.
type Host struct {
	Manager ctrl.Manager
	// Config is the connection to the API server, without client-side rate limits.
	Config *rest.Config
	// Client reads from the cache and writes.
	Client client.Client
	// Reader reads live.
	Reader client.Reader
	// Namespace is where the process runs (RUNTIME_NAMESPACE).
	Namespace string
	// Store holds the artifacts of the sources of this process; nil when it has none.
	Store *artifact.Store
	// Storages are the stores of the process and their servers, in the order in which they were opened.
	Storages []*Storage
	// Artifacts opens the artifacts that sources advertise.
	Artifacts *artifact.Opener
	// Clusters gives clients for the objects that Kustomizations and HelmReleases manage.
	Clusters *kube.Clients
	// Auth obtains credentials from clouds and Git hosts.
	Auth *auth.Authenticator
	// Events sends events under the component's name; nil before Setup.
	Events *event.Recorder
	// Recorder sends events under the name of any component.
	Recorder func(component string) *event.Recorder
	// UserAgent of requests to other services.
	UserAgent string
	// Metrics are the gotk_* series.
	Metrics *loop.Metrics
	// Common are the component's shared options.
	Common Common
	Log    logr.Logger
}

// LoopOptions returns what every controller of the component hands to the loop.
func (h *Host) LoopOptions() loop.Options {
	return loop.Options{
		Client: h.Client, Reader: h.Reader, Events: h.Events, Metrics: h.Metrics, Gone: h.Auth.Forget,
		Concurrent: h.Common.Concurrent, MaxParked: h.Common.MaxParked, JitterPercent: h.Common.JitterPercent,
		MinRetryDelay: h.Common.MinRetryDelay, MaxRetryDelay: h.Common.MaxRetryDelay,
	}
}
