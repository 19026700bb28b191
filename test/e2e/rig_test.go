package e2e

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	notificationv1 "github.com/seed-79636ae9/flux/api/notification/v1"
	notificationv1beta3 "github.com/seed-79636ae9/flux/api/notification/v1beta3"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/internal/testkit/apiproxy"
	"github.com/seed-79636ae9/flux/internal/testkit/oracle"
)

// seed makes the random choices of a run: order of names, which object goes, which write is refused.
var seed = flag.Uint64("seed", 0, "repeat the run of this `number`; 0 takes a new one")

const (
	// concurrentRigs run at once. Each is a process that mostly waits for its own restart.
	concurrentRigs = "4"
	// patience bounds every wait: O1 gives a minute after the last fault.
	patience = time.Minute
	// shard is the label that divides objects among the processes of this package.
	shard = "e2e.test/rig"
)

func TestMain(m *testing.M) {
	flag.Parse()
	log.SetLogger(logr.Discard())
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		if err := flag.Set("test.parallel", concurrentRigs); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
	}
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	fmt.Printf("seed %d; repeat with -args -seed=%d\n", *seed, *seed)
	os.Exit(m.Run())
}

// rig is a flux process behind a proxy of its own, with a namespace and Git repositories to follow.
type rig struct {
	config    *rest.Config
	client    client.WithWatch
	proxy     *apiproxy.Proxy
	sut       *testkit.SUT
	git       *testkit.GitServer
	judge     *oracle.Judge
	witness   *oracle.Witness
	namespace string
	rand      *rand.Rand

	revisions map[string]map[string]bool // revision -> ids it renders to
	tokens    atomic.Int64
	scenes    int
	broken    bool // no scene can follow
}

// newRig starts a process with Kustomizations. Its life ends with the test.
func newRig(t *testing.T, flags ...string) *rig {
	t.Helper()
	return startRig(t, oracle.Kustomizations(), []string{"source-controller", "kustomize-controller"}, flags...)
}

// startRig starts a process of some components, one of which has the owners that are judged.
func startRig(t *testing.T, judged oracle.Kind, components []string, flags ...string) *rig {
	t.Helper()
	config := testkit.Cluster(t)
	testkit.InstallCRDs(t, config)
	dir := t.TempDir()
	r := &rig{
		config: config, namespace: testkit.Namespace(t, config), revisions: map[string]map[string]bool{},
		rand: rand.New(rand.NewPCG(*seed, 0)),
	}
	var err error
	check := func(what string) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, sourcev1.AddToScheme, kustomizev1.AddToScheme, helmv2.AddToScheme, notificationv1.AddToScheme,
		notificationv1beta3.AddToScheme,
	} {
		if err = add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	r.client, err = client.NewWithWatch(config, client.Options{Scheme: scheme})
	check("creating a client")
	r.judge, err = oracle.NewJudge(config, judged)
	check("creating the judge")
	r.witness = oracle.NewWitness(r.judge)
	requests, err := os.Create(filepath.Join(dir, "api.jsonl"))
	check("creating the log of the proxy")
	t.Cleanup(func() { requests.Close() })
	r.proxy, err = apiproxy.New(config, apiproxy.Options{Log: requests, Capture: r.witness.Capture, Witness: r.witness.See})
	check("starting the proxy")
	t.Cleanup(r.proxy.Close)
	kubeconfig := filepath.Join(dir, "kubeconfig")
	err = r.proxy.WriteKubeconfig(kubeconfig)
	check("writing the kubeconfig")
	r.git, err = testkit.NewGitServer(filepath.Join(dir, "git"), nil)
	check("starting the Git server")
	t.Cleanup(r.git.Close)
	r.sut, err = testkit.StartSUT(t.Context(), testkit.SUTOptions{
		Components: components,
		Kubeconfig: kubeconfig, Dir: filepath.Join(dir, "flux"),
		Flags: append([]string{
			"--watch-label-selector=" + shard + "=" + r.namespace, "--requeue-dependency=1s", "--interval-jitter-percentage=0",
		}, flags...),
	})
	check("starting flux")
	t.Cleanup(func() { r.bury(t) })
	return r
}

