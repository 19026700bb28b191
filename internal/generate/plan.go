package generate

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"

	v1beta1 "github.com/seed-79636ae9/flux/api/extensions/v1beta1"
)

// operation is a copy operation that was understood.
type operation struct {
	alias string
	// from is a clean path or glob in the source, "." for all of it.
	from string
	// to is a clean path in the artifact, "." for its root; toDir says that it was written with a slash at its end.
	to    string
	toDir bool
	// strategy is never empty.
	strategy v1beta1.CopyStrategy
	// exclude patterns are tested against paths of the source and relative to base.
	exclude []string
	base    string
}

// maxPattern and maxAlternatives bound exclude patterns and globs: each brace multiplies the ways to match.
const (
	maxPattern      = 1024
	maxAlternatives = 1000
)

// target is the first part of every copy.to.
const target = "@artifact/"

// parse reads a copy operation (artifactgenerator 31, 39).
func parse(c v1beta1.CopyOperation) (operation, error) {
	alias, from, ok := strings.Cut(strings.TrimPrefix(c.From, "@"), "/")
	if !ok || alias == "" || !strings.HasPrefix(c.From, "@") {
		return operation{}, fmt.Errorf("from '%s' is not of the form @alias/path", c.From)
	}
	to, ok := strings.CutPrefix(c.To, target)
	if !ok {
		return operation{}, fmt.Errorf("to '%s' does not begin with %s", c.To, target)
	}
	op := operation{alias: alias, toDir: to == "" || strings.HasSuffix(to, "/"), strategy: c.Strategy, exclude: c.Exclude}
	if op.strategy == "" {
		op.strategy = v1beta1.OverwriteStrategy
	}
	var err error
	if op.from, err = inside(from); err != nil {
		return operation{}, fmt.Errorf("from '%s': %w", c.From, err)
	}
	if op.to, err = inside(to); err != nil {
		return operation{}, fmt.Errorf("to '%s': %w", c.To, err)
	}
	op.base = baseOf(op.from)
	for _, pattern := range c.Exclude {
		if err := checkPattern(pattern); err != nil {
			return operation{}, fmt.Errorf("exclude pattern %w", err)
		}
	}
	return op, op.checkGlob()
}

// checkPattern refuses a pattern of doublestar that is malformed, or that takes an unreasonable time to match.
func checkPattern(pattern string) error {
	if len(pattern) > maxPattern {
		return fmt.Errorf("of %d bytes is longer than the limit of %d", len(pattern), maxPattern)
	}
	if !doublestar.ValidatePattern(pattern) {
		return fmt.Errorf("'%s' is not a valid glob", pattern)
	}
	ways, commas := 1, []int{}
	for _, r := range pattern {
		switch {
		case r == '{':
			commas = append(commas, 0)
		case r == ',' && len(commas) > 0:
			commas[len(commas)-1]++
		case r == '}' && len(commas) > 0:
			ways *= commas[len(commas)-1] + 1
			commas = commas[:len(commas)-1]
		}
		if ways > maxAlternatives {
			return fmt.Errorf("'%s' has more than the limit of %d alternatives", pattern, maxAlternatives)
		}
	}
	return nil
}

// inside cleans a path and refuses one that leads out of its root.
func inside(p string) (string, error) {
	p = path.Clean("./" + strings.TrimLeft(p, "/"))
	if p == ".." || strings.HasPrefix(p, "../") {
		return "", fmt.Errorf("the path leads out of its root: %w", fs.ErrInvalid)
	}
	return p, nil
}

// isGlob tells globs from paths; braces do not count (artifactgenerator 32).
func isGlob(p string) bool { return strings.ContainsAny(p, "*?[]") }

func (op operation) checkGlob() error {
	switch {
	case !isGlob(op.from):
		return nil
	case op.strategy == v1beta1.ExtractStrategy:
		if err := checkPattern(op.from); err != nil {
			return fmt.Errorf("pattern %w", err)
		}
		return nil
	}
	for element := range strings.SplitSeq(op.from, "/") {
		if _, err := path.Match(element, ""); err != nil {
			return fmt.Errorf("pattern '%s' is not a valid glob", op.from)
		}
	}
	return nil
}

