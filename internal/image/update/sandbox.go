package update

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"text/template"
	"text/template/parse"

	"github.com/Masterminds/sprig/v3"
)

// Limits of what a template may do. One that runs cannot be stopped from outside: it calls stepFunc in each pass of a loop and each
// use of a definition, and every function looks at what it is given and at what it returns.
const (
	stepFunc = "automationStep"
	maxSteps = 1_000_000
	// maxValue bounds the values of a template, in bytes of all that they hold, and maxNesting how deep they are nested: a value
	// that holds itself would be printed until the process has no memory left.
	maxValue   = 1 << 20
	maxNesting = 64
)

var (
	errTooLarge = fmt.Errorf("a value has more than %d bytes", maxValue)
	errTooDeep  = fmt.Errorf("a value is nested more than %d times", maxNesting)
	errEndless  = fmt.Errorf("the template takes more than %d steps", maxSteps)
	// wide are conversions that write far more than they are given.
	wide = regexp.MustCompile(`%[^a-zA-Z%]*([0-9]{4}|\*)`)
)

// sandbox is one run of a template.
type sandbox struct {
	ctx   context.Context
	steps int
}

func (s *sandbox) step() (string, error) {
	s.steps++
	switch {
	case s.steps > maxSteps:
		return "", errEndless
	case s.ctx.Err() != nil:
		return "", fmt.Errorf("the template did not end in time: %w", context.Cause(s.ctx))
	}
	return "", nil
}

// funcs are the functions of sprig that need nothing but their arguments, and those of the language, with limits.
func (s *sandbox) funcs() template.FuncMap {
	funcs := sprig.HermeticTxtFuncMap()
	funcs["print"], funcs["println"], funcs["printf"] = fmt.Sprint, fmt.Sprintln, fmt.Sprintf
	funcs["html"], funcs["js"], funcs["urlquery"] = template.HTMLEscaper, template.JSEscaper, template.URLQueryEscaper
	for name, f := range funcs {
		funcs[name] = s.limited(name, reflect.ValueOf(f))
	}
	funcs[stepFunc] = s.step
	return funcs
}

// limited returns a function that panics where its arguments or results are too much, which the template tells as an error.
func (s *sandbox) limited(name string, f reflect.Value) any {
	return reflect.MakeFunc(f.Type(), func(args []reflect.Value) []reflect.Value {
		if _, err := s.step(); err != nil {
			panic(err)
		}
		sizes := make([]int, 0, len(args))
		for _, a := range args {
			sizes = append(sizes, measured(a))
		}
		if err := multiplies(name, args, sizes); err != nil {
			panic(err)
		}
		var out []reflect.Value
		if f.Type().IsVariadic() {
			out = f.CallSlice(args)
		} else {
			out = f.Call(args)
		}
		for _, o := range out {
			measured(o)
		}
		return out
	}).Interface()
}

// measured returns the size of a value.
func measured(v reflect.Value) int {
	n, err := measure(v, 0, 0)
	if err != nil {
		panic(err)
	}
	return n
}

func measure(v reflect.Value, n, depth int) (int, error) {
	if depth > maxNesting {
		return 0, errTooDeep
	}
	n += 8
	var err error
	switch v.Kind() {
	case reflect.String:
		n += v.Len()
	case reflect.Interface, reflect.Pointer:
		if !v.IsNil() {
			return measure(v.Elem(), n, depth+1)
		}
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			n += v.Len()
			break
		}
		for i := 0; i < v.Len() && err == nil; i++ {
			n, err = measure(v.Index(i), n, depth+1)
		}
	case reflect.Map:
		for entries := v.MapRange(); err == nil && entries.Next(); {
			if n, err = measure(entries.Key(), n, depth+1); err == nil {
				n, err = measure(entries.Value(), n, depth+1)
			}
		}
	case reflect.Struct:
		for i := 0; i < v.NumField() && err == nil; i++ {
			n, err = measure(v.Field(i), n, depth+1)
		}
	}
	if err == nil && n > maxValue {
		err = errTooLarge
	}
	return n, err
}

// multiplies refuses calls whose result is the product of what they are given, and not their sum.
func multiplies(name string, args []reflect.Value, sizes []int) error {
	product := 1.0
	for i, a := range args {
		factor := float64(sizes[i])
		if n, ok := integer(a); ok {
			factor = math.Abs(n)
		}
		product *= max(1, factor)
	}
	switch name {
	case "repeat", "indent", "nindent", "until", "untilStep", "seq", "replace", "wrapWith", "join",
		"regexReplaceAll", "regexReplaceAllLiteral", "mustRegexReplaceAll", "mustRegexReplaceAllLiteral":
		if product > 64*maxValue {
			return errTooLarge
		}
	case "printf":
		if len(args) > 0 && wide.MatchString(args[0].String()) {
			return errors.New("printf: a width or precision of four digits or of an argument is too much")
		}
	}
	return nil
}

// integer reads a number, also one in an interface, and those of a list by their largest.
func integer(v reflect.Value) (float64, bool) {
	for v.Kind() == reflect.Interface && !v.IsNil() {
		v = v.Elem()
	}
	switch {
	case v.Kind() == reflect.Slice:
		most, all := 0.0, v.Len() > 0
		for i := 0; i < v.Len(); i++ {
			n, ok := integer(v.Index(i))
			most, all = max(most, math.Abs(n)), all && ok
		}
		return most, all
	case v.CanInt():
		return float64(v.Int()), true
	case v.CanUint():
		return float64(v.Uint()), true
	case v.CanFloat():
		return v.Float(), true
	}
	return 0, false
}

// guard adds a call of stepFunc to each loop and each definition.
func (s *sandbox) guard(t *template.Template) error {
	step, err := template.New("").Funcs(template.FuncMap{stepFunc: s.step}).Parse("{{" + stepFunc + "}}")
	if err != nil {
		return err
	}
	call := step.Root.Nodes[0]
	for _, defined := range t.Templates() {
		if defined.Tree == nil || defined.Root == nil {
			continue
		}
		guardList(defined.Root, call)
		prepend(defined.Root, call)
	}
	return nil
}

func prepend(list *parse.ListNode, call parse.Node) {
	list.Nodes = append([]parse.Node{call}, list.Nodes...)
}

func guardList(list *parse.ListNode, call parse.Node) {
	if list == nil {
		return
	}
	for _, n := range list.Nodes {
		switch n := n.(type) {
		case *parse.RangeNode:
			guardList(n.List, call)
			guardList(n.ElseList, call)
			prepend(n.List, call)
		case *parse.IfNode:
			guardList(n.List, call)
			guardList(n.ElseList, call)
		case *parse.WithNode:
			guardList(n.List, call)
			guardList(n.ElseList, call)
		}
	}
}
