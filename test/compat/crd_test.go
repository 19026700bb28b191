package compat

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/seed-79636ae9/flux/api/crds"
	extensionsv1beta1 "github.com/seed-79636ae9/flux/api/extensions/v1beta1"
	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	imagev1 "github.com/seed-79636ae9/flux/api/image/v1"
	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	notificationv1 "github.com/seed-79636ae9/flux/api/notification/v1"
	notificationv1beta3 "github.com/seed-79636ae9/flux/api/notification/v1beta3"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
)

const (
	contractCRDs = "testdata/crds"
	// originCRDs is where the contract lies when it is checked out next to the repository.
	originCRDs = "../../../shared/contract/crds"
)

// notBuilt lists the kinds of the contract that have no types yet. A kind leaves the list with the change that adds its
// types.
func notBuilt() []string {
	return []string{
		"alertproviders.flagger.app",
		"canaries.flagger.app",
		"metrictemplates.flagger.app",
	}
}

// addToScheme registers every kind that has types.
func addToScheme(s *runtime.Scheme) error {
	for _, add := range []func(*runtime.Scheme) error{
		sourcev1.AddToScheme, kustomizev1.AddToScheme, helmv2.AddToScheme, notificationv1.AddToScheme, notificationv1beta3.AddToScheme,
		extensionsv1beta1.AddToScheme, imagev1.AddToScheme,
	} {
		if err := add(s); err != nil {
			return err
		}
	}
	return nil
}

// TestCRDsEqualContract compares every generated CRD with that of Flux 2.9: paths, types, required fields, defaults, enums,
// patterns, formats, bounds, list types, CEL rules, columns, names, categories, scope, subresources and versions.
func TestCRDsEqualContract(t *testing.T) {
	pending := notBuilt()
	seen := map[string]bool{}
	for _, file := range contractFiles(t) {
		contract := readCRD(t, file)
		name := crdName(contract)
		seen[name] = true
		t.Run(name, func(t *testing.T) {
			data, err := crds.Bytes(name)
			switch isPending := slices.Contains(pending, name); {
			case err != nil && isPending:
				return
			case err != nil:
				t.Fatalf("the contract has this kind and we have not: %v", err)
			case isPending:
				t.Fatalf("the kind is built: take it off the list in notBuilt")
			}
			var ours map[string]any
			if err := yaml.Unmarshal(data, &ours); err != nil {
				t.Fatal(err)
			}
			allowProtection(contract, ours)
			for _, line := range crdDiff(contract, ours) {
				t.Error(line)
			}
		})
	}
	for _, name := range pending {
		if !seen[name] {
			t.Errorf("notBuilt lists %q, which the contract does not have", name)
		}
	}
	all, err := crds.All()
	if err != nil {
		t.Fatal(err)
	}
	for _, crd := range all {
		if !seen[crd.Name] {
			t.Errorf("we have the kind %q, which the contract does not have", crd.Name)
		}
	}
}

// allowProtection lets every CRD of ours carry the annotation that keeps variables from being replaced in it. 2.9 has it only
// where a description needs it, and our descriptions are our own.
func allowProtection(contract, ours map[string]any) {
	want := contract["metadata"].(map[string]any)["annotations"].(map[string]any)
	got := ours["metadata"].(map[string]any)["annotations"].(map[string]any)
	if protected := kustomizev1.SubstituteAnnotation; want[protected] == nil && got[protected] == kustomizev1.DisabledValue {
		want[protected] = kustomizev1.DisabledValue
	}
}

// TestContractCopyIsCurrent compares the checked-in copy of the contract with the original where that is at hand.
func TestContractCopyIsCurrent(t *testing.T) {
	if _, err := os.Stat(originCRDs); os.IsNotExist(err) {
		t.Skipf("%s is not there; the checked-in copy stands on its own", originCRDs)
	}
	origin, copied := readDir(t, originCRDs), readDir(t, contractCRDs)
	for name, want := range origin {
		if got, ok := copied[name]; !ok {
			t.Errorf("%s is not copied", name)
		} else if !bytes.Equal(got, want) {
			t.Errorf("%s differs from the original", name)
		}
	}
	for name := range copied {
		if _, ok := origin[name]; !ok {
			t.Errorf("%s is not in the contract", name)
		}
	}
}

// TestEveryKindHasACRD finds types that were added without generating, and CRDs left behind by removed types.
func TestEveryKindHasACRD(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := addToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	all, err := crds.All()
	if err != nil {
		t.Fatal(err)
	}
	described := map[string]bool{}
	for _, crd := range all {
		for _, v := range crd.Spec.Versions {
			described[crd.Spec.Group+"/"+v.Name+" "+crd.Spec.Names.Kind] = true
			described[crd.Spec.Group+"/"+v.Name+" "+crd.Spec.Names.ListKind] = true
		}
	}
	typed := map[string]bool{}
	for gvk, typ := range scheme.AllKnownTypes() {
		// Every group also knows the types of Kubernetes itself, such as ListOptions.
		if !strings.HasPrefix(typ.PkgPath(), "k8s.io/") {
			typed[gvk.GroupVersion().String()+" "+gvk.Kind] = true
		}
	}
	for kind := range typed {
		if !described[kind] {
			t.Errorf("%s has types and no CRD: run make generate", kind)
		}
	}
	for kind := range described {
		if !typed[kind] {
			t.Errorf("%s has a CRD and no types: remove the file from api/crds", kind)
		}
	}
}

