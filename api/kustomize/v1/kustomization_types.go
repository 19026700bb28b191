package v1

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seed-79636ae9/flux/api/meta"
)

// KustomizationKind is the kind of a Kustomization.
const KustomizationKind string = "Kustomization"

// minTimeout is the least time a run is given, also if the spec says less (kustomization 88).
const minTimeout = 30 * time.Second

// KustomizationSpec says what to build from a source and how to apply it.
type KustomizationSpec struct {
	// SourceRef names the source of the manifests.
	// +required
	SourceRef SourceReference `json:"sourceRef"`

	// Path of the directory to build, from the root of the artifact. It needs no kustomization.yaml: without one, every
	// manifest below it is taken. Defaults to the root.
	// +optional
	Path string `json:"path,omitempty"`

	// Interval between two runs, like "10m". Some jitter is added. A new revision of the source starts a run at once.
	// +required
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern="^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$"
	Interval meta.Duration `json:"interval"`

	// RetryInterval is the time from a failed run to the next. Defaults to interval.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern="^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$"
	RetryInterval meta.Duration `json:"retryInterval,omitempty"`

	// Timeout of building, applying and health checking in one run. Defaults to interval less 30s. At least 30s are always
	// given.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern="^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$"
	Timeout meta.Duration `json:"timeout,omitempty"`

	// Prune deletes objects that were applied by this Kustomization and are no longer in its manifests.
	// +required
	Prune bool `json:"prune"`

	// DeletionPolicy says what happens to the applied objects when this Kustomization is deleted: "MirrorPrune", also when
	// not set, deletes them if prune is true; "Delete" deletes them; "WaitForTermination" deletes them and waits until they
	// are gone; "Orphan" leaves them.
	// +optional
	// +kubebuilder:validation:Enum=MirrorPrune;Delete;WaitForTermination;Orphan
	DeletionPolicy string `json:"deletionPolicy,omitempty"`

	// Suspend stops all work on this Kustomization. The applied objects stay. A run that has begun is finished.
	// +optional
	Suspend bool `json:"suspend,omitempty"`

	// Force recreates an object when a change of an immutable field is refused.
	// +optional
	// +kubebuilder:default=false
	Force bool `json:"force,omitempty"`

	// DependsOn lists Kustomizations that must be ready, and up to date if they share the source, before this one is
	// applied.
	// +optional
	DependsOn []meta.DependencyReference `json:"dependsOn,omitzero"`

	// Wait checks the health of all applied objects. If it is set, healthChecks has no effect.
	// +optional
	Wait bool `json:"wait,omitempty"`

	// HealthChecks lists objects that must be healthy before this Kustomization is ready. An entry without apiVersion is of
	// apps/v1.
	// +optional
	HealthChecks []meta.NamespacedObjectKindReference `json:"healthChecks,omitzero"`

	// HealthCheckExprs tells the health of kinds by CEL expressions, in place of the built-in rules.
	// +optional
	HealthCheckExprs []meta.HealthCheckExpr `json:"healthCheckExprs,omitzero"`

	// TargetNamespace sets or replaces the namespace of all namespaced objects. The namespace must exist.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	TargetNamespace string `json:"targetNamespace,omitempty"`

	// NamePrefix is put before the names of all objects.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=200
	NamePrefix string `json:"namePrefix,omitempty"`

	// NameSuffix is put after the names of all objects.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=200
	NameSuffix string `json:"nameSuffix,omitempty"`

	// CommonMetadata sets labels and annotations on all objects.
	// +optional
	CommonMetadata *meta.CommonMetadata `json:"commonMetadata,omitempty"`

	// Patches to make, in this order, after those of the kustomization.yaml.
	// +optional
	Patches []meta.Patch `json:"patches,omitzero"`

	// Images to replace. An entry goes over the one of the same name in the kustomization.yaml, field by field.
	// +optional
	Images []meta.Image `json:"images,omitzero"`

	// Components are directories of kustomize components to add, as paths relative to spec.path.
	// +optional
	Components []string `json:"components,omitzero"`

	// IgnoreMissingComponents skips components whose directory does not exist, instead of failing.
	// +optional
	IgnoreMissingComponents bool `json:"ignoreMissingComponents,omitempty"`

	// BuildMetadata lists annotations for the build to add: "originAnnotations" tell the file an object comes from,
	// "transformerAnnotations" what has changed it. If not empty it replaces the list of the kustomization.yaml.
	// +optional
	// +kubebuilder:validation:items:Enum=originAnnotations;transformerAnnotations
	BuildMetadata []string `json:"buildMetadata,omitzero"`

	// PostBuild changes the manifests after the build.
	// +optional
	PostBuild *PostBuild `json:"postBuild,omitempty"`

	// Decryption says how to decrypt Secrets and files before they are used.
	// +optional
	Decryption *Decryption `json:"decryption,omitempty"`

	// Ignore keeps fields of live objects from being corrected.
	// +optional
	Ignore []meta.IgnoreRule `json:"ignore,omitzero"`

	// ServiceAccountName of a ServiceAccount in the same namespace to apply as. Its rights bound what this Kustomization can
	// do.
	// +optional
	ServiceAccountName string `json:"serviceAccountName,omitempty"`

	// KubeConfig applies to another cluster. Together with serviceAccountName, as that account of the other cluster.
	// +optional
	KubeConfig *meta.KubeConfigReference `json:"kubeConfig,omitempty"`
}

