package update

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	imagev1 "github.com/seed-79636ae9/flux/api/image/v1"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/toolkit/git"
	"github.com/seed-79636ae9/flux/toolkit/loop"
)

const (
	headsPrefix    = "refs/heads/"
	defaultBranch  = "master"
	defaultTimeout = time.Minute
	// maxTimeout bounds what spec.timeout of a GitRepository can ask for: a run has to end some day.
	maxTimeout = time.Hour
)

// plan is what an automation and its GitRepository ask for.
type plan struct {
	url      string
	checkout git.Reference
	// branch is what is pushed to; switched tells that it is another one than what is checked out.
	branch   string
	switched bool
	refspec  *refspec
	options  []string
	// path is what is edited: clean, relative to the root, "" for all of it.
	path    string
	timeout time.Duration
}

// makePlan decides what to start from and where to push (imageupdateautomation 9-11, 13, 33, 42, 43, 47, 55).
func makePlan(obj *imagev1.ImageUpdateAutomation, repository *sourcev1.GitRepository) (*plan, error) {
	spec := obj.Spec.Git
	ref := repository.Spec.Ref
	if spec.Checkout != nil {
		ref = &spec.Checkout.Reference
	}
	p := &plan{
		url: repository.Spec.URL, checkout: git.Reference{Branch: defaultBranch},
		timeout: min(repository.Spec.Timeout.Or(defaultTimeout), maxTimeout),
	}
	if ref != nil && *ref != (sourcev1.GitRepositoryRef{}) {
		p.checkout = git.Reference{Branch: ref.Branch, Tag: ref.Tag, SemVer: ref.SemVer, Name: ref.Name, Commit: ref.Commit}
	}
	// Only what is checked out as a branch can be pushed to as one.
	onBranch := p.checkout == git.Reference{Branch: p.checkout.Branch}
	p.branch = p.checkout.Branch
	if push := spec.Push; push != nil {
		if push.Branch != "" {
			p.branch = push.Branch
		}
		if push.Refspec != "" {
			var err error
			if p.refspec, err = parseRefspec(push.Refspec); err != nil {
				return nil, fmt.Errorf("spec.git.push.refspec '%s': %w", push.Refspec, err)
			}
		}
		for _, key := range slices.Sorted(maps.Keys(push.Options)) {
			p.options = append(p.options, key+"="+push.Options[key])
		}
	}
	if p.branch == "" {
		return nil, errors.New("push branch not configured: spec.git.push.branch is needed where the checkout reference is no branch")
	}
	p.switched = !onBranch || p.branch != p.checkout.Branch
	if obj.Spec.Update != nil {
		p.path = strings.TrimPrefix(path.Clean("/"+obj.Spec.Update.Path), "/")
	}
	return p, nil
}

// shortcut reports whether a look at the remote head can tell that nothing is to be done (imageupdateautomation 14).
func (p *plan) shortcut() bool { return !p.switched && p.refspec == nil }

// refspec is a second place to push to.
type refspec struct {
	text                string
	source, destination string
	force               bool
}

// parseRefspec reads [+]<source>:<destination>. What would delete a reference is refused: nobody declares that with an update.
func parseRefspec(text string) (*refspec, error) {
	r := &refspec{text: text}
	rest, force := strings.CutPrefix(text, "+")
	source, destination, ok := strings.Cut(rest, ":")
	switch {
	case !ok:
		return nil, errors.New("want <source>:<destination>")
	case source == "":
		return nil, errors.New("a refspec without a source would delete a reference")
	case !strings.HasPrefix(destination, "refs/"):
		return nil, errors.New("the destination has to be a full reference name, refs/heads/main for example")
	case strings.Count(source, "*") != strings.Count(destination, "*") || strings.Count(source, "*") > 1:
		return nil, errors.New("source and destination need the same number of '*', one at most")
	}
	r.source, r.destination, r.force = source, destination, force
	return r, nil
}

// resolve says which commit goes to which reference. Sources are what this run knows: the commit it has made, as the push branch
// or as HEAD, and the one it has checked out.
func (r *refspec) resolve(p *plan, pushed, checkedOut string) (ref, commit string, err error) {
	locals := []struct{ name, commit string }{{headsPrefix + p.branch, pushed}, {p.branch, pushed}, {"HEAD", pushed}, {pushed, pushed}}
	if p.checkout.Branch != "" {
		locals = append(locals, []struct{ name, commit string }{{headsPrefix + p.checkout.Branch, checkedOut}, {p.checkout.Branch, checkedOut}}...)
	}
	head, tail, glob := strings.Cut(r.source, "*")
	for _, local := range locals {
		switch {
		case glob && strings.HasPrefix(local.name, head) && strings.HasSuffix(local.name, tail) && len(local.name) >= len(head)+len(tail):
			middle := local.name[len(head) : len(local.name)-len(tail)]
			return strings.Replace(r.destination, "*", middle, 1), local.commit, nil
		case local.name == r.source:
			return r.destination, local.commit, nil
		}
	}
	return "", "", fmt.Errorf("refspec '%s': its source is neither the push branch '%s' nor what is checked out", r.text, p.branch)
}

// validate refuses what no run can do anything with (imageupdateautomation 5).
func validate(obj *imagev1.ImageUpdateAutomation) error {
	const invalid = "invalid source configuration"
	if kind := obj.Spec.SourceRef.Kind; kind != sourcev1.GitRepositoryKind {
		return loop.Stall(imagev1.InvalidSourceConfigurationReason, fmt.Errorf("source kind '%s' not supported: %s", kind, invalid))
	}
	if obj.Spec.Git == nil {
		return loop.Stall(imagev1.InvalidSourceConfigurationReason,
			fmt.Errorf("source kind '%s' necessitates field .spec.git: %s", obj.Spec.SourceRef.Kind, invalid))
	}
	return nil
}
