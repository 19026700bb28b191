package ssa

import (
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/value"

	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/kube"
)

// Limits of ignore rules: each path is looked up in each object that its rule selects.
const (
	maxIgnoreRules = 100
	maxIgnorePaths = 100
	maxPointer     = 1024 // bytes of a path
)

// Ignore keeps fields of live objects from being corrected (spec.ignore, kustomization 75). The nil Ignore has no rules.
type Ignore struct {
	rules []ignoreRule
}

type ignoreRule struct {
	paths       [][]string
	fields      [5]*regexp.Regexp // group, version, kind, namespace, name; nil: any
	labels      labels.Selector
	annotations labels.Selector
}

// NewIgnore compiles rules, the patterns of which match whole values. An error names the field.
func NewIgnore(rules []meta.IgnoreRule) (*Ignore, error) {
	return compileRules("spec.ignore", rules, func(s string) ([]string, error) {
		tokens, err := parsePointer(s)
		if err == nil {
			err = sparesIdentity(s, tokens)
		}
		return tokens, err
	})
}

// NewDriftIgnore compiles rules, found in the given field of a spec, about what is not drift of objects that exist
// (helmrelease 84). They may name anything: the empty path is the whole object.
func NewDriftIgnore(field string, rules []meta.IgnoreRule) (*Ignore, error) {
	return compileRules(field, rules, func(s string) ([]string, error) {
		if s == "" {
			return nil, nil
		}
		return parsePointer(s)
	})
}

func compileRules(field string, rules []meta.IgnoreRule, parse func(string) ([]string, error)) (*Ignore, error) {
	if len(rules) == 0 {
		return nil, nil
	}
	if len(rules) > maxIgnoreRules {
		return nil, fmt.Errorf("%s has %d rules, at most %d are allowed: join some of them", field, len(rules), maxIgnoreRules)
	}
	out := &Ignore{}
	for i, r := range rules {
		compiled, err := compileRule(r, parse)
		if err != nil {
			return nil, fmt.Errorf("%s[%d].%w", field, i, err)
		}
		out.rules = append(out.rules, compiled)
	}
	return out, nil
}

func compileRule(r meta.IgnoreRule, parse func(string) ([]string, error)) (ignoreRule, error) {
	out := ignoreRule{labels: labels.Everything(), annotations: labels.Everything()}
	if len(r.Paths) > maxIgnorePaths {
		return out, fmt.Errorf("paths: %d paths, at most %d are allowed: use several rules", len(r.Paths), maxIgnorePaths)
	}
	for _, p := range r.Paths {
		pointer, err := parse(p)
		if err != nil {
			return out, fmt.Errorf("paths: %w", err)
		}
		out.paths = append(out.paths, pointer)
	}
	t := r.Target
	if t == nil {
		return out, nil
	}
	names := [...]string{"group", "version", "kind", "namespace", "name"}
	for i, pattern := range [...]string{t.Group, t.Version, t.Kind, t.Namespace, t.Name} {
		if pattern == "" {
			continue
		}
		re, err := regexp.Compile("^(?:" + pattern + ")$")
		if err != nil {
			return out, fmt.Errorf("target.%s: %w", names[i], err)
		}
		out.fields[i] = re
	}
	var err error
	if out.labels, err = labels.Parse(t.LabelSelector); err != nil {
		return out, fmt.Errorf("target.labelSelector: %w", err)
	}
	if out.annotations, err = labels.Parse(t.AnnotationSelector); err != nil {
		return out, fmt.Errorf("target.annotationSelector: %w", err)
	}
	return out, nil
}

// parsePointer reads a JSON pointer (RFC 6901) to something below the root.
func parsePointer(s string) ([]string, error) {
	if len(s) > maxPointer {
		return nil, fmt.Errorf("a path of %d bytes is longer than %d", len(s), maxPointer)
	}
	if !strings.HasPrefix(s, "/") {
		return nil, fmt.Errorf("%q is no JSON pointer below the root: it must begin with /", s)
	}
	unescape := strings.NewReplacer("~1", "/", "~0", "~")
	tokens := strings.Split(s[1:], "/")
	for i, t := range tokens {
		tokens[i] = unescape.Replace(t)
	}
	return tokens, nil
}

