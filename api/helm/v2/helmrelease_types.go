package v2

import (
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seed-79636ae9/flux/api/meta"
)

// HelmReleaseKind is the kind of a HelmRelease.
const HelmReleaseKind string = "HelmRelease"

// DefaultTimeout of a Helm action (helmrelease 65).
const DefaultTimeout = 5 * time.Minute

// DefaultMaxHistory is how many releases are kept unless the spec says otherwise (helmrelease 67).
const DefaultMaxHistory = 5

// HelmReleaseSpec says which chart to release, how, and with which values.
//
// +kubebuilder:validation:XValidation:rule="(has(self.chart) && !has(self.chartRef)) || (!has(self.chart) && has(self.chartRef))",message="either chart or chartRef must be set"
type HelmReleaseSpec struct {
	// Chart is the template of a HelmChart, which the controller makes and keeps for this HelmRelease.
	// +optional
	Chart *HelmChartTemplate `json:"chart,omitempty"`

	// ChartRef names a source that holds the chart.
	// +optional
	ChartRef *ChartReference `json:"chartRef,omitempty"`

	// Interval between two runs, like "10m". Some jitter is added. A new chart, and new values in ConfigMaps and Secrets that
	// carry the watch label, start a run at once.
	// +required
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern="^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$"
	Interval meta.Duration `json:"interval"`

	// KubeConfig releases to another cluster. Together with serviceAccountName, as that account of the other cluster.
	// +optional
	KubeConfig *meta.KubeConfigReference `json:"kubeConfig,omitempty"`

	// Suspend stops all work on this HelmRelease. The release stays. A run that has begun is finished.
	// +optional
	Suspend bool `json:"suspend,omitempty"`

	// ReleaseName defaults to the name of the HelmRelease, with targetNamespace and a dash before it if that is set.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=53
	ReleaseName string `json:"releaseName,omitempty"`

	// TargetNamespace is the namespace of the release. Defaults to the namespace of the HelmRelease.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	TargetNamespace string `json:"targetNamespace,omitempty"`

	// StorageNamespace is where Helm keeps its records. Defaults to the namespace of the HelmRelease.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	StorageNamespace string `json:"storageNamespace,omitempty"`

	// DependsOn lists HelmReleases that must be ready before this one is released.
	// +optional
	DependsOn []meta.DependencyReference `json:"dependsOn,omitzero"`

	// Timeout of a Helm action and of each single hook in it. Defaults to 5m.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern="^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$"
	Timeout meta.Duration `json:"timeout,omitempty"`

	// MaxHistory is how many releases Helm keeps; 0 keeps all. Defaults to 5.
	// +optional
	MaxHistory *int `json:"maxHistory,omitempty"`

	// ServiceAccountName of a ServiceAccount in the same namespace to release as. Its rights bound what this HelmRelease can do.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	ServiceAccountName string `json:"serviceAccountName,omitempty"`

	// PersistentClient keeps the view of the served kinds during a whole run, which is the default. A chart that brings its
	// CustomResourceDefinitions in its templates may need false.
	// +optional
	PersistentClient *bool `json:"persistentClient,omitempty"`

	// DriftDetection says whether the cluster is compared with the release, and put right.
	// +optional
	DriftDetection *DriftDetection `json:"driftDetection,omitempty"`

	// Install says how to install.
	// +optional
	Install *Install `json:"install,omitempty"`

	// Upgrade says how to upgrade.
	// +optional
	Upgrade *Upgrade `json:"upgrade,omitempty"`

	// Test says whether and how to test.
	// +optional
	Test *Test `json:"test,omitempty"`

	// Rollback says how to roll back.
	// +optional
	Rollback *Rollback `json:"rollback,omitempty"`

	// Uninstall says how to uninstall.
	// +optional
	Uninstall *Uninstall `json:"uninstall,omitempty"`

	// ValuesFrom takes values from ConfigMaps and Secrets. Later entries win over earlier ones, spec.values over all.
	// +optional
	ValuesFrom []ValuesReference `json:"valuesFrom,omitzero"`

	// Values of the release.
	// +optional
	Values *apiextensionsv1.JSON `json:"values,omitempty"`

	// CommonMetadata sets labels and annotations on all objects, over what the chart says.
	// +optional
	CommonMetadata *meta.CommonMetadata `json:"commonMetadata,omitempty"`

	// PostRenderers change the manifests after the templates are rendered, one after another.
	// +optional
	PostRenderers []PostRenderer `json:"postRenderers,omitzero"`

	// PostRenderStrategy says what postRenderers get to see: "combined", the default, hooks and other manifests together;
	// "separate" the two one after another; "nohooks" no hooks.
	// +optional
	// +kubebuilder:validation:Enum=nohooks;combined;separate
	PostRenderStrategy string `json:"postRenderStrategy,omitempty"`

	// WaitStrategy says how to wait for objects to become ready.
	// +optional
	WaitStrategy *WaitStrategy `json:"waitStrategy,omitempty"`

	// HealthCheckExprs tells the health of kinds by CEL expressions, in place of the built-in rules.
	// +optional
	HealthCheckExprs []meta.HealthCheckExpr `json:"healthCheckExprs,omitzero"`
}

