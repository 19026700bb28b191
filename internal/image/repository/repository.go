// Package repository is the kind ImageRepository: it lists the tags of an image in a registry.
package repository

import (
	"context"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	imagev1 "github.com/seed-79636ae9/flux/api/image/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/internal/image/tags"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

// latestTags is how many tags the status shows (imagerepository 13, 33).
const latestTags = 10

// maxExcluding bounds the time that the exclusion list takes. That of nine thousand tags takes some milliseconds.
const maxExcluding = 10 * time.Second

// errTooSlow ends a scan whose exclusion list would keep the process busy.
var errTooSlow = fmt.Errorf("leaving tags out takes longer than %s: simplify spec.exclusionList", maxExcluding)

// Scanner reconciles ImageRepositories.
type Scanner struct {
	// Registries connects to registries.
	Registries *Registries
	// Tags keeps what scans find.
	Tags *tags.Database
	// Clock may be replaced by a test.
	Clock clock.PassiveClock
}

// Controller returns the kind for the loop.
func (s *Scanner) Controller(controllerName string) *loop.Controller[*imagev1.ImageRepository] {
	return &loop.Controller[*imagev1.ImageRepository]{
		Name: controllerName, Kind: imagev1.ImageRepositoryKind,
		New:        func() *imagev1.ImageRepository { return &imagev1.ImageRepository{} },
		Reconciler: s,
		Conditions: status.Table{ReadyReason: meta.SucceededReason},
		FailReason: imagev1.FailureReason,
		Policy:     loop.Policy{WaitKeepsReconciling: true},
	}
}

// Reconcile implements loop.Reconciler.
func (s *Scanner) Reconcile(ctx context.Context, obj *imagev1.ImageRepository, run *loop.Run) error {
	Progress(obj, run)
	repo, err := Parse(obj.Spec.Image, obj.Spec.Insecure)
	if err != nil {
		return loop.Stall(imagev1.ImageURLInvalidReason, err)
	}
	connection, err := s.Registries.Connect(ctx, obj, repo)
	if err != nil {
		return err
	}
	key := client.ObjectKeyFromObject(obj)
	stored, err := s.Tags.Get(key)
	if err != nil {
		return loop.Fail(imagev1.FailureReason, fmt.Errorf("read the stored tags: %w", err))
	}
	why, next := due(obj, repo.Name(), stored, s.Clock.Now())
	if why == "" {
		return conclude(obj, run, "no change in repository configuration since last scan", next)
	}
	run.Progress("scanning: %s", why)
	if why == firstScan || why == noTags {
		run.Pending("scanning: %s", why)
	}
	list, err := s.scan(ctx, obj, run, connection, repo.Name())
	if err != nil {
		return err
	}
	unchanged := "scanned"
	if last := obj.Status.LastScanResult; last != nil && last.Revision == list.Revision {
		unchanged = "tags did not change"
	}
	obj.Status.CanonicalImageName = list.Image
	obj.Status.ObservedExclusionList = slices.Clone(obj.GetExclusionList())
	now := metav1.NewTime(s.Clock.Now())
	obj.Status.LastScanResult = &imagev1.ScanResult{
		Revision: list.Revision, TagCount: len(list.Tags), ScanTime: &now, LatestTags: slices.Clone(list.Tags[:min(latestTags, len(list.Tags))]),
	}
	return conclude(obj, run, unchanged, obj.GetInterval())
}

// scan lists the tags and stores them. What was stored before stays if anything fails (imagerepository 11, 12).
func (s *Scanner) scan(ctx context.Context, obj *imagev1.ImageRepository, run *loop.Run, c *Connection, image string) (tags.List, error) {
	exclusion, err := NewExclusion(obj)
	if err != nil {
		return tags.List{}, loop.Fail(imagev1.ReadOperationFailedReason, fmt.Errorf("scan failed: %w", err))
	}
	found, err := c.Tags(ctx, run)
	if err != nil {
		if loop.Judged(err) {
			return tags.List{}, err
		}
		return tags.List{}, Failed(fmt.Errorf("scan failed: %w", err))
	}
	bounded, cancel := context.WithTimeoutCause(ctx, maxExcluding, errTooSlow)
	defer cancel()
	usable, err := exclusion.usable(bounded, found)
	if err != nil {
		return tags.List{}, loop.Fail(imagev1.ReadOperationFailedReason, fmt.Errorf("scan failed: %w", err))
	}
	list, err := s.Tags.Put(client.ObjectKeyFromObject(obj), image, tags.Normal(usable))
	if err != nil {
		return tags.List{}, loop.Fail(imagev1.FailureReason, err)
	}
	return list, nil
}

// conclude ends a good run. What is not news is told only where somebody has asked (imagerepository 16, 17, 39).
func conclude(obj *imagev1.ImageRepository, run *loop.Run, unchanged string, next time.Duration) error {
	last := obj.Status.LastScanResult
	message := fmt.Sprintf("successful scan: found %d tags with checksum %s", last.TagCount, last.Revision)
	run.Again(next)
	Announce(obj, run, message, fmt.Sprintf("%s, next scan in %s", unchanged, next.Round(time.Second)))
	return run.Ready("%s", message)
}

// Announce tells that the Ready condition of an object becomes True with a message, if that is news, or otherwise, where
// somebody has asked for the run, what there is to say instead.
func Announce(obj loop.Object, run *loop.Run, message, otherwise string) {
	ready := status.Find(obj.GetConditions(), meta.ReadyCondition)
	if ready == nil || ready.Status != metav1.ConditionTrue || ready.Message != message {
		run.Event(event.Event{Severity: event.Info, Reason: meta.SucceededReason, Message: message})
		return
	}
	if run.Requested() {
		run.Event(event.Event{Severity: event.Trace, Reason: meta.SucceededReason, Message: otherwise})
	}
}

// Progress says what a run starts with, as far as nothing better is known (_common 23).
func Progress(obj loop.Object, run *loop.Run) {
	if observed := obj.GetObservedGeneration(); observed != run.Generation {
		run.Progress("processing object: new generation %d -> %d", observed, run.Generation)
		return
	}
	run.Progress("reconciliation in progress")
}

// Finalize implements loop.Finalizer: the tags go with the object (imagerepository 18).
func (s *Scanner) Finalize(_ context.Context, obj *imagev1.ImageRepository, _ *loop.Run) error {
	return s.Tags.Remove(client.ObjectKeyFromObject(obj))
}
