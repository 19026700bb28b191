package action

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/json"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// maxObjects bounds the objects of one stream.
const maxObjects = 10_000

// decodeObjects decodes a stream of YAML documents. Lists become their items.
func decodeObjects(reader io.Reader) ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	err := eachDocument(reader, func(doc []byte) error {
		o, err := decodeObject(doc)
		if err != nil || o == nil {
			return err
		}
		return flatten(o, func(o *unstructured.Unstructured) error {
			if len(out) == maxObjects {
				return fmt.Errorf("more than %d objects", maxObjects)
			}
			out = append(out, o)
			return nil
		})
	})
	return out, err
}

// eachDocument calls do for all documents of a stream.
func eachDocument(reader io.Reader, do func(doc []byte) error) error {
	documents := utilyaml.NewYAMLReader(bufio.NewReader(reader))
	for {
		doc, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("error parsing YAML: %w", err)
		}
		if err := do(doc); err != nil {
			return err
		}
	}
}

// decodeObject decodes a document; it is nil when there is nothing in it.
func decodeObject(doc []byte) (*unstructured.Unstructured, error) {
	data, err := yaml.YAMLToJSON(doc)
	if err != nil {
		return nil, fmt.Errorf("error parsing YAML: %w", err)
	}
	if bytes.Equal(data, []byte("null")) {
		return nil, nil
	}
	o := &unstructured.Unstructured{}
	if err := json.Unmarshal(data, &o.Object); err != nil {
		return nil, fmt.Errorf("error parsing YAML: %w", err)
	}
	if len(o.Object) == 0 {
		return nil, nil
	}
	if o.GetKind() == "" || o.GetAPIVersion() == "" {
		return nil, fmt.Errorf("an object has no apiVersion or kind: %q", o.GetName())
	}
	return o, nil
}

// flatten calls do for an object, or for the items of a list.
func flatten(o *unstructured.Unstructured, do func(*unstructured.Unstructured) error) error {
	if !o.IsList() {
		return do(o)
	}
	return o.EachListItem(func(item runtime.Object) error { return do(item.(*unstructured.Unstructured)) })
}
