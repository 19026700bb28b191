package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/seed-79636ae9/flux/internal/component"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
	"github.com/seed-79636ae9/flux/toolkit/auth"
	"github.com/seed-79636ae9/flux/toolkit/auth/aws"
	"github.com/seed-79636ae9/flux/toolkit/auth/azure"
	"github.com/seed-79636ae9/flux/toolkit/auth/gcp"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/kube"
	"github.com/seed-79636ae9/flux/toolkit/loop"
)

// drainTimeout is how long events may take to leave a process that stops.
const drainTimeout = 5 * time.Second

// process is a running set of components.
type process struct {
	*Options
	log       logr.Logger
	namespace string
	config    *rest.Config
	manager   manager.Manager
	clusters  *kube.Clients
	metrics   *loop.Metrics
	auth      *auth.Authenticator
	gates     map[string]map[string]bool
	selector  labels.Selector
	writer    *event.KubernetesWriter
	sink      event.Sink
	drains    []func(context.Context) error
	host      component.Host // what all components share; each gets a copy
	state     *readiness
}

// Run runs the process until ctx ends. It returns nil after an orderly shutdown.
func Run(ctx context.Context, o *Options) (err error) {
	if err := noCoreDumps(); err != nil {
		return fmt.Errorf("turning core dumps off: %w", err)
	}
	p := &process{Options: o, namespace: os.Getenv("RUNTIME_NAMESPACE"), state: newReadiness(o.chosen)}
	if err := o.validate(); err != nil {
		return err
	}
	if o.LogTo == nil {
		o.LogTo = os.Stderr
	}
	if p.log, err = newLogger(o.LogTo, o.shared.logLevel, o.shared.logEncoding); err != nil {
		return err
	}
	ctrl.SetLogger(p.log)
	defer func() { err = errors.Join(err, p.release()) }()
	for _, step := range []func(context.Context) error{p.connect, p.manage, p.report, p.identify, p.share, p.serve, p.start} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	p.log.Info("starting", "components", p.names(), "version", o.Version, "namespace", p.namespace)
	if err := p.manager.Start(ctx); err != nil {
		return fmt.Errorf("running the components: %w", err)
	}
	p.log.Info("stopped")
	return nil
}

func (p *process) names() []string {
	var names []string
	for _, c := range p.chosen {
		names = append(names, c.Name)
	}
	return names
}

// connect finds the API server.
func (p *process) connect(context.Context) (err error) {
	config := p.Config
	if config == nil {
		if config, err = loadConfig(p.shared.kubeconfig); err != nil {
			return err
		}
	}
	p.config = kube.Config(config, "flux/"+p.Version)
	p.clusters, err = kube.NewClients(kube.ClientsOptions{Config: p.config})
	return err
}

// loadConfig follows the order of every controller: the flag, $KUBECONFIG, the cluster the process runs in, the user's file.
func loadConfig(path string) (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = path
	if path == "" && os.Getenv(clientcmd.RecommendedConfigPathEnvVar) == "" {
		if config, err := rest.InClusterConfig(); err == nil {
			return config, nil
		}
	}
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("finding the API server: %w", err)
	}
	return config, nil
}

// manage makes the manager: one cache for all components, in which ConfigMaps and Secrets appear only with
// the watch label and only by name.
func (p *process) manage(context.Context) (err error) {
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		return err
	}
	for _, c := range p.chosen {
		if err := c.instance.AddToScheme(scheme); err != nil {
			return fmt.Errorf("registering the types of %s: %w", c.Name, err)
		}
	}
	if p.gates, err = p.Options.gates(); err != nil {
		return err
	}
	if p.shared.watchConfigsSelector != "" {
		if p.selector, err = labels.Parse(p.shared.watchConfigsSelector); err != nil {
			return fmt.Errorf("--watch-configs-label-selector: %w", err)
		}
	}
	cacheOptions, err := p.cacheOptions(scheme)
	if err != nil {
		return err
	}
	p.manager, err = ctrl.NewManager(p.config, ctrl.Options{
		Scheme: scheme,
		Logger: p.log,
		Cache:  cacheOptions,
		Client: client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.Secret{}, &corev1.ConfigMap{}}}},
		Metrics: metricsserver.Options{
			BindAddress: p.shared.metricsAddr, ExtraHandlers: debugHandlers(),
		},
		HealthProbeBindAddress:  p.shared.healthAddr,
		GracefulShutdownTimeout: &p.shared.gracefulShutdown,
	})
	if err != nil {
		return fmt.Errorf("setting up: %w", err)
	}
	if err := p.manager.AddHealthzCheck("healthz", healthz.Ping); err != nil {
		return err
	}
	return p.manager.AddReadyzCheck("components", p.state.check)
}

