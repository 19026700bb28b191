package event

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

type written []*corev1.Event

func (w *written) Write(e *corev1.Event) { *w = append(*w, e) }

type posted []Payload

func (p *posted) Post(payload Payload) { *p = append(*p, payload) }

var now = time.Date(2026, 3, 4, 5, 6, 7, 8, time.UTC)

func repository(annotations map[string]string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetAPIVersion("source.toolkit.fluxcd.io/v1")
	u.SetKind("GitRepository")
	u.SetNamespace("apps")
	u.SetName("app")
	u.SetUID("uid-1")
	u.SetResourceVersion("42")
	u.SetAnnotations(annotations)
	return u
}

func emit(t *testing.T, obj client.Object, e Event, redact func(string) string) (written, posted) {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	var w written
	var p posted
	r := &Recorder{
		Component: "source-controller", Instance: "host-1", Scheme: scheme,
		Kubernetes: &w, Sink: &p, Redact: redact, Clock: clocktesting.NewFakePassiveClock(now),
	}
	r.Emit(obj, e)
	return w, p
}

// The shape of recording gitrepository/event-annotation: wire 7, _common 37, _common 38.
func TestEmitWritesBothShapes(t *testing.T) {
	obj := repository(map[string]string{
		"event.toolkit.fluxcd.io/commit_status": "none",
		"event.toolkit.fluxcd.io/deploymentID":  "e076e315",
		"reconcile.fluxcd.io/requestedAt":       "never copied",
	})
	w, p := emit(t, obj, Event{
		Severity: Info, Reason: "NewArtifact", Message: "stored artifact for commit 'x'",
		Metadata: map[string]string{
			"revision":                              "main@sha1:a2239f",
			"digest":                                "sha256:de31",
			"event.toolkit.fluxcd.io/commit_status": "the object wins",
		},
	}, nil)

	metadata := map[string]string{
		"event.toolkit.fluxcd.io/commit_status": "none",
		"event.toolkit.fluxcd.io/deploymentID":  "e076e315",
		"source.toolkit.fluxcd.io/digest":       "sha256:de31",
		"source.toolkit.fluxcd.io/revision":     "main@sha1:a2239f",
	}
	ref := corev1.ObjectReference{
		Kind: "GitRepository", Namespace: "apps", Name: "app", UID: "uid-1",
		APIVersion: "source.toolkit.fluxcd.io/v1", ResourceVersion: "42",
	}
	if len(w) != 1 || len(p) != 1 {
		t.Fatalf("got %d Kubernetes events and %d payloads, want one each", len(w), len(p))
	}
	want := &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Name: w[0].Name, Namespace: "apps", Annotations: metadata},
		InvolvedObject: ref, Type: "Normal", Reason: "NewArtifact", Message: "stored artifact for commit 'x'", Count: 1,
		FirstTimestamp: metav1.NewTime(now), LastTimestamp: metav1.NewTime(now),
		Source: corev1.EventSource{Component: "source-controller"}, ReportingController: "source-controller",
	}
	if diff := cmp.Diff(want, w[0]); diff != "" {
		t.Errorf("Kubernetes event (-want +got):\n%s", diff)
	}
	if !strings.HasPrefix(w[0].Name, "app.") {
		t.Errorf("event name %q does not start with the object's", w[0].Name)
	}

	body, err := json.Marshal(p[0])
	if err != nil {
		t.Fatal(err)
	}
	const wantBody = `{"involvedObject":{"kind":"GitRepository","namespace":"apps","name":"app","uid":"uid-1",` +
		`"apiVersion":"source.toolkit.fluxcd.io/v1","resourceVersion":"42"},"severity":"info","timestamp":"2026-03-04T05:06:07Z",` +
		`"message":"stored artifact for commit 'x'","reason":"NewArtifact","metadata":{` +
		`"event.toolkit.fluxcd.io/commit_status":"none","event.toolkit.fluxcd.io/deploymentID":"e076e315",` +
		`"source.toolkit.fluxcd.io/digest":"sha256:de31","source.toolkit.fluxcd.io/revision":"main@sha1:a2239f"},` +
		`"reportingController":"source-controller","reportingInstance":"host-1"}`
	if diff := cmp.Diff(wantBody, string(body)); diff != "" {
		t.Errorf("payload (-want +got):\n%s", diff)
	}

	p[0].Metadata["mutated"] = "by the sink"
	if _, shared := w[0].Annotations["mutated"]; shared {
		t.Error("payload and Kubernetes event share a map")
	}
}

