package e2e

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

// TestHelmDrift is helmrelease 46 and 84 in a running process: what somebody changes or deletes is put right, or told, at once, though the
// next interval is far; and as long as nobody does, looking for drift costs nothing.
func TestHelmDrift(t *testing.T) {
	t.Parallel()
	r := newHelmRig(t)
	r.offer(t, plain())
	t.Run("enabled", func(t *testing.T) {
		a := r.newAct(t)
		defer a.leaveFailed()
		a.makeWatchful(helmv2.DriftDetectionEnabled)
		a.corrected()
		if err := a.client.Delete(t.Context(), a.want[1].DeepCopy()); err != nil {
			t.Fatal(err)
		}
		a.mayGo = true
		awaitObject(a.scene, a.want[1].DeepCopy())
		a.mayGo = false
		a.quiet()
		// What Helm itself does is no drift.
		a.setValues(secondValues)
		a.want = a.renders(secondValues)
		a.awaitDeployed()
		a.quiet()
		a.verifyRelease(2, a.deployed)
		a.end()
	})
	t.Run("warn", func(t *testing.T) {
		a := r.newAct(t)
		defer a.leaveFailed()
		a.makeWatchful(helmv2.DriftDetectionWarn)
		drifted := func(want metav1.ConditionStatus, part string) {
			t.Helper()
			a.awaitHR(func(o *helmv2.HelmRelease) string {
				c := status.Find(o.Status.Conditions, helmv2.DriftedCondition)
				if c == nil || c.Status != want || !strings.Contains(c.Message, part) {
					return fmt.Sprintf("Drifted is %v", c)
				}
				return ""
			})
		}
		o := a.want[0].DeepCopy()
		a.patch(o.DeepCopy(), `{"data":{"value":"by hand"}}`)
		drifted(metav1.ConditionTrue, "ConfigMap/"+o.GetNamespace()+"/"+o.GetName()+" changed (0 additions, 1 changes, 0 removals)")
		a.patch(o.DeepCopy(), `{"data":{"value":"one"}}`)
		drifted(metav1.ConditionFalse, "No drift detected")
		a.verifyRelease(1, a.deployed)
		a.end()
	})
}

// makeWatchful makes a release that looks for drift, and waits until doing so costs nothing.
func (a *act) makeWatchful(mode string) {
	a.t.Helper()
	a.makePlain(firstValues, func(spec *helmv2.HelmReleaseSpec) { spec.DriftDetection = &helmv2.DriftDetection{Mode: mode} })
	a.awaitDeployed()
	a.quiet()
}

// quiet waits until a run makes no request about the objects of the release: once their watch has begun, and what was done is known.
func (a *act) quiet() {
	a.t.Helper()
	var last string
	err := poll(a.t.Context(), patience, func() bool {
		seq := a.proxy.Seq()
		a.request(a.hr())
		a.awaitDeployed()
		last = ""
		for _, r := range a.proxy.Requests(seq) {
			if r.Resource == "configmaps" && r.Verb != "watch" && strings.HasPrefix(r.Name, a.release+"-") {
				last = r.String()
			}
		}
		return last == ""
	})
	if err != nil {
		a.t.Fatalf("each run makes requests like %s: %v", last, err)
	}
}