// cacheOptions restricts the cache to the namespace and the shard of the process (_common 12, 13).
func (p *process) cacheOptions(scheme *runtime.Scheme) (cache.Options, error) {
	o := cache.Options{ByObject: map[client.Object]cache.ByObject{}, DefaultTransform: cache.TransformStripManagedFields()}
	if !p.shared.watchAllNamespaces {
		if p.namespace == "" {
			return o, errors.New("--watch-all-namespaces=false needs RUNTIME_NAMESPACE to say which namespace to watch")
		}
		o.DefaultNamespaces = map[string]cache.Config{p.namespace: {}}
	}
	if p.selector != nil {
		o.ByObject[&corev1.Secret{}] = cache.ByObject{Label: p.selector}
		o.ByObject[&corev1.ConfigMap{}] = cache.ByObject{Label: p.selector}
	}
	if p.shared.watchLabelSelector != "" {
		shard, err := labels.Parse(p.shared.watchLabelSelector)
		if err != nil {
			return o, fmt.Errorf("--watch-label-selector: %w", err)
		}
		for _, c := range p.chosen {
			if c.Unsharded {
				continue
			}
			for _, k := range c.Kinds {
				obj, err := scheme.New(k.GroupVersionKind)
				if err != nil {
					return o, err
				}
				o.ByObject[obj.(client.Object)] = cache.ByObject{Label: shard}
			}
		}
	}
	return o, nil
}

// report sets up metrics and the two ways out for events.
func (p *process) report(context.Context) (err error) {
	if p.metrics, err = loop.NewMetrics(metrics.Registry); err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	counters, err := event.NewMetrics(metrics.Registry)
	if err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	set, err := kubernetes.NewForConfig(p.config)
	if err != nil {
		return fmt.Errorf("making the client for events: %w", err)
	}
	p.writer = event.NewKubernetesWriter(event.KubernetesOptions{Client: set.CoreV1().Events(""), Log: p.log.WithName("events"), Metrics: counters})
	p.sink = event.Nop{}
	switch taker := p.taker(); {
	case p.shared.eventsAddr != "":
		sink, err := event.NewHTTPSink(event.HTTPOptions{
			Address: p.shared.eventsAddr, UserAgent: "flux/" + p.Version, Log: p.log.WithName("events"), Metrics: counters,
		})
		if err != nil {
			return fmt.Errorf("--events-addr: %w", err)
		}
		p.sink = sink
		p.drains = append(p.drains, sink.Shutdown)
	case taker != nil:
		sink := event.NewLocalSink(event.LocalOptions{Take: taker.TakeEvent, Metrics: counters})
		p.sink = sink
		p.drains = append(p.drains, sink.Shutdown)
	}
	if taker := p.taker(); taker != nil {
		p.drains = append(p.drains, func(ctx context.Context) error {
			// What could not be told is told of, which takes a moment too.
			ctx, cancel := context.WithTimeout(ctx, drainTimeout/2)
			defer cancel()
			return taker.Drain(ctx)
		})
	}
	p.drains = append(p.drains, p.writer.Shutdown)
	return nil
}

// taker is the component of the process that takes events; nil: there is none.
func (p *process) taker() component.EventTaker {
	for _, c := range p.chosen {
		if taker, ok := c.instance.(component.EventTaker); ok {
			return taker
		}
	}
	return nil
}

