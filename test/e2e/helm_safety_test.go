package e2e

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/internal/testkit/apiproxy"
	"github.com/seed-79636ae9/flux/internal/testkit/charts"
	"github.com/seed-79636ae9/flux/internal/testkit/releases"
)

// TestHelmSafety is about what must not be deleted with a release, and what must (reliability 098, 122, 148, 149, 150).
func TestHelmSafety(t *testing.T) {
	t.Parallel()
	r := newHelmRig(t)
	r.offer(t, plain())
	for _, tt := range []struct {
		name string
		play func(*act)
	}{
		{"122 a release too large for a Secret", tooLarge},
		{"148 what a chart drops goes, and what is to be kept stays", shrunk},
		{"148 another target namespace", otherTarget},
		{"148 another chart", otherChart},
		{"148 definitions of a subchart that is off", subchartOff},
		{"149 an object of another release", ownedByOthers},
		{"149 definitions outlive the release", definitionsStay},
		{"149 definitions are skipped", definitionsSkipped},
		{"150 the chart and its source are gone", sourceGone},
		{"150 the record is corrupt", recordCorrupt},
		{"150 the target namespace is gone", targetGone},
		{"150 an object that waits for somebody else", slowFinalizer},
		{"a release of Helm is adopted", adopted},
		{"a release of Helm that differs is upgraded", adoptedAnother},
		{"Helm reads the releases", readByHelm},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := r.newAct(t)
			defer a.leaveFailed()
			tt.play(a)
		})
	}
	t.Run("098 killed between a definition and its object", func(t *testing.T) { killedAtDefinition(t, r) })
}

// version returns the chart with another version and more files.
func version(t *testing.T, c charts.Chart, v string, files map[string]string) charts.Chart {
	t.Helper()
	next := must[charts.Chart](t)(c.At(v))
	maps.Copy(next.Files, files)
	return next
}

// tooLarge: such a release fails with the limit in its message, nothing of it is applied or stored, and an upgrade to it leaves the old one
// as it was.
func tooLarge(a *act) {
	noise := make([]byte, 1<<20)
	if _, err := rand.Read(noise); err != nil {
		a.t.Fatal(err)
	}
	large := version(a.t, plain(), "9.0.0", map[string]string{"files/noise.txt": hex.EncodeToString(noise)})
	a.rig.offer(a.t, large)
	a.make(large, firstValues, nil)
	a.awaitUnready(helmv2.InstallFailedReason, "too large to be stored")
	a.request(a.hr())
	a.awaitHR(func(o *helmv2.HelmRelease) string {
		if o.Status.Failures < 2 {
			return "it was not tried again"
		}
		return ""
	})
	if got := a.versions(); got != "" {
		a.t.Errorf("Helm's storage has %s", got)
	}
	a.absent(a.renders(firstValues)...)
	chart := func(c charts.Chart) { a.patch(a.hr(), fmt.Sprintf(`{"spec":{"chartRef":{"name":%q}}}`, chartName(c))) }
	chart(plain())
	a.want = a.renders(firstValues)
	a.awaitDeployed()
	chart(large)
	a.awaitUnready(helmv2.UpgradeFailedReason, "too large to be stored")
	if got := a.versions(); got != "1 deployed" {
		a.t.Errorf("Helm's storage has %s, want the release as it was", got)
	}
	a.present(a.want...)
	chart(plain())
	a.awaitDeployed()
	a.verifyRelease(1, a.deployed)
	a.end()
}

func shrunk(a *act) {
	values := plainValues{Names: []string{"a", "b"}, Kept: []string{"kept", "last"}, Value: "one"}
	a.makePlain(values, nil)
	a.awaitDeployed()
	kept := a.want[2:]
	values.Names, values.Kept = []string{"a"}, []string{"last"}
	a.setValues(values)
	a.awaitDeployed()
	dropped := a.want[1]
	a.absent(dropped)
	a.present(kept...)
	a.want = a.renders(values)
	a.records(2)
	a.justDeletes()
	a.deleteHR()
	if err := a.goneHR(a.t.Context()); err != nil {
		a.t.Fatal(err)
	}
	a.absent(a.want[0])
	a.present(kept...)
	a.remove(kept...)
}

