package e2e

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	"github.com/seed-79636ae9/flux/internal/testkit/apiproxy"
	"github.com/seed-79636ae9/flux/internal/testkit/charts"
)

// helmScript is a change of a HelmRelease that is interrupted at each of its writes in turn.
type helmScript struct {
	name string
	// prepare brings the act to where the kills begin, start begins the change.
	prepare, start func(*act)
	// done waits for the end of the change, undisturbed or after a restart.
	done func(*act, context.Context) error
	// meanwhile happens while the process is dead.
	meanwhile func(*act)
	// versions of the release there are in the end when nothing disturbs; 0: none, it is gone.
	versions int
	// least is how many writes there must be.
	least int
	// modes are those it is played with; nil: all.
	modes []string
}

func retries(n int) *int { return &n }

func yes() *bool {
	yes := true
	return &yes
}

var (
	firstValues  = plainValues{Names: []string{"a", "b"}, Value: "one"}
	secondValues = plainValues{Names: []string{"b", "c"}, Value: "two"}
	// brokenValues name a Service that the API server does not take.
	brokenValues = plainValues{Names: []string{"b", "c"}, Value: "two", Service: "Impossible"}
)

// helmScripts are the changes of reliability 088 to 090 that a HelmRelease has.
func helmScripts() []helmScript {
	// Dead after a write is dead before the next one, nearly: the changes that all others are made of are played with both.
	kills := []string{"killed-after"}
	return []helmScript{
		{
			name: "install", versions: 1, least: 6,
			start: func(a *act) { a.makePlain(firstValues, nil) },
			done:  (*act).deployed,
		},
		{
			name: "upgrade", versions: 2, least: 6,
			prepare: deployFirst,
			start: func(a *act) {
				a.setValues(secondValues)
				a.want = a.renders(secondValues)
			},
			done: (*act).deployed,
		},
		{
			// While the process is dead the values go back to what they were, and it never sees again the ones by which it may just have
			// created an object.
			name: "orphan-trap", versions: 2, least: 6, modes: kills,
			prepare: deployFirst,
			start: func(a *act) {
				a.setValues(secondValues)
				a.want = a.renders(secondValues)
			},
			meanwhile: func(a *act) {
				a.mayGo = true
				a.setValues(firstValues)
				a.want = a.renders(firstValues)
			},
			done: (*act).deployed,
		},
		{
			// The upgrade fails, the release goes back, and no more attempt is made.
			name: "rollback", versions: 3, least: 9, modes: []string{"killed-before", "killed-after", "answer-lost"},
			prepare: func(a *act) {
				a.makePlain(firstValues, func(spec *helmv2.HelmReleaseSpec) {
					spec.Upgrade = &helmv2.Upgrade{Remediation: &helmv2.UpgradeRemediation{RemediateLastFailure: yes()}}
				})
				a.awaitDeployed()
			},
			start: func(a *act) { a.setValues(brokenValues) },
			done:  (*act).stalled,
		},
		{
			// The first attempt fails, since the API server refuses an object once; it is undone, and the second one is good.
			name: "install-remediation", versions: 1, least: 10, modes: kills,
			start: func(a *act) {
				a.mayGo = true
				a.proxy.Add(&apiproxy.Rule{
					Match: apiproxy.Match{Verb: "write", Resource: "services", Namespace: a.namespace}, Fault: apiproxy.Fault{Status: http.StatusForbidden},
				})
				values := firstValues
				values.Service = "ExternalName"
				a.makePlain(values, func(spec *helmv2.HelmReleaseSpec) {
					spec.Install = &helmv2.Install{Remediation: &helmv2.InstallRemediation{Retries: retries(3)}}
					// What a dead process has begun is ended by an upgrade.
					uninstall := helmv2.UninstallRemediation
					spec.Upgrade = &helmv2.Upgrade{Remediation: &helmv2.UpgradeRemediation{Retries: retries(3), Strategy: &uninstall}}
				})
			},
			done: (*act).deployed,
		},
		{
			name: "uninstall", least: 5,
			prepare: deployFirst,
			start: func(a *act) {
				a.mayGo = true
				a.deleteHR()
			},
			done: (*act).goneHR,
		},
		{
			// Another name is another release: the old one goes first (reliability 148).
			name: "rename", versions: 1, least: 11, modes: kills,
			prepare: func(a *act) {
				deployFirst(a)
				a.mayGo = true
			},
			start: func(a *act) {
				a.release += "-renamed"
				a.patch(a.hr(), fmt.Sprintf(`{"spec":{"releaseName":%q}}`, a.release))
				a.want = a.renders(firstValues)
			},
			done: (*act).deployed,
		},
		{
			name: "drift", versions: 1, least: 2, modes: kills,
			prepare: func(a *act) {
				a.makePlain(firstValues, func(spec *helmv2.HelmReleaseSpec) {
					spec.DriftDetection = &helmv2.DriftDetection{Mode: helmv2.DriftDetectionEnabled}
				})
				a.awaitDeployed()
			},
			start: func(a *act) {
				a.patch(a.want[0].DeepCopy(), `{"data":{"value":"by hand"}}`)
				if err := a.client.Delete(a.t.Context(), a.want[1].DeepCopy()); err != nil {
					a.t.Fatal(err)
				}
				a.request(a.hr())
			},
			done: func(a *act, ctx context.Context) error {
				if err := a.deployed(ctx); err != nil {
					return err
				}
				// A second look, since the first may have been over before the hand was done.
				a.request(a.hr())
				return a.deployed(ctx)
			},
		},
	}
}

