package v1_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	v1 "github.com/seed-79636ae9/flux/api/image/v1"
	"github.com/seed-79636ae9/flux/api/meta"
)

// reconcilable is what every kind of the group offers.
type reconcilable interface {
	meta.Reconcilable
	meta.DurationChecker
}

func TestReconcilable(t *testing.T) {
	tests := map[string]reconcilable{
		v1.ImagePolicyKind:           &v1.ImagePolicy{Spec: v1.ImagePolicySpec{Suspend: true, Interval: "5m"}},
		v1.ImageRepositoryKind:       &v1.ImageRepository{Spec: v1.ImageRepositorySpec{Suspend: true, Interval: "5m"}},
		v1.ImageUpdateAutomationKind: &v1.ImageUpdateAutomation{Spec: v1.ImageUpdateAutomationSpec{Suspend: true, Interval: "5m"}},
	}
	for name, obj := range tests {
		t.Run(name, func(t *testing.T) {
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
		})
	}
}

func TestDurationErrorNamesTheField(t *testing.T) {
	tests := map[string]struct {
		obj  meta.DurationChecker
		want []string
	}{
		v1.ImagePolicyKind: {&v1.ImagePolicy{Spec: v1.ImagePolicySpec{Interval: "x"}}, []string{"spec.interval"}},
		v1.ImageRepositoryKind: {
			&v1.ImageRepository{Spec: v1.ImageRepositorySpec{Interval: "1d", Timeout: "x"}}, []string{"spec.interval", "spec.timeout"},
		},
		v1.ImageUpdateAutomationKind: {
			&v1.ImageUpdateAutomation{Spec: v1.ImageUpdateAutomationSpec{Interval: "x"}}, []string{"spec.interval"},
		},
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

// imagerepository 7, 24
func TestImageRepositoryTimeout(t *testing.T) {
	tests := map[string]struct {
		interval, timeout meta.Duration
		want              time.Duration
	}{
		"the interval when none is set": {"5m", "", 5 * time.Minute},
		"its own":                       {"5m", "30s", 30 * time.Second},
		"not below a second":            {"5m", "10ms", time.Second},
		"nor with a short interval":     {"1ms", "", time.Second},
		"an unusable one":               {"5m", "x", 5 * time.Minute},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			obj := &v1.ImageRepository{Spec: v1.ImageRepositorySpec{Interval: tt.interval, Timeout: tt.timeout}}
			if got := obj.GetTimeout(); got != tt.want {
				t.Errorf("GetTimeout() = %s, want %s", got, tt.want)
			}
		})
	}
}

// imagerepository 11, 35
func TestImageRepositoryExclusionList(t *testing.T) {
	obj := &v1.ImageRepository{}
	if diff := cmp.Diff([]string{`^.*\.sig$`}, obj.GetExclusionList()); diff != "" {
		t.Errorf("without a list (-want +got):\n%s", diff)
	}
	obj.Spec.ExclusionList = []string{}
	if got := obj.GetExclusionList(); len(got) != 0 {
		t.Errorf("an empty list became %q", got)
	}
}

// imagepolicy 15
func TestDigestReflectionPolicyDefault(t *testing.T) {
	if got := (&v1.ImagePolicy{}).GetDigestReflectionPolicy(); got != v1.ReflectNever {
		t.Errorf("the default is %q", got)
	}
}

func TestImageRefString(t *testing.T) {
	for want, ref := range map[string]v1.ImageRef{
		"ghcr.io/a/b:1":            {Name: "ghcr.io/a/b", Tag: "1"},
		"ghcr.io/a/b:1@sha256:abc": {Name: "ghcr.io/a/b", Tag: "1", Digest: "sha256:abc"},
	} {
		if got := ref.String(); got != want {
			t.Errorf("String() = %q, want %q", got, want)
		}
	}
}

func TestAddToScheme(t *testing.T) {
	s := runtime.NewScheme()
	if err := v1.AddToScheme(s); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{v1.ImagePolicyKind, v1.ImageRepositoryKind, v1.ImageUpdateAutomationKind} {
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
