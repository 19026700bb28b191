package action

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"

	helmkube "helm.sh/helm/v4/pkg/kube"
	release "helm.sh/helm/v4/pkg/release/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/resource"

	"github.com/seed-79636ae9/flux/toolkit/kube"
)

// parallel is how many objects of one kind are written at a time.
const parallel = 8

// method is how an action writes objects. Helm tells it only in options that nobody else can read, so whoever sets up an action tells it
// here too.
type method struct {
	// serverSide applies objects server-side, with force where something may be changed.
	serverSide bool
	// replace replaces objects instead of changing them; only without serverSide.
	replace bool
	// merge compares with the live state also where a kind has no merge keys; only without serverSide.
	merge bool
	// lenient ignores fields that the API server does not know.
	lenient bool
	// wholeCharts reads the charts of old releases.
	wholeCharts bool
	// takesOver has Helm not ask which objects exist: each is taken over.
	takesOver bool
	// preview leaves out objects of kinds that are not served yet.
	preview bool
	// wait is the strategy for everything that is no hook.
	wait waitStrategy
}

type clientOptions struct {
	Requests *requests
	Mapper   *kube.Mapper
	// Namespace is where objects go that name none.
	Namespace string
	Method    method
	Log       slog.Handler
}

// client is how Helm sees the cluster in one action.
type client struct {
	o     clientOptions
	log   *slog.Logger
	waits *waits
	// undeployed returns the releases that came to no good; nil: there is nobody to ask.
	undeployed func() ([]*release.Release, error)

	mu      sync.Mutex // guards what follows
	deletes []error    // that Helm does not pass on
	writes  bool
	taken   map[string]struct{} // paths of the objects that Helm was told do not exist
}

var (
	_ helmkube.Interface            = (*client)(nil)
	_ helmkube.InterfaceWaitOptions = (*client)(nil)
)

func newClient(o clientOptions) *client {
	return &client{o: o, log: slog.New(o.Log), taken: map[string]struct{}{}}
}

// IsReachable asks nothing: the first request that is needed anyway tells.
func (c *client) IsReachable() error { return nil }

