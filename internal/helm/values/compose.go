package values

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"helm.sh/helm/v4/pkg/chart/v2/loader"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
)

const secretKind = "Secret"

// errNoKey is the cause of an Error about an object that lacks the key.
var errNoKey = errors.New("key not found")

// Compose returns the values of a release: those of spec.valuesFrom in their order, later ones over earlier ones, and spec.values over
// all. Maps are merged and lists replaced; a null stays, by which Helm drops a default of the chart (helmrelease 26-29). Each object is
// read once, through reader, from the namespace of obj.
//
// What a targetPath sets inside of a map that spec.values alone holds, stays; everything else of spec.values wins over it. Nobody would
// design this, but 2.9 releases these values, and others would mean an upgrade for whoever comes from there.
//
// Errors are an *Error for a reference that cannot be resolved, the context's, or about spec.values and the limits.
func Compose(ctx context.Context, reader client.Reader, obj *helmv2.HelmRelease, limits Limits) (map[string]any, error) {
	inline, err := inlineOf(obj)
	if err != nil {
		return nil, err
	}
	c := composition{limits: limits, elements: limits.Elements, objects: objects{reader: reader, namespace: obj.Namespace}}
	merged := map[string]any{}
	for i := range obj.Spec.ValuesFrom {
		ref := &obj.Spec.ValuesFrom[i]
		data, err := c.objects.get(ctx, ref)
		if err != nil {
			if known := (*Error)(nil); errors.As(err, &known) && known.Missing && ref.Optional {
				continue
			}
			return nil, err
		}
		if ref.TargetPath == "" {
			merged, err = c.document(merged, data)
		} else {
			// The path sets into the maps of inline where merged has none of its own.
			merged = loader.MergeMaps(merged, inline)
			err = c.set(merged, ref, string(data))
		}
		if err != nil {
			return nil, c.objects.failed(ref, unspoken(ref, err))
		}
		if err := limits.check(merged); err != nil {
			return nil, c.objects.failed(ref, err)
		}
	}
	merged = loader.MergeMaps(merged, inline)
	if err := limits.check(merged); err != nil {
		return nil, err
	}
	return merged, nil
}

// inlineOf returns spec.values.
func inlineOf(obj *helmv2.HelmRelease) (map[string]any, error) {
	if obj.Spec.Values == nil || len(obj.Spec.Values.Raw) == 0 {
		return nil, nil
	}
	var inline map[string]any
	if err := json.Unmarshal(obj.Spec.Values.Raw, &inline); err != nil {
		return nil, fmt.Errorf("spec.values is not a map of values: %w", err)
	}
	return inline, nil
}

// composition is what one call of Compose has left of its limits.
type composition struct {
	limits   Limits
	elements int
	objects  objects
}

// document merges a document of values over what there is.
func (c *composition) document(merged map[string]any, data []byte) (map[string]any, error) {
	values, err := parse(data, c.limits)
	if err != nil {
		return nil, err
	}
	return loader.MergeMaps(merged, values), nil
}

// unspoken replaces an error that may quote what a Secret holds.
func unspoken(ref *helmv2.ValuesReference, err error) error {
	if ref.Kind != secretKind || errors.Is(err, errLimit) {
		return err
	}
	if ref.TargetPath != "" {
		return fmt.Errorf("it cannot be set at '%s'; why is not told, as that would show what the Secret holds: try the value with 'helm template --set'", ref.TargetPath)
	}
	return errors.New("it is not a YAML map of values" + where(err) + "; why is not told, as that would show what the Secret holds: check it with a YAML parser")
}

// objects reads each ConfigMap and Secret once.
type objects struct {
	reader    client.Reader
	namespace string
	read      map[string]map[string][]byte
}

// get returns what a reference refers to. Its errors are an *Error.
func (o *objects) get(ctx context.Context, ref *helmv2.ValuesReference) ([]byte, error) {
	name := ref.Kind + "/" + ref.Name
	data, ok := o.read[name]
	if !ok {
		var err error
		if data, err = o.fetch(ctx, ref); err != nil {
			return nil, err
		}
		if o.read == nil {
			o.read = map[string]map[string][]byte{}
		}
		o.read[name] = data
	}
	content, ok := data[keyOf(ref)]
	if !ok {
		return nil, o.missing(ref, errNoKey)
	}
	return content, nil
}

func (o *objects) fetch(ctx context.Context, ref *helmv2.ValuesReference) (map[string][]byte, error) {
	key := client.ObjectKey{Namespace: o.namespace, Name: ref.Name}
	resource := "configmaps"
	var data map[string][]byte
	var err error
	if ref.Kind == secretKind {
		resource = "secrets"
		var found corev1.Secret
		err = o.reader.Get(ctx, key, &found)
		data = found.Data
	} else {
		var found corev1.ConfigMap
		err = o.reader.Get(ctx, key, &found)
		data = make(map[string][]byte, len(found.Data))
		for k, v := range found.Data {
			data[k] = []byte(v)
		}
	}
	switch {
	case apierrors.IsNotFound(err):
		// The API server's words, whatever the reader says.
		return nil, o.missing(ref, apierrors.NewNotFound(corev1.Resource(resource), ref.Name))
	case err != nil:
		return nil, o.failed(ref, err)
	}
	return data, nil
}

func (o *objects) failed(ref *helmv2.ValuesReference, err error) error {
	return &Error{Kind: ref.Kind, Namespace: o.namespace, Name: ref.Name, Key: keyOf(ref), Optional: ref.Optional, Err: err}
}

func (o *objects) missing(ref *helmv2.ValuesReference, err error) error {
	return &Error{Kind: ref.Kind, Namespace: o.namespace, Name: ref.Name, Key: keyOf(ref), Optional: ref.Optional, Missing: true, Err: err}
}
