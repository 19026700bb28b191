package kustomize

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/depend"
	"github.com/seed-79636ae9/flux/toolkit/kube"
	"github.com/seed-79636ae9/flux/toolkit/sourceref"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

func keyOf(obj *kustomizev1.Kustomization) depend.Key {
	return depend.Key{Kind: kustomizev1.KustomizationKind, Namespace: obj.Namespace, Name: obj.Name}
}

// edges are the objects whose events matter to a Kustomization. They are taken from the spec before anything is
// checked, so that nothing is lost between a check and the registration of the edge.
func edges(obj *kustomizev1.Kustomization) []depend.Key {
	spec := &obj.Spec
	namespaced := func(kind, namespace, name string) depend.Key {
		if namespace == "" {
			namespace = obj.Namespace
		}
		return depend.Key{Kind: kind, Namespace: namespace, Name: name}
	}
	keys := []depend.Key{namespaced(spec.SourceRef.Kind, spec.SourceRef.Namespace, spec.SourceRef.Name)}
	for _, d := range spec.DependsOn {
		keys = append(keys, namespaced(kustomizev1.KustomizationKind, d.Namespace, d.Name))
	}
	if c := spec.KubeConfig; c != nil && c.SecretRef != nil {
		keys = append(keys, namespaced("Secret", "", c.SecretRef.Name))
	}
	if c := spec.KubeConfig; c != nil && c.ConfigMapRef != nil {
		keys = append(keys, namespaced("ConfigMap", "", c.ConfigMapRef.Name))
	}
	if spec.PostBuild != nil {
		for _, ref := range spec.PostBuild.SubstituteFrom {
			keys = append(keys, namespaced(ref.Kind, "", ref.Name))
		}
	}
	if spec.Decryption != nil && spec.Decryption.SecretRef != nil {
		keys = append(keys, namespaced("Secret", "", spec.Decryption.SecretRef.Name))
	}
	return keys
}

// onSource wakes the Kustomizations of a source whose artifact changed, except those that have this revision
// already and are well or at work on it (kustomization 2, 3). The cached reader tells.
func (k *Kustomizer) onSource(kind string, cached func(types.NamespacedName) *kustomizev1.Kustomization) func(before, after client.Object) []types.NamespacedName {
	return func(before, after client.Object) []types.NamespacedName {
		obj := after
		if obj == nil {
			obj = before
		}
		if !sourceref.ArtifactChanged(before, after) {
			return nil
		}
		revision := ""
		if h, ok := after.(meta.ArtifactHolder); ok && h.GetArtifact() != nil {
			revision = h.GetArtifact().Revision
		}
		var woken []types.NamespacedName
		for _, key := range k.dependents(kind, obj) {
			if dependent := cached(key); dependent != nil && has(dependent, revision) {
				continue
			}
			woken = append(woken, key)
		}
		return woken
	}
}

// has reports whether a Kustomization needs no event for a revision (kustomization 3).
func has(obj *kustomizev1.Kustomization, revision string) bool {
	return revision != "" && obj.Status.LastAttemptedRevision == revision &&
		(status.IsTrue(obj.Status.Conditions, meta.ReadyCondition) || status.IsTrue(obj.Status.Conditions, meta.ReconcilingCondition))
}

// onDependency wakes the dependents of a Kustomization on every transition that can change a dependency check.
func (k *Kustomizer) onDependency(before, after client.Object) []types.NamespacedName {
	was, _ := before.(*kustomizev1.Kustomization)
	is, _ := after.(*kustomizev1.Kustomization)
	switch {
	case is == nil:
		return k.dependents(kustomizev1.KustomizationKind, before)
	case was != nil && !transition(was, is):
		return nil
	}
	return k.dependents(kustomizev1.KustomizationKind, after)
}

func transition(was, is *kustomizev1.Kustomization) bool {
	return was.Generation != is.Generation || was.Status.ObservedGeneration != is.Status.ObservedGeneration ||
		was.Status.LastAppliedRevision != is.Status.LastAppliedRevision || ready(was) != ready(is)
}

// onConfig wakes the Kustomizations that take variables, keys or a kubeconfig from a watched ConfigMap or Secret (_common 51,
// kustomization 5).
func (k *Kustomizer) onConfig(kind string) func(before, after client.Object) []types.NamespacedName {
	return func(before, after client.Object) []types.NamespacedName {
		switch {
		case after == nil:
			return k.dependents(kind, before)
		case before != nil && before.GetResourceVersion() == after.GetResourceVersion():
			return nil
		}
		return k.dependents(kind, after)
	}
}

func (k *Kustomizer) dependents(kind string, obj client.Object) []types.NamespacedName {
	var out []types.NamespacedName
	for _, key := range k.Graph.Dependents(depend.Key{Kind: kind, Namespace: obj.GetNamespace(), Name: obj.GetName()}) {
		out = append(out, types.NamespacedName{Namespace: key.Namespace, Name: key.Name})
	}
	return out
}

// ownerSet remembers which owners are to run because somebody touched their objects.
type ownerSet struct {
	mu     sync.Mutex // guards owners
	owners map[kube.Owner]bool
}

func newOwnerSet() *ownerSet { return &ownerSet{owners: map[kube.Owner]bool{}} }

func (s *ownerSet) add(o kube.Owner) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owners[o] = true
}

func (s *ownerSet) has(o kube.Owner) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.owners[o]
}

func (s *ownerSet) empty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.owners) == 0
}

// list returns the owners, in an order that stays the same.
func (s *ownerSet) list() []kube.Owner {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Keys(s.owners), func(a, b kube.Owner) int { return strings.Compare(a.String(), b.String()) })
}

func (s *ownerSet) take(o kube.Owner) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.owners[o]
	delete(s.owners, o)
	return was
}
