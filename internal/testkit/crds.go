package testkit

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset/typed/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"

	"github.com/seed-79636ae9/flux/api/crds"
)

// crdsEstablished bounds the wait for the API server to serve new kinds.
const crdsEstablished = 30 * time.Second

// InstallCRDs applies the toolkit's CRDs and waits until they are served. It may be called by any
// number of tests and packages on the same cluster.
func InstallCRDs(t testing.TB, config *rest.Config) {
	t.Helper()
	if err := ApplyCRDs(t.Context(), config); err != nil {
		t.Fatal(err)
	}
}

// ApplyCRDs is InstallCRDs for programs.
func ApplyCRDs(ctx context.Context, config *rest.Config) error {
	client, err := apiextensions.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("creating a client for CRDs: %w", err)
	}
	all, err := crds.All()
	if err != nil {
		return err
	}
	force := true
	for _, crd := range all {
		body, err := json.Marshal(crd)
		if err != nil {
			return fmt.Errorf("encoding CRD %s: %w", crd.Name, err)
		}
		options := metav1.PatchOptions{FieldManager: "testkit", Force: &force}
		if _, err := client.CustomResourceDefinitions().Patch(ctx, crd.Name, types.ApplyPatchType, body, options); err != nil {
			return fmt.Errorf("applying CRD %s: %w", crd.Name, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, crdsEstablished)
	defer cancel()
	for _, crd := range all {
		if err := awaitEstablished(ctx, client.CustomResourceDefinitions(), crd.Name); err != nil {
			return fmt.Errorf("waiting for CRD %s: %w", crd.Name, err)
		}
	}
	return awaitDiscovery(ctx, config, all)
}

// awaitDiscovery waits until the API server lists the kinds, which it does a moment after their definitions are established.
func awaitDiscovery(ctx context.Context, config *rest.Config, all []*apiextensionsv1.CustomResourceDefinition) error {
	client, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return fmt.Errorf("creating a client for discovery: %w", err)
	}
	kinds := map[schema.GroupVersion][]string{}
	for _, crd := range all {
		for _, version := range crd.Spec.Versions {
			if version.Served {
				gv := schema.GroupVersion{Group: crd.Spec.Group, Version: version.Name}
				kinds[gv] = append(kinds[gv], crd.Spec.Names.Kind)
			}
		}
	}
	for gv, want := range kinds {
		err := wait.PollUntilContextCancel(ctx, 50*time.Millisecond, true, func(context.Context) (bool, error) {
			list, err := client.ServerResourcesForGroupVersion(gv.String())
			return err == nil && !slices.ContainsFunc(want, func(kind string) bool {
				return !slices.ContainsFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Kind == kind })
			}), nil
		})
		if err != nil {
			return fmt.Errorf("waiting until the API server lists the kinds of %s: %w", gv, err)
		}
	}
	return nil
}

func awaitEstablished(ctx context.Context, client apiextensions.CustomResourceDefinitionInterface, name string) error {
	w, err := client.Watch(ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()})
	if err != nil {
		return err
	}
	defer w.Stop()
	for event := range w.ResultChan() {
		crd, ok := event.Object.(*apiextensionsv1.CustomResourceDefinition)
		if !ok {
			return fmt.Errorf("the watch failed: %v", event.Object)
		}
		for _, c := range crd.Status.Conditions {
			if c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue {
				return nil
			}
		}
	}
	return ctx.Err()
}
