// Package frame is what all source kinds share: storage checks, no-op detection, the archive and its retention,
// conditions, events and deletion. A kind adds how to look upstream and how to fetch.
package frame

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

// collectBudget bounds the garbage collection of old artifacts at the start of a run (gitrepository 6).
const collectBudget = 5 * time.Second

// Object is a source: what the loop needs, and an artifact.
type Object interface {
	loop.Object
	meta.ArtifactHolder
	meta.Timeoutable
	SetArtifact(*meta.Artifact)
}

// Kind is what a source kind adds to the frame.
type Kind[O Object] interface {
	// Connect checks the spec and reads the credentials. Its errors are verdicts.
	Connect(ctx context.Context, obj O) (Upstream, error)
	// Settled reports whether the parts of the spec that shape the content are those the stored artifact was
	// made with (gitrepository 39).
	Settled(obj O) bool
	// Settle records them in the status.
	Settle(obj O)
}

// Upstream is a connection of one run. Its errors are verdicts.
type Upstream interface {
	// Observe returns the revision upstream now, at the cost of one small request, and "" when it takes a fetch to tell.
	Observe(ctx context.Context) (string, error)
	// Fetch downloads the content; dir is a directory of the run for what does not fit in memory.
	Fetch(ctx context.Context, dir string) (*Content, error)
	// Close ends the connection.
	Close()
}

// Content is what was fetched.
type Content struct {
	// Revision of the artifact.
	Revision string
	// File is the last element of the artifact's path.
	File string
	// Title names the content in events, e.g. "commit 'Fix the port'".
	Title string
	// Metadata of the artifact; may be nil.
	Metadata map[string]string
	// Write produces the artifact's bytes.
	Write func(ctx context.Context, w io.Writer) error
	// Close releases what Write reads.
	Close func() error
}

// Reconciler reconciles a source kind.
type Reconciler[O Object] struct {
	// Kind is the API kind, e.g. GitRepository.
	Kind string
	// Titled is what the kind's events call a content without a title: "commit" in "stored artifact for commit 'x'".
	Titled string
	// NoChange is the event of a requested run that found nothing new without a fetch.
	NoChange func(revision string) event.Event
	// Source is the kind's part.
	Source Kind[O]
	// Store keeps the artifacts.
	Store *artifact.Store
	// TempDir is where runs make their directories; empty: the system's.
	TempDir string
}

// Conditions returns the conditions that all source kinds have, with those of the kind.
func Conditions(failures, sticky []string) status.Table {
	return status.Table{
		Failures:       append([]string{sourcev1.StorageOperationFailedCondition, sourcev1.FetchFailedCondition}, append(failures, sourcev1.ArtifactOutdatedCondition)...),
		Sticky:         append([]string{sourcev1.ArtifactInStorageCondition}, sticky...),
		ReadyReason:    meta.SucceededReason,
		RecoveryReason: meta.SucceededReason,
	}
}

// Policy is how sources behave where kinds differ.
func Policy() loop.Policy {
	return loop.Policy{WaitKeepsReconciling: true, SuspendObserves: loop.WhenReadyExists, SuspendRestamps: true}
}

// Reconcile implements loop.Reconciler.
func (r *Reconciler[O]) Reconcile(ctx context.Context, obj O, run *loop.Run) error {
	progress(obj, run)
	if err := r.checkStorage(ctx, obj, run); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(r.TempDir, fmt.Sprintf("%s-%s-%s-*", strings.ToLower(r.Kind), obj.GetNamespace(), obj.GetName()))
	if err != nil {
		return storageFailed(sourcev1.DirectoryCreationFailedReason, fmt.Errorf("failed to create temporary working directory: %w", err))
	}
	defer os.RemoveAll(dir)

	content, err := r.fetch(ctx, obj, run, dir)
	if err != nil || content == nil {
		return err
	}
	defer content.Close()
	return r.store(ctx, obj, run, content)
}

