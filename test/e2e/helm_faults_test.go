package e2e

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/internal/testkit/apiproxy"
	"github.com/seed-79636ae9/flux/internal/testkit/charts"
)

// stopWithin bounds how long a process may take to end when it is asked to.
const stopWithin = 10 * time.Second

// TestHelmStop is reliability 087 (helmrelease 64, 98): a process that is asked to end while a release waits, or is being applied, leaves
// nothing pending, gives its lease back, and the next one goes on.
func TestHelmStop(t *testing.T) {
	t.Parallel()
	leases := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "flux-system"}}
	if err := must[client.Client](t)(client.New(testkit.Cluster(t), client.Options{})).Create(t.Context(), leases); !apierrors.IsAlreadyExists(err) && err != nil {
		t.Fatal(err)
	}
	r := newHelmRig(t, "--enable-leader-election", "--leader-election-release-on-cancel")
	r.offer(t, plain())
	r.offer(t, charts.Webapp(charts.First))
	t.Run("in a wait", func(t *testing.T) { stoppedWaiting(r.newAct(t)) })
	t.Run("in an apply", func(t *testing.T) { stoppedApplying(r.newAct(t)) })
}

// bareWebapp are values of Webapp without what is not under test.
func bareWebapp(more map[string]any) map[string]any {
	values := map[string]any{
		"hooks": map[string]any{"enabled": false}, "tests": map[string]any{"enabled": false}, "ingress": map[string]any{"enabled": false}, "replicaCount": 1,
	}
	for k, v := range more {
		values[k] = v
	}
	return values
}

func stoppedWaiting(a *act) {
	defer a.leaveFailed()
	// It is the same for all releases of the chart, and stays.
	a.crds = append(a.crds, object("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", "gauges.webapp.example.com", nil))
	image := func(name string) map[string]any {
		return bareWebapp(map[string]any{"image": map[string]any{"repository": "example.com/" + name}})
	}
	a.make(charts.Webapp(charts.First), image("never"), func(spec *helmv2.HelmReleaseSpec) { spec.Timeout = "30m" })
	deployment := object("apps/v1", "Deployment", a.namespace, a.name+"-webapp", nil)
	awaitObject(a.scene, deployment)
	a.stopped()
	if got := a.versions(); got != "1 failed" {
		a.t.Errorf("the stopped process has left %q in Helm's storage, want \"1 failed\"", got)
	}
	if err := a.sut.Start(a.t.Context()); err != nil {
		a.t.Fatal(err)
	}
	a.setValues(image("webapp"))
	a.awaitDeployed()
	for _, r := range a.history() {
		if r.Status != "deployed" && r.Status != "failed" {
			a.t.Errorf("version %d is %s", r.Version, r.Status)
		}
	}
	a.end()
}

// awaitObject waits until an object exists.
func awaitObject(s *scene, o *unstructured.Unstructured) {
	s.t.Helper()
	list := &unstructured.UnstructuredList{}
	list.SetAPIVersion(o.GetAPIVersion())
	list.SetKind(o.GetKind() + "List")
	await(s, list, o, func(live *unstructured.Unstructured) string {
		if live == nil {
			return "it does not exist"
		}
		return ""
	})
}

// stoppedApplying: the process is asked to end while one of the objects is on its way. What was begun is ended, and told.
func stoppedApplying(a *act) {
	defer a.leaveFailed()
	arrived, hold := make(chan struct{}), make(chan struct{})
	a.proxy.Add(&apiproxy.Rule{
		Match: apiproxy.Match{Verb: "apply", Resource: "configmaps", Name: a.name + "-b"}, Fault: apiproxy.Fault{Hold: hold},
		When: func(*apiproxy.Request) bool {
			close(arrived)
			return true
		},
	})
	a.makePlain(firstValues, nil)
	select {
	case <-arrived:
	case <-time.After(patience):
		a.t.Fatal("the object was not applied")
	}
	letGo := time.AfterFunc(time.Second, func() { close(hold) })
	defer letGo.Stop()
	a.stopped()
	a.proxy.Clear()
	if got := a.versions(); got != "1 deployed" && got != "1 failed" {
		a.t.Errorf("the stopped process has left %q in Helm's storage, want version 1 as deployed or failed", got)
	}
	if err := a.sut.Start(a.t.Context()); err != nil {
		a.t.Fatal(err)
	}
	a.awaitDeployed()
	a.verifyRelease(2, a.deployed)
	a.end()
}

