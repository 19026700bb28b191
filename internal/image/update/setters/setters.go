// Package setters writes images into YAML files, at the scalars whose comments ask for it. It replaces the bytes of those
// scalars and of nothing else: comments, quotes, indentation, order and line ends are the author's.
package setters

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Token is what a file contains that has markers.
const Token = `"$imagepolicy"`

const markerField = "$imagepolicy"

// ErrUnparseable says that a file is no YAML, so that nobody can tell its scalars.
var ErrUnparseable = errors.New("not parseable as YAML")

// Image is what the markers of one policy write.
type Image struct {
	Name, Tag string
	// Digest may be empty; markers that ask for it alone are then left as they are.
	Digest string
}

// Ref is the whole reference, name:tag[@digest] (imageupdateautomation 18).
func (i Image) Ref() string {
	ref := i.Name + ":" + i.Tag
	if i.Digest != "" {
		ref += "@" + i.Digest
	}
	return ref
}

// Object names the object that a YAML document describes. Its fields are empty in a document that is no object.
type Object struct{ APIVersion, Kind, Namespace, Name string }

// Change is one scalar that got another value.
type Change struct {
	// Line is the line of the scalar's marker, from 1.
	Line   int
	Object Object
	// Setter is the text of the marker, such as apps:podinfo:tag.
	Setter   string
	Old, New string
}

// Edit returns content with the images at the marked scalars, and what has changed. The policies of images are named
// <namespace>:<name>; markers of others stay as they are (imageupdateautomation 17, 22). Without a change content itself is
// returned. The error has the property ErrUnparseable, or tells of a scalar that cannot be replaced.
func Edit(content []byte, images map[string]Image) ([]byte, []Change, error) {
	if !bytes.Contains(content, []byte(Token)) {
		return content, nil, nil
	}
	f := newFile(content)
	documents, err := parse(content)
	if err != nil {
		return nil, nil, err
	}
	var edits []edit
	for _, document := range documents {
		object := objectOf(document)
		for _, s := range scalars(document) {
			e, found, err := f.edit(s, images)
			if err != nil {
				return nil, nil, err
			}
			if found {
				e.change.Object = object
				edits = append(edits, e)
			}
		}
	}
	if len(edits) == 0 {
		return content, nil, nil
	}
	edited := apply(content, edits)
	if err := verify(documents, edited, edits); err != nil {
		return nil, nil, err
	}
	changes := make([]Change, len(edits))
	for i, e := range edits {
		changes[i] = e.change
	}
	return edited, changes, nil
}

// edit is the replacement of the bytes of a scalar.
type edit struct {
	node       *yaml.Node
	start, end int
	text       string
	change     Change
}

// apply replaces bytes. Edits are in the order of the file.
func apply(content []byte, edits []edit) []byte {
	out := make([]byte, 0, len(content)+64*len(edits))
	at := 0
	for _, e := range edits {
		out = append(append(out, content[at:e.start]...), e.text...)
		at = e.end
	}
	return append(out, content[at:]...)
}

// parse returns the documents of a file. The parser has panicked on strange input before, and one such file must not stop
// the update of all others.
func parse(content []byte) (documents []*yaml.Node, err error) {
	defer func() {
		if p := recover(); p != nil {
			documents, err = nil, fmt.Errorf("%w: %v", ErrUnparseable, p)
		}
	}()
	for d := yaml.NewDecoder(bytes.NewReader(content)); ; {
		var node yaml.Node
		switch err := d.Decode(&node); {
		case errors.Is(err, io.EOF):
			return documents, nil
		case err != nil:
			return nil, fmt.Errorf("%w: %w", ErrUnparseable, err)
		}
		documents = append(documents, &node)
	}
}

// scalar is a value of a mapping, or an item of a sequence.
type scalar struct {
	node *yaml.Node
	flow bool // between brackets or braces
}

// scalars lists the scalars that may have a marker: all but keys (imageupdateautomation 53).
func scalars(document *yaml.Node) []scalar {
	var out []scalar
	var walk func(n *yaml.Node, flow bool)
	walk = func(n *yaml.Node, flow bool) {
		flow = flow || n.Style&yaml.FlowStyle != 0
		switch n.Kind {
		case yaml.ScalarNode:
			out = append(out, scalar{n, flow})
		case yaml.MappingNode:
			for i := 0; i+1 < len(n.Content); i += 2 {
				// A key that is a collection may hold values of its own.
				if n.Content[i].Kind != yaml.ScalarNode {
					walk(n.Content[i], flow)
				}
				walk(n.Content[i+1], flow)
			}
		case yaml.DocumentNode, yaml.SequenceNode:
			for _, child := range n.Content {
				walk(child, flow)
			}
		}
	}
	walk(document, false)
	return out
}

