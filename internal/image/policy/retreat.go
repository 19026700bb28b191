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
	"github.com/seed-79636ae9/flux/toolkit/loop"
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

// decision is what a policy chooses.
type decision struct {
	tag string
	// held says, for people, why the previous choice was kept although the list asks for another one; empty: it was not.
	held string
	// again is when to look again at a choice that is held.
	again time.Duration
	// absent is what to remember for the next decision.
	absent absence
}

// absence is a previous choice that the registry was found not to have, and since when.
type absence struct {
	tag   string
	since time.Time
}

// decide chooses one of the tags in the list. Of the previous choice, empty for none, exists tells whether the registry has it;
// it is asked only where the list is in doubt, and its error is that of the decision.
func decide(c *chooser, list []string, previous string, seen absence, now time.Time, exists func() (bool, error)) (decision, error) {
	tag, err := c.choose(list)
	if err != nil || previous == "" || !c.misses(list, previous) {
		return decision{tag: tag}, err
	}
	found, err := exists()
	if err != nil {
		return decision{}, err
	}
	if found {
		return decision{tag: previous, again: recheckAfter, held: fmt.Sprintf("the list of tags lacks %s, which the registry still has", previous)}, nil
	}
	if seen.tag != previous {
		seen = absence{previous, now}
	}
	if left := confirmAfter - now.Sub(seen.since); left > 0 {
		return decision{
			tag: previous, again: left, absent: seen,
			held: fmt.Sprintf("the registry has %s no longer, %s follows unless it comes back", previous, tag),
		}, nil
	}
	return decision{tag: tag}, nil
}

// choose decides for a policy.
func (p *Picker) choose(ctx context.Context, r *request, list []string) (decision, error) {
	key := types.NamespacedName{Namespace: r.obj.Namespace, Name: r.obj.Name}
	previous := ""
	if ref := r.obj.Status.LatestRef; ref != nil && r.isImage(ref.Name) && !excluded(r.repo, ref.Tag) {
		previous = ref.Tag
	}
	exists := func() (bool, error) { return p.exists(ctx, r, previous) }
	d, err := decide(r.chooser, list, previous, p.absent.get(key), p.Clock.Now(), exists)
	switch {
	case err == nil:
		p.absent.set(key, d.absent)
		return d, nil
	case loop.Judged(err):
		return d, err
	}
	return d, loop.Fail(imagev1.FailureReason, err)
}

// isImage reports whether the name is one for the image of the request. There may be several.
func (r *request) isImage(name string) bool {
	image, err := repository.Parse(name, r.repo.Spec.Insecure)
	return err == nil && image.Name() == r.image.Name()
}

// exists asks the registry about a tag that the list lacks. Its errors are verdicts.
func (p *Picker) exists(ctx context.Context, r *request, tag string) (bool, error) {
	c, err := p.connect(ctx, r)
	if err != nil {
		return false, err
	}
	_, err = c.Digest(ctx, r.run, tag)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, oci.ErrNotFound), errors.Is(err, oci.ErrInvalidReference): // A name that no tag can have was not written by us.
		return false, nil
	}
	return false, repository.Failed(fmt.Errorf("the list of tags lacks %s, and the registry does not tell whether it still has it: %w", tag, err))
}

// excluded reports whether the exclusion list of the ImageRepository leaves a tag out: the list lacks it rightly.
func excluded(repo *imagev1.ImageRepository, tag string) bool {
	exclusion, err := repository.NewExclusion(repo)
	return err == nil && exclusion.Excludes(tag)
}

// absences remembers the absences of policies. After a restart their time begins anew.
type absences struct {
	mu   sync.Mutex // guards seen
	seen map[types.NamespacedName]absence
}

func (a *absences) get(key types.NamespacedName) absence {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.seen[key]
}

// set replaces what is remembered of a policy; the zero value forgets it.
func (a *absences) set(key types.NamespacedName, seen absence) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if seen == (absence{}) {
		delete(a.seen, key)
		return
	}
	if a.seen == nil {
		a.seen = map[types.NamespacedName]absence{}
	}
	a.seen[key] = seen
}
