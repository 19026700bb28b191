package e2e

import (
	"bytes"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/getsops/sops/v3/hcvault"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/sops"
	"github.com/seed-79636ae9/flux/toolkit/sops/sopstest"
)

// TestSecrets lets the program decrypt what is right and what is not (reliability 6.3). It is not parallel: it sets the
// environment of the program.
func TestSecrets(t *testing.T) {
	const canary = "c4n4ry-9d1e-f0b7-of-the-environment"
	t.Setenv("VAULT_TOKEN", canary)
	r := newRig(t)
	id := sopstest.NewIdentity(t)
	if err := r.client.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: r.namespace, Name: "keys"}, Data: map[string][]byte{"id.agekey": []byte(id.Private)},
	}); err != nil {
		t.Fatal(err)
	}
	sealed := func(kind, name, body string) string {
		f := sopstest.File{Format: sops.YAML, Groups: id.Group(t), Regex: "^(data|stringData)$"}
		return string(f.Encrypt(t, "apiVersion: v1\nkind: "+kind+"\nmetadata:\n    name: "+name+"\n"+body))
	}
	var visits, leaks atomic.Int64
	attacker := serve(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		visits.Add(1)
		for _, values := range q.Header {
			if strings.Contains(strings.Join(values, " "), canary) {
				leaks.Add(1)
			}
		}
		http.Error(w, "thanks", http.StatusForbidden)
	}))
	lure := sopstest.File{Format: sops.YAML, Groups: sopstest.Group(hcvault.NewMasterKey(attacker, "transit", "sops")), Regex: "^stringData$"}
	const plain = "swordfish-in-the-clear"
	for name, test := range map[string]struct {
		files map[string]string
		fails string // empty: it is applied
	}{
		"059 decrypted in memory": {map[string]string{"s.yaml": sealed("Secret", "good", "stringData:\n    password: "+plain+"\n")}, ""},
		"054 refused by the API server": {map[string]string{
			"s.yaml": sealed("ConfigMap", "bad", "data:\n    nested:\n        - "+plain+"\n"),
		}, "ReconciliationFailed"},
		"054 no base64": {map[string]string{"s.yaml": sealed("Secret", "bad", "data:\n    password: "+plain+"!\n")}, "Failed"},
		"056 plain text in the place of a sealed value": {map[string]string{
			"s.yaml":             sealed("Secret", "patched", "stringData:\n    password: sealed\n"),
			"patch.yaml":         "apiVersion: v1\nkind: Secret\nmetadata: {name: patched}\nstringData: {password: " + plain + "}\n",
			"kustomization.yaml": "resources: [s.yaml]\npatches: [{path: patch.yaml}]\n",
		}, "BuildFailed"},
		"058 the environment's token for a server of the file": {map[string]string{
			"s.yaml": string(lure.Encrypt(t, "apiVersion: v1\nkind: Secret\nmetadata:\n    name: lure\nstringData:\n    password: "+plain+"\n")),
		}, "BuildFailed"},
	} {
		t.Run(name, func(t *testing.T) {
			s := r.newScene(t)
			files := map[string]*testkit.GitFile{}
			for path, content := range test.files {
				files[path] = &testkit.GitFile{Content: content}
			}
			revision := s.push(files)
			s.source()
			s.kustomization(func(k *kustomizev1.Kustomization) {
				k.Spec.TargetNamespace = r.namespace
				k.Spec.Decryption = &kustomizev1.Decryption{Provider: "sops", SecretRef: &meta.LocalObjectReference{Name: "keys"}}
			})
			s.awaitArtifact(revision)
			var text string
			s.awaitKustomization(func(k *kustomizev1.Kustomization) string {
				text = fmt.Sprint(k.Status.Conditions)
				for _, c := range k.Status.Conditions {
					if c.Type == meta.ReadyCondition && (c.Status == metav1.ConditionTrue) == (test.fails == "") && c.Status != metav1.ConditionUnknown && strings.Contains(c.Reason, test.fails) {
						return ""
					}
				}
				return text
			})
			hides(t, "the status", []byte(text), plain, canary, id.Private)
		})
	}
	var applied corev1.Secret
	if err := r.client.Get(t.Context(), types.NamespacedName{Namespace: r.namespace, Name: "good"}, &applied); err != nil || string(applied.Data["password"]) != plain {
		t.Errorf("the Secret holds %q, %v", applied.Data["password"], err)
	}
	if leaks.Load() > 0 {
		t.Errorf("058: %d of %d requests to the server of the file had the token of the environment", leaks.Load(), visits.Load())
	}
	var events corev1.EventList
	if err := r.client.List(t.Context(), &events, client.InNamespace(r.namespace)); err != nil {
		t.Fatal(err)
	}
	for _, e := range events.Items {
		hides(t, "an event", []byte(e.Message), plain, canary, id.Private)
	}
	log, err := os.ReadFile(r.sut.LogPath)
	if err != nil {
		t.Fatal(err)
	}
	hides(t, "the log", log, plain, canary, id.Private)
	err = filepath.WalkDir(filepath.Dir(r.sut.LogPath), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // it went while we walked, or is none
		}
		if content, err := os.ReadFile(path); err == nil && !strings.Contains(path, "/trees/") {
			hides(t, "059: "+path, content, plain, id.Private)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// hides fails if a text shows one of the secrets.
func hides(t *testing.T, where string, text []byte, secrets ...string) {
	t.Helper()
	for _, s := range secrets {
		if bytes.Contains(text, []byte(s)) {
			t.Errorf("%s shows %q", where, s)
		}
	}
}

// reliability 061: profiles and command lines are for this machine alone, and nothing but health stands on the port of health.
func TestDebugEndpoints(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	code := func(url string) int {
		t.Helper()
		resp := must[*http.Response](t)(http.Get(url))
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	for url, want := range map[string]int{
		"http://" + r.sut.MetricsAddr + "/metrics":             http.StatusOK,
		"http://" + r.sut.MetricsAddr + "/debug/pprof/cmdline": http.StatusOK,
		"http://" + r.sut.HealthAddr + "/healthz":              http.StatusOK,
		"http://" + r.sut.HealthAddr + "/metrics":              http.StatusNotFound,
		"http://" + r.sut.HealthAddr + "/debug/pprof/":         http.StatusNotFound,
		"http://" + r.sut.StorageAddr + "/debug/pprof/":        http.StatusNotFound,
	} {
		if got := code(url); got != want {
			t.Errorf("%s: %d, want %d", url, got, want)
		}
	}
}
