package v1

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seed-79636ae9/flux/api/meta"
)

// GitRepositoryKind is the kind of a GitRepository.
const GitRepositoryKind string = "GitRepository"

// Providers that can supply credentials for a Git host.
const (
	// GitProviderGeneric takes credentials from spec.secretRef, or none.
	GitProviderGeneric string = "generic"
	// GitProviderAWS signs in to AWS CodeCommit with workload identity.
	GitProviderAWS string = "aws"
	// GitProviderAzure signs in to Azure DevOps with workload identity.
	GitProviderAzure string = "azure"
	// GitProviderGitHub signs in as a GitHub App whose data is in spec.secretRef.
	GitProviderGitHub string = "github"
)

// GitVerificationMode says which Git objects must carry a valid signature.
type GitVerificationMode string

const (
	// VerifyHead checks the commit that is checked out.
	VerifyHead GitVerificationMode = "HEAD"
	// VerifyTag checks the tag that is checked out.
	VerifyTag GitVerificationMode = "Tag"
	// VerifyTagAndHead checks the tag that is checked out and the commit it points to.
	VerifyTagAndHead GitVerificationMode = "TagAndHEAD"
	// VerifyHeadLegacy is an old spelling of VerifyHead.
	VerifyHeadLegacy GitVerificationMode = "head"
)

// GitRepositorySpec says which revision of a Git repository to offer as an artifact.
//
// +kubebuilder:validation:XValidation:rule="!has(self.serviceAccountName) || (has(self.provider) && (self.provider == 'azure' || self.provider == 'aws'))",message="serviceAccountName can only be set when provider is 'azure' or 'aws'"
type GitRepositorySpec struct {
	// URL of the repository, with scheme http, https or ssh. The short form "user@host:path" is not accepted.
	// +required
	// +kubebuilder:validation:Pattern="^(http|https|ssh)://.*$"
	URL string `json:"url"`

	// SecretRef names a Secret in the same namespace with credentials. For HTTP(S): "username" and "password", or
	// "bearerToken", and optionally "ca.crt", "tls.crt" and "tls.key". For SSH: "identity" and "known_hosts", and
	// "password" for an encrypted key. For the github provider: the data of a GitHub App.
	// +optional
	SecretRef *meta.LocalObjectReference `json:"secretRef,omitempty"`

	// Provider of credentials. "generic", also when not set, uses secretRef; "aws" and "azure" use workload identity;
	// "github" uses a GitHub App.
	// +optional
	// +kubebuilder:validation:Enum=generic;aws;azure;github
	Provider string `json:"provider,omitempty"`

	// ServiceAccountName of a ServiceAccount in the same namespace whose workload identity is used, in place of the
	// controller's. Only with provider "aws" or "azure".
	// +optional
	ServiceAccountName string `json:"serviceAccountName,omitempty"`

	// Interval between two looks at the repository, like "5m". Some jitter is added.
	// +required
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern="^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$"
	Interval meta.Duration `json:"interval"`

	// Timeout of the remote Git operations of one run, like "90s". Defaults to 60s.
	// +optional
	// +kubebuilder:default="60s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern="^([0-9]+(\\.[0-9]+)?(ms|s|m))+$"
	Timeout meta.Duration `json:"timeout,omitempty"`

	// Ref selects the revision. Defaults to the branch "master".
	// +optional
	Ref *GitRepositoryRef `json:"ref,omitempty"`

	// Verify demands a valid signature before a revision is offered.
	// +optional
	Verify *GitRepositoryVerification `json:"verify,omitempty"`

	// ProxySecretRef names a Secret in the same namespace with the proxy to go through: "address", and optionally
	// "username" and "password".
	// +optional
	ProxySecretRef *meta.LocalObjectReference `json:"proxySecretRef,omitempty"`

	// Ignore lists, in the format of .gitignore, what to leave out of the artifact. It comes after the .sourceignore files
	// of the repository, and any pattern replaces the built-in defaults. An empty text differs from none.
	// +optional
	Ignore *string `json:"ignore,omitempty"`

	// Suspend stops all work on this source. The artifact stays available. A run that has begun is finished.
	// +optional
	Suspend bool `json:"suspend,omitempty"`

	// RecurseSubmodules fetches submodules too, at every depth, with the credentials of this source.
	// +optional
	RecurseSubmodules bool `json:"recurseSubmodules,omitempty"`

	// Include copies the artifacts of other GitRepositories into this one.
	// +optional
	Include []GitRepositoryInclude `json:"include,omitzero"`

	// SparseCheckout lists the directories to offer, from the root of the repository. Everything when empty. Each must
	// exist.
	// +optional
	SparseCheckout []string `json:"sparseCheckout,omitzero"`
}

// GitRepositoryRef selects a revision. If several fields are set, the order of precedence is commit, name, semver, tag,
// branch.
type GitRepositoryRef struct {
	// Branch to follow. Together with a commit, the branch that contains it.
	// +optional
	Branch string `json:"branch,omitempty"`

	// Tag to offer.
	// +optional
	Tag string `json:"tag,omitempty"`

	// SemVer is a range of semantic versions, like ">=1.2.0 <2.0.0". The tag with the highest version in it is offered.
	// +optional
	SemVer string `json:"semver,omitempty"`

	// Name is a full reference name, like "refs/heads/main" or "refs/pull/1/head".
	// +optional
	Name string `json:"name,omitempty"`

	// Commit is the full hash of a commit.
	// +optional
	Commit string `json:"commit,omitempty"`
}

