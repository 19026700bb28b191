package kube

import (
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Owner is the object that applied another one, as its owner labels say.
type Owner struct{ Namespace, Name string }

func (o Owner) String() string { return o.Namespace + "/" + o.Name }

// Key is the owner as a namespaced name.
func (o Owner) Key() types.NamespacedName {
	return types.NamespacedName{Namespace: o.Namespace, Name: o.Name}
}

// Ownership is how one kind of owner marks what it applies: the API group of its labels and annotations and its field manager
// (wire 2, 3, 4).
type Ownership struct {
	// Group prefixes the labels and annotations, such as "kustomize.toolkit.fluxcd.io".
	Group string
	// Manager is the field manager of server-side applies.
	Manager string
	// Overrides are further managers whose fields are taken over (--override-manager).
	Overrides []string
}

// Marks is what an object's labels and annotations ask of its owner.
type Marks uint8

const (
	// NoApply: never written (reconcile: disabled, ssa: Ignore; kustomization 69).
	NoApply Marks = 1 << iota
	// NoPrune: never deleted; includes all that carry NoApply (kustomization 81).
	NoPrune
	// KeepForeign: fields of other managers and old annotations are left alone (ssa: Merge; kustomization 70).
	KeepForeign
	// CreateOnly: written only when absent (ssa: IfNotPresent; kustomization 69).
	CreateOnly
	// Recreate: deleted and created anew when a field cannot be changed (force: enabled; kustomization 72).
	Recreate
)

// Has reports whether all marks of m are set.
func (x Marks) Has(m Marks) bool { return x&m == m }

// NameLabel and NamespaceLabel are the keys of the owner labels.
func (o Ownership) NameLabel() string { return o.Group + "/name" }

// NamespaceLabel is the key of the label that holds the owner's namespace.
func (o Ownership) NamespaceLabel() string { return o.Group + "/namespace" }

// Owner reads the owner labels; an object without them has the zero Owner.
func (o Ownership) Owner(labels map[string]string) Owner {
	return Owner{Namespace: labels[o.NamespaceLabel()], Name: labels[o.NameLabel()]}
}

// Marks reads the control marks, which may be labels or annotations, in any case.
func (o Ownership) Marks(labels, annotations map[string]string) Marks {
	is := func(key, value string) bool {
		key = o.Group + "/" + key
		return strings.EqualFold(labels[key], value) || strings.EqualFold(annotations[key], value)
	}
	var m Marks
	if is("reconcile", "disabled") || is("ssa", "Ignore") {
		m |= NoApply | NoPrune
	}
	if is("prune", "disabled") {
		m |= NoPrune
	}
	if is("ssa", "Merge") {
		m |= KeepForeign
	}
	if is("ssa", "IfNotPresent") {
		m |= CreateOnly
	}
	if is("force", "enabled") {
		m |= Recreate
	}
	return m
}

// TakesOver reports whether the fields of a manager become ours at the next apply: client-side tools of a human, what was
// there before server-side apply, and our own name used for plain updates (kustomization 71). Names match by prefix, since
// kubectl appends its subcommand; entries of subresources are left.
func (o Ownership) TakesOver(manager string, op metav1.ManagedFieldsOperationType, subresource string) bool {
	if subresource != "" {
		return false
	}
	switch {
	case strings.HasPrefix(manager, "kubectl"):
		return true
	case slices.ContainsFunc(o.Overrides, func(p string) bool { return p != "" && strings.HasPrefix(manager, p) }):
		return manager != o.Manager || op != metav1.ManagedFieldsOperationApply
	case op == metav1.ManagedFieldsOperationUpdate:
		return strings.HasPrefix(manager, "before-first-apply") || strings.HasPrefix(manager, o.Manager)
	}
	return false
}

// StaleAnnotations and StaleLabels are marks of earlier tools that an apply removes (kustomization 71, wire 2).
func (o Ownership) StaleAnnotations() []string {
	return []string{"kubectl.kubernetes.io/last-applied-configuration", o.Group + "/checksum", "fluxcd.io/sync-checksum"}
}

// StaleLabels are the label keys an apply removes.
func (o Ownership) StaleLabels() []string { return []string{"fluxcd.io/sync-gc-mark"} }

func (o Ownership) stale(labels, annotations map[string]string) bool {
	for _, k := range o.StaleAnnotations() {
		if _, ok := annotations[k]; ok {
			return true
		}
	}
	for _, k := range o.StaleLabels() {
		if _, ok := labels[k]; ok {
			return true
		}
	}
	return false
}
