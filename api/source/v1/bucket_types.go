package v1

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seed-79636ae9/flux/api/meta"
)

// BucketKind is the kind of a Bucket.
const BucketKind string = "Bucket"

// Values of spec.sts.provider.
const (
	// STSProviderAWS gets temporary credentials from the AWS Security Token Service.
	STSProviderAWS string = "aws"
	// STSProviderLDAP gets temporary credentials from the LDAP endpoint of a MinIO-compatible server.
	STSProviderLDAP string = "ldap"
)

// BucketSpec says which objects of a bucket to offer as an artifact.
//
// +kubebuilder:validation:XValidation:rule="self.provider == 'aws' || self.provider == 'generic' || !has(self.sts)",message="STS configuration is only supported for the 'aws' and 'generic' Bucket providers"
// +kubebuilder:validation:XValidation:rule="self.provider != 'aws' || !has(self.sts) || self.sts.provider == 'aws'",message="'aws' is the only supported STS provider for the 'aws' Bucket provider"
// +kubebuilder:validation:XValidation:rule="self.provider != 'generic' || !has(self.sts) || self.sts.provider == 'ldap'",message="'ldap' is the only supported STS provider for the 'generic' Bucket provider"
// +kubebuilder:validation:XValidation:rule="!has(self.sts) || self.sts.provider != 'aws' || !has(self.sts.secretRef)",message="spec.sts.secretRef is not required for the 'aws' STS provider"
// +kubebuilder:validation:XValidation:rule="!has(self.sts) || self.sts.provider != 'aws' || !has(self.sts.certSecretRef)",message="spec.sts.certSecretRef is not required for the 'aws' STS provider"
// +kubebuilder:validation:XValidation:rule="self.provider != 'generic' || !has(self.serviceAccountName)",message="ServiceAccountName is not supported for the 'generic' Bucket provider"
// +kubebuilder:validation:XValidation:rule="!has(self.secretRef) || !has(self.serviceAccountName)",message="cannot set both .spec.secretRef and .spec.serviceAccountName"
type BucketSpec struct {
	// Provider of the storage: "generic" for S3-compatible servers, "aws", "gcp" or "azure".
	// +optional
	// +kubebuilder:default=generic
	// +kubebuilder:validation:Enum=generic;aws;gcp;azure
	Provider string `json:"provider,omitempty"`

	// BucketName is the name of the bucket, or of the container with provider "azure".
	// +required
	BucketName string `json:"bucketName"`

	// Endpoint is the address of the storage, as "host" or "host:port"; a URL with provider "azure".
	// +required
	Endpoint string `json:"endpoint"`

	// STS gets temporary credentials from a security token service. Only with provider "aws" or "generic".
	// +optional
	STS *BucketSTS `json:"sts,omitempty"`

	// Insecure talks plain HTTP to the endpoint. Only with provider "aws" or "generic".
	// +optional
	Insecure bool `json:"insecure,omitempty"`

	// Region of the endpoint.
	// +optional
	Region string `json:"region,omitempty"`

	// Prefix limits the artifact to objects whose key starts with it.
	// +optional
	Prefix string `json:"prefix,omitempty"`

	// SecretRef names a Secret in the same namespace with credentials: "accesskey" and "secretkey" for "generic" and "aws",
	// "serviceaccount" for "gcp", one of several forms for "azure".
	// +optional
	SecretRef *meta.LocalObjectReference `json:"secretRef,omitempty"`

	// ServiceAccountName of a ServiceAccount in the same namespace whose workload identity is used, in place of the
	// controller's. Not with provider "generic".
	// +optional
	ServiceAccountName string `json:"serviceAccountName,omitempty"`

	// CertSecretRef names a Secret in the same namespace with TLS material for the endpoint: "ca.crt", or "tls.crt" and
	// "tls.key", or all of them. Only with provider "aws" or "generic", and not if insecure is set.
	// +optional
	CertSecretRef *meta.LocalObjectReference `json:"certSecretRef,omitempty"`

	// ProxySecretRef names a Secret in the same namespace with the proxy to go through: "address", and optionally
	// "username" and "password".
	// +optional
	ProxySecretRef *meta.LocalObjectReference `json:"proxySecretRef,omitempty"`

	// Interval between two looks at the bucket, like "5m". Some jitter is added.
	// +required
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern="^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$"
	Interval meta.Duration `json:"interval"`

	// Timeout of listing, and again of downloading, in one run, like "90s". Defaults to 60s.
	// +optional
	// +kubebuilder:default="60s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern="^([0-9]+(\\.[0-9]+)?(ms|s|m))+$"
	Timeout meta.Duration `json:"timeout,omitempty"`

	// Ignore lists, in the format of .gitignore, what to leave out of the artifact. It comes after the .sourceignore object
	// of the bucket.
	// +optional
	Ignore *string `json:"ignore,omitempty"`

	// Suspend stops all work on this source. The artifact stays available. A run that has begun is finished.
	// +optional
	Suspend bool `json:"suspend,omitempty"`
}