// HelmChartTemplate is what the HelmChart of a HelmRelease is made of.
type HelmChartTemplate struct {
	// ObjectMeta of the HelmChart.
	// +optional
	ObjectMeta *HelmChartTemplateMeta `json:"metadata,omitempty"`

	// Spec of the HelmChart.
	// +required
	Spec HelmChartTemplateSpec `json:"spec"`
}

// HelmChartTemplateMeta is put on the HelmChart.
type HelmChartTemplateMeta struct {
	// Labels to set.
	// +optional
	Labels map[string]string `json:"labels,omitempty"`

	// Annotations to set.
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`
}

// HelmChartTemplateSpec says which chart the HelmChart offers.
type HelmChartTemplateSpec struct {
	// Chart is the name of the chart in a HelmRepository, or its path in the artifact of a GitRepository or Bucket.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	Chart string `json:"chart"`

	// Version of the chart, or a range of versions. Without effect for charts from a GitRepository or Bucket.
	// +optional
	// +kubebuilder:default=*
	Version string `json:"version,omitempty"`

	// SourceRef names the source of the chart.
	// +required
	SourceRef ChartSourceReference `json:"sourceRef"`

	// Interval between two looks at the source. Defaults to the interval of the HelmRelease.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern="^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$"
	Interval meta.Duration `json:"interval,omitempty"`

	// ReconcileStrategy says what makes a new chart: "ChartVersion" a new version of it, "Revision" a new revision of the
	// source.
	// +optional
	// +kubebuilder:default=ChartVersion
	// +kubebuilder:validation:Enum=ChartVersion;Revision
	ReconcileStrategy string `json:"reconcileStrategy,omitempty"`

	// ValuesFiles are merged, in this order, into the values.yaml of the chart.
	// +optional
	ValuesFiles []string `json:"valuesFiles,omitzero"`

	// IgnoreMissingValuesFiles skips values files that do not exist, instead of failing.
	// +optional
	IgnoreMissingValuesFiles bool `json:"ignoreMissingValuesFiles,omitempty"`

	// Verify demands a signature on the chart, which must come from an OCI registry.
	// +optional
	Verify *HelmChartTemplateVerification `json:"verify,omitempty"`
}

// HelmChartTemplateVerification demands a signature on a chart.
type HelmChartTemplateVerification struct {
	// Provider is the technology the chart is signed with.
	// +required
	// +kubebuilder:default=cosign
	// +kubebuilder:validation:Enum=cosign;notation
	Provider string `json:"provider"`

	// SecretRef names a Secret in the namespace of the HelmChart with what to trust.
	// +optional
	SecretRef *meta.LocalObjectReference `json:"secretRef,omitempty"`
}

// ChartSourceReference names the source of a chart.
type ChartSourceReference struct {
	// APIVersion of the source. Informational: the kind alone decides.
	// +optional
	APIVersion string `json:"apiVersion,omitempty"`

	// Kind of the source.
	// +required
	// +kubebuilder:validation:Enum=HelmRepository;GitRepository;Bucket
	Kind string `json:"kind"`

	// Name of the source.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// Namespace of the source, where the HelmChart is made too. Defaults to the namespace of the HelmRelease.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace,omitempty"`
}

// ChartReference names a source that holds a chart.
type ChartReference struct {
	// APIVersion of the source. Informational: the kind alone decides.
	// +optional
	APIVersion string `json:"apiVersion,omitempty"`

	// Kind of the source.
	// +required
	// +kubebuilder:validation:Enum=OCIRepository;HelmChart;ExternalArtifact
	Kind string `json:"kind"`

	// Name of the source.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// Namespace of the source. Defaults to the namespace of the HelmRelease.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace,omitempty"`
}

