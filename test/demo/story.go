package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
)

// patience is how long anything in the story may take to happen.
const patience = time.Minute

type chapter struct {
	title string
	tell  func(d *demo, ctx context.Context) error
}

// story is the README's walk-through.
func story() []chapter {
	return []chapter{
		{"1. Start: a control plane, a Git server, the controllers, and a repository to follow", (*demo).start},
		{"2. Change: a push is applied", (*demo).change},
		{"3. Drift: a change made by hand is put right", (*demo).drift},
		{"4. Remove: what leaves the repository leaves the cluster", (*demo).remove},
		{"5. Break: an error is told, and nothing else is touched", (*demo).breakIt},
		{"6. Pause: suspended work waits, resumed work catches up", (*demo).pause},
		{"7. Look back: what belongs to what, and what happened", (*demo).lookBack},
		{"8. Other sources: an artifact in a registry", (*demo).registry},
		{"9. Other sources: charts, from Git and from a Helm repository", (*demo).charts},
		{"10. Releases: a chart is released and upgraded, and what fails is rolled back", (*demo).releases},
		{"11. Tell: a webhook hears of a change", (*demo).notify},
		{"12. Images: a tag becomes a commit, and the commit a rollout", (*demo).images},
		{"13. Stop", (*demo).stop},
	}
}

const (
	deploymentFile = "apps/web/deployment.yaml"
	greetingFile   = "apps/greeting.yaml"
)

// object names an object of the story.
type object struct {
	resource        schema.GroupVersionResource
	namespace, name string
}

func (o object) String() string { return o.resource.Resource + "/" + o.name }

func deployment() object {
	return object{schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}, "demo", "web"}
}

func greeting() object {
	return object{schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}, "demo", "greeting"}
}

func kustomization() object {
	return object{schema.GroupVersionResource{Group: "kustomize.toolkit.fluxcd.io", Version: "v1", Resource: "kustomizations"}, "flux-system", "flux-system"}
}

func repository() object {
	return object{schema.GroupVersionResource{Group: "source.toolkit.fluxcd.io", Version: "v1", Resource: "gitrepositories"}, "flux-system", "flux-system"}
}

func (d *demo) start(ctx context.Context) error {
	if err := d.begin(ctx); err != nil {
		return err
	}
	if _, err := d.runFlux(ctx, "get", "all"); err != nil {
		return err
	}
	if err := d.until(ctx, deployment(), "two replicas are ready", replicas(2)); err != nil {
		return err
	}
	return d.until(ctx, greeting(), "the ConfigMap is there", present)
}

func (d *demo) change(ctx context.Context) error {
	if err := d.edit(deploymentFile, "replicas: 2", "replicas: 3"); err != nil {
		return err
	}
	if err := d.push(ctx, "Scale up"); err != nil {
		return err
	}
	return d.until(ctx, deployment(), "three replicas are ready", replicas(3))
}

func (d *demo) drift(ctx context.Context) error {
	d.say("$ kubectl -n demo scale deployment web --replicas=1")
	scaled, err := d.client.Resource(deployment().resource).Namespace("demo").Patch(ctx, "web", types.MergePatchType,
		[]byte(`{"spec":{"replicas":1}}`), metav1.PatchOptions{FieldManager: "by-hand"})
	if err != nil {
		return err
	}
	if n := number(scaled, "spec", "replicas"); n != 1 {
		return fmt.Errorf("the change by hand had no effect: replicas is %d", n)
	}
	return d.until(ctx, deployment(), "three replicas again", replicas(3))
}

func (d *demo) remove(ctx context.Context) error {
	if err := d.runGit(ctx, "rm", "--quiet", greetingFile); err != nil {
		return err
	}
	if err := d.push(ctx, "Remove the greeting"); err != nil {
		return err
	}
	if err := d.until(ctx, greeting(), "the ConfigMap is gone", absent); err != nil {
		return err
	}
	return d.until(ctx, deployment(), "the Deployment is still there", present)
}

func (d *demo) breakIt(ctx context.Context) error {
	before, err := d.get(ctx, deployment())
	if err != nil {
		return err
	}
	if err := d.edit(deploymentFile, "replicas: 3", "replicas: many"); err != nil {
		return err
	}
	if err := d.push(ctx, "Break the Deployment"); err != nil {
		return err
	}
	// The whole set is tried before anything is written, so the error must leave the objects alone.
	if err := d.until(ctx, kustomization(), "the error is on the Kustomization", func(u *unstructured.Unstructured) bool {
		status, message := readiness(u)
		return status == "False" && strings.Contains(message, "replicas")
	}); err != nil {
		return err
	}
	if _, err := d.runFlux(ctx, "get", "kustomizations"); err != nil {
		return err
	}
	after, err := d.get(ctx, deployment())
	if err != nil {
		return err
	}
	if before.GetGeneration() != after.GetGeneration() || before.GetUID() != after.GetUID() {
		return errors.New("the broken commit touched the Deployment")
	}
	d.say("✔ the Deployment was not touched")
	if err := d.runGit(ctx, "revert", "--no-edit", "HEAD"); err != nil {
		return err
	}
	if err := d.runGit(ctx, "push", "--quiet"); err != nil {
		return err
	}
	return d.until(ctx, kustomization(), "the Kustomization is ready again", ready)
}

