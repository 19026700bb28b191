package v1_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	v1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
)

func TestReconcilable(t *testing.T) {
	var obj meta.Reconcilable = &v1.Kustomization{Spec: v1.KustomizationSpec{Suspend: true, Interval: "5m"}}
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
}

func TestTimes(t *testing.T) {
	tests := map[string]struct {
		spec           v1.KustomizationSpec
		retry, timeout time.Duration
	}{
		"kustomization 10: retryInterval":                      {v1.KustomizationSpec{Interval: "10m", RetryInterval: "1m"}, time.Minute, 9*time.Minute + 30*time.Second},
		"kustomization 10: retryInterval defaults to interval": {v1.KustomizationSpec{Interval: "10m"}, 10 * time.Minute, 9*time.Minute + 30*time.Second},
		"kustomization 88: timeout":                            {v1.KustomizationSpec{Interval: "10m", Timeout: "2m"}, 10 * time.Minute, 2 * time.Minute},
		"kustomization 88: timeout longer than interval":       {v1.KustomizationSpec{Interval: "1m", Timeout: "2m"}, time.Minute, 2 * time.Minute},
		"kustomization 88: at least 30s, explicit":             {v1.KustomizationSpec{Interval: "10m", Timeout: "5s"}, 10 * time.Minute, 30 * time.Second},
		"kustomization 88: at least 30s, by interval":          {v1.KustomizationSpec{Interval: "40s"}, 40 * time.Second, 30 * time.Second},
		"reliability 016: unusable durations":                  {v1.KustomizationSpec{Interval: "1d", RetryInterval: "-5s", Timeout: "x"}, 0, 30 * time.Second},
		"reliability 016: unusable retryInterval":              {v1.KustomizationSpec{Interval: "1m", RetryInterval: "-5s"}, time.Minute, 30 * time.Second},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			obj := &v1.Kustomization{Spec: tt.spec}
			if got := meta.RetryIntervaler(obj).GetRetryInterval(); got != tt.retry {
				t.Errorf("GetRetryInterval() = %s, want %s", got, tt.retry)
			}
			if got := meta.Timeoutable(obj).GetTimeout(); got != tt.timeout {
				t.Errorf("GetTimeout() = %s, want %s", got, tt.timeout)
			}
		})
	}
}

func TestDurationError(t *testing.T) {
	var obj meta.DurationChecker = &v1.Kustomization{Spec: v1.KustomizationSpec{Interval: "1m"}}
	if err := obj.DurationError(); err != nil {
		t.Errorf("usable durations: %v", err)
	}
	obj = &v1.Kustomization{Spec: v1.KustomizationSpec{Interval: "1d", RetryInterval: "1d", Timeout: "1d"}}
	err := obj.DurationError()
	if err == nil {
		t.Fatal("unusable durations: no error")
	}
	for _, field := range []string{"spec.interval", "spec.retryInterval", "spec.timeout"} {
		if !strings.Contains(err.Error(), field) {
			t.Errorf("%s is not named in %q", field, err)
		}
	}
}

func TestAddToScheme(t *testing.T) {
	s := runtime.NewScheme()
	if err := v1.AddToScheme(s); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{v1.KustomizationKind, v1.KustomizationKind + "List"} {
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
