package render

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// SubstituteKey is the label or annotation that keeps an object out of the substitution when its value is "disabled"
// (kustomization 57).
const SubstituteKey = "kustomize.toolkit.fluxcd.io/substitute"

// Substitution replaces ${variables} in the built objects (kustomization 51-59).
type Substitution struct {
	// Load returns the variables. It is called once, for the first object that takes part; its error becomes that
	// of the build, after the name of the object. MergeVariables makes the map.
	Load func(context.Context) (map[string]string, error)
	// Always substitutes without any variable too, so that defaults and escapes take effect.
	Always bool
	// Lenient replaces variables that are not declared by nothing; otherwise they are an error.
	Lenient bool
}

// MergeVariables joins the sources of variables: later ones win, inline wins over all (kustomization 52). Line feeds
// are removed from every value, because they would break the YAML they are put into.
func MergeVariables(inline map[string]string, sources ...map[string]string) map[string]string {
	merged := map[string]string{}
	for _, source := range append(slices.Clone(sources), inline) {
		for name, value := range source {
			merged[name] = strings.ReplaceAll(value, "\n", "")
		}
	}
	return merged
}

const variablePattern = `^[_[:alpha:]][_[:alpha:][:digit:]]*$`

var variableName = regexp.MustCompile(variablePattern)

// expander loads and checks the variables. It is nil when nothing is to be substituted.
func (s *Substitution) expander(ctx context.Context, limits Limits) (*expander, error) {
	var vars map[string]string
	if s.Load != nil {
		var err error
		if vars, err = s.Load(ctx); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		if !variableName.MatchString(name) {
			return nil, fmt.Errorf("envsubst error: '%s' var name is invalid, must match '%s'", name, variablePattern)
		}
	}
	return &expander{vars: vars, off: len(vars) == 0 && !s.Always, lenient: s.Lenient, max: limits.ObjectBytes}, nil
}

func substitutionDisabled(obj *unstructured.Unstructured) bool {
	return obj.GetLabels()[SubstituteKey] == "disabled" || obj.GetAnnotations()[SubstituteKey] == "disabled"
}

// object substitutes in the YAML of an object and reads it again, which is why a value can change its type
// (kustomization 58).
func (e *expander) object(obj *unstructured.Unstructured, doc []byte) (*unstructured.Unstructured, []byte, error) {
	if e.off || !strings.Contains(string(doc), "$") {
		return obj, doc, nil
	}
	text := string(doc)
	out, err := e.expand(text)
	if err != nil {
		return nil, nil, fmt.Errorf("envsubst error: variable substitution failed: %w", err)
	}
	if out == text {
		return obj, doc, nil
	}
	if obj, err = decode([]byte(out)); err == nil {
		doc, err = encode(obj.Object)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("the result of the substitution is not a valid object: %w", err)
	}
	return obj, doc, nil
}

// Expand substitutes the variables in a text, as a build does in each object. It fails on variables that are not
// declared, unless lenient is set.
func Expand(text string, vars map[string]string, lenient bool) (string, error) {
	e := &expander{vars: vars, lenient: lenient, max: DefaultLimits().ObjectBytes}
	return e.expand(text)
}

// expander evaluates ${...} expressions: the parameter expansion of bash, less what needs a shell. "$$" stands for
// "$", and a "$" before anything but a brace for itself.
type expander struct {
	vars    map[string]string
	off     bool
	lenient bool
	max     int // bytes of any value or result
}

const maxNesting = 32

var (
	errBadSubstitution = errors.New("bad substitution")
	errClosingBrace    = errors.New("missing closing brace")
	errNesting         = fmt.Errorf("expressions are nested more than %d deep", maxNesting)
)

func (e *expander) expand(text string) (string, error) {
	p := parser{text: text}
	w, err := p.word("", false, 0)
	if err != nil {
		return "", err
	}
	return e.word(w)
}

func (e *expander) tooLong() error {
	return fmt.Errorf("the result has more than %d bytes", e.max)
}

// word evaluates a sequence of texts and expressions.
func (e *expander) word(w word) (string, error) {
	if len(w) == 1 && w[0].expr == nil {
		return w[0].text, nil
	}
	var b strings.Builder
	for _, part := range w {
		s := part.text
		if part.expr != nil {
			var err error
			if s, err = e.expression(part.expr); err != nil {
				return "", err
			}
		}
		if b.Len()+len(s) > e.max {
			return "", e.tooLong()
		}
		b.WriteString(s)
	}
	return b.String(), nil
}

