package v1

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seed-79636ae9/flux/api/meta"
)

// HelmRepositoryKind is the kind of a HelmRepository.
const HelmRepositoryKind string = "HelmRepository"

// Values of spec.type.
const (
	// HelmRepositoryTypeDefault is a repository with an index served over HTTP(S).
	HelmRepositoryTypeDefault string = "default"
	// HelmRepositoryTypeOCI is an OCI registry.
	HelmRepositoryTypeOCI string = "oci"
)

// defaultHelmRepositoryInterval is used when spec.interval is not set (helmrepository 7).
const defaultHelmRepositoryInterval = time.Minute

// HelmRepositorySpec says where a repository of Helm charts is.
type HelmRepositorySpec struct {
	// URL of the repository: the parent of index.yaml with scheme http or https, or "oci://<host>/<path>" with type "oci".
	// +required
	// +kubebuilder:validation:Pattern="^(http|https|oci)://.*$"
	URL string `json:"url"`

	// Type of the repository: "default", also when not set, has an index served over HTTP(S); "oci" is an OCI registry and
	// needs no work of its own, only charts refer to it.
	// +optional
	// +kubebuilder:validation:Enum=default;oci
	Type string `json:"type,omitempty"`

	// SecretRef names a Secret in the same namespace with credentials: "username" and "password" for type "default", or type
	// kubernetes.io/dockerconfigjson for type "oci". TLS material in it is deprecated, see certSecretRef.
	// +optional
	SecretRef *meta.LocalObjectReference `json:"secretRef,omitempty"`

	// CertSecretRef names a Secret in the same namespace with TLS material for the server: "ca.crt", or "tls.crt" and
	// "tls.key", or all of them. It wins over TLS material of secretRef.
	// +optional
	CertSecretRef *meta.LocalObjectReference `json:"certSecretRef,omitempty"`

	// PassCredentials sends the credentials also to other hosts the index points to. That may give them away.
	// +optional
	PassCredentials bool `json:"passCredentials,omitempty"`

	// Interval between two looks at the index, like "5m". Some jitter is added. Defaults to 1m. Without effect for type
	// "oci".
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern="^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$"
	Interval meta.Duration `json:"interval,omitempty"`

	// Insecure allows plain HTTP to the registry. Only for type "oci".
	// +optional
	Insecure bool `json:"insecure,omitempty"`

	// Timeout of fetching the index, like "90s". For type "oci", of fetching a chart. Defaults to 60s.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern="^([0-9]+(\\.[0-9]+)?(ms|s|m))+$"
	Timeout meta.Duration `json:"timeout,omitempty"`

	// Suspend stops all work on this source. The artifact stays available. A run that has begun is finished.
	// +optional
	Suspend bool `json:"suspend,omitempty"`

	// AccessFrom is accepted for compatibility and has no effect.
	// +optional
	AccessFrom *meta.AccessFrom `json:"accessFrom,omitempty"`

	// Provider of credentials for type "oci" when there is no secretRef: "generic" none, "aws", "azure" and "gcp" the
	// workload identity of the controller.
	// +optional
	// +kubebuilder:default=generic
	// +kubebuilder:validation:Enum=generic;aws;azure;gcp
	Provider string `json:"provider,omitempty"`
}

// HelmRepositoryStatus is what was observed of a HelmRepository.
type HelmRepositoryStatus struct {
	// ObservedGeneration is the generation of the spec the last completed run was about. -1 before the first.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// Conditions of the source.
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// URL of the latest index, under a name that does not change.
	// +optional
	URL string `json:"url,omitempty"`

	// Artifact of the last successful run: the index of the repository.
	// +optional
	Artifact *meta.Artifact `json:"artifact,omitempty"`

	meta.ReconcileRequestStatus `json:",inline"`
}

// HelmRepository offers the index of a Helm repository, or names an OCI registry with charts.
//
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=helmrepo,categories={all,fluxcd,fluxcd-sources}
// +kubebuilder:printcolumn:name="URL",type=string,JSONPath=`.spec.url`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
type HelmRepository struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is what the user asks for.
	// +optional
	Spec HelmRepositorySpec `json:"spec,omitempty"`

	// Status is what the controller observed.
	// +optional
	// +kubebuilder:default={"observedGeneration":-1}
	Status HelmRepositoryStatus `json:"status,omitempty"`
}

// HelmRepositoryList is a list of HelmRepositories.
//
// +kubebuilder:object:root=true
type HelmRepositoryList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []HelmRepository `json:"items"`
}

// GetConditions returns status.conditions.
func (o *HelmRepository) GetConditions() []metav1.Condition { return o.Status.Conditions }

// SetConditions replaces status.conditions.
func (o *HelmRepository) SetConditions(c []metav1.Condition) { o.Status.Conditions = c }

// GetObservedGeneration returns status.observedGeneration.
func (o *HelmRepository) GetObservedGeneration() int64 { return o.Status.ObservedGeneration }

// SetObservedGeneration replaces status.observedGeneration.
func (o *HelmRepository) SetObservedGeneration(g int64) { o.Status.ObservedGeneration = g }

// GetLastHandledReconcileRequest returns status.lastHandledReconcileAt.
func (o *HelmRepository) GetLastHandledReconcileRequest() string {
	return o.Status.GetLastHandledReconcileRequest()
}

// SetLastHandledReconcileRequest replaces status.lastHandledReconcileAt.
func (o *HelmRepository) SetLastHandledReconcileRequest(token string) {
	o.Status.SetLastHandledReconcileRequest(token)
}

// IsSuspended tells whether spec.suspend is set.
func (o *HelmRepository) IsSuspended() bool { return o.Spec.Suspend }

// GetInterval returns spec.interval, or 1m when it is not set (helmrepository 7).
func (o *HelmRepository) GetInterval() time.Duration {
	if !o.Spec.Interval.IsSet() {
		return defaultHelmRepositoryInterval
	}
	return o.Spec.Interval.Value()
}

// GetTimeout returns spec.timeout, or 60s.
func (o *HelmRepository) GetTimeout() time.Duration {
	return positiveOr(o.Spec.Timeout.Value(), defaultTimeout)
}

// GetArtifact returns status.artifact.
func (o *HelmRepository) GetArtifact() *meta.Artifact { return o.Status.Artifact }

// DurationError names the unusable durations of the spec.
func (o *HelmRepository) DurationError() error {
	return meta.CheckDurations(
		meta.DurationField{Path: "spec.interval", Value: o.Spec.Interval},
		meta.DurationField{Path: "spec.timeout", Value: o.Spec.Timeout},
	)
}
