package action

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	helmkube "helm.sh/helm/v4/pkg/kube"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/resource"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"

	"github.com/seed-79636ae9/flux/toolkit/health"
	"github.com/seed-79636ae9/flux/toolkit/kube"
	"github.com/seed-79636ae9/flux/toolkit/loop"
)

// deletionPoll is the time between reads of objects that are to be gone (helmrelease 76).
const deletionPoll = 2 * time.Second

// waitStrategy says what is waited for (helmrelease 75).
type waitStrategy int

const (
	waitForAll   waitStrategy = iota // by kstatus and expressions
	waitForHooks                     // hooks alone
	waitAsHelm3
)

// waits is what the waits of one action have in common.
type waits struct {
	ctx         context.Context // ends waits
	park        Park
	client      *kube.Client
	requests    *requests
	managed     *kube.Managed
	owner       kube.Owner
	evaluator   *health.Evaluator
	keepWaiting bool
	clock       clock.WithTicker
	log         slog.Handler

	mu      sync.Mutex // guards what follows
	kinds   []schema.GroupVersionKind
	secrets []string // that no error may show
	cause   error    // of a wait that was interrupted
}

// saw notes the kinds of a release, so that they are watched when there is something to wait for, and what is secret in it.
func (w *waits) saw(list helmkube.ResourceList) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, info := range list {
		w.secrets = append(w.secrets, secretsOf(info)...)
		if gvk := info.Mapping.GroupVersionKind; !slices.Contains(w.kinds, gvk) {
			w.kinds = append(w.kinds, gvk)
		}
	}
}

// watch has the kinds of the release watched.
func (w *waits) watch() {
	if w.managed == nil {
		return
	}
	w.mu.Lock()
	kinds := slices.Clone(w.kinds)
	w.mu.Unlock()
	w.managed.Include(w.owner, kinds)
}

// parked runs a wait without a work slot.
func (w *waits) parked(wait func(context.Context) error) error {
	err := w.park(w.ctx, wait)
	if errors.Is(err, loop.ErrInterrupted) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.cause = err
	}
	return err
}

// interrupted is the error of a wait that was interrupted, if one was.
func (w *waits) interrupted() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cause
}

// healthy waits until objects are.
func (w *waits) healthy(checks []health.Check, evaluator *health.Evaluator, timeout time.Duration) error {
	if len(checks) == 0 {
		return nil
	}
	w.watch()
	h := &health.Waiter{Client: w.client, Managed: w.managed, Evaluator: evaluator, KeepWaiting: w.keepWaiting, Clock: w.clock}
	return w.parked(func(ctx context.Context) error { return h.Wait(ctx, w.owner, checks, timeout) })
}

// asHelm3 waits as Helm 3 did, for what is no hook.
func (w *waits) asHelm3(wait func(helmkube.Waiter) error) error {
	return w.parked(func(ctx context.Context) error {
		h := &helmkube.Client{Factory: factory{client: w.client}, WaitContext: ctx} //nolint:staticcheck // the legacy waiter knows no other way
		waiter, err := h.GetWaiter(helmkube.LegacyStrategy)
		if err == nil {
			err = wait(waiter)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	})
}

// factory gives Helm's waiter its client. Nothing else is asked of it.
type factory struct {
	helmkube.Factory
	client *kube.Client
}

// KubernetesClientSet returns a client of the identity.
func (f factory) KubernetesClientSet() (*kubernetes.Clientset, error) {
	return kubernetes.NewForConfigAndClient(f.client.Config(), f.client.HTTP())
}

// waiter is how Helm waits.
type waiter struct {
	*waits
	strategy waitStrategy
}

var _ helmkube.Waiter = (*waiter)(nil)

// Wait waits for everything but Jobs (helmrelease 75).
func (w *waiter) Wait(list helmkube.ResourceList, timeout time.Duration) error {
	switch w.strategy {
	case waitForHooks:
		return nil
	case waitAsHelm3:
		return w.asHelm3(func(h helmkube.Waiter) error { return h.Wait(list, timeout) })
	}
	return w.healthy(checksOf(list, false), w.evaluator, timeout)
}

// WaitWithJobs waits for everything.
func (w *waiter) WaitWithJobs(list helmkube.ResourceList, timeout time.Duration) error {
	switch w.strategy {
	case waitForHooks:
		return nil
	case waitAsHelm3:
		return w.asHelm3(func(h helmkube.Waiter) error { return h.WaitWithJobs(list, timeout) })
	}
	return w.healthy(checksOf(list, true), w.evaluator, timeout)
}

// WatchUntilReady waits for hooks: Jobs and Pods until they have ended well, and kinds that have expressions.
func (w *waiter) WatchUntilReady(list helmkube.ResourceList, timeout time.Duration) error {
	var pods, others []health.Check
	for _, c := range checksOf(list, true) {
		switch gk := c.GroupKind(); {
		case w.evaluator.Covers(gk), gk == jobKind:
			others = append(others, c)
		case gk == podKind:
			pods = append(pods, c)
		}
	}
	err := w.healthy(others, w.evaluator, timeout)
	if err == nil && len(pods) > 0 {
		var ended *health.Evaluator
		if ended, err = endedPods(); err == nil {
			err = w.healthy(pods, ended, timeout)
		}
	}
	return w.withLog(err)
}

var (
	jobKind        = schema.GroupKind{Group: "batch", Kind: "Job"}
	podKind        = schema.GroupKind{Kind: "Pod"}
	deploymentKind = schema.GroupKind{Group: "apps", Kind: "Deployment"}
)

// endedPods takes a Pod for ready when it has ended well, which is what a hook is for.
var endedPods = sync.OnceValues(func() (*health.Evaluator, error) {
	return health.NewEvaluator([]health.Expressions{
		{APIVersion: "v1", Kind: "Pod", Current: "status.phase == 'Succeeded'", Failed: "status.phase == 'Failed'"},
	})
})

// checksOf lists what to wait for. The objects themselves are let go of: the wait may be long.
func checksOf(list helmkube.ResourceList, jobs bool) []health.Check {
	var checks []health.Check
	for _, info := range list {
		gvk := info.Mapping.GroupVersionKind
		o, _ := info.Object.(*unstructured.Unstructured)
		if gvk.GroupKind() == jobKind && !jobs || gvk.GroupKind() == deploymentKind && isPaused(o) {
			continue
		}
		checks = append(checks, health.Check{
			GroupVersionKind: gvk, Namespace: info.Namespace, Name: info.Name, ResourceVersion: info.ResourceVersion, MayVanish: vanishes(gvk.GroupKind(), o),
		})
	}
	for _, info := range list {
		info.Object = outlineOf(info)
	}
	return checks
}

// outlineOf is as much of an object as Helm still needs of it after it was written.
func outlineOf(info *resource.Info) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{}}
	o.SetGroupVersionKind(info.Mapping.GroupVersionKind)
	o.SetNamespace(info.Namespace)
	o.SetName(info.Name)
	return o
}