// Values of spec.driftDetection.mode.
const (
	// DriftDetectionEnabled tells drift and puts it right.
	DriftDetectionEnabled string = "enabled"
	// DriftDetectionWarn tells drift and leaves it.
	DriftDetectionWarn string = "warn"
)

// DriftDetection says what happens about objects that differ from the release.
type DriftDetection struct {
	// Mode "enabled" tells drift and puts it right; "warn" only tells it; "disabled", the default, does not look.
	// +optional
	// +kubebuilder:validation:Enum=enabled;warn;disabled
	Mode string `json:"mode,omitempty"`

	// Ignore lists what is not drift.
	// +optional
	Ignore []meta.IgnoreRule `json:"ignore,omitzero"`
}

// Values of spec.install.crds and spec.upgrade.crds.
const (
	// CRDsSkip leaves the CustomResourceDefinitions in the crds directory of the chart alone.
	CRDsSkip string = "Skip"
	// CRDsCreate creates those that do not exist.
	CRDsCreate string = "Create"
	// CRDsCreateReplace creates those that do not exist and replaces the others.
	CRDsCreateReplace string = "CreateReplace"
)

// Values of the strategies for failed installs and upgrades.
const (
	// RemediateOnFailure tries again after undoing what failed.
	RemediateOnFailure string = "RemediateOnFailure"
	// RetryOnFailure leaves what failed as it is, and tries again by an upgrade.
	RetryOnFailure string = "RetryOnFailure"
)

// Install says how to install.
type Install struct {
	// Timeout of the action. Defaults to spec.timeout.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern="^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$"
	Timeout meta.Duration `json:"timeout,omitempty"`

	// Strategy for a failed install.
	// +optional
	Strategy *InstallStrategy `json:"strategy,omitempty"`

	// Remediation of a failed install.
	// +optional
	Remediation *InstallRemediation `json:"remediation,omitempty"`

	// DisableTakeOwnership refuses objects that exist and belong to nobody's release, instead of taking them over.
	// +optional
	DisableTakeOwnership bool `json:"disableTakeOwnership,omitempty"`

	// DisableWait does not wait for the objects to become ready.
	// +optional
	DisableWait bool `json:"disableWait,omitempty"`

	// DisableWaitForJobs does not wait for Jobs to complete.
	// +optional
	DisableWaitForJobs bool `json:"disableWaitForJobs,omitempty"`

	// DisableHooks runs no hooks.
	// +optional
	DisableHooks bool `json:"disableHooks,omitempty"`

	// DisableOpenAPIValidation does not validate manifests against the schemas of the API server.
	// +optional
	DisableOpenAPIValidation bool `json:"disableOpenAPIValidation,omitempty"`

	// DisableSchemaValidation does not validate values against the schema of the chart.
	// +optional
	DisableSchemaValidation bool `json:"disableSchemaValidation,omitempty"`

	// Replace uses the name of a release again that was uninstalled with its history kept.
	// +optional
	Replace bool `json:"replace,omitempty"`

	// SkipCRDs is superseded by crds: with true it means "Skip".
	// +optional
	SkipCRDs bool `json:"skipCRDs,omitempty"`

	// CRDs says what to do with the CustomResourceDefinitions in the crds directory of the chart. Defaults to "Create".
	// +optional
	// +kubebuilder:validation:Enum=Skip;Create;CreateReplace
	CRDs string `json:"crds,omitempty"`

	// CreateNamespace creates spec.targetNamespace if it does not exist. It is not deleted with the release.
	// +optional
	CreateNamespace bool `json:"createNamespace,omitempty"`

	// ServerSideApply applies the objects server-side, the default.
	// +optional
	ServerSideApply *bool `json:"serverSideApply,omitempty"`
}

// InstallStrategy says what happens after a failed install.
//
// +kubebuilder:validation:XValidation:rule="!has(self.retryInterval) || self.name != 'RemediateOnFailure'",message=".retryInterval cannot be set when .name is 'RemediateOnFailure'"
type InstallStrategy struct {
	// Name of the strategy.
	// +required
	// +kubebuilder:validation:Enum=RemediateOnFailure;RetryOnFailure
	Name string `json:"name"`

	// RetryInterval is the time to the next attempt. Defaults to 5m.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern="^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$"
	RetryInterval meta.Duration `json:"retryInterval,omitempty"`
}

