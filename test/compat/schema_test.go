package compat

import (
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/runtime"
	runtimeschema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"

	"github.com/seed-79636ae9/flux/api/crds"
)

// kind is one of our kinds as an API server sees it: by its CRD.
type kind struct {
	gvk        runtimeschema.GroupVersionKind
	plural     string
	structural *schema.Structural
	validator  validation.SchemaValidator
	rules      *cel.Validator
}

// kinds compiles every generated CRD.
func kinds(t *testing.T) map[runtimeschema.GroupVersionKind]kind {
	t.Helper()
	all, err := crds.All()
	if err != nil {
		t.Fatal(err)
	}
	out := map[runtimeschema.GroupVersionKind]kind{}
	for _, crd := range all {
		for _, v := range crd.Spec.Versions {
			props := &apiextensions.JSONSchemaProps{}
			err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(v.Schema.OpenAPIV3Schema, props, nil)
			if err != nil {
				t.Fatalf("%s: %v", crd.Name, err)
			}
			k := kind{
				gvk:    runtimeschema.GroupVersionKind{Group: crd.Spec.Group, Version: v.Name, Kind: crd.Spec.Names.Kind},
				plural: crd.Spec.Names.Plural,
			}
			if k.structural, err = schema.NewStructural(props); err != nil {
				t.Fatalf("%s: %v", crd.Name, err)
			}
			if k.validator, _, err = validation.NewSchemaValidator(props); err != nil {
				t.Fatalf("%s: %v", crd.Name, err)
			}
			k.rules = cel.NewValidator(k.structural, true, celconfig.PerCallLimit)
			out[k.gvk] = k
		}
	}
	return out
}

// stored turns obj into what the API server would store: unknown fields dropped, defaults set.
func (k kind) stored(obj map[string]any) map[string]any {
	obj = runtime.DeepCopyJSON(obj)
	pruning.Prune(obj, k.structural, true)
	defaulting.Default(obj, k.structural)
	return obj
}

// refusals returns why the API server would not take obj, a result of stored.
func (k kind) refusals(t *testing.T, obj map[string]any) field.ErrorList {
	t.Helper()
	errs := validation.ValidateCustomResource(nil, obj, k.validator)
	if k.rules != nil && len(errs) == 0 {
		more, _ := k.rules.Validate(t.Context(), nil, k.structural, obj, nil, celconfig.RuntimeCELCostBudget)
		errs = append(errs, more...)
	}
	return errs
}

