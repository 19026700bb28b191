package ssa

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/seed-79636ae9/flux/toolkit/kube"
)

func fromYAML(t testing.TB, text string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
		t.Fatal(err)
	}
	return u
}

// kustomization 60, 61, 68
func TestNormalise(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	bundle := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	crd := func(caBundle string) string {
		return "{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: c}, spec: {conversion: {webhook: {clientConfig: {" + caBundle + "}}}}, status: {x: v}}"
	}
	for _, tc := range []struct{ name, in, want string }{
		{
			"a deployment gains the empty structs of its type and default protocols",
			"{apiVersion: apps/v1, kind: Deployment, metadata: {name: a, creationTimestamp: null}, spec: {replicas: 1, selector: {matchLabels: {a: b}}, template: {metadata: {creationTimestamp: null, labels: {a: b}}, spec: {containers: [{name: m, ports: [{containerPort: 80}]}]}}}, status: {replicas: 3}}",
			"{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}, spec: {replicas: 1, strategy: {}, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: m, resources: {}, ports: [{containerPort: 80, protocol: TCP}]}]}}}}",
		},
		{
			"a service's ports",
			"{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 80}, {port: 53, protocol: UDP}]}}",
			"{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 80, targetPort: 0, protocol: TCP}, {port: 53, targetPort: 0, protocol: UDP}]}}",
		},
		{
			"stringData becomes data, and with it goes what is no field of a Secret",
			"{apiVersion: v1, kind: Secret, metadata: {name: a}, data: {x: eA==, z: eg==}, stringData: {x: new, k: v}, sops: {mac: x}}",
			"{apiVersion: v1, kind: Secret, metadata: {name: a}, data: {x: bmV3, k: dg==, z: eg==}}",
		},
		{
			"a Secret without stringData is left (recording sops-decrypt-disabled-annotation)",
			"{apiVersion: v1, kind: Secret, metadata: {name: a}, data: {x: eA==}, sops: {mac: x}}",
			"{apiVersion: v1, kind: Secret, metadata: {name: a}, data: {x: eA==}, sops: {mac: x}}",
		},
		{
			"an unknown field of a ConfigMap is lost",
			"{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {x: v}, unknown: 1}",
			"{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {x: v}}",
		},
		{
			"what does not fit its type is left to the API server (recording substitution-type-change)",
			"{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {x: 42}}",
			"{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {x: 42}}",
		},
		{
			"what a cluster exported",
			"{apiVersion: x.y/v1, kind: Z, metadata: {name: a, uid: u, resourceVersion: '1', generation: 3, managedFields: [], creationTimestamp: '2026-01-01T00:00:00Z', selfLink: /x}, spec: {a: b}, status: {c: d}}",
			"{apiVersion: x.y/v1, kind: Z, metadata: {name: a}, spec: {a: b}}",
		},
		{
			"lists are flattened (recording list-kind-flattened)",
			"{apiVersion: v1, kind: List, items: [{apiVersion: x.y/v1, kind: Z, metadata: {name: a}}, {apiVersion: v1, kind: List, items: [{apiVersion: x.y/v1, kind: Z, metadata: {name: b}}]}]}",
			"{apiVersion: x.y/v1, kind: Z, metadata: {name: a}}\n{apiVersion: x.y/v1, kind: Z, metadata: {name: b}}",
		},
		{"kustomize's own configuration", "{apiVersion: kustomize.config.k8s.io/v1beta1, kind: Kustomization, metadata: {name: a}}", ""},
		{"a definition's placeholder caBundle", crd("caBundle: Cg=="), crd("")},
		{"a definition's broken caBundle", crd("caBundle: '%'"), crd("")},
		{"a definition's caBundle of another type", crd("caBundle: 1"), crd("")},
		{"a definition's certificate", crd("caBundle: " + bundle), crd("caBundle: " + bundle)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Normalise([]*unstructured.Unstructured{fromYAML(t, tc.in)})
			if err != nil {
				t.Fatal(err)
			}
			var want []*unstructured.Unstructured
			for line := range strings.SplitSeq(tc.want, "\n") {
				if line != "" {
					want = append(want, fromYAML(t, line))
				}
			}
			norm := func(list []*unstructured.Unstructured) string {
				var b strings.Builder
				for _, o := range list {
					data, err := yaml.Marshal(o.Object)
					if err != nil {
						t.Fatal(err)
					}
					b.WriteString("---\n" + string(data))
				}
				return b.String()
			}
			if diff := cmp.Diff(norm(want), norm(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	deep := "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}"
	for range maxListDepth + 2 {
		deep = "{apiVersion: v1, kind: List, items: [" + deep + "]}"
	}
	for _, bad := range []string{deep, "{apiVersion: v1, kind: List, items: [1]}"} {
		if _, err := Normalise([]*unstructured.Unstructured{fromYAML(t, bad)}); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}

// kustomization 62, 63
func TestLabel(t *testing.T) {
	own := kube.Ownership{Group: "kustomize.toolkit.fluxcd.io"}
	u := fromYAML(t, "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, labels: {x: own, number: 1}, annotations: {y: own}}}")
	err := Label(u, own, kube.Owner{Namespace: "ns", Name: "app"}, map[string]string{"x": "common", own.NameLabel(): "other"}, map[string]string{"y": "common"})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"x": "common", "number": float64(1), own.NameLabel(): "other", own.NamespaceLabel(): "ns",
	}
	if diff := cmp.Diff(want, u.Object["metadata"].(map[string]any)["labels"]); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	if got := u.GetAnnotations()["y"]; got != "common" {
		t.Errorf("annotation: %s", got)
	}
	bad := fromYAML(t, "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, labels: [x]}}")
	if err := Label(bad, own, kube.Owner{}, nil, nil); err == nil {
		t.Error("labels that are a list are accepted")
	}
}

// reliability O5: what the API server quotes of a Secret does not reach a message.
func TestRedact(t *testing.T) {
	secret := fromYAML(t, "{apiVersion: v1, kind: Secret, metadata: {name: s}, data: {a: c3dvcmRmaXNo, b: 424242, c: x}}")
	for _, tc := range []struct{ text, want string }{
		{`.data.b: expected string, got &value.valueUnstructured{Value:424242}`, `.data.b: expected string, got &value.valueUnstructured{Value:***}`},
		{`got &value.valueUnstructured{Value:map[string]interface {}{"x":"y"}}`, `got &value.valueUnstructured{Value:***}`},
		{`error near "c3dvcmRmaXNo" or swordfish`, `error near "***" or ***`},
		{`max length exceeded`, `max length exceeded`},
		{`cut off &value.valueUnstructured{Value:424`, `cut off &value.valueUnstructured{Value:***`},
	} {
		got := failed(ID{Name: "s", Kind: "Secret"}, secret, "dry-run failed", errors.New(tc.text)).Error()
		if want := "Secret/s dry-run failed: " + tc.want; got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}

// kustomization 71
func TestAdoption(t *testing.T) {
	own := kube.Ownership{Group: "kustomize.toolkit.fluxcd.io", Manager: "kustomize-controller"}
	u := fromYAML(t, `
apiVersion: v1
kind: ConfigMap
metadata:
  name: a
  resourceVersion: "7"
  annotations: {kubectl.kubernetes.io/last-applied-configuration: "{}", keep: x}
  labels: {fluxcd.io/sync-gc-mark: x}
  managedFields:
  - {manager: kubectl, operation: Apply, apiVersion: v1, time: "2026-01-01T00:00:02Z", fieldsType: FieldsV1, fieldsV1: {"f:data": {"f:b": {}}}}
  - {manager: other, operation: Update, apiVersion: v1, time: "2026-01-01T00:00:00Z", fieldsType: FieldsV1, fieldsV1: {"f:data": {"f:c": {}}}}
  - {manager: kustomize-controller, operation: Apply, apiVersion: v1, time: "2026-01-01T00:00:01Z", fieldsType: FieldsV1, fieldsV1: {"f:data": {"f:a": {}}}}
`)
	patch, err := adoption(own, partial(u), "v1")
	if err != nil {
		t.Fatal(err)
	}
	var ops []map[string]any
	if err := yaml.Unmarshal(patch, &ops); err != nil {
		t.Fatal(err)
	}
	want := []map[string]any{
		{"op": "replace", "path": "/metadata/resourceVersion", "value": "7"},
		{"op": "replace", "path": "/metadata/managedFields", "value": []any{
			map[string]any{"manager": "other", "operation": "Update", "apiVersion": "v1", "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": map[string]any{"f:data": map[string]any{"f:c": map[string]any{}}}},
			map[string]any{"manager": "kustomize-controller", "operation": "Apply", "apiVersion": "v1", "time": "2026-01-01T00:00:02Z", "fieldsType": "FieldsV1", "fieldsV1": map[string]any{"f:data": map[string]any{"f:a": map[string]any{}, "f:b": map[string]any{}}}},
		}},
		{"op": "remove", "path": "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration"},
		{"op": "remove", "path": "/metadata/labels/fluxcd.io~1sync-gc-mark"},
	}
	if diff := cmp.Diff(want, ops); diff != "" {
		t.Errorf("patch (-want +got):\n%s", diff)
	}
	clean := fromYAML(t, "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}")
	if patch, err := adoption(own, partial(clean), "v1"); patch != nil || err != nil {
		t.Errorf("nothing to adopt: %s, %v", patch, err)
	}
}

const benchDeployment = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: a, labels: {app: web}}, spec: {replicas: 1, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: m, image: example.com/web:1.0, env: [{name: A, value: b}, {name: C, value: d}], ports: [{containerPort: 80}]}]}}}}"

func BenchmarkNormalise(b *testing.B) {
	u := fromYAML(b, benchDeployment)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Normalise([]*unstructured.Unstructured{u}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkContent(b *testing.B) {
	u := fromYAML(b, benchDeployment)
	lens := kube.NewLens(kube.Ownership{Group: "kustomize.toolkit.fluxcd.io", Manager: "kustomize-controller"})
	b.ReportAllocs()
	for b.Loop() {
		content(lens, u)
	}
}
