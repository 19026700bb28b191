package kube

import (
	"encoding/json"
	"hash/maphash"
	"strconv"
	"time"
	"unique"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// State is all that is kept of a managed object: enough to tell its owner whether anybody touched it, how it fares, and
// whether it may be deleted. States are comparable only if one Lens made them.
type State struct {
	UID             types.UID
	ResourceVersion string
	Generation      int64
	Owner           Owner
	Marks           Marks
	Deleting        bool
	// Ours: our apply owns fields of the object, so Fields tells every change of them.
	Ours bool
	// Fields digests which fields our apply owns and when it last changed one, the entries of managers we take over, and
	// stale marks. Server-side apply takes a field from us as soon as another writer changes its value, so Fields changes
	// when and only when somebody undid something of ours or did something we would clean up; a status update, a scaled
	// replica count that we do not set, or a foreign annotation leave it alone.
	Fields uint64
	// Tags digests labels and annotations.
	Tags uint64
	// Meta digests labels, annotations, finalizers and owner references.
	Meta    uint64
	Verdict Verdict
	// Passing: the verdict also depends on the time, so it must be read anew.
	Passing bool
}

// Lens makes States. Its digests use a seed of their own, so nobody can prepare a collision.
type Lens struct {
	Ownership
	seed maphash.Seed
}

// NewLens makes a lens for objects of one kind of owner.
func NewLens(o Ownership) *Lens { return &Lens{Ownership: o, seed: maphash.MakeSeed()} }

// Object is the state of a whole object.
func (l *Lens) Object(u *unstructured.Unstructured) State {
	s := l.meta(u)
	s.Verdict = Assess(u)
	s.Passing = passing(u)
	entries, _, _ := unstructured.NestedFieldNoCopy(u.Object, "metadata", "managedFields")
	list, _ := entries.([]any)
	for _, e := range list {
		e, _ := e.(map[string]any)
		str := func(k string) string { v, _ := e[k].(string); return v }
		var at int64
		if t, err := time.Parse(time.RFC3339, str("time")); err == nil {
			at = t.Unix()
		}
		l.entry(&s, str("manager"), metav1.ManagedFieldsOperationType(str("operation")), str("subresource"), at, func() any { return e["fieldsV1"] })
	}
	return s
}

// Metadata is the state of an object of which only the metadata is at hand. The verdict is right for kinds without a status.
func (l *Lens) Metadata(m *metav1.PartialObjectMetadata) State {
	s := l.meta(m)
	s.Verdict = Verdict{Current, "Resource is always ready"}
	if s.Deleting {
		s.Verdict = Verdict{Terminating, "Resource scheduled for deletion"}
	}
	for i := range m.ManagedFields {
		e := &m.ManagedFields[i]
		var at int64
		if e.Time != nil {
			at = e.Time.Unix()
		}
		l.entry(&s, e.Manager, e.Operation, e.Subresource, at, func() any {
			var fields any
			if e.FieldsV1 != nil {
				// Undecodable fields digest as none; the API server made them, so that does not happen.
				_ = json.Unmarshal(e.FieldsV1.Raw, &fields)
			}
			return fields
		})
	}
	return s
}

// entry digests one managedFields entry if it matters. Entries are summed up, since their order has no meaning.
func (l *Lens) entry(s *State, manager string, op metav1.ManagedFieldsOperationType, subresource string, at int64, fields func() any) {
	own := manager == l.Manager && op == metav1.ManagedFieldsOperationApply && subresource == ""
	if !own && !l.TakesOver(manager, op, subresource) {
		return
	}
	s.Ours = s.Ours || own
	id := l.text(manager + "\x00" + string(op) + "\x00" + strconv.FormatInt(at, 10))
	s.Fields += id + l.tree(id, fields())
}

func (l *Lens) meta(o metav1.Object) State {
	labels, annotations := o.GetLabels(), o.GetAnnotations()
	s := State{
		UID: o.GetUID(), ResourceVersion: o.GetResourceVersion(), Generation: o.GetGeneration(),
		Deleting: o.GetDeletionTimestamp() != nil,
		Owner:    l.Owner(labels), Marks: l.Marks(labels, annotations),
	}
	for k, v := range labels {
		s.Tags += l.text("l" + k + "\x00" + v)
	}
	for k, v := range annotations {
		s.Tags += l.text("a" + k + "\x00" + v)
	}
	s.Meta = s.Tags
	for _, f := range o.GetFinalizers() {
		s.Meta += l.text("f" + f)
	}
	for _, r := range o.GetOwnerReferences() {
		s.Meta += l.text("o" + string(r.UID))
	}
	if l.stale(labels, annotations) {
		s.Fields++
	}
	return s
}

// Digest is an order-independent digest of a JSON-like value, for comparing desired states of one process's life.
func (l *Lens) Digest(v any) uint64 { return l.tree(1, v) }

// tree digests a JSON-like value below a path. Maps are summed: their order has no meaning, and the API server orders
// fieldsV1 differently in its protobuf and JSON answers.
func (l *Lens) tree(path uint64, v any) uint64 {
	switch v := v.(type) {
	case map[string]any:
		sum := mix(path, 0x6d)
		for k, child := range v {
			at := mix(path, l.text(k))
			sum += mix(at, l.tree(at, child))
		}
		return sum
	case []any:
		sum := mix(path, 0x6c)
		for i, child := range v {
			at := mix(path, uint64(i)+0x5b)
			sum += mix(at, l.tree(at, child))
		}
		return sum
	case string:
		return mix(path, l.text(v)+0x73)
	case bool:
		if v {
			return mix(path, 2)
		}
		return mix(path, 3)
	case int64:
		return mix(path, uint64(v)+0x69)
	case float64:
		return mix(path, l.text("number "+strconv.FormatFloat(v, 'g', -1, 64)))
	case nil:
		return mix(path, 5)
	default:
		data, err := json.Marshal(v)
		if err != nil {
			return mix(path, 7)
		}
		return mix(path, l.text("json "+string(data)))
	}
}

func (l *Lens) text(s string) uint64 { return maphash.String(l.seed, s) }

// mix combines two words so that neither their order nor small differences get lost (the finaliser of SplitMix64).
func mix(a, b uint64) uint64 {
	z := a*0x9e3779b97f4a7c15 + b
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb
	return z ^ (z >> 31)
}

// kept is a State as it is stored, with repeated texts held once for all objects.
type kept struct {
	uid        string
	rv         string
	generation int64
	owner      unique.Handle[Owner]
	message    unique.Handle[string]
	fields     uint64
	tags       uint64
	meta       uint64
	status     unique.Handle[string]
	marks      Marks
	deleting   bool
	ours       bool
	passing    bool
}

func keep(s State) kept {
	return kept{
		uid: string(s.UID), rv: s.ResourceVersion, generation: s.Generation,
		owner: unique.Make(s.Owner), message: unique.Make(s.Verdict.Message), status: unique.Make(string(s.Verdict.Status)),
		fields: s.Fields, tags: s.Tags, meta: s.Meta, marks: s.Marks, deleting: s.Deleting, ours: s.Ours, passing: s.Passing,
	}
}

func (k kept) state() State {
	return State{
		UID: types.UID(k.uid), ResourceVersion: k.rv, Generation: k.generation, Owner: k.owner.Value(),
		Verdict: Verdict{Status(k.status.Value()), k.message.Value()},
		Fields:  k.fields, Tags: k.tags, Meta: k.meta, Marks: k.marks, Deleting: k.deleting, Ours: k.ours, Passing: k.passing,
	}
}

// NotOlder reports whether resource version a is b or later. Resource versions are decimal numbers that grow (Kubernetes
// promises so since 1.35); if one is not a number, only equal ones count as not older.
func NotOlder(a, b string) bool {
	if a == b {
		return true
	}
	x, err1 := strconv.ParseUint(a, 10, 64)
	y, err2 := strconv.ParseUint(b, 10, 64)
	return err1 == nil && err2 == nil && x >= y
}
