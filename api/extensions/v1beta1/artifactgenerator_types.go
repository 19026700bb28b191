package v1beta1

import (
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seed-79636ae9/flux/api/meta"
)

// ArtifactGeneratorKind is the kind of an ArtifactGenerator.
const ArtifactGeneratorKind string = "ArtifactGenerator"

// Finalizer is set on every ArtifactGenerator before any work (wire.md 4). It is not the one of the other kinds.
const Finalizer string = "source.extensions.fluxcd.io/finalizer"

const (
	// ReconcileAnnotation with the value DisabledValue, in any case, pauses an ArtifactGenerator.
	ReconcileAnnotation string = "source.extensions.fluxcd.io/reconcile"
	// DisabledValue of ReconcileAnnotation.
	DisabledValue string = "disabled"
	// GeneratorLabel on an ExternalArtifact holds the UID of the ArtifactGenerator that made it.
	GeneratorLabel string = "source.extensions.fluxcd.io/generator"
)

// Reasons of conditions and events that only this kind has (wire.md 6).
const (
	// ReconciliationDisabledReason says that ReconcileAnnotation pauses the object.
	ReconciliationDisabledReason string = "ReconciliationDisabled"
	// ValidationFailedReason says that the spec contradicts itself.
	ValidationFailedReason string = "ValidationFailed"
	// SourceFetchFailedReason says that a source, its artifact, or the content of it is not there.
	SourceFetchFailedReason string = "SourceFetchFailed"
)

// interval is when an ArtifactGenerator is looked at again though nothing has happened (artifactgenerator 3).
const interval = time.Hour

// CopyStrategy says what a copy operation does with what is there already.
type CopyStrategy string

const (
	// OverwriteStrategy replaces files. It is the default.
	OverwriteStrategy CopyStrategy = "Overwrite"
	// MergeStrategy merges YAML files: maps deeply, lists are replaced, the source wins.
	MergeStrategy CopyStrategy = "Merge"
	// ExtractStrategy unpacks archives.
	ExtractStrategy CopyStrategy = "Extract"
)

// ArtifactGeneratorSpec says which artifacts to make of which sources.
//
// +kubebuilder:validation:XValidation:rule="has(self.pathPattern) && size(self.pathPattern) > 0 || self.artifacts.all(a, a.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$'))",message="artifact names must be valid Kubernetes object names when pathPattern is not set"
type ArtifactGeneratorSpec struct {
	// CommonMetadata is put on every ExternalArtifact.
	// +optional
	CommonMetadata *meta.CommonMetadata `json:"commonMetadata,omitempty"`

	// Sources whose artifacts are the input.
	// +required
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=1000
	Sources []SourceReference `json:"sources"`

	// PathPattern, like "@repo/apps/{app}", makes the artifacts once for each directory of a source that matches. "{app}"
	// stands for the text of one path element or a part of it, and is replaced in the names and copy operations of the
	// artifacts.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:Pattern="^@([a-z0-9]([a-z0-9_-]*[a-z0-9])?)/(.*)$"
	PathPattern string `json:"pathPattern,omitempty"`

	// Artifacts to make.
	// +required
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=1000
	Artifacts []OutputArtifact `json:"artifacts"`
}

// SourceReference names a source and gives it an alias.
type SourceReference struct {
	// Alias by which copy operations refer to the source.
	// +required
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern="^[a-z0-9]([a-z0-9_-]*[a-z0-9])?$"
	Alias string `json:"alias"`

	// Kind of the source.
	// +required
	// +kubebuilder:validation:Enum=Bucket;GitRepository;OCIRepository;HelmChart;ExternalArtifact
	Kind string `json:"kind"`

	// Name of the source.
	// +required
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern="^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"
	Name string `json:"name"`

	// Namespace of the source. Defaults to that of the ArtifactGenerator.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
	Namespace string `json:"namespace,omitempty"`
}

// OutputArtifact is an artifact to make.
type OutputArtifact struct {
	// Name of the ExternalArtifact. With pathPattern it may hold variables, like "{app}-manifests".
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// Revision, as "@alias", takes the revision of that source as it is. Defaults to "latest@<digest of the content>".
	// +optional
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern="^@([a-z0-9]([a-z0-9_-]*[a-z0-9])?)$"
	Revision string `json:"revision,omitempty"`

	// OriginRevision, as "@alias", puts the origin revision of that source, or its revision, into the metadata of the
	// artifact.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern="^@([a-z0-9]([a-z0-9_-]*[a-z0-9])?)$"
	OriginRevision string `json:"originRevision,omitempty"`

	// Copy operations that make the content, in this order.
	// +required
	// +kubebuilder:validation:MinItems=1
	Copy []CopyOperation `json:"copy"`
}