// otherTarget: the release moves with its namespace, and its name, which that begins.
func otherTarget(a *act) {
	first, second := testkit.Namespace(a.t, a.config), testkit.Namespace(a.t, a.config)
	a.makePlain(firstValues, func(spec *helmv2.HelmReleaseSpec) { spec.TargetNamespace = first })
	a.mayGo = true
	a.awaitDeployed()
	for _, target := range []string{first, second} {
		if target == second {
			a.patch(a.hr(), fmt.Sprintf(`{"spec":{"targetNamespace":%q}}`, second))
			a.awaitDeployed()
			a.absent(a.want...)
			if left := a.versions(); left != "" {
				a.t.Errorf("Helm's storage still has %s of release %s", left, a.release)
			}
		}
		a.release, a.target = target+"-"+a.name, target
		a.want = a.renders(firstValues)
		a.present(a.want...)
		if got := a.versions(); got != "1 deployed" {
			a.t.Errorf("Helm's storage has %s of release %s", got, a.release)
		}
	}
	a.end()
}

// otherChart: a release of another chart is another one; the old one goes, once.
func otherChart(a *act) {
	other := plain()
	other.Name = "other"
	other.Files["Chart.yaml"] = "apiVersion: v2\nname: other\nversion: 1.0.0\n"
	a.rig.offer(a.t, other)
	deployFirst(a)
	a.mayGo = true
	before := must[*unstructured.Unstructured](a.t)(a.judge.Live(a.t.Context(), a.want[0]))
	a.patch(a.hr(), fmt.Sprintf(`{"spec":{"chartRef":{"name":%q}}}`, chartName(other)))
	a.awaitDeployed()
	if after := must[*unstructured.Unstructured](a.t)(a.judge.Live(a.t.Context(), a.want[0])); after.GetUID() == before.GetUID() {
		a.t.Error("the object was not made anew")
	}
	a.verifyRelease(1, a.deployed)
	a.end()
}

// defining is a chart with an object of a kind that its subchart defines, if that is on.
func (a *act) defining() (c charts.Chart, crd, thing *unstructured.Unstructured) {
	objects := definition(a.scene)
	crd, thing = objects[0], objects[1]
	name := "defining-" + a.name
	return charts.Chart{Name: name, Version: "1.0.0", Files: map[string]string{
		"Chart.yaml":             "apiVersion: v2\nname: " + name + "\nversion: 1.0.0\ndependencies: [{name: sub, version: 1.0.0, condition: sub.enabled}]\n",
		"values.yaml":            "sub: {enabled: true}\nthing: true\n",
		"templates/thing.yaml":   "{{- if and .Values.sub.enabled .Values.thing }}\n" + string(encode(a.t, thing)) + "{{- end }}\n",
		"charts/sub/Chart.yaml":  "apiVersion: v2\nname: sub\nversion: 1.0.0\n",
		"charts/sub/crds/a.yaml": string(encode(a.t, crd)),
	}}, crd, thing
}

func subchartOff(a *act) {
	c, crd, thing := a.defining()
	a.rig.offer(a.t, c)
	a.make(c, map[string]any{"sub": map[string]any{"enabled": false}}, nil)
	a.awaitDeployed()
	a.absent(crd)
	a.patch(a.hr(), `{"spec":{"values":null}}`)
	a.awaitDeployed()
	a.present(crd, thing)
	a.setValues(map[string]any{"sub": map[string]any{"enabled": false}})
	a.awaitDeployed()
	a.absent(thing)
	a.present(crd)
	a.crds = []*unstructured.Unstructured{crd}
	a.end()
	a.remove(crd)
}

// ownedByOthers: without the right to take over, a release leaves objects of others alone, also when it goes.
func ownedByOthers(a *act) {
	values := plainValues{Names: []string{"a"}, Value: "theirs", Prefix: a.name + "-shared"}
	if err := a.helm.Install(a.name+"-other", a.namespace, plain(), map[string]any{"names": []any{"a"}, "value": "theirs", "prefix": values.Prefix}); err != nil {
		a.t.Fatal(err)
	}
	shared := a.renders(values)[0]
	before := must[*unstructured.Unstructured](a.t)(a.judge.Live(a.t.Context(), shared))
	values.Value = "ours"
	a.make(plain(), values, func(spec *helmv2.HelmReleaseSpec) { spec.Install = &helmv2.Install{DisableTakeOwnership: true} })
	a.awaitUnready(helmv2.InstallFailedReason, shared.GetName())
	a.deleteHR()
	if err := a.goneHR(a.t.Context()); err != nil {
		a.t.Fatal(err)
	}
	after := must[*unstructured.Unstructured](a.t)(a.judge.Live(a.t.Context(), shared))
	if after.GetResourceVersion() != before.GetResourceVersion() {
		a.t.Error("the object of another release was changed")
	}
	a.justDeletes()
}

