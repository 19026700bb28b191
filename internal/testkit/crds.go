package testkit

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset/typed/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
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
