package v1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seed-79636ae9/flux/api/meta"
)

// ExternalArtifactKind is the kind of an ExternalArtifact.
const ExternalArtifactKind string = "ExternalArtifact"

// ExternalArtifactSpec tells where an external artifact comes from.
type ExternalArtifactSpec struct {
	// SourceRef names the object the artifact was made from. It informs readers; nothing is fetched because of it.
	// +optional
	SourceRef *meta.NamespacedObjectKindReference `json:"sourceRef,omitempty"`
}

// ExternalArtifactStatus is written by the controller that makes the artifact.
type ExternalArtifactStatus struct {
	// Artifact on offer.
	// +optional
	Artifact *meta.Artifact `json:"artifact,omitempty"`

	// Conditions of the artifact.
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// ExternalArtifact offers an artifact that another controller makes and serves.
//
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=ea,categories={all,fluxcd,fluxcd-sources}
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:printcolumn:name="Source",type=string,JSONPath=`.spec.sourceRef.name`
type ExternalArtifact struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec tells where the artifact comes from.
	// +optional
	Spec ExternalArtifactSpec `json:"spec,omitempty"`

	// Status holds the artifact.
	// +optional
	Status ExternalArtifactStatus `json:"status,omitempty"`
}

// ExternalArtifactList is a list of ExternalArtifacts.
//
// +kubebuilder:object:root=true
type ExternalArtifactList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ExternalArtifact `json:"items"`
}

// GetConditions returns status.conditions.
func (o *ExternalArtifact) GetConditions() []metav1.Condition { return o.Status.Conditions }

// SetConditions replaces status.conditions.
func (o *ExternalArtifact) SetConditions(c []metav1.Condition) { o.Status.Conditions = c }

// GetArtifact returns status.artifact.
func (o *ExternalArtifact) GetArtifact() *meta.Artifact { return o.Status.Artifact }
