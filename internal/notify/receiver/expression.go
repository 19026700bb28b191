package receiver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/ext"
	apitypes "k8s.io/apimachinery/pkg/types"

	notificationv1 "github.com/seed-79636ae9/flux/api/notification/v1"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

// Limits of expressions, which come from users, on data that comes from anybody: what is far beyond a condition on a call is refused or
// cut off.
const (
	maxExpression = 16 << 10  // characters
	maxNesting    = 100       // levels of brackets
	maxCost       = 1_000_000 // CEL's cost units; about half a second
	checkEvery    = 1_000     // comprehension steps between looks at the context
	// maxQuoted is how much of an expression, and of what is wrong with it, errors of calls repeat, in bytes.
	maxQuoted = 200
	// thinkingTime is what all evaluations for one call may take together.
	thinkingTime = 5 * time.Second
)

// Names of variables in expressions (receiver 2, 28).
const (
	resVariable    = "res"
	reqVariable    = "req"
	claimsVariable = "claims"
	varsVariable   = "vars"
)

// expression is a compiled CEL expression. It is safe for concurrent use.
type expression struct {
	text    string
	program cel.Program
}

// environment is built once: it never changes and costs a few milliseconds.
var environment = sync.OnceValues(func() (*cel.Env, error) {
	env, err := cel.NewEnv(
		cel.OptionalTypes(), ext.Strings(), ext.Encoders(), ext.Lists(), ext.Sets(), ext.Math(),
		cel.ParserExpressionSizeLimit(maxExpression), cel.ParserRecursionLimit(maxNesting),
	)
	if err != nil {
		return nil, err
	}
	return guarded(env)
})

// compileExpression compiles an expression that may use only the named variables. One that is a condition must be boolean.
func compileExpression(text string, condition bool, variables ...string) (*expression, error) {
	env, err := environment()
	if err != nil {
		return nil, fmt.Errorf("building the CEL environment: %w", err)
	}
	options := make([]cel.EnvOption, len(variables))
	for i, v := range variables {
		options[i] = cel.Variable(v, cel.DynType)
	}
	if env, err = env.Extend(options...); err != nil {
		return nil, fmt.Errorf("declaring the variables of the CEL expression '%s': %w", text, err)
	}
	ast, issues := env.Compile(text)
	if err := issues.Err(); err != nil {
		return nil, fmt.Errorf("failed to compile the CEL expression '%s': %w", text, err)
	}
	if t := ast.OutputType(); condition && !t.IsExactType(cel.BoolType) && !t.IsExactType(cel.DynType) {
		return nil, fmt.Errorf("invalid CEL expression '%s': it yields %s, not a boolean", text, t)
	}
	program, err := env.Program(ast,
		cel.CostTracking(addedCost{}), cel.CostLimit(maxCost), cel.InterruptCheckFrequency(checkEvery), cel.CustomDecoratorV2(compared),
	)
	if err != nil {
		return nil, fmt.Errorf("failed to compile the CEL expression '%s': %w", text, err)
	}
	return &expression{text: text, program: program}, nil
}

// value evaluates the expression. A missing key and running past a limit are errors (receiver 36).
func (e *expression) value(ctx context.Context, variables map[string]any) (ref.Val, error) {
	value, _, err := e.program.ContextEval(ctx, variables)
	if err != nil {
		// Some errors quote what could not be converted, which is the caller's and as long as it likes.
		return nil, fmt.Errorf("evaluating the CEL expression '%s': %s", status.Cut(e.text, maxQuoted), status.Cut(err.Error(), maxQuoted))
	}
	return value, nil
}

// holds evaluates a condition.
func (e *expression) holds(ctx context.Context, variables map[string]any) (bool, error) {
	value, err := e.value(ctx, variables)
	if err != nil {
		return false, err
	}
	b, ok := value.(types.Bool)
	if !ok {
		return false, fmt.Errorf("evaluating the CEL expression '%s': the result is not a boolean", status.Cut(e.text, maxQuoted))
	}
	return bool(b), nil
}

// rules are the compiled expressions of one generation of a Receiver.
type rules struct {
	uid        apitypes.UID
	generation int64
	filter     *expression   // of spec.resourceFilter; nil: none
	filters    []*expression // of spec.resources, in their order; nil: none
	providers  []provider    // of spec.oidcProviders, in their order
}

