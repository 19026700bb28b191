package drift

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/json"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/seed-79636ae9/flux/toolkit/kube"
	"github.com/seed-79636ae9/flux/toolkit/ssa"
)

// Limits of a manifest. Charts are not trusted, and neither is who may write Helm's storage.
const (
	maxManifest  = 64 << 20
	maxObjects   = 10_000
	maxListDepth = 8
)

// Objects reads a manifest as Helm stores it, in its order, which is that of application. Lists become their items; objects that
// only a server can name are left out, since nobody can say which one is meant. Objects of namespaced kinds without a namespace get
// the given one. Without a mapper no kind is looked up and the namespaces stay as they are. An error names the object, or the
// limit.
func Objects(ctx context.Context, manifest, namespace string, mapper *kube.Mapper) ([]*unstructured.Unstructured, error) {
	if len(manifest) > maxManifest {
		return nil, fmt.Errorf("the manifest has %d bytes, more than %d: split the chart", len(manifest), maxManifest)
	}
	r := reader{}
	documents := utilyaml.NewYAMLReader(bufio.NewReader(strings.NewReader(manifest)))
	for {
		doc, err := documents.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = r.document(doc)
		}
		if err != nil {
			return nil, err
		}
	}
	if mapper == nil {
		return r.objects, nil
	}
	for _, o := range r.objects {
		res, err := mapper.Resource(ctx, o.GroupVersionKind())
		switch {
		case err != nil:
			return nil, ssa.NewObjectError(o, "lookup failed", err)
		case !res.Namespaced:
			o.SetNamespace("")
		case o.GetNamespace() == "":
			o.SetNamespace(namespace)
		}
	}
	return r.objects, nil
}

// reader collects the objects of documents.
type reader struct{ objects []*unstructured.Unstructured }

func (r *reader) document(doc []byte) error {
	data, err := yaml.YAMLToJSON(doc)
	if err != nil {
		return fmt.Errorf("the manifest is no YAML: %w", err)
	}
	if bytes.Equal(data, []byte("null")) {
		return nil
	}
	o := &unstructured.Unstructured{}
	if err := json.Unmarshal(data, &o.Object); err != nil {
		return fmt.Errorf("the manifest holds something that is no object: %w", err)
	}
	if len(o.Object) == 0 {
		return nil
	}
	return r.add(o, 0)
}

func (r *reader) add(o *unstructured.Unstructured, depth int) error {
	switch {
	case o.GetKind() == "" || o.GetAPIVersion() == "":
		return fmt.Errorf("object %q of the manifest has no apiVersion or kind", o.GetName())
	case depth > maxListDepth:
		return fmt.Errorf("%s of the manifest nests lists deeper than %d", o.GetKind(), maxListDepth)
	case o.IsList():
		return o.EachListItem(func(item runtime.Object) error { return r.add(item.(*unstructured.Unstructured), depth+1) })
	case o.GetName() == "" && o.GetGenerateName() != "":
		return nil
	case o.GetName() == "":
		return fmt.Errorf("a %s of the manifest has no name", o.GetKind())
	case len(r.objects) == maxObjects:
		return fmt.Errorf("the manifest has more than %d objects: split the chart", maxObjects)
	}
	r.objects = append(r.objects, o)
	return nil
}