// sparesIdentity refuses to ignore what makes an object what it is.
func sparesIdentity(s string, tokens []string) error {
	switch {
	case tokens[0] == "apiVersion", tokens[0] == "kind",
		tokens[0] == "metadata" && (len(tokens) == 1 || tokens[1] == "name" || tokens[1] == "namespace"):
		return fmt.Errorf("%q would leave the identity of an object open", s)
	}
	return nil
}

func (r *ignoreRule) selects(o *unstructured.Unstructured) bool {
	gvk := o.GroupVersionKind()
	for i, v := range [...]string{gvk.Group, gvk.Version, gvk.Kind, o.GetNamespace(), o.GetName()} {
		if r.fields[i] != nil && !r.fields[i].MatchString(v) {
			return false
		}
	}
	return r.labels.Matches(labels.Set(o.GetLabels())) && r.annotations.Matches(labels.Set(o.GetAnnotations()))
}

// paths are those that are ignored in an object.
func (g *Ignore) paths(o *unstructured.Unstructured) [][]string {
	if g == nil {
		return nil
	}
	var out [][]string
	for i := range g.rules {
		if g.rules[i].selects(o) {
			out = append(out, g.rules[i].paths...)
		}
	}
	return out
}

// Identity digests an object together with what of it is ignored: a comparison with the cluster is needed again when either changes.
func (g *Ignore) Identity(lens *kube.Lens, o *unstructured.Unstructured) uint64 {
	return identity(lens, o, g.paths(o))
}

// Spare gives the dry-run state of an object the live values of all that is ignored in it, so that the two do not differ there.
func (g *Ignore) Spare(desired, live, dryRun *unstructured.Unstructured) {
	for _, path := range g.paths(desired) {
		if len(path) == 0 {
			dryRun.Object = live.DeepCopy().Object
			return
		}
		value, there := find(live.Object, desired.Object, path)
		if !there {
			remove(dryRun.Object, desired.Object, path)
			continue
		}
		value = runtime.DeepCopyJSONValue(value)
		if _, there := find(dryRun.Object, desired.Object, path); there {
			replace(dryRun.Object, desired.Object, path, value)
			continue
		}
		last := len(path) - 1
		parent, _ := find(dryRun.Object, desired.Object, path[:last])
		if m, ok := parent.(map[string]any); ok {
			m[path[last]] = value
		}
	}
}

// disregard returns the object to apply over the live one, and the live and dry-run states without what is ignored. An ignored
// field that differs takes its live value, or is left out when the apply of another manager sets it (kustomization 75).
func disregard(own kube.Ownership, paths [][]string, desired, live, dryRun *unstructured.Unstructured) (apply, comparedLive, comparedDryRun *unstructured.Unstructured, err error) {
	apply, comparedLive, comparedDryRun = desired.DeepCopy(), live.DeepCopy(), dryRun.DeepCopy()
	others, err := appliedByOthers(own, live.GetManagedFields())
	if err != nil {
		return nil, nil, nil, err
	}
	for _, path := range paths {
		value, there := find(live.Object, desired.Object, path)
		wanted, _ := find(dryRun.Object, desired.Object, path)
		remove(comparedLive.Object, desired.Object, path)
		remove(comparedDryRun.Object, desired.Object, path)
		if _, declared := find(apply.Object, desired.Object, path); !declared || reflect.DeepEqual(value, wanted) {
			continue
		}
		if !there || others.covers(live, desired, path) {
			remove(apply.Object, desired.Object, path)
			continue
		}
		replace(apply.Object, desired.Object, path, value)
	}
	return apply, comparedLive, comparedDryRun, nil
}

// at is the place of a pointer's token in a list. The index counts the manifest's entries: in the list of another object the entry
// of the same name is meant, as server-side apply means it, wherever it stands there.
func at(list, like []any, token string) int {
	i, err := strconv.Atoi(token)
	if err != nil || i < 0 || strconv.Itoa(i) != token {
		return -1
	}
	if i < len(like) {
		if m, ok := like[i].(map[string]any); ok && m["name"] != nil {
			for j, e := range list {
				if entry, ok := e.(map[string]any); ok && reflect.DeepEqual(entry["name"], m["name"]) {
					return j
				}
			}
			return -1
		}
	}
	if i >= len(list) {
		return -1
	}
	return i
}

