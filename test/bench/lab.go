package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	imagev1 "github.com/seed-79636ae9/flux/api/image/v1"
	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	notificationv1 "github.com/seed-79636ae9/flux/api/notification/v1"
	notificationv1beta3 "github.com/seed-79636ae9/flux/api/notification/v1beta3"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/testkit"
)

// patience bounds a scenario, far above what any should take.
const patience = 5 * time.Minute

// lab is what one scenario runs in: a namespace and a Git server, and the process once it is started.
type lab struct {
	plane     *testkit.ControlPlane
	client    client.WithWatch
	git       *testkit.GitServer
	dir       string
	namespace string
	sut       *testkit.SUT
	// components run in the process; counted is the kind, in lower case, whose runs a scenario counts.
	components []string
	counted    string
	// patience bounds what is waited for.
	patience time.Duration
}

func newLab(ctx context.Context, plane *testkit.ControlPlane, dir, namespace string) (*lab, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, rbacv1.AddToScheme, sourcev1.AddToScheme, kustomizev1.AddToScheme, helmv2.AddToScheme,
		notificationv1.AddToScheme, notificationv1beta3.AddToScheme, imagev1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	l := &lab{
		plane: plane, dir: dir, namespace: namespace, patience: patience,
		components: []string{"source-controller", "kustomize-controller"}, counted: "kustomization",
	}
	var err error
	if l.client, err = client.NewWithWatch(plane.Config, client.Options{Scheme: scheme}); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if l.git, err = testkit.NewGitServer(filepath.Join(dir, "git"), nil); err != nil {
		return nil, err
	}
	return l, l.client.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}})
}

// start runs the components; kubeconfig may lead through a proxy.
func (l *lab) start(ctx context.Context, kubeconfig string, flags ...string) error {
	var err error
	l.sut, err = testkit.StartSUT(ctx, testkit.SUTOptions{
		Components: l.components, Kubeconfig: kubeconfig,
		Dir: filepath.Join(l.dir, "flux"), Flags: append([]string{"--watch-label-selector=bench=" + l.namespace}, flags...),
	})
	return err
}

// close ends the process. What it managed stays: its shard label keeps later processes away from it.
func (l *lab) close() error {
	l.git.Close()
	if l.sut == nil {
		return nil
	}
	return l.sut.Stop()
}

func (l *lab) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: l.namespace, Name: name, Labels: map[string]string{"bench": l.namespace}}
}

// source creates a repository with the files and a GitRepository that follows it.
func (l *lab) source(ctx context.Context, name string, files map[string]*testkit.GitFile) (*repository, error) {
	repo, err := l.git.Repo(name)
	if err != nil {
		return nil, err
	}
	r := &repository{repo: repo, lab: l, name: name}
	if err := r.commit(files); err != nil {
		return nil, err
	}
	return r, l.client.Create(ctx, &sourcev1.GitRepository{
		ObjectMeta: l.meta(name),
		Spec: sourcev1.GitRepositorySpec{
			URL: l.git.URL + "/" + name + ".git", Interval: "1h", Timeout: "60s", Ref: &sourcev1.GitRepositoryRef{Branch: "main"},
		},
	})
}

// repository is a Git repository with its GitRepository.
type repository struct {
	repo     *testkit.GitRepo
	lab      *lab
	name     string
	revision string // of the latest commit
}

func (r *repository) commit(files map[string]*testkit.GitFile) error {
	hash, err := r.repo.Commit(testkit.GitCommit{Branch: "main", Message: "change", Files: files})
	r.revision = "main@sha1:" + hash
	return err
}

// request asks for a fetch, as `flux reconcile source git` does.
func (r *repository) request(ctx context.Context) error {
	o := &sourcev1.GitRepository{ObjectMeta: metav1.ObjectMeta{Namespace: r.lab.namespace, Name: r.name}}
	body := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, meta.ReconcileRequestAnnotation, time.Now().Format(time.RFC3339Nano))
	return r.lab.client.Patch(ctx, o, client.RawPatch("application/merge-patch+json", []byte(body)))
}

// fetched waits until the GitRepository offers the latest commit and tells when that was seen.
func (r *repository) fetched(ctx context.Context) (time.Time, error) {
	err := r.lab.await(ctx, &sourcev1.GitRepositoryList{}, 1, func(o client.Object) bool {
		g := o.(*sourcev1.GitRepository)
		return g.Name == r.name && g.Status.Artifact != nil && g.Status.Artifact.Revision == r.revision
	})
	return time.Now(), err
}

