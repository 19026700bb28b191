package kind

import (
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Object is an API object with the accessors that the verbs need. It keeps every field the server sent.
type Object struct{ *unstructured.Unstructured }

// Condition is one entry of status.conditions.
type Condition struct {
	Type, Status, Reason, Message string
	ObservedGeneration            int64
	LastTransitionTime            string
}

// State is a kstatus verdict.
type State string

// The verdicts kstatus knows for objects that exist.
const (
	Current     State = "Current"
	InProgress  State = "InProgress"
	Failed      State = "Failed"
	Terminating State = "Terminating"
)

// Conditions are all conditions, in the order of the object.
func (o Object) Conditions() []Condition {
	list, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	out := make([]Condition, 0, len(list))
	for _, item := range list {
		m, ok := item.(map[string]any)
		if !ok {
			continue
		}
		c := Condition{ObservedGeneration: integer(m["observedGeneration"])}
		c.Type, _ = m["type"].(string)
		c.Status, _ = m["status"].(string)
		c.Reason, _ = m["reason"].(string)
		c.Message, _ = m["message"].(string)
		c.LastTransitionTime, _ = m["lastTransitionTime"].(string)
		out = append(out, c)
	}
	return out
}

// Condition finds a condition by its type, ignoring case.
func (o Object) Condition(conditionType string) (Condition, bool) {
	for _, c := range o.Conditions() {
		if strings.EqualFold(c.Type, conditionType) {
			return c, true
		}
	}
	return Condition{}, false
}

// IsTrue tells whether the condition exists and is True.
func (o Object) IsTrue(conditionType string) bool {
	c, ok := o.Condition(conditionType)
	return ok && c.Status == "True"
}

// Suspended is spec.suspend, or for ArtifactGenerators the annotation that pauses them.
func (o Object) Suspended() bool {
	v, _, _ := unstructured.NestedBool(o.Object, "spec", "suspend")
	return v || strings.EqualFold(o.GetAnnotations()["source.extensions.fluxcd.io/reconcile"], "disabled")
}

// Field is the value of a scalar field, "" when it is absent.
func (o Object) Field(path ...string) string {
	v, found, err := unstructured.NestedFieldNoCopy(o.Object, path...)
	if err != nil || !found {
		return ""
	}
	switch v := v.(type) {
	case string:
		return v
	case bool:
		return strconv.FormatBool(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return ""
}

// Fields maps every element of a list of maps to one of its string fields.
func (o Object) Fields(field string, path ...string) []string {
	list, _, _ := unstructured.NestedSlice(o.Object, path...)
	var out []string
	for _, item := range list {
		if m, ok := item.(map[string]any); ok {
			if s, ok := m[field].(string); ok && s != "" {
				out = append(out, s)
			}
		}
	}
	return out
}

// Revision is the revision of status.artifact.
func (o Object) Revision() string { return o.Field("status", "artifact", "revision") }

// ObservedGeneration is status.observedGeneration, 0 when absent.
func (o Object) ObservedGeneration() (int64, bool) {
	v, found, _ := unstructured.NestedFieldNoCopy(o.Object, "status", "observedGeneration")
	return integer(v), found
}

// HandledRequest is the token of the last reconcile request a controller answered.
func (o Object) HandledRequest() string { return o.Field("status", "lastHandledReconcileAt") }

// Ref is the object's own reference.
func (o Object) Ref() Ref {
	return Ref{Kind: o.GetKind(), Namespace: o.GetNamespace(), Name: o.GetName()}
}

// State judges the object by the rules of kstatus for custom resources, which all toolkit kinds follow.
func (o Object) State() (State, string) {
	if o.GetDeletionTimestamp() != nil {
		return Terminating, "being deleted"
	}
	if c, ok := o.Condition("Stalled"); ok && c.Status == "True" {
		return Failed, c.Message
	}
	if observed, found := o.ObservedGeneration(); found && observed != o.GetGeneration() {
		return InProgress, o.progress()
	}
	if o.IsTrue("Reconciling") {
		return InProgress, o.progress()
	}
	if c, ok := o.Condition("Ready"); ok && c.Status != "True" {
		return InProgress, c.Message
	}
	return Current, ""
}

// progress is the most telling message of an object that is not there yet: why it fails, else what it does.
func (o Object) progress() string {
	if c, ok := o.Condition("Ready"); ok && c.Status == "False" {
		return c.Message
	}
	if c, ok := o.Condition("Reconciling"); ok && c.Message != "" {
		return c.Message
	}
	return "waiting to be reconciled"
}

func integer(v any) int64 {
	switch v := v.(type) {
	case int64:
		return v
	case float64:
		return int64(v)
	}
	return 0
}

// ShortenHashes cuts every run of 40 to 128 hexadecimal digits to its first eight (cli 11).
func ShortenHashes(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		if !isHex(s[i]) {
			b.WriteByte(s[i])
			i++
			continue
		}
		end := i
		for end < len(s) && isHex(s[end]) {
			end++
		}
		if n := end - i; n >= 40 && n <= 128 {
			b.WriteString(s[i : i+8])
		} else {
			b.WriteString(s[i:end])
		}
		i = end
	}
	return b.String()
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

// Bool renders a boolean the way 2.9's tables do.
func Bool(v bool) string {
	if v {
		return "True"
	}
	return "False"
}

// RevisionColumn shows the revision that get returns.
func RevisionColumn(get func(Object) string) Column { return Column{Header: "REVISION", Value: get} }

// SuspendedColumn shows whether the object is suspended.
func SuspendedColumn() Column {
	return Column{Header: "SUSPENDED", Value: func(o Object) string { return Bool(o.Suspended()) }}
}

// FieldColumn shows a scalar field.
func FieldColumn(header string, path ...string) Column {
	return Column{Header: header, Value: func(o Object) string { return o.Field(path...) }}
}

// WideField is a FieldColumn of `-o wide`.
func WideField(header string, path ...string) Column {
	c := FieldColumn(header, path...)
	c.Wide = true
	return c
}

// SourceRef reads a {kind, name, namespace} reference; the namespace defaults to the object's own.
func (o Object) SourceRef(path ...string) *Ref {
	at := func(field string) string { return o.Field(append(append([]string{}, path...), field)...) }
	r := &Ref{Kind: at("kind"), Namespace: at("namespace"), Name: at("name")}
	if r.Kind == "" || r.Name == "" {
		return nil
	}
	if r.Namespace == "" {
		r.Namespace = o.GetNamespace()
	}
	return r
}

// SecretRefs returns the names found under spec.<field>.name.
func SecretRefs(fields ...string) func(Object) []string {
	return func(o Object) []string {
		var out []string
		for _, f := range fields {
			if name := o.Field("spec", f, "name"); name != "" {
				out = append(out, name)
			}
		}
		return out
	}
}

// ParseEntry reads an inventory entry: id "<namespace>_<name>_<group>_<kind>", where "__" in a name stands for a
// colon (wire 9).
func ParseEntry(id, version string) (Entry, bool) {
	first, rest, ok := strings.Cut(id, "_")
	if !ok {
		return Entry{}, false
	}
	rest, k, ok := cutLast(rest)
	if !ok || k == "" {
		return Entry{}, false
	}
	name, group, ok := cutLast(rest)
	if !ok || name == "" {
		return Entry{}, false
	}
	e := Entry{Version: version, Namespace: first, Name: strings.ReplaceAll(name, "__", ":")}
	e.Group, e.Kind = group, k
	return e, true
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, '_')
	if i < 0 {
		return "", "", false
	}
	return s[:i], s[i+1:], true
}

// Inventory reads status.inventory.entries; it is the Children function of kinds that keep one.
func Inventory(o Object) []Entry {
	list, _, _ := unstructured.NestedSlice(o.Object, "status", "inventory", "entries")
	out := make([]Entry, 0, len(list))
	for _, item := range list {
		m, _ := item.(map[string]any)
		id, _ := m["id"].(string)
		version, _ := m["v"].(string)
		if e, ok := ParseEntry(id, version); ok {
			out = append(out, e)
		}
	}
	return out
}
