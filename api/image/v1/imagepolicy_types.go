package v1

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seed-79636ae9/flux/api/meta"
)

// ImagePolicyKind is the kind of an ImagePolicy.
const ImagePolicyKind string = "ImagePolicy"

// Values of spec.digestReflectionPolicy.
const (
	// ReflectAlways looks the digest of the tag up at every interval.
	ReflectAlways string = "Always"
	// ReflectIfNotPresent looks the digest of the tag up once.
	ReflectIfNotPresent string = "IfNotPresent"
	// ReflectNever leaves the digest out.
	ReflectNever string = "Never"
)

// Values of the order of alphabetical and numerical policies.
const (
	// OrderAscending wants the last tag.
	OrderAscending string = "asc"
	// OrderDescending wants the first tag.
	OrderDescending string = "desc"
)

// ImagePolicySpec says which tag of an image is wanted.
//
// +kubebuilder:validation:XValidation:rule="!has(self.interval) || (has(self.digestReflectionPolicy) && self.digestReflectionPolicy == 'Always')",message="spec.interval is only accepted when spec.digestReflectionPolicy is set to 'Always'"
// +kubebuilder:validation:XValidation:rule="has(self.interval) || !has(self.digestReflectionPolicy) || self.digestReflectionPolicy != 'Always'",message="spec.interval must be set when spec.digestReflectionPolicy is set to 'Always'"
type ImagePolicySpec struct {
	// ImageRepositoryRef names the ImageRepository whose tags to choose from. One in another namespace must admit this one
	// in its accessFrom.
	// +required
	ImageRepositoryRef meta.NamespacedObjectReference `json:"imageRepositoryRef"`

	// Policy says which of the tags is the latest.
	// +required
	Policy ImagePolicyChoice `json:"policy"`

	// FilterTags says which tags to choose from, and which part of a tag to compare. All of them, and all of it, when not
	// set.
	// +optional
	FilterTags *TagFilter `json:"filterTags,omitempty"`

	// DigestReflectionPolicy says whether the digest of the tag is looked up: "Never", "IfNotPresent" once for each tag, or
	// "Always" at every interval.
	// +optional
	// +kubebuilder:default=Never
	// +kubebuilder:validation:Enum=Always;IfNotPresent;Never
	DigestReflectionPolicy string `json:"digestReflectionPolicy,omitempty"`

	// Interval between two looks at the digest, like "10m". It goes with the digestReflectionPolicy "Always" and no other.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern="^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$"
	Interval meta.Duration `json:"interval,omitempty"`

	// Suspend keeps the choice as it is.
	// +optional
	Suspend bool `json:"suspend,omitempty"`
}

// ImagePolicyChoice says how tags are compared. Exactly one of its fields is set.
type ImagePolicyChoice struct {
	// SemVer wants the highest version of a range.
	// +optional
	SemVer *SemVerPolicy `json:"semver,omitempty"`

	// Alphabetical compares the characters of the tags.
	// +optional
	Alphabetical *AlphabeticalPolicy `json:"alphabetical,omitempty"`

	// Numerical compares tags as numbers.
	// +optional
	Numerical *NumericalPolicy `json:"numerical,omitempty"`
}

// SemVerPolicy wants the highest version of a range. Tags that are no semantic versions of three parts do not count.
type SemVerPolicy struct {
	// Range of semantic versions, like ">=1.2.0 <2.0.0". Pre-releases count only when the range names one.
	// +required
	Range string `json:"range"`
}

// AlphabeticalPolicy compares the characters of the tags.
type AlphabeticalPolicy struct {
	// Order of the tags: "asc" wants the last one, "desc" the first.
	// +optional
	// +kubebuilder:default=asc
	// +kubebuilder:validation:Enum=asc;desc
	Order string `json:"order,omitempty"`
}

// NumericalPolicy compares tags as numbers. Every tag to choose from must be one.
type NumericalPolicy struct {
	// Order of the numbers: "asc" wants the largest one, "desc" the smallest.
	// +optional
	// +kubebuilder:default=asc
	// +kubebuilder:validation:Enum=asc;desc
	Order string `json:"order,omitempty"`
}