// GitRepositoryVerification demands signatures.
type GitRepositoryVerification struct {
	// Mode says what must be signed: "HEAD" the commit, "Tag" the tag, "TagAndHEAD" both. "head" is an old spelling of
	// "HEAD".
	// +optional
	// +kubebuilder:default=HEAD
	// +kubebuilder:validation:Enum=head;HEAD;Tag;TagAndHEAD
	Mode GitVerificationMode `json:"mode,omitempty"`

	// SecretRef names a Secret in the same namespace with the public keys of trusted signers: SSH keys in entries that end
	// in ".sshpub", armored OpenPGP key rings in all others.
	// +required
	SecretRef meta.LocalObjectReference `json:"secretRef"`
}

// GitRepositoryInclude copies content of another GitRepository into the artifact.
type GitRepositoryInclude struct {
	// Repository is the GitRepository in the same namespace to copy from.
	// +required
	Repository meta.LocalObjectReference `json:"repository"`

	// FromPath is the directory to copy, from the root of the included artifact. Defaults to the root.
	// +optional
	FromPath string `json:"fromPath,omitempty"`

	// ToPath is the directory to copy to, from the root of this artifact. Defaults to the name of the included repository.
	// +optional
	ToPath string `json:"toPath,omitempty"`
}

// GetFromPath returns the directory to copy from, empty for the root.
func (i GitRepositoryInclude) GetFromPath() string {
	return i.FromPath
}

// GetToPath returns the directory to copy to (gitrepository 54).
func (i GitRepositoryInclude) GetToPath() string {
	if i.ToPath == "" {
		return i.Repository.Name
	}
	return i.ToPath
}

// GitRepositoryStatus is what was observed of a GitRepository.
type GitRepositoryStatus struct {
	// ObservedGeneration is the generation of the spec the last completed run was about. -1 before the first.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// Conditions of the source.
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// Artifact of the last successful run.
	// +optional
	Artifact *meta.Artifact `json:"artifact,omitempty"`

	// IncludedArtifacts are the artifacts that were copied into this one, in the order of spec.include.
	// +optional
	IncludedArtifacts []*meta.Artifact `json:"includedArtifacts,omitempty"`

	// ObservedIgnore is the spec.ignore the artifact was made with.
	// +optional
	ObservedIgnore *string `json:"observedIgnore,omitempty"`

	// ObservedRecurseSubmodules is the spec.recurseSubmodules the artifact was made with.
	// +optional
	ObservedRecurseSubmodules bool `json:"observedRecurseSubmodules,omitempty"`

	// ObservedInclude is the spec.include the artifact was made with.
	// +optional
	ObservedInclude []GitRepositoryInclude `json:"observedInclude,omitempty"`

	// ObservedSparseCheckout is the spec.sparseCheckout the artifact was made with.
	// +optional
	ObservedSparseCheckout []string `json:"observedSparseCheckout,omitempty"`

	// SourceVerificationMode is the mode the last signature check was made with.
	// +optional
	SourceVerificationMode *GitVerificationMode `json:"sourceVerificationMode,omitempty"`

	meta.ReconcileRequestStatus `json:",inline"`
}

// GitRepository offers one revision of a Git repository as an artifact.
//
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=gitrepo,categories={all,fluxcd,fluxcd-sources}
// +kubebuilder:printcolumn:name="URL",type=string,JSONPath=`.spec.url`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
type GitRepository struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is what the user asks for.
	// +optional
	Spec GitRepositorySpec `json:"spec,omitempty"`

	// Status is what the controller observed.
	// +optional
	// +kubebuilder:default={"observedGeneration":-1}
	Status GitRepositoryStatus `json:"status,omitempty"`
}

// GitRepositoryList is a list of GitRepositories.
//
// +kubebuilder:object:root=true
type GitRepositoryList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []GitRepository `json:"items"`
}

// GetConditions returns status.conditions.
func (o *GitRepository) GetConditions() []metav1.Condition { return o.Status.Conditions }

// SetConditions replaces status.conditions.
func (o *GitRepository) SetConditions(c []metav1.Condition) { o.Status.Conditions = c }

// GetObservedGeneration returns status.observedGeneration.
func (o *GitRepository) GetObservedGeneration() int64 { return o.Status.ObservedGeneration }

// SetObservedGeneration replaces status.observedGeneration.
func (o *GitRepository) SetObservedGeneration(g int64) { o.Status.ObservedGeneration = g }

// GetLastHandledReconcileRequest returns status.lastHandledReconcileAt.
func (o *GitRepository) GetLastHandledReconcileRequest() string {
	return o.Status.GetLastHandledReconcileRequest()
}

// SetLastHandledReconcileRequest replaces status.lastHandledReconcileAt.
func (o *GitRepository) SetLastHandledReconcileRequest(token string) {
	o.Status.SetLastHandledReconcileRequest(token)
}

// IsSuspended tells whether spec.suspend is set.
func (o *GitRepository) IsSuspended() bool { return o.Spec.Suspend }

// GetInterval returns spec.interval.
func (o *GitRepository) GetInterval() time.Duration { return o.Spec.Interval.Value() }

// GetTimeout returns spec.timeout, or 60s.
func (o *GitRepository) GetTimeout() time.Duration {
	return positiveOr(o.Spec.Timeout.Value(), defaultTimeout)
}

// GetArtifact returns status.artifact.
func (o *GitRepository) GetArtifact() *meta.Artifact { return o.Status.Artifact }

// DurationError names the unusable durations of the spec.
func (o *GitRepository) DurationError() error {
	return meta.CheckDurations(
		meta.DurationField{Path: "spec.interval", Value: o.Spec.Interval},
		meta.DurationField{Path: "spec.timeout", Value: o.Spec.Timeout},
	)
}
