package action_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	"github.com/seed-79636ae9/flux/internal/helm/action"
	"github.com/seed-79636ae9/flux/toolkit/health"
	"github.com/seed-79636ae9/flux/toolkit/kube"
	"github.com/seed-79636ae9/flux/toolkit/loop"
)

// parkOnce tells when an action parks, and ends its waits with a cause.
func (l *lab) parkOnce(cause error) (parked chan struct{}, interrupt func()) {
	parked = make(chan struct{}, 10)
	news := make(chan struct{})
	l.park = func(ctx context.Context, wait func(context.Context) error) error {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		go func() {
			select {
			case <-news:
				cancel(cause)
			case <-ctx.Done():
			}
		}()
		parked <- struct{}{}
		return wait(ctx)
	}
	return parked, func() { close(news) }
}

// helmrelease 79: something newer ends a wait, in an action and in a hook, and Helm records that.
func TestInterrupted(t *testing.T) {
	never := values("image: example.com/never:1")
	stuck := hook("Job", "stuck", "pre-install,pre-upgrade,pre-rollback,pre-delete,test", "example.com/never:1", "")
	for name, act := range map[string]func(l *lab, ctx context.Context, a *action.Actions) error{
		"install": func(l *lab, ctx context.Context, a *action.Actions) error {
			_, err := a.Install(ctx, l.obj, demo("1.0.0"), never)
			return err
		},
		"install hook": func(l *lab, ctx context.Context, a *action.Actions) error {
			_, err := a.Install(ctx, l.obj, demo("1.0.0", "hook.yaml", stuck), nil)
			return err
		},
		"upgrade": func(l *lab, ctx context.Context, a *action.Actions) error {
			_, err := a.Upgrade(ctx, l.obj, demo("1.0.0"), never)
			return err
		},
		"upgrade hook": func(l *lab, ctx context.Context, a *action.Actions) error {
			_, err := a.Upgrade(ctx, l.obj, demo("1.0.0", "hook.yaml", stuck), nil)
			return err
		},
		"rollback": func(l *lab, ctx context.Context, a *action.Actions) error {
			return a.Rollback(ctx, l.obj, "app", 1)
		},
		"uninstall": func(l *lab, ctx context.Context, a *action.Actions) error {
			return a.Uninstall(ctx, l.obj, "app")
		},
		"test": func(l *lab, ctx context.Context, a *action.Actions) error {
			_, err := a.Test(ctx, l.obj, "app")
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, "{interval: 10m, timeout: 2m, install: {disableHooks: "+map[bool]string{true: "true", false: "false"}[name != "install hook"]+"}}")
			if !strings.HasPrefix(name, "install") {
				l.install("hook.yaml", stuck)
			}
			parked, interrupt := l.parkOnce(loop.ErrInterrupted)
			a := l.actions()
			done := make(chan error, 1)
			go func() { done <- act(l, t.Context(), a) }()
			<-parked
			interrupt()
			select {
			case err := <-done:
				if !errors.Is(err, loop.ErrInterrupted) {
					t.Errorf("error: %v", err)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("the action does not end")
			}
			if got := l.records(); strings.Contains(got, "pending") {
				t.Errorf("records %q", got)
			}
		})
	}
}

// reliability 087: the end of the process ends waits, and never leaves a release pending.
func TestShutdown(t *testing.T) {
	l := newLab(t, "{interval: 10m, timeout: 2m}")
	parked, _ := l.parkOnce(nil)
	stop := errors.New("the process ends")
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	a := l.actions()
	go func() {
		_, err := a.Install(ctx, l.obj, demo("1.0.0"), values("image: example.com/never:1"))
		done <- err
	}()
	<-parked
	cancel(stop)
	if err := <-done; !errors.Is(err, stop) {
		t.Errorf("error: %v", err)
	}
	if got := l.records(); got != "v1 failed" {
		t.Errorf("records %q", got)
	}
	// One that ends before it applies anything is not broken off either.
	if _, err := a.Upgrade(ctx, l.obj, demo("1.0.0"), nil); err == nil {
		t.Error("an upgrade is begun after the end")
	}
}

