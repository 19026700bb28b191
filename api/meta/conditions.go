package meta

// Condition types every reconciled kind may carry.
const (
	// ReadyCondition is True while the object does what its spec asks for. Its reason and message sum up the last run.
	ReadyCondition string = "Ready"
	// ReconcilingCondition is present, with status True, only while work is going on or will be retried.
	ReconcilingCondition string = "Reconciling"
	// StalledCondition is present, with status True, only when nothing but a change of the spec can help.
	StalledCondition string = "Stalled"
	// HealthyCondition tells whether the objects an applier manages are healthy. It is absent when nothing is checked.
	HealthyCondition string = "Healthy"
)

// Condition reasons more than one kind uses (contract wire.md 6). Reasons of one kind live in the package of that kind.
const (
	// SucceededReason says that the run did all it was asked to.
	SucceededReason string = "Succeeded"
	// FailedReason says that the run failed and nothing more specific is known.
	FailedReason string = "Failed"
	// ProgressingReason says that work is under way.
	ProgressingReason string = "Progressing"
	// ProgressingWithRetryReason says that the last run failed and another one is due.
	ProgressingWithRetryReason string = "ProgressingWithRetry"
	// SuspendedReason says that spec.suspend keeps the object from being worked on.
	SuspendedReason string = "Suspended"
	// DependencyNotReadyReason says that an object this one depends on is missing or not ready.
	DependencyNotReadyReason string = "DependencyNotReady"
	// InvalidPathReason says that a path of the spec is malformed or leaves its root.
	InvalidPathReason string = "InvalidPath"
	// InvalidURLReason says that a URL of the spec cannot be used.
	InvalidURLReason string = "InvalidURL"
	// InsecureConnectionsDisallowedReason says that policy forbids the plain-text connection the spec asks for.
	InsecureConnectionsDisallowedReason string = "InsecureConnectionsDisallowed"
	// UnsupportedConnectionTypeReason says that the scheme of a URL is not supported.
	UnsupportedConnectionTypeReason string = "UnsupportedConnectionType"
	// PruneFailedReason says that objects no longer wanted could not be deleted.
	PruneFailedReason string = "PruneFailed"
	// ArtifactFailedReason says that the artifact of a source is missing or could not be fetched.
	ArtifactFailedReason string = "ArtifactFailed"
	// BuildFailedReason says that the desired objects could not be built from the artifact.
	BuildFailedReason string = "BuildFailed"
	// HealthCheckFailedReason says that a managed object failed or did not become healthy in time.
	HealthCheckFailedReason string = "HealthCheckFailed"
	// HealthCheckCanceledReason says that newer work interrupted the wait for health.
	HealthCheckCanceledReason string = "HealthCheckCanceled"
	// ReconciliationSucceededReason says that the desired state was applied.
	ReconciliationSucceededReason string = "ReconciliationSucceeded"
	// ReconciliationFailedReason says that the desired state could not be applied.
	ReconciliationFailedReason string = "ReconciliationFailed"
	// InvalidCELExpressionReason says that an expression of the spec does not compile or has the wrong type.
	InvalidCELExpressionReason string = "InvalidCELExpression"
	// FeatureGateDisabledReason says that the spec asks for a feature that is switched off.
	FeatureGateDisabledReason string = "FeatureGateDisabled"
	// AccessDeniedReason says that policy forbids a reference of the spec.
	AccessDeniedReason string = "AccessDenied"
)
