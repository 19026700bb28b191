// Package policy is the kind ImagePolicy: it chooses one of the tags of an image.
package policy

import (
	"context"
	"fmt"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	imagev1 "github.com/seed-79636ae9/flux/api/image/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/internal/image/repository"
	"github.com/seed-79636ae9/flux/internal/image/tags"
	"github.com/seed-79636ae9/flux/toolkit/depend"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

// patience is how long a policy that has chosen before waits for the first scan after a restart, before it says that there is
// nothing to choose from.
const patience = 15 * time.Second

// Picker reconciles ImagePolicies.
type Picker struct {
	// Client reads ImageRepositories from the cache.
	Client client.Reader
	// Reader reads namespaces live.
	Reader client.Reader
	// Registries connects to registries.
	Registries *repository.Registries
	// Tags has what scans have found.
	Tags *tags.Database
	// Graph holds the edges by which ImageRepositories wake ImagePolicies.
	Graph *depend.Graph
	// NoCrossNamespaceRefs refuses references to other namespaces (_common 41).
	NoCrossNamespaceRefs bool
	// RequeueDependency is how soon a policy without tags looks again, should the event get lost.
	RequeueDependency time.Duration
	// Clock may be replaced by a test.
	Clock clock.PassiveClock

	absent absences
}

// Controller returns the kind for the loop.
func (p *Picker) Controller(controllerName string) *loop.Controller[*imagev1.ImagePolicy] {
	return &loop.Controller[*imagev1.ImagePolicy]{
		Name: controllerName, Kind: imagev1.ImagePolicyKind,
		New:        func() *imagev1.ImagePolicy { return &imagev1.ImagePolicy{} },
		Reconciler: p,
		Conditions: status.Table{ReadyReason: meta.SucceededReason},
		FailReason: imagev1.FailureReason,
		Policy:     loop.Policy{WaitKeepsReconciling: true},
		Watches: []loop.Watch{
			{Object: &imagev1.ImagePolicy{}, Map: p.onSelf},
			{Object: &imagev1.ImageRepository{}, Map: p.onRepository},
		},
	}
}

// request is what one run has gathered.
type request struct {
	obj     *imagev1.ImagePolicy
	run     *loop.Run
	repo    *imagev1.ImageRepository
	image   name.Repository
	chooser *chooser
	// connection is made when the registry is needed, which is seldom.
	connection *repository.Connection
}

// Reconcile implements loop.Reconciler.
func (p *Picker) Reconcile(ctx context.Context, obj *imagev1.ImagePolicy, run *loop.Run) error {
	p.Graph.Set(keyOf(obj), edges(obj))
	repository.Progress(obj, run)
	r := &request{obj: obj, run: run}
	if err := p.gather(ctx, r); err != nil {
		return err
	}
	list, err := p.list(ctx, r)
	if err != nil {
		return err
	}
	d, err := p.choose(ctx, r, list.Tags)
	if err != nil {
		return err
	}
	ref := imagev1.ImageRef{Name: r.repo.Spec.Image, Tag: d.tag}
	if ref.Digest, err = p.digest(ctx, r, ref, d.held != ""); err != nil {
		return err
	}
	return conclude(obj, run, ref, d)
}

// gather reads what the choice depends on, and checks it (imagepolicy 3-7).
func (p *Picker) gather(ctx context.Context, r *request) (err error) {
	if r.obj.GetDigestReflectionPolicy() == imagev1.ReflectAlways && !r.obj.Spec.Interval.IsSet() {
		return loop.Stall(imagev1.IntervalNotConfiguredReason,
			fmt.Errorf("spec.interval must be set when spec.digestReflectionPolicy is set to '%s'", imagev1.ReflectAlways))
	}
	if r.repo, err = p.repository(ctx, r.obj); err != nil {
		return err
	}
	if r.image, err = repository.Parse(r.repo.Spec.Image, r.repo.Spec.Insecure); err != nil {
		return loop.Stall(imagev1.ImageURLInvalidReason, err)
	}
	if err := p.Registries.CheckIdentity(r.repo); err != nil {
		return err
	}
	if r.chooser, err = newChooser(&r.obj.Spec); err != nil {
		return loop.Stall(imagev1.InvalidPolicyReason, err)
	}
	return nil
}

// repository returns the ImageRepository of a policy, if it may be referred to (imagepolicy 4, 5, 35-37).
func (p *Picker) repository(ctx context.Context, obj *imagev1.ImagePolicy) (*imagev1.ImageRepository, error) {
	key := repositoryOf(obj)
	foreign := key.Namespace != obj.Namespace
	if foreign && p.NoCrossNamespaceRefs {
		return nil, loop.Fail(meta.AccessDeniedReason,
			fmt.Errorf("cannot access '%s/%s', cross-namespace references have been blocked", imagev1.ImageRepositoryKind, key))
	}
	var repo imagev1.ImageRepository
	if err := p.Client.Get(ctx, key, &repo); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, loop.Fail(meta.DependencyNotReadyReason, fmt.Errorf("failed to get the referred %s: referenced %s does not exist: %s.%s %q not found",
				imagev1.ImageRepositoryKind, imagev1.ImageRepositoryKind, imagev1.ImageRepositoryKind, imagev1.GroupName, key.Name))
		}
		return nil, loop.Fail(imagev1.FailureReason, fmt.Errorf("failed to get the referred %s: %w", imagev1.ImageRepositoryKind, err))
	}
	if !foreign {
		return &repo, nil
	}
	admitted, err := p.admits(ctx, &repo, obj.Namespace)
	switch {
	case err != nil:
		return nil, loop.Fail(imagev1.FailureReason, err)
	case !admitted:
		return nil, loop.Fail(meta.AccessDeniedReason,
			fmt.Errorf("cannot access '%s/%s': its spec.accessFrom does not admit the namespace '%s'", imagev1.ImageRepositoryKind, key, obj.Namespace))
	}
	return &repo, nil
}

