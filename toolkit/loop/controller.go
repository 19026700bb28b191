package loop

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

// Object is what the loop can reconcile.
type Object interface {
	client.Object
	meta.Reconcilable
}

// Reconciler is all a kind must write.
type Reconciler[O Object] interface {
	// Reconcile brings the world to what the object's spec says and fills its status in memory. The returned
	// error is the verdict of the run; see Verdict.
	Reconcile(ctx context.Context, obj O, run *Run) error
}

// Finalizer undoes what an object has done to the world before it goes. A kind whose Reconciler also is a
// Finalizer gets a finalizer before any work, `finalizers.fluxcd.io` unless its Controller says otherwise (_common 2).
type Finalizer[O Object] interface {
	// Finalize returns nil when the object may go. A Fail keeps the finalizer and retries.
	Finalize(ctx context.Context, obj O, run *Run) error
}

// StatusMerger lets a kind add what must not get lost when a status patch meets a newer status of someone
// else: ours is about to replace live, which somebody made of base, the last state we knew.
type StatusMerger[O Object] interface {
	MergeStatus(base, live, ours O)
}

// Controller is what the loop cannot guess about a kind.
type Controller[O Object] struct {
	// Name is the controller's upstream name: event source and user agent, e.g. kustomize-controller.
	Name string
	// Finalizer is set on objects of a kind that has a Finalizer; empty: meta.Finalizer.
	Finalizer string
	// FieldManager writes status and finalizers; empty: Name.
	FieldManager string
	// Kind is the object's kind, e.g. Kustomization: the label of metrics and the key of log lines.
	Kind string
	// New returns an empty object.
	New func() O
	// Reconciler does the work; it may also be a Finalizer and a StatusMerger.
	Reconciler Reconciler[O]
	// Conditions declares the kind's conditions.
	Conditions status.Table
	// FailReason is the Ready reason of an error that is no verdict.
	FailReason string
	// Retry is when a failed object is tried again; nil or zero: exponential backoff.
	Retry func(O) time.Duration
	// Policy holds where the kinds of 2.9 differ.
	Policy Policy
	// Static tells objects that need no work: they get no finalizer and no status, and their events end here. What an
	// object has left of a time when it did need work is removed once: Finalize runs, the status is emptied and the
	// finalizer taken away (helmrepository 1-4, 34). Nil: no object is.
	Static func(O) bool
	// Watches are the other objects whose changes matter.
	Watches []Watch
}

// Policy holds the cells of the verdict table in which 2.9's kinds differ.
type Policy struct {
	// WaitKeepsReconciling: a waiting object keeps Reconciling=True ProgressingWithRetry (sources do, Kustomization does not; _common 24).
	WaitKeepsReconciling bool
	// KeepsProgress: Reconciling of a run without success stays as the run has last set it, whatever the outcome (HelmRelease).
	KeepsProgress bool
	// TokensWait: a request token starts a run, but does not end a parked wait (HelmRelease, whose waits belong to an action that
	// would have to be repeated).
	TokensWait bool
	// SuspendObserves says when a suspended object's observedGeneration follows its generation (_common 4).
	SuspendObserves SuspendRule
	// SuspendRestamps: Ready takes the new generation too when SuspendObserves applies (sources).
	SuspendRestamps bool
	// SuspendRestampsAll: so do all other conditions (HelmRelease).
	SuspendRestampsAll bool
	// SuspendReady is the Ready condition of a suspended object that has none: its reason and message (ArtifactGenerator; artifactgenerator
	// 5). Nil: it stays without.
	SuspendReady *metav1.Condition
	// SuspendEvent is sent whenever a suspended object is looked at (ArtifactGenerator; artifactgenerator 4). Nil: none.
	SuspendEvent *event.Event
}

// SuspendRule is a condition on a suspended object.
type SuspendRule int

const (
	// WhenReadyExists: any Ready condition will do (sources, Receiver).
	WhenReadyExists SuspendRule = iota
	// WhenReadyTrue: Ready must be True (Kustomization).
	WhenReadyTrue
	// Always: also without any condition (HelmRelease).
	Always
)

// Watch enqueues objects of the controller when an object of the watched type changes.
type Watch struct {
	// Object names the watched type.
	Object client.Object
	// Map returns whom a change concerns. Before is nil for a creation, after is nil for a deletion.
	Map func(before, after client.Object) []types.NamespacedName
	// Interrupts: the change also ends a parked wait of those objects.
	Interrupts bool
}

// Emitter sends an event about an object; it must not block.
type Emitter interface {
	Emit(obj client.Object, e event.Event)
}

// Options is what a controller shares with the process it runs in.
type Options struct {
	// Client reads from the cache and writes.
	Client client.Client
	// Reader reads live, for a patch that lost a race.
	Reader client.Reader
	// Events receives every event.
	Events Emitter
	// Metrics may be nil.
	Metrics *Metrics
	// Gone is told of every object that is deleted, so that others can drop what they keep of it; may be nil.
	Gone func(kind, namespace, name string)
	// Clock may be replaced by a test; nil: the real one.
	Clock clock.WithTickerAndDelayedExecution
	// Concurrent is the number of workers (--concurrent).
	Concurrent int
	// MaxParked is how many runs may wait without a worker (--max-parked); further ones keep theirs.
	MaxParked int
	// JitterPercent spreads the interval by so many percent in both directions (_common 8).
	JitterPercent int
	// MinRetryDelay and MaxRetryDelay bound the backoff of failures (_common 9).
	MinRetryDelay, MaxRetryDelay time.Duration
}

// Defaults of Options, as in 2.9.
const (
	DefaultMinRetryDelay = 750 * time.Millisecond
	DefaultMaxRetryDelay = 15 * time.Minute
	DefaultMaxParked     = 1000
	DefaultJitterPercent = 5
)

func (o Options) withDefaults() Options {
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.Concurrent < 1 {
		o.Concurrent = 1
	}
	if o.MinRetryDelay <= 0 {
		o.MinRetryDelay = DefaultMinRetryDelay
	}
	if o.MaxRetryDelay <= 0 {
		o.MaxRetryDelay = DefaultMaxRetryDelay
	}
	return o
}

func (c *Controller[O]) finalizer() string {
	if c.Finalizer != "" {
		return c.Finalizer
	}
	return meta.Finalizer
}

func (c *Controller[O]) fieldManager() string {
	if c.FieldManager != "" {
		return c.FieldManager
	}
	return c.Name
}
