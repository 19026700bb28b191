package action

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"helm.sh/helm/v4/pkg/action"
	release "helm.sh/helm/v4/pkg/release/v1"
	"helm.sh/helm/v4/pkg/storage"
	"k8s.io/utils/clock"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	"github.com/seed-79636ae9/flux/toolkit/health"
	"github.com/seed-79636ae9/flux/toolkit/kube"
	"github.com/seed-79636ae9/flux/toolkit/loop"
)

// Manager is the field manager of everything that is written (helmrelease 70).
const Manager = "helm-controller"

// Errors of actions, for errors.Is.
var (
	// ErrNotFound says that the storage holds no such release.
	ErrNotFound = errors.New("release not found")
	// ErrCorrupt says that a record in the storage cannot be read.
	ErrCorrupt = errors.New("release record is corrupt")
	// ErrAlreadyDeleted says that the release is uninstalled already and its history is kept (helmrelease 92).
	ErrAlreadyDeleted = errors.New("release is already deleted")
)

// Park gives a work slot back, waits, and takes one again; loop.Run has one.
type Park func(ctx context.Context, wait func(context.Context) error) error

// Options is where, as whom and how actions act.
type Options struct {
	// Client acts as the HelmRelease. Without one, and without Shared, there is only Template.
	Client *kube.Client
	// Managed watches the objects that carry labels of HelmReleases of the cluster; nil: they are polled.
	Managed *kube.Managed
	// Owner is the HelmRelease, for Managed.
	Owner kube.Owner
	// Evaluator knows spec.healthCheckExprs. Optional.
	Evaluator *health.Evaluator
	// Park is where waits go; nil: they are called directly.
	Park Park
	// Shared is what the actions on one cluster share.
	Shared *Shared
	// Listing is what the run knows of the records; nil: nothing yet.
	Listing *Listing
	// ReleaseNamespace is where the objects of the release go unless they say otherwise.
	ReleaseNamespace string
	// StorageNamespace is where Helm's records are.
	StorageNamespace string
	// AllowDNS lets templates look up host names (gate AllowDNSLookups).
	AllowDNS bool
	// Helm3Defaults renders hooks past the post-renderers and installs by client-side apply (gate UseHelm3Defaults).
	Helm3Defaults bool
	// KeepWaiting waits for the other objects when one has failed (gate DisableFailFastBehavior).
	KeepWaiting bool
	// MaxManifest bounds the rendered manifests, in bytes; 0 means DefaultMaxManifest.
	MaxManifest int
	// Clock may be replaced by a test.
	Clock clock.WithTicker
}

// DefaultMaxManifest is the largest output of a chart, in bytes. What is stored of it must fit into a Secret anyway.
const DefaultMaxManifest = 32 << 20

// Actions performs actions of one HelmRelease. It is meant for one run of it: Written and Log tell about all that was done since New.
// Its actions must not overlap. Charts and values that are given to an action are the action's from then on.
type Actions struct {
	o     Options
	log   *logTail
	store *store

	mu   sync.Mutex // guards crds
	crds []CRD
}

// New makes Actions. It makes no request.
func New(o Options) (*Actions, error) {
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.Park == nil {
		o.Park = func(ctx context.Context, wait func(context.Context) error) error { return wait(ctx) }
	}
	if o.MaxManifest == 0 {
		o.MaxManifest = DefaultMaxManifest
	}
	a := &Actions{o: o, log: newLogTail(o.Clock)}
	if o.Client == nil {
		return a, nil
	}
	requests, err := newRequests(o.Client)
	if err != nil {
		return nil, err
	}
	if o.Listing == nil {
		o.Listing = &Listing{}
	}
	a.store = newStore(storeOptions{Requests: requests, Namespace: o.StorageNamespace, Cache: o.Shared.records, Listing: o.Listing, Clock: o.Clock})
	return a, nil
}

// Observe returns the newest version of a release in the storage, with only the metadata of its chart. The records are listed, and known
// from then on to all that use the same Listing. The error is ErrNotFound when there is none, and names the Secret when its record cannot
// be read.
func (a *Actions) Observe(ctx context.Context, name string) (*release.Release, error) {
	return a.store.latest(ctx, name, a.store.observe)
}

// Latest is Observe by what is known of the records, if they were observed before.
func (a *Actions) Latest(ctx context.Context, name string) (*release.Release, error) {
	return a.store.latest(ctx, name, a.store.known)
}

// Recall is Latest as far as that takes no request; else nil.
func (a *Actions) Recall(name string) *release.Release { return a.store.recall(name) }