func definitionsStay(a *act) {
	c, crd, thing := a.defining()
	a.rig.offer(a.t, c)
	a.make(c, nil, nil)
	a.want, a.crds = []*unstructured.Unstructured{thing}, []*unstructured.Unstructured{crd}
	a.awaitDeployed()
	a.verifyRelease(1, a.deployed)
	a.end()
	a.present(crd)
	a.remove(crd)
}

func definitionsSkipped(a *act) {
	c, crd, _ := a.defining()
	a.rig.offer(a.t, c)
	a.make(c, map[string]any{"thing": false}, func(spec *helmv2.HelmReleaseSpec) { spec.Install = &helmv2.Install{CRDs: helmv2.CRDsSkip} })
	a.awaitDeployed()
	a.absent(crd)
	a.end()
}

// killedAtDefinition: the process dies around the writes of a definition and of the object that needs it.
func killedAtDefinition(t *testing.T, r *helmRig) {
	for _, m := range modes()[:2] {
		reached := true
		for n := 1; reached && n < 5; n++ {
			t.Run(fmt.Sprintf("%s %d", m.name, n), func(t *testing.T) {
				a := r.newAct(t)
				defer a.leaveFailed()
				c, crd, thing := a.defining()
				r.offer(t, c)
				a.want, a.crds = []*unstructured.Unstructured{thing}, []*unstructured.Unstructured{crd}
				reached = a.disturb(script{
					writes: apiproxy.Match{Verb: "apply"},
					act:    func(*scene) { a.make(c, nil, nil) },
					done:   func(ctx context.Context, _ *scene) error { return a.deployed(ctx) },
				}, m, n)
				a.proxy.Clear()
				a.verifyRelease(2, a.deployed)
				a.end()
				a.remove(crd)
			})
		}
	}
}

// sourceGone: the chart is not needed to uninstall its release.
func sourceGone(a *act) {
	c := version(a.t, plain(), "1.0.1", nil)
	a.rig.offer(a.t, c)
	a.make(c, firstValues, nil)
	a.want = a.renders(firstValues)
	a.awaitDeployed()
	labelled := metav1.ObjectMeta{Namespace: a.namespace, Name: chartName(c)}
	for _, o := range []client.Object{&sourcev1.HelmChart{ObjectMeta: labelled}, &sourcev1.HelmRepository{ObjectMeta: labelled}} {
		if err := a.client.Delete(a.t.Context(), o); err != nil {
			a.t.Fatal(err)
		}
	}
	a.end()
}

// recordCorrupt: what cannot be read is named, keeps the finalizer, and is not taken for nothing.
func recordCorrupt(a *act) {
	deployFirst(a)
	name := recordPrefix + a.release + ".v1"
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: a.namespace, Name: name}}
	if err := a.client.Get(a.t.Context(), client.ObjectKeyFromObject(secret), secret); err != nil {
		a.t.Fatal(err)
	}
	sound := secret.Data["release"]
	write := func(data []byte) {
		secret.Data["release"] = data
		if err := a.client.Update(a.t.Context(), secret); err != nil {
			a.t.Fatal(err)
		}
	}
	write([]byte("H4sIAAAAAAAA"))
	a.request(a.hr())
	a.awaitUnready(helmv2.StateErrorReason, name)
	a.deleteHR()
	a.awaitUnready(helmv2.UninstallFailedReason, name)
	a.present(a.want...)
	write(sound)
	if err := a.goneHR(a.t.Context()); err != nil {
		a.t.Fatal(err)
	}
	a.mayGo = true
	a.vanished()
}

func targetGone(a *act) {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "gone-" + a.namespace + "-" + a.name}}
	a.makePlain(firstValues, func(spec *helmv2.HelmReleaseSpec) {
		spec.TargetNamespace, spec.ReleaseName, spec.Install = namespace.Name, a.release, &helmv2.Install{CreateNamespace: true}
	})
	a.awaitDeployed()
	if err := a.client.Delete(a.t.Context(), namespace); err != nil {
		a.t.Fatal(err)
	}
	a.awaitNamespaceGone(namespace)
	a.want = nil
	a.end()
}

