package v1

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seed-79636ae9/flux/api/meta"
)

// ImageRepositoryKind is the kind of an ImageRepository.
const ImageRepositoryKind string = "ImageRepository"

// Providers that can supply credentials for a registry.
const (
	// GenericProvider takes credentials from the Secrets of the spec, or none.
	GenericProvider string = "generic"
	// AWSProvider signs in with AWS workload identity.
	AWSProvider string = "aws"
	// AzureProvider signs in with Azure workload identity.
	AzureProvider string = "azure"
	// GCPProvider signs in with Google Cloud workload identity.
	GCPProvider string = "gcp"
)

// SignatureTags is the exclusion list of an ImageRepository that has none: the tags that hold signatures (imagerepository 11).
const SignatureTags string = `^.*\.sig$`

// minTimeout is the least time a scan is given (imagerepository 7).
const minTimeout = time.Second

// ImageRepositorySpec says which image to list the tags of.
type ImageRepositorySpec struct {
	// Image is the address of the image, without scheme, tag and digest, like "ghcr.io/example/app".
	// +required
	Image string `json:"image"`

	// Interval between two scans, like "5m".
	// +required
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern="^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$"
	Interval meta.Duration `json:"interval"`

	// Timeout of one scan, like "90s". Defaults to the interval.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern="^([0-9]+(\\.[0-9]+)?(ms|s|m))+$"
	Timeout meta.Duration `json:"timeout,omitempty"`

	// SecretRef names a Secret in the same namespace of type kubernetes.io/dockerconfigjson. It is not used when provider
	// names a cloud.
	// +optional
	SecretRef *meta.LocalObjectReference `json:"secretRef,omitempty"`

	// ProxySecretRef names a Secret in the same namespace with the proxy to go through: "address", and optionally
	// "username" and "password".
	// +optional
	ProxySecretRef *meta.LocalObjectReference `json:"proxySecretRef,omitempty"`

	// ServiceAccountName of a ServiceAccount in the same namespace: its imagePullSecrets are used for the registry, and with
	// a cloud provider its workload identity.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	ServiceAccountName string `json:"serviceAccountName,omitempty"`

	// CertSecretRef names a Secret in the same namespace with TLS material for the registry: "ca.crt", or "tls.crt" and
	// "tls.key", or all of them.
	// +optional
	CertSecretRef *meta.LocalObjectReference `json:"certSecretRef,omitempty"`

	// Suspend stops scanning. Policies go on working with the tags that are known.
	// +optional
	Suspend bool `json:"suspend,omitempty"`

	// AccessFrom lists the namespaces whose ImagePolicies may refer to this object, besides its own.
	// +optional
	AccessFrom *meta.AccessFrom `json:"accessFrom,omitempty"`

	// ExclusionList holds regular expressions. A tag that any of them matches is left out. Defaults to the tags that hold
	// signatures; a list without entries leaves nothing out.
	// +optional
	// +kubebuilder:validation:MaxItems=25
	// +kubebuilder:default={"^.*\\.sig$"}
	ExclusionList []string `json:"exclusionList,omitzero"`

	// Provider of credentials. "generic" uses secretRef and the pull secrets of serviceAccountName; "aws", "azure" and "gcp"
	// use workload identity instead.
	// +optional
	// +kubebuilder:default=generic
	// +kubebuilder:validation:Enum=generic;aws;azure;gcp
	Provider string `json:"provider,omitempty"`

	// Insecure allows plain HTTP to the registry.
	// +optional
	Insecure bool `json:"insecure,omitempty"`
}

// ScanResult is what a scan found.
type ScanResult struct {
	// Revision is a checksum of the tags. It changes when they do.
	// +optional
	Revision string `json:"revision,omitempty"`

	// TagCount is the number of tags, without those the exclusion list leaves out.
	// +required
	TagCount int `json:"tagCount"`

	// ScanTime is when the scan ended.
	// +optional
	ScanTime *metav1.Time `json:"scanTime,omitempty"`

	// LatestTags are the ten last tags in the order of their characters, the last one first.
	// +optional
	LatestTags []string `json:"latestTags,omitempty"`
}

