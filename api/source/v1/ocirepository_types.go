package v1

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seed-79636ae9/flux/api/meta"
)

// OCIRepositoryKind is the kind of an OCIRepository.
const OCIRepositoryKind string = "OCIRepository"

// OCIRepositoryURLPrefix starts the URL of every OCI repository.
const OCIRepositoryURLPrefix string = "oci://"

// Providers that can supply credentials for an OCI registry. HelmRepository and Bucket know them too.
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

// Values of spec.layerSelector.operation.
const (
	// OCILayerExtract unpacks the layer and packs its files anew.
	OCILayerExtract string = "extract"
	// OCILayerCopy keeps the layer byte for byte.
	OCILayerCopy string = "copy"
)

// OCIRepositorySpec says which artifact of an OCI repository to offer.
type OCIRepositorySpec struct {
	// URL of the repository, as "oci://<host>/<path>" without a tag.
	// +required
	// +kubebuilder:validation:Pattern="^oci://.*$"
	URL string `json:"url"`

	// Ref selects the revision. Defaults to the tag "latest".
	// +optional
	Ref *OCIRepositoryRef `json:"ref,omitempty"`

	// LayerSelector says which layer to take, and how. Defaults to extracting the first one.
	// +optional
	LayerSelector *OCILayerSelector `json:"layerSelector,omitempty"`

	// Provider of credentials. "generic" uses secretRef and the pull secrets of serviceAccountName; "aws", "azure" and "gcp"
	// use workload identity when those give none.
	// +optional
	// +kubebuilder:default=generic
	// +kubebuilder:validation:Enum=generic;aws;azure;gcp
	Provider string `json:"provider,omitempty"`

	// SecretRef names a Secret in the same namespace of type kubernetes.io/dockerconfigjson.
	// +optional
	SecretRef *meta.LocalObjectReference `json:"secretRef,omitempty"`

	// Verify demands a valid signature before a revision is offered.
	// +optional
	Verify *OCIRepositoryVerification `json:"verify,omitempty"`

	// ServiceAccountName of a ServiceAccount in the same namespace: its imagePullSecrets are used for the registry, and with
	// a cloud provider its workload identity.
	// +optional
	ServiceAccountName string `json:"serviceAccountName,omitempty"`

	// CertSecretRef names a Secret in the same namespace with TLS material for the registry: "ca.crt", or "tls.crt" and
	// "tls.key", or all of them.
	// +optional
	CertSecretRef *meta.LocalObjectReference `json:"certSecretRef,omitempty"`

	// ProxySecretRef names a Secret in the same namespace with the proxy to go through: "address", and optionally
	// "username" and "password".
	// +optional
	ProxySecretRef *meta.LocalObjectReference `json:"proxySecretRef,omitempty"`

	// Interval between two looks at the repository, like "5m". Some jitter is added.
	// +required
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern="^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$"
	Interval meta.Duration `json:"interval"`

	// Timeout of the remote operations of one run, like "90s". Defaults to 60s.
	// +optional
	// +kubebuilder:default="60s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern="^([0-9]+(\\.[0-9]+)?(ms|s|m))+$"
	Timeout meta.Duration `json:"timeout,omitempty"`

	// Ignore lists, in the format of .gitignore, what to leave out of the artifact. It comes after the .sourceignore files
	// of the content, and any pattern replaces the built-in defaults. An empty text differs from none.
	// +optional
	Ignore *string `json:"ignore,omitempty"`

	// Insecure allows plain HTTP to the registry.
	// +optional
	Insecure bool `json:"insecure,omitempty"`

	// Suspend stops all work on this source. The artifact stays available. A run that has begun is finished.
	// +optional
	Suspend bool `json:"suspend,omitempty"`
}

// OCIRepositoryRef selects a revision. If several fields are set, the order of precedence is digest, semver, tag.
type OCIRepositoryRef struct {
	// Digest of the manifest, as "sha256:<hex>".
	// +optional
	Digest string `json:"digest,omitempty"`

	// SemVer is a range of semantic versions. The tag with the highest version in it is offered.
	// +optional
	SemVer string `json:"semver,omitempty"`

	// SemverFilter is a regular expression tags must match to be considered for semver.
	// +optional
	SemverFilter string `json:"semverFilter,omitempty"`

	// Tag to offer.
	// +optional
	Tag string `json:"tag,omitempty"`
}

// OCILayerSelector says which layer of an OCI artifact to take.
type OCILayerSelector struct {
	// MediaType of the layer. The first layer of this type is taken, or the first of all when not set.
	// +optional
	MediaType string `json:"mediaType,omitempty"`

	// Operation on the layer: "extract", also when not set, unpacks it and applies the ignore rules; "copy" keeps it byte
	// for byte.
	// +optional
	// +kubebuilder:validation:Enum=extract;copy
	Operation string `json:"operation,omitempty"`
}