func deployFirst(a *act) {
	a.makePlain(firstValues, nil)
	a.awaitDeployed()
}

// TestHelmSweep disturbs every write of a change of a HelmRelease in turn, as TestCrashSweep does those of a Kustomization. Whatever
// happens: no release stays pending, none is lost, one version is deployed with all that it renders, and nobody has to help (helmrelease 38,
// 39, 44; reliability 088, 089, 090, 096, 104, 109).
func TestHelmSweep(t *testing.T) {
	for _, sc := range helmScripts() {
		for _, m := range modes() {
			if sc.modes != nil && !slices.Contains(sc.modes, m.name) {
				continue
			}
			t.Run(sc.name+"/"+m.name, func(t *testing.T) {
				t.Parallel()
				r := newHelmRig(t)
				r.offer(t, plain())
				n := 1
				for reached := true; reached && !r.broken && n <= mostPositions; n++ {
					t.Run(fmt.Sprintf("%02d", n), func(t *testing.T) { reached = r.playRelease(t, sc, m, n) })
				}
				if n -= 2; !r.broken && (n < sc.least || n >= mostPositions-1) {
					t.Errorf("the sweep ended after %d writes, want at least %d and an end", n, sc.least)
				}
			})
		}
	}
}

// playRelease runs a script once and disturbs its nth write. It reports whether there was such a write.
func (r *helmRig) playRelease(t *testing.T, sc helmScript, m mode, n int) (reached bool) {
	a := r.newAct(t)
	defer a.leaveFailed()
	if sc.prepare != nil {
		sc.prepare(a)
	}
	before := a.release
	change := script{
		act:  func(*scene) { sc.start(a) },
		done: func(ctx context.Context, _ *scene) error { return sc.done(a, ctx) },
	}
	if sc.meanwhile != nil {
		change.meanwhile = func(*scene) { sc.meanwhile(a) }
	}
	reached = a.disturb(change, m, n)
	a.proxy.Clear()
	if sc.versions == 0 {
		a.vanished()
		return reached
	}
	most := sc.versions
	if reached {
		most++
	}
	a.verifyRelease(most, func(ctx context.Context) error { return sc.done(a, ctx) })
	if before != a.release {
		a.leftNothing(before)
	}
	a.end()
	return reached
}

// leftNothing fails if a release of another name has left a record or an object of the first values.
func (a *act) leftNothing(release string) {
	a.t.Helper()
	now := a.release
	a.release = release
	if left := a.versions(); left != "" {
		a.t.Errorf("Helm's storage still has %s of release %s", left, release)
	}
	a.absent(a.renders(firstValues)...)
	a.release = now
}

// TestHelmRollbackAfterHook: an upgrade fails since a hook of it does, with Pods, and the release goes back; Stalled and Ready tell the hook
// (helmrelease 49, 52, 60).
func TestHelmRollbackAfterHook(t *testing.T) {
	t.Parallel()
	r := newHelmRig(t)
	r.offer(t, charts.Hooks())
	a := r.newAct(t)
	defer a.leaveFailed()
	values := map[string]any{"events": []string{"post-upgrade"}, "deletePolicy": "before-hook-creation,hook-succeeded"}
	a.make(charts.Hooks(), values, func(spec *helmv2.HelmReleaseSpec) {
		spec.Upgrade = &helmv2.Upgrade{Remediation: &helmv2.UpgradeRemediation{RemediateLastFailure: yes()}}
	})
	a.want = []*unstructured.Unstructured{object("v1", "ConfigMap", a.namespace, a.name, map[string]any{"data": map[string]any{"value": "one"}})}
	a.awaitDeployed()
	values["fail"], values["value"] = []string{"post-upgrade"}, "two"
	a.setValues(values)
	if err := a.stalled(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := a.versions(), "3 deployed, 2 failed, 1 superseded"; got != want {
		t.Errorf("Helm's storage has %s, want %s", got, want)
	}
	hr := a.live()
	for _, kind := range []string{"Ready", "Stalled"} {
		if c := find(hr.Status.Conditions, kind); c == nil {
			t.Errorf("there is no condition %s", kind)
		} else {
			contains(t, c.Message, []string{a.name + "-post-upgrade"})
		}
	}
	if err := a.judge.AsRendered(t.Context(), a.owner, a.want[0]); err != nil {
		t.Error(err)
	}
	job := object("batch/v1", "Job", a.namespace, a.name+"-post-upgrade", nil)
	if err := a.client.Delete(t.Context(), job, client.PropagationPolicy("Background")); client.IgnoreNotFound(err) != nil {
		t.Error(err)
	}
	a.end()
}