// kustomization makes a Kustomization of a path of the repository.
func (r *repository) kustomization(name, path string) *kustomizev1.Kustomization {
	return &kustomizev1.Kustomization{
		ObjectMeta: r.lab.meta(name),
		Spec: kustomizev1.KustomizationSpec{
			SourceRef: kustomizev1.SourceReference{Kind: sourcev1.GitRepositoryKind, Name: r.name},
			Path:      path, Interval: "1h", Timeout: "5m", Prune: true,
		},
	}
}

// applied waits until n Kustomizations are Ready at the repository's latest commit.
func (r *repository) applied(ctx context.Context, n int, names ...string) error {
	wanted := map[string]bool{}
	for _, name := range names {
		wanted[name] = true
	}
	return r.lab.await(ctx, &kustomizev1.KustomizationList{}, n, func(o client.Object) bool {
		k := o.(*kustomizev1.Kustomization)
		if len(wanted) > 0 && !wanted[k.Name] || k.Status.LastAppliedRevision != r.revision || k.Status.ObservedGeneration != k.Generation {
			return false
		}
		return status(k.Status.Conditions, meta.ReadyCondition) == metav1.ConditionTrue
	})
}

func status(conditions []metav1.Condition, conditionType string) metav1.ConditionStatus {
	for _, c := range conditions {
		if c.Type == conditionType {
			return c.Status
		}
	}
	return ""
}

// await watches the namespace until n objects are as they should be.
func (l *lab) await(ctx context.Context, list client.ObjectList, n int, good func(client.Object) bool) error {
	return l.awaitIn(ctx, list, n, good, client.InNamespace(l.namespace))
}

// awaitIn does the same wherever the options say.
func (l *lab) awaitIn(ctx context.Context, list client.ObjectList, n int, good func(client.Object) bool, options ...client.ListOption) error {
	ctx, cancel := context.WithTimeout(ctx, l.patience)
	defer cancel()
	for {
		are, err := l.watched(ctx, list, n, good, options)
		switch {
		case err != nil:
			return err
		case are >= n:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("%d of %d objects were as they should be after %s; the end of the log: %s", are, n, l.patience, l.sut.LogTail())
		}
		// An API server that has much to do ends a watch that is behind.
	}
}

// watched counts objects that are as they should be until there are n, or the watch or ctx ends. A watch begins with what there is.
func (l *lab) watched(ctx context.Context, list client.ObjectList, n int, good func(client.Object) bool, options []client.ListOption) (int, error) {
	w, err := l.client.Watch(ctx, list, options...)
	if err != nil {
		return 0, err
	}
	defer w.Stop()
	are := map[client.ObjectKey]bool{}
	for len(are) < n {
		ev, open := <-w.ResultChan()
		if !open {
			break
		}
		if o, ok := ev.Object.(client.Object); ok {
			key := client.ObjectKeyFromObject(o)
			if delete(are, key); ev.Type != watch.Deleted && good(o) {
				are[key] = true
			}
		}
	}
	return len(are), nil
}

// create creates objects in order.
func (l *lab) create(ctx context.Context, objects ...client.Object) error {
	for _, o := range objects {
		if err := l.client.Create(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

// fourObjects are the manifests of an application, as in the public benchmark of 2.9: a Deployment scaled to zero,
// a Service, a ServiceAccount and an Ingress. The value stands in each of them.
func fourObjects(namespace, name, value string) *testkit.GitFile {
	return &testkit.GitFile{Content: fmt.Sprintf(`apiVersion: v1
kind: ServiceAccount
metadata: {name: %[2]s, namespace: %[1]s, annotations: {value: %[3]q}}
---
apiVersion: v1
kind: Service
metadata: {name: %[2]s, namespace: %[1]s, annotations: {value: %[3]q}}
spec:
  selector: {app: %[2]s}
  ports: [{name: http, port: 80, targetPort: http}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[2]s, namespace: %[1]s, annotations: {value: %[3]q}}
spec:
  replicas: 0
  selector: {matchLabels: {app: %[2]s}}
  template:
    metadata: {labels: {app: %[2]s}}
    spec:
      serviceAccountName: %[2]s
      containers: [{name: app, image: "example.com/app:1", ports: [{name: http, containerPort: 8080}]}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: %[2]s, namespace: %[1]s, annotations: {value: %[3]q}}
spec:
  rules:
  - host: %[2]s.example.com
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: %[2]s, port: {name: http}}}}]}
`, namespace, name, value)}
}

// unready is a Deployment that never becomes ready: nobody runs its Pods.
func unready(namespace, name string) *testkit.GitFile {
	return &testkit.GitFile{Content: fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: %[2]s, namespace: %[1]s}
spec:
  selector: {matchLabels: {app: %[2]s}}
  template:
    metadata: {labels: {app: %[2]s}}
    spec: {containers: [{name: app, image: "example.com/app:never"}]}
`, namespace, name)}
}