func (a *act) awaitNamespaceGone(namespace *corev1.Namespace) {
	a.t.Helper()
	await(a.scene, &corev1.NamespaceList{}, namespace, func(o *corev1.Namespace) string {
		if o != nil {
			return fmt.Sprintf("it still exists: %v", o.Status)
		}
		return ""
	})
}

// slowFinalizer: with deletionPropagation foreground the HelmRelease stays until its objects are gone.
func slowFinalizer(a *act) {
	foreground := "foreground"
	a.makePlain(firstValues, func(spec *helmv2.HelmReleaseSpec) {
		spec.Uninstall = &helmv2.Uninstall{DeletionPropagation: &foreground}
	})
	a.awaitDeployed()
	held := a.want[0].DeepCopy()
	a.patch(held, `{"metadata":{"finalizers":["e2e.test/held"]}}`)
	a.deleteHR()
	list := &unstructured.UnstructuredList{}
	list.SetAPIVersion("v1")
	list.SetKind("ConfigMapList")
	await(a.scene, list, held, func(o *unstructured.Unstructured) string {
		if o == nil || o.GetDeletionTimestamp() == nil {
			return "it is not being deleted"
		}
		return ""
	})
	if hr := a.live(); len(hr.Finalizers) == 0 {
		a.t.Error("the finalizer went before the object")
	}
	a.patch(a.want[0].DeepCopy(), `{"metadata":{"finalizers":null}}`)
	if err := a.goneHR(a.t.Context()); err != nil {
		a.t.Fatal(err)
	}
	a.mayGo = true
	a.vanished()
}

// adopted: what Helm has made and what is wanted are the same, so nothing is written.
func adopted(a *act) {
	if err := a.helm.Install(a.release, a.namespace, plain(), map[string]any{"names": []any{"a", "b"}, "value": "one"}); err != nil {
		a.t.Fatal(err)
	}
	seq := a.proxy.Seq()
	a.make(plain(), firstValues, nil)
	a.awaitDeployed()
	a.untouched(seq)
	if got := snapshots(a.live()); got != "1 deployed" || a.versions() != got {
		a.t.Errorf("the history is %q, and Helm's is %q", got, a.versions())
	}
	a.want = a.renders(firstValues)
	a.held(a.want...)
	// Its objects have no labels of ours until the first upgrade.
	a.want = a.renders(secondValues)
	a.setValues(secondValues)
	a.awaitDeployed()
	for _, o := range a.want {
		if err := a.judge.AsRendered(a.t.Context(), a.owner, o); err != nil {
			a.t.Error(err)
		}
	}
	a.absent(a.renders(firstValues)[0])
	a.records(2)
	a.deleteHR()
	if err := a.goneHR(a.t.Context()); err != nil {
		a.t.Fatal(err)
	}
	a.absent(a.want...)
}

func adoptedAnother(a *act) {
	if err := a.helm.Install(a.release, a.namespace, plain(), map[string]any{"names": []any{"b"}, "value": "old"}); err != nil {
		a.t.Fatal(err)
	}
	deployFirst(a)
	if got := a.versions(); got != "2 deployed, 1 superseded" {
		a.t.Errorf("Helm's storage has %s", got)
	}
	a.verifyRelease(2, a.deployed)
	a.end()
}

// readByHelm: helm list, helm history and helm get see what the controller has made.
func readByHelm(a *act) {
	deployFirst(a)
	a.setValues(secondValues)
	a.want = a.renders(secondValues)
	a.awaitDeployed()
	found := false
	for _, rel := range must[[]releases.Release](a.t)(a.helm.List()) {
		if rel.Name == a.release {
			found = rel.Version == 2 && rel.Status == "deployed" && rel.Chart == "plain-1.0.0" && rel.Namespace == a.namespace
		}
	}
	if !found {
		a.t.Error("helm list does not show version 2 of the release as deployed")
	}
	if got := a.versions(); got != "2 deployed, 1 superseded" {
		a.t.Errorf("helm history shows %s", got)
	}
	rel := must[releases.Release](a.t)(a.helm.Get(a.release))
	if fmt.Sprint(rel.Values["names"]) != "[b c]" || !strings.Contains(rel.Manifest, a.release+"-c") {
		a.t.Errorf("helm get shows the values %v and the manifest %s", rel.Values, rel.Manifest)
	}
	a.end()
}