func TestCRDDiffSeesEveryChange(t *testing.T) {
	const file = contractCRDs + "/kustomize.toolkit.fluxcd.io_kustomizations.json"
	tests := map[string]struct {
		old, new string
		want     string
	}{
		"type":                {`"prune":{"type":"boolean"}`, `"prune":{"type":"string"}`, "spec.prune#type"},
		"missing field":       {`"wait":{"type":"boolean"}`, `"weit":{"type":"boolean"}`, "spec.wait#type: missing"},
		"further field":       {`"wait":{"type":"boolean"}`, `"wait":{"type":"boolean"},"x":{"type":"string"}`, "spec.x#type: is"},
		"required":            {`"required":["interval","prune","sourceRef"]`, `"required":["interval","sourceRef"]`, "spec#required"},
		"default":             {`"force":{"default":false`, `"force":{"default":true`, "spec.force#default"},
		"default removed":     {`"default":{"observedGeneration":-1},`, ``, "status#default: missing"},
		"enum":                {`"WaitForTermination",`, ``, "spec.deletionPolicy#enum"},
		"pattern":             {`"pattern":"^([0-9]+`, `"pattern":"^([1-9]+`, "spec.interval#pattern"},
		"format":              {`"format":"int64","type":"integer"}},"type":"object"}}`, `"type":"integer"}},"type":"object"}}`, "status.observedGeneration#format"},
		"bound":               {`"maxLength":63`, `"maxLength":64`, "spec.targetNamespace#maxLength"},
		"item":                {`"components":{"items":{"type":"string"}`, `"components":{"items":{"type":"integer"}`, "spec.components[]#type"},
		"map value":           {`"substitute":{"additionalProperties":{"type":"string"}`, `"substitute":{"additionalProperties":{"type":"integer"}`, "spec.postBuild.substitute{}#type"},
		"CEL rule":            {`"rule":"has(self.configMapRef) ||`, `"rule":"has(self.configMapRef) \u0026\u0026`, "spec.kubeConfig#x-kubernetes-validations"},
		"list type":           {`"components":{`, `"components":{"x-kubernetes-list-type":"set",`, "spec.components#x-kubernetes-list-type: is"},
		"column":              {`"name":"Age","type":"date"`, `"name":"Alter","type":"date"`, "spec.versions[0].additionalPrinterColumns[0].name"},
		"short name":          {`"shortNames":["ks"]`, `"shortNames":["kus"]`, "spec.names.shortNames[0]"},
		"category":            {`"fluxcd-appliers"`, `"fluxcd-sources"`, "spec.names.categories[2]"},
		"scope":               {`"scope":"Namespaced"`, `"scope":"Cluster"`, "spec.scope"},
		"subresource removed": {`,"subresources":{"status":{}}`, ``, "spec.versions[0].subresources.status: missing"},
		"storage":             {`"storage":true`, `"storage":false`, "spec.versions[0].storage"},
		"served":              {`"served":true`, `"served":false`, "spec.versions[0].served"},
		"annotation":          {`"kustomize.toolkit.fluxcd.io/substitute":"disabled"`, `"x":"y"`, "metadata.annotations.kustomize.toolkit.fluxcd.io/substitute: missing"},
	}
	contract := readCRD(t, file)
	compact := text(contract)
	if diffs := crdDiff(contract, contract); len(diffs) > 0 {
		t.Fatalf("a CRD differs from itself: %v", diffs)
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			changed := strings.Replace(compact, tt.old, tt.new, 1)
			if changed == compact {
				t.Fatalf("%s does not occur in the contract", tt.old)
			}
			var ours map[string]any
			if err := json.Unmarshal([]byte(changed), &ours); err != nil {
				t.Fatal(err)
			}
			diffs := crdDiff(contract, ours)
			if !slices.ContainsFunc(diffs, func(line string) bool { return strings.HasPrefix(line, tt.want) }) {
				t.Errorf("no difference at %q in %q", tt.want, diffs)
			}
		})
	}
}

func TestCRDDiffIgnores(t *testing.T) {
	contract := map[string]any{"openAPIV3Schema": map[string]any{
		"required": []any{"a", "b"},
		"properties": map[string]any{
			"description": map[string]any{"type": "string", "enum": []any{"x", "y"}},
		},
	}}
	ours := map[string]any{"openAPIV3Schema": map[string]any{
		"description": "words",
		"required":    []any{"b", "a"},
		"properties": map[string]any{
			"description": map[string]any{"type": "string", "enum": []any{"y", "x"}, "description": "a field of this name"},
		},
	}}
	if diffs := crdDiff(contract, ours); len(diffs) > 0 {
		t.Errorf("differences without meaning are reported: %v", diffs)
	}
}

func contractFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(contractCRDs + "/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no contract in %s: %v", contractCRDs, err)
	}
	return files
}

func readCRD(t *testing.T, file string) map[string]any {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var crd map[string]any
	if err := json.Unmarshal(data, &crd); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return crd
}

func crdName(crd map[string]any) string {
	return crd["metadata"].(map[string]any)["name"].(string)
}

func readDir(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files[d.Name()], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
