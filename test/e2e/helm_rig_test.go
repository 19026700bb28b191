package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/internal/testkit/charts"
	"github.com/seed-79636ae9/flux/internal/testkit/oracle"
	"github.com/seed-79636ae9/flux/internal/testkit/releases"
)

// recordPrefix begins the names of Helm's records.
const recordPrefix = "sh.helm.release.v1."

// helmRig is a process with helm-controller, and charts that are ready before a release is made of them: what it writes then, it writes for
// the release.
type helmRig struct {
	*rig
	files *testkit.Files
	all   []charts.Chart
	// home is the first namespace, whose name labels what the process sees.
	home string
}

func newHelmRig(t *testing.T, flags ...string) *helmRig {
	t.Helper()
	r := &helmRig{
		rig: startRig(t, oracle.HelmReleases(), []string{"source-controller", "helm-controller"}, append([]string{
			"--min-retry-delay=200ms", "--max-retry-delay=2s",
		}, flags...)...),
		files: testkit.NewFiles(),
	}
	t.Cleanup(r.files.Close)
	r.home = r.namespace
	return r
}

// offer makes a HelmChart of the chart, and waits until it can be used.
func (r *helmRig) offer(t *testing.T, c charts.Chart) {
	t.Helper()
	s := &scene{rig: r.rig, t: t}
	r.all = append(r.all, c)
	if err := charts.Serve(r.files, "charts", r.all...); err != nil {
		t.Fatal(err)
	}
	labels := map[string]string{shard: r.home}
	repository := &sourcev1.HelmRepository{
		ObjectMeta: metav1.ObjectMeta{Namespace: r.namespace, Name: chartName(c), Labels: labels},
		Spec:       sourcev1.HelmRepositorySpec{URL: r.files.URL + "/charts", Interval: "1h"},
	}
	s.create(repository)
	s.create(&sourcev1.HelmChart{
		ObjectMeta: metav1.ObjectMeta{Namespace: r.namespace, Name: chartName(c), Labels: labels},
		Spec: sourcev1.HelmChartSpec{
			Chart: c.Name, Version: c.Version, Interval: "1h",
			SourceRef: sourcev1.HelmChartSourceReference{Kind: sourcev1.HelmRepositoryKind, Name: repository.Name},
		},
	})
	key := &sourcev1.HelmChart{ObjectMeta: metav1.ObjectMeta{Namespace: r.namespace, Name: chartName(c)}}
	await(s, &sourcev1.HelmChartList{}, key, func(o *sourcev1.HelmChart) string {
		if o == nil {
			return "it does not exist"
		}
		return unready(o, o.Status.Conditions, o.Status.ObservedGeneration, o.Status.LastHandledReconcileAt)
	})
}

// chartName is the name of the objects by which a chart is offered.
func chartName(c charts.Chart) string { return c.Name + "-" + strings.ReplaceAll(c.Version, ".", "-") }

// act is one HelmRelease: what a story plays with.
type act struct {
	*scene
	rig  *helmRig
	helm *releases.Helm
	// release is the name of the release, which differs from that of the HelmRelease where a story says so.
	release string
	// target is the namespace of the release.
	target string
	// mayGo: what is desired in the end may be deleted before.
	mayGo bool
	// crds are desired beside want, and stay when the release goes.
	crds []*unstructured.Unstructured
}

// newAct makes names for a HelmRelease, and a Helm that looks into its storage.
func (r *helmRig) newAct(t *testing.T) *act {
	t.Helper()
	r.scenes++
	s := &scene{rig: r.rig, t: t, name: fmt.Sprintf("s%02d", r.scenes), since: r.proxy.Seq()}
	s.owner = oracle.Owner{Namespace: r.namespace, Name: s.name}
	return &act{scene: s, rig: r, helm: must[*releases.Helm](t)(releases.New(testkit.Kubeconfig(t), r.namespace)), release: s.name, target: r.namespace}
}

// plain is a chart of ConfigMaps, and of a Service that no API server takes if the values want it.
func plain() charts.Chart {
	return charts.Chart{Name: "plain", Version: "1.0.0", Files: map[string]string{
		"Chart.yaml":  "apiVersion: v2\nname: plain\nversion: 1.0.0\n",
		"values.yaml": "names: []\nkept: []\nvalue: one\nservice: \"\"\nprefix: \"\"\nnamespace: \"\"\n",
		"templates/maps.yaml": `{{- range concat .Values.names .Values.kept }}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ default $.Release.Name $.Values.prefix }}-{{ . }}
  {{- with $.Values.namespace }}
  namespace: {{ . }}
  {{- end }}
  {{- if has . $.Values.kept }}
  annotations:
    helm.sh/resource-policy: keep
  {{- end }}
data:
  value: {{ $.Values.value | quote }}
{{- end }}
`,
		"templates/service.yaml": `{{- if .Values.service }}
apiVersion: v1
kind: Service
metadata:
  name: {{ .Release.Name }}
spec:
  type: {{ .Values.service }}
  externalName: example.com
{{- end }}
`,
	}}
}

