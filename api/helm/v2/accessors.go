package v2

import (
	"crypto/sha256"
	"encoding/hex"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seed-79636ae9/flux/api/meta"
)

// maxReleaseName is the longest name of a release; of a longer one its first shortenedName characters are kept (helmrelease 32).
const (
	maxReleaseName = 53
	shortenedName  = 40
	nameHash       = 12
)

// GetConditions returns status.conditions.
func (o *HelmRelease) GetConditions() []metav1.Condition { return o.Status.Conditions }

// SetConditions replaces status.conditions.
func (o *HelmRelease) SetConditions(c []metav1.Condition) { o.Status.Conditions = c }

// GetObservedGeneration returns status.observedGeneration.
func (o *HelmRelease) GetObservedGeneration() int64 { return o.Status.ObservedGeneration }

// SetObservedGeneration replaces status.observedGeneration.
func (o *HelmRelease) SetObservedGeneration(g int64) { o.Status.ObservedGeneration = g }

// GetLastHandledReconcileRequest returns status.lastHandledReconcileAt.
func (o *HelmRelease) GetLastHandledReconcileRequest() string {
	return o.Status.GetLastHandledReconcileRequest()
}

// SetLastHandledReconcileRequest replaces status.lastHandledReconcileAt.
func (o *HelmRelease) SetLastHandledReconcileRequest(token string) {
	o.Status.SetLastHandledReconcileRequest(token)
}

// IsSuspended tells whether spec.suspend is set.
func (o *HelmRelease) IsSuspended() bool { return o.Spec.Suspend }

// GetInterval returns spec.interval.
func (o *HelmRelease) GetInterval() time.Duration { return o.Spec.Interval.Value() }

// GetTimeout returns spec.timeout, or DefaultTimeout when it is not set (helmrelease 65).
func (o *HelmRelease) GetTimeout() time.Duration { return o.Spec.Timeout.Or(DefaultTimeout) }

// GetMaxHistory returns spec.maxHistory, or DefaultMaxHistory when it is not set (helmrelease 67).
func (o *HelmRelease) GetMaxHistory() int {
	if o.Spec.MaxHistory == nil {
		return DefaultMaxHistory
	}
	return *o.Spec.MaxHistory
}

// GetReleaseName returns the name of the release: spec.releaseName, or a name made of spec.targetNamespace and the object's own,
// shortened to 53 characters (helmrelease 32).
func (o *HelmRelease) GetReleaseName() string {
	name := o.Spec.ReleaseName
	if name == "" {
		name = o.Name
		if o.Spec.TargetNamespace != "" {
			name = o.Spec.TargetNamespace + "-" + name
		}
	}
	if len(name) <= maxReleaseName {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return name[:shortenedName] + "-" + hex.EncodeToString(sum[:])[:nameHash]
}

// GetReleaseNamespace returns spec.targetNamespace, or the object's own namespace (helmrelease 33).
func (o *HelmRelease) GetReleaseNamespace() string {
	if o.Spec.TargetNamespace != "" {
		return o.Spec.TargetNamespace
	}
	return o.Namespace
}

// GetStorageNamespace returns spec.storageNamespace, or the object's own namespace (helmrelease 33).
func (o *HelmRelease) GetStorageNamespace() string {
	if o.Spec.StorageNamespace != "" {
		return o.Spec.StorageNamespace
	}
	return o.Namespace
}

// GetHelmChartName returns the name of the HelmChart that is made from spec.chart (helmrelease 11).
func (o *HelmRelease) GetHelmChartName() string { return o.Namespace + "-" + o.Name }

// GetHelmChartNamespace returns the namespace of that HelmChart: the one of its source, or the object's own (helmrelease 11).
func (o *HelmRelease) GetHelmChartNamespace() string {
	if c := o.Spec.Chart; c != nil && c.Spec.SourceRef.Namespace != "" {
		return c.Spec.SourceRef.Namespace
	}
	return o.Namespace
}

// DurationError names the unusable durations of the spec.
func (o *HelmRelease) DurationError() error {
	fields := []meta.DurationField{
		{Path: "spec.interval", Value: o.Spec.Interval},
		{Path: "spec.timeout", Value: o.Spec.Timeout},
	}
	add := func(path string, value meta.Duration) {
		fields = append(fields, meta.DurationField{Path: path, Value: value})
	}
	if c := o.Spec.Chart; c != nil {
		add("spec.chart.spec.interval", c.Spec.Interval)
	}
	if i := o.Spec.Install; i != nil {
		add("spec.install.timeout", i.Timeout)
		if i.Strategy != nil {
			add("spec.install.strategy.retryInterval", i.Strategy.RetryInterval)
		}
	}
	if u := o.Spec.Upgrade; u != nil {
		add("spec.upgrade.timeout", u.Timeout)
		if u.Strategy != nil {
			add("spec.upgrade.strategy.retryInterval", u.Strategy.RetryInterval)
		}
	}
	if t := o.Spec.Test; t != nil {
		add("spec.test.timeout", t.Timeout)
	}
	if r := o.Spec.Rollback; r != nil {
		add("spec.rollback.timeout", r.Timeout)
	}
	if u := o.Spec.Uninstall; u != nil {
		add("spec.uninstall.timeout", u.Timeout)
	}
	return meta.CheckDurations(fields...)
}

// GetLastHandledForceRequest returns status.lastHandledForceAt.
func (o *HelmRelease) GetLastHandledForceRequest() string { return o.Status.LastHandledForceAt }

// SetLastHandledForceRequest replaces status.lastHandledForceAt.
func (o *HelmRelease) SetLastHandledForceRequest(token string) { o.Status.LastHandledForceAt = token }

// GetLastHandledResetRequest returns status.lastHandledResetAt.
func (o *HelmRelease) GetLastHandledResetRequest() string { return o.Status.LastHandledResetAt }

// SetLastHandledResetRequest replaces status.lastHandledResetAt.
func (o *HelmRelease) SetLastHandledResetRequest(token string) { o.Status.LastHandledResetAt = token }
