package repository

import (
	"slices"
	"time"

	imagev1 "github.com/seed-79636ae9/flux/api/image/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/internal/image/tags"
)

// Reasons to scan (imagerepository 10).
const (
	firstScan     = "first scan"
	requested     = "reconcile requested"
	newName       = "new image name"
	newExclusions = "updated exclusion list"
	noTags        = "no tags in database"
	otherTags     = "tags in database are not those of the last scan"
	interval      = "triggered by interval"
)

// early is how much before its time a scan may begin: a run that comes that early would otherwise have to come again.
const early = time.Second

// due returns why to scan now, and "" with the time until the next scan when there is no reason (imagerepository 8).
func due(obj *imagev1.ImageRepository, image string, stored tags.List, now time.Time) (why string, next time.Duration) {
	last := obj.Status.LastScanResult
	token := obj.Annotations[meta.ReconcileRequestAnnotation]
	switch {
	case last == nil || last.ScanTime == nil:
		return firstScan, 0
	case token != "" && token != obj.Status.LastHandledReconcileAt:
		return requested, 0
	case obj.Status.CanonicalImageName != image:
		return newName, 0
	case !sameSet(obj.GetExclusionList(), obj.Status.ObservedExclusionList):
		return newExclusions, 0
	case len(stored.Tags) == 0:
		return noTags, 0
	case stored.Image != image || stored.Revision != last.Revision:
		// The database is older than the status, or somebody switched the kind of revisions (imagerepository 30).
		return otherTags, 0
	}
	// After a scan in the future, by a clock that was wrong, the next one waits accordingly (imagerepository 40), but not for
	// ever: what is more than an interval away cannot be due to a scan of ours.
	next = last.ScanTime.Add(obj.GetInterval()).Sub(now)
	if next < early || next > 2*obj.GetInterval() {
		return interval, 0
	}
	return "", next
}

// sameSet compares lists without regard to their order; repeated entries count by the length alone (imagerepository 36).
func sameSet(a, b []string) bool {
	within := func(a, b []string) bool {
		return !slices.ContainsFunc(a, func(s string) bool { return !slices.Contains(b, s) })
	}
	return len(a) == len(b) && within(a, b) && within(b, a)
}