// helmrelease 75: what is not waited for.
func TestNotWaitedFor(t *testing.T) {
	const job = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: app-job}\nspec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: example.com/never:1}]}}}\n"
	const vanishing = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: app-job}\n" +
		"spec: {ttlSecondsAfterFinished: 0, template: {spec: {restartPolicy: Never, containers: [{name: c, image: example.com/job:1}]}}}\n"
	paused := strings.Replace(deploymentTemplate, "spec:\n", "spec:\n  paused: true\n", 1)
	for name, tt := range map[string]struct {
		spec  string
		files []string
		image string
		fails bool
	}{
		"helmrelease 66: disableWait":        {spec: "install: {disableWait: true}", image: "example.com/never:1"},
		"a paused Deployment":                {files: []string{"deployment.yaml", paused}, image: "example.com/never:1"},
		"a Job":                              {files: []string{"job.yaml", job}, fails: true},
		"helmrelease 66: disableWaitForJobs": {spec: "install: {disableWaitForJobs: true}", files: []string{"job.yaml", job}},
		"a Job that vanishes":                {files: []string{"job.yaml", vanishing}},
		"legacy":                             {spec: "waitStrategy: {name: legacy}"},
		"legacy waits":                       {spec: "waitStrategy: {name: legacy}", image: "example.com/never:1", fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			timeout := "30s"
			if tt.fails {
				timeout = "2s"
			}
			spec := "interval: 10m\ntimeout: " + timeout + "\n" + tt.spec
			l := newLab(t, spec)
			if tt.image == "" {
				tt.image = "example.com/web:1.0"
			}
			_, err := l.actions().Install(t.Context(), l.obj, demo("1.0.0", tt.files...), values("image: "+tt.image))
			if fails := err != nil; fails != tt.fails {
				t.Errorf("error: %v", err)
			}
		})
	}
}

// helmrelease 75: expressions decide, and one failed object ends the wait unless told otherwise.
func TestHealthCheckExpressions(t *testing.T) {
	evaluator, err := health.NewEvaluator([]health.Expressions{{APIVersion: "v1", Kind: "ConfigMap", Current: "data.message == 'good'", Failed: "data.message == 'bad'"}})
	if err != nil {
		t.Fatal(err)
	}
	for message, want := range map[string]string{
		"good": "",
		"bad":  "failed early due to stalled resources: [ConfigMap/NS/app-config status: 'Failed']",
		"soon": "timeout waiting for: [ConfigMap/NS/app-config status: 'InProgress']",
	} {
		t.Run(message, func(t *testing.T) {
			l := newLab(t, "{interval: 10m, timeout: 2s}")
			a := l.actions(func(o *action.Options) { o.Evaluator = evaluator })
			_, err := a.Install(t.Context(), l.obj, demo("1.0.0"), values("message: "+message))
			got := ""
			if err != nil {
				got = strings.ReplaceAll(err.Error(), l.ns, "NS")
			}
			if (want == "") != (got == "") || !strings.HasPrefix(got, want) {
				t.Errorf("error %q, want %q", got, want)
			}
		})
	}
}

// helmrelease 76: an object that takes its time to go is waited for, and named when it does not.
func TestSlowDeletion(t *testing.T) {
	l := newLab(t, "{interval: 10m, timeout: 1m}")
	l.install("slow.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: app-slow, finalizers: [example.com/slow]}\n")
	l.obj.Spec.Uninstall = &helmv2.Uninstall{Timeout: "1s"}
	err := l.actions().Uninstall(t.Context(), l.obj, "app")
	if want := "[ConfigMap/" + l.ns + "/app-slow status: 'Terminating']"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error: %v, want %s", err, want)
	}
	l.obj.Spec.Uninstall = nil
	l.install("slow.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: app-slow2, finalizers: [example.com/slow]}\n")
	release := func(name string) {
		_, err := l.client.CoreV1().ConfigMaps(l.ns).Patch(t.Context(), name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
		if err != nil {
			t.Error(err)
		}
	}
	parked, _ := l.parkOnce(nil)
	done := make(chan error, 1)
	go func() { done <- l.actions().Uninstall(t.Context(), l.obj, "app") }()
	<-parked
	release("app-slow2")
	if err := <-done; err != nil {
		t.Error(err)
	}
	release("app-slow")
}

// Without a watch objects are polled.
func TestUnwatched(t *testing.T) {
	l := newLab(t, "{interval: 10m, timeout: 30s}")
	unwatched := func(o *action.Options) { o.Managed = nil }
	if _, err := l.actions(unwatched).Install(t.Context(), l.obj, demo("1.0.0", "pre.yaml", hook("Job", "pre", "pre-install", "example.com/job:1", "hook-succeeded")), nil); err != nil {
		t.Error(err)
	}
	if err := l.actions(unwatched).Uninstall(t.Context(), l.obj, "app"); err != nil {
		t.Error(err)
	}
}

// The rights are those of the account that is impersonated, for objects and for records alike.
func TestIdentity(t *testing.T) {
	l := newLab(t, "{interval: 10m, timeout: 30s, serviceAccountName: nobody}")
	_, err := l.actions().Latest(t.Context(), "app")
	if err == nil || !strings.Contains(err.Error(), "system:serviceaccount:"+l.ns+":nobody") {
		t.Errorf("latest: %v", err)
	}
	if _, err := l.actions().Install(t.Context(), l.obj, demo("1.0.0"), nil); err == nil || l.message() != "-" {
		t.Errorf("install: %v", err)
	}
	if _, err := l.clients.For(t.Context(), kube.Identity{Namespace: l.ns, ServiceAccount: "a:b"}); err == nil {
		t.Error("an account with a colon is taken")
	}
}
