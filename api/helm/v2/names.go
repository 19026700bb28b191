package v2

// Condition types of a HelmRelease besides the common ones (helmrelease 58).
const (
	// ReleasedCondition tells how the last install, upgrade, rollback or uninstall ended.
	ReleasedCondition string = "Released"
	// TestSuccessCondition tells how the tests of the release ended. It is absent when tests are off.
	TestSuccessCondition string = "TestSuccess"
	// RemediatedCondition tells how the remediation of a failed release ended.
	RemediatedCondition string = "Remediated"
	// DriftedCondition tells whether the cluster differs from the release.
	DriftedCondition string = "Drifted"
)

// Reasons of conditions and events of a HelmRelease (contract wire.md 6; helmrelease 63, 93).
const (
	InstallSucceededReason   string = "InstallSucceeded"
	InstallFailedReason      string = "InstallFailed"
	UpgradeSucceededReason   string = "UpgradeSucceeded"
	UpgradeFailedReason      string = "UpgradeFailed"
	TestSucceededReason      string = "TestSucceeded"
	TestFailedReason         string = "TestFailed"
	RollbackSucceededReason  string = "RollbackSucceeded"
	RollbackFailedReason     string = "RollbackFailed"
	UninstallSucceededReason string = "UninstallSucceeded"
	UninstallFailedReason    string = "UninstallFailed"
	// AwaitingTestsReason says that the release is yet to be tested.
	AwaitingTestsReason string = "AwaitingTests"
	// DriftDetectedReason says that the cluster differs from the release.
	DriftDetectedReason string = "DriftDetected"
	// NoDriftDetectedReason says that the cluster is as the release.
	NoDriftDetectedReason string = "NoDriftDetected"
	// DriftCorrectedReason says that the cluster was put right.
	DriftCorrectedReason string = "DriftCorrected"
	// DriftCorrectionFailedReason says that the cluster could not be put right.
	DriftCorrectionFailedReason string = "DriftCorrectionFailed"
	// SourceNotReadyReason says that the source of the chart has no usable artifact yet.
	SourceNotReadyReason string = "SourceNotReady"
	// ValuesErrorReason says that the values could not be put together.
	ValuesErrorReason string = "ValuesError"
	// ChartMutateErrorReason says that the version of the chart could not be told apart by its digest.
	ChartMutateErrorReason string = "ChartMutateError"
	// RESTClientErrorReason says that there is no way to the cluster.
	RESTClientErrorReason string = "RESTClientError"
	// FactoryErrorReason says that the Helm action could not be set up.
	FactoryErrorReason string = "FactoryError"
	// StateErrorReason says that the state of the release could not be determined.
	StateErrorReason string = "StateError"
	// ReconcileErrorReason says that the release could not be brought to its desired state.
	ReconcileErrorReason string = "ReconcileError"
	// PendingReleaseReason says that a release was found in a state that an interrupted action has left.
	PendingReleaseReason string = "PendingRelease"
	// RetriesExceededReason says that an action failed as often as it may.
	RetriesExceededReason string = "RetriesExceeded"
	// MissingRollbackTargetReason says that there is no release to roll back to.
	MissingRollbackTargetReason string = "MissingRollbackTarget"
	// HelmChartCreatedReason, and the next three, tell about the HelmChart of spec.chart.
	HelmChartCreatedReason    string = "HelmChartCreated"
	HelmChartConfiguredReason string = "HelmChartConfigured"
	HelmChartDeletedReason    string = "HelmChartDeleted"
	HelmChartSyncErrReason    string = "HelmChartSyncErr"
	// InventoryBuildFailedReason says that the objects of a release could not be listed.
	InventoryBuildFailedReason string = "InventoryBuildFailed"
)

// DriftDetectionAnnotation, as an annotation or a label of an object with the value "disabled", keeps it from being checked for
// drift (helmrelease 84).
const (
	DriftDetectionAnnotation string = GroupName + "/driftDetection"
	DriftDetectionDisabled   string = "disabled"
)

// Labels by which the objects of a release name their HelmRelease (helmrelease 11, 73).
const (
	OwnerNameLabel      string = GroupName + "/name"
	OwnerNamespaceLabel string = GroupName + "/namespace"
)
