// Package generate is the component source-watcher with the kind ArtifactGenerator: it makes artifacts out of the
// artifacts of other sources, and offers them as ExternalArtifacts.
package generate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	v1beta1 "github.com/seed-79636ae9/flux/api/extensions/v1beta1"
	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/toolkit/archive"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
	"github.com/seed-79636ae9/flux/toolkit/depend"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/sourceref"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

// collectBudget bounds the garbage collection of one artifact's files (artifactgenerator 60).
const collectBudget = 5 * time.Minute

// readyReason is the reason of the events of a good run (artifactgenerator 64).
const readyReason = meta.ReadyCondition

// Generator reconciles ArtifactGenerators.
type Generator struct {
	// Client writes ExternalArtifacts.
	Client client.Client
	// Reader reads them live.
	Reader client.Reader
	// Sources resolves source references.
	Sources *sourceref.Resolver
	// Artifacts opens what sources advertise.
	Artifacts *artifact.Opener
	// Store keeps what is made.
	Store *artifact.Store
	// URL is the address of a path of the store.
	URL func(path string) string
	// Graph holds the edges by which events of sources wake ArtifactGenerators.
	Graph *depend.Graph
	// RequeueDependency is how soon a missing source is looked for again, should its event get lost.
	RequeueDependency time.Duration
	// Timeout bounds a run.
	Timeout time.Duration
	// Limits of what one object makes.
	Limits Limits
	// Clock may be replaced by a test.
	Clock clock.PassiveClock

	seen seen
}

// Reconcile implements loop.Reconciler.
func (g *Generator) Reconcile(ctx context.Context, obj *v1beta1.ArtifactGenerator, run *loop.Run) error {
	ctx, cancel := context.WithTimeoutCause(ctx, g.Timeout, fmt.Errorf("the run took longer than %s (--reconciliation-timeout)", g.Timeout))
	defer cancel()
	g.Graph.Set(keyOf(obj), edges(obj))
	if err := g.validate(obj); err != nil {
		return err
	}
	run.Progress("Reconciliation in progress")
	sources, err := g.observe(ctx, obj)
	if err != nil {
		return err
	}
	made, err := g.made(ctx, obj)
	if err != nil {
		return loop.Fail(meta.ReconciliationFailedReason, err)
	}
	why := drift(obj, sources.digest(), g.stored, made)
	if why == "" {
		return undrifted(obj, run)
	}
	log.FromContext(ctx).V(1).Info("drift detected", "reason", why)
	run.Pending("Reconciliation in progress")
	return g.build(ctx, obj, run, sources, made)
}

// undrifted ends a run that found everything as it should be, and leaves the conditions alone (artifactgenerator 19).
func undrifted(obj *v1beta1.ArtifactGenerator, run *loop.Run) error {
	run.Event(event.Event{
		Severity: event.Trace, Reason: readyReason,
		Message: fmt.Sprintf("No drift detected, %d artifact(s) up to date", len(obj.Status.Inventory)),
	})
	ready := status.Find(obj.Status.Conditions, meta.ReadyCondition)
	return run.ReadyAs(ready.Reason, "%s", ready.Message)
}

