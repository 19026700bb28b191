package provider_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/seed-79636ae9/flux/internal/notify/provider"
	"github.com/seed-79636ae9/flux/toolkit/event"
)

// forgeRequest is a request as recordings show it.
type forgeRequest struct {
	Method  string            `json:"method"`
	Path    string            `json:"path"`
	Headers map[string]string `json:"headers"`
	JSON    any               `json:"json"`
}

// forgeRecording is what a recording tells of notifications to Git hosts.
type forgeRecording struct {
	Observed struct {
		End struct {
			Posted   []map[string]any `json:"posted"`
			Requests []forgeRequest   `json:"requests"`
		} `json:"end"`
	} `json:"observed"`
}

// TestForgeRecordings sends the events of recordings and compares the requests with those of 2.9, header by header: provider 10-13, 16, 44,
// 46; alert 19, 20. Which events reach a Provider is for others to test.
func TestForgeRecordings(t *testing.T) {
	changed := func(e *event.Payload) bool { return e.Metadata["commit_status"] == "" }
	finished := func(e *event.Payload) bool { return !changed(e) || e.Severity == event.Error }
	inRequest := func(e *event.Payload) bool { return changed(e) && e.InvolvedObject.Kind == "Kustomization" }
	for _, test := range []struct {
		name, kind, repo, token, status string
		told                            func(*event.Payload) bool
		fails                           bool
	}{
		{"provider-gitea-commit-status", "gitea", "org/", "t1", "kustomization/app/<uid-8>", finished, false},
		{"provider-github-commit-status", "github", "org/", "t1", "kustomization/app/<uid-8>", finished, false},
		{"provider-github-commit-status-expr", "github", "org/", "t1", "Kustomization-a-p", finished, false},
		{"provider-githubdispatch", "githubdispatch", "org/", "forge-secret-token", "", changed, false},
		{"send-error-masks-token", "githubdispatch", "bad/", "t1", "", changed, true},
		{"provider-github-pr-comment", "githubpullrequestcomment", "org/", "t1", "", inRequest, false},
		{"provider-gitlab-mr-comment", "gitlabmergerequestcomment", "org/", "t1", "", inRequest, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			data, err := os.ReadFile("../../../test/compat/testdata/recordings/notification/" + test.name + ".yaml")
			if err != nil {
				t.Fatal(err)
			}
			var recording forgeRecording
			if err := yaml.Unmarshal(data, &recording); err != nil {
				t.Fatal(err)
			}
			var got []forgeRequest
			host := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				got = append(got, readRequest(r))
				if test.fails {
					w.WriteHeader(http.StatusBadRequest)
					return
				}
				gitAnswering(200, "[]")(w, r)
			}))
			defer host.Close()
			c := provider.Config{
				Type: test.kind, Address: host.URL + "/" + test.repo + "notification-" + test.name + ".git", Token: test.token,
				CommitStatus: test.status, Provider: provider.Owner{UID: "<uid>"}, HTTP: provider.NewClient(http.DefaultTransport, "flux"),
			}
			for _, posted := range recording.Observed.End.Posted {
				e := asNotified(t, posted)
				if !test.told(&e) {
					continue
				}
				delete(e.Metadata, "commit_status")
				if err := tellGitHost(t, c, e); (err != nil) != test.fails {
					t.Fatalf("%s: error = %v", e.Reason, err)
				}
			}
			want := recording.Observed.End.Requests
			if len(want) == 0 {
				t.Fatal("the recording has no requests")
			}
			for i := range want {
				want[i].Headers = headersThatMatter(want[i].Method, want[i].Headers)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("requests (-2.9 +ours):\n%s", diff)
			}
		})
	}
}

// asNotified is a posted event as a Notifier sees it.
func asNotified(t *testing.T, posted map[string]any) event.Payload {
	t.Helper()
	posted["timestamp"], posted["reportingInstance"] = metav1.NewTime(time.Unix(0, 0)), "vm"
	data, err := json.Marshal(posted)
	if err != nil {
		t.Fatal(err)
	}
	var e event.Payload
	if err := json.Unmarshal(data, &e); err != nil {
		t.Fatal(err)
	}
	metadata := map[string]string{}
	for key, value := range e.Metadata {
		if _, name, _ := strings.Cut(key, "/"); name != "digest" {
			metadata[name] = value
		}
	}
	e.Metadata = metadata
	return e
}

var recordedTime = regexp.MustCompile(`"timestamp":"[^"]*"`)

func readRequest(r *http.Request) forgeRequest {
	out := forgeRequest{Method: r.Method, Path: r.URL.String()}
	headers := map[string]string{}
	for name := range r.Header {
		headers[name] = r.Header.Get(name)
	}
	out.Headers = headersThatMatter(r.Method, headers)
	body, _ := io.ReadAll(r.Body)
	_ = json.Unmarshal(recordedTime.ReplaceAll(body, []byte(`"timestamp":"<time>"`)), &out.JSON)
	return out
}

// headersThatMatter leaves out what names the program or its library, and the type of a body that is not there.
func headersThatMatter(method string, headers map[string]string) map[string]string {
	out := map[string]string{}
	for name, value := range headers {
		switch name = http.CanonicalHeaderKey(name); {
		case name == "User-Agent", name == "Accept-Encoding", name == "Content-Length", name == "Content-Type" && method == http.MethodGet:
		default:
			out[name] = value
		}
	}
	return out
}
