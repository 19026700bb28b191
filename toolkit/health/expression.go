package health

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/ext"
)

// Limits of expressions, which come from users: what is far beyond a condition on an object's status is refused or cut off.
const (
	maxExpression = 16 << 10  // characters
	maxNesting    = 100       // levels of brackets
	maxCost       = 1_000_000 // CEL's cost units; about a tenth of a second
	checkEvery    = 1_000     // comprehension steps between looks at the context
)

// Expression is a parsed CEL expression that yields a boolean. It is safe for concurrent use.
type Expression struct {
	text    string
	program cel.Program
}

// environment is built once: it never changes and costs a few milliseconds.
var environment = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewEnv(
		cel.OptionalTypes(), ext.Strings(), ext.Encoders(), ext.Lists(), ext.Sets(), ext.Math(),
		cel.ParserExpressionSizeLimit(maxExpression), cel.ParserRecursionLimit(maxNesting),
	)
})

// ParseExpression parses a CEL expression. With names of variables, the expression may use only those, and its type is checked to
// be boolean; without, every free name is looked up at evaluation.
func ParseExpression(text string, variables ...string) (*Expression, error) {
	env, err := environment()
	if err != nil {
		return nil, fmt.Errorf("failed to build the CEL environment: %w", err)
	}
	ast, issues := env.Parse(text)
	if err := issues.Err(); err != nil {
		return nil, fmt.Errorf("failed to parse the CEL expression '%s': %w", text, err)
	}
	if len(variables) > 0 {
		if env, ast, err = check(env, ast, text, variables); err != nil {
			return nil, err
		}
	}
	program, err := env.Program(ast, cel.CostLimit(maxCost), cel.InterruptCheckFrequency(checkEvery))
	if err != nil {
		return nil, fmt.Errorf("failed to create the program of the CEL expression '%s': %w", text, err)
	}
	return &Expression{text: text, program: program}, nil
}

func check(env *cel.Env, ast *cel.Ast, text string, variables []string) (*cel.Env, *cel.Ast, error) {
	options := make([]cel.EnvOption, len(variables))
	for i, v := range variables {
		options[i] = cel.Variable(v, cel.DynType)
	}
	env, err := env.Extend(options...)
	if err != nil {
		return nil, nil, fmt.Errorf("failed to declare the variables of the CEL expression '%s': %w", text, err)
	}
	checked, issues := env.Check(ast)
	if err := issues.Err(); err != nil {
		return nil, nil, fmt.Errorf("failed to compile the CEL expression '%s': %w", text, err)
	}
	if t := checked.OutputType(); !t.IsExactType(cel.BoolType) && !t.IsExactType(cel.DynType) {
		return nil, nil, fmt.Errorf("invalid CEL expression '%s': it yields %s, not a boolean", text, t)
	}
	return env, checked, nil
}

// String is the expression as written.
func (e *Expression) String() string { return e.text }

// Bool evaluates the expression. A missing field, a result that is no boolean, and running past the cost limit are errors.
func (e *Expression) Bool(ctx context.Context, variables map[string]any) (bool, error) {
	value, _, err := e.program.ContextEval(ctx, variables)
	if err != nil {
		return false, fmt.Errorf("failed to evaluate the CEL expression '%s': %w", e.text, err)
	}
	b, ok := value.(types.Bool)
	if !ok {
		return false, fmt.Errorf("failed to evaluate the CEL expression '%s': %w", e.text, errors.New("the result is not a boolean"))
	}
	return bool(b), nil
}
