// Package oracle judges what a controller did to a cluster, whatever happened to it meanwhile: from
// the requests it made through a fault-injecting proxy, and from what is on the cluster afterwards.
// It knows nothing of how the controller works and shares no code with it.
//
// The oracles are those of the reliability catalogue: O1 converge and rest, O2 no collateral delete,
// O3 no orphan.
package oracle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"

	"github.com/seed-79636ae9/flux/internal/testkit/apiproxy"
)

// Kind is a kind of owners: objects that keep an inventory of what they apply and label it.
type Kind struct {
	// Group is the API group of the owners and the prefix of their labels.
	Group string
	// Resource of the owners.
	Resource schema.GroupVersionResource
	// Sources are the resources that owners name in spec.sourceRef, by kind; nil where they do not.
	Sources map[string]schema.GroupVersionResource
}

// Kustomizations are the owners of kustomize-controller.
func Kustomizations() Kind {
	sources := schema.GroupVersion{Group: "source.toolkit.fluxcd.io", Version: "v1"}
	group := "kustomize.toolkit.fluxcd.io"
	return Kind{
		Group:    group,
		Resource: schema.GroupVersionResource{Group: group, Version: "v1", Resource: "kustomizations"},
		Sources: map[string]schema.GroupVersionResource{
			"GitRepository": sources.WithResource("gitrepositories"),
			"OCIRepository": sources.WithResource("ocirepositories"),
			"Bucket":        sources.WithResource("buckets"),
		},
	}
}

// HelmReleases are the owners of helm-controller. What they apply follows from more than a revision of a source, so that what a Law says of
// them does not depend on one.
func HelmReleases() Kind {
	group := "helm.toolkit.fluxcd.io"
	return Kind{Group: group, Resource: schema.GroupVersionResource{Group: group, Version: "v2", Resource: "helmreleases"}}
}

// Owner names one owner.
type Owner struct{ Namespace, Name string }

func (o Owner) String() string { return o.Namespace + "/" + o.Name }

// Judge looks at a cluster with rights of its own, not through the proxy.
type Judge struct {
	kind     Kind
	dynamic  dynamic.Interface
	metadata metadata.Interface
	mapper   *restmapper.DeferredDiscoveryRESTMapper
	found    discovery.DiscoveryInterface
}

// NewJudge makes a judge of the owners of a kind.
func NewJudge(config *rest.Config, kind Kind) (*Judge, error) {
	j := &Judge{kind: kind}
	var err error
	if j.dynamic, err = dynamic.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("creating the judge's client: %w", err)
	}
	if j.metadata, err = metadata.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("creating the judge's client: %w", err)
	}
	if j.found, err = discovery.NewDiscoveryClientForConfig(config); err != nil {
		return nil, fmt.Errorf("creating the judge's client: %w", err)
	}
	j.mapper = restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(j.found))
	return j, nil
}

// ID is the inventory id of an object (kustomization 78).
func ID(o metav1.Object, gvk schema.GroupVersionKind) string {
	return fmt.Sprintf("%s_%s_%s_%s", o.GetNamespace(), strings.ReplaceAll(o.GetName(), ":", "__"), gvk.Group, gvk.Kind)
}

// IDs are those of a set of objects.
func IDs(objects []*unstructured.Unstructured) map[string]bool {
	out := map[string]bool{}
	for _, o := range objects {
		out[ID(o, o.GroupVersionKind())] = true
	}
	return out
}

// Owner of an object by its labels; the zero Owner when it has none.
func (j *Judge) owner(o metav1.Object) Owner {
	l := o.GetLabels()
	return Owner{Namespace: l[j.kind.Group+"/namespace"], Name: l[j.kind.Group+"/name"]}
}

// Inventory returns the ids in an owner's status, sorted; nothing for an owner that is gone.
func (j *Judge) Inventory(ctx context.Context, owner Owner) ([]string, error) {
	o, err := j.dynamic.Resource(j.kind.Resource).Namespace(owner.Namespace).Get(ctx, owner.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the inventory of %s: %w", owner, err)
	}
	return inventory(o), nil
}