// TestCRDsAreAccepted runs the checks an API server makes on a new CRD: names, structural schema, defaults that fit it, and
// CEL rules that compile and stay within their cost.
func TestCRDsAreAccepted(t *testing.T) {
	all, err := crds.All()
	if err != nil {
		t.Fatal(err)
	}
	for _, crd := range all {
		t.Run(crd.Name, func(t *testing.T) {
			apiextensionsv1.SetDefaults_CustomResourceDefinition(crd)
			apiextensionsv1.SetDefaults_CustomResourceDefinitionSpec(&crd.Spec)
			for _, v := range crd.Spec.Versions {
				if v.Storage {
					crd.Status.StoredVersions = []string{v.Name}
				}
			}
			internal := &apiextensions.CustomResourceDefinition{}
			err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(crd, internal, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, err := range crdvalidation.ValidateCustomResourceDefinition(t.Context(), internal) {
				t.Error(err)
			}
		})
	}
	for _, k := range kinds(t) {
		for _, err := range schema.ValidateStructural(nil, k.structural) {
			t.Errorf("%s: %v", k.gvk.Kind, err)
		}
	}
}

func TestSchemaRefuses(t *testing.T) {
	object := func(group, kind string, spec map[string]any) map[string]any {
		return map[string]any{
			"apiVersion": group + "/v1", "kind": kind, "spec": spec,
			"metadata": map[string]any{"name": "x"},
		}
	}
	const source, kustomize = "source.toolkit.fluxcd.io", "kustomize.toolkit.fluxcd.io"
	ref := map[string]any{"name": "x"}
	git := func(more map[string]any) map[string]any {
		return object(source, "GitRepository", with(map[string]any{"interval": "1m", "url": "https://example.com/x"}, more))
	}
	bucket := func(more map[string]any) map[string]any {
		return object(source, "Bucket", with(map[string]any{"interval": "1m", "bucketName": "x", "endpoint": "x"}, more))
	}
	ks := func(more map[string]any) map[string]any {
		spec := map[string]any{"interval": "1m", "prune": true, "sourceRef": map[string]any{"kind": "Bucket", "name": "x"}}
		return object(kustomize, "Kustomization", with(spec, more))
	}
	chart := func(more map[string]any) map[string]any {
		spec := map[string]any{"interval": "1m", "chart": "x", "sourceRef": map[string]any{"kind": "Bucket", "name": "x"}}
		return object(source, "HelmChart", with(spec, more))
	}
	tests := map[string]struct {
		obj  map[string]any
		want string // empty: accepted
	}{
		"gitrepository 12: https":           {git(nil), ""},
		"gitrepository 12: scp":             {git(map[string]any{"url": "git@example.com:x"}), "spec.url"},
		"gitrepository 24: generic":         {git(map[string]any{"serviceAccountName": "x"}), "serviceAccountName can only be set"},
		"gitrepository 24: azure":           {git(map[string]any{"serviceAccountName": "x", "provider": "azure"}), ""},
		"bucket 2: generic account":         {bucket(map[string]any{"serviceAccountName": "x"}), "ServiceAccountName is not supported"},
		"bucket 2: secret and account":      {bucket(map[string]any{"provider": "aws", "secretRef": ref, "serviceAccountName": "x"}), "cannot set both"},
		"bucket 7: sts ldap on aws":         {bucket(map[string]any{"provider": "aws", "sts": map[string]any{"provider": "ldap", "endpoint": "https://x"}}), "'aws' is the only supported STS provider"},
		"bucket 7: sts aws on generic":      {bucket(map[string]any{"sts": map[string]any{"provider": "aws", "endpoint": "https://x"}}), "'ldap' is the only supported STS provider"},
		"bucket 7: sts on gcp":              {bucket(map[string]any{"provider": "gcp", "sts": map[string]any{"provider": "aws", "endpoint": "https://x"}}), "STS configuration is only supported"},
		"bucket 7: sts ldap":                {bucket(map[string]any{"sts": map[string]any{"provider": "ldap", "endpoint": "https://x", "secretRef": ref}}), ""},
		"helmchart: verify on bucket":       {chart(map[string]any{"verify": map[string]any{"provider": "cosign"}}), "spec.verify is only supported"},
		"kustomization 97: no kubeConfig":   {ks(map[string]any{"kubeConfig": map[string]any{}}), "exactly one of"},
		"kustomization 97: two kubeConfigs": {ks(map[string]any{"kubeConfig": map[string]any{"secretRef": ref, "configMapRef": ref}}), "exactly one of"},
		"kustomization 97: one kubeConfig":  {ks(map[string]any{"kubeConfig": map[string]any{"secretRef": ref}}), ""},
	}
	// CVE-2022-39272: the pattern is the first guard against durations no client can read.
	for _, text := range []any{"1d", "-5s", "1e99h", "10", "", " 1m", "1m ", int64(10), nil, map[string]any{}} {
		obj := git(map[string]any{"interval": text})
		tests["interval "+textOf(text)] = struct {
			obj  map[string]any
			want string
		}{obj, "spec.interval"}
	}
	all := kinds(t)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			k := all[runtimeschema.FromAPIVersionAndKind(tt.obj["apiVersion"].(string), tt.obj["kind"].(string))]
			errs := k.refusals(t, k.stored(tt.obj))
			switch {
			case tt.want == "" && len(errs) > 0:
				t.Errorf("refused: %v", errs)
			case tt.want != "" && !contains(errs, tt.want):
				t.Errorf("want a refusal with %q, got %v", tt.want, errs)
			}
		})
	}
}
