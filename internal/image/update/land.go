package update

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	imagev1 "github.com/seed-79636ae9/flux/api/image/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/git"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/secret"
)

const (
	// maxAttempts is how often a run fetches, edits and pushes, while others are faster.
	maxAttempts = 10
	// firstPause and longestPause bound the random pause before the next attempt, which keeps losers apart.
	firstPause   = 50 * time.Millisecond
	longestPause = time.Second
)

// land edits and pushes. Automations of this process that push to the same branch do so one after the other; who loses a race
// against anybody else starts again from what won (reliability 083).
func (p *pass) land(ctx context.Context) error {
	unlock, err := p.a.branches.lock(ctx, p.run, branchKey(p.plan.url, p.plan.branch))
	if err != nil {
		return err
	}
	defer unlock()
	// imageupdateautomation 35.
	if p.dir, err = os.MkdirTemp(p.a.options.TempDir, fmt.Sprintf("automation-%s-%s-*", p.obj.Namespace, p.obj.Name)); err != nil {
		return sourceFailed(fmt.Errorf("failed to create temporary working directory: %w", err))
	}
	defer func() { _ = os.RemoveAll(p.dir) }()
	for attempt, pause := 1, firstPause; ; attempt, pause = attempt+1, min(2*pause, longestPause) {
		err := p.attempt(ctx)
		if !errors.Is(err, git.ErrMoved) || attempt == maxAttempts {
			return err
		}
		timer := p.a.options.Clock.NewTimer(rand.N(pause))
		select {
		case <-timer.C():
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}

// attempt fetches, edits and pushes once. It fails with git.ErrMoved when somebody else was faster.
func (p *pass) attempt(ctx context.Context) error {
	if err := p.stillWanted(ctx); err != nil {
		return err
	}
	var b *base
	err := p.remote(ctx, func(ctx context.Context) (err error) {
		b, err = p.fetch(ctx)
		return err
	})
	if err != nil {
		return p.checkoutFailed(err)
	}
	defer func() { _ = b.checkout.Close() }()
	arrived, err := p.answer(ctx, b)
	if err != nil {
		return err
	}
	// The policies are read after the commit. Whoever has pushed that one had read them before, so that these are as new or newer;
	// and who pushes after it makes this push fail. No commit can take back what a newer choice has written.
	refs, err := policies(ctx, p.a.options.Reader, p.obj)
	if err != nil {
		return err
	}
	draft, err := p.edit(ctx, b, refs)
	if err != nil {
		return err
	}
	if draft == nil {
		if !arrived && p.halfDone(b) {
			arrived = true
			if err := p.pushed(ctx, b, b.checkout.Commit.Hash, b.checkout.Commit.Message); err != nil {
				return err
			}
		}
		if arrived {
			p.observe(b.revision, refs)
			return p.run.Ready(readyMessage)
		}
		return p.unchanged(b.revision, refs)
	}
	return p.push(ctx, b, draft, refs)
}

// stillWanted ends a run, silently, whose object has changed: its wait for the branch may have been long.
func (p *pass) stillWanted(ctx context.Context) error {
	var live imagev1.ImageUpdateAutomation
	err := p.a.options.Reader.Get(ctx, client.ObjectKeyFromObject(p.obj), &live)
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("failed to look at the object again: %w", err)
	}
	if err != nil || live.UID != p.obj.UID || live.Generation != p.run.Generation || !live.DeletionTimestamp.IsZero() {
		resource := imagev1.GroupVersion.WithResource("imageupdateautomations").GroupResource()
		return apierrors.NewConflict(resource, p.obj.Name, errors.New("the object has changed"))
	}
	return nil
}

// base is what a commit is made on.
type base struct {
	checkout *git.Checkout
	// revision is that of the checkout reference.
	revision git.Revision
	// remote is what the push branch is at, "" when it is not there.
	remote string
	// anew tells that the branch is made anew, whatever it is at.
	anew bool
}

// fetch gets what the commit is made on (imageupdateautomation 11, 57, 58, 62).
func (p *pass) fetch(ctx context.Context) (*base, error) {
	var selection git.Selection
	if p.a.options.SparseCheckout && p.plan.path != "" {
		selection.Sparse = []string{p.plan.path}
	}
	get := func(ref git.Reference) (*git.Checkout, error) {
		return p.client.FetchSelected(ctx, ref, selection, p.dir)
	}
	pushBranch := git.Reference{Branch: p.plan.branch}
	switch {
	case !p.plan.switched:
		checkout, err := get(p.plan.checkout)
		if err != nil {
			return nil, err
		}
		return &base{checkout: checkout, revision: checkout.Revision, remote: checkout.Commit.Hash}, nil
	case p.a.options.AllBranchReferences:
		checkout, err := get(pushBranch)
		if err == nil {
			out := &base{checkout: checkout, remote: checkout.Commit.Hash}
			if out.revision, err = p.checkoutRevision(ctx); err != nil {
				return nil, errors.Join(err, checkout.Close())
			}
			return out, nil
		}
		if !errors.Is(err, git.ErrReferenceNotFound) {
			return nil, err
		}
		if checkout, err = get(p.plan.checkout); err != nil {
			return nil, err
		}
		return &base{checkout: checkout, revision: checkout.Revision}, nil
	}
	head, err := p.client.Resolve(ctx, pushBranch)
	if err != nil && !errors.Is(err, git.ErrReferenceNotFound) {
		return nil, err
	}
	checkout, err := get(p.plan.checkout)
	if err != nil {
		return nil, err
	}
	return &base{checkout: checkout, revision: checkout.Revision, remote: head.Commit, anew: true}, nil
}

// checkoutRevision is what the checkout reference stands for. Equally good tags take a fetch to tell apart.
func (p *pass) checkoutRevision(ctx context.Context) (git.Revision, error) {
	revision, err := p.client.Resolve(ctx, p.plan.checkout)
	if !errors.Is(err, git.ErrAmbiguous) {
		return revision, err
	}
	checkout, err := p.client.Fetch(ctx, p.plan.checkout, p.dir)
	if err != nil {
		return git.Revision{}, err
	}
	return checkout.Revision, checkout.Close()
}

// checkoutFailed words what went wrong before the edit. A branch that is not there is told as 2.9 tells it.
func (p *pass) checkoutFailed(err error) error {
	var missing *git.PathError
	switch {
	case errors.As(err, &missing):
		return updateFailed(missingPath(missing.Path))
	case errors.Is(err, git.ErrReferenceNotFound) && p.plan.checkout.Branch != "" && p.plan.checkout.Commit == "":
		err = fmt.Errorf("unable to clone '%s': %w", secret.RedactURL(p.plan.url), git.ErrReferenceNotFound)
	}
	return loop.Fail(imagev1.GitOperationFailedReason, fmt.Errorf("failed to checkout source: %w", err))
}

func updateFailed(err error) error {
	return loop.Fail(imagev1.UpdateFailedReason, fmt.Errorf("failed to apply policies: %w", err))
}

func sourceUpdateFailed(err error) error {
	if loop.Judged(err) {
		return err
	}
	return loop.Fail(imagev1.GitOperationFailedReason, fmt.Errorf("failed to update source: %w", err))
}

// answer finds out what has become of a commit that an earlier run was about to push, and tells it if it has arrived
// (reliability 095).
func (p *pass) answer(ctx context.Context, b *base) (arrived bool, err error) {
	if p.noted == "" {
		return false, nil
	}
	text := ""
	if b.checkout.Commit.Hash == p.noted {
		arrived, text = true, b.checkout.Commit.Message
	} else if b.remote != "" {
		err = p.remote(ctx, func(ctx context.Context) error {
			found, err := p.client.Fetch(ctx, git.Reference{Branch: p.plan.branch, Commit: p.noted}, p.dir)
			if errors.Is(err, git.ErrReferenceNotFound) {
				return nil
			}
			if err != nil {
				return err
			}
			arrived, text = true, found.Commit.Message
			return found.Close()
		})
	}
	if err != nil {
		return false, p.checkoutFailed(err)
	}
	commit := p.noted
	p.noted = ""
	p.progress()
	if arrived {
		return true, p.pushed(ctx, b, commit, text)
	}
	return false, nil
}

// edit makes the commit, nil when there is nothing to change (imageupdateautomation 8, 16, 28, 48).
func (p *pass) edit(ctx context.Context, b *base, refs map[string]imagev1.ImageRef) (*git.Draft, error) {
	p.heal(imagev1.GitOperationFailedReason)
	if u := p.obj.Spec.Update; u == nil || u.Strategy != imagev1.UpdateStrategySetters {
		strategy := ""
		if u != nil {
			strategy = u.Strategy
		}
		return nil, loop.Stall(imagev1.InvalidUpdateStrategyReason, fmt.Errorf("unknown update strategy '%s': set spec.update.strategy to %s",
			strategy, imagev1.UpdateStrategySetters))
	}
	wanted, err := images(p.obj.Namespace, refs)
	if err != nil {
		return nil, updateFailed(err)
	}
	found, err := edit(ctx, b.checkout.Tree(), p.plan.path, wanted, p.a.options.MaxFileBytes)
	if err != nil {
		return nil, updateFailed(err)
	}
	p.heal(imagev1.UpdateFailedReason, imagev1.InvalidUpdateStrategyReason)
	if len(found.changes) == 0 {
		return nil, nil
	}
	text, err := message(ctx, p.obj, found.changes)
	if err != nil {
		return nil, sourceUpdateFailed(err)
	}
	author := p.obj.Spec.Git.Commit.Author
	draft, err := b.checkout.Draft(ctx, git.DraftOptions{
		Files: found.files, Message: text, Signer: p.signer,
		Author: git.Signature{Name: author.Name, Email: author.Email, When: p.a.options.Clock.Now().UTC()},
	})
	if errors.Is(err, git.ErrUnchanged) {
		return nil, nil
	}
	if err != nil {
		return nil, sourceUpdateFailed(err)
	}
	if b.anew && b.remote != "" {
		same, err := p.isThere(ctx, draft)
		if err != nil {
			return nil, p.checkoutFailed(err)
		}
		if same {
			return nil, nil
		}
	}
	return draft, nil
}

// isThere reports whether a branch that is made anew is what it would become, but for the time.
func (p *pass) isThere(ctx context.Context, d *git.Draft) (same bool, err error) {
	err = p.remote(ctx, func(ctx context.Context) error {
		there, err := p.client.Fetch(ctx, git.Reference{Branch: p.plan.branch}, p.dir)
		if errors.Is(err, git.ErrReferenceNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		same = there.Commit.Tree() == d.Tree && slices.Equal(there.Commit.Parents(), []string{d.Parent})
		return there.Close()
	})
	return same, err
}

// push sends the commit to the branch as it was fetched (imageupdateautomation 12, 29, 43, 45).
func (p *pass) push(ctx context.Context, b *base, d *git.Draft, refs map[string]imagev1.ImageRef) error {
	p.note(d.Hash)
	if err := p.run.Persist(ctx); err != nil {
		return err
	}
	err := p.remote(ctx, func(ctx context.Context) error {
		return p.client.Push(ctx, d, git.Update{
			Ref: headsPrefix + p.plan.branch, From: &b.remote, Force: b.anew && p.a.options.ForcePushBranch, Options: p.plan.options,
		}, p.dir)
	})
	if err != nil {
		if refused(err) {
			p.progress()
		}
		return sourceUpdateFailed(err)
	}
	p.progress()
	revision := b.revision
	if !p.plan.switched {
		revision = git.Revision{Ref: p.plan.branch, Commit: d.Hash}
	}
	if err := p.pushed(ctx, b, d.Hash, d.Message); err != nil {
		return err
	}
	p.observe(revision, refs)
	return p.run.Ready(readyMessage)
}

// refused reports whether a push has certainly not arrived. After any other error nobody knows, and the note stays.
func refused(err error) bool {
	return slices.ContainsFunc([]error{
		git.ErrMoved, git.ErrNonFastForward, git.ErrRejected, git.ErrUnsupported, git.ErrInvalidRef, git.ErrAuthentication, git.ErrAuthorization,
	}, func(known error) bool { return errors.Is(err, known) })
}

// pushed tells of a commit that has arrived, and pushes it to the second place (imageupdateautomation 13, 30, 31, 46).
func (p *pass) pushed(ctx context.Context, b *base, commit, text string) error {
	p.obj.Status.LastPushCommit = commit
	p.obj.Status.LastPushTime = &metav1.Time{Time: p.a.options.Clock.Now()}
	places := fmt.Sprintf("branch '%s'", p.plan.branch)
	if p.plan.refspec != nil {
		if err := p.pushRefspec(ctx, b, commit); err != nil {
			return err
		}
		places += fmt.Sprintf(" and refspecs '%s'", p.plan.refspec.text)
	}
	p.run.Event(event.Event{
		Severity: event.Info, Reason: meta.SucceededReason,
		Message: fmt.Sprintf("pushed commit '%s' to %s\n%s", commit[:7], places, strings.TrimRight(text, "\n")),
	})
	p.run.News()
	return nil
}

// pushRefspec pushes once more. The branch has what it shall have: a lost race here is one of this reference alone.
func (p *pass) pushRefspec(ctx context.Context, b *base, commit string) error {
	ref, source, err := p.plan.refspec.resolve(p.plan, commit, b.revision.Commit)
	if err != nil {
		return sourceUpdateFailed(err)
	}
	force := p.plan.refspec.force || p.plan.switched && p.a.options.ForcePushBranch
	for range maxAttempts {
		err = p.remote(ctx, func(ctx context.Context) error {
			return p.client.Push(ctx, nil, git.Update{Ref: ref, To: source, Force: force, Options: p.plan.options}, p.dir)
		})
		if !errors.Is(err, git.ErrMoved) {
			break
		}
	}
	if err != nil {
		return sourceUpdateFailed(fmt.Errorf("%s%s': %s", refspecFailure, p.plan.refspec.text, err.Error()))
	}
	return nil
}

// refspecFailure begins what is told of a second push that has failed.
const refspecFailure = "failed to push refspec '"

// halfDone reports whether the last run has pushed the branch, and not the refspec: the branch alone would not tell.
func (p *pass) halfDone(b *base) bool {
	return p.plan.refspec != nil && !p.ready && b.checkout.Commit.Hash == p.obj.Status.LastPushCommit && strings.Contains(p.message, refspecFailure)
}
