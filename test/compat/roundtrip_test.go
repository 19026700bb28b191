package compat

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apimachinery/pkg/runtime"
	runtimeschema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/util/yaml"
	sigsjson "sigs.k8s.io/json"
)

// samples holds objects that were used and seen with Flux 2.9, chosen so that together they have every field that occurs.
const samples = "testdata/roundtrip"

// originRecordings is where the recordings lie when the contract is checked out next to the repository.
const originRecordings = "../../../shared/contract/recordings"

// TestRoundTripOfEveryField builds one object of each kind that has every field of its schema, and one that has only the
// required ones, and sends both through the Go types and back.
func TestRoundTripOfEveryField(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := addToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	for _, k := range kinds(t) {
		for _, all := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s all=%t", k.gvk.Kind, all), func(t *testing.T) {
				obj := sample(k, all)
				if diff := roundTrip(t, scheme, k, obj); diff != "" {
					t.Errorf("the Go types change the object (-before +after):\n%s", diff)
				}
			})
		}
	}
}

// TestRoundTripOfRecordings sends the objects that were used and seen with Flux 2.9 through the Go types and back.
func TestRoundTripOfRecordings(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := addToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	all := kinds(t)
	count := map[string]int{}
	for _, dir := range []string{samples, "testdata/recordings", originRecordings} {
		for _, obj := range recordedObjects(t, dir, all) {
			k := all[runtimeschema.FromAPIVersionAndKind(obj["apiVersion"].(string), obj["kind"].(string))]
			if errs := k.refusals(t, k.stored(obj)); len(errs) > 0 {
				// Recordings hold manifests that are refused on purpose. Samples are there to be used.
				if dir == samples {
					t.Errorf("%s: the API server would refuse %s: %v", dir, text(obj), errs)
				}
				count["refused"]++
				continue
			}
			count[k.gvk.Kind]++
			if diff := roundTrip(t, scheme, k, obj); diff != "" {
				t.Errorf("%s: the Go types change %s (-before +after):\n%s", dir, text(obj), diff)
			}
		}
	}
	for _, k := range all {
		if count[k.gvk.Kind] == 0 {
			t.Errorf("no sample of %s in %s", k.gvk.Kind, samples)
		}
	}
	t.Logf("objects: %v", count)
}

// TestRoundTripKeeps names the values that are easily lost.
func TestRoundTripKeeps(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := addToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	tests := map[string]string{
		"gitrepository 39: an empty ignore is not none": `
apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {name: x}
spec: {url: "https://x", interval: 1m, timeout: 60s, ignore: ""}
status: {observedIgnore: ""}`,
		"ocirepository 29: an empty layer selector is not none": `
apiVersion: source.toolkit.fluxcd.io/v1
kind: OCIRepository
metadata: {name: x}
spec: {url: "oci://x", interval: 1m, timeout: 60s, provider: generic, layerSelector: {}}
status: {observedLayerSelector: {}}`,
		"helmrepository 59: defaults of the controller stay out of the spec": `
apiVersion: source.toolkit.fluxcd.io/v1
kind: HelmRepository
metadata: {name: x}
spec: {url: "https://x", provider: generic}
status: {}`,
		"kustomization 30: an empty inventory is a list": `
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: x}
spec: {interval: 1h0m, prune: false, force: true, sourceRef: {kind: Bucket, name: x}}
status: {inventory: {entries: []}}`,
		"the notation of a duration": `
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: x}
spec: {interval: 0.5h, timeout: 90s, retryInterval: 1m60s, prune: true, force: true, sourceRef: {kind: Bucket, name: x}}
status: {}`,
	}
	all := kinds(t)
	for name, doc := range tests {
		t.Run(name, func(t *testing.T) {
			var obj map[string]any
			if err := yaml.Unmarshal([]byte(doc), &obj); err != nil {
				t.Fatal(err)
			}
			k := all[runtimeschema.FromAPIVersionAndKind(obj["apiVersion"].(string), obj["kind"].(string))]
			if diff := cmp.Diff(obj, throughTypes(t, scheme, k, obj)); diff != "" {
				t.Errorf("(-before +after):\n%s", diff)
			}
		})
	}
}

// roundTrip returns how obj, as stored by the API server, differs after a client has read it into Go types and written it
// back.
func roundTrip(t *testing.T, scheme *runtime.Scheme, k kind, obj map[string]any) string {
	t.Helper()
	before := k.stored(obj)
	after := k.stored(throughTypes(t, scheme, k, before))
	// Go cannot leave out a struct that has no fields set without losing one that is there and empty.
	for _, section := range []string{"spec", "status"} {
		if _, ok := before[section]; !ok {
			if s, _ := after[section].(map[string]any); len(s) == 0 {
				delete(after, section)
			}
		}
	}
	return cmp.Diff(before, after)
}

// throughTypes decodes obj strictly into its Go type and returns what the type encodes to, which must not depend on the
// way: JSON or the converter that clients of unstructured objects use.
func throughTypes(t *testing.T, scheme *runtime.Scheme, k kind, obj map[string]any) map[string]any {
	t.Helper()
	typed, err := scheme.New(k.gvk)
	if err != nil {
		t.Fatal(err)
	}
	strict, err := sigsjson.UnmarshalStrict([]byte(text(obj)), typed)
	if err = errors.Join(append(strict, err)...); err != nil {
		t.Fatalf("decode %s: %v", text(obj), err)
	}
	converted, err := runtime.DefaultUnstructuredConverter.ToUnstructured(typed)
	if err != nil {
		t.Fatal(err)
	}
	var encoded map[string]any
	if err := sigsjson.UnmarshalCaseSensitivePreserveInts([]byte(text(typed)), &encoded); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(encoded, converted); diff != "" {
		t.Errorf("JSON and unstructured differ (-JSON +unstructured):\n%s", diff)
	}
	return encoded
}