// CopyOperation copies files of a source into an artifact.
type CopyOperation struct {
	// From is what to copy: "@alias/" and a path or glob in that source.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:Pattern="^@([a-z0-9]([a-z0-9_-]*[a-z0-9])?)/(.*)$"
	From string `json:"from"`

	// To is where to put it: "@artifact/" and a path in the artifact.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:Pattern="^@(artifact)/(.*)$"
	To string `json:"to"`

	// Exclude holds glob patterns of what is not copied.
	// +optional
	// +kubebuilder:validation:MaxItems=100
	Exclude []string `json:"exclude,omitempty"`

	// Strategy for what is there already. "Overwrite", also when not set, replaces files; "Merge" merges YAML files;
	// "Extract" unpacks the archives that from selects.
	// +optional
	// +kubebuilder:validation:Enum=Overwrite;Merge;Extract
	Strategy CopyStrategy `json:"strategy,omitempty"`
}

// ArtifactGeneratorStatus is what was observed of an ArtifactGenerator.
type ArtifactGeneratorStatus struct {
	meta.ReconcileRequestStatus `json:",inline"`

	// Conditions of the generator.
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// Inventory of the ExternalArtifacts that the last successful run has made.
	// +optional
	Inventory []ArtifactReference `json:"inventory,omitempty"`

	// ObservedSourcesDigest is a digest of the artifacts of all sources that the inventory was made of.
	// +optional
	ObservedSourcesDigest string `json:"observedSourcesDigest,omitempty"`
}

// ArtifactReference names an ExternalArtifact and its file.
type ArtifactReference struct {
	// Name of the ExternalArtifact.
	// +required
	Name string `json:"name"`

	// Namespace of the ExternalArtifact.
	// +required
	Namespace string `json:"namespace"`

	// Digest of the file, as "<algorithm>:<hex>".
	// +required
	Digest string `json:"digest"`

	// Filename is the last element of the artifact's path.
	// +required
	Filename string `json:"filename"`
}

// ArtifactGenerator makes artifacts out of the artifacts of other sources.
//
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=ag,categories={all,fluxcd,fluxcd-sources}
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
type ArtifactGenerator struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is what the user asks for.
	// +optional
	Spec ArtifactGeneratorSpec `json:"spec,omitempty"`

	// Status is what the controller observed.
	// +optional
	Status ArtifactGeneratorStatus `json:"status,omitempty"`
}

// ArtifactGeneratorList is a list of ArtifactGenerators.
//
// +kubebuilder:object:root=true
type ArtifactGeneratorList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ArtifactGenerator `json:"items"`
}

// GetConditions returns status.conditions.
func (o *ArtifactGenerator) GetConditions() []metav1.Condition { return o.Status.Conditions }

// SetConditions replaces status.conditions.
func (o *ArtifactGenerator) SetConditions(c []metav1.Condition) { o.Status.Conditions = c }

// GetObservedGeneration returns the generation that Ready was last judged about: the status has no such field of its own
// (artifactgenerator 61). It is -1 before the first verdict.
func (o *ArtifactGenerator) GetObservedGeneration() int64 {
	for _, c := range o.Status.Conditions {
		if c.Type == meta.ReadyCondition {
			return c.ObservedGeneration
		}
	}
	return -1
}

// SetObservedGeneration does nothing: the conditions carry the generation.
func (o *ArtifactGenerator) SetObservedGeneration(int64) {}

// GetLastHandledReconcileRequest returns status.lastHandledReconcileAt.
func (o *ArtifactGenerator) GetLastHandledReconcileRequest() string {
	return o.Status.GetLastHandledReconcileRequest()
}

// SetLastHandledReconcileRequest replaces status.lastHandledReconcileAt.
func (o *ArtifactGenerator) SetLastHandledReconcileRequest(token string) {
	o.Status.SetLastHandledReconcileRequest(token)
}

// IsSuspended tells whether ReconcileAnnotation pauses the object (artifactgenerator 4).
func (o *ArtifactGenerator) IsSuspended() bool {
	return strings.EqualFold(o.Annotations[ReconcileAnnotation], DisabledValue)
}

// GetInterval returns the fixed time of one hour (artifactgenerator 3).
func (o *ArtifactGenerator) GetInterval() time.Duration { return interval }
