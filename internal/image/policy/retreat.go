package policy

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	imagev1 "github.com/seed-79636ae9/flux/api/image/v1"
	"github.com/seed-79636ae9/flux/internal/image/repository"
	"github.com/seed-79636ae9/flux/toolkit/oci"
)

// A policy goes back only when the registry says so. A list of tags can be cut short, stale or empty: by a mirror that lags
// behind, by a proxy, by an outage. What was chosen before and is not in the list, though the policy would choose it again,
// is therefore looked for at the registry. Only where it is not there either, twice and some time apart, the next best
// follows.

// confirmAfter is the time between the two looks. Two answers at once may come from the same mirror.
const confirmAfter = 10 * time.Second

// recheckAfter bounds how long it takes until a list that lacks a tag is doubted again, should no other list come.
const recheckAfter = 10 * time.Minute

// retreat is what to do about a previous choice that the list lacks.
type retreat struct {
	// hold keeps the previous choice; why says the reason, for people.
	hold bool
	why  string
	// again is when to look again.
	again time.Duration
}

// advance decides between the choice of the list and the previous one, which the list lacks. Found tells whether the registry
// still has the previous one, absent since when it is known not to; a zero time: since now.
func advance(previous, next string, found bool, absent, now time.Time) retreat {
	switch {
	case found:
		return retreat{
			hold: true, again: recheckAfter,
			why: fmt.Sprintf("the list of tags is incomplete: it lacks %s, which the registry still has", previous),
		}
	case absent.IsZero() || now.Sub(absent) < confirmAfter:
		again := confirmAfter
		if !absent.IsZero() {
			again -= now.Sub(absent)
		}
		return retreat{hold: true, again: again, why: fmt.Sprintf("the registry has %s no longer; %s follows unless it comes back", previous, next)}
	}
	return retreat{}
}

// doubt asks the registry about the previous choice of the policy, which the list lacks.
func (p *Picker) doubt(ctx context.Context, r *request, next string) (retreat, error) {
	previous := r.obj.Status.LatestRef.Tag
	c, err := p.connect(ctx, r)
	if err != nil {
		return retreat{}, err
	}
	_, err = c.Digest(ctx, r.run, previous)
	found := err == nil
	// A name that no tag can have was not written by us.
	gone := errors.Is(err, oci.ErrNotFound) || errors.Is(err, oci.ErrInvalidReference)
	if !found && !gone {
		return retreat{}, repository.Failed(fmt.Errorf("the list of tags lacks %s, and the registry does not tell whether it still has it: %w", previous, err))
	}
	key := types.NamespacedName{Namespace: r.obj.Namespace, Name: r.obj.Name}
	now := p.Clock.Now()
	out := advance(previous, next, found, p.absent.since(key, previous), now)
	switch {
	case found || !out.hold:
		p.absent.forget(key)
	default:
		p.absent.note(key, previous, now)
	}
	return out, nil
}

// excluded reports whether the exclusion list of the ImageRepository leaves a tag out: the list lacks it rightly.
func excluded(repo *imagev1.ImageRepository, tag string) bool {
	exclusion, err := repository.NewExclusion(repo)
	return err == nil && exclusion.Excludes(tag)
}

// absences remembers which choices of policies the registry was found not to have, and since when. After a restart the time
// begins anew.
type absences struct {
	mu   sync.Mutex // guards seen
	seen map[types.NamespacedName]absence
}

type absence struct {
	tag   string
	since time.Time
}

// since returns when the tag was first found to be gone, the zero time when it was not.
func (a *absences) since(key types.NamespacedName, tag string) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	if seen := a.seen[key]; seen.tag == tag {
		return seen.since
	}
	return time.Time{}
}

// note remembers that the tag is gone, unless it is known already.
func (a *absences) note(key types.NamespacedName, tag string, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.seen == nil {
		a.seen = map[types.NamespacedName]absence{}
	}
	if a.seen[key].tag != tag {
		a.seen[key] = absence{tag, now}
	}
}

func (a *absences) forget(key types.NamespacedName) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.seen, key)
}
