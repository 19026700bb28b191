package v2_test

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v2 "github.com/seed-79636ae9/flux/api/helm/v2"
	"github.com/seed-79636ae9/flux/api/meta"
)

func TestNames(t *testing.T) {
	object := func(spec v2.HelmReleaseSpec) *v2.HelmRelease {
		return &v2.HelmRelease{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "web"}, Spec: spec}
	}
	tests := map[string]struct {
		obj                       *v2.HelmRelease
		release, target, storage  string
		chartNamespace, chartName string
	}{
		"helmrelease 11, 32, 33: defaults": {object(v2.HelmReleaseSpec{}), "web", "apps", "apps", "apps", "apps-web"},
		"helmrelease 32, 33: target namespace": {
			object(v2.HelmReleaseSpec{TargetNamespace: "prod"}), "prod-web", "prod", "apps", "apps", "apps-web"},
		"helmrelease 32, 33: all named": {
			object(v2.HelmReleaseSpec{ReleaseName: "r", TargetNamespace: "prod", StorageNamespace: "records"}), "r", "prod", "records", "apps", "apps-web"},
		"helmrelease 11: source elsewhere": {
			object(v2.HelmReleaseSpec{Chart: &v2.HelmChartTemplate{Spec: v2.HelmChartTemplateSpec{SourceRef: v2.ChartSourceReference{Namespace: "sources"}}}}),
			"web", "apps", "apps", "sources", "apps-web"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := [5]string{tt.obj.GetReleaseName(), tt.obj.GetReleaseNamespace(), tt.obj.GetStorageNamespace(), tt.obj.GetHelmChartNamespace(), tt.obj.GetHelmChartName()}
			if want := [5]string{tt.release, tt.target, tt.storage, tt.chartNamespace, tt.chartName}; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// helmrelease 32: the name is that of the recording long-release-name.
func TestLongName(t *testing.T) {
	obj := &v2.HelmRelease{
		ObjectMeta: metav1.ObjectMeta{Name: "a-release-whose-name-is-long-enough"},
		Spec:       v2.HelmReleaseSpec{TargetNamespace: "helmrelease-long-release-name"},
	}
	if got, want := obj.GetReleaseName(), "helmrelease-long-release-name-a-release--ed2d90ce52f0"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestDefaults(t *testing.T) {
	obj := &v2.HelmRelease{Spec: v2.HelmReleaseSpec{Interval: "10m"}}
	if got := meta.Timeoutable(obj).GetTimeout(); got != 5*time.Minute {
		t.Errorf("helmrelease 65: GetTimeout() = %s", got)
	}
	if got := obj.GetMaxHistory(); got != 5 {
		t.Errorf("helmrelease 67: GetMaxHistory() = %d", got)
	}
	all := 0
	obj.Spec.MaxHistory = &all
	if got := obj.GetMaxHistory(); got != 0 {
		t.Errorf("helmrelease 67: unlimited GetMaxHistory() = %d", got)
	}
}

// reliability 016: one unusable duration is named, and breaks nothing else.
func TestDurationError(t *testing.T) {
	obj := &v2.HelmRelease{Spec: v2.HelmReleaseSpec{
		Interval: "10m", Timeout: "1y",
		Chart:     &v2.HelmChartTemplate{Spec: v2.HelmChartTemplateSpec{Interval: "x"}},
		Install:   &v2.Install{Timeout: "x", Strategy: &v2.InstallStrategy{RetryInterval: "x"}},
		Upgrade:   &v2.Upgrade{Timeout: "x", Strategy: &v2.UpgradeStrategy{RetryInterval: "x"}},
		Test:      &v2.Test{Timeout: "x"},
		Rollback:  &v2.Rollback{Timeout: "x"},
		Uninstall: &v2.Uninstall{Timeout: "x"},
	}}
	err := meta.DurationChecker(obj).DurationError()
	if err == nil {
		t.Fatal("no error")
	}
	for _, path := range []string{"spec.timeout", "spec.chart.spec.interval", "spec.install.timeout", "spec.install.strategy.retryInterval",
		"spec.upgrade.timeout", "spec.upgrade.strategy.retryInterval", "spec.test.timeout", "spec.rollback.timeout", "spec.uninstall.timeout"} {
		if !strings.Contains(err.Error(), path) {
			t.Errorf("the error does not name %s: %v", path, err)
		}
	}
}