// TagFilter says which tags to choose from, and which part of a tag to compare.
type TagFilter struct {
	// Pattern is a regular expression that tags must match somewhere.
	// +optional
	Pattern string `json:"pattern,omitempty"`

	// Extract is what to compare in place of the tag. "$1" and "$name" stand for what the groups of the pattern matched.
	// +optional
	Extract string `json:"extract,omitempty"`
}

// ImageRef is one version of an image.
type ImageRef struct {
	// Name of the image, as the ImageRepository spells it.
	// +required
	Name string `json:"name"`

	// Tag of the image.
	// +required
	Tag string `json:"tag"`

	// Digest of what the tag points at, as "sha256:<hex>".
	// +optional
	Digest string `json:"digest,omitempty"`
}

// String returns the reference in the notation of containers: "name:tag", or "name:tag@digest".
func (r ImageRef) String() string {
	ref := r.Name + ":" + r.Tag
	if r.Digest != "" {
		ref += "@" + r.Digest
	}
	return ref
}

// ImagePolicyStatus is what was observed of an ImagePolicy.
type ImagePolicyStatus struct {
	// ObservedGeneration is the generation of the spec the last completed run was about. -1 before the first.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// Conditions of the ImagePolicy.
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// LatestRef is the version that was chosen. It stays when none can be chosen any more.
	// +optional
	LatestRef *ImageRef `json:"latestRef,omitempty"`

	// ObservedPreviousRef is the version that was chosen before.
	// +optional
	ObservedPreviousRef *ImageRef `json:"observedPreviousRef,omitempty"`

	meta.ReconcileRequestStatus `json:",inline"`
}

// ImagePolicy chooses one tag of an image.
//
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=imagepolicies,shortName={imgpol,imagepol},categories={all,fluxcd,fluxcd-images}
// +kubebuilder:printcolumn:name="Image",type=string,JSONPath=`.status.latestRef.name`
// +kubebuilder:printcolumn:name="Tag",type=string,JSONPath=`.status.latestRef.tag`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ImagePolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is what the user asks for.
	// +optional
	Spec ImagePolicySpec `json:"spec,omitempty"`

	// Status is what the controller observed.
	// +optional
	// +kubebuilder:default={"observedGeneration":-1}
	Status ImagePolicyStatus `json:"status,omitempty"`
}

// ImagePolicyList is a list of ImagePolicies.
//
// +kubebuilder:object:root=true
type ImagePolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ImagePolicy `json:"items"`
}

// GetConditions returns status.conditions.
func (o *ImagePolicy) GetConditions() []metav1.Condition { return o.Status.Conditions }

// SetConditions replaces status.conditions.
func (o *ImagePolicy) SetConditions(c []metav1.Condition) { o.Status.Conditions = c }

// GetObservedGeneration returns status.observedGeneration.
func (o *ImagePolicy) GetObservedGeneration() int64 { return o.Status.ObservedGeneration }

// SetObservedGeneration replaces status.observedGeneration.
func (o *ImagePolicy) SetObservedGeneration(g int64) { o.Status.ObservedGeneration = g }

// GetLastHandledReconcileRequest returns status.lastHandledReconcileAt.
func (o *ImagePolicy) GetLastHandledReconcileRequest() string {
	return o.Status.GetLastHandledReconcileRequest()
}

// SetLastHandledReconcileRequest replaces status.lastHandledReconcileAt.
func (o *ImagePolicy) SetLastHandledReconcileRequest(token string) {
	o.Status.SetLastHandledReconcileRequest(token)
}

// IsSuspended tells whether spec.suspend is set.
func (o *ImagePolicy) IsSuspended() bool { return o.Spec.Suspend }

// GetInterval returns spec.interval. It is zero unless digests are looked up periodically: the API server accepts no interval
// otherwise (imagepolicy 2, 33).
func (o *ImagePolicy) GetInterval() time.Duration { return o.Spec.Interval.Value() }

// GetDigestReflectionPolicy returns spec.digestReflectionPolicy, or ReflectNever when it is not set (imagepolicy 15).
func (o *ImagePolicy) GetDigestReflectionPolicy() string {
	if o.Spec.DigestReflectionPolicy == "" {
		return ReflectNever
	}
	return o.Spec.DigestReflectionPolicy
}

// DurationError names the unusable durations of the spec.
func (o *ImagePolicy) DurationError() error {
	return meta.CheckDurations(meta.DurationField{Path: "spec.interval", Value: o.Spec.Interval})
}