// BucketSTS says where to get temporary credentials.
type BucketSTS struct {
	// Provider of the service: "aws" with Bucket provider "aws", "ldap" with "generic".
	// +required
	// +kubebuilder:validation:Enum=aws;ldap
	Provider string `json:"provider"`

	// Endpoint is the URL of the service.
	// +required
	// +kubebuilder:validation:Pattern="^(http|https)://.*$"
	Endpoint string `json:"endpoint"`

	// SecretRef names a Secret in the same namespace with "username" and "password". Only with provider "ldap".
	// +optional
	SecretRef *meta.LocalObjectReference `json:"secretRef,omitempty"`

	// CertSecretRef names a Secret in the same namespace with TLS material for the service: "ca.crt", or "tls.crt" and
	// "tls.key", or all of them. Only with provider "ldap".
	// +optional
	CertSecretRef *meta.LocalObjectReference `json:"certSecretRef,omitempty"`
}

// BucketStatus is what was observed of a Bucket.
type BucketStatus struct {
	// ObservedGeneration is the generation of the spec the last completed run was about. -1 before the first.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// Conditions of the source.
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// URL of the latest artifact, under a name that does not change.
	// +optional
	URL string `json:"url,omitempty"`

	// Artifact of the last successful run.
	// +optional
	Artifact *meta.Artifact `json:"artifact,omitempty"`

	// ObservedIgnore is the spec.ignore the artifact was made with.
	// +optional
	ObservedIgnore *string `json:"observedIgnore,omitempty"`

	meta.ReconcileRequestStatus `json:",inline"`
}

// Bucket offers the objects of an object storage bucket as an artifact.
//
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories={all,fluxcd,fluxcd-sources}
// +kubebuilder:printcolumn:name="Endpoint",type=string,JSONPath=`.spec.endpoint`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
type Bucket struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is what the user asks for.
	// +optional
	Spec BucketSpec `json:"spec,omitempty"`

	// Status is what the controller observed.
	// +optional
	// +kubebuilder:default={"observedGeneration":-1}
	Status BucketStatus `json:"status,omitempty"`
}

// BucketList is a list of Buckets.
//
// +kubebuilder:object:root=true
type BucketList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Bucket `json:"items"`
}

// GetConditions returns status.conditions.
func (o *Bucket) GetConditions() []metav1.Condition { return o.Status.Conditions }

// SetConditions replaces status.conditions.
func (o *Bucket) SetConditions(c []metav1.Condition) { o.Status.Conditions = c }

// GetObservedGeneration returns status.observedGeneration.
func (o *Bucket) GetObservedGeneration() int64 { return o.Status.ObservedGeneration }

// SetObservedGeneration replaces status.observedGeneration.
func (o *Bucket) SetObservedGeneration(g int64) { o.Status.ObservedGeneration = g }

// GetLastHandledReconcileRequest returns status.lastHandledReconcileAt.
func (o *Bucket) GetLastHandledReconcileRequest() string {
	return o.Status.GetLastHandledReconcileRequest()
}

// SetLastHandledReconcileRequest replaces status.lastHandledReconcileAt.
func (o *Bucket) SetLastHandledReconcileRequest(token string) {
	o.Status.SetLastHandledReconcileRequest(token)
}

// IsSuspended tells whether spec.suspend is set.
func (o *Bucket) IsSuspended() bool { return o.Spec.Suspend }

// GetInterval returns spec.interval.
func (o *Bucket) GetInterval() time.Duration { return o.Spec.Interval.Value() }

// GetTimeout returns spec.timeout, or 60s.
func (o *Bucket) GetTimeout() time.Duration {
	return positiveOr(o.Spec.Timeout.Value(), defaultTimeout)
}

// GetArtifact returns status.artifact.
func (o *Bucket) GetArtifact() *meta.Artifact { return o.Status.Artifact }

// DurationError names the unusable durations of the spec.
func (o *Bucket) DurationError() error {
	return meta.CheckDurations(
		meta.DurationField{Path: "spec.interval", Value: o.Spec.Interval},
		meta.DurationField{Path: "spec.timeout", Value: o.Spec.Timeout},
	)
}
