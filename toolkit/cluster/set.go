package cluster

import (
	"context"
	"errors"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/auth"
	"github.com/seed-79636ae9/flux/toolkit/kube"
)

// Options are what a Set needs.
type Options struct {
	// Kind is that of the objects, "Kustomization".
	Kind string
	// Own are the clients of the controller's own cluster.
	Own *kube.Clients
	// Reader reads live the Secrets and ConfigMaps that objects name.
	Reader client.Reader
	// Auth signs in to clusters of clouds; nil: such clusters are an error.
	Auth *auth.Authenticator
	// DefaultServiceAccount is the account of objects that name none; empty: they act with the rights of the controller, or of the
	// kubeconfig.
	DefaultServiceAccount string
	// KubeConfigServiceAccount signs in to other clusters where the ConfigMap names none.
	KubeConfigServiceAccount string
	// Kubeconfig says what kubeconfigs of Secrets may ask for.
	Kubeconfig kube.KubeconfigOptions
	// Remote bounds what another cluster may cost. Its Token is set by the Set.
	Remote kube.RemoteOptions
	// Clock may be replaced by a test.
	Clock clock.PassiveClock
	Log   logr.Logger
}

// Request says where and as whom an object acts.
type Request struct {
	// Owner is the object.
	Owner kube.Owner
	// KubeConfig is its spec.kubeConfig; nil: the controller's own cluster.
	KubeConfig *meta.KubeConfigReference
	// ServiceAccount is its spec.serviceAccountName.
	ServiceAccount string
	// Timeout bounds reading the configuration, signing in and connecting.
	Timeout time.Duration
}

// Park gives a work slot back, waits, and takes one again; loop.Run has one.
type Park func(ctx context.Context, wait func(context.Context) error) error

// Set are the clusters that the objects of a kind act on. It is safe for concurrent use; calls about one owner must not
// overlap, as the runs of an object do not.
type Set[W Watcher] struct {
	o     Options
	home  *Cluster[W]
	pool  *kube.Pool[*Cluster[W]]
	watch func(*kube.Client) W
}

// New makes a Set. watch makes the Watcher of a cluster, for the client of the identity that the cluster is reached with; it must not
// block. All other clusters are closed when ctx ends.
func New[W Watcher](ctx context.Context, o Options, watch func(*kube.Client) W) *Set[W] {
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	return &Set[W]{
		o: o, watch: watch, pool: kube.NewPool[*Cluster[W]](ctx),
		home: &Cluster[W]{Clients: o.Own, Watch: watch(o.Own.Own()), clock: o.Clock},
	}
}

// Home is the controller's own cluster.
func (s *Set[W]) Home() *Cluster[W] { return s.home }

// Of returns the cluster that an owner has reached last; one that reached none has the controller's own.
func (s *Set[W]) Of(owner kube.Owner) *Cluster[W] {
	if c, ok := s.pool.Of(owner); ok {
		return c
	}
	return s.home
}

// Identity is who an object acts as: its service account, or the default one (kustomization 96, helmrelease 88). On another cluster it is
// the account of that name there, in a namespace of the same name (kustomization 97).
func (s *Set[W]) Identity(r Request) kube.Identity {
	account := r.ServiceAccount
	if account == "" {
		account = s.o.DefaultServiceAccount
	}
	return kube.Identity{Namespace: r.Owner.Namespace, ServiceAccount: account}
}

// Reach returns the cluster that an object acts on, once it has answered. Nothing of this holds a work slot: a cloud or a cluster that
// hangs costs only its own objects (kustomization 99, reliability 081). An owner whose credentials were taken away uses them no longer:
// the errors are ErrNotFound, ErrUnusable and auth.ErrServiceAccount. Any other failure may pass.
func (s *Set[W]) Reach(ctx context.Context, r Request, park Park) (*Cluster[W], error) {
	if r.KubeConfig == nil {
		s.leave(r.Owner)
		return s.home, nil
	}
	var c *Cluster[W]
	err := park(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, r.Timeout)
		defer cancel()
		t, err := s.target(ctx, r)
		if errors.Is(err, ErrNotFound) || errors.Is(err, ErrUnusable) || errors.Is(err, auth.ErrServiceAccount) {
			s.leave(r.Owner)
		}
		if err != nil {
			return err
		}
		if c, err = s.use(r.Owner, t); err != nil {
			return err
		}
		return c.identify(ctx)
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Lost reports whether an error of Reach is for ever: what spec.kubeConfig names does not exist, and cannot come back, because the
// namespace is being deleted. Waiting for it would keep the namespace for ever (reliability 045).
func (s *Set[W]) Lost(ctx context.Context, r Request, err error) bool {
	if !errors.Is(err, ErrNotFound) {
		return false
	}
	found := &metav1.PartialObjectMetadata{}
	found.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	err = s.o.Reader.Get(ctx, client.ObjectKey{Name: r.Owner.Namespace}, found)
	return err == nil && found.DeletionTimestamp != nil
}

// Forget lets go of all that an owner used, on every cluster.
func (s *Set[W]) Forget(owner kube.Owner) {
	s.leave(owner)
	s.home.Watch.Forget(owner)
}

// use makes the target the cluster of an owner.
func (s *Set[W]) use(owner kube.Owner, t *target) (*Cluster[W], error) {
	before := s.Of(owner)
	c, err := s.pool.Use(owner, t.key, s.open(t))
	if err != nil {
		return nil, err
	}
	if before != c {
		before.Watch.Forget(owner)
	}
	if t.token != nil {
		c.token.set(t.token)
	}
	return c, nil
}

// leave lets go of what an owner uses of another cluster: it goes elsewhere, or may use it no longer.
func (s *Set[W]) leave(owner kube.Owner) {
	if c, ok := s.pool.Of(owner); ok {
		s.pool.Leave(owner)
		c.Watch.Forget(owner)
	}
}

// open returns the cluster of a target; what is watched there ends with ctx.
func (s *Set[W]) open(t *target) func(context.Context) (*Cluster[W], error) {
	return func(ctx context.Context) (*Cluster[W], error) {
		options := s.o.Remote
		if t.token != nil {
			options.Token = t.token.get
		}
		clients, err := kube.NewClients(kube.ClientsOptions{Config: kube.Remote(t.config, options)})
		if err != nil {
			return nil, err
		}
		c := &Cluster[W]{Clients: clients, Watch: s.watch(clients.Own()), key: t.key, token: t.token, clock: s.o.Clock}
		go func() {
			if err := c.Watch.Run(ctx); err != nil {
				s.o.Log.Error(err, "watching the managed objects of another cluster")
			}
		}()
		return c, nil
	}
}
