package v1

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seed-79636ae9/flux/api/meta"
)

// HelmChartKind is the kind of a HelmChart.
const HelmChartKind string = "HelmChart"

// Values of spec.reconcileStrategy.
const (
	// ReconcileStrategyChartVersion makes a new artifact when the version of the chart changes.
	ReconcileStrategyChartVersion string = "ChartVersion"
	// ReconcileStrategyRevision makes a new artifact when the revision of the source changes.
	ReconcileStrategyRevision string = "Revision"
)

// HelmChartSpec says which chart of a source to offer.
//
// +kubebuilder:validation:XValidation:rule="!has(self.verify) || self.sourceRef.kind == 'HelmRepository'",message="spec.verify is only supported when spec.sourceRef.kind is 'HelmRepository'"
type HelmChartSpec struct {
	// Chart is the name of the chart in a HelmRepository, or the path of a chart directory or archive in the artifact of a
	// GitRepository or Bucket.
	// +required
	Chart string `json:"chart"`

	// Version of the chart, or a range of versions. Defaults to "*", the highest stable one. Without effect for charts from a
	// GitRepository or Bucket.
	// +optional
	// +kubebuilder:default=*
	Version string `json:"version,omitempty"`

	// SourceRef names the source of the chart, in the same namespace.
	// +required
	SourceRef HelmChartSourceReference `json:"sourceRef"`

	// Interval between two looks at the source, like "5m". Some jitter is added.
	// +required
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern="^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$"
	Interval meta.Duration `json:"interval"`

	// ReconcileStrategy says what makes a new artifact: "ChartVersion" a new version of the chart, "Revision" a new revision
	// of the GitRepository or Bucket.
	// +optional
	// +kubebuilder:default=ChartVersion
	// +kubebuilder:validation:Enum=ChartVersion;Revision
	ReconcileStrategy string `json:"reconcileStrategy,omitempty"`

	// ValuesFiles are merged, in this order, into the values.yaml of the chart. They are paths in the chart, or in the
	// artifact of the GitRepository or Bucket.
	// +optional
	ValuesFiles []string `json:"valuesFiles,omitzero"`

	// IgnoreMissingValuesFiles skips values files that do not exist, instead of failing.
	// +optional
	IgnoreMissingValuesFiles bool `json:"ignoreMissingValuesFiles,omitempty"`

	// Suspend stops all work on this source. The artifact stays available. A run that has begun is finished.
	// +optional
	Suspend bool `json:"suspend,omitempty"`

	// Verify demands a valid signature before a chart is offered. Only for charts of a HelmRepository of type "oci".
	// +optional
	Verify *HelmChartVerification `json:"verify,omitempty"`
}

// HelmChartSourceReference names the source of a chart.
type HelmChartSourceReference struct {
	// APIVersion of the source. Informational: the kind alone decides.
	// +optional
	APIVersion string `json:"apiVersion,omitempty"`

	// Kind of the source.
	// +required
	// +kubebuilder:validation:Enum=HelmRepository;GitRepository;Bucket
	Kind string `json:"kind"`

	// Name of the source.
	// +required
	Name string `json:"name"`
}

// HelmChartVerification demands a signature on a chart.
type HelmChartVerification struct {
	// Provider is the technology the chart is signed with.
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
}

// HelmChartStatus is what was observed of a HelmChart.
type HelmChartStatus struct {
	// ObservedGeneration is the generation of the spec the last completed run was about. -1 before the first.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// ObservedSourceArtifactRevision is the revision of the source the last run has seen.
	// +optional
	ObservedSourceArtifactRevision string `json:"observedSourceArtifactRevision,omitempty"`

	// ObservedChartName is the name in the metadata of the chart.
	// +optional
	ObservedChartName string `json:"observedChartName,omitempty"`

	// ObservedValuesFiles are the values files that were found, if spec.ignoreMissingValuesFiles is set.
	// +optional
	ObservedValuesFiles []string `json:"observedValuesFiles,omitempty"`

	// Conditions of the source.
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// URL of the latest artifact, under a name that does not change.
	// +optional
	URL string `json:"url,omitempty"`

	// Artifact of the last successful run: the packaged chart.
	// +optional
	Artifact *meta.Artifact `json:"artifact,omitempty"`

	meta.ReconcileRequestStatus `json:",inline"`
}

// HelmChart offers a packaged Helm chart.
//
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=hc,categories={all,fluxcd,fluxcd-sources}
// +kubebuilder:printcolumn:name="Chart",type=string,JSONPath=`.spec.chart`
// +kubebuilder:printcolumn:name="Version",type=string,JSONPath=`.spec.version`
// +kubebuilder:printcolumn:name="Source Kind",type=string,JSONPath=`.spec.sourceRef.kind`
// +kubebuilder:printcolumn:name="Source Name",type=string,JSONPath=`.spec.sourceRef.name`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
type HelmChart struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is what the user asks for.
	// +optional
	Spec HelmChartSpec `json:"spec,omitempty"`

	// Status is what the controller observed.
	// +optional
	// +kubebuilder:default={"observedGeneration":-1}
	Status HelmChartStatus `json:"status,omitempty"`
}

// HelmChartList is a list of HelmCharts.
//
// +kubebuilder:object:root=true
type HelmChartList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []HelmChart `json:"items"`
}

// GetConditions returns status.conditions.
func (o *HelmChart) GetConditions() []metav1.Condition { return o.Status.Conditions }

// SetConditions replaces status.conditions.
func (o *HelmChart) SetConditions(c []metav1.Condition) { o.Status.Conditions = c }

// GetObservedGeneration returns status.observedGeneration.
func (o *HelmChart) GetObservedGeneration() int64 { return o.Status.ObservedGeneration }

// SetObservedGeneration replaces status.observedGeneration.
func (o *HelmChart) SetObservedGeneration(g int64) { o.Status.ObservedGeneration = g }

// GetLastHandledReconcileRequest returns status.lastHandledReconcileAt.
func (o *HelmChart) GetLastHandledReconcileRequest() string {
	return o.Status.GetLastHandledReconcileRequest()
}

// SetLastHandledReconcileRequest replaces status.lastHandledReconcileAt.
func (o *HelmChart) SetLastHandledReconcileRequest(token string) {
	o.Status.SetLastHandledReconcileRequest(token)
}

// IsSuspended tells whether spec.suspend is set.
func (o *HelmChart) IsSuspended() bool { return o.Spec.Suspend }

// GetInterval returns spec.interval.
func (o *HelmChart) GetInterval() time.Duration { return o.Spec.Interval.Value() }

// chartTimeout bounds a step of a run. A HelmChart has no timeout of its own: that of its HelmRepository bounds each request.
const chartTimeout = 10 * time.Minute

// GetTimeout returns how long a step of a run may take.
func (o *HelmChart) GetTimeout() time.Duration { return chartTimeout }

// GetArtifact returns status.artifact.
func (o *HelmChart) GetArtifact() *meta.Artifact { return o.Status.Artifact }

// DurationError names the unusable durations of the spec.
func (o *HelmChart) DurationError() error {
	return meta.CheckDurations(meta.DurationField{Path: "spec.interval", Value: o.Spec.Interval})
}