// InstallRemediation says how a failed install is undone.
type InstallRemediation struct {
	// Retries is how often to try again; a negative number has no end. Defaults to 0.
	// +optional
	Retries *int `json:"retries,omitempty"`

	// IgnoreTestFailures does not count failed tests as a failure. Defaults to spec.test.ignoreFailures.
	// +optional
	IgnoreTestFailures *bool `json:"ignoreTestFailures,omitempty"`

	// RemediateLastFailure undoes the last attempt too, when no retry is left. Defaults to false.
	// +optional
	RemediateLastFailure *bool `json:"remediateLastFailure,omitempty"`
}

// Values of spec.upgrade.chartNameChangeStrategy.
const (
	// ChartNameChangeReinstall uninstalls the release and installs the other chart, the default.
	ChartNameChangeReinstall string = "Reinstall"
	// ChartNameChangeInPlaceUpdate upgrades the release to the other chart.
	ChartNameChangeInPlaceUpdate string = "InPlaceUpdate"
)

// Values of serverSideApply of upgrades and rollbacks.
const (
	ServerSideApplyEnabled  string = "enabled"
	ServerSideApplyDisabled string = "disabled"
	// ServerSideApplyAuto does as the release did before, the default.
	ServerSideApplyAuto string = "auto"
)

// Values of spec.upgrade.remediation.strategy.
const (
	RollbackRemediation  string = "rollback"
	UninstallRemediation string = "uninstall"
)

// Upgrade says how to upgrade.
type Upgrade struct {
	// Timeout of the action. Defaults to spec.timeout.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern="^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$"
	Timeout meta.Duration `json:"timeout,omitempty"`

	// Strategy for a failed upgrade.
	// +optional
	Strategy *UpgradeStrategy `json:"strategy,omitempty"`

	// Remediation of a failed upgrade.
	// +optional
	Remediation *UpgradeRemediation `json:"remediation,omitempty"`

	// DisableTakeOwnership refuses objects that exist and belong to nobody's release, instead of taking them over.
	// +optional
	DisableTakeOwnership bool `json:"disableTakeOwnership,omitempty"`

	// DisableWait does not wait for the objects to become ready.
	// +optional
	DisableWait bool `json:"disableWait,omitempty"`

	// DisableWaitForJobs does not wait for Jobs to complete.
	// +optional
	DisableWaitForJobs bool `json:"disableWaitForJobs,omitempty"`

	// DisableHooks runs no hooks.
	// +optional
	DisableHooks bool `json:"disableHooks,omitempty"`

	// DisableOpenAPIValidation does not validate manifests against the schemas of the API server.
	// +optional
	DisableOpenAPIValidation bool `json:"disableOpenAPIValidation,omitempty"`

	// DisableSchemaValidation does not validate values against the schema of the chart.
	// +optional
	DisableSchemaValidation bool `json:"disableSchemaValidation,omitempty"`

	// Force replaces objects instead of changing them. Without effect with server-side apply.
	// +optional
	Force bool `json:"force,omitempty"`

	// PreserveValues keeps the values of the last release where the new ones say nothing.
	// +optional
	PreserveValues bool `json:"preserveValues,omitempty"`

	// CleanupOnFail deletes the objects that a failed upgrade has created.
	// +optional
	CleanupOnFail bool `json:"cleanupOnFail,omitempty"`

	// CRDs says what to do with the CustomResourceDefinitions in the crds directory of the chart. Defaults to "Create".
	// +optional
	// +kubebuilder:validation:Enum=Skip;Create;CreateReplace
	CRDs string `json:"crds,omitempty"`

	// ServerSideApply says whether to apply the objects server-side; "auto", the default, does as the release did before.
	// +optional
	// +kubebuilder:validation:Enum=enabled;disabled;auto
	ServerSideApply string `json:"serverSideApply,omitempty"`

	// ChartNameChangeStrategy says what happens when the chart has another name than that of the release: "Reinstall", the
	// default, or "InPlaceUpdate".
	// +optional
	// +kubebuilder:validation:Enum=InPlaceUpdate;Reinstall
	ChartNameChangeStrategy string `json:"chartNameChangeStrategy,omitempty"`
}