// build makes all artifacts, in the order of the spec, and removes those that are no longer asked for.
func (g *Generator) build(ctx context.Context, obj *v1beta1.ArtifactGenerator, run *loop.Run, sources observed, made []sourcev1.ExternalArtifact) (err error) {
	in, err := g.open(ctx, sources)
	if err != nil {
		return g.absent(err)
	}
	defer func() {
		if closeErr := in.Close(); closeErr != nil {
			log.FromContext(ctx).Error(closeErr, "unable to give back the sources")
		}
	}()
	outputs, err := expand(&obj.Spec, in.trees, g.Limits.Artifacts)
	if err != nil {
		return loop.Stall(meta.BuildFailedReason, err)
	}
	w := &workshop{Generator: g, obj: obj, sources: sources, trees: in.trees, live: index(made), settled: settled(obj)}
	defer w.close(ctx)
	var inventory []v1beta1.ArtifactReference
	for _, o := range outputs {
		a, err := w.make(ctx, o)
		if err != nil {
			return loop.Fail(meta.BuildFailedReason, fmt.Errorf("%s build failed: %w", o.Name, err))
		}
		changed, err := w.publish(ctx, o, a)
		if err != nil {
			return loop.Fail(meta.ReconciliationFailedReason, err)
		}
		if changed {
			run.Event(event.Event{
				Severity: event.Trace, Reason: readyReason,
				Message: fmt.Sprintf("ExternalArtifact/%s/%s reconciled with revision %s", obj.Namespace, o.Name, a.Revision),
			})
		}
		inventory = append(inventory, v1beta1.ArtifactReference{
			Name: o.Name, Namespace: obj.Namespace, Digest: a.Digest, Filename: a.Path[strings.LastIndexByte(a.Path, '/')+1:],
		})
	}
	if err := g.prune(ctx, obj, inventory, made); err != nil {
		// The old inventory stays, so that the next run, which comes soon, tries again.
		return loop.Fail(meta.ReconciliationFailedReason, fmt.Errorf("removing artifacts that are no longer asked for: %w", err))
	}
	g.collect(ctx, inventory)
	return conclude(obj, run, sources.digest(), inventory)
}

// settled reports whether what the object has made was made with the spec it has now.
func settled(obj *v1beta1.ArtifactGenerator) bool {
	ready := status.Find(obj.Status.Conditions, meta.ReadyCondition)
	return ready != nil && status.IsTrue(obj.Status.Conditions, meta.ReadyCondition) && ready.ObservedGeneration == obj.Generation
}

func index(made []sourcev1.ExternalArtifact) map[string]*sourcev1.ExternalArtifact {
	out := make(map[string]*sourcev1.ExternalArtifact, len(made))
	for i := range made {
		out[made[i].Name] = &made[i]
	}
	return out
}

// collect removes old files; failures leave garbage for the next run (artifactgenerator 60).
func (g *Generator) collect(ctx context.Context, inventory []v1beta1.ArtifactReference) {
	for _, e := range inventory {
		bounded, cancel := context.WithTimeout(ctx, collectBudget)
		n := name(e.Namespace, e.Name, e.Filename)
		if _, err := g.Store.Collect(bounded, n, &meta.Artifact{Path: n.Path()}); err != nil {
			log.FromContext(ctx).Error(err, "unable to collect the garbage of an artifact", "externalArtifact", e.Namespace+"/"+e.Name)
		}
		cancel()
	}
}

// conclude records what was made and tells what is new (artifactgenerator 61, 62, 64).
func conclude(obj *v1beta1.ArtifactGenerator, run *loop.Run, digest string, inventory []v1beta1.ArtifactReference) error {
	type triple struct{ namespace, name, digest string }
	known := map[triple]bool{}
	for _, e := range obj.Status.Inventory {
		known[triple{e.Namespace, e.Name, e.Digest}] = true
	}
	var news []string
	for _, e := range inventory {
		if !known[triple{e.Namespace, e.Name, e.Digest}] {
			news = append(news, fmt.Sprintf("%s/%s (%s)", e.Namespace, e.Name, e.Digest))
		}
	}
	obj.Status.Inventory, obj.Status.ObservedSourcesDigest = inventory, digest
	message := fmt.Sprintf("reconciliation succeeded, generated %d artifact(s)", len(inventory))
	run.Event(event.Event{Severity: event.Trace, Reason: readyReason, Message: message})
	if len(news) > 0 {
		run.Event(event.Event{Severity: event.Info, Reason: readyReason, Message: "external artifacts reconciled: " + strings.Join(news, "\n")})
	}
	return run.Ready("%s", message)
}

// Finalize implements loop.Finalizer: what the object has made goes with it. Failures do not hold it back
// (artifactgenerator 6).
func (g *Generator) Finalize(ctx context.Context, obj *v1beta1.ArtifactGenerator, _ *loop.Run) error {
	made, err := g.made(ctx, obj)
	if err = errors.Join(err, g.prune(ctx, obj, nil, made)); err != nil {
		log.FromContext(ctx).Error(err, "unable to remove all artifacts of a deleted object")
	}
	return nil
}

