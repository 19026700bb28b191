package generate

import (
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	v1beta1 "github.com/seed-79636ae9/flux/api/extensions/v1beta1"
)

// output is an artifact to make, with all variables replaced.
type output struct {
	v1beta1.OutputArtifact
	// labels are what the path pattern has captured.
	labels map[string]string
}

// pathPattern is spec.pathPattern, understood (artifactgenerator 23, 24).
type pathPattern struct {
	alias    string
	elements int
	expr     *regexp.Regexp
	names    []string
}

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func parsePathPattern(text string) (*pathPattern, error) {
	alias, tail, ok := strings.Cut(strings.TrimPrefix(text, "@"), "/")
	if !ok || alias == "" || !strings.HasPrefix(text, "@") {
		return nil, fmt.Errorf("pathPattern '%s' is not of the form @alias/path", text)
	}
	tail, err := inside(tail)
	if err != nil {
		return nil, fmt.Errorf("pathPattern '%s': %w", text, err)
	}
	p := &pathPattern{alias: alias, elements: strings.Count(tail, "/") + 1}
	var expr strings.Builder
	err = eachPart(tail, func(literal, name string) error {
		expr.WriteString(regexp.QuoteMeta(literal))
		if name == "" {
			return nil
		}
		if errs := validation.IsQualifiedName(name); !variableName.MatchString(name) || len(errs) > 0 {
			return fmt.Errorf("variable name '%s' is not valid: want a letter, then letters, digits and underscores, at most 63", name)
		}
		if slices.Contains(p.names, name) {
			return fmt.Errorf("variable '%s' occurs twice", name)
		}
		p.names = append(p.names, name)
		expr.WriteString("([^/]+)")
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("pathPattern '%s': %w", text, err)
	}
	if p.expr, err = regexp.Compile("^(?s:" + expr.String() + ")$"); err != nil {
		return nil, fmt.Errorf("pathPattern '%s': %w", text, err)
	}
	return p, nil
}

// eachPart splits a text into literals, each followed by a variable or, at the end, by none.
func eachPart(text string, fn func(literal, name string) error) error {
	for {
		literal, rest, found := strings.Cut(text, "{")
		if strings.Contains(literal, "}") {
			return fmt.Errorf("'%s' has a } without {", text)
		}
		if !found {
			return fn(literal, "")
		}
		name, tail, closed := strings.Cut(rest, "}")
		if !closed || strings.Contains(name, "{") {
			return fmt.Errorf("'%s' has a { without }", text)
		}
		if name == "" {
			return fmt.Errorf("'%s' has a variable without a name", text)
		}
		if err := fn(literal, name); err != nil {
			return err
		}
		text = tail
	}
}

// captures returns the values of the variables for each directory that matches, in lexical order (artifactgenerator 25).
func (p *pathPattern) captures(source *node) []map[string]string {
	var out []map[string]string
	_ = source.walk(".", func(at string, n *node) error {
		depth := strings.Count(at, "/") + 1
		if !n.isDir() || depth > p.elements {
			return fs.SkipDir
		}
		if depth < p.elements {
			return nil
		}
		if found := p.expr.FindStringSubmatch(at); found != nil {
			values := make(map[string]string, len(p.names))
			for i, name := range p.names {
				values[name] = found[i+1]
			}
			out = append(out, values)
		}
		return fs.SkipDir
	})
	return out
}

// expand returns the artifacts to make. Without a path pattern they are those of the spec (artifactgenerator 23-29).
func expand(spec *v1beta1.ArtifactGeneratorSpec, trees map[string]*node, limit int) ([]output, error) {
	if spec.PathPattern == "" {
		out := make([]output, len(spec.Artifacts))
		for i, a := range spec.Artifacts {
			out[i] = output{OutputArtifact: a}
		}
		return out, nil
	}
	pattern, err := parsePathPattern(spec.PathPattern)
	if err != nil {
		return nil, err
	}
	tree := trees[pattern.alias]
	if tree == nil {
		return nil, fmt.Errorf("pathPattern '%s': source alias '%s' not found", spec.PathPattern, pattern.alias)
	}
	captures := pattern.captures(tree)
	if n := len(captures) * len(spec.Artifacts); n > limit {
		return nil, fmt.Errorf("pathPattern '%s': %w: it makes %d artifacts, one object makes at most %d", spec.PathPattern, ErrLimit, n, limit)
	}
	var out []output
	names := map[string]bool{}
	for _, values := range captures {
		for _, template := range spec.Artifacts {
			o, err := fill(template, values)
			if err != nil {
				return nil, err
			}
			if names[o.Name] {
				return nil, fmt.Errorf("duplicate artifact name '%s' found", o.Name)
			}
			names[o.Name] = true
			out = append(out, o)
		}
	}
	return out, nil
}

// fill replaces the variables of one artifact (artifactgenerator 25-28).
func fill(template v1beta1.OutputArtifact, values map[string]string) (output, error) {
	o := output{OutputArtifact: *template.DeepCopy(), labels: make(map[string]string, len(values))}
	for name, value := range values {
		o.labels[name] = strings.ToLower(value)
		if errs := validation.IsValidLabelValue(o.labels[name]); len(errs) > 0 {
			return o, fmt.Errorf("'%s' cannot be the label '%s': %s", o.labels[name], name, strings.Join(errs, "; "))
		}
	}
	var err error
	if o.Name, err = replace(template.Name, o.labels); err != nil {
		return o, fmt.Errorf("artifact name '%s': %w", template.Name, err)
	}
	if errs := validation.IsDNS1123Subdomain(o.Name); len(errs) > 0 {
		return o, fmt.Errorf("artifact name '%s' is not valid: %s", o.Name, strings.Join(errs, "; "))
	}
	for i := range o.Copy {
		for _, field := range []*string{&o.Copy[i].From, &o.Copy[i].To} {
			if *field, err = replace(*field, values); err != nil {
				return o, fmt.Errorf("artifact '%s': %w", o.Name, err)
			}
		}
	}
	return o, nil
}

func replace(template string, values map[string]string) (string, error) {
	var out strings.Builder
	err := eachPart(template, func(literal, name string) error {
		out.WriteString(literal)
		value, ok := values[name]
		if name != "" && !ok {
			return fmt.Errorf("variable '%s' is not in the path pattern", name)
		}
		out.WriteString(value)
		return nil
	})
	return out.String(), err
}
