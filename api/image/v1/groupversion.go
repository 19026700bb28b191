package v1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupName of the kinds of this package.
const GroupName string = "image.toolkit.fluxcd.io"

// GroupVersion of the kinds of this package.
var GroupVersion = schema.GroupVersion{Group: GroupName, Version: "v1"}

// AddToScheme makes the kinds of this package known to s. It always returns nil; the signature is the customary one.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion,
		&ImagePolicy{}, &ImagePolicyList{},
		&ImageRepository{}, &ImageRepositoryList{},
		&ImageUpdateAutomation{}, &ImageUpdateAutomationList{},
	)
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