// plainValues are values of the chart plain.
type plainValues struct {
	Names []string `json:"names"`
	// Kept have the annotation that keeps them.
	Kept  []string `json:"kept,omitempty"`
	Value string   `json:"value"`
	// Service is its type: "ExternalName" can be, "Impossible" can not.
	Service string `json:"service,omitempty"`
	// Prefix of the names; empty: the name of the release.
	Prefix string `json:"prefix,omitempty"`
	// Namespace stands in the templates.
	Namespace string `json:"namespace,omitempty"`
}

// renders returns what the values make of the chart plain.
func (a *act) renders(v plainValues) []*unstructured.Unstructured {
	namespace, prefix := a.target, a.release
	if v.Namespace != "" {
		namespace = v.Namespace
	}
	if v.Prefix != "" {
		prefix = v.Prefix
	}
	var out []*unstructured.Unstructured
	for _, name := range slices.Concat(v.Names, v.Kept) {
		out = append(out, object("v1", "ConfigMap", namespace, prefix+"-"+name, map[string]any{"data": map[string]any{"value": v.Value}}))
	}
	if v.Service != "" {
		out = append(out, object("v1", "Service", namespace, a.release, map[string]any{"spec": map[string]any{"type": v.Service}}))
	}
	return out
}

// hr is the HelmRelease of the act.
func (a *act) hr() *helmv2.HelmRelease {
	return &helmv2.HelmRelease{ObjectMeta: metav1.ObjectMeta{Namespace: a.namespace, Name: a.name}}
}

// make creates the HelmRelease of a chart; change may be nil.
func (a *act) make(c charts.Chart, values any, change func(*helmv2.HelmReleaseSpec)) {
	a.t.Helper()
	hr := &helmv2.HelmRelease{ObjectMeta: a.meta(), Spec: helmv2.HelmReleaseSpec{
		ChartRef: &helmv2.ChartReference{Kind: sourcev1.HelmChartKind, Name: chartName(c)},
		Interval: "1h", Timeout: "30s", Values: encodeValues(a.t, values),
	}}
	hr.Labels[shard] = a.rig.home
	if change != nil {
		change(&hr.Spec)
	}
	a.create(hr)
}

// makePlain creates the HelmRelease of the chart plain and expects what it renders to.
func (a *act) makePlain(v plainValues, change func(*helmv2.HelmReleaseSpec)) {
	a.t.Helper()
	a.make(plain(), v, change)
	a.want = a.renders(v)
}

// setValues changes the values and nothing else.
func (a *act) setValues(v any) {
	a.t.Helper()
	a.patch(a.hr(), string(marshal(a.t, map[string]any{"spec": map[string]any{"values": v}})))
}

func encodeValues(t *testing.T, values any) *apiextensionsv1.JSON {
	t.Helper()
	if values == nil {
		return nil
	}
	return &apiextensionsv1.JSON{Raw: marshal(t, values)}
}

// awaitHR waits for any state of the HelmRelease; nil: gone.
func (a *act) awaitHR(want func(*helmv2.HelmRelease) string) {
	a.t.Helper()
	if err := a.until(a.t.Context(), want); err != nil {
		a.t.Fatal(err)
	}
}

func (a *act) until(ctx context.Context, want func(*helmv2.HelmRelease) string) error {
	return awaitErr(ctx, a.scene, &helmv2.HelmReleaseList{}, a.hr(), want)
}

// deployed waits until the HelmRelease is ready.
func (a *act) deployed(ctx context.Context) error { return a.until(ctx, readyHR) }

func readyHR(o *helmv2.HelmRelease) string {
	if o == nil {
		return "it does not exist"
	}
	return unready(o, o.Status.Conditions, o.Status.ObservedGeneration, o.Status.LastHandledReconcileAt)
}

// stalled waits until no more attempt is made of this generation.
func (a *act) stalled(ctx context.Context) error { return a.until(ctx, stalledHR) }

func stalledHR(o *helmv2.HelmRelease) string {
	if o == nil {
		return "it does not exist"
	}
	stalled, token := find(o.Status.Conditions, meta.StalledCondition), o.Annotations[meta.ReconcileRequestAnnotation]
	switch {
	case stalled == nil || stalled.Status != metav1.ConditionTrue || o.Status.ObservedGeneration != o.Generation:
		return fmt.Sprintf("it is not stalled at generation %d: %s", o.Generation, conditions(o.Status.Conditions))
	case token != o.Status.LastHandledReconcileAt:
		return fmt.Sprintf("it has handled request %q, not %q", o.Status.LastHandledReconcileAt, token)
	}
	return ""
}

