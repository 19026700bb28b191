package helm

import (
	"context"
	"errors"
	"fmt"
	"time"

	chart "helm.sh/helm/v4/pkg/chart/v2"
	release "helm.sh/helm/v4/pkg/release/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/internal/helm/action"
	"github.com/seed-79636ae9/flux/internal/helm/charts"
	"github.com/seed-79636ae9/flux/internal/helm/drift"
	"github.com/seed-79636ae9/flux/internal/helm/values"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
	"github.com/seed-79636ae9/flux/toolkit/cluster"
	"github.com/seed-79636ae9/flux/toolkit/depend"
	"github.com/seed-79636ae9/flux/toolkit/health"
	"github.com/seed-79636ae9/flux/toolkit/kube"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/sourceref"
)

const (
	// defaultRetryInterval of the strategy RetryOnFailure (helmrelease 55).
	defaultRetryInterval = 5 * time.Minute
	// sourceRetry is when a chart that cannot be fetched now is tried again (helmrelease 21, 22).
	sourceRetry = 30 * time.Second
	// maxSteps bounds a pass. No way through the decisions is half as long.
	maxSteps = 20
)

// Releaser reconciles HelmReleases.
type Releaser struct {
	Options
	// Client reads from the cache and writes HelmCharts.
	Client client.Client
	// Reader reads live: ConfigMaps and Secrets with values.
	Reader client.Reader
	// Sources resolves references to charts.
	Sources *sourceref.Resolver
	// Artifacts opens what sources advertise.
	Artifacts *artifact.Opener
	// Clusters are the API servers that releases are made on.
	Clusters *cluster.Set[*watcher]
	// Graph holds the edges by which events of other objects wake HelmReleases.
	Graph *depend.Graph
	// Clock may be replaced by a test.
	Clock clock.WithTicker

	// names remembers what charts are called, by the digest of their artifacts.
	names *chartNames
	// seen remembers which digests of releases this process has written, by object.
	seen *digests
}

// work is what one run has found out so far.
type work struct {
	obj     *helmv2.HelmRelease
	run     *loop.Run
	healthy *health.Evaluator
	source  *sourceref.Source
	values  map[string]any
	// chart is what the chart is called; its content is loaded when an action needs it.
	chart charts.Name
	want  desired

	cluster *cluster.Cluster[*watcher]
	client  *kube.Client
	// storage and namespace are those of the release at hand.
	storage, namespace string
	actions            *action.Actions
	// listing is what is known of the records of the release at hand.
	listing *action.Listing
	// record is the newest release in Helm's storage, as it was last read; nil: there is none, or it was not read.
	record *release.Release
	latest *sighting
	known  bool
	// unread: latest is what the history says, and a watch confirms.
	unread bool
	// untouched: so are the objects, which were as they should be when they were last compared.
	untouched bool
	// doubted: what was recollected is not to be relied on in this run.
	doubted bool
	// targetLost: the release to go back to is not in storage as it was.
	targetLost bool
	compared   *comparison
	drift      *drift.Result
	done       []act
	// conditions are those of the object with what this run has set.
	conditions map[string]metav1.Condition
	// failure is what went wrong last in this run.
	failure error
}

// Reconcile implements loop.Reconciler (helmrelease 6).
func (r *Releaser) Reconcile(ctx context.Context, obj *helmv2.HelmRelease, run *loop.Run) error {
	w := newWork(obj, run)
	r.Graph.Set(keyOf(obj), edges(obj))
	run.Progress("Fulfilling prerequisites")
	if err := r.check(w); err != nil {
		return err
	}
	if err := r.syncTemplate(ctx, obj, run); err != nil {
		return err
	}
	if err := r.dependencies(ctx, obj, run); err != nil {
		return err
	}
	if err := r.prepare(ctx, w); err != nil {
		return err
	}
	ctx, done, err := r.connect(ctx, w)
	if err != nil {
		return err
	}
	defer done()
	if err := r.leaveTarget(ctx, w); err != nil {
		return err
	}
	w.attempt(run.Reset())
	return r.release(ctx, w)
}

func newWork(obj *helmv2.HelmRelease, run *loop.Run) *work {
	w := &work{obj: obj, run: run, listing: &action.Listing{}, conditions: map[string]metav1.Condition{}}
	for _, c := range obj.Status.Conditions {
		w.conditions[c.Type] = c
	}
	return w
}

// check refuses a spec that no retry can help (helmrelease 5, 8).
func (r *Releaser) check(w *work) error {
	if (w.obj.Spec.Chart == nil) == (w.obj.Spec.ChartRef == nil) {
		return loop.Stall(meta.ReconciliationFailedReason, errors.New("either spec.chart or spec.chartRef must be set"))
	}
	var exprs []health.Expressions
	for _, e := range w.obj.Spec.HealthCheckExprs {
		exprs = append(exprs, health.Expressions{
			APIVersion: e.APIVersion, Kind: e.Kind, Current: e.Current, InProgress: e.InProgress, Failed: e.Failed,
		})
	}
	var err error
	if w.healthy, err = health.NewEvaluator(exprs); err != nil {
		return terminal(meta.InvalidCELExpressionReason, err)
	}
	return nil
}