// bury ends the process and shows what it said when the test failed.
func (r *rig) bury(t *testing.T) {
	if err := r.sut.Stop(); err != nil {
		t.Error(err)
	}
	if t.Failed() {
		t.Logf("seed %d; the end of the log of flux:\n%s", *seed, r.sut.LogTail())
		t.Logf("the last requests:\n%s", lastRequests(r.proxy.Requests(max(0, r.proxy.Seq()-400))))
	}
}

// lastRequests shows the requests that matter to a human who looks for a cause.
func lastRequests(requests []apiproxy.Request) string {
	var b strings.Builder
	for i := range requests {
		q := &requests[i]
		if q.Resource == "" || q.Resource == "events" || q.Resource == "leases" || q.Verb == "watch" || q.Verb == "list" {
			continue
		}
		dry := ""
		if q.DryRun {
			dry = " (dry-run)"
		}
		fmt.Fprintf(&b, "%6d %s %3d %s%s %s\n", q.Seq, q.Time.Format("15:04:05.000"), q.Code, q.String(), dry, q.Fault)
	}
	return b.String()
}

// scene is one Kustomization with a repository of its own: what a script plays in.
type scene struct {
	*rig
	t      *testing.T
	name   string
	repo   *testkit.GitRepo
	dir    string // of its manifests in the repository, with a slash at the end; empty for the root
	owner  oracle.Owner
	since  int64 // sequence number of the proxy at its beginning
	latest string
	want   []*unstructured.Unstructured // what latest renders to
	next   []*unstructured.Unstructured // what a script is about to commit
	law    oracle.Law
}

// newScene makes an empty repository and names for what follows it.
func (r *rig) newScene(t *testing.T) *scene {
	t.Helper()
	r.scenes++
	s := &scene{rig: r, t: t, name: fmt.Sprintf("s%02d", r.scenes), since: r.proxy.Seq()}
	s.owner = oracle.Owner{Namespace: r.namespace, Name: s.name}
	s.law.Desired = func(_ oracle.Owner, revision string) (map[string]bool, bool) {
		ids, ok := r.revisions[revision]
		return ids, ok
	}
	var err error
	if s.repo, err = r.git.Repo(s.name); err != nil {
		t.Fatal(err)
	}
	return s
}

// commit replaces the content of the repository by the objects, one file each, and returns the revision.
func (s *scene) commit(objects ...*unstructured.Unstructured) string {
	s.t.Helper()
	files := map[string]*testkit.GitFile{}
	for _, o := range s.want {
		files[s.dir+fileOf(o)] = nil
	}
	for _, o := range objects {
		files[s.dir+fileOf(o)] = &testkit.GitFile{Content: string(encode(s.t, o))}
	}
	s.latest = s.push(files)
	s.want = objects
	s.revisions[s.latest] = oracle.IDs(objects)
	return s.latest
}

func fileOf(o *unstructured.Unstructured) string {
	return strings.ToLower(o.GetKind()) + "-" + o.GetNamespace() + "-" + o.GetName() + ".yaml"
}

// push commits files as they are and returns the revision.
func (s *scene) push(files map[string]*testkit.GitFile) string {
	s.t.Helper()
	hash, err := s.repo.Commit(testkit.GitCommit{Branch: "main", Message: "change", Files: files})
	if err != nil {
		s.t.Fatal(err)
	}
	return "main@sha1:" + hash
}

// source creates the GitRepository.
func (s *scene) source() {
	s.t.Helper()
	s.create(&sourcev1.GitRepository{
		ObjectMeta: s.meta(),
		Spec: sourcev1.GitRepositorySpec{
			URL: s.git.URL + "/" + s.name + ".git", Interval: "1h", Timeout: "20s",
			Ref: &sourcev1.GitRepositoryRef{Branch: "main"},
		},
	})
}

