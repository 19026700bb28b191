package compat

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/seed-79636ae9/flux/api/meta"
)

// poisons are values of a duration that the schema keeps out, and that are in the store nonetheless when it did not
// always.
func poisons() []any {
	return []any{"1d", "-5s", "1e99h", int64(10), "99999999999h", "", true, map[string]any{"a": "b"}}
}

// TestPoisonedDurations lists and watches each kind while some objects hold unusable durations (reliability 016,
// CVE-2022-39272): all objects arrive, the healthy one is untouched, the others say what is wrong with them.
func TestPoisonedDurations(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := addToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	for _, k := range kinds(t) {
		if _, ok := k.structural.Properties["spec"].Properties["interval"]; !ok {
			continue
		}
		t.Run(k.gvk.Kind, func(t *testing.T) {
			objects := []map[string]any{withDurations(k, "healthy", "10m")}
			for i, poison := range poisons() {
				objects = append(objects, withDurations(k, fmt.Sprintf("poisoned-%d", i), poison))
			}
			c := clientOf(t, scheme, k, objects)

			list, err := scheme.New(k.gvk.GroupVersion().WithKind(k.gvk.Kind + "List"))
			if err != nil {
				t.Fatal(err)
			}
			if err := c.List(t.Context(), list.(client.ObjectList)); err != nil {
				t.Fatalf("list: %v", err)
			}
			items, err := apimeta.ExtractList(list)
			if err != nil {
				t.Fatal(err)
			}
			checkPoisoned(t, "list", objects, items)

			w, err := c.Watch(t.Context(), list.(client.ObjectList))
			if err != nil {
				t.Fatalf("watch: %v", err)
			}
			defer w.Stop()
			items = nil
			for event := range w.ResultChan() {
				if event.Type != watch.Added {
					t.Fatalf("watch: %s event: %v", event.Type, event.Object)
				}
				items = append(items, event.Object)
			}
			checkPoisoned(t, "watch", objects, items)
		})
	}
}

func checkPoisoned(t *testing.T, verb string, sent []map[string]any, got []runtime.Object) {
	t.Helper()
	if len(got) != len(sent) {
		t.Fatalf("%s: got %d objects of %d", verb, len(got), len(sent))
	}
	for i, obj := range got {
		err := obj.(meta.DurationChecker).DurationError()
		// A kind that nobody reconciles has no interval to speak of.
		o, reconciled := obj.(meta.Reconcilable)
		var interval time.Duration
		if reconciled {
			interval = o.GetInterval()
		}
		if i == 0 && (reconciled && interval.Minutes() != 10 || err != nil) {
			t.Errorf("%s: the healthy object has interval %s, error %v", verb, interval, err)
		}
		if i > 0 && (interval != 0 || err == nil) {
			t.Errorf("%s: %s has interval %s, error %v", verb, text(sent[i]["spec"]), interval, err)
		}
		var back map[string]any
		if err := json.Unmarshal([]byte(text(obj)), &back); err != nil {
			t.Fatal(err)
		}
		if want, have := text(sent[i]["spec"]), text(back["spec"]); want != have {
			t.Errorf("%s: spec was %s and is written back as %s", verb, want, have)
		}
	}
}

func withDurations(k kind, name string, value any) map[string]any {
	obj := sample(k, false)
	obj["metadata"] = map[string]any{"name": name, "namespace": "default", "resourceVersion": "1"}
	spec := obj["spec"].(map[string]any)
	for _, field := range []string{"interval", "timeout", "retryInterval"} {
		if _, ok := k.structural.Properties["spec"].Properties[field]; ok {
			spec[field] = value
		}
	}
	return obj
}

// clientOf returns a client of a server that holds objects, answers a list with them, and a watch with one event for each.
func clientOf(t *testing.T, scheme *runtime.Scheme, k kind, objects []map[string]any) client.WithWatch {
	t.Helper()
	apiVersion, name := k.gvk.ToAPIVersionAndKind()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /apis/"+apiVersion+"/"+k.plural, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Query().Get("watch") == "" {
			fmt.Fprint(w, text(map[string]any{
				"apiVersion": apiVersion, "kind": name + "List", "metadata": map[string]any{"resourceVersion": "1"}, "items": objects,
			}))
			return
		}
		for _, obj := range objects {
			fmt.Fprintln(w, text(map[string]any{"type": "ADDED", "object": obj}))
		}
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)

	mapper := apimeta.NewDefaultRESTMapper(nil)
	mapper.Add(k.gvk, apimeta.RESTScopeNamespace)
	c, err := client.NewWithWatch(&rest.Config{Host: server.URL}, client.Options{Scheme: scheme, Mapper: mapper})
	if err != nil {
		t.Fatal(err)
	}
	return c
}
