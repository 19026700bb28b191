package action

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v4/pkg/action"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/yaml"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
)

func object(t *testing.T, spec string) *helmv2.HelmRelease {
	t.Helper()
	obj := &helmv2.HelmRelease{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "app"}}
	if err := yaml.UnmarshalStrict([]byte(spec), &obj.Spec); err != nil {
		t.Fatal(err)
	}
	return obj
}

// idle is a session that never reaches a cluster.
func idle(m method) (*Actions, *session) {
	a := &Actions{o: Options{ReleaseNamespace: "target", AllowDNS: true}, log: newLogTail(clock.RealClock{})}
	return a, &session{a: a, config: action.NewConfiguration(), client: newClient(clientOptions{Log: a.log, Method: m})}
}

// helmrelease 65, 66, 71, 74: every field of spec.install reaches Helm.
func TestInstallOptions(t *testing.T) {
	type options struct {
		Name, Namespace                                                                            string
		Timeout                                                                                    time.Duration
		CreateNamespace, DisableHooks, DisableOpenAPI, SkipSchema, TakeOwnership, Replace, ForJobs bool
		ServerSide, Force, SkipCRDs, DNS                                                           bool
		Strategy                                                                                   action.PostRenderStrategy
	}
	defaults := options{
		Name: "app", Namespace: "target", Timeout: 5 * time.Minute, TakeOwnership: true, ForJobs: true, ServerSide: true, Force: true, SkipCRDs: true, DNS: true,
		Strategy: action.PostRenderStrategyCombined,
	}
	for spec, change := range map[string]func(*options){
		"{}":                                          func(*options) {},
		"{timeout: 7s}":                               func(o *options) { o.Timeout = 7 * time.Second },
		"{timeout: 7s, install: {timeout: 8s}}":       func(o *options) { o.Timeout = 8 * time.Second },
		"{install: {createNamespace: true}}":          func(*options) {},
		"{install: {disableHooks: true}}":             func(o *options) { o.DisableHooks = true },
		"{install: {disableOpenAPIValidation: true}}": func(o *options) { o.DisableOpenAPI = true },
		"{install: {disableSchemaValidation: true}}":  func(o *options) { o.SkipSchema = true },
		"{install: {disableTakeOwnership: true}}":     func(o *options) { o.TakeOwnership = false },
		"{install: {disableWaitForJobs: true}}":       func(o *options) { o.ForJobs = false },
		"{install: {replace: true}}":                  func(o *options) { o.Replace = true },
		"{releaseName: other}":                        func(o *options) { o.Name = "other" },
		"{postRenderStrategy: separate}":              func(o *options) { o.Strategy = action.PostRenderStrategySeparate },
		"{targetNamespace: x, install: {createNamespace: true}}": func(o *options) {
			o.Name, o.CreateNamespace = "x-app", true
		},
	} {
		a, s := idle(method{serverSide: true})
		i := a.install(s, object(t, spec))
		got := options{
			i.ReleaseName, i.Namespace, i.Timeout, i.CreateNamespace, i.DisableHooks, i.DisableOpenAPIValidation, i.SkipSchemaValidation, i.TakeOwnership,
			i.Replace, i.WaitForJobs, i.ServerSideApply, i.ForceConflicts, i.SkipCRDs, i.EnableDNS, i.PostRenderStrategy,
		}
		want := defaults
		change(&want)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", spec, d)
		}
	}
}

// helmrelease 65, 67: every field of spec.upgrade reaches Helm.
func TestUpgradeOptions(t *testing.T) {
	type options struct {
		Timeout                                                                        time.Duration
		Reset, Reuse, DisableHooks, DisableOpenAPI, SkipSchema, TakeOwnership, ForJobs bool
		ServerSide                                                                     string
		Force, Replace, Cleanup                                                        bool
		MaxHistory                                                                     int
	}
	for spec, change := range map[string]func(*options){
		"{}":                                          func(*options) {},
		"{upgrade: {timeout: 8s}}":                    func(o *options) { o.Timeout = 8 * time.Second },
		"{upgrade: {preserveValues: true}}":           func(o *options) { o.Reset, o.Reuse = false, true },
		"{upgrade: {disableHooks: true}}":             func(o *options) { o.DisableHooks = true },
		"{upgrade: {disableOpenAPIValidation: true}}": func(o *options) { o.DisableOpenAPI = true },
		"{upgrade: {disableSchemaValidation: true}}":  func(o *options) { o.SkipSchema = true },
		"{upgrade: {disableTakeOwnership: true}}":     func(o *options) { o.TakeOwnership = false },
		"{upgrade: {disableWaitForJobs: true}}":       func(o *options) { o.ForJobs = false },
		"{upgrade: {cleanupOnFail: true}}":            func(o *options) { o.Cleanup = true },
		"{maxHistory: 0}":                             func(o *options) { o.MaxHistory = 0 },
	} {
		a, s := idle(method{serverSide: true})
		u := a.upgrade(s, object(t, spec))
		got := options{
			u.Timeout, u.ResetValues, u.ReuseValues, u.DisableHooks, u.DisableOpenAPIValidation, u.SkipSchemaValidation, u.TakeOwnership, u.WaitForJobs,
			u.ServerSideApply, u.ForceConflicts, u.ForceReplace, u.CleanupOnFail, u.MaxHistory,
		}
		want := options{Timeout: 5 * time.Minute, Reset: true, TakeOwnership: true, ForJobs: true, ServerSide: "true", Force: true, MaxHistory: 5}
		change(&want)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", spec, d)
		}
	}
	a, s := idle(method{replace: true})
	if u := a.upgrade(s, object(t, "{}")); u.ServerSideApply != "false" || u.ForceConflicts || !u.ForceReplace {
		t.Errorf("client-side with force: %q, %t, %t", u.ServerSideApply, u.ForceConflicts, u.ForceReplace)
	}
}

