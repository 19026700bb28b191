package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/testkit"
)

const (
	// teamSize is how many applications share a namespace and the account that applies them.
	teamSize = 20
	// fleetPatience bounds a phase of a fleet.
	fleetPatience = 20 * time.Minute
	// account applies the Kustomizations of a team.
	account = "flux"
	// longInterval is one that no phase reaches.
	longInterval = 2 * time.Hour
)

// Versions of what the applications of a fleet consist of, as tags.
const (
	firstTag  = "1.0.0"
	secondTag = "1.1.0"
)

// fleet is a number of applications in namespaces of teams, and the plain clients to compare with.
type fleet struct {
	*lab
	*meter
	floor    *floor
	n        int
	registry *testkit.Registry
}

func newFleet(ctx context.Context, l *lab, n int, profiles string) (*fleet, error) {
	m, err := newMeter(l.plane, profiles)
	if err != nil {
		return nil, err
	}
	f := &fleet{lab: l, meter: m, n: n}
	// All components: a fleet is what one process is for.
	f.components, f.patience = nil, fleetPatience
	if f.floor, err = newFloor(l); err != nil {
		return nil, err
	}
	f.registry = testkit.NewRegistry()
	return f, nil
}

// run starts the process with as many slots as the floor has clients.
func (f *fleet) run(ctx context.Context) error {
	slots := fmt.Sprint("=", clients)
	err := f.start(ctx, f.lab.plane.Kubeconfig, "--source-concurrent"+slots, "--kustomize-concurrent"+slots, "--helm-concurrent"+slots,
		// What an upgrade has replaced is collected, and told, before the minute in which nothing is to happen.
		"--artifact-retention-ttl=10s")
	f.process = f.sut
	return err
}

// halt ends the process: what is measured next does without it.
func (f *fleet) halt() error {
	err := f.lab.sut.Stop()
	f.process = nil
	return err
}

func (f *fleet) close() error {
	f.registry.Close()
	return f.lab.close()
}

// app is the name of an application; one of the floor has as long a name in as many namespaces.
func app(i int) string { return fmt.Sprintf("app-%04d", i) }

// team is the namespace of an application.
func (f *fleet) team(part string, i int) string {
	return fmt.Sprintf("%s-%s-%03d", f.namespace, part, i/teamSize)
}

// teams creates the namespaces, with an account that may do everything in its own.
func (f *fleet) teams(ctx context.Context, part string) error {
	return spread((f.n+teamSize-1)/teamSize, func(_, i int) error {
		namespace := f.team(part, i*teamSize)
		in := metav1.ObjectMeta{Namespace: namespace, Name: account}
		return f.create(ctx,
			&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}},
			&corev1.ServiceAccount{ObjectMeta: in},
			&rbacv1.RoleBinding{
				ObjectMeta: in,
				RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
				Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: account}},
			})
	})
}

func (f *fleet) metaOf(part string, i int) metav1.ObjectMeta {
	o := f.meta(app(i))
	o.Namespace = f.team(part, i)
	return o
}

// push uploads an artifact for each application, of its four objects.
func (f *fleet) push(part, tag string) error {
	return spread(f.n, func(_, i int) error {
		return f.pushFiles(app(i)+":"+tag, map[string]string{"all.yaml": fourObjects(f.team(part, i), app(i), tag).Content})
	})
}

// pushFiles uploads one artifact.
func (f *fleet) pushFiles(reference string, files map[string]string) error {
	image, err := testkit.BuildImage("application/vnd.cncf.flux.config.v1+json", nil, []testkit.Layer{{
		MediaType: "application/vnd.cncf.flux.content.v1.tar+gzip", Files: files,
	}})
	if err != nil {
		return err
	}
	return f.registry.Push("bench/"+reference, image)
}

func (f *fleet) ociRepository(at metav1.ObjectMeta, repository string) *sourcev1.OCIRepository {
	return &sourcev1.OCIRepository{
		ObjectMeta: at,
		Spec: sourcev1.OCIRepositorySpec{
			URL: "oci://" + f.registry.Host() + "/bench/" + repository, Insecure: true, Ref: &sourcev1.OCIRepositoryRef{Tag: firstTag},
			Interval: meta.DurationOf(longInterval), Timeout: "60s",
		},
	}
}

func (f *fleet) kustomizationOf(at metav1.ObjectMeta, source kustomizev1.SourceReference, path string) *kustomizev1.Kustomization {
	return &kustomizev1.Kustomization{
		ObjectMeta: at,
		Spec: kustomizev1.KustomizationSpec{
			SourceRef: source, Path: path, ServiceAccountName: account, Prune: true, Wait: true,
			Interval: meta.DurationOf(longInterval), Timeout: "10m",
		},
	}
}