// SourceReference names the source of a Kustomization.
type SourceReference struct {
	// APIVersion of the source. Informational: the kind alone decides.
	// +optional
	APIVersion string `json:"apiVersion,omitempty"`

	// Kind of the source.
	// +required
	// +kubebuilder:validation:Enum=OCIRepository;GitRepository;Bucket;ExternalArtifact
	Kind string `json:"kind"`

	// Name of the source.
	// +required
	Name string `json:"name"`

	// Namespace of the source. Defaults to the namespace of the Kustomization.
	// +optional
	Namespace string `json:"namespace,omitempty"`
}

// PostBuild replaces variables of the form ${name} in the built manifests.
type PostBuild struct {
	// Substitute holds variables and their values. They win over those of substituteFrom.
	// +optional
	Substitute map[string]string `json:"substitute,omitzero"`

	// SubstituteFrom takes variables from the data of ConfigMaps and Secrets. Later entries win over earlier ones.
	// +optional
	SubstituteFrom []SubstituteReference `json:"substituteFrom,omitzero"`

	// SubstituteStrategy "WithVariables", also when not set, leaves the manifests alone unless there is a variable;
	// "Always" looks at them anyway, so that defaults such as ${name:=value} take effect.
	// +optional
	// +kubebuilder:validation:Enum=WithVariables;Always
	SubstituteStrategy string `json:"substituteStrategy,omitempty"`
}

// SubstituteReference names a ConfigMap or Secret with variables.
type SubstituteReference struct {
	// Kind is ConfigMap or Secret.
	// +required
	// +kubebuilder:validation:Enum=Secret;ConfigMap
	Kind string `json:"kind"`

	// Name of the object, in the namespace of the Kustomization.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// Optional accepts that the object does not exist. Any other error still fails the run.
	// +optional
	// +kubebuilder:default=false
	Optional bool `json:"optional,omitempty"`
}

// Decryption says how to decrypt.
type Decryption struct {
	// Provider of the decryption.
	// +required
	// +kubebuilder:validation:Enum=sops
	Provider string `json:"provider"`

	// SecretRef names a Secret in the same namespace with private keys and credentials: "*.asc" OpenPGP keys, "*.agekey" age
	// keys, "sops.vault-token", "sops.aws-kms", "sops.azure-kv" and "sops.gcp-kms" credentials.
	// +optional
	SecretRef *meta.LocalObjectReference `json:"secretRef,omitempty"`

	// ServiceAccountName of a ServiceAccount in the same namespace whose workload identity reaches the key service. What
	// secretRef holds wins over it.
	// +optional
	ServiceAccountName string `json:"serviceAccountName,omitempty"`
}