// admits reports whether an ImageRepository lets policies of another namespace refer to it (_common 42).
func (p *Picker) admits(ctx context.Context, repo *imagev1.ImageRepository, namespace string) (bool, error) {
	access := repo.Spec.AccessFrom
	if access == nil {
		return false, nil
	}
	var caller corev1.Namespace
	if err := p.Reader.Get(ctx, types.NamespacedName{Name: namespace}, &caller); err != nil {
		return false, fmt.Errorf("read the labels of namespace '%s': %w", namespace, err)
	}
	for _, selector := range access.NamespaceSelectors {
		if labels.SelectorFromSet(selector.MatchLabels).Matches(labels.Set(caller.Labels)) {
			return true, nil
		}
	}
	return false, nil
}

// list returns the tags of the image. Those of another image, which the ImageRepository had before, are none
// (imagepolicy 8).
func (p *Picker) list(ctx context.Context, r *request) (tags.List, error) {
	key := client.ObjectKeyFromObject(r.repo)
	list, err := p.stored(key, r.image)
	if err == nil && len(list.Tags) == 0 && r.obj.Status.LatestRef != nil {
		// All policies of a process that has just started would complain otherwise, and those of an image that was just
		// replaced by another one. How the wait has ended is told by what there is then.
		bounded, cancel := context.WithTimeout(ctx, patience)
		_ = r.run.Park(bounded, func(ctx context.Context) error { return p.Tags.Await(ctx, key, r.image.Name()) })
		cancel()
		list, err = p.stored(key, r.image)
	}
	if err != nil {
		return tags.List{}, loop.Fail(imagev1.FailureReason, fmt.Errorf("read the stored tags: %w", err))
	}
	if len(list.Tags) > 0 {
		return list, nil
	}
	none := fmt.Errorf("retrying in %s error: no tags in database", p.RequeueDependency)
	return tags.List{}, loop.Wait(meta.DependencyNotReadyReason, p.RequeueDependency, none).Announce(event.Event{
		Severity: event.Error, Reason: meta.DependencyNotReadyReason, Message: none.Error(),
	})
}

func (p *Picker) stored(key types.NamespacedName, image name.Repository) (tags.List, error) {
	list, err := p.Tags.Get(key)
	if list.Image != image.Name() {
		list = tags.List{}
	}
	return list, err
}

// digest returns the digest of the choice, as far as the policy wants it. A choice that is held keeps the one it has
// (imagepolicy 15, 29-32).
func (p *Picker) digest(ctx context.Context, r *request, ref imagev1.ImageRef, held bool) (string, error) {
	previous := r.obj.Status.LatestRef
	known := previous != nil && previous.Name == ref.Name && previous.Tag == ref.Tag && previous.Digest != ""
	switch reflect := r.obj.GetDigestReflectionPolicy(); {
	case reflect == imagev1.ReflectNever:
		return "", nil
	case known && (held || reflect == imagev1.ReflectIfNotPresent):
		return previous.Digest, nil
	}
	c, err := p.connect(ctx, r)
	if err != nil {
		return "", err
	}
	digest, err := c.Digest(ctx, r.run, ref.Tag)
	if err != nil {
		return "", repository.Failed(fmt.Errorf("failed to get the digest of '%s': %w", ref, err))
	}
	return digest, nil
}

