package crds_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/seed-79636ae9/flux/api/crds"
)

func TestAllAndBytesAgree(t *testing.T) {
	all, err := crds.All()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("no CRDs are embedded")
	}
	var names []string
	for _, crd := range all {
		data, err := crds.Bytes(crd.Name)
		if err != nil {
			t.Errorf("a CRD of All is not found by its name: %v", err)
		}
		if !bytes.Contains(data, []byte("  name: "+crd.Name+"\n")) {
			t.Errorf("Bytes(%q) is the file of another CRD", crd.Name)
		}
		names = append(names, crd.Spec.Group+"_"+crd.Spec.Names.Plural)
	}
	if !slices.IsSorted(names) {
		t.Errorf("CRDs are not in the order of group and plural: %v", names)
	}
}

func TestAllReturnsCopies(t *testing.T) {
	first, err := crds.All()
	if err != nil {
		t.Fatal(err)
	}
	first[0].Name = "changed"
	second, err := crds.All()
	if err != nil {
		t.Fatal(err)
	}
	if second[0].Name == "changed" {
		t.Error("two calls of All share an object")
	}
}

func TestBytesOfUnknownName(t *testing.T) {
	for _, name := range []string{"", "gitrepositories", "things.example.com", "../doc.go"} {
		if _, err := crds.Bytes(name); err == nil {
			t.Errorf("Bytes(%q): want an error", name)
		}
	}
}
