package health

import (
	"context"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/seed-79636ae9/flux/toolkit/kube"
)

// Expressions is one entry of spec.healthCheckExprs. The version in APIVersion has no meaning; an empty Kind stands for the
// whole group.
type Expressions struct {
	APIVersion, Kind            string
	Current, InProgress, Failed string
}

// Evaluator computes verdicts by expressions, for the kinds that have some, and by kstatus for all others. The zero Evaluator
// and nil know no expressions.
type Evaluator struct {
	byKind map[schema.GroupKind]*custom
}

type custom struct {
	inProgress, failed, current *Expression
}

// errNoCurrent is what an entry without its required expression is told.
var errNoCurrent = errors.New("expression Current not specified")

// NewEvaluator parses expressions. An error names the entry and the expression (kustomization 8).
func NewEvaluator(list []Expressions) (*Evaluator, error) {
	e := &Evaluator{byKind: make(map[schema.GroupKind]*custom, len(list))}
	for i, x := range list {
		c, err := newCustom(x)
		if err != nil {
			return nil, fmt.Errorf("failed to create custom status evaluator for healthchecks[%d]: %w", i, err)
		}
		gv, err := schema.ParseGroupVersion(x.APIVersion)
		if err != nil {
			return nil, fmt.Errorf("failed to parse the apiVersion of healthchecks[%d]: %w", i, err)
		}
		gk := schema.GroupKind{Group: gv.Group, Kind: x.Kind}
		if _, dup := e.byKind[gk]; dup {
			return nil, fmt.Errorf("duplicate custom status evaluator for healthchecks[%d]: %s has one already", i, gk)
		}
		e.byKind[gk] = c
	}
	return e, nil
}

func newCustom(x Expressions) (*custom, error) {
	if x.Current == "" {
		return nil, errNoCurrent
	}
	c := &custom{}
	for _, f := range []struct {
		name, text string
		to         **Expression
	}{{"Current", x.Current, &c.current}, {"InProgress", x.InProgress, &c.inProgress}, {"Failed", x.Failed, &c.failed}} {
		if f.text == "" {
			continue
		}
		parsed, err := ParseExpression(f.text)
		if err != nil {
			return nil, fmt.Errorf("failed to parse the expression %s: %w", f.name, err)
		}
		*f.to = parsed
	}
	return c, nil
}

func (e *Evaluator) of(gk schema.GroupKind) *custom {
	if e == nil {
		return nil
	}
	if c := e.byKind[gk]; c != nil {
		return c
	}
	return e.byKind[schema.GroupKind{Group: gk.Group}]
}

// Covers reports whether a kind's verdict comes from expressions, so that a watch's kstatus verdict says nothing.
func (e *Evaluator) Covers(gk schema.GroupKind) bool { return e.of(gk) != nil }

// Assess computes the verdict of an object (kustomization 90): inProgress before failed before current, in progress if none
// holds or the object's controller has not seen its generation, unknown if an expression cannot be evaluated.
func (e *Evaluator) Assess(ctx context.Context, o *unstructured.Unstructured) kube.Verdict {
	c := e.of(o.GroupVersionKind().GroupKind())
	if c == nil {
		return kube.Assess(o)
	}
	if o.GetDeletionTimestamp() != nil {
		return kube.Verdict{Status: kube.Terminating, Message: "Resource scheduled for deletion"}
	}
	if seen, ok, err := unstructured.NestedInt64(o.Object, "status", "observedGeneration"); ok && err == nil && seen != o.GetGeneration() {
		return kube.Verdict{Status: kube.InProgress, Message: fmt.Sprintf("generation is %d, but latest observed generation is %d", o.GetGeneration(), seen)}
	}
	for _, x := range []struct {
		expression *Expression
		status     kube.Status
	}{{c.inProgress, kube.InProgress}, {c.failed, kube.Failed}, {c.current, kube.Current}} {
		if x.expression == nil {
			continue
		}
		holds, err := x.expression.Bool(ctx, o.Object)
		if err != nil {
			return kube.Verdict{Status: kube.Unknown, Message: err.Error()}
		}
		if holds {
			return kube.Verdict{Status: x.status, Message: fmt.Sprintf("expression '%s' holds", x.expression)}
		}
	}
	return kube.Verdict{Status: kube.InProgress, Message: "no expression holds"}
}