// Get returns a version of a release in the storage, with only the metadata of its chart. Its errors are those of Latest.
func (a *Actions) Get(ctx context.Context, name string, version int) (*release.Release, error) {
	return a.store.version(ctx, name, version)
}

// Unlock marks a release as failed that an interrupted action has left in a pending state (helmrelease 44).
func (a *Actions) Unlock(ctx context.Context, rel *release.Release) error {
	return a.store.unlock(ctx, rel.Name, rel.Version)
}

// Written returns every release that was created or updated in the storage since New: per version what was written last, in the order
// of the first writes.
func (a *Actions) Written() []*release.Release { return a.store.written() }

// Log returns the last lines of Helm's log (helmrelease 78).
func (a *Actions) Log() string { return a.log.String() }

// CRDs returns the definitions that the actions since New have applied from the crds directory of the chart and its dependencies.
func (a *Actions) CRDs() []CRD {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]CRD(nil), a.crds...)
}

// session is one action: what Helm gets to work with.
type session struct {
	a      *Actions
	config *action.Configuration
	client *client
	driver *storeDriver
}

// begin prepares an action. Requests of it go on when ctx ends, so that nothing is broken off half way and Helm always records how it
// ended; only waits end with ctx.
func (a *Actions) begin(ctx context.Context, m method) (*session, error) {
	requests, err := newRequests(a.o.Client)
	if err != nil {
		return nil, err
	}
	working := context.WithoutCancel(ctx)
	c := newClient(clientOptions{
		Requests: requests.within(working), Mapper: a.o.Client.Mapper, Namespace: a.o.ReleaseNamespace, Method: m, Log: a.log,
	})
	c.waits = &waits{
		ctx: ctx, park: a.o.Park, client: a.o.Client, requests: requests, managed: a.o.Managed, owner: a.o.Owner, evaluator: a.o.Evaluator,
		keepWaiting: a.o.KeepWaiting, clock: a.o.Clock, log: a.log,
	}
	config := action.NewConfiguration(action.ConfigurationSetLogger(a.log))
	config.KubeClient = c
	d := a.store.driver(working, m.wholeCharts)
	c.undeployed = d.undeployedReleases
	config.Releases = storage.Init(d)
	config.Releases.SetLogger(a.log)
	config.SetHookOutputFunc(discardHookOutput)
	return &session{a: a, config: config, client: c, driver: d}, nil
}

// rendering adds what templates need. Its requests end with ctx.
func (s *session) rendering(ctx context.Context, obj *helmv2.HelmRelease) error {
	if obj.Spec.PersistentClient != nil && !*obj.Spec.PersistentClient {
		s.a.o.Client.Mapper.Invalidate()
	}
	capabilities, err := s.a.o.Shared.capabilities(ctx)
	if err != nil {
		return err
	}
	s.config.Capabilities = capabilities
	s.config.CustomTemplateFuncs = s.client.templateFuncs(ctx, s.a.guard(ctx))
	return nil
}

// ended words the end of an action, of which Helm does not always pass on why, and sees to it that no release stays pending
// (reliability 087).
func (s *session) ended(err error) error {
	if err == nil {
		return nil
	}
	if cause := s.client.waits.interrupted(); cause != nil && !errors.Is(err, loop.ErrInterrupted) {
		err = fmt.Errorf("%w: %w", err, cause)
	}
	if unsettled := s.a.store.settle(s.client.o.Requests.ctx, err); unsettled != nil {
		err = fmt.Errorf("%w; and the release is still pending: %w", err, unsettled)
	}
	if len(err.Error()) > maxDescription {
		return shortened{err}
	}
	return err
}

// shortened is an error with a bounded text: a schema can list any number of values that it would take.
type shortened struct{ error }

// Error implements error.
func (s shortened) Error() string { return cut(s.error.Error(), maxDescription) }

// Unwrap returns the error with its whole text.
func (s shortened) Unwrap() error { return s.error }

// contained runs an action of Helm and makes a panic in it, which a chart may cause, an error.
func contained[T any](do func() (T, error)) (result T, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	return do()
}

// v1 is the release of an answer of Helm; nil if it has none.
func v1(answer any) *release.Release {
	switch r := answer.(type) {
	case *release.Release:
		return r
	case release.Release:
		return &r
	}
	return nil
}

// isEnabled reports whether an optional switch is on.
func isEnabled(value *bool, otherwise bool) bool {
	if value == nil {
		return otherwise
	}
	return *value
}
