// Package frame is what all source kinds share: storage checks, no-op detection, when a signature is checked anew, the
// archive and its retention, conditions, events and deletion. A kind adds how to look upstream and how to fetch.
package frame

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/status"
	"github.com/seed-79636ae9/flux/toolkit/throttle"
)

// collectBudget bounds the garbage collection of old artifacts at the start of a run (gitrepository 6).
const collectBudget = 5 * time.Second

// Reconciler reconciles a source kind.
type Reconciler[O Object] struct {
	// Kind is the API kind, e.g. GitRepository.
	Kind string
	// Alias is the fixed name of the latest artifact that status.url tells, e.g. latest.tar.gz; empty: none.
	Alias string
	// Words of the kind.
	Words Words[O]
	// Source is the kind's part.
	Source Kind[O]
	// Store keeps the artifacts.
	Store *artifact.Store
	// Hosts keeps hanging servers apart; the kinds of a process share one. Nil: runs wait for them with their work slots.
	Hosts *Hosts
	// TempDir is where runs make their directories; empty: the system's.
	TempDir string

	mu sync.Mutex // guards trusted
	// trusted is whose signature the artifact of an object was last accepted by. It is not kept over a restart: a check
	// too many costs little, one too few everything.
	trusted map[identity]string
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
	dir := &workDir{parent: r.TempDir, pattern: fmt.Sprintf("%s-%s-%s-*", strings.ToLower(r.Kind), obj.GetNamespace(), obj.GetName())}
	defer dir.remove()

	upstream, err := r.connect(ctx, obj, run)
	if err != nil {
		return patient(err)
	}
	defer upstream.Close()
	content, err := r.fetch(ctx, obj, run, upstream, dir)
	if err != nil {
		return patient(err)
	}
	if content == nil {
		return nil
	}
	defer content.close()
	return r.store(ctx, obj, run, upstream, content)
}

// workDir is the directory of a run. A run that fetches nothing, which is nearly every one, has none.
type workDir struct{ parent, pattern, path string }

func (d *workDir) make() (err error) {
	if d.path, err = os.MkdirTemp(d.parent, d.pattern); err != nil {
		return storageFailed(sourcev1.DirectoryCreationFailedReason, fmt.Errorf("failed to create temporary working directory: %w", err))
	}
	return nil
}

func (d *workDir) remove() {
	if d.path != "" {
		os.RemoveAll(d.path)
	}
}

// patient leaves a server alone for as long as it has asked for.
func patient(err error) error {
	var v *loop.Verdict
	if d := throttle.Delay(err); d > 0 && errors.As(err, &v) {
		return v.After(d)
	}
	return err
}

// progress says what a run starts with, as far as nothing better is known (_common 23).
func progress(obj loop.Object, run *loop.Run) {
	if observed := obj.GetObservedGeneration(); observed != run.Generation {
		run.Progress("processing object: new generation %d -> %d", observed, run.Generation)
		return
	}
	run.Progress("reconciliation in progress")
}

// timeout is how long one step may take: looking, checking a signature, fetching.
func (r *Reconciler[O]) timeout(obj O) time.Duration {
	return min(obj.GetTimeout(), r.Hosts.maxFetchTime())
}

func (r *Reconciler[O]) connect(ctx context.Context, obj O, run *loop.Run) (Upstream[O], error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout(obj))
	defer cancel()
	return r.Source.Connect(ctx, obj, run)
}