// step goes one token down, in the object and in the manifest beside it.
func step(node, like any, token string) (next, nextLike any, ok bool) {
	switch n := node.(type) {
	case map[string]any:
		if m, isMap := like.(map[string]any); isMap {
			nextLike = m[token]
		}
		next, ok = n[token]
	case []any:
		l, _ := like.([]any)
		i := at(n, l, token)
		if i < 0 {
			return nil, nil, false
		}
		if k, err := strconv.Atoi(token); err == nil && k < len(l) {
			nextLike = l[k]
		}
		next, ok = n[i], true
	}
	return next, nextLike, ok
}

func find(object, like map[string]any, path []string) (any, bool) {
	var node, beside any = object, like
	for _, t := range path {
		var ok bool
		if node, beside, ok = step(node, beside, t); !ok {
			return nil, false
		}
	}
	return node, true
}

// change puts a field of an object in another state; what does not exist is left so.
func change(object, like map[string]any, path []string, inMap func(map[string]any, string), inList func([]any, int) []any) {
	last := len(path) - 1
	if last > 0 {
		parent, ok := find(object, like, path[:last])
		if list, isList := parent.([]any); ok && isList {
			beside, _ := find(like, like, path[:last])
			l, _ := beside.([]any)
			if i := at(list, l, path[last]); i >= 0 {
				changed := inList(list, i)
				change(object, like, path[:last], func(m map[string]any, k string) { m[k] = changed }, func(outer []any, i int) []any { outer[i] = changed; return outer })
			}
			return
		}
	}
	parent, ok := find(object, like, path[:last])
	if m, isMap := parent.(map[string]any); ok && isMap {
		if _, there := m[path[last]]; there {
			inMap(m, path[last])
		}
	}
}

func remove(object, like map[string]any, path []string) {
	change(object, like, path, func(m map[string]any, k string) { delete(m, k) }, func(l []any, i int) []any { return append(l[:i:i], l[i+1:]...) })
}

func replace(object, like map[string]any, path []string, value any) {
	change(object, like, path, func(m map[string]any, k string) { m[k] = value }, func(l []any, i int) []any { l[i] = value; return l })
}

// fieldSet is what the applies of others own of an object.
type fieldSet struct{ *fieldpath.Set }

func appliedByOthers(own kube.Ownership, entries []metav1.ManagedFieldsEntry) (fieldSet, error) {
	all := &fieldpath.Set{}
	for _, e := range entries {
		if e.Operation != metav1.ManagedFieldsOperationApply || e.Manager == own.Manager || e.FieldsV1 == nil {
			continue
		}
		var set fieldpath.Set
		if err := set.FromJSON(strings.NewReader(string(e.FieldsV1.Raw))); err != nil {
			return fieldSet{}, fmt.Errorf("failed to read the fields of manager %q: %w", e.Manager, err)
		}
		all = all.Union(&set)
	}
	return fieldSet{all}, nil
}

// covers reports whether somebody else's apply owns a field or something in it.
func (s fieldSet) covers(live, desired *unstructured.Unstructured, path []string) bool {
	set := s.Set
	var node, beside any = live.Object, desired.Object
	for i, token := range path {
		element := &fieldpath.PathElement{FieldName: &token}
		next, nextBeside, _ := step(node, beside, token)
		if _, isList := node.([]any); isList {
			element = elementOf(set, next)
		}
		if element == nil {
			// The list is owned as a whole, or not at all.
			return false
		}
		children, below := set.Children.Get(*element)
		if set.Members.Has(*element) && (i == len(path)-1 || !below) {
			return true
		}
		if !below {
			return false
		}
		node, beside, set = next, nextBeside, children
	}
	return !set.Empty()
}

// elementOf finds the path element by which managed fields name an entry of a list.
func elementOf(set *fieldpath.Set, entry any) *fieldpath.PathElement {
	var found *fieldpath.PathElement
	look := func(pe fieldpath.PathElement) {
		if Means(pe, entry) {
			found = &pe
		}
	}
	set.Members.Iterate(look)
	if found == nil {
		set.Children.Iterate(look)
	}
	return found
}

// Means reports whether an element of a path of managed fields means an entry of a list. Numbers in such elements are all read as
// floating point ones.
func Means(element fieldpath.PathElement, entry any) bool {
	switch {
	case element.Key != nil:
		m, ok := entry.(map[string]any)
		for _, k := range *element.Key {
			v, there := m[k.Name]
			if !ok || !there || !value.Equals(k.Value, value.NewValueInterface(v)) {
				return false
			}
		}
		return true
	case element.Value != nil:
		return value.Equals(*element.Value, value.NewValueInterface(entry))
	}
	return false
}
