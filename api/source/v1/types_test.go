package v1_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/seed-79636ae9/flux/api/meta"
	v1 "github.com/seed-79636ae9/flux/api/source/v1"
)

// source is what every source but ExternalArtifact offers.
type source interface {
	meta.Reconcilable
	meta.ArtifactHolder
	meta.DurationChecker
}

func TestReconcilable(t *testing.T) {
	artifact := &meta.Artifact{Revision: "r"}
	tests := map[string]source{
		v1.BucketKind: &v1.Bucket{
			Spec:   v1.BucketSpec{Suspend: true, Interval: "5m"},
			Status: v1.BucketStatus{Artifact: artifact},
		},
		v1.GitRepositoryKind: &v1.GitRepository{
			Spec:   v1.GitRepositorySpec{Suspend: true, Interval: "5m"},
			Status: v1.GitRepositoryStatus{Artifact: artifact},
		},
		v1.HelmChartKind: &v1.HelmChart{
			Spec:   v1.HelmChartSpec{Suspend: true, Interval: "5m"},
			Status: v1.HelmChartStatus{Artifact: artifact},
		},
		v1.HelmRepositoryKind: &v1.HelmRepository{
			Spec:   v1.HelmRepositorySpec{Suspend: true, Interval: "5m"},
			Status: v1.HelmRepositoryStatus{Artifact: artifact},
		},
		v1.OCIRepositoryKind: &v1.OCIRepository{
			Spec:   v1.OCIRepositorySpec{Suspend: true, Interval: "5m"},
			Status: v1.OCIRepositoryStatus{Artifact: artifact},
		},
	}
	for name, obj := range tests {
		t.Run(name, func(t *testing.T) {
			checkReconcilable(t, obj)
			if got := obj.GetArtifact(); got != artifact {
				t.Errorf("GetArtifact() = %v", got)
			}
		})
	}
}

func checkReconcilable(t *testing.T, obj source) {
	t.Helper()
	conditions := []metav1.Condition{{Type: meta.ReadyCondition}}
	obj.SetConditions(conditions)
	obj.SetObservedGeneration(3)
	obj.SetLastHandledReconcileRequest("token")
	if diff := cmp.Diff(conditions, obj.GetConditions()); diff != "" {
		t.Errorf("conditions (-want +got):\n%s", diff)
	}
	if got := obj.GetObservedGeneration(); got != 3 {
		t.Errorf("GetObservedGeneration() = %d", got)
	}
	if got := obj.GetLastHandledReconcileRequest(); got != "token" {
		t.Errorf("GetLastHandledReconcileRequest() = %q", got)
	}
	if !obj.IsSuspended() {
		t.Error("IsSuspended() = false")
	}
	if got := obj.GetInterval(); got != 5*time.Minute {
		t.Errorf("GetInterval() = %s", got)
	}
	if err := obj.DurationError(); err != nil {
		t.Errorf("DurationError() = %v", err)
	}
}

func TestExternalArtifact(t *testing.T) {
	artifact := &meta.Artifact{Revision: "r"}
	var obj interface {
		meta.ConditionHolder
		meta.ArtifactHolder
	} = &v1.ExternalArtifact{Status: v1.ExternalArtifactStatus{Artifact: artifact}}
	if got := obj.GetArtifact(); got != artifact {
		t.Errorf("GetArtifact() = %v", got)
	}
	conditions := []metav1.Condition{{Type: meta.ReadyCondition}}
	obj.SetConditions(conditions)
	if diff := cmp.Diff(conditions, obj.GetConditions()); diff != "" {
		t.Errorf("conditions (-want +got):\n%s", diff)
	}
	// externalartifact 7
	if _, ok := obj.(meta.Reconcilable); ok {
		t.Error("an ExternalArtifact has no interval, no suspend and no request tokens")
	}
}

