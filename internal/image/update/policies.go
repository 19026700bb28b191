package update

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	imagev1 "github.com/seed-79636ae9/flux/api/image/v1"
	"github.com/seed-79636ae9/flux/internal/image/update/setters"
	"github.com/seed-79636ae9/flux/toolkit/loop"
)

// policies returns the choices of the policies of an automation by their names; those that have not chosen yet are left out
// (imageupdateautomation 4, 38).
func policies(ctx context.Context, reader client.Reader, obj *imagev1.ImageUpdateAutomation) (map[string]imagev1.ImageRef, error) {
	options := []client.ListOption{client.InNamespace(obj.Namespace)}
	if obj.Spec.PolicySelector != nil {
		selector, err := metav1.LabelSelectorAsSelector(obj.Spec.PolicySelector)
		if err != nil {
			return nil, loop.Stall(imagev1.InvalidPolicySelectorReason, fmt.Errorf("failed to parse policy selector: %w", err))
		}
		options = append(options, client.MatchingLabelsSelector{Selector: selector})
	}
	var list imagev1.ImagePolicyList
	if err := reader.List(ctx, &list, options...); err != nil {
		return nil, fmt.Errorf("failed to list policies: %w", err)
	}
	out := map[string]imagev1.ImageRef{}
	for _, policy := range list.Items {
		if policy.Status.LatestRef != nil {
			out[policy.Name] = *policy.Status.LatestRef
		}
	}
	return out, nil
}

// images are the policies as markers name them. A reference that no registry takes is refused as a whole
// (imageupdateautomation 23).
func images(namespace string, refs map[string]imagev1.ImageRef) (map[string]setters.Image, error) {
	out := map[string]setters.Image{}
	for _, policy := range slices.Sorted(maps.Keys(refs)) {
		ref := refs[policy]
		if _, err := name.ParseReference(ref.String(), name.WeakValidation); err != nil {
			return nil, fmt.Errorf("invalid image reference '%s' in policy '%s/%s': %w", ref, namespace, policy, err)
		}
		out[namespace+":"+policy] = setters.Image{Name: ref.Name, Tag: ref.Tag, Digest: ref.Digest}
	}
	return out, nil
}
