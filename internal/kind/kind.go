// Package kind says what a kind is to a human: the words that name it on the command line, the columns of its
// table, what it refers to, and how it is created from flags. Descriptors are read by the CLI and the web UI.
//
// Descriptors work on unstructured objects, not on Go types: reading verbs must know every kind of the contract,
// also those another version of the controllers serves, and must lose no field on the way to `-o yaml`.
package kind

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Verb is a set of the generic verbs a kind answers to.
type Verb uint8

// The generic verbs. Creating is not among them: a kind with a Create field has it.
const (
	Reconcile Verb = 1 << iota
	Suspend        // and resume
	Delete
	Export
	Tree
	Approve
	// AllVerbs is what most kinds answer to.
	AllVerbs = Reconcile | Suspend | Delete | Export
)

// Column is one column of a kind's table.
type Column struct {
	// Header is the upper-case title.
	Header string
	// Value renders the cell.
	Value func(Object) string
	// Flag, when set, names the boolean flag of `get` that shows the column; without it the column is hidden.
	Flag string
	// Wide columns are shown by `-o wide` only.
	Wide bool
}

// Ref points at an object of a toolkit kind. The API version is not part of it: the descriptor of Kind has it.
type Ref struct {
	Kind, Namespace, Name string
}

// String is the Kind/namespace/name form used in messages.
func (r Ref) String() string { return r.Kind + "/" + r.Namespace + "/" + r.Name }

// OwnerLabels are the labels a kind puts on every object it applies.
type OwnerLabels struct{ Name, Namespace string }

// Kind describes one API kind to the generic verbs.
type Kind struct {
	schema.GroupVersionKind
	// Resource is the plural of the API path, "gitrepositories".
	Resource string
	// Short are the API's short names, accepted by events and trace.
	Short []string

	// Words name one object on the command line, {"source", "git"}.
	Words []string
	// Aliases stand for the last of Words, {"ks"}.
	Aliases []string
	// ListWords name many in `flux get`, {"sources", "git"}.
	ListWords []string
	// ListAliases stand for the last of ListWords.
	ListAliases []string
	// Noun, when set, is what create calls the thing it makes, "GitRepository source"; else the kind's name.
	Noun string

	// Verbs the kind answers to, besides get.
	Verbs Verb
	// Columns stand between NAME and READY.
	Columns []Column
	// ShortenHashes cuts long hexadecimal revisions in the table (cli 11).
	ShortenHashes bool
	// Static says that no controller ever reports on the object; it counts as ready. Nil: never.
	Static func(Object) bool
	// StaticMessage is the message of a static object.
	StaticMessage string

	// Source is what the object takes its content from: reconcile --with-source, trace and events follow it.
	// Nil: the kind has no source.
	Source func(Object) *Ref
	// WithSource gives reconcile the flag --with-source.
	WithSource bool
	// Related are further objects whose events belong to the story of this one (events --for). Source is implied.
	Related func(Object) []Ref
	// Secrets are the names of the Secrets, in the object's namespace, that hold its credentials.
	Secrets func(Object) []string
	// Owner labels, for kinds that apply objects.
	Owner *OwnerLabels
	// Children lists what the object manages, for tree. Nil: nothing.
	Children func(Object) []Entry
	// HelmStorage says that what Children lacks is found in the Helm storage Secret of status.history.
	HelmStorage bool
	// Done is the line printed after a successful reconcile, "fetched revision X".
	Done func(Object) string
	// Describe adds the kind's own lines to `flux trace`, between the namespace and the status.
	Describe func(Object) []Line
	// Requests are further annotations, by flag name, that `flux reconcile` sets to its token (cli 15).
	Requests []Request
	// Approval is what the object waits for a person to approve; false: nothing (approve).
	Approval func(Object) (Approval, bool)
	// Artifact says that the kind holds an artifact in status.artifact.
	Artifact bool
	// Create makes an object from flags. Nil: no create command.
	Create *Create
}

// Request is a flag of `flux reconcile` that copies the token into a further annotation.
type Request struct{ Flag, Annotation, Usage string }

// Approval is an annotation that lets an object go on.
type Approval struct{ Annotation, Value string }

// Line is one "Title: value" line.
type Line struct{ Title, Value string }

// Entry is an object in an inventory.
type Entry struct {
	schema.GroupKind
	Version, Namespace, Name string
}

// Label is what messages call one object of the kind: its words on the command line.
func (k Kind) Label() string { return strings.Join(k.Words, " ") }

// Title is what messages of create call the object.
func (k Kind) Title() string {
	if k.Noun != "" {
		return k.Noun
	}
	return k.Kind
}

// ListCommand is the command that lists the kind.
func (k Kind) ListCommand() string { return "flux get " + strings.Join(k.ListWords, " ") }

// GVR is the resource to ask the API server for.
func (k Kind) GVR() schema.GroupVersionResource {
	return k.GroupVersion().WithResource(k.Resource)
}

// Has tells whether the kind answers to all of v.
func (k Kind) Has(v Verb) bool { return k.Verbs&v == v }

// IsStatic tells whether no controller reports on this object.
func (k Kind) IsStatic(o Object) bool { return k.Static != nil && k.Static(o) }

// Always is the Static function of kinds that never have a status.
func Always(Object) bool { return true }

// Readiness is what the READY and MESSAGE columns show (cli 9, 11).
func (k Kind) Readiness(o Object) (status, message string) {
	if k.IsStatic(o) {
		return "True", k.StaticMessage
	}
	ready, found := o.Condition("Ready")
	if !found {
		return "False", "waiting to be reconciled"
	}
	return ready.Status, ready.Message
}

// Set is the list of kinds a program knows, in the order `flux get all` prints them.
type Set []Kind

// Named finds a kind by its name, plural or short name, ignoring case. A name may carry a group,
// "kustomization.kustomize.toolkit.fluxcd.io".
func (s Set) Named(name string) (Kind, bool) {
	name = strings.ToLower(name)
	name, group, _ := strings.Cut(name, ".")
	for _, k := range s {
		if group != "" && k.Group != group && !strings.HasSuffix(group, "."+k.Group) {
			continue
		}
		if name == strings.ToLower(k.Kind) || name == k.Resource || slices.Contains(k.Short, name) {
			return k, true
		}
	}
	return Kind{}, false
}

// ForGroupKind finds a kind by group and kind.
func (s Set) ForGroupKind(gk schema.GroupKind) (Kind, bool) {
	for _, k := range s {
		if k.GroupKind() == gk {
			return k, true
		}
	}
	return Kind{}, false
}

// Under returns the kinds whose ListWords start with word, all of them when word is empty.
func (s Set) Under(word string) Set {
	var out Set
	for _, k := range s {
		if word == "" || len(k.ListWords) > 1 && k.ListWords[0] == word {
			out = append(out, k)
		}
	}
	return out
}
