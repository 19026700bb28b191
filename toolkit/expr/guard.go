package expr

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/functions"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"github.com/google/cel-go/interpreter"
)

const (
	// maxMade is the largest result of one function, in bytes.
	maxMade = 8 << 20
	// maxPairs is how many pairs of elements one function may compare; more are beyond the limit on the cost in any case. maxCompared
	// is the largest product of the sizes of two lists, in bytes.
	maxPairs, maxCompared = MaxCost, 100_000_000
)

// guarded lets functions whose result or work can be out of all proportion to their arguments look at those first. The limit on the cost
// of an expression comes too late for them: it counts what a function has done. One call of replace on a body of three megabytes can ask
// for more memory than there is, and nobody survives that.
func guarded(env *cel.Env) (*cel.Env, error) {
	var options []cel.EnvOption
	all := env.Functions()
	for name, check := range guards() {
		declared := all[name]
		bindings, err := declared.Bindings()
		if err != nil {
			return nil, fmt.Errorf("guarding the CEL function %s: %w", name, err)
		}
		var overloads []cel.FunctionOpt
		for _, o := range declared.OverloadDecls() {
			for _, b := range bindings {
				if b.Operator != o.ID() {
					continue
				}
				declare := cel.Overload
				if o.IsMemberFunction() {
					declare = cel.MemberOverload
				}
				overloads = append(overloads, declare(o.ID(), o.ArgTypes(), o.ResultType(), guard(b, check)))
			}
		}
		if len(overloads) == 0 {
			return nil, fmt.Errorf("guarding the CEL function %s: there is none", name)
		}
		options = append(options, cel.Function(name, overloads...))
	}
	return env.Extend(options...)
}

// guard is the binding of a function behind a check of its arguments.
func guard(b *functions.Overload, check func(args []ref.Val) error) cel.OverloadOpt {
	switch {
	case b.Unary != nil:
		return cel.UnaryBinding(func(arg ref.Val) ref.Val {
			if err := check([]ref.Val{arg}); err != nil {
				return types.WrapErr(err)
			}
			return b.Unary(arg)
		})
	case b.Binary != nil:
		return cel.BinaryBinding(func(left, right ref.Val) ref.Val {
			if err := check([]ref.Val{left, right}); err != nil {
				return types.WrapErr(err)
			}
			return b.Binary(left, right)
		})
	}
	return cel.FunctionBinding(func(args ...ref.Val) ref.Val {
		if err := check(args); err != nil {
			return types.WrapErr(err)
		}
		return b.Function(args...)
	})
}

// addedCost counts what CEL does not: the size of what an addition has made, where types show only when they are there, as in the body of
// a call, and of lists. A text that is added to itself a few times would fill the memory, and a list could never be counted to its end.
type addedCost struct{}

// CallCost implements interpreter.ActualCostEstimator; nil: as CEL counts.
func (addedCost) CallCost(function, _ string, _ []ref.Val, result ref.Val) *uint64 {
	if function != operators.Add {
		return nil
	}
	size := 0
	switch v := result.(type) {
	case types.String:
		size = len(v)
	case types.Bytes:
		size = len(v)
	case traits.Lister:
		n, _ := v.Size().(types.Int)
		size = int(n)
	}
	cost := uint64(1 + size/10)
	return &cost
}