func (a *act) goneHR(ctx context.Context) error {
	return a.until(ctx, func(o *helmv2.HelmRelease) string {
		if o != nil {
			return fmt.Sprintf("it still exists, finalizers %v: %s", o.Finalizers, conditions(o.Status.Conditions))
		}
		return ""
	})
}

// awaitDeployed waits until the HelmRelease is ready.
func (a *act) awaitDeployed() {
	a.t.Helper()
	a.awaitHR(readyHR)
}

// awaitUnready waits until Ready is False for the reason and says the part.
func (a *act) awaitUnready(reason, part string) {
	a.t.Helper()
	a.awaitHR(func(o *helmv2.HelmRelease) string {
		if o == nil {
			return "it is gone"
		}
		c := find(o.Status.Conditions, meta.ReadyCondition)
		if c == nil || c.Status != metav1.ConditionFalse || c.Reason != reason || !strings.Contains(c.Message, part) {
			return fmt.Sprintf("it has not failed with %s and %q: %s", reason, part, conditions(o.Status.Conditions))
		}
		return ""
	})
}

func (a *act) live() *helmv2.HelmRelease {
	a.t.Helper()
	hr := a.hr()
	if err := a.client.Get(a.t.Context(), client.ObjectKeyFromObject(hr), hr); err != nil {
		a.t.Fatal(err)
	}
	return hr
}

func (a *act) deleteHR() {
	a.t.Helper()
	if err := a.client.Delete(a.t.Context(), a.hr()); err != nil {
		a.t.Fatal(err)
	}
}

// history are Helm's records of the release, the newest first.
func (a *act) history() []releases.Release {
	a.t.Helper()
	return must[[]releases.Release](a.t)(a.helm.History(a.release))
}

// versions of the release and what became of them, the newest first: "3 deployed, 2 failed".
func (a *act) versions() string {
	a.t.Helper()
	var out []string
	for _, r := range a.history() {
		out = append(out, fmt.Sprintf("%d %s", r.Version, r.Status))
	}
	return strings.Join(out, ", ")
}

// verifyRelease holds the act to all oracles: one version is deployed, the newest, with all that it renders and no more; storage and
// history agree; at rest nothing is written; nothing was deleted that should not have been. At most so many versions may exist.
func (a *act) verifyRelease(versions int, rest func(context.Context) error) {
	a.t.Helper()
	a.records(versions)
	for _, o := range slices.Concat(a.want, a.crds) {
		if err := a.judge.AsRendered(a.t.Context(), a.owner, o); err != nil {
			a.t.Errorf("O1: %v", err)
		}
	}
	a.held(slices.Concat(a.want, a.crds)...)
	a.strays()
	seq := a.proxy.Seq()
	for range 2 {
		a.request(a.hr())
		if err := rest(a.t.Context()); err != nil {
			a.t.Errorf("O1: a requested run at rest: %v", err)
			break
		}
	}
	a.untouched(seq)
	a.justDeletes()
}

// records: what Helm's storage says is sound, and the status says the same.
func (a *act) records(most int) {
	a.t.Helper()
	all := a.history()
	if len(all) == 0 {
		a.t.Fatalf("there is no record of release %s", a.release)
	}
	deployed := 0
	for _, r := range all {
		switch {
		case strings.HasPrefix(r.Status, "pending") || r.Status == "uninstalling":
			a.t.Errorf("version %d is %s", r.Version, r.Status)
		case r.Status == "deployed":
			deployed++
		}
	}
	if deployed != 1 || all[0].Status != "deployed" || all[0].Version > most {
		a.t.Errorf("the versions are %s; want one deployed, the newest, and at most %d", a.versions(), most)
	}
	hr := a.live()
	if len(hr.Status.History) == 0 || hr.Status.History[0].Version != all[0].Version {
		a.t.Fatalf("the history is %s, and Helm's is %s", snapshots(hr), a.versions())
	}
	for _, h := range hr.Status.History {
		at := slices.IndexFunc(all, func(r releases.Release) bool { return r.Version == h.Version })
		if at < 0 || all[at].Status != h.Status || h.Name != a.release {
			a.t.Errorf("the history is %s, and Helm's is %s", snapshots(hr), a.versions())
		}
	}
	want, have := oracle.IDs(a.want), oracle.IDs(a.manifest(all[0].Manifest))
	for id := range want {
		if !have[id] {
			a.t.Errorf("the record of version %d lacks %s", all[0].Version, id)
		}
	}
	for id := range have {
		if !want[id] {
			a.t.Errorf("the record of version %d has %s", all[0].Version, id)
		}
	}
}

func snapshots(hr *helmv2.HelmRelease) string {
	var out []string
	for _, h := range hr.Status.History {
		out = append(out, fmt.Sprintf("%d %s", h.Version, h.Status))
	}
	return strings.Join(out, ", ")
}