// terminal words a configuration error as 2.9 does. Its event lacks the words in front (helmrelease 8).
func terminal(reason string, err error) error {
	return loop.Stall(reason, fmt.Errorf("Reconciliation failed terminally due to configuration error: %w", err)). //nolint:staticcheck // the text is API
															Saying(err.Error())
}

// prepare finds out what is to be released: the chart and the values (helmrelease 19-30).
func (r *Releaser) prepare(ctx context.Context, w *work) error {
	var err error
	if w.source, err = r.resolve(ctx, w.obj); err != nil {
		return err
	}
	if w.values, err = values.Compose(ctx, r.Reader, w.obj, r.ValuesLimits); err != nil {
		return loop.Fail(helmv2.ValuesErrorReason, err)
	}
	if w.chart, err = r.nameOf(ctx, w); err != nil {
		return err
	}
	w.want = desired{
		chartName: w.chart.Name, chartVersion: w.chart.Version,
		renderersSeen: w.obj.Status.ObservedPostRenderersDigest, metadataSeen: w.obj.Status.ObservedCommonMetadataDigest,
	}
	if w.want.config, err = values.Digest(r.DigestAlgorithm, w.values); err != nil {
		return loop.Fail(helmv2.ValuesErrorReason, err)
	}
	if len(w.obj.Spec.PostRenderers) > 0 {
		if w.want.renderers, err = digestOf(r.DigestAlgorithm, w.obj.Spec.PostRenderers); err != nil {
			return err
		}
	}
	if w.obj.Spec.CommonMetadata != nil {
		if w.want.metadata, err = digestOf(r.DigestAlgorithm, w.obj.Spec.CommonMetadata); err != nil {
			return err
		}
	}
	return nil
}

// nameOf returns what the chart is called, without opening it when it was opened before (helmrelease 22-25).
func (r *Releaser) nameOf(ctx context.Context, w *work) (charts.Name, error) {
	key := w.source.Kind + "/" + w.source.Artifact.Digest + "/" + w.source.Revision
	if name, ok := r.names.get(key); ok {
		return name, nil
	}
	c, err := r.load(ctx, w)
	if err != nil {
		return charts.Name{}, err
	}
	r.names.put(key, c.name)
	return c.name, nil
}

// loaded is a chart with its content, ready for an action.
type loaded struct {
	chart *chart.Chart
	name  charts.Name
}

// load reads the chart from its artifact.
func (r *Releaser) load(ctx context.Context, w *work) (*loaded, error) {
	ctx, cancel := context.WithTimeout(ctx, r.HTTPTimeout)
	defer cancel()
	c, err := charts.Load(ctx, r.Artifacts, w.source.Artifact, r.ChartLimits)
	switch {
	case err == nil:
	case errors.Is(err, artifact.ErrNotFound):
		return nil, loop.Wait(meta.ArtifactFailedReason, sourceRetry, err)
	default:
		return nil, loop.Fail(meta.ArtifactFailedReason, err)
	}
	name, err := charts.Mutate(c, w.source, r.TrackDigests)
	if err != nil {
		return nil, loop.Fail(helmv2.ChartMutateErrorReason, err).Quiet()
	}
	return &loaded{chart: c, name: name}, nil
}

// connect finds the cluster and the client, and sees to it that the history is one of this cluster (helmrelease 88, 90).
func (r *Releaser) connect(ctx context.Context, w *work) (context.Context, func(), error) {
	request := r.request(w.obj)
	c, err := r.Clusters.Reach(ctx, request, w.run.Park)
	if err == nil {
		w.cluster = c
		w.client, err = c.Clients.For(ctx, r.Clusters.Identity(request))
	}
	switch {
	case err == nil:
	case errors.Is(err, loop.ErrInterrupted):
		return ctx, nil, interrupted(err)
	case ctx.Err() != nil:
		return ctx, nil, err
	default:
		return ctx, nil, loop.Fail(helmv2.RESTClientErrorReason, unreachable(w.obj, err)).Quiet()
	}
	r.settle(w)
	ctx, done := c.Yielding(ctx, w.run.Park)
	return ctx, done, nil
}

// unreachable words the absence of a kubeconfig as 2.9 does.
func unreachable(obj *helmv2.HelmRelease, err error) error {
	if c := obj.Spec.KubeConfig; errors.Is(err, cluster.ErrNotFound) && c != nil && c.SecretRef != nil {
		return fmt.Errorf("could not get KubeConfig secret '%s/%s': secrets %q not found", obj.Namespace, c.SecretRef.Name, c.SecretRef.Name)
	}
	return err
}

// interrupted is the verdict on a wait that something newer has ended (helmrelease 79).
func interrupted(err error) error {
	return loop.Interrupted(meta.HealthCheckCanceledReason, err)
}

