package testkit

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func do(t *testing.T, client *http.Client, method, url, user, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if user != "" {
		req.SetBasicAuth(user, "pass")
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(answer)
}

func TestFiles(t *testing.T) {
	f := NewFiles()
	defer f.Close()
	f.Put("apps/index.yaml", []byte("content"))
	for _, tt := range []struct {
		path, user string
		code       int
	}{
		{"/apps/index.yaml", "", 200}, {"/absent", "", 404}, {"/auth/apps/index.yaml", "", 401},
		{"/auth/apps/index.yaml", "other", 401}, {"/auth/apps/index.yaml", "user", 200},
	} {
		if code, _ := do(t, http.DefaultClient, http.MethodGet, f.URL+tt.path, tt.user, ""); code != tt.code {
			t.Errorf("%s as %q: %d, want %d", tt.path, tt.user, code, tt.code)
		}
	}
}

func TestSinkAnswersInEachRole(t *testing.T) {
	ca, err := NewCA()
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSink(ca)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, tt := range []struct {
		method, path string
		code         int
		answer       string
	}{
		{"POST", "/apps/hook", 200, "ok"},
		{"POST", "/bad/x", 400, "bad request body"},
		{"POST", "/slackapi/chat", 200, `{"ok":false,"error":"channel_not_found"}`},
		{"GET", "/api/v3/repos/o/r/commits/1/statuses", 200, "[]"},
		{"POST", "/api/v3/repos/o/r/statuses/1", 201, `{"id":1,`},
		{"GET", "/api/v1/user", 200, `{"login":"bot","id":1}`},
		{"GET", "/api/v1/version", 200, `{"version":"1.22.0"}`},
	} {
		code, answer := do(t, http.DefaultClient, tt.method, s.URL+tt.path, "", "body")
		if code != tt.code || !strings.HasPrefix(answer, tt.answer) {
			t.Errorf("%s %s: %d %q, want %d %q", tt.method, tt.path, code, answer, tt.code, tt.answer)
		}
	}
	if got := s.Requests(5); len(got) != 2 || got[0].Path != "/api/v1/user" || string(got[0].Body) != "body" {
		t.Errorf("the requests after the fifth are %+v", got)
	}
}

// alert 4: one event per key, where severity and reason are no part of the key.
func TestEventEndpointLimitsRepeats(t *testing.T) {
	e := NewEventEndpoint()
	defer e.Close()
	const base = `{"involvedObject":{"kind":"Kustomization","name":"app","namespace":"apps","apiVersion":"kustomize.toolkit.fluxcd.io/v1"},` +
		`"severity":%q,"reason":%q,"message":%q,"metadata":{"kustomize.toolkit.fluxcd.io/revision":%q,"other":"x"}}`
	for i, tt := range []struct {
		severity, reason, message, revision string
		code                                int
	}{
		{"info", "A", "m", "1", 202},
		{"info", "A", "m", "1", 429},
		{"error", "B", "m", "1", 429},
		{"info", "A", "m2", "1", 202},
		{"info", "A", "m", "2", 202},
	} {
		if code, _ := do(t, http.DefaultClient, http.MethodPost, e.URL, "", fmt.Sprintf(base, tt.severity, tt.reason, tt.message, tt.revision)); code != tt.code {
			t.Errorf("event %d: %d, want %d", i, code, tt.code)
		}
	}
	if code, _ := do(t, http.DefaultClient, http.MethodPost, e.URL, "", "no json"); code != 400 {
		t.Errorf("no JSON: %d, want 400", code)
	}
	if got := len(e.Deliveries(0)); got != 5 {
		t.Errorf("%d deliveries, want 5", got)
	}
}

func TestPodStatus(t *testing.T) {
	for _, tt := range []struct {
		image   string
		restart corev1.RestartPolicy
		phase   corev1.PodPhase
	}{
		{"web:1", corev1.RestartPolicyAlways, corev1.PodRunning},
		{"web:1", corev1.RestartPolicyNever, corev1.PodSucceeded},
		{"web-fails:1", corev1.RestartPolicyAlways, corev1.PodFailed},
		{"web-never:1", corev1.RestartPolicyAlways, ""},
	} {
		pod := &corev1.Pod{Spec: corev1.PodSpec{RestartPolicy: tt.restart, Containers: []corev1.Container{{Name: "main", Image: tt.image}}}}
		status := podStatus(pod, time.Now())
		if status == nil && tt.phase == "" {
			continue
		}
		if status == nil || status.Phase != tt.phase {
			t.Errorf("%s with restart policy %s: %+v, want phase %q", tt.image, tt.restart, status, tt.phase)
		}
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	l := &tail{}
	for range 3 {
		if _, err := l.Write(bytes.Repeat([]byte("x"), tailSize)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Write([]byte("end")); err != nil {
		t.Fatal(err)
	}
	if s := l.String(); len(s) != tailSize || !strings.HasSuffix(s, "xend") {
		t.Errorf("kept %d bytes ending in %q", len(s), s[len(s)-5:])
	}
}