// UpgradeStrategy says what happens after a failed upgrade.
//
// +kubebuilder:validation:XValidation:rule="!has(self.retryInterval) || self.name == 'RetryOnFailure'",message=".retryInterval can only be set when .name is 'RetryOnFailure'"
type UpgradeStrategy struct {
	// Name of the strategy.
	// +required
	// +kubebuilder:validation:Enum=RemediateOnFailure;RetryOnFailure
	Name string `json:"name"`

	// RetryInterval is the time to the next attempt. Defaults to 5m.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern="^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$"
	RetryInterval meta.Duration `json:"retryInterval,omitempty"`
}

// UpgradeRemediation says how a failed upgrade is undone.
type UpgradeRemediation struct {
	// Retries is how often to try again; a negative number has no end. Defaults to 0.
	// +optional
	Retries *int `json:"retries,omitempty"`

	// IgnoreTestFailures does not count failed tests as a failure. Defaults to spec.test.ignoreFailures.
	// +optional
	IgnoreTestFailures *bool `json:"ignoreTestFailures,omitempty"`

	// RemediateLastFailure undoes the last attempt too, when no retry is left. Defaults to true if there are retries.
	// +optional
	RemediateLastFailure *bool `json:"remediateLastFailure,omitempty"`

	// Strategy of the remediation. Defaults to "rollback".
	// +optional
	// +kubebuilder:validation:Enum=rollback;uninstall
	Strategy *string `json:"strategy,omitempty"`
}

// Test says whether and how to test a release.
type Test struct {
	// Enable runs the tests of the chart after an install or upgrade.
	// +optional
	Enable bool `json:"enable,omitempty"`

	// Timeout of a test. Defaults to spec.timeout.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern="^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$"
	Timeout meta.Duration `json:"timeout,omitempty"`

	// IgnoreFailures does not count failed tests as a failure of the release.
	// +optional
	IgnoreFailures bool `json:"ignoreFailures,omitempty"`

	// Filters pick tests by name.
	// +optional
	Filters *[]Filter `json:"filters,omitempty"`
}

// Filter picks a test by name.
type Filter struct {
	// Name of the test.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// Exclude leaves the test out, instead of running it.
	// +optional
	Exclude bool `json:"exclude,omitempty"`
}

// Rollback says how to roll back.
type Rollback struct {
	// Timeout of the action. Defaults to spec.timeout.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern="^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$"
	Timeout meta.Duration `json:"timeout,omitempty"`

	// DisableWait does not wait for the objects to become ready.
	// +optional
	DisableWait bool `json:"disableWait,omitempty"`

	// DisableWaitForJobs does not wait for Jobs to complete.
	// +optional
	DisableWaitForJobs bool `json:"disableWaitForJobs,omitempty"`

	// DisableHooks runs no hooks.
	// +optional
	DisableHooks bool `json:"disableHooks,omitempty"`

	// Recreate is without effect.
	// +optional
	Recreate bool `json:"recreate,omitempty"`

	// Force replaces objects instead of changing them. Without effect with server-side apply.
	// +optional
	Force bool `json:"force,omitempty"`

	// CleanupOnFail deletes the objects that a failed rollback has created.
	// +optional
	CleanupOnFail bool `json:"cleanupOnFail,omitempty"`

	// ServerSideApply says whether to apply the objects server-side; "auto", the default, does as the release that is gone
	// back to.
	// +optional
	// +kubebuilder:validation:Enum=enabled;disabled;auto
	ServerSideApply string `json:"serverSideApply,omitempty"`
}

// Uninstall says how to uninstall.
type Uninstall struct {
	// Timeout of the action. Defaults to spec.timeout.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern="^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$"
	Timeout meta.Duration `json:"timeout,omitempty"`

	// DisableHooks runs no hooks.
	// +optional
	DisableHooks bool `json:"disableHooks,omitempty"`

	// KeepHistory keeps Helm's records of the release.
	// +optional
	KeepHistory bool `json:"keepHistory,omitempty"`

	// DisableWait does not wait until the objects are gone.
	// +optional
	DisableWait bool `json:"disableWait,omitempty"`

	// DeletionPropagation of the objects. Defaults to "background".
	// +optional
	// +kubebuilder:default=background
	// +kubebuilder:validation:Enum=background;foreground;orphan
	DeletionPropagation *string `json:"deletionPropagation,omitempty"`
}