// manifest returns the objects of a manifest.
func (a *act) manifest(text string) []*unstructured.Unstructured {
	a.t.Helper()
	var out []*unstructured.Unstructured
	for document := range strings.SplitSeq(text, "\n---\n") {
		document = strings.TrimPrefix(document, "---\n")
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(document), &o.Object); err != nil {
			a.t.Fatalf("%v in %s", err, document)
		}
		if len(o.Object) == 0 {
			continue
		}
		if o.GetNamespace() == "" {
			o.SetNamespace(a.target)
		}
		out = append(out, o)
	}
	return out
}

// untouched fails for each write to a managed object or a record since a request.
func (a *act) untouched(seq int64) {
	a.t.Helper()
	for _, q := range a.proxy.Requests(seq) {
		if a.judge.Managed(&q) {
			a.t.Errorf("O1: at rest there was %s (request %d)", q.String(), q.Seq)
		}
	}
}

// justDeletes is O2: what was deleted is a record of the release, or carries the labels of its owner and is not desired.
func (a *act) justDeletes() {
	a.t.Helper()
	want := oracle.IDs(a.want)
	for _, d := range a.witness.Deletes() {
		if d.Request.Seq <= a.since || a.record(&d) {
			continue
		}
		switch {
		case d.Err != nil:
			a.t.Errorf("O2: the witness saw nothing of %s: %v", d.Request.String(), d.Err)
		case d.Owner != a.owner:
			a.t.Errorf("O2: request %d, %s: the object has the labels of %q", d.Request.Seq, d.Request.String(), d.Owner)
		case want[d.ID] && !d.OwnerGone && !a.mayGo:
			a.t.Errorf("O2: request %d, %s: the object is desired", d.Request.Seq, d.Request.String())
		}
	}
	for _, q := range a.proxy.Requests(a.since) {
		if q.Verb == "deletecollection" {
			a.t.Errorf("O2: request %d, %s: a whole collection", q.Seq, q.String())
		}
	}
}

func (a *act) record(d *oracle.Delete) bool {
	return d.Request.Resource == "secrets" && strings.HasPrefix(d.Request.Name, recordPrefix)
}

// vanished: nothing is left of a release that was uninstalled.
func (a *act) vanished() {
	a.t.Helper()
	for _, o := range a.want {
		if _, err := a.judge.Live(a.t.Context(), o); !apierrors.IsNotFound(err) {
			a.t.Errorf("%s %s is still there (%v)", o.GetKind(), o.GetName(), err)
		}
	}
	if left := a.versions(); left != "" {
		a.t.Errorf("Helm's storage still has %s of release %s", left, a.release)
	}
	a.strays()
	a.justDeletes()
}

// strays is O3: what carries the labels of the HelmRelease is in its inventory, or is a definition, which outlives the release.
func (a *act) strays() {
	a.t.Helper()
	strays, err := a.judge.Orphans(a.t.Context(), a.owner, a.judge.Touched(a.proxy.Requests(0)))
	if err != nil {
		a.t.Error(err)
	}
	stay := oracle.IDs(a.crds)
	for _, id := range strays {
		if !stay[id] {
			a.t.Errorf("O3: %s carries the labels of %s, whose inventory does not know it", id, a.owner)
		}
	}
}

// end deletes the HelmRelease, and nothing of it may be left.
func (a *act) end() {
	a.t.Helper()
	a.proxy.Clear()
	if err := a.client.Delete(a.t.Context(), a.hr()); client.IgnoreNotFound(err) != nil {
		a.t.Fatal(err)
	}
	if err := a.goneHR(a.t.Context()); err != nil {
		a.t.Fatal(err)
	}
	a.mayGo = true
	a.vanished()
}

// leaveFailed ends the act of a failed test, whatever state it is in, so that others can follow.
func (a *act) leaveFailed() {
	if !a.t.Failed() {
		return
	}
	a.proxy.Clear()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(a.t.Context()), patience)
	defer cancel()
	select {
	case <-a.sut.Ended():
		if err := a.sut.Start(ctx); err != nil {
			a.t.Error(err)
			a.scene.rig.broken = true
			return
		}
	default:
	}
	hr := a.hr()
	if err := a.client.Get(ctx, client.ObjectKeyFromObject(hr), hr); err == nil {
		said, err := json.Marshal(hr.Status)
		a.t.Logf("the status was %s (%v); Helm's storage has %s", said, err, a.versions())
	}
	err := a.client.Delete(ctx, a.hr())
	if err == nil {
		err = a.client.Patch(ctx, a.hr(), client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`)))
	}
	if client.IgnoreNotFound(err) != nil {
		a.t.Error(err)
		a.scene.rig.broken = true
	}
}
