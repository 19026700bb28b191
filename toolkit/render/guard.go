package render

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// guardDepth is how deep YAML inside of strings of YAML is looked at: a patch inside of a transformer inside of a
// kustomization file is two.
const guardDepth = 4

// documentMark is where kustomize splits a file into documents.
var documentMark = regexp.MustCompile(`\n---.*\n`)

// mayAlias is false only for text without an anchor or without an alias, escaped ones in strings included.
func mayAlias(text string) bool {
	if strings.Contains(text, `\x2`) || strings.Contains(text, `\u002`) || strings.Contains(text, `\U0000002`) {
		return true
	}
	return strings.IndexByte(text, '&') >= 0 && strings.IndexByte(text, '*') >= 0
}

// guard refuses YAML that would exhaust the process. Kustomize replaces every alias by a copy of what it stands for:
// a few lines can grow to gigabytes, and an alias inside of its own anchor never ends (kustomization 37).
func (l Limits) guard(content []byte) error {
	if n := bytes.Count(content, []byte("\n---")); n >= l.Documents {
		return fmt.Errorf("the file has more than %d YAML documents", l.Documents)
	}
	return l.guardText(string(content), guardDepth)
}

func (l Limits) guardText(text string, depth int) error {
	if depth == 0 || !mayAlias(text) {
		return nil
	}
	text = strings.ReplaceAll(text, "\r\n", "\n")
	for _, doc := range documentMark.Split(text, -1) {
		var node yaml.Node
		if err := yaml.Unmarshal([]byte(doc), &node); err != nil {
			continue // not YAML: kustomize fails on it before it looks at aliases
		}
		m := measure{limit: l.Nodes, sizes: map[*yaml.Node]int{}, open: map[*yaml.Node]bool{}}
		if _, err := m.size(&node); err != nil {
			return err
		}
		for _, s := range m.texts {
			if err := l.guardText(s, depth-1); err != nil {
				return err
			}
		}
	}
	return nil
}

type measure struct {
	limit int
	sizes map[*yaml.Node]int
	open  map[*yaml.Node]bool
	texts []string
}

var errSelfAlias = errors.New("a YAML alias stands inside of the anchor it names")

// size counts the nodes a node expands to.
func (m *measure) size(n *yaml.Node) (int, error) {
	if s, ok := m.sizes[n]; ok {
		return s, nil
	}
	if m.open[n] {
		return 0, errSelfAlias
	}
	m.open[n] = true
	defer delete(m.open, n)
	total := 1
	children := n.Content
	if n.Kind == yaml.AliasNode {
		children = []*yaml.Node{n.Alias}
	}
	if n.Kind == yaml.ScalarNode && mayAlias(n.Value) {
		m.texts = append(m.texts, n.Value)
	}
	for _, c := range children {
		s, err := m.size(c)
		if err != nil {
			return 0, err
		}
		if total += s; total > m.limit {
			return 0, fmt.Errorf("the YAML aliases expand to more than %d nodes", m.limit)
		}
	}
	m.sizes[n] = total
	return total, nil
}
