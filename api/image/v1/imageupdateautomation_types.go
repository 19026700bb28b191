package v1

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
)

// ImageUpdateAutomationKind is the kind of an ImageUpdateAutomation.
const ImageUpdateAutomationKind string = "ImageUpdateAutomation"

// UpdateStrategySetters replaces the values that carry a marker comment.
const UpdateStrategySetters string = "Setters"

// Values of spec.git.commit.signingKey.type.
const (
	// SigningKeyGPG signs with an OpenPGP key.
	SigningKeyGPG string = "gpg"
	// SigningKeySSH signs with an SSH key.
	SigningKeySSH string = "ssh"
)

// ImageUpdateAutomationSpec says where in Git the chosen tags are written.
type ImageUpdateAutomationSpec struct {
	// SourceRef names the GitRepository that says how to reach the repository.
	// +required
	SourceRef ImageUpdateSourceReference `json:"sourceRef"`

	// Git says what to check out, how to commit and where to push.
	// +optional
	Git *GitSpec `json:"git,omitempty"`

	// Interval between two looks at the repository, like "30m".
	// +required
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern="^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$"
	Interval meta.Duration `json:"interval"`

	// PolicySelector selects, by label, the ImagePolicies of the namespace whose tags are written. All of them when not set.
	// +optional
	PolicySelector *metav1.LabelSelector `json:"policySelector,omitempty"`

	// Update says which files are edited, and how.
	// +optional
	// +kubebuilder:default={"strategy":"Setters"}
	Update *UpdateStrategy `json:"update,omitempty"`

	// Suspend stops all work on this object. A run that has begun is finished.
	// +optional
	Suspend bool `json:"suspend,omitempty"`
}

// ImageUpdateSourceReference names the GitRepository of an ImageUpdateAutomation.
type ImageUpdateSourceReference struct {
	// APIVersion of the GitRepository.
	// +optional
	APIVersion string `json:"apiVersion,omitempty"`

	// Kind is "GitRepository".
	// +required
	// +kubebuilder:default=GitRepository
	// +kubebuilder:validation:Enum=GitRepository
	Kind string `json:"kind"`

	// Name of the GitRepository.
	// +required
	Name string `json:"name"`

	// Namespace of the GitRepository. Defaults to the namespace of the ImageUpdateAutomation.
	// +optional
	Namespace string `json:"namespace,omitempty"`
}

// GitSpec says what to check out, how to commit and where to push.
type GitSpec struct {
	// Checkout says what to start from. Defaults to the reference of the GitRepository.
	// +optional
	Checkout *GitCheckoutSpec `json:"checkout,omitempty"`

	// Commit describes the commits.
	// +required
	Commit CommitSpec `json:"commit"`

	// Push says where to push. Defaults to the branch that was checked out.
	// +optional
	Push *PushSpec `json:"push,omitempty"`
}

// GitCheckoutSpec says what to start from.
type GitCheckoutSpec struct {
	// Reference to check out.
	// +required
	Reference sourcev1.GitRepositoryRef `json:"ref"`
}

// CommitSpec describes the commits.
type CommitSpec struct {
	// Author of the commits, who is the committer, too.
	// +required
	Author CommitUser `json:"author"`

	// SigningKey signs the commits. They are not signed when it is not set.
	// +optional
	SigningKey *SigningKey `json:"signingKey,omitempty"`

	// MessageTemplate is the Go template of the commit message. Its data are the automation, what has changed, and
	// messageTemplateValues.
	// +optional
	MessageTemplate string `json:"messageTemplate,omitempty"`

	// MessageTemplateValues are further values for the template.
	// +optional
	MessageTemplateValues map[string]string `json:"messageTemplateValues,omitzero"`
}

// CommitUser is the author of commits.
type CommitUser struct {
	// Name of the author.
	// +optional
	Name string `json:"name,omitempty"`

	// Email address of the author.
	// +required
	Email string `json:"email"`
}

// SigningKey names the key that signs commits.
type SigningKey struct {
	// Type of the key: "gpg", also when not set, or "ssh".
	// +optional
	// +kubebuilder:validation:Enum=gpg;ssh
	Type string `json:"type,omitempty"`

	// SecretRef names a Secret in the same namespace. For gpg: "git.asc" with an armoured key, and "passphrase" for an
	// encrypted one. For ssh: "identity", and "password" for an encrypted key.
	// +required
	SecretRef meta.LocalObjectReference `json:"secretRef"`
}