func objectOf(document *yaml.Node) Object {
	if len(document.Content) == 0 {
		return Object{}
	}
	root := document.Content[0]
	metadata := field(root, "metadata")
	return Object{
		APIVersion: text(field(root, "apiVersion")), Kind: text(field(root, "kind")),
		Namespace: text(field(metadata, "namespace")), Name: text(field(metadata, "name")),
	}
}

func field(n *yaml.Node, name string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	return nil
}

func text(n *yaml.Node) string {
	if n == nil || n.Kind != yaml.ScalarNode {
		return ""
	}
	return n.Value
}

// edit finds what a scalar's marker asks for. Found is false where there is nothing to do.
func (f *file) edit(s scalar, images map[string]Image) (edit, bool, error) {
	// What the parser takes for the comment of a scalar is not always in its line, but none is in its line that the parser does not know.
	if !strings.Contains(s.node.LineComment, Token) {
		return edit{}, false, nil
	}
	span, ok := f.locate(s)
	if !ok {
		return edit{}, false, nil
	}
	setter, ok := marker(span.comment)
	if !ok {
		return edit{}, false, nil
	}
	wanted, ok := lookup(setter, images)
	if !ok || wanted == span.value {
		return edit{}, false, nil
	}
	text, ok := render(s, wanted)
	if !ok {
		return edit{}, false, fmt.Errorf("line %d: the value '%s' of marker '%s' cannot be written here", span.line, wanted, setter)
	}
	return edit{
		node: s.node, start: span.start, end: span.end, text: text,
		change: Change{Line: span.line, Setter: setter, Old: span.value, New: wanted},
	}, true, nil
}

// marker reads a comment that is a marker: nothing but a JSON object with its field.
func marker(comment string) (string, bool) {
	if !strings.Contains(comment, Token) {
		return "", false
	}
	var fields map[string]any
	if err := json.Unmarshal([]byte(strings.TrimLeft(comment, "#")), &fields); err != nil {
		return "", false
	}
	setter, ok := fields[markerField].(string)
	return setter, ok && setter != ""
}

// lookup returns the value that a marker asks for.
func lookup(setter string, images map[string]Image) (string, bool) {
	if image, ok := images[setter]; ok {
		return image.Ref(), true
	}
	end := strings.LastIndexByte(setter, ':')
	if end < 0 {
		return "", false
	}
	image, ok := images[setter[:end]]
	if !ok {
		return "", false
	}
	value := ""
	switch setter[end+1:] {
	case "name":
		value = image.Name
	case "tag":
		value = image.Tag
	case "digest":
		value = image.Digest
	}
	return value, value != ""
}

// verify reads the result again: the edited scalars have to have their new values as texts, and all others the ones they had.
func verify(before []*yaml.Node, edited []byte, edits []edit) error {
	after, err := parse(edited)
	if err != nil {
		return fmt.Errorf("line %d: the file cannot be read with the new values: %w", edits[0].change.Line, err)
	}
	wanted := make(map[*yaml.Node]edit, len(edits))
	for _, e := range edits {
		wanted[e.node] = e
	}
	if len(before) != len(after) {
		return fmt.Errorf("line %d: the file has %d documents with the new values, and %d without", edits[0].change.Line, len(after), len(before))
	}
	for i := range before {
		if err := same(before[i], after[i], wanted); err != nil {
			return err
		}
	}
	return nil
}

func same(before, after *yaml.Node, wanted map[*yaml.Node]edit) error {
	differs := func() error {
		return fmt.Errorf("line %d: the new values would change this line too: use another style of quotes at its marker", before.Line)
	}
	if before.Kind != after.Kind || before.Anchor != after.Anchor || len(before.Content) != len(after.Content) {
		return differs()
	}
	if e, ok := wanted[before]; ok {
		block := before.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0
		value := after.Value
		if block {
			value = strings.Trim(value, "\n")
		}
		if value != e.change.New {
			return differs()
		}
		return nil
	}
	scalar := before.Kind == yaml.ScalarNode || before.Kind == yaml.AliasNode
	if scalar && (before.Value != after.Value || before.Tag != after.Tag) {
		return differs()
	}
	for i := range before.Content {
		if err := same(before.Content[i], after.Content[i], wanted); err != nil {
			return err
		}
	}
	return nil
}