// ValuesReference names a ConfigMap or Secret with values.
type ValuesReference struct {
	// Kind is ConfigMap or Secret.
	// +required
	// +kubebuilder:validation:Enum=Secret;ConfigMap
	Kind string `json:"kind"`

	// Name of the object, in the namespace of the HelmRelease.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// ValuesKey is the key of the data. Defaults to "values.yaml".
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[\-._a-zA-Z0-9]+$`
	ValuesKey string `json:"valuesKey,omitempty"`

	// TargetPath is where the value goes, in the notation of `helm --set`. Without it the data is a document of values.
	// +optional
	// +kubebuilder:validation:MaxLength=250
	// +kubebuilder:validation:Pattern=`^([a-zA-Z0-9_\-.\\\/]|\[[0-9]{1,5}\])+$`
	TargetPath string `json:"targetPath,omitempty"`

	// Literal takes the data as text at targetPath, as it is.
	// +optional
	Literal bool `json:"literal,omitempty"`

	// Optional accepts that the object or its key does not exist. Any other error still fails the run.
	// +optional
	Optional bool `json:"optional,omitempty"`
}

// PostRenderer changes rendered manifests.
type PostRenderer struct {
	// Kustomize changes them by patches and images.
	// +optional
	Kustomize *Kustomize `json:"kustomize,omitempty"`
}

// Kustomize is a post-renderer.
type Kustomize struct {
	// Patches to make, in this order.
	// +optional
	Patches []meta.Patch `json:"patches,omitzero"`

	// Images to replace.
	// +optional
	Images []meta.Image `json:"images,omitzero"`
}

// Values of spec.waitStrategy.name.
const (
	// WaitStrategyPoller looks at each object's status by the rules of kstatus and healthCheckExprs, the default.
	WaitStrategyPoller string = "poller"
	// WaitStrategyLegacy waits as Helm 3 did.
	WaitStrategyLegacy string = "legacy"
)

// WaitStrategy says how to wait.
type WaitStrategy struct {
	// Name of the strategy.
	// +required
	// +kubebuilder:validation:Enum=poller;legacy
	Name string `json:"name"`
}

// Values of status.lastAttemptedReleaseAction.
const (
	InstallAction string = "install"
	UpgradeAction string = "upgrade"
)

// HelmReleaseStatus is what was observed of a HelmRelease.
type HelmReleaseStatus struct {
	meta.ReconcileRequestStatus `json:",inline"`

	// ObservedGeneration is the generation of the spec the last completed run was about. -1 before the first.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// ObservedPostRenderersDigest identifies the post-renderers of the last run.
	// +optional
	ObservedPostRenderersDigest string `json:"observedPostRenderersDigest,omitempty"`

	// ObservedCommonMetadataDigest identifies the common metadata of the last run.
	// +optional
	ObservedCommonMetadataDigest string `json:"observedCommonMetadataDigest,omitempty"`

	// LastAttemptedGeneration is the generation of the spec that was last tried.
	// +optional
	LastAttemptedGeneration int64 `json:"lastAttemptedGeneration,omitempty"`

	// Conditions of the HelmRelease.
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// HelmChart names the HelmChart that was made from spec.chart, as namespace/name.
	// +optional
	HelmChart string `json:"helmChart,omitempty"`

	// StorageNamespace is where Helm keeps the records of the release.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	StorageNamespace string `json:"storageNamespace,omitempty"`

	// History of the release, newest first.
	// +optional
	History []Snapshot `json:"history,omitempty"`

	// Inventory lists the objects of the release.
	// +optional
	Inventory *meta.Inventory `json:"inventory,omitempty"`

	// LastAttemptedReleaseAction is the action that was last tried.
	// +optional
	// +kubebuilder:validation:Enum=install;upgrade
	LastAttemptedReleaseAction string `json:"lastAttemptedReleaseAction,omitempty"`

	// LastAttemptedReleaseActionDuration is how long it took.
	// +optional
	LastAttemptedReleaseActionDuration meta.Duration `json:"lastAttemptedReleaseActionDuration,omitempty"`

	// Failures of actions since the spec, the chart or the values changed.
	// +optional
	Failures int64 `json:"failures,omitempty"`

	// InstallFailures count against spec.install.remediation.retries.
	// +optional
	InstallFailures int64 `json:"installFailures,omitempty"`

	// UpgradeFailures count against spec.upgrade.remediation.retries.
	// +optional
	UpgradeFailures int64 `json:"upgradeFailures,omitempty"`

	// LastAttemptedRevision is the version of the chart that was last tried.
	// +optional
	LastAttemptedRevision string `json:"lastAttemptedRevision,omitempty"`

	// LastAttemptedRevisionDigest is the digest of the chart that was last tried, if its source has one.
	// +optional
	LastAttemptedRevisionDigest string `json:"lastAttemptedRevisionDigest,omitempty"`

	// LastAttemptedValuesChecksum is no longer used.
	// +optional
	LastAttemptedValuesChecksum string `json:"lastAttemptedValuesChecksum,omitempty"`

	// LastReleaseRevision is no longer used.
	// +optional
	LastReleaseRevision int `json:"lastReleaseRevision,omitempty"`

	// LastAttemptedConfigDigest identifies the values that were last tried.
	// +optional
	LastAttemptedConfigDigest string `json:"lastAttemptedConfigDigest,omitempty"`

	// LastHandledForceAt is the token of the last handled request to force an action.
	// +optional
	LastHandledForceAt string `json:"lastHandledForceAt,omitempty"`

	// LastHandledResetAt is the token of the last handled request to forget failures.
	// +optional
	LastHandledResetAt string `json:"lastHandledResetAt,omitempty"`
}

// Snapshot is a release as it was last seen in Helm's storage (helmrelease 80).
type Snapshot struct {
	// APIVersion tells how the digest is computed.
	// +optional
	APIVersion string `json:"apiVersion,omitempty"`

	// Digest of the release, as "<algorithm>:<hex>".
	// +required
	Digest string `json:"digest"`

	// Name of the release.
	// +required
	Name string `json:"name"`

	// Namespace of the release.
	// +required
	Namespace string `json:"namespace"`

	// Version of the release.
	// +required
	Version int `json:"version"`

	// Status of the release.
	// +required
	Status string `json:"status"`

	// Action that made this entry.
	// +optional
	Action string `json:"action,omitempty"`

	// ChartName of the release.
	// +required
	ChartName string `json:"chartName"`

	// ChartVersion of the release.
	// +required
	ChartVersion string `json:"chartVersion"`

	// AppVersion of the chart.
	// +optional
	AppVersion string `json:"appVersion,omitempty"`

	// ConfigDigest identifies the values of the release.
	// +required
	ConfigDigest string `json:"configDigest"`

	// FirstDeployed is when the release was first deployed.
	// +required
	FirstDeployed metav1.Time `json:"firstDeployed"`

	// LastDeployed is when the release was last deployed.
	// +required
	LastDeployed metav1.Time `json:"lastDeployed"`

	// Deleted is when the release was uninstalled.
	// +optional
	Deleted metav1.Time `json:"deleted,omitempty,omitzero"`

	// TestHooks are the results of tests, by name.
	// +optional
	TestHooks *map[string]*TestHookStatus `json:"testHooks,omitempty"`

	// OCIDigest of the chart, if its source has one.
	// +optional
	OCIDigest string `json:"ociDigest,omitempty"`
}

// TestHookStatus is the result of a test.
type TestHookStatus struct {
	// LastStarted is when the test was last started.
	// +optional
	LastStarted metav1.Time `json:"lastStarted,omitempty,omitzero"`

	// LastCompleted is when the test last ended.
	// +optional
	LastCompleted metav1.Time `json:"lastCompleted,omitempty,omitzero"`

	// Phase the test last had.
	// +optional
	Phase string `json:"phase,omitempty"`
}

// HelmRelease keeps a release of a Helm chart equal to its spec.
//
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=hr,categories={all,fluxcd,fluxcd-appliers}
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
type HelmRelease struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is what the user asks for.
	// +optional
	Spec HelmReleaseSpec `json:"spec,omitempty"`

	// Status is what the controller observed.
	// +optional
	// +kubebuilder:default={"observedGeneration":-1}
	Status HelmReleaseStatus `json:"status,omitempty"`
}

// HelmReleaseList is a list of HelmReleases.
//
// +kubebuilder:object:root=true
type HelmReleaseList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []HelmRelease `json:"items"`
}
