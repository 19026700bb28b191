package preview

import (
	"fmt"
	"io"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/seed-79636ae9/flux/toolkit/ssa"
)

// Changes makes differences that were found elsewhere fit to be shown: of those that would be configured it tells the fields, and nowhere
// what a Secret holds.
func Changes(found []ssa.Difference) []Change {
	p := &Preview{hidden: newSecrets()}
	var out []Change
	for _, d := range found {
		if d.Action == ssa.Unchanged {
			continue
		}
		p.hidden.learn(d.Live)
		p.hidden.learn(d.Next)
		out = append(out, Change{Difference: d})
	}
	// All Secrets are known by now, so that what was copied from one into an earlier object is recognised too.
	for i := range out {
		if out[i].Action == ssa.Configured {
			out[i].Fields = p.fields(out[i])
		}
	}
	return out
}

// WriteObjects writes objects as a stream of YAML documents.
func WriteObjects(w io.Writer, objects []*unstructured.Unstructured) error {
	for i, o := range objects {
		doc, err := yaml.Marshal(o.Object)
		if err != nil {
			return fmt.Errorf("render %s: %w", ssa.IDOf(o).Subject(), err)
		}
		if i > 0 {
			doc = append([]byte("---\n"), doc...)
		}
		if _, err := w.Write(doc); err != nil {
			return err
		}
	}
	return nil
}