// progress says what a run starts with, as far as nothing better is known (_common 23).
func progress(obj loop.Object, run *loop.Run) {
	if observed := obj.GetObservedGeneration(); observed != run.Generation {
		run.Progress("processing object: new generation %d -> %d", observed, run.Generation)
		return
	}
	run.Progress("reconciliation in progress")
}

// checkStorage collects garbage, and drops an artifact from the status that storage does not hold as it says
// (gitrepository 6-10).
func (r *Reconciler[O]) checkStorage(ctx context.Context, obj O, run *loop.Run) error {
	r.collect(ctx, obj, run)
	a := obj.GetArtifact()
	lost := false
	if a != nil {
		switch err := r.Store.Verify(a); {
		case err == nil:
			a = a.DeepCopy()
			a.URL = r.Store.URL(a.Path)
			obj.SetArtifact(a)
			return nil
		case errors.Is(err, artifact.ErrMismatch):
			run.Event(event.Event{Severity: event.Error, Reason: sourcev1.ArtifactVerificationFailedReason, Message: fmt.Sprintf("failed to verify integrity of artifact: %v", err)})
			if err := r.Store.Remove(a); err != nil {
				return storageFailed(sourcev1.ArtifactVerificationFailedReason, fmt.Errorf("failed to remove artifact after digest mismatch: %w", err))
			}
		case !errors.Is(err, artifact.ErrNotFound):
			return storageFailed(sourcev1.StatOperationFailedReason, err)
		}
		obj.SetArtifact(nil)
		lost = true
	}
	run.Unset(sourcev1.ArtifactInStorageCondition)
	message := "building artifact"
	if lost {
		message += ": disappeared from storage"
	}
	run.Pending("%s", message)
	run.Progress("%s", message)
	return nil
}

// collect removes old artifacts; a failure only leaves garbage for the next run (gitrepository 6).
func (r *Reconciler[O]) collect(ctx context.Context, obj O, run *loop.Run) {
	if obj.GetArtifact() == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, collectBudget)
	defer cancel()
	removed, err := r.Store.Collect(ctx, r.name(obj, ""), obj.GetArtifact())
	switch {
	case err != nil:
		run.Event(event.Event{Severity: event.Error, Reason: sourcev1.GarbageCollectionFailedReason, Message: fmt.Sprintf("garbage collection of artifacts failed: %v", err), Local: true})
	case len(removed) > 0:
		run.Event(event.Event{Severity: event.Trace, Reason: sourcev1.GarbageCollectionSucceededReason, Message: fmt.Sprintf("garbage collected %d artifacts", len(removed))})
	}
}

// fetch looks upstream and downloads what is new. It returns nil without an error when there is nothing new.
func (r *Reconciler[O]) fetch(ctx context.Context, obj O, run *loop.Run, dir string) (*Content, error) {
	ctx, cancel := context.WithTimeout(ctx, obj.GetTimeout())
	defer cancel()
	upstream, err := r.Source.Connect(ctx, obj)
	if err != nil {
		return nil, err
	}
	defer upstream.Close()
	a := obj.GetArtifact()
	if a != nil && status.IsTrue(obj.GetConditions(), sourcev1.ArtifactInStorageCondition) && r.Source.Settled(obj) {
		revision, err := upstream.Observe(ctx)
		if err != nil {
			return nil, err
		}
		if revision != "" && revision == a.Revision {
			return nil, r.unchanged(obj, run)
		}
	}
	return upstream.Fetch(ctx, dir)
}

// unchanged ends a run that found the revision it already has (gitrepository 38).
func (r *Reconciler[O]) unchanged(obj O, run *loop.Run) error {
	revision := obj.GetArtifact().Revision
	if run.Recovered() {
		r.recovered(obj, run, fmt.Sprintf("%s '%s'", r.Titled, revision))
	}
	if run.Requested() {
		run.Event(r.NoChange(revision))
	}
	return r.stored(obj, run)
}