// Build decodes a stream of YAML documents. There is no validation here: the API server validates what it is given.
func (c *client) Build(reader io.Reader, _ bool) (helmkube.ResourceList, error) {
	objects, err := decodeObjects(reader)
	if err != nil {
		return nil, err
	}
	var list helmkube.ResourceList
	var errs []error
	for _, o := range objects {
		info, err := c.info(o)
		if err != nil {
			if !c.o.Method.preview || !meta.IsNoMatchError(err) {
				errs = append(errs, err)
			}
			continue
		}
		list = append(list, info)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	c.waits.saw(list)
	return list, nil
}

func (c *client) info(o *unstructured.Unstructured) (*resource.Info, error) {
	gvk := o.GroupVersionKind()
	res, err := c.o.Mapper.Resource(c.o.Requests.ctx, gvk)
	if err != nil {
		hint := ""
		if meta.IsNoMatchError(err) {
			hint = "\nensure CRDs are installed first"
		}
		return nil, fmt.Errorf("resource mapping not found for name: %q namespace: %q: %w%s", o.GetName(), o.GetNamespace(), err, hint)
	}
	if res.Namespaced && o.GetNamespace() == "" {
		o.SetNamespace(c.o.Namespace)
	}
	scope := meta.RESTScopeRoot
	if res.Namespaced {
		scope = meta.RESTScopeNamespace
	}
	api := c.o.Requests.api(gvk.GroupVersion())
	var asked resource.RESTClient = api
	if c.o.Method.takesOver {
		asked = unasked{api, c}
	}
	return &resource.Info{
		Client:    asked,
		Mapping:   &meta.RESTMapping{Resource: res.GVR(), GroupVersionKind: gvk, Scope: scope},
		Namespace: o.GetNamespace(), Name: o.GetName(), Object: o,
	}, nil
}

// Create creates objects; with server-side apply, objects that exist are changed where nobody else set the fields, unless they are to be
// taken over.
func (c *client) Create(list helmkube.ResourceList, _ ...helmkube.ClientCreateOption) (*helmkube.Result, error) {
	if len(list) == 0 {
		return nil, helmkube.ErrNoObjectsVisited
	}
	c.log.Debug("creating resource(s)", "resources", len(list))
	c.begun()
	err := perform(list, func(info *resource.Info) error {
		if c.o.Method.serverSide {
			_, err := c.apply(info, c.takes(info))
			return err
		}
		return c.create(info)
	})
	if err != nil {
		return nil, err
	}
	return &helmkube.Result{Created: list}, nil
}

// Update makes the targets what they should be and deletes the originals that are no targets.
func (c *client) Update(originals, targets helmkube.ResourceList, _ ...helmkube.ClientUpdateOption) (*helmkube.Result, error) {
	c.log.Debug("checking resources for changes", "resources", len(targets))
	c.begun()
	res := &helmkube.Result{}
	var mu sync.Mutex // guards res and failed
	var failed []error
	err := perform(targets, func(info *resource.Info) error {
		created, err := c.update(originals.Get(info), info)
		mu.Lock()
		defer mu.Unlock()
		if created {
			res.Created = append(res.Created, info)
			if err != nil {
				return fmt.Errorf("failed to create resource: %w", err)
			}
			return nil
		}
		res.Updated = append(res.Updated, info)
		if err != nil {
			failed = append(failed, err)
		}
		return nil
	})
	if err == nil {
		err = joined(failed, " && ")
	}
	if err != nil {
		return res, err
	}
	for _, info := range originals.Difference(targets) {
		if err := c.remove(info, res); err != nil {
			failed = append(failed, err)
		}
	}
	if err := c.leftovers(originals, targets, res); err != nil {
		failed = append(failed, err)
	}
	return res, joined(failed, " && ")
}

// update brings one object to its target and reports whether it did not exist. The original is how the last release wanted it.
func (c *client) update(original, target *resource.Info) (created bool, err error) {
	if c.o.Method.serverSide {
		return c.apply(target, true)
	}
	live := &unstructured.Unstructured{}
	_, err = c.o.Requests.decode(c.o.Requests.of(http.MethodGet, target), &live.Object)
	switch {
	case apierrors.IsNotFound(err):
		return true, c.create(target)
	case err != nil:
		return false, fmt.Errorf("could not get information about the resource: %w", err)
	case c.o.Method.replace:
		return false, c.replace(target, live.GetResourceVersion())
	}
	before := runtime.Object(live)
	if original != nil {
		before = original.Object
	}
	return false, c.patch(before, live, target)
}

// remove deletes an object that is no longer part of the release, unless it is to be kept.
func (c *client) remove(info *resource.Info, res *helmkube.Result) error {
	log := c.log.With("namespace", info.Namespace, "name", info.Name, "kind", info.Mapping.GroupVersionKind.Kind)
	log.Debug("deleting resource")
	live, _, err := c.o.Requests.metadata(c.o.Requests.of(http.MethodGet, info))
	if err != nil {
		log.Debug("unable to get object", slog.Any("error", err))
		return nil
	}
	if live.Annotations[helmkube.ResourcePolicyAnno] == helmkube.KeepPolicy {
		log.Debug("skipping delete due to annotation", "annotation", helmkube.ResourcePolicyAnno, "value", helmkube.KeepPolicy)
		return nil
	}
	if err := c.delete(info, metav1.DeletePropagationBackground); err != nil && !apierrors.IsNotFound(err) {
		log.Debug("failed to delete resource", slog.Any("error", err))
		return fmt.Errorf("failed to delete resource namespace=%s, name=%s, kind=%s: %w", info.Namespace, info.Name, info.Mapping.GroupVersionKind.Kind, err)
	}
	res.Deleted = append(res.Deleted, info)
	return nil
}

// Delete deletes objects, as many as possible.
func (c *client) Delete(list helmkube.ResourceList, policy metav1.DeletionPropagation) (*helmkube.Result, []error) {
	res := &helmkube.Result{}
	var errs []error
	var mu sync.Mutex // guards res and errs
	_ = perform(list, func(info *resource.Info) error {
		c.log.Debug("starting delete resource", "namespace", info.Namespace, "name", info.Name, "kind", info.Mapping.GroupVersionKind.Kind)
		err := c.delete(info, policy)
		mu.Lock()
		defer mu.Unlock()
		if err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, err)
			return nil
		}
		res.Deleted = append(res.Deleted, info)
		return nil
	})
	if errs != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.deletes = append(c.deletes, errs...)
		return nil, errs
	}
	return res, nil
}

