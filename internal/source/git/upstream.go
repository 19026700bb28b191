package git

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"

	"k8s.io/utils/ptr"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/source/frame"
	"github.com/seed-79636ae9/flux/toolkit/archive"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
	"github.com/seed-79636ae9/flux/toolkit/git"
	"github.com/seed-79636ae9/flux/toolkit/loop"
)

// subjectLength is how much of a commit's subject an event shows, in characters (gitrepository 68).
const subjectLength = 50

// treeRoot stands for the root of the content in messages. It is the same in every run, unlike a temporary directory.
const treeRoot = "/tree"

// upstream is the connection of one run.
type upstream struct {
	client    *git.Client
	host      string
	run       *loop.Run
	ref       git.Reference
	selection git.Selection
	ignore    string
	verifier  *verifier // nil: nothing is verified
	included  []*included
	artifacts *artifact.Opener
}

// Settled implements frame.Upstream (gitrepository 39, 50).
func (u *upstream) Settled(obj *sourcev1.GitRepository) bool {
	return ptr.Equal(obj.Spec.Ignore, obj.Status.ObservedIgnore) &&
		obj.Spec.RecurseSubmodules == obj.Status.ObservedRecurseSubmodules &&
		slices.Equal(obj.Spec.SparseCheckout, obj.Status.ObservedSparseCheckout) &&
		slices.Equal(obj.Spec.Include, obj.Status.ObservedInclude) &&
		sameArtifacts(u.included, obj.Status.IncludedArtifacts) &&
		(u.verifier == nil || covers(ptr.Deref(obj.Status.SourceVerificationMode, ""), u.verifier.mode))
}

// Settle implements frame.Upstream (gitrepository 41, 66).
func (u *upstream) Settle(obj *sourcev1.GitRepository) {
	obj.Status.ObservedIgnore = nil
	if obj.Spec.Ignore != nil {
		obj.Status.ObservedIgnore = ptr.To(*obj.Spec.Ignore)
	}
	obj.Status.ObservedRecurseSubmodules = obj.Spec.RecurseSubmodules
	obj.Status.ObservedSparseCheckout = slices.Clone(obj.Spec.SparseCheckout)
	obj.Status.ObservedInclude = slices.Clone(obj.Spec.Include)
	obj.Status.IncludedArtifacts = nil
	for _, i := range u.included {
		obj.Status.IncludedArtifacts = append(obj.Status.IncludedArtifacts, i.artifact)
	}
	obj.Status.SourceVerificationMode = nil
	if u.verifier != nil {
		obj.Status.SourceVerificationMode = ptr.To(u.verifier.mode)
	}
}

// Host implements frame.Hosted.
func (u *upstream) Host() string { return u.host }

// Trust implements frame.Signed.
func (u *upstream) Trust() string {
	if u.verifier == nil {
		return ""
	}
	return u.verifier.trust
}

// Observe implements frame.Upstream. Tags that are equally good versions take a fetch to tell apart.
func (u *upstream) Observe(ctx context.Context) (string, error) {
	revision, err := u.client.Resolve(ctx, u.ref)
	if errors.Is(err, git.ErrAmbiguous) {
		return "", nil
	}
	if err != nil {
		return "", checkoutFailed(err)
	}
	return revision.String(), nil
}

// Fetch implements frame.Upstream.
func (u *upstream) Fetch(ctx context.Context, dir string) (*frame.Content, error) {
	checkout, err := u.client.FetchSelected(ctx, u.ref, u.selection, dir)
	if err != nil {
		return nil, checkoutFailed(err)
	}
	if err := u.verify(checkout); err != nil {
		return nil, errors.Join(err, checkout.Close())
	}
	return &frame.Content{
		Revision: checkout.Revision.String(),
		File:     checkout.Revision.Commit + ".tar.gz",
		News:     fmt.Sprintf("stored artifact for commit '%s'", shorten(checkout.Commit.Subject())),
		Close:    checkout.Close,
		Write:    func(ctx context.Context, w io.Writer) error { return u.write(ctx, w, checkout) },
	}, nil
}

func (u *upstream) write(ctx context.Context, w io.Writer, checkout *git.Checkout) error {
	tree := checkout.Tree()
	if len(u.included) > 0 {
		layers := []archive.Layer{{Source: tree}}
		for _, i := range u.included {
			layer, err := u.open(ctx, i)
			if err != nil {
				return err
			}
			defer i.close()
			layers = append(layers, layer)
		}
		var err error
		if tree, err = archive.Merge(ctx, layers...); err != nil {
			return fmt.Errorf("merging included content: %w", err)
		}
	}
	ignore, err := archive.ReadIgnore(ctx, tree, u.ignore)
	if err != nil {
		return fmt.Errorf("reading ignore rules: %w", err)
	}
	return archive.Write(ctx, w, tree, ignore)
}

// Close implements frame.Upstream.
func (u *upstream) Close() { u.client.Close() }

// shorten cuts a subject for an event (gitrepository 68).
func shorten(subject string) string {
	if runes := []rune(subject); len(runes) > subjectLength {
		return string(runes[:subjectLength]) + "..."
	}
	return subject
}

// checkoutFailed judges what went wrong with the server (gitrepository 35, 36, 70).
func checkoutFailed(err error) error {
	var missing *git.PathError
	switch {
	case errors.Is(err, git.ErrEmptyRepository):
		return loop.Fail(sourcev1.EmptyGitRepositoryReason, git.ErrEmptyRepository).On(sourcev1.FetchFailedCondition)
	case errors.As(err, &missing):
		err = fmt.Errorf("failed to sparse checkout directories : sparse checkout dir '%s' does not exist in repository: lstat %s: no such file or directory",
			missing.Path, path.Join(treeRoot, missing.Path))
	default:
		err = fmt.Errorf("failed to checkout and determine revision: %w", err)
	}
	return loop.Fail(sourcev1.GitOperationFailedReason, err).On(sourcev1.FetchFailedCondition)
}

func sameArtifacts(found []*included, stored []*meta.Artifact) bool {
	return slices.EqualFunc(found, stored, func(i *included, a *meta.Artifact) bool {
		return sameArtifact(i.artifact, a)
	})
}