// store archives the content, unless the artifact in storage is already made of it (gitrepository 57-68).
func (r *Reconciler[O]) store(ctx context.Context, obj O, run *loop.Run, content *Content) error {
	old := obj.GetArtifact()
	if old != nil && old.Revision == content.Revision && r.Source.Settled(obj) {
		if run.Requested() {
			run.Event(event.Event{Severity: event.Trace, Reason: sourcev1.ArtifactUpToDateReason,
				Message: fmt.Sprintf("artifact up-to-date with remote revision: '%s'", content.Revision)})
		}
		if run.Recovered() {
			r.recovered(obj, run, content.Title)
		}
		return r.stored(obj, run)
	}
	if old == nil || old.Revision != content.Revision {
		message := fmt.Sprintf("building artifact: new upstream revision '%s'", content.Revision)
		run.Pending("%s", message)
		run.Progress("%s", message)
		if old != nil {
			run.Set(sourcev1.ArtifactOutdatedCondition, metav1.ConditionTrue, sourcev1.NewRevisionReason, "new upstream revision '%s'", content.Revision)
		}
	}
	a, err := r.Store.Put(ctx, r.name(obj, content.File), func(w io.Writer) error { return content.Write(ctx, w) })
	if err != nil {
		return storageFailed(sourcev1.ArchiveOperationFailedReason, fmt.Errorf("unable to archive artifact to storage: %w", err))
	}
	a.Revision, a.Metadata = content.Revision, content.Metadata
	obj.SetArtifact(a)
	r.Source.Settle(obj)
	run.Unset(sourcev1.ArtifactOutdatedCondition)
	switch {
	case old == nil || old.Digest != a.Digest:
		r.announce(run, sourcev1.NewArtifactReason, a, content.Title)
	case run.Recovered():
		r.recovered(obj, run, content.Title)
	}
	return r.stored(obj, run)
}

// stored ends a good run.
func (r *Reconciler[O]) stored(obj O, run *loop.Run) error {
	message := fmt.Sprintf("stored artifact for revision '%s'", obj.GetArtifact().Revision)
	run.Set(sourcev1.ArtifactInStorageCondition, metav1.ConditionTrue, meta.SucceededReason, "%s", message)
	return run.Ready("%s", message)
}

// recovered tells that an object that had failed is well again, with the artifact it had (_common 33).
func (r *Reconciler[O]) recovered(obj O, run *loop.Run, title string) {
	r.announce(run, meta.SucceededReason, obj.GetArtifact(), title)
}

func (r *Reconciler[O]) announce(run *loop.Run, reason string, a *meta.Artifact, title string) {
	run.News()
	run.Event(event.Event{
		Severity: event.Info, Reason: reason, Message: "stored artifact for " + title,
		Metadata: map[string]string{"revision": a.Revision, "digest": a.Digest},
	})
}

// Finalize implements loop.Finalizer: the artifacts go with the object (gitrepository 73).
func (r *Reconciler[O]) Finalize(_ context.Context, obj O, run *loop.Run) error {
	n, err := r.Store.RemoveAll(r.Kind, obj.GetNamespace(), obj.GetName())
	if err != nil {
		return loop.Fail(sourcev1.GarbageCollectionFailedReason, fmt.Errorf("garbage collection for deleted resource failed: %w", err))
	}
	if n > 0 {
		run.Event(event.Event{Severity: event.Trace, Reason: sourcev1.GarbageCollectionSucceededReason, Message: "garbage collected artifacts for deleted resource"})
	}
	return nil
}

func (r *Reconciler[O]) name(obj O, file string) artifact.Name {
	return artifact.Name{Kind: r.Kind, Namespace: obj.GetNamespace(), Object: obj.GetName(), File: file}
}

func storageFailed(reason string, err error) error {
	return loop.Fail(reason, err).On(sourcev1.StorageOperationFailedCondition)
}