// thinking lets one Receiver evaluate one expression at a time, and one call evaluate for so long: users write filters for as many objects
// as they like, and callers send what is filtered.
type thinking struct {
	turn chan struct{} // of the Receiver; who has put something in may touch left
	left time.Duration
}

// do evaluates. The time of the call is over when its context is, or when evaluations have taken too long.
func (t *thinking) do(ctx context.Context, evaluate func(ctx context.Context) error) error {
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn }()
	case <-ctx.Done():
		return fmt.Errorf("waiting to evaluate CEL expressions: %w", ctx.Err())
	}
	if t.left <= 0 {
		return errors.New("the CEL expressions take too long for one call: make them simpler, or select fewer objects")
	}
	ctx, cancel := context.WithTimeout(ctx, t.left)
	defer cancel()
	start := time.Now()
	defer func() { t.left -= time.Since(start) }()
	return evaluate(ctx)
}

// of reports whether the rules are those of an object as it is.
func (r *rules) of(obj *notificationv1.Receiver) bool {
	return r.uid == obj.UID && r.generation == obj.Generation
}

// filtering reports whether any filter has to be asked.
func (r *rules) filtering() bool {
	if r.filter != nil {
		return true
	}
	for _, f := range r.filters {
		if f != nil {
			return true
		}
	}
	return false
}

// provider holds the expressions of an issuer.
type provider struct {
	variables   []variable
	validations []validation
}

type variable struct {
	name string
	*expression
}

type validation struct {
	*expression
	message string
}

// compile compiles all expressions of a Receiver. The error names the field.
func compile(obj *notificationv1.Receiver) (*rules, error) {
	out := &rules{uid: obj.UID, generation: obj.Generation, filters: make([]*expression, len(obj.Spec.Resources))}
	names := []string{resVariable, reqVariable}
	if kind, ok := Find(obj.Spec.Type); ok && kind.OIDC {
		names = append(names, claimsVariable)
	}
	var err error
	if text := obj.Spec.ResourceFilter; text != "" {
		if out.filter, err = compileExpression(text, true, names...); err != nil {
			return nil, fmt.Errorf("spec.resourceFilter: %w", err)
		}
	}
	for n, resource := range obj.Spec.Resources {
		if resource.Filter == "" {
			continue
		}
		if out.filters[n], err = compileExpression(resource.Filter, true, names...); err != nil {
			return nil, fmt.Errorf("spec.resources[%d].filter: %w", n, err)
		}
	}
	for n := range obj.Spec.OIDCProviders {
		p, err := compileProvider(&obj.Spec.OIDCProviders[n])
		if err != nil {
			return nil, fmt.Errorf("spec.oidcProviders[%d].%w", n, err)
		}
		out.providers = append(out.providers, p)
	}
	return out, nil
}

func compileProvider(spec *notificationv1.OIDCProvider) (provider, error) {
	var p provider
	for n, v := range spec.Variables {
		e, err := compileExpression(v.Expression, false, claimsVariable, varsVariable)
		if err != nil {
			return p, fmt.Errorf("variables[%d]: %w", n, err)
		}
		p.variables = append(p.variables, variable{v.Name, e})
	}
	for n, v := range spec.Validations {
		e, err := compileExpression(v.Expression, true, claimsVariable, varsVariable)
		if err != nil {
			return p, fmt.Errorf("validations[%d]: %w", n, err)
		}
		p.validations = append(p.validations, validation{e, v.Message})
	}
	return p, nil
}

// check evaluates the variables in their order, and then all validations. The error joins the messages of those that do not hold
// (receiver 28, 37).
func (p *provider) check(ctx context.Context, claims map[string]any) error {
	vars := map[string]any{}
	seen := map[string]any{claimsVariable: claims, varsVariable: vars}
	for _, v := range p.variables {
		value, err := v.value(ctx, seen)
		if err != nil {
			return fmt.Errorf("variable '%s': %w", v.name, err)
		}
		vars[v.name] = value
	}
	var failed []string
	for _, v := range p.validations {
		ok, err := v.holds(ctx, seen)
		switch {
		case err != nil:
			failed = append(failed, err.Error())
		case !ok:
			failed = append(failed, v.message)
		}
	}
	if len(failed) > 0 {
		return errors.New(strings.Join(failed, "; "))
	}
	return nil
}