// OIDCIdentityMatch describes a signer of keyless signatures.
type OIDCIdentityMatch struct {
	// Issuer is a regular expression the OIDC issuer of the signer must match.
	// +required
	Issuer string `json:"issuer"`

	// Subject is a regular expression the identity of the signer must match.
	// +required
	Subject string `json:"subject"`
}

// OCIRepositoryVerification demands a signature on an OCI artifact.
type OCIRepositoryVerification struct {
	// Provider is the technology the artifact is signed with.
	// +required
	// +kubebuilder:default=cosign
	// +kubebuilder:validation:Enum=cosign;notation
	Provider string `json:"provider"`

	// SecretRef names a Secret in the same namespace with what to trust. For cosign: public keys in entries that end in
	// ".pub"; without a Secret, keyless signatures are checked. For notation: "trustpolicy.json" and certificates in entries
	// that end in ".crt" or ".pem".
	// +optional
	SecretRef *meta.LocalObjectReference `json:"secretRef,omitempty"`

	// MatchOIDCIdentity lists the accepted signers of keyless cosign signatures; one has to match. Any signer when empty.
	// +optional
	MatchOIDCIdentity []OIDCIdentityMatch `json:"matchOIDCIdentity,omitzero"`

	// TrustedRootSecretRef names a Secret in the same namespace whose "trusted_root.json" replaces the public root of trust
	// of keyless cosign signatures.
	// +optional
	TrustedRootSecretRef *meta.LocalObjectReference `json:"trustedRootSecretRef,omitempty"`
}

// OCIRepositoryStatus is what was observed of an OCIRepository.
type OCIRepositoryStatus struct {
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

	// ObservedLayerSelector is the spec.layerSelector the artifact was made with.
	// +optional
	ObservedLayerSelector *OCILayerSelector `json:"observedLayerSelector,omitempty"`

	meta.ReconcileRequestStatus `json:",inline"`
}

// OCIRepository offers the content of an OCI artifact.
//
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=ocirepo,categories={all,fluxcd,fluxcd-sources}
// +kubebuilder:printcolumn:name="URL",type=string,JSONPath=`.spec.url`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type OCIRepository struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is what the user asks for.
	// +optional
	Spec OCIRepositorySpec `json:"spec,omitempty"`

	// Status is what the controller observed.
	// +optional
	// +kubebuilder:default={"observedGeneration":-1}
	Status OCIRepositoryStatus `json:"status,omitempty"`
}

// OCIRepositoryList is a list of OCIRepositories.
//
// +kubebuilder:object:root=true
type OCIRepositoryList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []OCIRepository `json:"items"`
}

// GetConditions returns status.conditions.
func (o *OCIRepository) GetConditions() []metav1.Condition { return o.Status.Conditions }

// SetConditions replaces status.conditions.
func (o *OCIRepository) SetConditions(c []metav1.Condition) { o.Status.Conditions = c }

// GetObservedGeneration returns status.observedGeneration.
func (o *OCIRepository) GetObservedGeneration() int64 { return o.Status.ObservedGeneration }

// SetObservedGeneration replaces status.observedGeneration.
func (o *OCIRepository) SetObservedGeneration(g int64) { o.Status.ObservedGeneration = g }

// GetLastHandledReconcileRequest returns status.lastHandledReconcileAt.
func (o *OCIRepository) GetLastHandledReconcileRequest() string {
	return o.Status.GetLastHandledReconcileRequest()
}

// SetLastHandledReconcileRequest replaces status.lastHandledReconcileAt.
func (o *OCIRepository) SetLastHandledReconcileRequest(token string) {
	o.Status.SetLastHandledReconcileRequest(token)
}

// IsSuspended tells whether spec.suspend is set.
func (o *OCIRepository) IsSuspended() bool { return o.Spec.Suspend }

// GetInterval returns spec.interval.
func (o *OCIRepository) GetInterval() time.Duration { return o.Spec.Interval.Value() }

// GetTimeout returns spec.timeout, or 60s.
func (o *OCIRepository) GetTimeout() time.Duration {
	return positiveOr(o.Spec.Timeout.Value(), defaultTimeout)
}

// GetArtifact returns status.artifact.
func (o *OCIRepository) GetArtifact() *meta.Artifact { return o.Status.Artifact }

// DurationError names the unusable durations of the spec.
func (o *OCIRepository) DurationError() error {
	return meta.CheckDurations(
		meta.DurationField{Path: "spec.interval", Value: o.Spec.Interval},
		meta.DurationField{Path: "spec.timeout", Value: o.Spec.Timeout},
	)
}
