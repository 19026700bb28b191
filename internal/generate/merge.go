package generate

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// What the aliases of a YAML file may stand for is bounded in number and depth.
const (
	maxNodes = 1_000_000
	maxDepth = 1000
)

// mergeYAML folds the documents of both files, in order, into one: maps merge deeply, the later value wins, lists are
// replaced. The result has its keys sorted (artifactgenerator 44). It works on the parsed text and not on values, so that
// every scalar stays as it is written: what "y" or "010" means is for the reader of the result to say.
func mergeYAML(below, above []byte) ([]byte, error) {
	merged := &yaml.Node{Kind: yaml.MappingNode}
	for _, data := range [][]byte{below, above} {
		if err := fold(merged, data); err != nil {
			return nil, err
		}
	}
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := errors.Join(encoder.Encode(merged), encoder.Close()); err != nil {
		return nil, fmt.Errorf("encode YAML: %w", err)
	}
	return out.Bytes(), nil
}

func fold(into *yaml.Node, data []byte) error {
	documents := yaml.NewDecoder(bytes.NewReader(data))
	reader := flattener{left: maxNodes}
	for {
		var document yaml.Node
		err := documents.Decode(&document)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("decode YAML: %w", err)
		}
		if len(document.Content) == 0 {
			continue
		}
		root, err := reader.flatten(document.Content[0], 0)
		switch {
		case err != nil:
			return err
		case root.Kind == yaml.MappingNode:
			deepMerge(into, root)
		case root.Tag != "!!null":
			return errors.New("the document is no map: only maps can be merged")
		}
	}
}

// flattener counts what it has made of a file.
type flattener struct{ left int }

// flatten copies a node without comments and anchors, with aliases replaced by what they stand for, collections in block
// style and keys sorted.
func (f *flattener) flatten(n *yaml.Node, depth int) (*yaml.Node, error) {
	if f.left--; f.left < 0 || depth > maxDepth {
		return nil, fmt.Errorf("decode YAML: %w: at most %d values in %d levels", ErrLimit, maxNodes, maxDepth)
	}
	if n.Kind == yaml.AliasNode {
		return f.flatten(n.Alias, depth+1)
	}
	out := &yaml.Node{Kind: n.Kind, Tag: n.Tag, Value: n.Value, Style: n.Style &^ yaml.FlowStyle}
	for _, child := range n.Content {
		c, err := f.flatten(child, depth+1)
		if err != nil {
			return nil, err
		}
		out.Content = append(out.Content, c)
	}
	if n.Kind != yaml.MappingNode {
		return out, nil
	}
	return out, sortKeys(out)
}

// sortKeys brings the pairs of a map into the order of their keys, each of which it has once.
func sortKeys(m *yaml.Node) error {
	pairs := slices.Collect(slices.Chunk(m.Content, 2))
	for _, p := range pairs {
		if p[0].Kind != yaml.ScalarNode {
			return errors.New("decode YAML: a key is no scalar")
		}
	}
	slices.SortStableFunc(pairs, func(a, b []*yaml.Node) int { return strings.Compare(a[0].Value, b[0].Value) })
	for i := 1; i < len(pairs); i++ {
		if pairs[i][0].Value == pairs[i-1][0].Value {
			return fmt.Errorf("decode YAML: the key '%s' occurs twice", pairs[i][0].Value)
		}
	}
	m.Content = slices.Concat(pairs...)
	return nil
}

// deepMerge merges two maps with sorted keys.
func deepMerge(into, from *yaml.Node) {
	old := into.Content
	into.Content = make([]*yaml.Node, 0, len(old)+len(from.Content))
	next := from.Content
	for len(old) > 0 || len(next) > 0 {
		switch {
		case len(next) == 0 || len(old) > 0 && old[0].Value < next[0].Value:
			into.Content, old = append(into.Content, old[0], old[1]), old[2:]
		case len(old) == 0 || next[0].Value < old[0].Value:
			into.Content, next = append(into.Content, next[0], next[1]), next[2:]
		default:
			value := next[1]
			if old[1].Kind == yaml.MappingNode && value.Kind == yaml.MappingNode {
				value = old[1]
				deepMerge(value, next[1])
			}
			into.Content = append(into.Content, next[0], value)
			old, next = old[2:], next[2:]
		}
	}
}
