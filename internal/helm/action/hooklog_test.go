package action

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	helmkube "helm.sh/helm/v4/pkg/kube"

	"github.com/seed-79636ae9/flux/toolkit/health"
	"github.com/seed-79636ae9/flux/toolkit/kube"
)

// podServer has one Pod whose second container failed, and its log.
func podServer(t *testing.T, log string, status int) *waits {
	t.Helper()
	const pod = `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"app-hook-x","namespace":"apps","creationTimestamp":"2026-01-02T00:00:00Z"},
		"spec":{"containers":[{"name":"first"},{"name":"second"}]},
		"status":{"containerStatuses":[{"name":"first","state":{}},{"name":"second","state":{"terminated":{"exitCode":1}}}]}}`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch q := r.URL.Query(); {
		case strings.HasSuffix(r.URL.Path, "/pods/app-hook-x/log"):
			if q.Get("container") != "second" || q.Get("limitBytes") == "" || q.Get("tailLines") == "" {
				t.Errorf("log asked for with %v", q)
			}
			w.WriteHeader(status)
			fmt.Fprint(w, log)
		case strings.HasSuffix(r.URL.Path, "/namespaces/apps/pods") && q.Get("labelSelector") == "batch.kubernetes.io/job-name=app-hook":
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"kind":"PodList","apiVersion":"v1","items":[{"metadata":{"name":"older"}},`+pod+`]}`)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(server.Close)
	client, err := kube.NewClient(&rest.Config{Host: server.URL}, nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := newRequests(client)
	if err != nil {
		t.Fatal(err)
	}
	return &waits{ctx: t.Context(), requests: r}
}

func failedJob() error {
	return &health.Error{Stalled: true, Unhealthy: []health.Report{{
		Check:   health.Check{GroupVersionKind: schema.GroupVersionKind{Group: "batch", Version: "v1", Kind: "Job"}, Namespace: "apps", Name: "app-hook"},
		Verdict: kube.Verdict{Status: kube.Failed},
	}}}
}

// The error of a failed hook ends with what its Pod has logged, in one line and bounded, without what the release keeps in Secrets.
func TestHookLog(t *testing.T) {
	w := podServer(t, "connecting to https://user:hunter2@db\npassword s3cr3t-value is wrong\nline-two-of-key\n"+strings.Repeat("x", 5000), http.StatusOK)
	w.saw(helmkube.ResourceList{{
		Mapping: &meta.RESTMapping{GroupVersionKind: schema.GroupVersionKind{Version: "v1", Kind: "Secret"}, Scope: meta.RESTScopeNamespace},
		Object: &unstructured.Unstructured{Object: map[string]any{
			"data":       map[string]any{"a": base64.StdEncoding.EncodeToString([]byte("s3cr3t-value"))},
			"stringData": map[string]any{"key": "line-one-of-key\nline-two-of-key\n", "short": "x"},
		}},
	}})
	failed := failedJob()
	err := w.withLog(failed)
	if !errors.Is(err, failed) {
		t.Errorf("the cause got lost: %v", err)
	}
	want := "failed early due to stalled resources: [Job/apps/app-hook status: 'Failed']: log of Pod/apps/app-hook-x: connecting to "
	if got := err.Error(); !strings.HasPrefix(got, want) || !strings.Contains(got, "password *** is wrong *** xxx") || len(got) > len(want)+hookLogShown {
		t.Errorf("error of %d bytes: %.400s", len(got), got)
	}
	for _, secret := range []string{"hunter2", "s3cr3t", "line-two", "\n"} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the error shows %q", secret)
		}
	}
}

// What the API server does not give adds nothing.
func TestNoHookLog(t *testing.T) {
	late := &health.Error{Unhealthy: failedJob().(*health.Error).Unhealthy}
	configMap := failedJob().(*health.Error)
	configMap.Unhealthy[0].Check.GroupVersionKind = schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}
	for name, tt := range map[string]struct {
		err    error
		status int
		log    string
	}{
		"forbidden":    {failedJob(), http.StatusForbidden, "no"},
		"an empty log": {failedJob(), http.StatusOK, " \n"},
		"a timeout":    {late, http.StatusOK, "text"},
		"no pods":      {configMap, http.StatusOK, "text"},
		"no hook":      {errors.New("other"), http.StatusOK, "text"},
	} {
		if got := podServer(t, tt.log, tt.status).withLog(tt.err); got != tt.err {
			t.Errorf("%s: %v", name, got)
		}
	}
	if got := podServer(t, "", http.StatusOK).withLog(nil); got != nil {
		t.Errorf("no error: %v", got)
	}
}
