package kustomize

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/cluster"
	"github.com/seed-79636ae9/flux/toolkit/cluster/clustertest"
	"github.com/seed-79636ae9/flux/toolkit/depend"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

// kustomization 97, 99, reliability 027: a kubeconfig that cannot be used is an error that says so, and nobody acts in its place.
func TestKubeConfigSecrets(t *testing.T) {
	remote := clustertest.NewServer(t, "one")
	for name, test := range map[string]struct {
		data map[string]string
		key  string
		want string
	}{
		"no Secret":      {nil, "", "the Secret 'NS/fleet' of spec.kubeConfig: it does not exist"},
		"no key":         {map[string]string{"other": "x"}, "", "it has no key 'value' or 'value.yaml'"},
		"the wrong key":  {map[string]string{"value": remote.Kubeconfig()}, "config", "it has no key 'config'"},
		"garbage":        {map[string]string{"value": "canary-token: ["}, "", "key 'value': the kubeconfig is not one"},
		"a second key":   {map[string]string{"value.yaml": "{}"}, "", "key 'value.yaml': the kubeconfig has no current-context"},
		"a file":         {map[string]string{"value": clustertest.Kubeconfig(remote.URL, remote.CA, "tokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token")}, "", "tokenFile"},
		"a program":      {map[string]string{"value": clustertest.Kubeconfig(remote.URL, remote.CA, "exec: {command: id, apiVersion: client.authentication.k8s.io/v1}")}, "", "--insecure-kubeconfig-exec"},
		"no such server": {map[string]string{"value": clustertest.Kubeconfig("https://127.0.0.1:1", remote.CA, "token: canary-token")}, "", "failed to reach the cluster https://127.0.0.1:1"},
		"no such proxy":  {map[string]string{"value": strings.Replace(remote.Kubeconfig(), "server:", `proxy-url: "http://u:canary-proxy@127.0.0.1:1", server:`, 1)}, "", "failed to reach the cluster"},
		"a broken token": {map[string]string{"value": clustertest.Kubeconfig(remote.URL, remote.CA, `token: "canary-token\nx"`)}, "", "failed to reach the cluster"},
		"another CA":     {map[string]string{"value": clustertest.Kubeconfig(remote.URL, []byte("x"), "token: canary-token")}, "", "root certificates"},
	} {
		t.Run(name, func(t *testing.T) {
			l, home := newRemoteLab(t)
			if test.data != nil {
				l.secret(test.data)
			}
			l.create(toFleet, func(o *kustomizev1.Kustomization) { o.Spec.KubeConfig.SecretRef.Key = test.key })
			got := l.try()
			if !strings.HasPrefix(got, "False ReconciliationFailed: ") || !strings.Contains(got, test.want) {
				t.Errorf("Ready = %s, want %q in it", got, test.want)
			}
			events := strings.Join(l.told(), "\n")
			if !strings.Contains(events, "ReconciliationFailed: failed to build kube client: ") {
				t.Errorf("events: %s", events)
			}
			if strings.Contains(got+events, "canary") {
				t.Errorf("the token is told: %s\n%s", got, events)
			}
			if len(l.get().Status.History) > 0 {
				t.Error("there is a history entry")
			}
			if asked := home.Requests(); len(asked) > 0 {
				t.Errorf("the controller's own cluster was asked: %q", asked)
			}
		})
	}
}

// kustomization 97: the run acts on the other cluster and says on which.
func TestConnects(t *testing.T) {
	remote := clustertest.NewServer(t, "one")
	l, home := newRemoteLab(t)
	l.secret(map[string]string{"value.yaml": remote.Kubeconfig()})
	l.create(toFleet)
	got := l.try()
	if !strings.HasPrefix(got, "False ReconciliationFailed: ") || strings.Contains(got, "kube client") {
		t.Errorf("Ready = %s", got)
	}
	if got := l.condition(cluster.Condition); got != "True Connected: "+remote.URL+" (one)" {
		t.Errorf("RemoteCluster = %s", got)
	}
	if asked := remote.Requests(); len(asked) < 2 || asked[0] != "GET /api/v1/namespaces/kube-system" {
		t.Errorf("the other cluster was asked: %q", asked)
	}
	if asked := home.Requests(); len(asked) > 0 {
		t.Errorf("the controller's own cluster was asked: %q", asked)
	}
}

// reliability 031: a name that is no name of an account goes into no request.
func TestAccountNames(t *testing.T) {
	for _, name := range []string{"other:rec", "../rec", "rec/../../x", "system:masters", "Rec", strings.Repeat("x", 300), "rec\n", "rec%3Ax"} {
		l, home := newRemoteLab(t)
		l.create(func(o *kustomizev1.Kustomization) { o.Spec.ServiceAccountName = name })
		if got := l.try(); !strings.HasPrefix(got, "False ReconciliationFailed: invalid service account name ") {
			t.Errorf("%q: Ready = %s", name, got)
		}
		if asked := home.Requests(); len(asked) > 0 {
			t.Errorf("%q: the cluster was asked: %q", name, asked)
		}
	}
}