func (e *expander) expression(x *expression) (string, error) {
	value, declared := e.vars[x.name]
	if x.op == opDefault {
		if value != "" {
			return value, nil
		}
		return e.word(x.args[0])
	}
	if !declared && !e.lenient {
		return "", fmt.Errorf("variable not set (strict mode): %q", x.name)
	}
	args := make([]string, len(x.args))
	for i, a := range x.args {
		var err error
		if args[i], err = e.word(a); err != nil {
			return "", err
		}
	}
	return e.apply(x.op, value, args)
}

// word is a text with expressions in it.
type word []part

type part struct {
	text string
	expr *expression
}

// expression is one ${...}.
type expression struct {
	name string
	op   operator
	args []word
}

type operator string

const (
	opValue     operator = ""
	opLength    operator = "#name"
	opDefault   operator = "-" // also = + ?, with or without a colon (kustomization 56)
	opSubstring operator = ":"
)

// parser reads a text from left to right.
type parser struct {
	text string
	pos  int
}

func (p *parser) peek(s string) bool { return strings.HasPrefix(p.text[p.pos:], s) }

func (p *parser) take(s string) bool {
	if p.peek(s) {
		p.pos += len(s)
		return true
	}
	return false
}

// word reads up to one of the stop characters, which it leaves, or to the end of the text if there are none. With
// escapes a backslash before a slash or backslash is dropped.
func (p *parser) word(stop string, escapes bool, depth int) (word, error) {
	if depth > maxNesting {
		return nil, errNesting
	}
	var w word
	var b strings.Builder
	flush := func() {
		if b.Len() > 0 {
			w = append(w, part{text: b.String()})
			b.Reset()
		}
	}
	for p.pos < len(p.text) {
		c := p.text[p.pos]
		switch {
		case strings.IndexByte(stop, c) >= 0:
			flush()
			return w, nil
		case p.take("$$"):
			b.WriteByte('$')
		case p.take("${"):
			flush()
			x, err := p.expression(depth)
			if err != nil {
				return nil, err
			}
			w = append(w, part{expr: x})
		case escapes && (p.peek(`\/`) || p.peek(`\\`)):
			b.WriteByte(p.text[p.pos+1])
			p.pos += 2
		default:
			b.WriteByte(c)
			p.pos++
		}
	}
	if stop != "" {
		return nil, errClosingBrace
	}
	flush()
	return w, nil
}

// expression reads what follows "${", the closing brace included.
func (p *parser) expression(depth int) (*expression, error) {
	length := p.take("#")
	x := &expression{name: p.name()}
	if x.name == "" {
		return nil, fmt.Errorf("%w: unable to parse variable name", errBadSubstitution)
	}
	var err error
	switch {
	case length:
		x.op = opLength
	case p.peek("}"):
	case p.anyOf(":-", ":=", ":?", ":+", "-", "=", "?", "+") != "":
		x.op = opDefault
		err = p.arguments(x, depth, "}")
	case p.take(":"):
		x.op = opSubstring
		if err = p.arguments(x, depth, ":}"); err == nil && p.take(":") {
			err = p.arguments(x, depth, "}")
		}
	default:
		x.op = operator(p.anyOf("^^", "^", ",,", ",", "##", "#", "%%", "%", "//", "/#", "/%", "/"))
		switch x.op {
		case "":
			if p.pos >= len(p.text) {
				return nil, errClosingBrace
			}
			return nil, errBadSubstitution
		case "##", "#", "%%", "%":
			err = p.arguments(x, depth, "}")
		case "//", "/#", "/%", "/":
			if err = p.arguments(x, depth, "/}"); err == nil && p.take("/") {
				err = p.arguments(x, depth, "}")
			}
		}
	}
	if err != nil {
		return nil, err
	}
	if !p.take("}") {
		if p.pos >= len(p.text) {
			return nil, errClosingBrace
		}
		return nil, errBadSubstitution
	}
	return x, nil
}

func (p *parser) arguments(x *expression, depth int, stop string) error {
	w, err := p.word(stop, x.op[0] == '/', depth+1)
	x.args = append(x.args, w)
	return err
}

func (p *parser) anyOf(options ...string) string {
	for _, o := range options {
		if p.take(o) {
			return o
		}
	}
	return ""
}

func (p *parser) name() string {
	start := p.pos
	for p.pos < len(p.text) {
		c := p.text[p.pos]
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (p.pos == start || c < '0' || c > '9') {
			break
		}
		p.pos++
	}
	return p.text[start:p.pos]
}
