package preview

import (
	"fmt"
	"io"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/seed-79636ae9/flux/toolkit/ssa"
)

// WriteYAML writes the objects of all sets as a stream of YAML documents, in the order of the build.
func (p *Preview) WriteYAML(w io.Writer) error {
	var all []*unstructured.Unstructured
	for _, s := range p.Sets {
		all = append(all, s.Objects...)
	}
	return WriteObjects(w, all)
}

// WriteChanges writes what would change and reports whether anything would: a skipped object is told, and does not count (cli 43).
func WriteChanges(w io.Writer, changes []Change) (changed bool, err error) {
	for _, c := range changes {
		changed = changed || c.Action != ssa.Skipped
		if _, err := fmt.Fprintf(w, "► %s %s\n", c.ID.Subject(), c.word()); err != nil {
			return changed, err
		}
		for _, f := range c.Fields {
			if _, err := fmt.Fprintf(w, "\n%s", f); err != nil {
				return changed, err
			}
		}
		if len(c.Fields) > 0 {
			if _, err := fmt.Fprintln(w); err != nil {
				return changed, err
			}
		}
	}
	return changed, nil
}

func (c Change) word() string {
	switch {
	case c.Recreate:
		return "recreated"
	case c.Action == ssa.Configured:
		return "drifted"
	}
	return string(c.Action)
}