func inventory(o *unstructured.Unstructured) []string {
	entries, _, _ := unstructured.NestedSlice(o.Object, "status", "inventory", "entries")
	var ids []string
	for _, e := range entries {
		m, _ := e.(map[string]any)
		id, _ := m["id"].(string)
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// Converged is the first half of O1: the owner is Ready at the revision, its inventory holds exactly
// the rendered objects, and each of them is on the cluster as rendered, carries the owner's labels
// and is not being deleted. The error lists all that is not so.
func (j *Judge) Converged(ctx context.Context, owner Owner, revision string, rendered []*unstructured.Unstructured) error {
	o, err := j.dynamic.Resource(j.kind.Resource).Namespace(owner.Namespace).Get(ctx, owner.Name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("O1: reading %s: %w", owner, err)
	}
	var wrong []error
	fail := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf("O1: "+format, args...)) }
	if applied, _, _ := unstructured.NestedString(o.Object, "status", "lastAppliedRevision"); applied != revision {
		fail("%s has applied revision %q, want %q", owner, applied, revision)
	}
	if observed, _, _ := unstructured.NestedInt64(o.Object, "status", "observedGeneration"); observed != o.GetGeneration() {
		fail("%s has observed generation %d of %d", owner, observed, o.GetGeneration())
	}
	if status, message := Condition(o, "Ready"); status != "True" {
		fail("%s has Ready=%s: %s", owner, status, message)
	}
	want := IDs(rendered)
	have := inventory(o)
	for _, id := range have {
		if !want[id] {
			fail("%s is in the inventory of %s, but not in the rendered set", id, owner)
		}
	}
	for id := range want {
		if !slices.Contains(have, id) {
			fail("%s is in the rendered set, but not in the inventory of %s", id, owner)
		}
	}
	for _, r := range rendered {
		if err := j.AsRendered(ctx, owner, r); err != nil {
			fail("%w", err)
		}
	}
	slices.SortFunc(wrong, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
	return errors.Join(wrong...)
}

// Condition returns status and message of a condition; "" when there is none.
func Condition(o *unstructured.Unstructured, conditionType string) (status, message string) {
	conditions, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	for _, c := range conditions {
		m, _ := c.(map[string]any)
		if m["type"] == conditionType {
			status, _ = m["status"].(string)
			message, _ = m["message"].(string)
		}
	}
	return status, message
}

// AsRendered reports why the object that was rendered is not on the cluster as it was, with the owner's labels, to stay.
func (j *Judge) AsRendered(ctx context.Context, owner Owner, r *unstructured.Unstructured) error {
	id := ID(r, r.GroupVersionKind())
	live, err := j.Live(ctx, r)
	switch {
	case apierrors.IsNotFound(err):
		return fmt.Errorf("%s is lost", id)
	case err != nil:
		return fmt.Errorf("reading %s: %w", id, err)
	case live.GetDeletionTimestamp() != nil:
		return fmt.Errorf("%s is being deleted", id)
	case j.owner(live) != owner:
		return fmt.Errorf("%s carries the labels of %q, want those of %s", id, j.owner(live), owner)
	}
	if path := missing(r.Object, live.Object, ""); path != "" {
		return fmt.Errorf("%s differs from what was rendered in %s", id, path)
	}
	return nil
}

// Live reads the object that a rendered one describes.
func (j *Judge) Live(ctx context.Context, o *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	gvk := o.GroupVersionKind()
	m, err := j.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if meta.IsNoMatchError(err) {
		j.mapper.Reset()
		m, err = j.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	}
	if err != nil {
		return nil, err
	}
	if m.Scope.Name() == meta.RESTScopeNameRoot {
		return j.dynamic.Resource(m.Resource).Get(ctx, o.GetName(), metav1.GetOptions{})
	}
	return j.dynamic.Resource(m.Resource).Namespace(o.GetNamespace()).Get(ctx, o.GetName(), metav1.GetOptions{})
}

// missing returns the path of a value of want that have lacks or has otherwise; "" when there is none.
func missing(want, have any, path string) string {
	w, isMap := want.(map[string]any)
	if !isMap {
		if reflect.DeepEqual(want, have) {
			return ""
		}
		return path
	}
	h, _ := have.(map[string]any)
	for _, key := range sortedKeys(w) {
		if p := missing(w[key], h[key], path+"."+key); p != "" {
			return p
		}
	}
	return ""
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// Orphans is O3: the ids of live objects that carry the owner's labels and are not in its inventory,
// under any of the ids that an object may have: some kinds are served by two groups. Objects that are
// being deleted do not count. It looks at the given resources; nil means all that the API server lists.
func (j *Judge) Orphans(ctx context.Context, owner Owner, resources []schema.GroupVersionResource) ([]string, error) {
	known, err := j.Inventory(ctx, owner)
	if err != nil {
		return nil, err
	}
	live, err := j.labelled(ctx, owner, resources)
	if err != nil {
		return nil, err
	}
	var orphans []string
	for _, ids := range live {
		if !slices.ContainsFunc(ids, func(id string) bool { return slices.Contains(known, id) }) {
			orphans = append(orphans, ids...)
		}
	}
	slices.Sort(orphans)
	return orphans, nil
}

// labelled returns the ids of live objects that carry the owner's labels and are not being deleted.
func (j *Judge) labelled(ctx context.Context, owner Owner, resources []schema.GroupVersionResource) (map[types.UID][]string, error) {
	if resources == nil {
		var err error
		if resources, err = j.listable(); err != nil {
			return nil, err
		}
	}
	selector := labels.Set{j.kind.Group + "/namespace": owner.Namespace, j.kind.Group + "/name": owner.Name}.String()
	ids := map[types.UID][]string{}
	for _, gvr := range resources {
		list, err := j.metadata.Resource(gvr).List(ctx, metav1.ListOptions{LabelSelector: selector})
		if apierrors.IsNotFound(err) {
			continue // a kind that is gone has no objects
		}
		if err != nil {
			return nil, fmt.Errorf("listing %s: %w", gvr.GroupResource(), err)
		}
		for i := range list.Items {
			o := &list.Items[i]
			if o.DeletionTimestamp != nil {
				continue
			}
			gvk, err := j.kindOf(gvr)
			if err != nil {
				return nil, err
			}
			ids[o.UID] = append(ids[o.UID], ID(o, gvk))
		}
	}
	return ids, nil
}

// kindOf names the kind of a resource; lists of metadata do not.
func (j *Judge) kindOf(gvr schema.GroupVersionResource) (schema.GroupVersionKind, error) {
	gvk, err := j.mapper.KindFor(gvr)
	if meta.IsNoMatchError(err) {
		j.mapper.Reset()
		gvk, err = j.mapper.KindFor(gvr)
	}
	if err != nil {
		return gvk, fmt.Errorf("finding the kind of %s: %w", gvr, err)
	}
	return gvk, nil
}

func (j *Judge) listable() ([]schema.GroupVersionResource, error) {
	lists, err := j.found.ServerPreferredResources()
	if err != nil {
		return nil, fmt.Errorf("discovering what can be listed: %w", err)
	}
	var out []schema.GroupVersionResource
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return nil, fmt.Errorf("discovering what can be listed: %w", err)
		}
		for _, r := range list.APIResources {
			if slices.Contains(r.Verbs, "list") {
				out = append(out, gv.WithResource(r.Name))
			}
		}
	}
	return out, nil
}