// baseOf is what exclude patterns are also relative to: the path itself, and of a glob the elements before the first that
// is one (artifactgenerator 39).
func baseOf(from string) string {
	elements := strings.Split(from, "/")
	if i := slices.IndexFunc(elements, isGlob); i >= 0 {
		elements = elements[:i]
	}
	return path.Clean(strings.Join(elements, "/"))
}

// excludes applies the exclude patterns to a path of the source (artifactgenerator 39).
func (op operation) excludes(p string) bool {
	if len(op.exclude) == 0 {
		return false
	}
	relative := strings.TrimPrefix(p, op.base+"/")
	for _, pattern := range op.exclude {
		if doublestar.MatchUnvalidated(pattern, p) || doublestar.MatchUnvalidated(pattern, relative) {
			return true
		}
		if !strings.Contains(pattern, "/") && doublestar.MatchUnvalidated(pattern, path.Base(p)) {
			return true
		}
	}
	return false
}

// pick is something to copy: a path of the source, what is there, and its place in the artifact below op.to.
type pick struct {
	path  string
	node  *node
	place string
}

// picks returns what the operation copies of a source, in the order of their names, without what is excluded
// (artifactgenerator 33-35, 38, 40). An empty result without an error says that a single path was excluded.
func (op operation) picks(source *node) ([]pick, error) {
	if !isGlob(op.from) {
		n := source.at(op.from)
		switch {
		case n == nil:
			return nil, fmt.Errorf("path '%s' not found in source '%s'", op.from, op.alias)
		case op.from != "." && op.excludes(op.from):
			return nil, nil
		}
		return []pick{{path: op.from, node: n, place: path.Base(op.from)}}, nil
	}
	found := op.matches(source)
	if len(found) == 0 {
		return nil, fmt.Errorf("no files match pattern '%s' in source '%s'", op.from, op.alias)
	}
	kept := found[:0]
	for _, p := range found {
		if !op.excludes(p.path) {
			kept = append(kept, p)
		}
	}
	if len(kept) == 0 {
		return nil, fmt.Errorf("all files that match pattern '%s' in source '%s' are excluded", op.from, op.alias)
	}
	for i := range kept {
		kept[i].place = op.place(kept[i].path)
	}
	return kept, nil
}

// place of a match below op.to: what a pattern "prefix/**" has matched loses as many elements as the prefix has, any
// other match keeps its path (artifactgenerator 34).
func (op operation) place(p string) string {
	prefix, ok := strings.CutSuffix(op.from, "/**")
	if !ok {
		return p
	}
	for range strings.Count(prefix, "/") + 1 {
		_, p, _ = strings.Cut(p, "/")
	}
	return p
}

// matches evaluates the glob: with doublestar for archives to extract, else each element by itself, so that "**" is no
// more than "*" (artifactgenerator 33).
func (op operation) matches(source *node) []pick {
	var found []pick
	if op.strategy == v1beta1.ExtractStrategy {
		start, _ := doublestar.SplitPattern(op.from)
		dir := source.at(start)
		if dir == nil || !dir.isDir() {
			return nil
		}
		_ = dir.walk(start, func(p string, n *node) error {
			if doublestar.MatchUnvalidated(op.from, p) {
				found = append(found, pick{path: p, node: n})
			}
			return nil
		})
		return found
	}
	found = []pick{{path: ".", node: source}}
	for element := range strings.SplitSeq(op.from, "/") {
		var next []pick
		for _, f := range found {
			for _, name := range f.node.candidates(element) {
				next = append(next, pick{path: path.Join(f.path, name), node: f.node.entries[name]})
			}
		}
		found = next
	}
	return found
}

// candidates are the entries whose names match one element of a glob.
func (n *node) candidates(element string) []string {
	if !isGlob(element) && !strings.Contains(element, `\`) {
		if n.entries[element] == nil {
			return nil
		}
		return []string{element}
	}
	var out []string
	for _, name := range n.names() {
		if ok, err := path.Match(element, name); err == nil && ok {
			out = append(out, name)
		}
	}
	return out
}

// isArchive tells by the name what Extract unpacks (artifactgenerator 46).
func isArchive(p string) bool {
	p = strings.ToLower(p)
	return strings.HasSuffix(p, ".tar.gz") || strings.HasSuffix(p, ".tgz")
}
