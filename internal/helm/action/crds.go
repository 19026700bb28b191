package action

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	chart "helm.sh/helm/v4/pkg/chart/v2"
	helmkube "helm.sh/helm/v4/pkg/kube"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/resource"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
)

// CRD is a CustomResourceDefinition from the crds directory of a chart.
type CRD struct {
	Name string
	// Version of the API of the definition itself, "v1".
	Version string
}

// discoveryPoll is the time between looks for kinds that are about to be served.
const discoveryPoll = 100 * time.Millisecond

var definitionKind = schema.GroupKind{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"}

// crdPolicy is what the spec says about CustomResourceDefinitions (helmrelease 72); skip is the older field.
func crdPolicy(policy string, skip bool) string {
	switch {
	case policy != "":
		return policy
	case skip:
		return helmv2.CRDsSkip
	}
	return helmv2.CRDsCreate
}

// definitions lists the CustomResourceDefinitions of a chart and its dependencies. Other objects in crds directories are left out.
func definitions(c *chart.Chart) ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	for _, file := range c.CRDObjects() {
		objects, err := decodeObjects(bytes.NewReader(file.File.Data))
		if err != nil {
			return nil, fmt.Errorf("failed to parse CustomResourceDefinitions from %s: %w", file.Filename, err)
		}
		for _, o := range objects {
			if o.GroupVersionKind().GroupKind() == definitionKind {
				out = append(out, o)
			}
		}
	}
	return out, nil
}

// applyDefinitions applies the CustomResourceDefinitions of a chart and waits until they are established.
func (s *session) applyDefinitions(ctx context.Context, obj *helmv2.HelmRelease, c *chart.Chart, policy string, timeout time.Duration) error {
	if policy == helmv2.CRDsSkip {
		return nil
	}
	objects, err := definitions(c)
	if err != nil || len(objects) == 0 {
		return err
	}
	var list helmkube.ResourceList
	var applied []CRD
	for _, o := range objects {
		setLabels(o, originLabels(obj))
		info, err := s.client.info(o)
		if err != nil {
			return err
		}
		list = append(list, info)
		applied = append(applied, CRD{Name: o.GetName(), Version: o.GroupVersionKind().Version})
	}
	s.client.waits.saw(list)
	err = perform(list, func(info *resource.Info) error { return s.client.applyDefinition(info, policy) })
	if err != nil {
		return fmt.Errorf("failed to apply CustomResourceDefinitions: %w", err)
	}
	s.a.mu.Lock()
	s.a.crds = append(s.a.crds, applied...)
	s.a.mu.Unlock()
	if err := s.client.waits.healthy(checksOf(list, true), nil, timeout); err != nil {
		return fmt.Errorf("failed to wait for CustomResourceDefinitions: %w", err)
	}
	return s.client.waits.parked(func(ctx context.Context) error { return s.client.awaitServed(ctx, objects, timeout) })
}

// awaitServed waits until the kinds of definitions can be discovered, which takes the API server a moment after they are established.
func (c *client) awaitServed(ctx context.Context, objects []*unstructured.Unstructured, timeout time.Duration) error {
	missing := func(o *unstructured.Unstructured) bool { return !c.serves(ctx, o) }
	if !slices.ContainsFunc(objects, missing) {
		return nil
	}
	deadline := c.waits.clock.NewTimer(timeout)
	defer deadline.Stop()
	tick := c.waits.clock.NewTicker(discoveryPoll)
	defer tick.Stop()
	for {
		c.o.Mapper.Invalidate()
		i := slices.IndexFunc(objects, missing)
		if i < 0 {
			return nil
		}
		select {
		case <-tick.C():
		case <-deadline.C():
			return fmt.Errorf("timeout waiting for the kinds of CustomResourceDefinition %s to be served", objects[i].GetName())
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// applyDefinition applies one definition. Server-side, also one that exists; else only with the policy CreateReplace.
func (c *client) applyDefinition(info *resource.Info, policy string) error {
	if c.o.Method.serverSide {
		_, err := c.apply(info, true)
		return err
	}
	err := c.create(info)
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	live, _, err := c.o.Requests.metadata(c.o.Requests.of(http.MethodGet, info))
	switch {
	case err != nil:
		return fmt.Errorf("could not get information about the resource: %w", err)
	case policy == helmv2.CRDsCreateReplace:
		return c.replace(info, live.ResourceVersion)
	}
	refresh(info, live)
	return nil
}

// serves reports whether the kinds of a definition are known to be served.
func (c *client) serves(ctx context.Context, o *unstructured.Unstructured) bool {
	for _, gvk := range servedKinds(o) {
		if _, err := c.o.Mapper.Resource(ctx, gvk); err != nil {
			return false
		}
	}
	return true
}

// servedKinds lists what a definition defines.
func servedKinds(o *unstructured.Unstructured) []schema.GroupVersionKind {
	group, _, _ := unstructured.NestedString(o.Object, "spec", "group")
	kind, _, _ := unstructured.NestedString(o.Object, "spec", "names", "kind")
	versions, _, _ := unstructured.NestedSlice(o.Object, "spec", "versions")
	var out []schema.GroupVersionKind
	for _, v := range versions {
		v, _ := v.(map[string]any)
		if name, _ := v["name"].(string); v["served"] == true {
			out = append(out, schema.GroupVersionKind{Group: group, Version: name, Kind: kind})
		}
	}
	return out
}