// setTag makes an OCIRepository follow another tag.
func (f *fleet) setTag(ctx context.Context, namespace, name, tag string) error {
	o := &sourcev1.OCIRepository{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	return f.client.Patch(ctx, o, client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"spec":{"ref":{"tag":%q}}}`, tag)))
}

// ready waits until n Kustomizations are Ready with a revision of that tag.
func (f *fleet) ready(ctx context.Context, n int, tag string) error {
	return f.awaitIn(ctx, &kustomizev1.KustomizationList{}, n, func(o client.Object) bool {
		k := o.(*kustomizev1.Kustomization)
		return strings.HasPrefix(k.Status.LastAppliedRevision, tag+"@") && k.Status.ObservedGeneration == k.Generation &&
			status(k.Status.Conditions, meta.ReadyCondition) == metav1.ConditionTrue
	}, f.labelled())
}

func (f *fleet) labelled() client.ListOption { return client.MatchingLabels(f.meta("").Labels) }

// delete deletes all objects of some kinds, and waits until they are gone.
func (f *fleet) delete(ctx context.Context, kinds ...schema.GroupVersionKind) error {
	for _, kind := range kinds {
		list, err := f.list(ctx, kind)
		if err != nil {
			return err
		}
		err = spread(len(list.Items), func(_, i int) error {
			list.Items[i].SetGroupVersionKind(kind)
			return client.IgnoreNotFound(f.client.Delete(ctx, &list.Items[i]))
		})
		if err != nil {
			return err
		}
	}
	return f.gone(ctx, kinds...)
}

// gone waits until there is no object of these kinds.
func (f *fleet) gone(ctx context.Context, kinds ...schema.GroupVersionKind) error {
	ctx, cancel := context.WithTimeout(ctx, f.patience)
	defer cancel()
	for _, kind := range kinds {
		if err := f.goneOf(ctx, kind); err != nil {
			return fmt.Errorf("waiting until each %s is gone: %w; the end of the log: %s", kind.Kind, err, f.sut.LogTail())
		}
	}
	return nil
}

// goneOf watches: a list for each look would be the dearest request of all. An API server that has much to do ends a watch that is behind.
func (f *fleet) goneOf(ctx context.Context, kind schema.GroupVersionKind) error {
	for {
		list, err := f.list(ctx, kind)
		if err != nil || len(list.Items) == 0 {
			return err
		}
		if err := f.shrink(ctx, list); err != nil {
			return err
		}
	}
}

// shrink watches until all objects of a list are gone, or the watch ends.
func (f *fleet) shrink(ctx context.Context, list *metav1.PartialObjectMetadataList) error {
	left := map[types.UID]bool{}
	for _, o := range list.Items {
		left[o.UID] = true
	}
	w, err := f.client.Watch(ctx, list, f.labelled(), &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: list.ResourceVersion}})
	if err != nil {
		return err
	}
	defer w.Stop()
	for len(left) > 0 {
		ev, open := <-w.ResultChan()
		if !open {
			return ctx.Err()
		}
		if o, ok := ev.Object.(client.Object); ok && ev.Type == watch.Deleted {
			delete(left, o.GetUID())
		}
	}
	return nil
}

// list lists the objects of the fleet of a kind.
func (f *fleet) list(ctx context.Context, kind schema.GroupVersionKind, options ...client.ListOption) (*metav1.PartialObjectMetadataList, error) {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(kind)
	return list, f.client.List(ctx, list, append(options, f.labelled())...)
}

// setInterval gives all objects of a kind another interval.
func (f *fleet) setInterval(ctx context.Context, kind schema.GroupVersionKind, interval time.Duration) error {
	list, err := f.list(ctx, kind)
	if err != nil {
		return err
	}
	return spread(len(list.Items), func(_, i int) error {
		list.Items[i].SetGroupVersionKind(kind)
		return f.client.Patch(ctx, &list.Items[i], client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"spec":{"interval":%q}}`, interval)))
	})
}

// Kinds that fleets consist of.
func kustomizations() schema.GroupVersionKind {
	return kustomizev1.GroupVersion.WithKind(kustomizev1.KustomizationKind)
}
func ociRepositories() schema.GroupVersionKind {
	return sourcev1.GroupVersion.WithKind(sourcev1.OCIRepositoryKind)
}
func gitRepositories() schema.GroupVersionKind {
	return sourcev1.GroupVersion.WithKind(sourcev1.GitRepositoryKind)
}
func helmReleases() schema.GroupVersionKind {
	return helmv2.GroupVersion.WithKind(helmv2.HelmReleaseKind)
}
func helmCharts() schema.GroupVersionKind {
	return sourcev1.GroupVersion.WithKind(sourcev1.HelmChartKind)
}
func helmRepositories() schema.GroupVersionKind {
	return sourcev1.GroupVersion.WithKind(sourcev1.HelmRepositoryKind)
}