// kustomization creates the Kustomization; change may be nil.
func (s *scene) kustomization(change func(*kustomizev1.Kustomization)) {
	s.t.Helper()
	k := &kustomizev1.Kustomization{
		ObjectMeta: s.meta(),
		Spec: kustomizev1.KustomizationSpec{
			SourceRef: kustomizev1.SourceReference{Kind: sourcev1.GitRepositoryKind, Name: s.name},
			Interval:  "1h", RetryInterval: "1s", Timeout: "30s", Prune: true,
		},
	}
	if change != nil {
		change(k)
	}
	s.create(k)
}

func (s *scene) meta() metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: s.namespace, Name: s.name, Labels: map[string]string{shard: s.namespace}}
}

func (s *scene) create(o client.Object) {
	s.t.Helper()
	if err := s.client.Create(s.t.Context(), o); err != nil {
		s.t.Fatalf("creating %T %s: %v", o, o.GetName(), err)
	}
}

// patch changes an object as a user does, by a merge patch.
func (s *scene) patch(o client.Object, body string) {
	s.t.Helper()
	if err := s.client.Patch(s.t.Context(), o, client.RawPatch("application/merge-patch+json", []byte(body))); err != nil {
		s.t.Fatalf("patching %T %s: %v", o, o.GetName(), err)
	}
}

func (s *scene) gitRepository() *sourcev1.GitRepository {
	return &sourcev1.GitRepository{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: s.name}}
}

func (s *scene) ks() *kustomizev1.Kustomization {
	return &kustomizev1.Kustomization{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: s.name}}
}

// request asks for a reconciliation, as `flux reconcile` does, and returns the token.
func (s *scene) request(o client.Object) string {
	s.t.Helper()
	token := fmt.Sprintf("%s-%d", s.name, s.tokens.Add(1))
	s.patch(o, fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, meta.ReconcileRequestAnnotation, token))
	return token
}

// suspend sets spec.suspend.
func (s *scene) suspend(o client.Object, yes bool) {
	s.t.Helper()
	s.patch(o, fmt.Sprintf(`{"spec":{"suspend":%v}}`, yes))
}

// await waits until an object is as wanted; want says why it is not yet, or "". A nil object means
// that it does not exist.
func await[O client.Object](s *scene, list client.ObjectList, key O, want func(O) string) {
	s.t.Helper()
	if err := awaitErr(s.t.Context(), s, list, key, want); err != nil {
		s.t.Fatal(err)
	}
}

func awaitErr[O client.Object](ctx context.Context, s *scene, list client.ObjectList, key O, want func(O) string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	last := "nothing was seen of it"
	for ctx.Err() == nil {
		done, err := awaitOnce(ctx, s, list, key, want, &last)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if done {
			return nil
		}
	}
	return fmt.Errorf("%T %s/%s after %s: %s", key, key.GetNamespace(), key.GetName(), patience, last)
}

func awaitOnce[O client.Object](ctx context.Context, s *scene, list client.ObjectList, key O, want func(O) string, last *string) (bool, error) {
	var none O
	w, err := s.client.Watch(ctx, list, &client.ListOptions{
		Namespace: key.GetNamespace(), FieldSelector: fields.OneTermEqualSelector("metadata.name", key.GetName()),
	})
	if err != nil {
		return false, fmt.Errorf("watching %s: %w", key.GetName(), err)
	}
	defer w.Stop()
	// The watch tells nothing about an object that does not exist, hence the look after its start.
	look := key.DeepCopyObject().(O)
	switch err := s.client.Get(ctx, client.ObjectKeyFromObject(key), look); {
	case err == nil:
		*last = want(look)
	case client.IgnoreNotFound(err) == nil:
		*last = want(none)
	default:
		return false, fmt.Errorf("reading %s: %w", key.GetName(), err)
	}
	if *last == "" {
		return true, nil
	}
	for ev := range w.ResultChan() {
		o, ok := ev.Object.(O)
		switch {
		case !ok:
			return false, nil // an error event: start over
		case ev.Type == "DELETED":
			o = none
		}
		if *last = want(o); *last == "" {
			return true, nil
		}
	}
	return false, nil
}