// helmrelease 65, 68: every field of spec.rollback reaches Helm; recreate has no effect.
func TestRollbackOptions(t *testing.T) {
	type options struct {
		Version               int
		Timeout               time.Duration
		ForJobs, DisableHooks bool
		ServerSide            string
		Force, Cleanup        bool
		MaxHistory            int
	}
	for spec, change := range map[string]func(*options){
		"{}":                                     func(*options) {},
		"{rollback: {recreate: true}}":           func(*options) {},
		"{rollback: {timeout: 8s}}":              func(o *options) { o.Timeout = 8 * time.Second },
		"{rollback: {disableWaitForJobs: true}}": func(o *options) { o.ForJobs = false },
		"{rollback: {disableHooks: true}}":       func(o *options) { o.DisableHooks = true },
		"{rollback: {cleanupOnFail: true}}":      func(o *options) { o.Cleanup = true },
		"{maxHistory: 7}":                        func(o *options) { o.MaxHistory = 7 },
	} {
		a, s := idle(method{serverSide: true})
		r := a.rollback(s, object(t, spec), 3)
		got := options{r.Version, r.Timeout, r.WaitForJobs, r.DisableHooks, r.ServerSideApply, r.ForceConflicts, r.CleanupOnFail, r.MaxHistory}
		want := options{Version: 3, Timeout: 5 * time.Minute, ForJobs: true, ServerSide: "true", Force: true, MaxHistory: 5}
		change(&want)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", spec, d)
		}
	}
}

// helmrelease 65, 69: every field of spec.uninstall reaches Helm.
func TestUninstallOptions(t *testing.T) {
	type options struct {
		Timeout                   time.Duration
		DisableHooks, KeepHistory bool
		Propagation               string
	}
	for spec, change := range map[string]func(*options){
		"{}":                                         func(*options) {},
		"{uninstall: {timeout: 8s}}":                 func(o *options) { o.Timeout = 8 * time.Second },
		"{uninstall: {disableHooks: true}}":          func(o *options) { o.DisableHooks = true },
		"{uninstall: {keepHistory: true}}":           func(o *options) { o.KeepHistory = true },
		"{uninstall: {deletionPropagation: orphan}}": func(o *options) { o.Propagation = "orphan" },
	} {
		a, s := idle(method{})
		u := a.uninstall(s, object(t, spec))
		got := options{u.Timeout, u.DisableHooks, u.KeepHistory, u.DeletionPropagation}
		want := options{Timeout: 5 * time.Minute, Propagation: "background"}
		change(&want)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", spec, d)
		}
	}
}

// helmrelease 65, 77.
func TestTestOptions(t *testing.T) {
	a, s := idle(method{})
	got := a.test(s, object(t, "{test: {timeout: 8s, filters: [{name: a}, {name: b, exclude: true}, {name: c}]}}"))
	want := map[string][]string{action.IncludeNameFilter: {"a", "c"}, action.ExcludeNameFilter: {"b"}}
	if d := cmp.Diff(want, got.Filters); d != "" || got.Timeout != 8*time.Second {
		t.Errorf("timeout %s, filters (-want +got):\n%s", got.Timeout, d)
	}
}

// helmrelease 72, 74, 75: what is decided before Helm is asked.
func TestDecisions(t *testing.T) {
	for spec, want := range map[string]string{"{}": helmv2.CRDsCreate, "{skipCRDs: true}": helmv2.CRDsSkip, "{skipCRDs: true, crds: CreateReplace}": helmv2.CRDsCreateReplace} {
		if got := installPolicy(object(t, "{install: "+spec+"}")); got != want {
			t.Errorf("helmrelease 72: %s means %s, want %s", spec, got, want)
		}
	}
	if got := strategy(object(t, "{}"), true); got != action.PostRenderStrategyNoHooks {
		t.Errorf("helmrelease 74: the strategy of Helm 3 is %s", got)
	}
	for spec, want := range map[string]waitStrategy{"{}": waitForAll, "{waitStrategy: {name: poller}}": waitForAll, "{waitStrategy: {name: legacy}}": waitAsHelm3} {
		if got := waitFor(object(t, spec), false); got != want {
			t.Errorf("helmrelease 75: %s means %d, want %d", spec, got, want)
		}
		if got := waitFor(object(t, spec), true); got != waitForHooks {
			t.Errorf("helmrelease 75: disableWait with %s means %d", spec, got)
		}
	}
}
