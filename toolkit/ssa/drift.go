package ssa

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// maxDriftPaths is how many paths of one object are told.
const maxDriftPaths = 10

// Drift is what somebody else changed of an object that was applied. It holds no values, which may be secret.
type Drift struct {
	ID ID
	// Missing: the object is gone.
	Missing bool
	// Paths are JSON pointers to what differs, at most ten; More is how many there are besides.
	Paths []string
	More  int
}

// String is one line: the object, and what of it differs.
func (d Drift) String() string {
	switch {
	case d.Missing:
		return d.ID.Subject() + " is missing"
	case len(d.Paths) == 0:
		return d.ID.Subject() + " differs in who manages it"
	case d.More > 0:
		return fmt.Sprintf("%s differs in %s and %d more", d.ID.Subject(), strings.Join(d.Paths, ", "), d.More)
	}
	return d.ID.Subject() + " differs in " + strings.Join(d.Paths, ", ")
}

// drift notes what a plan would put right of what somebody else did, and takes the plan back if drift is only to be told. The live
// object may be nil, if nobody had to look at it so far.
func (r *run) drift(ctx context.Context, p *plan, live, dryRun *unstructured.Unstructured) error {
	if !p.writes() || !p.corrects && !r.req.Settled {
		return nil
	}
	d := &Drift{ID: p.id, Missing: p.applied.Action == Created && !p.recreate}
	if !d.Missing && dryRun != nil {
		if live == nil {
			var err error
			if live, err = r.Client.Get(ctx, p.ref); apierrors.IsNotFound(err) {
				p.applied.Action, d.Missing = Created, true
			} else if err != nil {
				return p.failed("lookup failed", err)
			}
		}
		if live != nil {
			d.Paths, d.More = differences(live, dryRun)
		}
	}
	p.drift = d
	if r.req.ReportDrift {
		p.applied.Action, p.recreate, p.adopt = Unchanged, false, false
	}
	return nil
}

// differences lists where two states of an object differ in what drift is about, as content does.
func differences(a, b *unstructured.Unstructured) (paths []string, more int) {
	var all []string
	for _, f := range []string{"labels", "annotations"} {
		x, _, _ := unstructured.NestedFieldNoCopy(a.Object, "metadata", f)
		y, _, _ := unstructured.NestedFieldNoCopy(b.Object, "metadata", f)
		all = differ(all, "/metadata/"+f, orEmpty(x), orEmpty(y))
	}
	x, y := maps.Clone(a.Object), maps.Clone(b.Object)
	for _, f := range []string{"metadata", "status"} {
		delete(x, f)
		delete(y, f)
	}
	all = differ(all, "", x, y)
	slices.Sort(all)
	n := min(len(all), maxDriftPaths)
	return all[:n], len(all) - n
}

func orEmpty(v any) any {
	if v == nil {
		return map[string]any{}
	}
	return v
}

// differ appends the deepest paths that lead to both differences and keys that only one of two values has.
func differ(to []string, path string, a, b any) []string {
	if reflect.DeepEqual(a, b) {
		return to
	}
	escape := strings.NewReplacer("~", "~0", "/", "~1")
	x, isMap := a.(map[string]any)
	y, areMaps := b.(map[string]any)
	if isMap && areMaps {
		keys := maps.Clone(x)
		maps.Copy(keys, y)
		for k := range keys {
			if _, ok := x[k]; !ok {
				to = append(to, path+"/"+escape.Replace(k))
			} else if _, ok := y[k]; !ok {
				to = append(to, path+"/"+escape.Replace(k))
			} else {
				to = differ(to, path+"/"+escape.Replace(k), x[k], y[k])
			}
		}
		return to
	}
	l, isList := a.([]any)
	m, areLists := b.([]any)
	if isList && areLists && len(l) == len(m) {
		for i := range l {
			to = differ(to, path+"/"+strconv.Itoa(i), l[i], m[i])
		}
		return to
	}
	return append(to, path)
}
