package notify

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/spf13/pflag"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	notificationv1 "github.com/seed-79636ae9/flux/api/notification/v1"
	notificationv1beta3 "github.com/seed-79636ae9/flux/api/notification/v1beta3"
	"github.com/seed-79636ae9/flux/internal/component"
	"github.com/seed-79636ae9/flux/internal/kind"
	"github.com/seed-79636ae9/flux/internal/notify/receiver"
	"github.com/seed-79636ae9/flux/toolkit/event"
)

// Name is the upstream name of the component: event source and field manager.
const Name = "notification-controller"

// Component describes notification-controller.
func Component() component.Component {
	group := notificationv1.GroupVersion.Group
	return component.Component{
		Manifest: component.Manifest{
			Name: Name, Group: group,
			CRDs: []string{"alerts." + group, "providers." + group, "receivers." + group},
			Rules: []rbacv1.PolicyRule{
				{APIGroups: []string{group}, Resources: []string{"*"}, Verbs: []string{"*"}},
				// Alerts read labels of what events are about, Receivers annotate what they are to wake.
				{
					APIGroups: []string{
						"source.toolkit.fluxcd.io", "kustomize.toolkit.fluxcd.io", "helm.toolkit.fluxcd.io", "image.toolkit.fluxcd.io",
						"source.extensions.fluxcd.io",
					},
					Resources: []string{"*"}, Verbs: []string{"get", "list", "watch", "patch"},
				},
			},
			Events: true, GraceSeconds: 10, CPURequest: "100m",
		},
		Short:      "notify",
		Concurrent: 4,
		Unsharded:  true,
		Kinds:      []kind.Kind{ReceiverKind(), ProviderKind(), AlertKind()},
		Requires: []schema.GroupVersionKind{
			notificationv1.GroupVersion.WithKind(notificationv1.ReceiverKind),
			notificationv1beta3.GroupVersion.WithKind(notificationv1beta3.AlertKind),
			notificationv1beta3.GroupVersion.WithKind(notificationv1beta3.ProviderKind),
		},
		FeatureGates: map[string]bool{"ObjectLevelWorkloadIdentity": false, "CacheSecretsAndConfigMaps": false, "DisableConfigWatchers": false},
		New:          func() component.Instance { return &instance{} },
	}
}

type instance struct {
	eventsAddr   string
	receiverAddr string
	rateLimit    time.Duration
	exportPaths  bool

	started    <-chan struct{}
	dispatcher *Dispatcher
	hooks      *receiver.Server
	metrics    *Metrics
}

// BindFlags implements component.Instance (wire contract 14).
func (i *instance) BindFlags(fs *pflag.FlagSet) {
	fs.StringVar(&i.eventsAddr, "events-addr", ":9090", "The address that events are taken at; it may be the one artifacts are served at.")
	fs.StringVar(&i.receiverAddr, "receiverAddr", ":9292", "The address that webhooks are taken at.")
	fs.DurationVar(&i.rateLimit, "rate-limit-interval", 5*time.Minute, "How long the same event is not told again.")
	fs.BoolVar(&i.exportPaths, "export-http-path-metrics", false, "Label the metrics of webhooks and events with the path of the request.")
}

// AddToScheme implements component.Instance.
func (i *instance) AddToScheme(s *runtime.Scheme) error {
	return errors.Join(notificationv1.AddToScheme(s), notificationv1beta3.AddToScheme(s))
}

// Prepare implements component.Preparer. Events are told and webhooks answered by every process, whoever holds the lease: it decides who
// writes, not who listens.
func (i *instance) Prepare(host *component.Host) (err error) {
	if i.rateLimit < 0 {
		return errors.New("--rate-limit-interval is negative")
	}
	if i.metrics, err = NewMetrics(metrics.Registry); err != nil {
		return err
	}
	// The manager elects nobody: what it calls an election is its start.
	i.started = host.Manager.Elected()
	i.dispatcher = NewDispatcher(DispatcherOptions{
		Client: host.Client, Reader: host.Reader, Events: host.Recorder(Name), Auth: host.Auth, RateLimit: i.rateLimit,
		NoCrossNamespaceRefs: host.Common.NoCrossNamespaceRefs, UserAgent: host.UserAgent, Metrics: i.metrics, Log: host.Log,
	})
	i.hooks = receiver.New(receiver.Options{
		NoCrossNamespaceRefs: host.Common.NoCrossNamespaceRefs, ExportPaths: i.exportPaths, Registry: metrics.Registry, Log: host.Log,
	})
	shared := *host
	return host.Manager.Add(manager.RunnableFunc(func(ctx context.Context) error { return i.follow(ctx, &shared) }))
}

// follow lets webhooks be answered without the lease, as soon as the kind is installed.
func (i *instance) follow(ctx context.Context, host *component.Host) error {
	for {
		err := i.hooks.Follow(ctx, host)
		if err == nil || ctx.Err() != nil {
			return nil
		}
		host.Log.Info("webhooks are not answered yet", "reason", err.Error())
		select {
		case <-time.After(followRetry):
		case <-ctx.Done():
			return nil
		}
	}
}

// followRetry is how often it is tried to follow Receivers while their kind is not installed.
const followRetry = time.Second

// Release implements component.Preparer.
func (i *instance) Release() error { return nil }

// TakeEvent implements component.EventTaker.
func (i *instance) TakeEvent(ctx context.Context, p event.Payload) bool {
	// Before the start there is no cache to find Alerts in.
	select {
	case <-i.started:
	case <-ctx.Done():
		return false
	}
	return !errors.Is(i.dispatcher.Dispatch(ctx, p), ErrDuplicate)
}

// Drain implements component.EventTaker.
func (i *instance) Drain(ctx context.Context) error {
	if i.dispatcher == nil {
		return nil
	}
	return i.dispatcher.Shutdown(ctx)
}

// Serving implements component.Server.
func (i *instance) Serving() []component.Endpoint {
	// There is one path: others are answered 404.
	events := receiver.NewHTTPMetrics(metrics.Registry, "gotk_event", "event-receiver").
		Wrap(EventHandler(i.dispatcher), func(*http.Request) string { return "/" })
	return []component.Endpoint{
		{Flag: "events-addr", Addr: i.eventsAddr, Handler: events, Server: server, Posts: true},
		{Flag: "receiverAddr", Addr: i.receiverAddr, Handler: i.hooks, Server: server},
	}
}

func server(addr string, h http.Handler) *http.Server {
	s := receiver.HTTPServer(h)
	s.Addr = addr
	return s
}

// Setup implements component.Instance.
func (i *instance) Setup(ctx context.Context, host *component.Host) error {
	return errors.Join(i.setupFinalizers(host), i.hooks.Setup(ctx, host))
}