// Touched returns the resources of the managed objects that requests wrote or thought of writing:
// what a controller has labelled can only be among them, so that Orphans need not list every kind
// there is.
func (j *Judge) Touched(requests []apiproxy.Request) []schema.GroupVersionResource {
	seen := map[schema.GroupVersionResource]bool{}
	out := []schema.GroupVersionResource{}
	for i := range requests {
		r := &requests[i]
		gvr := schema.GroupVersionResource{Group: r.Group, Version: r.Version, Resource: r.Resource}
		if (r.Verb == "apply" || j.Managed(r)) && !seen[gvr] {
			seen[gvr] = true
			out = append(out, gvr)
		}
	}
	return out
}

// Managed reports whether a request writes an object on behalf of an owner, as opposed to a
// controller's own bookkeeping: statuses, finalizers of its own kinds, events, leases. Together with
// a requested run or two it is the second half of O1: at rest there is no such write.
func (j *Judge) Managed(r *apiproxy.Request) bool {
	if r.DryRun || r.Subresource != "" || r.Resource == "leases" {
		return false
	}
	switch r.Verb {
	case "apply", "delete", "deletecollection":
		return true
	case "create", "update", "patch":
		// Objects are applied, but an adoption is a patch. Events of the controller are created and patched.
		return !strings.HasSuffix(r.Group, ".toolkit.fluxcd.io") && r.Resource != "events" && !strings.HasSuffix(r.Group, "authorization.k8s.io")
	}
	return false
}