func TestEmitRoutesBySeverity(t *testing.T) {
	clusterScoped := repository(nil)
	clusterScoped.SetNamespace("")
	nameless := repository(nil)
	nameless.SetName("")
	for _, tc := range []struct {
		name      string
		obj       client.Object
		event     Event
		wantType  string
		wantPosts int
	}{
		{"_common 36: trace is Normal and stays here", repository(nil), Event{Severity: Trace}, "Normal", 0},
		{"_common 36: error is Warning", repository(nil), Event{Severity: Error}, "Warning", 1},
		{"_common 36: info is Normal", repository(nil), Event{Severity: Info}, "Normal", 1},
		{"gitrepository 38: a local event is not posted", repository(nil), Event{Severity: Info, Local: true}, "Normal", 0},
		{"_common 39: no namespace, not posted", clusterScoped, Event{Severity: Info}, "Normal", 0},
		{"_common 39: no name, not posted", nameless, Event{Severity: Info}, "Normal", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w, p := emit(t, tc.obj, tc.event, nil)
			if len(w) != 1 || w[0].Type != tc.wantType {
				t.Errorf("Kubernetes events %v, want one of type %s", w, tc.wantType)
			}
			if len(p) != tc.wantPosts {
				t.Errorf("%d payloads, want %d", len(p), tc.wantPosts)
			}
			if w[0].Annotations != nil {
				t.Errorf("annotations %v without metadata", w[0].Annotations)
			}
		})
	}
}

func TestEmitResolvesKindByScheme(t *testing.T) {
	w, p := emit(t, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "c", Namespace: "n"}},
		Event{Severity: Info, Metadata: map[string]string{"revision": "1"}}, nil)
	if len(w) != 1 || w[0].InvolvedObject.Kind != "ConfigMap" || w[0].InvolvedObject.APIVersion != "v1" {
		t.Fatalf("reference %+v", w)
	}
	if p[0].Metadata["revision"] != "1" {
		t.Errorf("metadata of the core group %v, want keys as they are", p[0].Metadata)
	}

	unknown := &metav1.PartialObjectMetadata{}
	if w, p := emit(t, unknown, Event{Severity: Info}, nil); len(w)+len(p) != 0 {
		t.Errorf("object of no kind was recorded: %v %v", w, p)
	}
}

// wire 7: message max 39000 characters, longer is cut.
func TestEmitCutsMessages(t *testing.T) {
	long := strings.Repeat("x", MaxPayloadMessage-1) + "é"
	w, p := emit(t, repository(nil), Event{Severity: Info, Message: long}, nil)
	if got := p[0].Message; got != long[:MaxPayloadMessage-1] {
		t.Errorf("payload message has %d bytes, want the cut before the split character at %d", len(got), MaxPayloadMessage-1)
	}
	if got := w[0].Message; len(got) != MaxKubernetesMessage || !strings.HasSuffix(got, "...") {
		t.Errorf("Kubernetes message has %d bytes and ends with %q", len(got), got[len(got)-3:])
	}
	wide := strings.Repeat("é", MaxPayloadMessage)
	if _, p := emit(t, repository(nil), Event{Severity: Info, Message: wide}, nil); !utf8.ValidString(p[0].Message) {
		t.Error("cut inside a character")
	}
}

func TestEmitRedacts(t *testing.T) {
	redact := func(s string) string { return strings.ReplaceAll(s, "hunter2", "***") }
	w, p := emit(t, repository(map[string]string{"event.toolkit.fluxcd.io/note": "hunter2"}),
		Event{Severity: Error, Message: "auth with hunter2 failed", Metadata: map[string]string{"url": "https://u:hunter2@h"}}, redact)
	all, err := json.Marshal([]any{w, p})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(all), "hunter2") || strings.Count(string(all), "***") != 6 {
		t.Errorf("secret in %s", all)
	}
}