// fetch looks upstream, checks signatures and downloads what is new. It returns nil without an error when there is
// nothing new.
func (r *Reconciler[O]) fetch(ctx context.Context, obj O, run *loop.Run, upstream Upstream[O], dir *workDir) (*Content, error) {
	a := obj.GetArtifact()
	settled := a != nil && status.IsTrue(obj.GetConditions(), sourcev1.ArtifactInStorageCondition) && upstream.Settled(obj)
	trust := trustOf(upstream)
	proven := r.trusts(obj, trust)
	prover, early := upstream.(Prover)
	_, lists := upstream.(Lister)
	var revision string
	if early || lists || settled && proven {
		err := r.call(ctx, obj, run, upstream, func(ctx context.Context) (err error) {
			revision, err = upstream.Observe(ctx)
			return err
		})
		if err != nil {
			return nil, err
		}
		known := a != nil && revision == a.Revision
		if (early || lists) && !known {
			r.outdated(obj, run, revision)
		}
		if early && !(known && proven) && trust != "" {
			r.distrust(obj)
			if err := r.call(ctx, obj, run, upstream, func(ctx context.Context) error { return prover.Prove(ctx, revision) }); err != nil {
				return nil, err
			}
			r.trust(obj, trust)
			proven = true
		}
		if settled && known && proven {
			return nil, r.unchanged(obj, run)
		}
	}
	if trust != "" && !early {
		r.distrust(obj)
	}
	if err := dir.make(); err != nil {
		return nil, err
	}
	var content *Content
	err := r.call(ctx, obj, run, upstream, func(ctx context.Context) (err error) {
		content, err = upstream.Fetch(ctx, dir.path)
		return err
	})
	if err != nil {
		return nil, err
	}
	if early && content.Revision != revision {
		r.distrust(obj)
		return nil, errors.Join(content.close(), loop.Fail(sourcev1.VerificationErrorReason,
			fmt.Errorf("the revision changed from '%s' to '%s' between the look and the fetch", revision, content.Revision)).On(sourcev1.FetchFailedCondition))
	}
	r.trust(obj, trust)
	return content, nil
}

// call runs a step against the server of the upstream, for at most the timeout of the object.
func (r *Reconciler[O]) call(ctx context.Context, obj O, run *loop.Run, upstream Upstream[O], step func(context.Context) error) error {
	timeout := r.timeout(obj)
	bounded := func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		return step(ctx)
	}
	hosted, ok := upstream.(Hosted)
	if r.Hosts == nil || !ok || hosted.Host() == "" {
		return bounded(ctx)
	}
	err := r.Hosts.call(ctx, run, hosted.Host(), bounded)
	if errors.Is(err, loop.ErrInterrupted) {
		return loop.Interrupted(meta.ProgressingReason, errors.New("interrupted by a newer request")).Quiet()
	}
	return err
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
			r.setURL(obj, r.aliasURL(obj))
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
		r.setURL(obj, "")
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

// outdated tells, once, that there is a revision which the artifact in storage is not of.
func (r *Reconciler[O]) outdated(obj O, run *loop.Run, revision string) {
	old := obj.GetArtifact()
	if old != nil && old.Revision == revision {
		return
	}
	message := r.Words.Outdated(obj, revision)
	run.Pending("building artifact: %s", message)
	run.Progress("building artifact: %s", message)
	if old == nil {
		return
	}
	reason := r.Words.OutdatedReason
	if reason == "" {
		reason = sourcev1.NewRevisionReason
	}
	run.Set(sourcev1.ArtifactOutdatedCondition, metav1.ConditionTrue, reason, "%s", message)
}

// unchanged ends a run that found the revision it already has (gitrepository 38).
func (r *Reconciler[O]) unchanged(obj O, run *loop.Run) error {
	if run.Recovered() {
		r.announce(obj, run, r.reason(obj, nil, meta.SucceededReason), r.Words.News(obj))
	}
	if run.Requested() {
		e := upToDate(obj.GetArtifact().Revision)
		if r.Words.NoChange != nil {
			e = r.Words.NoChange(obj.GetArtifact().Revision)
		}
		run.Event(e)
	}
	return r.stored(obj, run, nil)
}

func upToDate(revision string) event.Event {
	return event.Event{
		Severity: event.Trace, Reason: sourcev1.ArtifactUpToDateReason,
		Message: fmt.Sprintf("artifact up-to-date with remote revision: '%s'", revision),
	}
}

