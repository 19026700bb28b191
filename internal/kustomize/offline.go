package kustomize

import (
	"context"

	"sigs.k8s.io/controller-runtime/pkg/client"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/toolkit/render"
	"github.com/seed-79636ae9/flux/toolkit/ssa"
)

// RenderSpec returns what an object asks of the build, for commands that build as the controller does.
func RenderSpec(obj *kustomizev1.Kustomization) render.Spec { return spec(obj) }

// Substitution returns the post-build substitution of an object, nil if it asks for none (kustomization 51-53). A nil reader
// leaves substituteFrom out.
func Substitution(obj *kustomizev1.Kustomization, reader client.Reader, strict bool) *render.Substitution {
	w := &work{obj: obj}
	if reader == nil && obj.Spec.PostBuild != nil {
		w.obj = obj.DeepCopy()
		w.obj.Spec.PostBuild.SubstituteFrom = nil
	}
	k := &Kustomizer{Reader: reader}
	k.StrictSubstitutions = strict
	return k.variables(w)
}

// Variables returns the variables of an object by name, as the build gets them (kustomization 52).
func Variables(ctx context.Context, obj *kustomizev1.Kustomization, reader client.Reader) (map[string]string, error) {
	s := Substitution(obj, reader, true)
	if s == nil {
		return nil, nil
	}
	return s.Load(ctx)
}

// InventoryOf reads an object's inventory.
func InventoryOf(obj *kustomizev1.Kustomization) ssa.Inventory { return inventory(obj) }
