package action

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/template"
	"text/template/parse"

	"helm.sh/helm/v4/pkg/chart/common"
	chart "helm.sh/helm/v4/pkg/chart/v2"
)

// Limits of what a chart may do while it is rendered. A template cannot be stopped from outside, so it gets a call of stepFunc at the begin
// of each loop and each definition, which is where time is spent that grows without the template growing.
const (
	stepFunc = "renderStep"
	// maxSteps bounds passes through loops and uses of definitions.
	maxSteps = 20_000_000
	// maxRepeat bounds what one call of a function makes, in bytes or numbers.
	maxRepeat = 8 << 20
)

// guard stops templates that take too long or write too much.
type guard struct {
	ctx      context.Context
	maxBytes int

	mu    sync.Mutex // guards what follows
	steps int
	bytes int
}

// guard returns the guard of one rendering. Text that is written may be thrown away, so there may be more of it than of the result.
func (a *Actions) guard(ctx context.Context) *guard {
	return &guard{ctx: ctx, maxBytes: 4 * a.o.MaxManifest}
}

// step is called by templates; size is how much text the loop or definition writes at least.
func (g *guard) step(size int) (string, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.steps++
	g.bytes += size
	switch {
	case g.ctx.Err() != nil:
		return "", fmt.Errorf("rendering did not end in time: %w", context.Cause(g.ctx))
	case g.steps > maxSteps:
		return "", fmt.Errorf("templates take more than %d steps", maxSteps)
	case g.bytes > g.maxBytes:
		return "", fmt.Errorf("templates write more than %d bytes", g.maxBytes)
	}
	return "", nil
}

// funcs are stepFunc and those functions of Helm that could make anything of a small number, with limits.
func (g *guard) funcs() template.FuncMap {
	return template.FuncMap{
		stepFunc:    g.step,
		"until":     until,
		"untilStep": untilStep,
		"seq":       seq,
		"repeat":    repeat,
		"indent":    indent,
		"nindent": func(spaces int, text string) (string, error) {
			out, err := indent(spaces, text)
			return "\n" + out, err
		},
	}
}

var errTooMuch = fmt.Errorf("more than %d at once", maxRepeat)

func repeat(count int, text string) (string, error) {
	switch {
	case count < 0:
		return "", errors.New("negative repeat count")
	case count > 0 && len(text) > maxRepeat/count:
		return "", errTooMuch
	}
	return strings.Repeat(text, count), nil
}

func indent(spaces int, text string) (string, error) {
	lines := strings.Count(text, "\n") + 1
	if spaces > maxRepeat/lines {
		return "", errTooMuch
	}
	pad, err := repeat(spaces, " ")
	return pad + strings.ReplaceAll(text, "\n", "\n"+pad), err
}

func until(count int) ([]int, error) {
	if count < 0 {
		return untilStep(0, count, -1)
	}
	return untilStep(0, count, 1)
}

func untilStep(start, stop, step int) ([]int, error) {
	out := []int{}
	for i := start; step > 0 && i < stop || step < 0 && i > stop; i += step {
		if len(out) == maxRepeat {
			return nil, errTooMuch
		}
		out = append(out, i)
	}
	return out, nil
}

// seq counts as the command of that name does: to an end, from a start, by a step.
func seq(params ...int) (string, error) {
	var start, step, end int
	switch len(params) {
	case 1:
		start, end = 1, params[0]
	case 2:
		start, end = params[0], params[1]
	case 3:
		start, step, end = params[0], params[1], params[2]
	default:
		return "", nil
	}
	direction := 1
	if end < start {
		direction = -1
	}
	if step == 0 && len(params) < 3 {
		step = direction
	}
	if step > 0 && direction < 0 {
		return "", nil
	}
	numbers, err := untilStep(start, end+direction, step)
	if err != nil {
		return "", err
	}
	words := make([]string, len(numbers))
	for i, n := range numbers {
		words[i] = strconv.Itoa(n)
	}
	return strings.Join(words, " "), nil
}

// guarded returns a chart that renders as the given one does, under guard. The given one is not changed.
func guarded(c *chart.Chart) *chart.Chart {
	out := *c
	out.Templates = make([]*common.File, len(c.Templates))
	for i, f := range c.Templates {
		if f == nil {
			continue
		}
		steps := *f
		steps.Data = []byte(withSteps(f.Name, string(f.Data)))
		out.Templates[i] = &steps
	}
	var dependencies []*chart.Chart
	for _, d := range c.Dependencies() {
		dependencies = append(dependencies, guarded(d))
	}
	out.SetDependencies(dependencies...)
	return &out
}

// withSteps adds calls of stepFunc to a template. What cannot be parsed is left to Helm, which words the error.
func withSteps(name, text string) string {
	if !strings.Contains(text, "range") && !strings.Contains(text, "define") && !strings.Contains(text, "block") {
		return text
	}
	t := parse.New(name)
	t.Mode = parse.SkipFuncCheck
	trees := map[string]*parse.Tree{}
	if _, err := t.Parse(text, "", "", trees); err != nil {
		return text
	}
	at := map[int]int{} // offset -> text that is written there at least
	for _, tree := range trees {
		if tree.Root == nil {
			continue
		}
		if tree.Name != name {
			at[int(tree.Root.Pos)] = textOf(tree.Root)
		}
		findLoops(tree.Root, at)
	}
	var b strings.Builder
	last := 0
	for _, offset := range sortedKeys(at) {
		b.WriteString(text[last:offset])
		fmt.Fprintf(&b, "{{%s %d}}", stepFunc, at[offset])
		last = offset
	}
	b.WriteString(text[last:])
	return b.String()
}

func sortedKeys(m map[int]int) []int {
	var keys []int
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// findLoops notes where the bodies of loops begin.
func findLoops(list *parse.ListNode, at map[int]int) {
	if list == nil {
		return
	}
	for _, n := range list.Nodes {
		switch n := n.(type) {
		case *parse.RangeNode:
			at[int(n.List.Pos)] = textOf(n.List)
			findLoops(n.List, at)
			findLoops(n.ElseList, at)
		case *parse.IfNode:
			findLoops(n.List, at)
			findLoops(n.ElseList, at)
		case *parse.WithNode:
			findLoops(n.List, at)
			findLoops(n.ElseList, at)
		}
	}
}

// textOf is the size of the text directly in a list.
func textOf(list *parse.ListNode) int {
	size := 0
	for _, n := range list.Nodes {
		if t, ok := n.(*parse.TextNode); ok {
			size += len(t.Text)
		}
	}
	return size
}