// identify sets up what gives the sources the credentials of clouds and Git hosts (_common 47-50).
func (p *process) identify(context.Context) error {
	set, err := kubernetes.NewForConfig(p.config)
	if err != nil {
		return fmt.Errorf("making the client for service accounts: %w", err)
	}
	p.auth, err = auth.New(auth.Options{
		Clouds:          []auth.Cloud{aws.New(aws.Options{}), azure.New(azure.Options{}), gcp.New(gcp.Options{})},
		ServiceAccounts: set.CoreV1(), ObjectLevel: objectLevel(p.gates), DefaultServiceAccount: p.shared.defaultServiceAccount,
		CacheSize: p.shared.tokenCacheSize, CacheDuration: p.shared.tokenCacheDuration, Registry: metrics.Registry,
	})
	return err
}

// share opens what components have in common: the artifact store of the sources, and the opener of the consumers.
func (p *process) share(context.Context) error {
	p.host = component.Host{
		Manager: p.manager, Config: p.config, Client: loop.Noting(p.manager.GetClient()), Reader: loop.NotingReader(p.manager.GetAPIReader()),
		Namespace: p.namespace, Clusters: p.clusters, Metrics: p.metrics, Auth: p.auth, Recorder: p.recorder, UserAgent: "flux/" + p.Version,
	}
	for _, c := range p.chosen {
		if preparer, ok := c.instance.(component.Preparer); ok {
			p.host.Common, p.host.Log = p.common(c), p.log.WithName(c.Name)
			if err := preparer.Prepare(&p.host); err != nil {
				return fmt.Errorf("preparing %s: %w", c.Name, err)
			}
		}
	}
	dir, err := os.MkdirTemp("", "flux-artifacts-*")
	if err != nil {
		return fmt.Errorf("making the directory of unpacked artifacts: %w", err)
	}
	p.drains = append(p.drains, func(context.Context) error { return os.RemoveAll(dir) })
	p.host.Artifacts, err = artifact.NewOpener(p.host.Store, filepath.Join(dir, "cache"), artifact.OpenerOptions{
		Retries: p.shared.httpRetry, TreeCacheBytes: p.shared.treeCacheBytes, UserAgent: "flux/" + p.Version,
		MoreStores: p.stores(),
		Hosts:      artifact.HostOverrides{SourceController: os.Getenv("SOURCE_CONTROLLER_LOCALHOST"), SourceWatcher: os.Getenv("SOURCE_WATCHER_LOCALHOST")},
	})
	if err != nil {
		return fmt.Errorf("opening the artifact cache: %w", err)
	}
	p.drains = append([]func(context.Context) error{func(context.Context) error { return p.host.Artifacts.Close() }}, p.drains...)
	return nil
}

// stores are all stores of the process besides the first.
func (p *process) stores() []*artifact.Store {
	var out []*artifact.Store
	for _, s := range p.host.Storages {
		if s.Store() != p.host.Store && !slices.Contains(out, s.Store()) {
			out = append(out, s.Store())
		}
	}
	return out
}

// serve listens on the addresses of the components. Listening happens here, so that a port that is taken is
// told at once; serving starts with the manager.
func (p *process) serve(context.Context) error {
	var endpoints []component.Endpoint
	for _, c := range p.chosen {
		if server, ok := c.instance.(component.Server); ok {
			endpoints = append(endpoints, server.Serving()...)
		}
	}
	shared, err := share(endpoints)
	if err != nil {
		return err
	}
	for _, e := range shared {
		listener, err := net.Listen("tcp", e.Addr)
		if err != nil {
			return fmt.Errorf("--%s: listening: %w", e.Flag, err)
		}
		if err := p.manager.Add(manager.RunnableFunc(func(ctx context.Context) error {
			return serveUntil(ctx, e.Server(e.Addr, e.Handler), listener)
		})); err != nil {
			return err
		}
	}
	return nil
}

// share puts endpoints of one address together: one that is posted to, and one that is read from.
func share(endpoints []component.Endpoint) ([]component.Endpoint, error) {
	var out []component.Endpoint
	for _, e := range endpoints {
		i := slices.IndexFunc(out, func(other component.Endpoint) bool { return other.Addr == e.Addr })
		switch {
		case i < 0:
			out = append(out, e)
		case out[i].Posts == e.Posts:
			return nil, fmt.Errorf("--%s=%s is also the address of --%s: choose another", e.Flag, e.Addr, out[i].Flag)
		default:
			posts, reads := e, out[i]
			if reads.Posts {
				posts, reads = reads, posts
			}
			reads.Handler = byMethod(posts.Handler, reads.Handler)
			out[i] = reads
		}
	}
	return out, nil
}