// stopped asks the process to end, which it does in time and well, without its lease.
func (a *act) stopped() {
	a.t.Helper()
	began := time.Now()
	if err := a.sut.Stop(); err != nil {
		a.t.Fatal(err)
	}
	if took := time.Since(began); took > stopWithin {
		a.t.Errorf("the process took %s to end", took)
	}
	if code := a.sut.ExitCode(); code != 0 {
		a.t.Errorf("the process ended with code %d", code)
	}
	sum := sha256.Sum256([]byte(shard + "=" + a.namespace))
	name := "helm-controller-leader-election-" + fmt.Sprintf("%x", sum)[:8]
	lease := must[*coordinationv1.Lease](a.t)(must[*kubernetes.Clientset](a.t)(kubernetes.NewForConfig(a.config)).
		CoordinationV1().Leases("flux-system").Get(a.t.Context(), name, metav1.GetOptions{}))
	if holder := lease.Spec.HolderIdentity; holder != nil && *holder != "" {
		a.t.Errorf("the lease is still that of %s", *holder)
	}
}

// TestHelmRestartStorm is reliability 093: values upon values, each met by a kill at some write that the seed chooses.
func TestHelmRestartStorm(t *testing.T) {
	t.Parallel()
	const rounds = 10
	r := newHelmRig(t)
	r.offer(t, plain())
	a := r.newAct(t)
	defer a.leaveFailed()
	deployFirst(a)
	for round := range rounds {
		v := &victim{scene: a.scene, dead: make(chan struct{})}
		a.proxy.Add(v.rule(script{}, modes()[a.rand.IntN(2)], 1+a.rand.IntN(8)))
		began := a.proxy.Seq()
		values := plainValues{Names: []string{"always"}, Value: fmt.Sprint(round)}
		for _, name := range []string{"a", "b", "c", "d"} {
			if a.rand.IntN(2) == 0 {
				values.Names = append(values.Names, name)
			}
		}
		a.setValues(values)
		a.want = a.renders(values)
		ctx, cancel := context.WithCancel(t.Context())
		finished := make(chan error, 1)
		go func() { finished <- a.deployed(ctx) }()
		select {
		case err := <-finished:
			if err != nil {
				t.Fatal(err)
			}
			if v.struck(began) {
				<-v.dead
				v.revive(script{})
			}
		case <-v.dead:
			v.struck(began)
			cancel()
			<-finished
			v.revive(script{})
		}
		cancel()
		a.proxy.Clear()
	}
	a.awaitDeployed()
	if all := a.history(); len(all) > helmv2.DefaultMaxHistory {
		t.Errorf("Helm's storage has grown to %s", a.versions())
	}
	// What the last values want, those before may not have wanted.
	a.mayGo = true
	a.verifyRelease(3*rounds, a.deployed)
	a.end()
}

// TestHelmConflicts is reliability 104: half of all writes are refused with a conflict, while others write to the same objects.
func TestHelmConflicts(t *testing.T) {
	t.Parallel()
	r := newHelmRig(t)
	r.offer(t, plain())
	a := r.newAct(t)
	defer a.leaveFailed()
	a.makePlain(firstValues, func(spec *helmv2.HelmReleaseSpec) {
		spec.Upgrade = &helmv2.Upgrade{Strategy: &helmv2.UpgradeStrategy{Name: helmv2.RetryOnFailure, RetryInterval: "1s"}}
	})
	a.awaitDeployed()
	dice := rand.New(rand.NewPCG(*seed, 2))
	a.proxy.Add(&apiproxy.Rule{
		Match: apiproxy.Match{Verb: "write"}, Times: -1, Fault: apiproxy.Fault{Status: http.StatusConflict},
		When: func(*apiproxy.Request) bool { return dice.IntN(2) == 0 },
	})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	kept := a.renders(firstValues)[1]
	writer := make(chan error, 1)
	go func() { writer <- meddleWith(ctx, a.client, a.hr(), kept) }()
	a.setValues(secondValues)
	a.want = a.renders(secondValues)
	a.awaitDeployed()
	stop()
	if err := <-writer; err != nil {
		t.Fatal(err)
	}
	a.proxy.Clear()
	a.awaitDeployed()
	a.verifyRelease(100, a.deployed)
	for _, o := range []client.Object{a.hr(), kept} {
		if err := a.client.Get(t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
			t.Fatal(err)
		}
		if o.GetLabels()["foreign"] == "" || o.GetAnnotations()["foreign"] == "" {
			t.Errorf("%T %s has lost the label or the annotation that somebody else has set", o, o.GetName())
		}
	}
	a.end()
}

// TestHelmWatchesEnd is reliability 110: watches that end all the time or are told 410 Gone lose nothing and cause nothing to be done twice.
func TestHelmWatchesEnd(t *testing.T) {
	t.Parallel()
	r := newHelmRig(t)
	r.offer(t, plain())
	for _, tt := range endings() {
		t.Run(tt.name, func(t *testing.T) {
			a := r.newAct(t)
			defer a.leaveFailed()
			a.proxy.Add(tt.rules...)
			a.restart(nil)
			deployFirst(a)
			a.setValues(secondValues)
			a.want = a.renders(secondValues)
			a.awaitDeployed()
			a.verifyRelease(2, a.deployed)
			a.end()
		})
	}
}