// awaitArtifact waits until the GitRepository offers the revision and is at rest.
func (s *scene) awaitArtifact(revision string) {
	s.t.Helper()
	if err := s.artifact(s.t.Context(), revision); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) artifact(ctx context.Context, revision string) error {
	return awaitErr(ctx, s, &sourcev1.GitRepositoryList{}, s.gitRepository(), func(o *sourcev1.GitRepository) string {
		switch {
		case o == nil:
			return "it does not exist"
		case o.Status.Artifact == nil || o.Status.Artifact.Revision != revision:
			return fmt.Sprintf("it has not revision %s: %s", revision, conditions(o.Status.Conditions))
		}
		return unready(o, o.Status.Conditions, o.Status.ObservedGeneration, o.Status.LastHandledReconcileAt)
	})
}

// advertised returns the revision that the source says it has.
func (s *scene) advertised() string {
	s.t.Helper()
	o := s.gitRepository()
	if err := s.client.Get(s.t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
		s.t.Fatal(err)
	}
	return o.Status.Artifact.Revision
}

// awaitApplied waits until the Kustomization is Ready at the revision.
func (s *scene) awaitApplied(revision string) {
	s.t.Helper()
	if err := s.applied(s.t.Context(), revision); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) applied(ctx context.Context, revision string) error {
	return s.appliedBy(ctx, s.ks(), revision)
}

// appliedBy is applied for another Kustomization of the scene.
func (s *scene) appliedBy(ctx context.Context, k *kustomizev1.Kustomization, revision string) error {
	return awaitErr(ctx, s, &kustomizev1.KustomizationList{}, k, func(o *kustomizev1.Kustomization) string {
		switch {
		case o == nil:
			return "it does not exist"
		case o.Status.LastAppliedRevision != revision:
			return fmt.Sprintf("it has not applied %s: %s", revision, conditions(o.Status.Conditions))
		}
		return unready(o, o.Status.Conditions, o.Status.ObservedGeneration, o.Status.LastHandledReconcileAt)
	})
}

// awaitKustomization waits for any state of the Kustomization; nil: gone.
func (s *scene) awaitKustomization(want func(*kustomizev1.Kustomization) string) {
	s.t.Helper()
	await(s, &kustomizev1.KustomizationList{}, s.ks(), want)
}

// unready says what keeps an object from rest: Ready, this generation, every request handled.
func unready(o client.Object, list []metav1.Condition, observed int64, handled string) string {
	ready := find(list, meta.ReadyCondition)
	switch token := o.GetAnnotations()[meta.ReconcileRequestAnnotation]; {
	case ready == nil || ready.Status != metav1.ConditionTrue, observed != o.GetGeneration():
		return fmt.Sprintf("it is not ready at generation %d: %s", o.GetGeneration(), conditions(list))
	case token != handled:
		return fmt.Sprintf("it has handled request %q, not %q", handled, token)
	}
	return ""
}

func find(list []metav1.Condition, conditionType string) *metav1.Condition {
	for i := range list {
		if list[i].Type == conditionType {
			return &list[i]
		}
	}
	return nil
}

func conditions(list []metav1.Condition) string {
	var out []string
	for _, c := range list {
		out = append(out, fmt.Sprintf("%s=%s %s %q", c.Type, c.Status, c.Reason, c.Message))
	}
	return "[" + strings.Join(out, "; ") + "]"
}

// verify holds the scene to all oracles: converged at the latest commit, at rest, no orphan, no collateral delete.
func (s *scene) verify() {
	s.t.Helper()
	ctx := s.t.Context()
	if err := s.judge.Converged(ctx, s.owner, s.latest, s.want); err != nil {
		s.t.Error(err)
	}
	s.orphans()
	seq := s.proxy.Seq()
	for range 2 {
		s.request(s.ks())
		if err := s.applied(ctx, s.latest); err != nil {
			s.t.Errorf("O1: a requested run at rest: %v", err)
			break
		}
	}
	for _, q := range s.proxy.Requests(seq) {
		if s.judge.Managed(&q) {
			s.t.Errorf("O1: at rest there was %s (request %d)", q.String(), q.Seq)
		}
	}
	s.collateral()
}