// byMethod hands what is read to one handler and what is written to another.
func byMethod(posts, reads http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost || r.Method == http.MethodPut {
			posts.ServeHTTP(w, r)
			return
		}
		reads.ServeHTTP(w, r)
	})
}

func serveUntil(ctx context.Context, s *http.Server, l net.Listener) error {
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	return s.Shutdown(ctx)
}

// start adds every component to the manager; each begins once its lease and its CRDs are there.
func (p *process) start(context.Context) error {
	if err := p.manager.Add(manager.RunnableFunc(func(ctx context.Context) error {
		return kube.WatchDefinitions(ctx, p.clusters.Own(), p.log.WithName("definitions"))
	})); err != nil {
		return err
	}
	for _, c := range p.chosen {
		if err := p.manager.Add(manager.RunnableFunc(func(ctx context.Context) error { return p.lead(ctx, c) })); err != nil {
			return err
		}
	}
	return nil
}

// setup starts a component's controllers.
func (p *process) setup(ctx context.Context, c chosen) error {
	if err := p.awaitKinds(ctx, c); err != nil {
		return err
	}
	host := p.host
	host.Log, host.Events, host.Common = p.log.WithName(c.Name), p.recorder(c.Name), p.common(c)
	if err := c.instance.Setup(ctx, &host); err != nil {
		return fmt.Errorf("starting %s: %w", c.Name, err)
	}
	if p.state.set(c.Name, "") {
		if p.Started != nil {
			p.Started()
		}
		boundMemory()
		// What is there already is reconciled first.
		time.AfterFunc(settleTime, releaseMemory)
	}
	return nil
}

// settleTime is how long after the start its memory is given back.
const settleTime = 5 * time.Second

// recorder sends events under the name of a component.
func (p *process) recorder(component string) *event.Recorder {
	hostname, _ := os.Hostname()
	return &event.Recorder{
		Component: component, Instance: hostname, Scheme: p.manager.GetScheme(), Kubernetes: p.writer, Sink: p.sink, Log: p.log.WithName(component),
	}
}

// common are the options that a component shares with the others.
func (p *process) common(c chosen) component.Common {
	return component.Common{
		Concurrent: *c.concurrent, MaxParked: p.shared.maxParked, JitterPercent: p.shared.jitter,
		MinRetryDelay: p.shared.minRetryDelay, MaxRetryDelay: p.shared.maxRetryDelay,
		RequeueDependency: p.requeueDependency(c), HTTPRetry: p.shared.httpRetry,
		NoCrossNamespaceRefs: p.shared.noCrossNamespaceRefs, DefaultServiceAccount: p.shared.defaultServiceAccount,
		WatchConfigs: p.selector, Gates: p.gates[c.Name],
	}
}

// awaitKinds waits for the component's CRDs: one that is missing makes the component unready, not its neighbours.
func (p *process) awaitKinds(ctx context.Context, c chosen) error {
	for _, gvk := range c.Requires {
		for {
			if _, err := p.clusters.Mapper().Resource(ctx, gvk); err == nil {
				break
			} else if p.state.get(c.Name) != err.Error() {
				p.state.set(c.Name, err.Error())
				p.log.Info("waiting for a kind to be installed", "component", c.Name, "kind", gvk.Kind, "reason", err.Error())
			}
			select {
			case <-time.After(kindRetry):
			case <-ctx.Done():
				return nil
			}
		}
	}
	return nil
}

// kindRetry is how often a component looks for a kind that is not installed.
const kindRetry = time.Second

// release gives back what the process holds, events last.
func (p *process) release() error {
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	var errs []error
	for _, drain := range p.drains {
		errs = append(errs, drain(ctx))
	}
	for _, c := range p.chosen {
		if preparer, ok := c.instance.(component.Preparer); ok {
			errs = append(errs, preparer.Release())
		}
	}
	return errors.Join(errs...)
}