func (r *Releaser) request(obj *helmv2.HelmRelease) cluster.Request {
	return cluster.Request{
		Owner: owner(obj), KubeConfig: obj.Spec.KubeConfig, ServiceAccount: obj.Spec.ServiceAccountName, Timeout: obj.GetTimeout(),
	}
}

func owner(obj *helmv2.HelmRelease) kube.Owner {
	return kube.Owner{Namespace: obj.Namespace, Name: obj.Name}
}

// acting gives the work new actions, on the release at hand.
func (r *Releaser) acting(w *work) error {
	var err error
	w.actions, err = action.New(action.Options{
		Client: w.client, Managed: w.cluster.Watch.Managed, Shared: w.cluster.Watch.shared, Listing: w.listing, Owner: owner(w.obj), Evaluator: w.healthy,
		Park: action.Park(cluster.Parking(w.run.Park)), ReleaseNamespace: w.namespace, StorageNamespace: w.storage,
		AllowDNS: r.AllowDNS, Helm3Defaults: r.Helm3Defaults, KeepWaiting: r.DisableFailFast, Clock: r.Clock,
	})
	if err != nil {
		return loop.Fail(helmv2.FactoryErrorReason, err)
	}
	return nil
}

// leaveTarget uninstalls a release that the spec no longer means: another name, namespace, storage or chart (helmrelease 31).
func (r *Releaser) leaveTarget(ctx context.Context, w *work) error {
	status := &w.obj.Status
	if len(status.History) == 0 {
		return nil
	}
	current := status.History[0]
	if !w.moved(&current) {
		return nil
	}
	w.storage, w.namespace = status.StorageNamespace, current.Namespace
	if err := r.uninstall(ctx, w, &current); err != nil {
		return err
	}
	status.History, status.Inventory, status.StorageNamespace = nil, nil, ""
	status.Failures, status.InstallFailures, status.UpgradeFailures = 0, 0, 0
	return w.run.Persist(ctx)
}

// moved reports whether the spec means another release than the one that was last made.
func (w *work) moved(current *helmv2.Snapshot) bool {
	obj := w.obj
	renamed := obj.Status.StorageNamespace != obj.GetStorageNamespace() || current.Namespace != obj.GetReleaseNamespace() ||
		current.Name != obj.GetReleaseName()
	inPlace := obj.Spec.Upgrade != nil && obj.Spec.Upgrade.ChartNameChangeStrategy == helmv2.ChartNameChangeInPlaceUpdate
	return renamed || current.ChartName != w.chart.Name && !inPlace
}

// attempt records what is about to be tried, and forgets failures of anything else (helmrelease 35, 99, 100).
func (w *work) attempt(reset bool) {
	status := &w.obj.Status
	if reset || status.LastAttemptedGeneration != w.obj.Generation || status.LastAttemptedRevision != w.chart.Version ||
		status.LastAttemptedConfigDigest != w.want.config {
		status.Failures, status.InstallFailures, status.UpgradeFailures = 0, 0, 0
	}
	status.LastAttemptedGeneration = w.obj.Generation
	status.LastAttemptedRevision = w.chart.Version
	status.LastAttemptedRevisionDigest = w.chart.OCIDigest
	status.LastAttemptedConfigDigest = w.want.config
	status.LastReleaseRevision, status.LastAttemptedValuesChecksum = 0, ""
}

// release observes, decides and acts until nothing is left to do in this pass (helmrelease 38, 51).
func (r *Releaser) release(ctx context.Context, w *work) error {
	w.storage, w.namespace = w.obj.GetStorageNamespace(), w.obj.GetReleaseNamespace()
	if err := r.acting(w); err != nil {
		return err
	}
	for range maxSteps {
		next, err := r.next(ctx, w)
		if err != nil {
			return err
		}
		end, err := r.act(ctx, w, next)
		if err != nil || end {
			return err
		}
		w.done = append(w.done, next.act)
	}
	return loop.Fail(helmv2.ReconcileErrorReason, fmt.Errorf("the release does not come to rest: %v", w.done))
}

// next observes and decides. What is known already, or a watch shows, is enough to do nothing. Whatever is done rests on what storage holds
// now (helmrelease 38).
func (r *Releaser) next(ctx context.Context, w *work) (step, error) {
	if r.recollect(w) {
		switch next := decide(w.situation(r)); {
		case next.act == actNone, next.act == actCompare && (w.record != nil || w.untouched):
			r.remind(w)
			return next, nil
		}
	}
	if err := r.observe(ctx, w); err != nil {
		return step{}, err
	}
	// A storage that could never be read holds nothing of ours, and does not keep its object from going.
	w.obj.Status.StorageNamespace = w.storage
	r.remind(w)
	return decide(w.situation(r)), nil
}

func (w *work) situation(r *Releaser) *situation {
	return &situation{
		obj: w.obj, want: w.want, latest: w.latest, known: w.known, targetLost: w.targetLost, forced: w.run.Forced(), retries: r.RetryByDefault,
		compared: w.compared, done: w.done,
	}
}