// compared replaces comparisons by ones that look at their arguments first, as CEL plans those without functions that could be guarded.
// A list that holds another twice, which does so too, and so on, takes no space and can never be compared to its end.
func compared(node interpreter.InterpretableV2) (interpreter.InterpretableV2, error) {
	call, ok := node.(interpreter.InterpretableCall)
	if !ok {
		return node, nil
	}
	var compare functions.FunctionOp
	switch call.Function() {
	case operators.Equals:
		compare = func(args ...ref.Val) ref.Val { return types.Equal(args[0], args[1]) }
	case operators.NotEquals:
		compare = func(args ...ref.Val) ref.Val { return types.Bool(types.Equal(args[0], args[1]) != types.True) }
	case operators.In:
		compare = func(args ...ref.Val) ref.Val {
			if container, ok := args[1].(traits.Container); ok {
				return container.Contains(args[0])
			}
			return types.MaybeNoSuchOverloadErr(args[1])
		}
	default:
		return node, nil
	}
	return interpreter.NewCall(call.ID(), call.Function(), call.OverloadID(), call.Args(), func(args ...ref.Val) ref.Val {
		// What is compared is no larger than the smaller one.
		if weigh(args[0], maxMade) >= maxMade && weigh(args[1], maxMade) >= maxMade {
			return types.WrapErr(errPairs)
		}
		return compare(args...)
	}), nil
}

func guards() map[string]func(args []ref.Val) error {
	return map[string]func(args []ref.Val) error{
		"replace": checkReplace,
		"join":    checkJoin,
		"format":  checkMade, "flatten": checkMade, "split": checkMade,
		"distinct":      func(args []ref.Val) error { return checkPairs(args[0], args[0]) },
		"sets.contains": checkSets, "sets.equivalent": checkSets, "sets.intersects": checkSets,
	}
}

var (
	errMade  = errors.New("the result would be too large")
	errPairs = errors.New("the values are too large to be compared")
)

// checkReplace computes what a replacement would make.
func checkReplace(args []ref.Val) error {
	var text [3]string
	for n := range text {
		s, ok := args[n].(types.String)
		if !ok {
			return nil
		}
		text[n] = string(s)
	}
	found := strings.Count(text[0], text[1])
	if text[1] == "" {
		found = utf8.RuneCountInString(text[0]) + 1
	}
	if grown := len(text[2]) - len(text[1]); grown > 0 && found > maxMade/grown {
		return errMade
	}
	return nil
}

// checkJoin counts the separators too.
func checkJoin(args []ref.Val) error {
	if list, ok := args[0].(traits.Lister); ok && len(args) == 2 {
		if n, ok := list.Size().(types.Int); ok && int(n) > maxMade/(1+weigh(args[1], maxMade)) {
			return errMade
		}
	}
	return checkMade(args)
}

// checkMade weighs what a function would make all its result of.
func checkMade(args []ref.Val) error {
	left := maxMade
	for _, arg := range args {
		if left -= weigh(arg, left); left <= 0 {
			return errMade
		}
	}
	return nil
}

func checkSets(args []ref.Val) error { return checkPairs(args[0], args[1]) }

// checkPairs bounds comparing every element of one list with every one of another.
func checkPairs(a, b ref.Val) error {
	left, isList := a.(traits.Lister)
	right, isToo := b.(traits.Lister)
	if !isList || !isToo {
		return nil
	}
	m, _ := left.Size().(types.Int)
	n, _ := right.Size().(types.Int)
	if n > 0 && m > maxPairs/n {
		return errPairs
	}
	weight := weigh(b, maxMade)
	if most := min(maxCompared/weight, maxMade); weight == maxMade || weigh(a, most+1) > most {
		return errPairs
	}
	return nil
}

// weigh is about how many bytes a value takes when it is written down, and counts no further than to the limit: a value may hold another
// many times.
func weigh(v ref.Val, limit int) int {
	weight := 1
	switch v := v.(type) {
	case types.String:
		weight += len(v)
	case types.Bytes:
		weight += len(v)
	case *types.Optional:
		if v.HasValue() {
			weight += weigh(v.GetValue(), limit-weight)
		}
	case traits.Mapper:
		for it := v.Iterator(); weight < limit && it.HasNext() == types.True; {
			key := it.Next()
			weight += weigh(key, limit-weight)
			if value, ok := v.Find(key); ok && weight < limit {
				weight += weigh(value, limit-weight)
			}
		}
	case traits.Lister:
		for it := v.Iterator(); weight < limit && it.HasNext() == types.True; {
			weight += weigh(it.Next(), limit-weight)
		}
	}
	return min(weight, max(limit, 1))
}