// orphans is O3 on the kinds that the process ever wrote.
func (s *scene) orphans() {
	s.t.Helper()
	orphans, err := s.judge.Orphans(s.t.Context(), s.owner, s.judge.Touched(s.proxy.Requests(0)))
	if err != nil {
		s.t.Error(err)
	}
	for _, id := range orphans {
		s.t.Errorf("O3: %s carries the labels of %s, whose inventory does not know it", id, s.owner)
	}
}

// collateral is O2 on all deletes since the scene began.
func (s *scene) collateral() {
	s.t.Helper()
	for _, wrong := range s.witness.Collateral(s.law, s.proxy.Requests(0), s.since) {
		s.t.Error(wrong)
	}
}

// clear ends the scene: Kustomization and source are deleted, and nothing may be left.
func (s *scene) clear() {
	s.t.Helper()
	s.proxy.Clear()
	for _, o := range []client.Object{s.ks(), s.gitRepository()} {
		if err := s.client.Delete(s.t.Context(), o); client.IgnoreNotFound(err) != nil {
			s.t.Fatalf("deleting %T: %v", o, err)
		}
	}
	s.awaitKustomization(goneKustomization)
	await(s, &sourcev1.GitRepositoryList{}, s.gitRepository(), func(o *sourcev1.GitRepository) string {
		if o != nil {
			return "it still exists"
		}
		return ""
	})
	s.orphans()
	s.collateral()
}

// abandon ends a scene that failed, whatever state it is in, so that others can follow.
func (s *scene) abandon() {
	s.proxy.Clear()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.t.Context()), patience)
	defer cancel()
	select {
	case <-s.sut.Ended():
		if err := s.sut.Start(ctx); err != nil {
			s.t.Error(err)
			s.broken = true
			return
		}
	default:
	}
	for _, o := range []client.Object{s.ks(), s.gitRepository()} {
		err := s.client.Delete(ctx, o)
		if err == nil {
			err = s.client.Patch(ctx, o, client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`)))
		}
		if client.IgnoreNotFound(err) != nil {
			s.t.Error(err)
			s.broken = true
			return
		}
	}
}

// lives tells whether the script left a Kustomization.
func (s *scene) lives() bool {
	s.t.Helper()
	err := s.client.Get(s.t.Context(), client.ObjectKeyFromObject(s.ks()), s.ks())
	if client.IgnoreNotFound(err) != nil {
		s.t.Fatal(err)
	}
	return err == nil
}

func goneKustomization(o *kustomizev1.Kustomization) string {
	if o != nil {
		return fmt.Sprintf("it still exists, finalizers %v: %s", o.Finalizers, conditions(o.Status.Conditions))
	}
	return ""
}

// restart kills the process at once and starts it again; meanwhile may be nil.
func (s *scene) restart(meanwhile func()) {
	s.t.Helper()
	if err := s.sut.Kill(); err != nil {
		s.t.Fatal(err)
	}
	if meanwhile != nil {
		meanwhile()
	}
	if err := s.sut.Start(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

// object makes an unstructured object.
func object(apiVersion, kind, namespace, name string, rest map[string]any) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": apiVersion, "kind": kind}}
	for k, v := range rest {
		o.Object[k] = v
	}
	o.SetName(name)
	if namespace != "" {
		o.SetNamespace(namespace)
	}
	return o
}

// configMap makes a ConfigMap of the scene; its name tells scenes apart.
func (s *scene) configMap(name, value string) *unstructured.Unstructured {
	return object("v1", "ConfigMap", s.namespace, s.name+"-"+name, map[string]any{"data": map[string]any{"value": value}})
}

// configMaps makes one ConfigMap per name, in an order that the seed decides: the order in which
// objects are written must not matter.
func (s *scene) configMaps(names ...string) map[string]*unstructured.Unstructured {
	out := map[string]*unstructured.Unstructured{}
	prefix := s.rand.Perm(len(names))
	for i, name := range names {
		out[name] = s.configMap(fmt.Sprintf("%02d%s", prefix[i], name), name)
	}
	return out
}

// pick takes the named ones.
func pick(all map[string]*unstructured.Unstructured, names string) []*unstructured.Unstructured {
	var out []*unstructured.Unstructured
	for _, name := range strings.Fields(names) {
		out = append(out, all[name])
	}
	return out
}