func TestTimes(t *testing.T) {
	tests := map[string]struct {
		obj               source
		interval, timeout time.Duration
	}{
		"gitrepository 34: default timeout": {&v1.GitRepository{Spec: v1.GitRepositorySpec{Interval: "1m"}}, time.Minute, time.Minute},
		"gitrepository: timeout":            {&v1.GitRepository{Spec: v1.GitRepositorySpec{Interval: "1m", Timeout: "5s"}}, time.Minute, 5 * time.Second},
		"ocirepository 28: default timeout": {&v1.OCIRepository{Spec: v1.OCIRepositorySpec{Interval: "1m"}}, time.Minute, time.Minute},
		"bucket 22: default timeout":        {&v1.Bucket{Spec: v1.BucketSpec{Interval: "1m"}}, time.Minute, time.Minute},
		"bucket: no time is not enough":     {&v1.Bucket{Spec: v1.BucketSpec{Interval: "1m", Timeout: "0s"}}, time.Minute, time.Minute},
		"helmrepository 7: defaults":        {&v1.HelmRepository{}, time.Minute, time.Minute},
		"helmrepository: interval":          {&v1.HelmRepository{Spec: v1.HelmRepositorySpec{Interval: "2h"}}, 2 * time.Hour, time.Minute},
		"helmrepository: unusable interval": {&v1.HelmRepository{Spec: v1.HelmRepositorySpec{Interval: "2d"}}, 0, time.Minute},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := tt.obj.GetInterval(); got != tt.interval {
				t.Errorf("GetInterval() = %s, want %s", got, tt.interval)
			}
			if got := tt.obj.(meta.Timeoutable).GetTimeout(); got != tt.timeout {
				t.Errorf("GetTimeout() = %s, want %s", got, tt.timeout)
			}
		})
	}
}

func TestDurationErrorNamesTheField(t *testing.T) {
	tests := map[string]struct {
		obj  meta.DurationChecker
		want []string
	}{
		"Bucket":         {&v1.Bucket{Spec: v1.BucketSpec{Interval: "1d", Timeout: "x"}}, []string{"spec.interval", "spec.timeout"}},
		"GitRepository":  {&v1.GitRepository{Spec: v1.GitRepositorySpec{Interval: "1m", Timeout: "x"}}, []string{"spec.timeout"}},
		"HelmChart":      {&v1.HelmChart{Spec: v1.HelmChartSpec{Interval: "x"}}, []string{"spec.interval"}},
		"HelmRepository": {&v1.HelmRepository{Spec: v1.HelmRepositorySpec{Interval: "x", Timeout: "x"}}, []string{"spec.interval", "spec.timeout"}},
		"OCIRepository":  {&v1.OCIRepository{Spec: v1.OCIRepositorySpec{Interval: "x", Timeout: "x"}}, []string{"spec.interval", "spec.timeout"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := tt.obj.DurationError()
			if err == nil {
				t.Fatal("no error")
			}
			for _, field := range tt.want {
				if !strings.Contains(err.Error(), field) {
					t.Errorf("%s is not named in %q", field, err)
				}
			}
		})
	}
}

func TestIncludeToPath(t *testing.T) {
	include := v1.GitRepositoryInclude{Repository: meta.LocalObjectReference{Name: "lib"}}
	if got := include.GetToPath(); got != "lib" {
		t.Errorf("gitrepository 54: the default is %q, want the name of the repository", got)
	}
	include.ToPath = "vendor/lib"
	if got := include.GetToPath(); got != "vendor/lib" {
		t.Errorf("GetToPath() = %q", got)
	}
}

func TestAddToScheme(t *testing.T) {
	s := runtime.NewScheme()
	if err := v1.AddToScheme(s); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{
		v1.BucketKind, v1.ExternalArtifactKind, v1.GitRepositoryKind, v1.HelmChartKind, v1.HelmRepositoryKind, v1.OCIRepositoryKind,
	} {
		for _, name := range []string{kind, kind + "List"} {
			obj, err := s.New(v1.GroupVersion.WithKind(name))
			if err != nil {
				t.Error(err)
				continue
			}
			gvks, _, err := s.ObjectKinds(obj)
			if err != nil || len(gvks) != 1 || gvks[0].Kind != name {
				t.Errorf("%s: the type is known as %v, %v", name, gvks, err)
			}
		}
	}
}