func (d *demo) pause(ctx context.Context) error {
	if _, err := d.runFlux(ctx, "suspend", "kustomization", "flux-system"); err != nil {
		return err
	}
	if err := d.edit(deploymentFile, "replicas: 3", "replicas: 4"); err != nil {
		return err
	}
	if err := d.push(ctx, "Scale up while suspended"); err != nil {
		return err
	}
	head, err := d.head()
	if err != nil {
		return err
	}
	if err := d.until(ctx, repository(), "the source has the new commit", func(u *unstructured.Unstructured) bool {
		if u == nil {
			return false
		}
		revision, _, _ := unstructured.NestedString(u.Object, "status", "artifact", "revision")
		return strings.HasSuffix(revision, head)
	}); err != nil {
		return err
	}
	u, err := d.get(ctx, deployment())
	if err != nil {
		return err
	}
	if n := number(u, "spec", "replicas"); n != 3 {
		return fmt.Errorf("a suspended Kustomization applied a change: replicas is %d", n)
	}
	d.say("✔ still three replicas")
	if _, err := d.runFlux(ctx, "resume", "kustomization", "flux-system"); err != nil {
		return err
	}
	return d.until(ctx, deployment(), "four replicas are ready", replicas(4))
}

func (d *demo) lookBack(ctx context.Context) error {
	tree, err := d.runFlux(ctx, "tree", "kustomization", "flux-system")
	if err != nil {
		return err
	}
	for _, want := range []string{"Namespace/demo", "Deployment/demo/web", "Service/demo/web"} {
		if !strings.Contains(tree, want) {
			return fmt.Errorf("flux tree does not show %s", want)
		}
	}
	events, err := d.runFlux(ctx, "events")
	if err != nil {
		return err
	}
	for _, want := range []string{"Deployment/demo/web configured", "ConfigMap/demo/greeting deleted"} {
		if !strings.Contains(events, want) {
			return fmt.Errorf("flux events does not tell %q", want)
		}
	}
	return nil
}

func (d *demo) stop(ctx context.Context) error {
	if err := d.end(ctx); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(d.dir, "data")); !errors.Is(err, os.ErrNotExist) {
		return errors.New("flux down left data behind")
	}
	if _, err := os.Stat(filepath.Join(d.clone, deploymentFile)); err != nil {
		return fmt.Errorf("flux down took the repository with it: %w", err)
	}
	d.say("✔ nothing is left but the repository")
	return nil
}

// head is the commit the clone is at.
func (d *demo) head() (string, error) {
	content, err := os.ReadFile(filepath.Join(d.clone, ".git", "refs", "heads", "main"))
	return strings.TrimSpace(string(content)), err
}

func (d *demo) get(ctx context.Context, o object) (*unstructured.Unstructured, error) {
	return d.client.Resource(o.resource).Namespace(o.namespace).Get(ctx, o.name, metav1.GetOptions{})
}

// until watches an object until it is as told. The object is nil while it does not exist.
func (d *demo) until(ctx context.Context, o object, what string, holds func(*unstructured.Unstructured) bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	start := time.Now()
	client := d.client.Resource(o.resource).Namespace(o.namespace)
	options := metav1.ListOptions{FieldSelector: "metadata.name=" + o.name}
	list, err := client.List(ctx, options)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	var now *unstructured.Unstructured
	if len(list.Items) > 0 {
		now = &list.Items[0]
	}
	if !holds(now) {
		_, err = watchtools.Until(ctx, list.GetResourceVersion(), &cache.ListWatch{WatchFunc: func(from metav1.ListOptions) (watch.Interface, error) {
			from.FieldSelector = options.FieldSelector
			return client.Watch(ctx, from)
		}}, func(e watch.Event) (bool, error) {
			u, ok := e.Object.(*unstructured.Unstructured)
			if !ok {
				return false, fmt.Errorf("watch %s: %v", o, e.Object)
			}
			if now = u; e.Type == watch.Deleted {
				now = nil
			}
			return holds(now), nil
		})
	}
	if err != nil {
		return fmt.Errorf("%s: not within %s, and now %s is %s: %w", what, patience, o, describe(now), err)
	}
	d.say("✔ %s (%s)", what, time.Since(start).Round(10*time.Millisecond))
	return nil
}

func describe(u *unstructured.Unstructured) string {
	if u == nil {
		return "absent"
	}
	if status, message := readiness(u); status != "" {
		return fmt.Sprintf("Ready=%s: %s", status, message)
	}
	return fmt.Sprintf("at generation %d", u.GetGeneration())
}

func present(u *unstructured.Unstructured) bool { return u != nil }
func absent(u *unstructured.Unstructured) bool  { return u == nil }

func ready(u *unstructured.Unstructured) bool {
	if u == nil {
		return false
	}
	status, _ := readiness(u)
	observed := number(u, "status", "observedGeneration")
	return status == "True" && observed == u.GetGeneration()
}

// replicas holds when a Deployment wants n pods and has them, ready.
func replicas(n int64) func(*unstructured.Unstructured) bool {
	return func(u *unstructured.Unstructured) bool {
		return u != nil && number(u, "spec", "replicas") == n && number(u, "status", "readyReplicas") == n &&
			number(u, "status", "observedGeneration") == u.GetGeneration()
	}
}

func number(u *unstructured.Unstructured, path ...string) int64 {
	n, _, _ := unstructured.NestedInt64(u.Object, path...)
	return n
}

// readiness returns status and message of the Ready condition.
func readiness(u *unstructured.Unstructured) (status, message string) { return condition(u, "Ready") }

func condition(u *unstructured.Unstructured, conditionType string) (status, message string) {
	if u == nil {
		return "", ""
	}
	conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, c := range conditions {
		c, _ := c.(map[string]any)
		if c["type"] == conditionType {
			status, _ = c["status"].(string)
			message, _ = c["message"].(string)
		}
	}
	return status, message
}