// reliability 136: what is in the old cluster is told and left there, and nothing of the same name is deleted in the new one.
func TestClusterChanges(t *testing.T) {
	remote := clustertest.NewServer(t, "two")
	l, home := newRemoteLab(t)
	l.secret(map[string]string{"value": remote.Kubeconfig()})
	l.create(toFleet)
	l.holds("https://old.test (one)")
	l.try()
	want := "error ClusterChanged: the cluster changed from https://old.test (one) to " + remote.URL +
		" (two): 2 objects stay in the old one and are managed no longer; delete them there if they are of no use:\nConfigMap/NS/a\nConfigMap/NS/b"
	if got := l.told(); !slices.Contains(got, want) {
		t.Errorf("events: %q, want %q", got, want)
	}
	if inv := inventory(l.get()); len(inv) > 0 {
		t.Errorf("the inventory is %v", inv)
	}
	if got := l.condition(cluster.Condition); got != "True Connected: "+remote.URL+" (two)" {
		t.Errorf("RemoteCluster = %s", got)
	}
	for _, asked := range append(remote.Requests(), home.Requests()...) {
		if strings.HasPrefix(asked, "DELETE") {
			t.Errorf("there was %s", asked)
		}
	}
	// Once it is told it is told.
	l.try()
	if got := strings.Join(l.told(), "\n"); strings.Contains(got, cluster.ChangedReason) {
		t.Errorf("told again: %s", got)
	}
}

// reliability 027, 081: a new Secret is used at once, and a removed one no longer.
func TestRotation(t *testing.T) {
	remote := clustertest.NewServer(t, "one")
	l, _ := newRemoteLab(t)
	l.secret(map[string]string{"value": remote.Kubeconfig()})
	l.create(toFleet)
	use := func() *cluster.Cluster[*watch] {
		t.Helper()
		l.try()
		return l.k.Clusters.Of(owner(l.get()))
	}
	first := use()
	if !first.Remote() || use() != first {
		t.Fatal("two runs with one Secret have not the same cluster")
	}
	l.holds("")
	l.secret(map[string]string{"value": strings.Replace(remote.Kubeconfig(), "canary-token", "canary-renewed", 1)})
	if second := use(); !second.Remote() || second == first {
		t.Error("the old token is still in use")
	}
	if inv := inventory(l.get()); len(inv) != 2 {
		t.Errorf("it is the same cluster; the inventory is %v", inv)
	}
	l.removeSecret()
	if use().Remote() {
		t.Error("the Secret is gone and its credentials are still in use")
	}
}

// kustomization 109, 110, reliability 045, 136: how an object goes whose cluster cannot be asked, or is another one.
func TestFinalizeRemote(t *testing.T) {
	remote := clustertest.NewServer(t, "one")
	for name, test := range map[string]struct {
		kubeconfig string // empty: no Secret
		vanishing  bool   // the namespace
		policy     string
		record     string
		gone       bool
		ready      string
		event      string
	}{
		"no Secret": {ready: "False PruneFailed: pruning for deleted resource failed: the Secret 'NS/fleet' of spec.kubeConfig: it does not exist: give access"},
		"no Secret, and it cannot come back": {
			vanishing: true, gone: true, event: "unable to prune objects: \nConfigMap/NS/a\nConfigMap/NS/b",
		},
		"no cluster":                 {kubeconfig: clustertest.Kubeconfig("https://127.0.0.1:1", remote.CA, "token: x"), ready: "or set spec.deletionPolicy to Orphan"},
		"no cluster, nor namespace":  {kubeconfig: clustertest.Kubeconfig("https://127.0.0.1:1", remote.CA, "token: x"), vanishing: true, ready: "failed to reach the cluster"},
		"no rights":                  {kubeconfig: remote.Kubeconfig(), ready: "False PruneFailed: pruning for deleted resource failed: "},
		"another cluster":            {kubeconfig: remote.Kubeconfig(), record: "https://old.test (two)", gone: true, event: "ClusterChanged: the cluster changed from https://old.test (two)"},
		"its objects may stay there": {policy: kustomizev1.DeletionPolicyOrphan, gone: true},
	} {
		t.Run(name, func(t *testing.T) {
			l, home := newRemoteLab(t)
			l.create(toFleet)
			l.try()
			record := test.record
			if record == "" {
				record = remote.URL + " (one)"
			}
			l.holds(record)
			if test.policy != "" {
				l.edit(func(o *kustomizev1.Kustomization) { o.Spec.DeletionPolicy = test.policy })
			}
			if test.kubeconfig != "" {
				l.secret(map[string]string{"value": test.kubeconfig})
			}
			objects := []client.Object{l.get()}
			if test.vanishing {
				objects = append(objects, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: l.ns}})
			}
			for _, o := range objects {
				if err := l.client.Delete(t.Context(), o); err != nil {
					t.Fatal(err)
				}
			}
			l.told()
			_, _ = l.Run(t.Context(), l.key())
			events := strings.Join(l.told(), "\n")
			if !strings.Contains(events, test.event) {
				t.Errorf("events: %s, want %q", events, test.event)
			}
			obj := &kustomizev1.Kustomization{}
			err := l.client.Get(t.Context(), l.key(), obj)
			if client.IgnoreNotFound(err) != nil || (err != nil) != test.gone {
				t.Fatalf("gone: %t, want %t: %v", err != nil, test.gone, err)
			}
			if err == nil {
				if got := l.condition(meta.ReadyCondition); !strings.Contains(got, test.ready) {
					t.Errorf("Ready = %s, want %q in it", got, test.ready)
				}
				if len(inventory(obj)) != 2 {
					t.Errorf("the inventory is %v", inventory(obj))
				}
			}
			for _, asked := range append(remote.Requests(), home.Requests()...) {
				if strings.HasPrefix(asked, "DELETE") {
					t.Errorf("there was %s", asked)
				}
			}
		})
	}
}

