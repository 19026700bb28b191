// Package kustomize is the kind Kustomization: it builds what a source holds, applies it, removes what is no
// longer in it, and waits for its health.
package kustomize

import (
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
	"github.com/seed-79636ae9/flux/toolkit/auth"
	"github.com/seed-79636ae9/flux/toolkit/cluster"
	"github.com/seed-79636ae9/flux/toolkit/depend"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/health"
	"github.com/seed-79636ae9/flux/toolkit/kube"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/render"
	"github.com/seed-79636ae9/flux/toolkit/sourceref"
	"github.com/seed-79636ae9/flux/toolkit/ssa"
)

// How old an object without a status has to be before it is told to have no source, or none with an artifact: longer while nobody has
// looked at the source either, as when hundreds were created together.
const (
	sourcePatience       = 5 * time.Second
	unseenSourcePatience = 30 * time.Second
)

// Kustomizer reconciles Kustomizations.
type Kustomizer struct {
	Options
	// Cached reads Kustomizations.
	Cached client.Reader
	// Reader reads live: ConfigMaps and Secrets with variables, keys and settings.
	Reader client.Reader
	// Sources resolves source references.
	Sources *sourceref.Resolver
	// Artifacts opens what sources advertise.
	Artifacts *artifact.Opener
	// Accounts has tokens of ServiceAccounts issued, for Vaults.
	Accounts Accounts
	// Clusters are the API servers that Kustomizations apply to, with what is watched and remembered there.
	Clusters *cluster.Set[*watch]
	// Auth signs in to key services of clouds.
	Auth *auth.Authenticator
	// Graph holds the edges by which events of other objects wake Kustomizations.
	Graph *depend.Graph
	// Namespace is where the process runs; it is never pruned.
	Namespace string
	// Clock may be replaced by a test.
	Clock clock.WithTicker

	// Claims finds the Kustomizations that hold an object.
	Claims Claims

	touched *ownerSet
	settled settlements
	// yielding are the owners that wait until others have taken objects over.
	yielding  *ownerSet
	conflicts *bulletin
	drifts    *bulletin
	// wake asks for a run of an owner.
	wake func(kube.Owner)
}

// work is what one run has found out so far.
type work struct {
	obj       *kustomizev1.Kustomization
	run       *loop.Run
	start     time.Time
	timeout   time.Duration
	source    *sourceref.Source
	cluster   *cluster.Cluster[*watch]
	client    *kube.Client
	healthy   *health.Evaluator
	ignore    *ssa.Ignore
	budget    Budget
	built     *render.Result
	applied   *ssa.Result
	vanishing map[ssa.ID]bool
	changed   bool
	// inputs identifies what the run is made of; empty: it cannot be told.
	inputs string
	// vars are the variables once they are loaded.
	vars func() (map[string]string, error)
	// decryption is nil when the object asks for none.
	decryption *decryption
}

// Reconcile implements loop.Reconciler.
func (k *Kustomizer) Reconcile(ctx context.Context, obj *kustomizev1.Kustomization, run *loop.Run) error {
	w := &work{obj: obj, run: run, start: k.Clock.Now(), timeout: obj.GetTimeout()}
	if obj.Spec.Decryption != nil {
		w.decryption = &decryption{k: k, obj: obj}
	}
	k.Graph.Set(keyOf(obj), edges(obj))
	if err := k.check(w); err != nil {
		return err
	}
	if err := k.resolve(ctx, w); err != nil {
		return err
	}
	if err := k.dependencies(ctx, w); err != nil {
		return err
	}
	run.Pending("Reconciliation in progress")
	if err := k.connect(ctx, w); err != nil {
		return err
	}
	if err := k.bring(ctx, w); err != nil {
		return err
	}
	if err := k.health(ctx, w); err != nil {
		return err
	}
	k.note(w)
	return k.succeed(w)
}

// bring builds and applies, unless nothing can have changed since the last good run.
func (k *Kustomizer) bring(ctx context.Context, w *work) error {
	if k.asBefore(ctx, w) {
		// Who else declares an object may be news all the same.
		if err := k.reportShared(ctx, w, inventory(w.obj)); err != nil {
			return k.failed(w, meta.ReconciliationFailedReason, err)
		}
		return nil
	}
	k.settled.set(w.obj.UID, nil)
	if err := k.build(ctx, w); err != nil {
		return err
	}
	return k.write(ctx, w)
}

// write brings the cluster to what was built.
func (k *Kustomizer) write(ctx context.Context, w *work) error {
	ctx, done := w.cluster.Yielding(ctx, w.run.Park)
	defer done()
	if err := k.apply(ctx, w); err != nil {
		return err
	}
	return k.prune(ctx, w)
}

// check refuses a spec that no retry can help (kustomization 8, 9), and what this version would otherwise leave out.
func (k *Kustomizer) check(w *work) error {
	exprs, err := health.NewEvaluator(expressions(w.obj))
	if err != nil {
		return terminal(meta.InvalidCELExpressionReason, err)
	}
	w.healthy = exprs
	if err := k.checkDecryption(w.obj); err != nil {
		return err
	}
	if w.ignore, err = ssa.NewIgnore(w.obj.Spec.Ignore); err != nil {
		return terminal(meta.ReconciliationFailedReason, err)
	}
	return nil
}