// undeleted are the deletions that failed.
func (c *client) undeleted() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return joined(c.deletes, "; ")
}

func (c *client) delete(info *resource.Info, policy metav1.DeletionPropagation) error {
	body, err := json.Marshal(metav1.DeleteOptions{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "DeleteOptions"}, PropagationPolicy: &policy})
	if err != nil {
		return fmt.Errorf("failed to encode delete options: %w", err)
	}
	_, err = c.o.Requests.decode(c.o.Requests.of(http.MethodDelete, info).SetHeader("Content-Type", runtime.ContentTypeJSON).Body(body), nil)
	return err
}

// GetWaiter returns the waiter of the action. Which it is was decided when the action was set up.
func (c *client) GetWaiter(helmkube.WaitStrategy) (helmkube.Waiter, error) {
	return &waiter{waits: c.waits, strategy: c.o.Method.wait}, nil
}

// GetWaiterWithOptions is GetWaiter.
func (c *client) GetWaiterWithOptions(s helmkube.WaitStrategy, _ ...helmkube.WaitOption) (helmkube.Waiter, error) {
	return c.GetWaiter(s)
}

// errUnused is the error of what no action needs.
var errUnused = errors.New("not part of any action")

// Get is not part of any action.
func (c *client) Get(helmkube.ResourceList, bool) (map[string][]runtime.Object, error) {
	return nil, errUnused
}

// BuildTable is not part of any action.
func (c *client) BuildTable(io.Reader, bool) (helmkube.ResourceList, error) { return nil, errUnused }

// GetPodList finds nothing: what Pods of hooks have logged has no place to go but the error of a failed hook, which has it already.
func (c *client) GetPodList(string, metav1.ListOptions) (*corev1.PodList, error) {
	return &corev1.PodList{}, nil
}

// OutputContainerLogsForPodList writes nothing.
func (c *client) OutputContainerLogsForPodList(*corev1.PodList, string, func(namespace, pod, container string) io.Writer) error {
	return nil
}

func discardHookOutput(_, _, _ string) io.Writer { return io.Discard }

// perform calls do for all objects, in parallel for those of one kind that follow each other. After a kind that failed, no more follow.
func perform(list helmkube.ResourceList, do func(*resource.Info) error) error {
	for len(list) > 0 {
		kind := list[0].Mapping.GroupVersionKind
		n := 1
		for n < len(list) && list[n].Mapping.GroupVersionKind == kind {
			n++
		}
		errs := make([]error, n)
		slots := make(chan struct{}, parallel)
		var wg sync.WaitGroup
		for i, info := range list[:n] {
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				errs[i] = do(info)
			})
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

// joinedErrors are several errors in one line.
type joinedErrors struct {
	errs []error
	by   string
}

func joined(errs []error, by string) error {
	switch len(errs) {
	case 0:
		return nil
	case 1:
		return errs[0]
	}
	return &joinedErrors{errs, by}
}

func (e *joinedErrors) Error() string {
	var b bytes.Buffer
	for i, err := range e.errs {
		if i > 0 {
			b.WriteString(e.by)
		}
		b.WriteString(err.Error())
	}
	return b.String()
}

func (e *joinedErrors) Unwrap() []error { return e.errs }