// KustomizationStatus is what was observed of a Kustomization.
type KustomizationStatus struct {
	meta.ReconcileRequestStatus `json:",inline"`

	// ObservedGeneration is the generation of the spec the last completed run was about. -1 before the first.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// Conditions of the Kustomization.
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// LastAppliedRevision is the revision that was last applied and found healthy.
	// +optional
	LastAppliedRevision string `json:"lastAppliedRevision,omitempty"`

	// LastAppliedOriginRevision is the revision from which the artifact of lastAppliedRevision was made, if it tells.
	// +optional
	LastAppliedOriginRevision string `json:"lastAppliedOriginRevision,omitempty"`

	// LastAttemptedRevision is the revision of the last run that got as far as building.
	// +optional
	LastAttemptedRevision string `json:"lastAttemptedRevision,omitempty"`

	// Inventory lists the objects this Kustomization manages.
	// +optional
	Inventory *meta.Inventory `json:"inventory,omitempty"`

	// History of runs, at most five lines, newest first.
	// +optional
	History []meta.Snapshot `json:"history,omitempty"`
}

// Kustomization keeps a cluster equal to the manifests of a source.
//
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=ks,categories={all,fluxcd,fluxcd-appliers}
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
type Kustomization struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is what the user asks for.
	// +optional
	Spec KustomizationSpec `json:"spec,omitempty"`

	// Status is what the controller observed.
	// +optional
	// +kubebuilder:default={"observedGeneration":-1}
	Status KustomizationStatus `json:"status,omitempty"`
}

// KustomizationList is a list of Kustomizations.
//
// +kubebuilder:object:root=true
type KustomizationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Kustomization `json:"items"`
}

// GetConditions returns status.conditions.
func (o *Kustomization) GetConditions() []metav1.Condition { return o.Status.Conditions }

// SetConditions replaces status.conditions.
func (o *Kustomization) SetConditions(c []metav1.Condition) { o.Status.Conditions = c }

// GetObservedGeneration returns status.observedGeneration.
func (o *Kustomization) GetObservedGeneration() int64 { return o.Status.ObservedGeneration }

// SetObservedGeneration replaces status.observedGeneration.
func (o *Kustomization) SetObservedGeneration(g int64) { o.Status.ObservedGeneration = g }

// GetLastHandledReconcileRequest returns status.lastHandledReconcileAt.
func (o *Kustomization) GetLastHandledReconcileRequest() string {
	return o.Status.GetLastHandledReconcileRequest()
}

// SetLastHandledReconcileRequest replaces status.lastHandledReconcileAt.
func (o *Kustomization) SetLastHandledReconcileRequest(token string) {
	o.Status.SetLastHandledReconcileRequest(token)
}

// IsSuspended tells whether spec.suspend is set.
func (o *Kustomization) IsSuspended() bool { return o.Spec.Suspend }

// GetInterval returns spec.interval.
func (o *Kustomization) GetInterval() time.Duration { return o.Spec.Interval.Value() }

// GetRetryInterval returns spec.retryInterval, or spec.interval when it is not set (kustomization 10).
func (o *Kustomization) GetRetryInterval() time.Duration {
	return o.Spec.RetryInterval.Or(o.GetInterval())
}

// GetTimeout returns spec.timeout, or spec.interval less 30s when it is not set, and never less than 30s
// (kustomization 88).
func (o *Kustomization) GetTimeout() time.Duration {
	return max(o.Spec.Timeout.Or(o.GetInterval()-minTimeout), minTimeout)
}

// DurationError names the unusable durations of the spec.
func (o *Kustomization) DurationError() error {
	return meta.CheckDurations(
		meta.DurationField{Path: "spec.interval", Value: o.Spec.Interval},
		meta.DurationField{Path: "spec.retryInterval", Value: o.Spec.RetryInterval},
		meta.DurationField{Path: "spec.timeout", Value: o.Spec.Timeout},
	)
}
