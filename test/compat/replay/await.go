package replay

import (
	"context"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
)

// predicate judges an object; nil stands for an absent one. An unmet predicate says what is missing.
type predicate func(obj *unstructured.Unstructured) (unmet string)

func gone(obj *unstructured.Unstructured) string {
	if obj != nil {
		return "it still exists"
	}
	return ""
}

// await watches one object until the predicate is met or ctx ends.
func await(ctx context.Context, client dynamic.ResourceInterface, name string, met predicate) error {
	selector := fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
	unmet := "it was never seen"
	for {
		list, err := client.List(ctx, metav1.ListOptions{FieldSelector: selector})
		if err != nil {
			return fmt.Errorf("%s: %w", unmet, err)
		}
		var obj *unstructured.Unstructured
		if len(list.Items) > 0 {
			obj = &list.Items[0]
		}
		if unmet = met(obj); unmet == "" {
			return nil
		}
		w, err := client.Watch(ctx, metav1.ListOptions{FieldSelector: selector, ResourceVersion: list.GetResourceVersion()})
		if err != nil {
			return fmt.Errorf("%s: %w", unmet, err)
		}
		done := follow(w, met, &unmet)
		w.Stop()
		if done {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s: %w", unmet, ctx.Err())
		}
	}
}

// follow reads a watch until the predicate is met or the watch ends.
func follow(w watch.Interface, met predicate, unmet *string) bool {
	for event := range w.ResultChan() {
		switch event.Type {
		case watch.Added, watch.Modified:
			*unmet = met(event.Object.(*unstructured.Unstructured))
		case watch.Deleted:
			*unmet = met(nil)
		default:
			return false
		}
		if *unmet == "" {
			return true
		}
	}
	return false
}

// until turns the fields of a wait step into a predicate that wants all of them.
func until(want map[string]any) predicate {
	return func(obj *unstructured.Unstructured) string {
		if want["gone"] == true {
			return gone(obj)
		}
		if obj == nil {
			return "it does not exist"
		}
		for _, key := range sortedKeys(want) {
			if unmet := meets(obj, key, want[key]); unmet != "" {
				return unmet
			}
		}
		return ""
	}
}

func meets(obj *unstructured.Unstructured, key string, value any) string {
	want := fmt.Sprint(value)
	ready := condition(obj, "Ready")
	switch key {
	case "ready":
		return meetsCondition(obj, "Ready", want)
	case "stalled":
		return meetsCondition(obj, "Stalled", want)
	case "reason":
		if got := fmt.Sprint(ready["reason"]); got != want {
			return fmt.Sprintf("the reason of Ready is %q, want %q", got, want)
		}
	case "message":
		if got := fmt.Sprint(ready["message"]); !strings.Contains(got, want) {
			return fmt.Sprintf("the message of Ready is %q, want %q in it", got, want)
		}
	case "handled":
		got, _, _ := unstructured.NestedString(obj.Object, "status", "lastHandledReconcileAt")
		if got != want || ready["status"] == "Unknown" {
			return fmt.Sprintf("lastHandledReconcileAt is %q with Ready %v, want %q", got, ready["status"], want)
		}
	case "revision":
		return meetsRevision(obj, want)
	case "field":
		return meetsField(obj, value)
	default:
		if key[0] >= 'A' && key[0] <= 'Z' {
			return meetsCondition(obj, key, want)
		}
		return fmt.Sprintf("this replayer cannot wait for %q", key)
	}
	return ""
}

func meetsCondition(obj *unstructured.Unstructured, conditionType, want string) string {
	c := condition(obj, conditionType)
	if c == nil {
		return fmt.Sprintf("there is no condition %s, want %s", conditionType, want)
	}
	if c["status"] != want {
		return fmt.Sprintf("%s is %v (%v: %v), want %s", conditionType, c["status"], c["reason"], c["message"], want)
	}
	if observed, _ := c["observedGeneration"].(int64); observed != obj.GetGeneration() {
		return fmt.Sprintf("%s is %s for generation %d, want %d", conditionType, want, observed, obj.GetGeneration())
	}
	return ""
}

func meetsRevision(obj *unstructured.Unstructured, want string) string {
	var seen []string
	for _, path := range [][]string{{"artifact", "revision"}, {"lastAppliedRevision"}, {"lastAttemptedRevision"}} {
		got, _, _ := unstructured.NestedString(obj.Object, append([]string{"status"}, path...)...)
		if got != "" && strings.Contains(got, want) {
			return ""
		}
		seen = append(seen, got)
	}
	return fmt.Sprintf("its revisions are %q, want %q in one", seen, want)
}

func meetsField(obj *unstructured.Unstructured, value any) string {
	pair, ok := value.([]any)
	if !ok || len(pair) != 2 {
		return fmt.Sprintf("this replayer cannot wait for the field %v: want [path, value]", value)
	}
	path, want := fmt.Sprint(pair[0]), fmt.Sprint(pair[1])
	got, found, _ := unstructured.NestedFieldNoCopy(obj.Object, strings.Split(path, ".")...)
	text := fmt.Sprint(got)
	if !found || text == "" || want != "*" && text != want {
		return fmt.Sprintf("%s is %v, want %s", path, got, want)
	}
	return ""
}

// condition finds a condition of the object's status, nil when it has none of that type.
func condition(obj *unstructured.Unstructured, conditionType string) map[string]any {
	list, _, _ := unstructured.NestedSlice(obj.Object, "status", "conditions")
	for _, item := range list {
		if c, ok := item.(map[string]any); ok && c["type"] == conditionType {
			return c
		}
	}
	return nil
}

func ignoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
