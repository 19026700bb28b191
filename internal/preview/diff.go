package preview

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/internal/kustomize"
	"github.com/seed-79636ae9/flux/toolkit/kube"
	"github.com/seed-79636ae9/flux/toolkit/ssa"
)

// Cluster is what a preview is compared with.
type Cluster struct {
	Client *kube.Client
	// Status returns the status of a Kustomization among the objects of another, nil if it is not in the cluster.
	Status func(ctx context.Context, namespace, name string) (*kustomizev1.KustomizationStatus, error)
	// Progress is told which Kustomization is compared. Optional.
	Progress func(name string)
}

// Change is what a run would do to one object.
type Change struct {
	ssa.Difference
	// Fields tell what of a drifted object would change. They hold no secrets.
	Fields []Field

	encrypted bool
}

// Diff compares the sets with the cluster by server-side dry runs and returns what would change, skipped objects included (cli 43).
func (p *Preview) Diff(ctx context.Context, c Cluster) ([]Change, error) {
	var out []Change
	for i, s := range p.Sets {
		if c.Progress != nil {
			c.Progress(nameOf(s.Kustomization))
		}
		if i > 0 {
			status, err := c.Status(ctx, s.Kustomization.Namespace, s.Kustomization.Name)
			if err != nil {
				return nil, err
			}
			s.Kustomization.Status = *cmp.Or(status, &kustomizev1.KustomizationStatus{})
		}
		changes, err := p.compare(ctx, c, s)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", nameOf(s.Kustomization), p.conceal(err))
		}
		out = append(out, changes...)
	}
	// All Secrets are known by now, so that what was copied from one into an earlier object is recognised too.
	shown := out[:0]
	for _, change := range out {
		if change.Action == ssa.Configured {
			change.Fields = p.fields(change)
			if change.encrypted && len(change.Fields) == 0 {
				continue
			}
		}
		shown = append(shown, change)
	}
	return shown, nil
}

// conceal keeps the values of Secrets out of what the API server says, and leaves the error what it is otherwise.
func (p *Preview) conceal(err error) error {
	if text := p.hidden.redact(err.Error()); text != err.Error() {
		return errors.New(text)
	}
	return err
}

func (p *Preview) compare(ctx context.Context, c Cluster, s *Set) ([]Change, error) {
	obj := s.Kustomization
	ignore, err := ssa.NewIgnore(obj.Spec.Ignore)
	if err != nil {
		return nil, err
	}
	copies := make([]*unstructured.Unstructured, len(s.Objects))
	for i, o := range s.Objects {
		copies[i] = o.DeepCopy()
	}
	objects, err := ssa.Normalise(copies)
	if err != nil {
		return nil, err
	}
	request := ssa.Request{Owner: ownerOf(obj), Objects: objects, Force: obj.Spec.Force, Inventory: kustomize.InventoryOf(obj), Ignore: ignore}
	if m := obj.Spec.CommonMetadata; m != nil {
		request.Labels, request.Annotations = m.Labels, m.Annotations
	}
	applier := &ssa.Applier{Client: c.Client, Lens: kube.NewLens(kustomize.Ownership(nil)), OwnGroups: kustomize.OwnGroups}
	found, err := applier.Compare(ctx, request, obj.Spec.Prune)
	if err != nil {
		return nil, err
	}
	var out []Change
	for _, d := range found {
		if d.Action == ssa.Unchanged {
			continue
		}
		p.hidden.learn(d.Live)
		p.hidden.learn(d.Next)
		out = append(out, Change{Difference: d, encrypted: s.encrypted[d.ID]})
	}
	return out, nil
}

// fields compares the two states of a drifted object. Of values that SOPS has encrypted only the keys count, since nobody here
// knows the values (cli 43, reliability 055).
func (p *Preview) fields(c Change) []Field {
	live, next := comparable(c.Live), comparable(c.Next)
	if c.encrypted {
		level(live)
		level(next)
	}
	all := differ(nil, nil, live, next)
	for i := range all {
		p.hide(&all[i], isSecret(c.Next))
	}
	return all
}

// comparable is what drift is about: labels, annotations, and all but metadata and status (kustomization 67).
func comparable(o *unstructured.Unstructured) map[string]any {
	out := o.DeepCopy().Object
	metadata := map[string]any{}
	for _, f := range []string{"labels", "annotations"} {
		if m, ok, _ := unstructured.NestedMap(out, "metadata", f); ok && len(m) > 0 {
			metadata[f] = m
		}
	}
	delete(out, "status")
	out["metadata"] = metadata
	return out
}

// level gives all values of a Secret one value.
func level(o map[string]any) {
	for _, f := range []string{"data", "stringData"} {
		m, _ := o[f].(map[string]any)
		for k := range m {
			m[k] = sopsMask
		}
	}
}

// hide masks the values of a field that may hold secrets.
func (p *Preview) hide(f *Field, secret bool) {
	values := secret && (f.Path[0] == "data" || f.Path[0] == "stringData")
	// Kinds other than Secrets are not masked by the build, and the cluster has what was decrypted.
	if text, _ := f.After.(string); strings.Contains(text, sopsValue) && f.Before != nil {
		f.Before = sopsMask
	}
	copied := f.Path[len(f.Path)-1] == corev1.LastAppliedConfigAnnotation
	for _, side := range []struct {
		value *any
		note  string
	}{{&f.Before, " (before)"}, {&f.After, " (after)"}} {
		switch {
		case *side.value == nil:
		case values:
			*side.value = veil(*side.value, hidden+side.note)
		case copied:
			*side.value = hidden + side.note
		default:
			*side.value = p.redacted(*side.value)
		}
	}
	if reflect.DeepEqual(f.Before, f.After) {
		// They differ in what must not be shown.
		f.Before, f.After = hidden+" (before)", hidden+" (after)"
	}
}

// veil replaces all leaves of a value, so that keys stay visible.
func veil(v any, by string) any {
	m, ok := v.(map[string]any)
	if !ok {
		if v == sopsMask {
			return v
		}
		return by
	}
	out := make(map[string]any, len(m))
	for k, v := range m {
		out[k] = veil(v, by)
	}
	return out
}

// redacted cuts known secrets out of the texts of a value.
func (p *Preview) redacted(v any) any {
	switch v := v.(type) {
	case string:
		return p.hidden.redact(v)
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			if k == corev1.LastAppliedConfigAnnotation {
				out[k] = hidden
				continue
			}
			out[k] = p.redacted(e)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = p.redacted(e)
		}
		return out
	}
	return v
}
