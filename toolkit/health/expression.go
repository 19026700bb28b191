package health

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"

	"github.com/seed-79636ae9/flux/toolkit/expr"
)

// Expression is a parsed CEL expression that yields a boolean. It is safe for concurrent use.
type Expression struct {
	text    string
	program cel.Program
}

// ParseExpression parses a CEL expression. With names of variables, the expression may use only those, and its type is checked to
// be boolean; without, every free name is looked up at evaluation.
func ParseExpression(text string, variables ...string) (*Expression, error) {
	env, err := expr.Env(variables...)
	if err != nil {
		return nil, fmt.Errorf("failed to build the CEL environment: %w", err)
	}
	ast, issues := env.Parse(text)
	if err := issues.Err(); err != nil {
		return nil, fmt.Errorf("failed to parse the CEL expression '%s': %w", text, err)
	}
	if len(variables) > 0 {
		if ast, err = check(env, ast, text); err != nil {
			return nil, err
		}
	}
	program, err := expr.Program(env, ast)
	if err != nil {
		return nil, fmt.Errorf("failed to create the program of the CEL expression '%s': %w", text, err)
	}
	return &Expression{text: text, program: program}, nil
}

func check(env *cel.Env, ast *cel.Ast, text string) (*cel.Ast, error) {
	checked, issues := env.Check(ast)
	if err := issues.Err(); err != nil {
		return nil, fmt.Errorf("failed to compile the CEL expression '%s': %w", text, err)
	}
	if t := checked.OutputType(); !t.IsExactType(cel.BoolType) && !t.IsExactType(cel.DynType) {
		return nil, fmt.Errorf("invalid CEL expression '%s': it yields %s, not a boolean", text, t)
	}
	return checked, nil
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
