package meta

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ConditionHolder is an object with a list of status conditions.
//
// +kubebuilder:object:generate=false
type ConditionHolder interface {
	// GetConditions returns status.conditions, not a copy.
	GetConditions() []metav1.Condition
	// SetConditions replaces status.conditions.
	SetConditions([]metav1.Condition)
}

// Reconcilable is what the reconcile loop needs of a kind besides client.Object.
//
// +kubebuilder:object:generate=false
type Reconcilable interface {
	ConditionHolder

	// GetObservedGeneration returns status.observedGeneration: the generation of the last run that came to a verdict
	// about it, -1 on an object the API server has just created.
	GetObservedGeneration() int64
	// SetObservedGeneration replaces status.observedGeneration.
	SetObservedGeneration(int64)
	// GetLastHandledReconcileRequest returns status.lastHandledReconcileAt, empty when no request was handled.
	GetLastHandledReconcileRequest() string
	// SetLastHandledReconcileRequest replaces status.lastHandledReconcileAt.
	SetLastHandledReconcileRequest(string)
	// IsSuspended tells whether spec.suspend is set.
	IsSuspended() bool
	// GetInterval returns spec.interval, or the default of the kind where the field is optional. It is zero when the
	// field holds no usable duration; DurationChecker says why.
	GetInterval() time.Duration
}

// ArtifactHolder is a kind that offers an artifact: every source.
//
// +kubebuilder:object:generate=false
type ArtifactHolder interface {
	// GetArtifact returns status.artifact, nil while there is none.
	GetArtifact() *Artifact
}

// Timeoutable is a kind whose runs are limited in time.
//
// +kubebuilder:object:generate=false
type Timeoutable interface {
	// GetTimeout returns spec.timeout or the default of the kind. It is always positive.
	GetTimeout() time.Duration
}

// RetryIntervaler is a kind that retries a failed run after a time of its own instead of by exponential backoff.
//
// +kubebuilder:object:generate=false
type RetryIntervaler interface {
	// GetRetryInterval returns spec.retryInterval or the default of the kind. It is zero when the field that decides
	// holds no usable duration.
	GetRetryInterval() time.Duration
}

// DurationChecker is a kind with durations in its spec.
//
// +kubebuilder:object:generate=false
type DurationChecker interface {
	// DurationError returns nil, or an error that names each field of the spec whose duration is unusable. Only a change
	// of the spec can help then.
	DurationError() error
}