// connect returns the way to the registry, with what the ImageRepository says about it (imagepolicy 32).
func (p *Picker) connect(ctx context.Context, r *request) (c *repository.Connection, err error) {
	if r.connection == nil {
		r.connection, err = p.Registries.Connect(ctx, r.repo, r.image)
	}
	return r.connection, err
}

// conclude records the choice and tells what is new (imagepolicy 16, 17, 27, 28).
func conclude(obj *imagev1.ImagePolicy, run *loop.Run, ref imagev1.ImageRef, d decision) error {
	if old := obj.Status.LatestRef; old == nil || *old != ref {
		if old != nil {
			obj.Status.ObservedPreviousRef = old
		}
		obj.Status.LatestRef = &ref
	}
	message := fmt.Sprintf("Latest image tag for %s resolved to %s", ref.Name, ref.Tag)
	if ref.Digest != "" {
		message += " with digest " + ref.Digest
	}
	if previous := obj.Status.ObservedPreviousRef; previous != nil {
		message += fmt.Sprintf(" (previously %s)", previous)
	}
	if d.held != "" {
		message += "; " + d.held
	}
	repository.Announce(obj, run, message, message)
	again := obj.GetInterval()
	if d.again > 0 && (again == 0 || d.again < again) {
		again = d.again
	}
	run.Again(again)
	return run.Ready("%s", message)
}

// Finalize implements loop.Finalizer: nothing is left of a policy (imagepolicy 19).
func (p *Picker) Finalize(_ context.Context, obj *imagev1.ImagePolicy, _ *loop.Run) error {
	p.absent.set(client.ObjectKeyFromObject(obj), absence{})
	return nil
}

func keyOf(obj client.Object) depend.Key {
	return depend.Key{Kind: imagev1.ImagePolicyKind, Namespace: obj.GetNamespace(), Name: obj.GetName()}
}

// repositoryOf is the ImageRepository that a policy refers to (imagepolicy 4, 20).
func repositoryOf(obj *imagev1.ImagePolicy) types.NamespacedName {
	ref := obj.Spec.ImageRepositoryRef
	key := types.NamespacedName{Namespace: ref.Namespace, Name: ref.Name}
	if key.Namespace == "" {
		key.Namespace = obj.Namespace
	}
	return key
}

func edges(obj *imagev1.ImagePolicy) []depend.Key {
	key := repositoryOf(obj)
	return []depend.Key{{Kind: imagev1.ImageRepositoryKind, Namespace: key.Namespace, Name: key.Name}}
}

// onSelf keeps the edges of a policy; it wakes nobody.
func (p *Picker) onSelf(before, after client.Object) []types.NamespacedName {
	if obj, ok := after.(*imagev1.ImagePolicy); ok {
		p.Graph.Set(keyOf(obj), edges(obj))
		return nil
	}
	p.Graph.Remove(keyOf(before))
	return nil
}

// onRepository wakes the policies of an ImageRepository that comes or goes, whose tags have changed, or that lets others in
// (imagepolicy 1, 20).
func (p *Picker) onRepository(before, after client.Object) []types.NamespacedName {
	obj := after
	if after == nil {
		obj = before
	} else if before != nil && !news(before.(*imagev1.ImageRepository), after.(*imagev1.ImageRepository)) {
		return nil
	}
	var woken []types.NamespacedName
	for _, key := range p.Graph.Dependents(depend.Key{Kind: imagev1.ImageRepositoryKind, Namespace: obj.GetNamespace(), Name: obj.GetName()}) {
		woken = append(woken, types.NamespacedName{Namespace: key.Namespace, Name: key.Name})
	}
	return woken
}

// news reports whether an ImageRepository has changed in what policies see of it.
func news(before, after *imagev1.ImageRepository) bool {
	// Two lists may have one checksum of four bytes.
	tags := func(obj *imagev1.ImageRepository) string {
		if last := obj.Status.LastScanResult; last != nil {
			return fmt.Sprint(last.Revision, last.TagCount, last.LatestTags)
		}
		return ""
	}
	return tags(before) != tags(after) || before.Status.CanonicalImageName != after.Status.CanonicalImageName || before.Generation != after.Generation
}