// PushSpec says where to push.
type PushSpec struct {
	// Branch to push to. It is created when it does not exist.
	// +optional
	Branch string `json:"branch,omitempty"`

	// Refspec to push besides the branch, like "refs/heads/main:refs/heads/other".
	// +optional
	Refspec string `json:"refspec,omitempty"`

	// Options are push options for the server.
	// +optional
	Options map[string]string `json:"options,omitzero"`
}

// UpdateStrategy says which files are edited, and how.
type UpdateStrategy struct {
	// Strategy is "Setters": values that carry a marker comment are replaced.
	// +optional
	// +kubebuilder:default=Setters
	// +kubebuilder:validation:Enum=Setters
	Strategy string `json:"strategy,omitempty"`

	// Path of the directory or file to edit, from the root of the repository. Defaults to the root.
	// +optional
	Path string `json:"path,omitempty"`
}

// ImageUpdateAutomationStatus is what was observed of an ImageUpdateAutomation.
type ImageUpdateAutomationStatus struct {
	// ObservedGeneration is the generation of the spec the last completed run was about. -1 before the first.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// Conditions of the ImageUpdateAutomation.
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// LastAutomationRunTime is when the last run began.
	// +optional
	LastAutomationRunTime *metav1.Time `json:"lastAutomationRunTime,omitempty"`

	// LastPushCommit is the hash of the last commit that was pushed.
	// +optional
	LastPushCommit string `json:"lastPushCommit,omitempty"`

	// LastPushTime is when it was pushed.
	// +optional
	LastPushTime *metav1.Time `json:"lastPushTime,omitempty"`

	// ObservedPolicies are the versions the last completed run has written, by the name of the ImagePolicy.
	// +optional
	ObservedPolicies map[string]ImageRef `json:"observedPolicies,omitempty"`

	// ObservedSourceRevision is the revision of the repository the last completed run has seen or made.
	// +optional
	ObservedSourceRevision string `json:"observedSourceRevision,omitempty"`

	meta.ReconcileRequestStatus `json:",inline"`
}

// ImageUpdateAutomation writes the tags that ImagePolicies have chosen to a Git repository.
//
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName={iua,imgupd,imgauto},categories={all,fluxcd,fluxcd-images}
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:printcolumn:name="Last run",type=string,JSONPath=`.status.lastAutomationRunTime`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ImageUpdateAutomation struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is what the user asks for.
	// +optional
	Spec ImageUpdateAutomationSpec `json:"spec,omitempty"`

	// Status is what the controller observed.
	// +optional
	// +kubebuilder:default={"observedGeneration":-1}
	Status ImageUpdateAutomationStatus `json:"status,omitempty"`
}

// ImageUpdateAutomationList is a list of ImageUpdateAutomations.
//
// +kubebuilder:object:root=true
type ImageUpdateAutomationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ImageUpdateAutomation `json:"items"`
}

// GetConditions returns status.conditions.
func (o *ImageUpdateAutomation) GetConditions() []metav1.Condition { return o.Status.Conditions }

// SetConditions replaces status.conditions.
func (o *ImageUpdateAutomation) SetConditions(c []metav1.Condition) { o.Status.Conditions = c }

// GetObservedGeneration returns status.observedGeneration.
func (o *ImageUpdateAutomation) GetObservedGeneration() int64 { return o.Status.ObservedGeneration }

// SetObservedGeneration replaces status.observedGeneration.
func (o *ImageUpdateAutomation) SetObservedGeneration(g int64) { o.Status.ObservedGeneration = g }

// GetLastHandledReconcileRequest returns status.lastHandledReconcileAt.
func (o *ImageUpdateAutomation) GetLastHandledReconcileRequest() string {
	return o.Status.GetLastHandledReconcileRequest()
}

// SetLastHandledReconcileRequest replaces status.lastHandledReconcileAt.
func (o *ImageUpdateAutomation) SetLastHandledReconcileRequest(token string) {
	o.Status.SetLastHandledReconcileRequest(token)
}

// IsSuspended tells whether spec.suspend is set.
func (o *ImageUpdateAutomation) IsSuspended() bool { return o.Spec.Suspend }

// GetInterval returns spec.interval.
func (o *ImageUpdateAutomation) GetInterval() time.Duration { return o.Spec.Interval.Value() }

// DurationError names the unusable durations of the spec.
func (o *ImageUpdateAutomation) DurationError() error {
	return meta.CheckDurations(meta.DurationField{Path: "spec.interval", Value: o.Spec.Interval})
}