// sample makes an object of k with all fields of the schema, or the required ones only.
func sample(k kind, all bool) map[string]any {
	obj := fill(*k.structural, all).(map[string]any)
	for _, section := range []string{"spec", "status"} {
		if s, ok := k.structural.Properties[section]; ok && (all || section == "spec") {
			obj[section] = fill(s, all)
		}
	}
	obj["apiVersion"], obj["kind"] = k.gvk.ToAPIVersionAndKind()
	obj["metadata"] = map[string]any{"name": "x", "namespace": "default"}
	return obj
}

func fill(s schema.Structural, all bool) any {
	if s.ValueValidation != nil && len(s.ValueValidation.Enum) > 0 {
		return s.ValueValidation.Enum[len(s.ValueValidation.Enum)-1].Object
	}
	switch s.Type {
	case "object":
		obj := map[string]any{}
		required := map[string]bool{}
		if s.ValueValidation != nil {
			for _, name := range s.ValueValidation.Required {
				required[name] = true
			}
		}
		for name, child := range s.Properties {
			if all || required[name] {
				obj[name] = fill(child, all)
			}
		}
		if s.AdditionalProperties != nil && s.AdditionalProperties.Structural != nil {
			obj["key"] = fill(*s.AdditionalProperties.Structural, all)
		}
		return obj
	case "array":
		return []any{fill(*s.Items, all)}
	case "integer":
		return int64(7)
	case "boolean":
		return true
	default:
		if s.ValueValidation != nil && s.ValueValidation.Format == "date-time" {
			return "2026-01-02T03:04:05Z"
		}
		for _, text := range []string{"some text", "10m", "https://example.com", "oci://example.com", "sha256:0", "@alias", "@artifact/path"} {
			if s.ValueValidation == nil || regexp.MustCompile(s.ValueValidation.Pattern).MatchString(text) {
				return text
			}
		}
		panic("no sample text matches " + s.ValueValidation.Pattern)
	}
}

// recordedObjects returns every object of one of the kinds in the files below dir: documents of plain YAML files, manifests
// among the inputs of recordings, and objects recordings have observed. A dir that is absent has none.
func recordedObjects(t *testing.T, dir string, all map[runtimeschema.GroupVersionKind]kind) []map[string]any {
	t.Helper()
	var found []map[string]any
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path == dir {
			return nil
		}
		if err != nil || d.IsDir() || filepath.Ext(path) != ".yaml" {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		// Placeholders of the recordings stand where the schema wants a time, a number or a URL.
		content := strings.NewReplacer("<time>", `"2026-01-02T03:04:05Z"`, "<size>", "7", "<digest of the packaged chart>", "sha256:0",
			"${GIT}", "http://git", "${GITS}", "https://git", "${STATIC}", "http://static").Replace(string(data))
		for _, doc := range documents(content) {
			collect(doc, all, &found)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// collect walks v for objects of our kinds, also within text.
func collect(v any, all map[runtimeschema.GroupVersionKind]kind, found *[]map[string]any) {
	switch v := v.(type) {
	case map[string]any:
		if obj, ok := asObject(v, all); ok {
			*found = append(*found, obj)
			return
		}
		for _, child := range v {
			collect(child, all, found)
		}
	case []any:
		for _, child := range v {
			collect(child, all, found)
		}
	case string:
		if strings.Contains(v, "fluxcd.io/") && strings.Contains(v, "\n") {
			for _, doc := range documents(v) {
				collect(doc, all, found)
			}
		}
	}
}

// asObject recognises a manifest by apiVersion and kind, and an observed object of a recording by kind and status.
func asObject(v map[string]any, all map[runtimeschema.GroupVersionKind]kind) (map[string]any, bool) {
	name, _ := v["kind"].(string)
	version, _ := v["apiVersion"].(string)
	if _, ok := v["metadata"]; ok && version != "" {
		_, ok := all[runtimeschema.FromAPIVersionAndKind(version, name)]
		return v, ok
	}
	status, ok := v["status"].(map[string]any)
	if !ok {
		return nil, false
	}
	for gvk, k := range all {
		if gvk.Kind == name {
			obj := sample(k, false)
			if spec, ok := v["spec"].(map[string]any); ok {
				obj["spec"] = spec
			}
			obj["status"] = status
			return obj, true
		}
	}
	return nil, false
}

// documents parses a multi-document YAML text as far as it is YAML. Recordings hold broken manifests on purpose.
func documents(content string) []any {
	var docs []any
	decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(content), 4096)
	for {
		var raw json.RawMessage
		if err := decoder.Decode(&raw); err != nil {
			return docs
		}
		var doc any
		if err := sigsjson.UnmarshalCaseSensitivePreserveInts(raw, &doc); err == nil {
			docs = append(docs, doc)
		}
	}
}

func with(base, more map[string]any) map[string]any {
	for k, v := range more {
		base[k] = v
	}
	return base
}

func textOf(v any) string { return fmt.Sprintf("%T %v", v, v) }

func contains(errs field.ErrorList, text string) bool {
	for _, err := range errs {
		if strings.Contains(err.Error(), text) {
			return true
		}
	}
	return false
}