// workshop makes the artifacts of one run.
type workshop struct {
	*Generator
	obj     *v1beta1.ArtifactGenerator
	sources observed
	trees   map[string]*node
	live    map[string]*sourcev1.ExternalArtifact
	settled bool

	extracted map[*file]*node
	unpacked  *os.File // the contents of all of them, made for the first
	written   int64    // bytes of that
}

// make builds and stores an artifact (artifactgenerator 48-53).
func (w *workshop) make(ctx context.Context, o output) (*meta.Artifact, error) {
	staged := &stage{root: newDir(), limits: w.Limits, extract: w.extract}
	for _, c := range o.Copy {
		if err := w.apply(ctx, staged, c); err != nil {
			return nil, fmt.Errorf("failed to apply copy operations: failed to apply copy operation from '%s' to '%s': %w", c.From, c.To, err)
		}
	}
	file, err := staged.filename(ctx, o.Name)
	if err != nil {
		return nil, err
	}
	a, err := w.Store.Put(ctx, name(w.obj.Namespace, o.Name, file), func(out io.Writer) error { return staged.write(ctx, out) })
	if err != nil {
		return nil, err
	}
	a.URL = w.URL(a.Path)
	a.Revision = "latest@" + a.Digest
	if alias := strings.TrimPrefix(o.Revision, "@"); alias != "" {
		a.Revision = w.sources[alias].Revision
	}
	if origin := w.sources.originRevision(strings.TrimPrefix(o.OriginRevision, "@")); origin != "" {
		a.Metadata = map[string]string{meta.OriginRevisionKey: origin}
	}
	return a, nil
}

func (w *workshop) apply(ctx context.Context, staged *stage, c v1beta1.CopyOperation) error {
	op, err := parse(c)
	if err != nil {
		return err
	}
	tree := w.trees[op.alias]
	if tree == nil {
		return fmt.Errorf("source alias '%s' not found", op.alias)
	}
	return staged.apply(ctx, op, tree)
}

// publish offers an artifact, and reports whether that took a write.
func (w *workshop) publish(ctx context.Context, o output, a *meta.Artifact) (bool, error) {
	want := desired(w.obj, o, a)
	if live := w.live[o.Name]; w.settled && live != nil && same(live, want) {
		return false, nil
	}
	return true, w.Generator.publish(ctx, want)
}

// extract unpacks an archive, once in a run (artifactgenerator 46, 47).
func (w *workshop) extract(ctx context.Context, f *file) (*node, error) {
	if root := w.extracted[f]; root != nil {
		return root, nil
	}
	if w.unpacked == nil {
		temp, err := os.CreateTemp("", "flux-generate-*")
		if err != nil {
			return nil, fmt.Errorf("making a file for the contents of archives: %w", err)
		}
		w.unpacked, w.extracted = temp, map[*file]*node{}
	}
	r, err := f.open()
	if err != nil {
		return nil, err
	}
	limits := archive.DefaultLimits()
	// One byte is what an archive may have when the others took all: no limit would be none.
	limits.Bytes = max(1, min(limits.Bytes, w.Limits.Bytes-w.written))
	index, err := archive.Unpack(ctx, r, io.NewOffsetWriter(w.unpacked, w.written), limits)
	if err := errors.Join(err, r.Close()); err != nil {
		return nil, err
	}
	content := io.NewSectionReader(w.unpacked, w.written, index.ContentBytes())
	root, err := readTree(ctx, index.FS(content))
	if err != nil {
		return nil, err
	}
	w.extracted[f] = root
	w.written += index.ContentBytes()
	return root, nil
}

func (w *workshop) close(ctx context.Context) {
	if w.unpacked == nil {
		return
	}
	if err := errors.Join(w.unpacked.Close(), os.Remove(w.unpacked.Name())); err != nil {
		log.FromContext(ctx).Error(err, "unable to remove extracted archives")
	}
}
