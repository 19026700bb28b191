// Package expr evaluates CEL expressions that users write, on data that anybody may have sent: their size, their depth, their work and
// what they make are limited.
package expr

import (
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/ext"
)

// Limits of an expression. What is far beyond a condition on an object or on a call is refused or cut off.
const (
	// MaxLength is the longest expression, in characters.
	MaxLength = 16 << 10
	// MaxNesting is the most levels of brackets.
	MaxNesting = 100
	// MaxCost is the most work, in CEL's cost units: about half a second.
	MaxCost = 1_000_000
	// checkEvery is how many steps of a comprehension there are between looks at the context.
	checkEvery = 1_000
)

// base is built once: it never changes and costs a few milliseconds.
var base = sync.OnceValues(func() (*cel.Env, error) {
	env, err := cel.NewEnv(
		cel.OptionalTypes(), ext.Strings(), ext.Encoders(), ext.Lists(), ext.Sets(), ext.Math(),
		cel.ParserExpressionSizeLimit(MaxLength), cel.ParserRecursionLimit(MaxNesting),
	)
	if err != nil {
		return nil, err
	}
	return guarded(env)
})

// Env returns the environment of expressions that may use the named variables, of any type. Its libraries are those of 2.9: optional
// types, strings, encoders, lists, sets and math.
func Env(variables ...string) (*cel.Env, error) {
	env, err := base()
	if err != nil || len(variables) == 0 {
		return env, err
	}
	options := make([]cel.EnvOption, len(variables))
	for i, v := range variables {
		options[i] = cel.Variable(v, cel.DynType)
	}
	return env.Extend(options...)
}

// Program returns the program of an expression of an environment of this package, checked or only parsed. It ends with the context it is
// evaluated in, and with an error at MaxCost.
func Program(env *cel.Env, ast *cel.Ast) (cel.Program, error) {
	return env.Program(ast, cel.CostTracking(addedCost{}), cel.CostLimit(MaxCost), cel.InterruptCheckFrequency(checkEvery), cel.CustomDecoratorV2(compared))
}