// kustomization 5: what spec.kubeConfig names wakes the object when it changes.
func TestKubeConfigEdges(t *testing.T) {
	obj := &kustomizev1.Kustomization{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "app"}}
	toFleet(obj)
	if !slices.Contains(edges(obj), depend.Key{Kind: "Secret", Namespace: "apps", Name: "fleet"}) {
		t.Errorf("edges: %v", edges(obj))
	}
	obj.Spec.KubeConfig = &meta.KubeConfigReference{ConfigMapRef: &meta.LocalObjectReference{Name: "fleet"}}
	if !slices.Contains(edges(obj), depend.Key{Kind: "ConfigMap", Namespace: "apps", Name: "fleet"}) {
		t.Errorf("edges: %v", edges(obj))
	}
}

// An event names some of what stays behind, and counts the rest.
func TestLeftBehindIsBounded(t *testing.T) {
	obj := &kustomizev1.Kustomization{Status: kustomizev1.KustomizationStatus{Inventory: &meta.Inventory{}}}
	for i := range 1000 {
		obj.Status.Inventory.Entries = append(obj.Status.Inventory.Entries, meta.InventoryEntry{ID: fmt.Sprintf("apps_a%d__ConfigMap", i), Version: "v1"})
	}
	got := leftBehind(cluster.Move{}, inventory(obj))
	if !strings.Contains(got, ": 1000 objects stay") || !strings.HasSuffix(got, "\nConfigMap/apps/a19\nand 980 more") {
		t.Errorf("the event says %s", got)
	}
}

// The condition is told as long as it is true.
func TestNoClusterCondition(t *testing.T) {
	l, _ := newRemoteLab(t)
	l.create()
	l.holds("https://old.test (one)")
	l.try()
	if c := status.Find(l.get().Status.Conditions, cluster.Condition); c != nil {
		t.Errorf("the object applies to the controller's own cluster, and says %s", c.Message)
	}
}

// reliability 043, 081: a cluster that answers when it is asked its name, and hangs when it is asked for more, holds nobody up but its own.
func TestSlowClusterHoldsNoSlot(t *testing.T) {
	remote := clustertest.NewServer(t, "one")
	asked, answer := make(chan struct{}), make(chan struct{})
	var once sync.Once
	remote.Instead = func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/api/v1/namespaces/") {
			return false
		}
		once.Do(func() { close(asked) })
		<-answer
		http.Error(w, "too late", http.StatusInternalServerError)
		return true
	}
	l, _ := newRemoteLab(t, func(i *instance) { i.remote.Limits.Slow = time.Millisecond })
	l.secret(map[string]string{"value": remote.Kubeconfig()})
	l.create(toFleet)
	l.create(func(o *kustomizev1.Kustomization) { o.Name, o.Spec.ServiceAccountName = "other", "not:valid" })
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = l.Run(t.Context(), l.key())
	}()
	<-asked
	// The controller of this lab does one thing at a time.
	_, _ = l.Run(t.Context(), types.NamespacedName{Namespace: l.ns, Name: "other"})
	select {
	case <-ended:
		t.Error("the cluster has not answered, and the run has ended")
	default:
	}
	close(answer)
	<-ended
	if got := l.condition("Ready"); !strings.HasPrefix(got, "False ReconciliationFailed") {
		t.Errorf("Ready = %s", got)
	}
}
