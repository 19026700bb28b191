package local

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/fake"

	"github.com/seed-79636ae9/flux/api/meta"
)

func image(namespace, name, url string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": ociRepositories().GroupVersion().String(), "kind": "OCIRepository",
		"metadata": map[string]any{"namespace": namespace, "name": name},
		"spec":     map[string]any{"url": url},
	}}
}

// TestRequest: a push is an event for whoever follows what was pushed, in any namespace, and for nobody else.
func TestRequest(t *testing.T) {
	const url = "oci://127.0.0.1:5000/team/app"
	client := fake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(),
		map[schema.GroupVersionResource]string{ociRepositories(): "OCIRepositoryList"},
		image("a", "one", url), image("b", "two", url), image("a", "other", url+"2"))
	o := &objects{client: client}
	if err := o.request(t.Context(), ociRepositories(), url, "now"); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ namespace, name, want string }{{"a", "one", "now"}, {"b", "two", "now"}, {"a", "other", ""}} {
		u, err := client.Resource(ociRepositories()).Namespace(test.namespace).Get(t.Context(), test.name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got := u.GetAnnotations()[meta.ReconcileRequestAnnotation]; got != test.want {
			t.Errorf("%s/%s is asked by %q, want %q", test.namespace, test.name, got, test.want)
		}
	}
}

func TestEstablished(t *testing.T) {
	with := func(status string) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{"status": map[string]any{"conditions": []any{
			map[string]any{"type": "NamesAccepted", "status": "True"}, map[string]any{"type": "Established", "status": status},
		}}}}
	}
	if !established(with("True")) || established(with("False")) || established(&unstructured.Unstructured{Object: map[string]any{}}) {
		t.Error("established does not read the condition")
	}
}
