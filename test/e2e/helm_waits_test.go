package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/internal/testkit/charts"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

// worker is a chart of a Deployment whose image the values choose, and with it whether its Pods ever start.
func worker() charts.Chart {
	return charts.Chart{Name: "worker", Version: "1.0.0", Files: map[string]string{
		"Chart.yaml":  "apiVersion: v2\nname: worker\nversion: 1.0.0\n",
		"values.yaml": "image: example.com/good:1\n",
		"templates/deployment.yaml": `apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .Release.Name }}
spec:
  selector: {matchLabels: {app: {{ .Release.Name }}}}
  template:
    metadata: {labels: {app: {{ .Release.Name }}}}
    spec: {containers: [{name: main, image: {{ .Values.image | quote }}}]}
`,
	}}
}

const (
	good  = `{"image":"example.com/good:1"}`
	never = `{"image":"example.com/never:1"}`
)

// TestHelmWaits is helmrelease 75 and 79 in a running process that has a single slot: a release that never becomes healthy delays nobody, a
// request does not disturb it, and newer values end its wait long before its timeout.
func TestHelmWaits(t *testing.T) {
	t.Parallel()
	r := newHelmRig(t, "--helm-concurrent=1")
	r.offer(t, worker())
	stuck := func(t *testing.T, change func(*helmv2.HelmReleaseSpec), values any) *act {
		a := r.newAct(t)
		a.make(worker(), values, func(spec *helmv2.HelmReleaseSpec) {
			// Longer than anybody here waits.
			spec.Timeout = "5m"
			if change != nil {
				change(spec)
			}
		})
		a.awaitWaiting("install")
		return a
	}
	t.Run("a slot for the others", func(t *testing.T) {
		a := stuck(t, nil, map[string]any{"image": "example.com/never:1"})
		defer a.leaveFailed()
		b := r.newAct(t)
		defer b.leaveFailed()
		b.make(worker(), map[string]any{"image": "example.com/good:1"}, nil)
		b.awaitDeployed()
		a.request(a.hr())
		b.request(b.hr())
		b.awaitDeployed()
		a.awaitWaiting("install")
		if got := a.versions(); strings.Contains(got, "2") {
			t.Errorf("a request has ended the wait: %s", got)
		}
		a.patch(a.hr(), `{"spec":{"values":`+good+`}}`)
		a.awaitDeployed()
		if got := a.live().Status.History[0].Version; got != 2 {
			t.Errorf("the release has version %d, want 2: one that was given up and one that replaced it", got)
		}
		for _, each := range []*act{a, b} {
			each.deleteHR()
			if err := each.goneHR(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Run("labelled values", func(t *testing.T) {
		values := &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: r.namespace, Name: "values", Labels: map[string]string{meta.WatchLabel: meta.WatchLabelEnabled}},
			Data:       map[string]string{"values.yaml": never},
		}
		if err := r.client.Create(t.Context(), values); err != nil {
			t.Fatal(err)
		}
		a := stuck(t, func(spec *helmv2.HelmReleaseSpec) {
			spec.ValuesFrom = []helmv2.ValuesReference{{Kind: "ConfigMap", Name: "values"}}
		}, nil)
		defer a.leaveFailed()
		values.Data["values.yaml"] = good
		if err := r.client.Update(t.Context(), values); err != nil {
			t.Fatal(err)
		}
		a.awaitDeployed()
		a.deleteHR()
		if err := a.goneHR(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// awaitWaiting waits until the release waits in an action.
func (a *act) awaitWaiting(name string) {
	a.t.Helper()
	a.awaitHR(func(o *helmv2.HelmRelease) string {
		c := status.Find(o.Status.Conditions, meta.ReadyCondition)
		if c == nil || c.Status != metav1.ConditionUnknown || !strings.HasPrefix(c.Message, "Running '"+name+"' action") {
			return fmt.Sprintf("Ready is %v", c)
		}
		return ""
	})
	// Helm has begun when its record is there.
	err := poll(a.t.Context(), patience, func() bool {
		records, err := a.helm.History(a.release)
		return err == nil && len(records) > 0
	})
	if err != nil {
		a.t.Fatal(err)
	}
}

// TestHelmKubeConfig is helmrelease 88 and 90: a release goes where its kubeconfig leads, which the status tells, is uninstalled there, and does
// not keep its object once the kubeconfig is gone.
func TestHelmKubeConfig(t *testing.T) {
	t.Parallel()
	r := newHelmRig(t)
	r.offer(t, plain())
	kubeconfig, err := os.ReadFile(testkit.Kubeconfig(t))
	if err != nil {
		t.Fatal(err)
	}
	secret := func() *corev1.Secret {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: r.namespace, Name: "elsewhere"}, Data: map[string][]byte{"value": kubeconfig}}
	}
	if err := r.client.Create(t.Context(), secret()); err != nil {
		t.Fatal(err)
	}
	for _, lost := range []bool{false, true} {
		a := r.newAct(t)
		defer a.leaveFailed()
		a.makePlain(firstValues, func(spec *helmv2.HelmReleaseSpec) {
			spec.KubeConfig = &meta.KubeConfigReference{SecretRef: &meta.SecretKeyReference{Name: "elsewhere"}}
		})
		a.awaitDeployed()
		if c := status.Find(a.live().Status.Conditions, "RemoteCluster"); c == nil || c.Status != metav1.ConditionTrue {
			t.Errorf("RemoteCluster is %v", c)
		}
		a.present(a.want...)
		if lost {
			if err := r.client.Delete(context.WithoutCancel(t.Context()), secret()); err != nil {
				t.Fatal(err)
			}
		}
		a.deleteHR()
		if err := a.goneHR(t.Context()); err != nil {
			t.Fatal(err)
		}
		if lost {
			a.present(a.want...)
		} else {
			a.absent(a.want...)
		}
	}
}