// store archives the content, unless the artifact in storage is already made of it (gitrepository 57-68).
func (r *Reconciler[O]) store(ctx context.Context, obj O, run *loop.Run, upstream Upstream[O], content *Content) error {
	old := obj.GetArtifact()
	if old != nil && old.Revision == content.Revision && upstream.Settled(obj) {
		if run.Requested() {
			run.Event(upToDate(content.Revision))
		}
		if run.Recovered() {
			r.announce(obj, run, r.reason(obj, content, meta.SucceededReason), r.news(obj, content))
		}
		return r.stored(obj, run, content)
	}
	r.outdated(obj, run, content.Revision)
	// Ignore patterns of strangers can make the archive as slow as a server can make the fetch (reliability 015).
	bounded, cancel := context.WithTimeout(ctx, r.timeout(obj))
	defer cancel()
	a, err := r.Store.Put(bounded, r.name(obj, content.File), func(w io.Writer) error { return content.Write(bounded, w) })
	if err != nil {
		if loop.Judged(err) {
			return err
		}
		return storageFailed(sourcev1.ArchiveOperationFailedReason, fmt.Errorf("unable to archive artifact to storage: %w", err))
	}
	a.Revision, a.Metadata = content.Revision, content.Metadata
	obj.SetArtifact(a)
	upstream.Settle(obj)
	run.Unset(sourcev1.ArtifactOutdatedCondition)
	r.link(obj, run)
	switch {
	case old == nil || old.Digest != a.Digest:
		r.announce(obj, run, r.reason(obj, content, sourcev1.NewArtifactReason), r.news(obj, content))
	case run.Recovered():
		r.announce(obj, run, r.reason(obj, content, meta.SucceededReason), r.news(obj, content))
	}
	return r.stored(obj, run, content)
}

// link points the fixed name to the new artifact. Nobody who reads status.artifact depends on it, so that a failure is
// only told (helmrepository 56).
func (r *Reconciler[O]) link(obj O, run *loop.Run) {
	if r.Alias == "" {
		return
	}
	a := obj.GetArtifact()
	if err := r.Store.Alias(r.name(obj, a.Path[strings.LastIndexByte(a.Path, '/')+1:]), r.Alias); err != nil {
		run.Event(event.Event{Severity: event.Trace, Reason: sourcev1.SymlinkUpdateFailedReason, Message: fmt.Sprintf("failed to update status URL symlink: %v", err)})
		return
	}
	r.setURL(obj, r.aliasURL(obj))
}

func (r *Reconciler[O]) aliasURL(obj O) string {
	return r.Store.URL(r.name(obj, r.Alias).Path())
}

func (r *Reconciler[O]) setURL(obj O, url string) {
	if l, ok := any(obj).(linked); ok && r.Alias != "" {
		l.SetURL(url)
	}
}

// news is the message of the event about what was just fetched.
func (r *Reconciler[O]) news(obj O, content *Content) string {
	if content.News != "" {
		return content.News
	}
	return r.Words.News(obj)
}

// words are what the artifact in the status stands under; the content is nil when it was not fetched.
func (r *Reconciler[O]) words(obj O, content *Content) (reason, message string) {
	if content != nil && content.Stored != "" {
		return content.Reason, content.Stored
	}
	return r.Words.Stored(obj)
}

// reason is that of the artifact in the status, if it has one of its own.
func (r *Reconciler[O]) reason(obj O, content *Content, otherwise string) string {
	if reason, _ := r.words(obj, content); reason != "" {
		return reason
	}
	return otherwise
}

// stored ends a good run.
func (r *Reconciler[O]) stored(obj O, run *loop.Run, content *Content) error {
	reason, message := r.words(obj, content)
	if reason == "" {
		reason = meta.SucceededReason
	}
	run.Set(sourcev1.ArtifactInStorageCondition, metav1.ConditionTrue, reason, "%s", message)
	return run.ReadyAs(reason, "%s", message)
}

// announce tells of the artifact in the status: a new one, or one of an object that had failed and is well again
// (_common 33).
func (r *Reconciler[O]) announce(obj O, run *loop.Run, reason, message string) {
	a := obj.GetArtifact()
	run.News()
	run.Event(event.Event{
		Severity: event.Info, Reason: reason, Message: message,
		Metadata: map[string]string{"revision": a.Revision, "digest": a.Digest},
	})
}

// Finalize implements loop.Finalizer: the artifacts go with the object (gitrepository 73).
func (r *Reconciler[O]) Finalize(_ context.Context, obj O, run *loop.Run) error {
	n, err := r.Store.RemoveAll(r.Kind, obj.GetNamespace(), obj.GetName())
	if err != nil {
		return loop.Fail(sourcev1.GarbageCollectionFailedReason, fmt.Errorf("garbage collection for deleted resource failed: %w", err))
	}
	r.distrust(obj)
	if f, ok := r.Source.(Forgetter); ok {
		f.Forget(types.NamespacedName{Namespace: obj.GetNamespace(), Name: obj.GetName()})
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