func isPaused(o *unstructured.Unstructured) bool {
	if o == nil {
		return false
	}
	paused, _, _ := unstructured.NestedBool(o.Object, "spec", "paused")
	return paused
}

// vanishes reports whether an object deletes itself when it is done.
func vanishes(gk schema.GroupKind, o *unstructured.Unstructured) bool {
	if gk != jobKind || o == nil {
		return false
	}
	_, has, _ := unstructured.NestedFieldNoCopy(o.Object, "spec", "ttlSecondsAfterFinished")
	return has
}

// WaitForDelete waits until objects are gone.
func (w *waiter) WaitForDelete(list helmkube.ResourceList, timeout time.Duration) error {
	if w.strategy == waitForHooks || len(list) == 0 {
		return nil
	}
	left := slices.Clone(list)
	if left = w.still(w.ctx, left, false); len(left) == 0 {
		return nil
	}
	w.watch()
	return w.parked(func(ctx context.Context) error { return w.gone(ctx, left, timeout) })
}

// gone waits until objects are gone, or the timeout or ctx ends.
func (w *waiter) gone(ctx context.Context, left helmkube.ResourceList, timeout time.Duration) error {
	var changed <-chan struct{}
	if w.managed != nil {
		ch, end := w.managed.Subscribe(w.owner)
		defer end()
		changed = ch
	}
	deadline := w.clock.NewTimer(timeout)
	defer deadline.Stop()
	tick := w.clock.NewTicker(deletionPoll)
	defer tick.Stop()
	for late, told := false, false; ; {
		left = w.still(ctx, left, told)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case len(left) == 0:
			return nil
		case late:
			return stillThere(left)
		}
		told = false
		select {
		case <-ctx.Done():
		case <-changed:
			told = true
		case <-tick.C():
		case <-deadline.C():
			late = true
		}
	}
}

// still returns the objects that are there, or may be. After news of the watch, those that it shows are not read.
func (w *waiter) still(ctx context.Context, list helmkube.ResourceList, told bool) helmkube.ResourceList {
	r := w.requests.within(ctx)
	return list.Filter(func(info *resource.Info) bool {
		if ctx.Err() != nil {
			return true
		}
		if told {
			if _, sight := w.managed.Lookup(info.Mapping.GroupVersionKind.GroupKind(), info.Namespace, info.Name); sight == kube.Present {
				return true
			}
		}
		_, _, err := r.metadata(r.of(http.MethodGet, info))
		return !apierrors.IsNotFound(err) && !meta.IsNoMatchError(err)
	})
}

func stillThere(left helmkube.ResourceList) error {
	var names []string
	for _, info := range left[:min(len(left), maxListed)] {
		names = append(names, fmt.Sprintf("%s status: '%s'", subject(info), kube.Terminating))
	}
	if more := len(left) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return fmt.Errorf("timeout waiting for: [%s]", strings.Join(names, ", "))
}

// maxListed is how many objects an error names.
const maxListed = 25

// subject names an object as Kind/namespace/name.
func subject(info *resource.Info) string {
	kind := info.Mapping.GroupVersionKind.Kind
	if info.Namespace == "" {
		return kind + "/" + info.Name
	}
	return kind + "/" + info.Namespace + "/" + info.Name
}