// ImageRepositoryStatus is what was observed of an ImageRepository.
type ImageRepositoryStatus struct {
	// ObservedGeneration is the generation of the spec the last completed run was about. -1 before the first.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// Conditions of the ImageRepository.
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// CanonicalImageName is the full name of the image that was scanned, with registry and repository.
	// +optional
	CanonicalImageName string `json:"canonicalImageName,omitempty"`

	// LastScanResult is what the last successful scan found.
	// +optional
	LastScanResult *ScanResult `json:"lastScanResult,omitempty"`

	// ObservedExclusionList is the spec.exclusionList of the last successful scan.
	// +optional
	ObservedExclusionList []string `json:"observedExclusionList,omitempty"`

	meta.ReconcileRequestStatus `json:",inline"`
}

// ImageRepository lists the tags of an image in a registry.
//
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName={imgrepo,imagerepo},categories={all,fluxcd,fluxcd-images}
// +kubebuilder:printcolumn:name="Image",type=string,JSONPath=`.spec.image`
// +kubebuilder:printcolumn:name="Tags",type=string,JSONPath=`.status.lastScanResult.tagCount`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:printcolumn:name="Last scan",type=string,JSONPath=`.status.lastScanResult.scanTime`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ImageRepository struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is what the user asks for.
	// +optional
	Spec ImageRepositorySpec `json:"spec,omitempty"`

	// Status is what the controller observed.
	// +optional
	// +kubebuilder:default={"observedGeneration":-1}
	Status ImageRepositoryStatus `json:"status,omitempty"`
}

// ImageRepositoryList is a list of ImageRepositories.
//
// +kubebuilder:object:root=true
type ImageRepositoryList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ImageRepository `json:"items"`
}

// GetConditions returns status.conditions.
func (o *ImageRepository) GetConditions() []metav1.Condition { return o.Status.Conditions }

// SetConditions replaces status.conditions.
func (o *ImageRepository) SetConditions(c []metav1.Condition) { o.Status.Conditions = c }

// GetObservedGeneration returns status.observedGeneration.
func (o *ImageRepository) GetObservedGeneration() int64 { return o.Status.ObservedGeneration }

// SetObservedGeneration replaces status.observedGeneration.
func (o *ImageRepository) SetObservedGeneration(g int64) { o.Status.ObservedGeneration = g }

// GetLastHandledReconcileRequest returns status.lastHandledReconcileAt.
func (o *ImageRepository) GetLastHandledReconcileRequest() string {
	return o.Status.GetLastHandledReconcileRequest()
}

// SetLastHandledReconcileRequest replaces status.lastHandledReconcileAt.
func (o *ImageRepository) SetLastHandledReconcileRequest(token string) {
	o.Status.SetLastHandledReconcileRequest(token)
}

// IsSuspended tells whether spec.suspend is set.
func (o *ImageRepository) IsSuspended() bool { return o.Spec.Suspend }

// GetInterval returns spec.interval.
func (o *ImageRepository) GetInterval() time.Duration { return o.Spec.Interval.Value() }

// GetTimeout returns spec.timeout, or spec.interval when it is not set, and at least one second (imagerepository 7, 24).
func (o *ImageRepository) GetTimeout() time.Duration {
	return max(o.Spec.Timeout.Or(o.GetInterval()), minTimeout)
}

// GetExclusionList returns spec.exclusionList, or its default when there is none (imagerepository 11, 35).
func (o *ImageRepository) GetExclusionList() []string {
	if o.Spec.ExclusionList == nil {
		return []string{SignatureTags}
	}
	return o.Spec.ExclusionList
}

// DurationError names the unusable durations of the spec.
func (o *ImageRepository) DurationError() error {
	return meta.CheckDurations(
		meta.DurationField{Path: "spec.interval", Value: o.Spec.Interval},
		meta.DurationField{Path: "spec.timeout", Value: o.Spec.Timeout},
	)
}