func expressions(obj *kustomizev1.Kustomization) []health.Expressions {
	var out []health.Expressions
	for _, e := range obj.Spec.HealthCheckExprs {
		out = append(out, health.Expressions{
			APIVersion: e.APIVersion, Kind: e.Kind, Current: e.Current, InProgress: e.InProgress, Failed: e.Failed,
		})
	}
	return out
}

func unsupported(field string) error {
	return loop.Stall(meta.ReconciliationFailedReason,
		fmt.Errorf("%s is not supported by this version: remove it, or let another controller reconcile the object", field))
}

// terminal words a configuration error as 2.9 does.
func terminal(reason string, err error) error {
	return loop.Stall(reason, fmt.Errorf("Reconciliation failed terminally due to configuration error: %w", err)) //nolint:staticcheck // the text is API
}

// resolve finds the source and its artifact (kustomization 10-14).
func (k *Kustomizer) resolve(ctx context.Context, w *work) error {
	ref := w.obj.Spec.SourceRef
	source, err := k.Sources.Resolve(ctx, w.obj, sourceref.Reference{APIVersion: ref.APIVersion, Kind: ref.Kind, Namespace: ref.Namespace, Name: ref.Name})
	if errors.Is(err, sourceref.ErrNotFound) || errors.Is(err, sourceref.ErrNoArtifact) {
		if left := k.newborn(w.obj, source); left > 0 {
			return loop.Early(left, err)
		}
	}
	switch {
	case err == nil:
	case errors.Is(err, sourceref.ErrNotFound):
		return loop.Wait(meta.ArtifactFailedReason, w.obj.GetRetryInterval(), err).Quiet()
	case errors.Is(err, sourceref.ErrNoArtifact):
		return loop.Wait(meta.ArtifactFailedReason, k.RequeueDependency,
			fmt.Errorf("Source artifact not found, retrying in %s", k.RequeueDependency)).Quiet() //nolint:staticcheck // the text is API
	case errors.Is(err, sourceref.ErrAccessDenied):
		return loop.Stall(meta.AccessDeniedReason, err)
	default:
		return err
	}
	w.source = source
	w.run.Annotate("revision", source.Revision)
	w.run.Annotate("originRevision", source.OriginRevision)
	return nil
}

// newborn is how much longer it is too early to say that an object has no source: it mostly is created together with it, and the source
// has its artifact a moment later. An object that has a status, or that time does not tell about, is never too young.
func (k *Kustomizer) newborn(obj *kustomizev1.Kustomization, source *sourceref.Source) time.Duration {
	age := k.Clock.Since(obj.CreationTimestamp.Time)
	if age < 0 || len(obj.Status.Conditions) > 0 {
		return 0
	}
	if unseen(source) {
		return unseenSourcePatience - age
	}
	return sourcePatience - age
}

// unseen reports whether a source exists that says nothing about itself.
func unseen(source *sourceref.Source) bool {
	if source == nil {
		return false
	}
	o, ok := source.Object.(meta.ConditionHolder)
	return ok && len(o.GetConditions()) == 0
}

// succeed ends a good run. A routine run that found everything as it was leaves status and history alone.
func (k *Kustomizer) succeed(w *work) error {
	status := &w.obj.Status
	revision := w.source.Revision
	routine := !w.run.Requested() && !w.changed && status.LastAppliedRevision == revision && ready(w.obj)
	status.LastAppliedRevision = revision
	status.LastAppliedOriginRevision = w.source.OriginRevision
	if !routine {
		k.remember(w, meta.ReconciliationSucceededReason)
		k.finished(w.obj, w.run, w.start)
	}
	return w.run.Ready("Applied revision: %s", revision)
}

// finished sends the event that ends every run that was asked for or changed something (kustomization 100). The
// time is not rounded: two runs whose messages are equal would be one to the receiver (429).
func (k *Kustomizer) finished(obj *kustomizev1.Kustomization, run *loop.Run, start time.Time) {
	run.Event(event.Event{
		Severity: event.Info, Reason: meta.ReconciliationSucceededReason,
		Message:  fmt.Sprintf("Reconciliation finished in %s, next run in %s", k.Clock.Since(start), obj.GetInterval()),
		Metadata: map[string]string{"commit_status": "update"},
	})
}

// failed records a failure after the build in the history and returns its verdict (kustomization 77, 92, 103).
func (k *Kustomizer) failed(w *work, reason string, err error) error {
	k.remember(w, reason)
	return loop.Fail(reason, w.decryption.redact(err))
}

func ready(obj *kustomizev1.Kustomization) bool {
	for _, c := range obj.Status.Conditions {
		if c.Type == meta.ReadyCondition {
			return c.Status == metav1.ConditionTrue
		}
	}
	return false
}
