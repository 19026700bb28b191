package apiproxy

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// fakeAPI remembers the writes that reached it and serves one watch of three events, which ends with
// them unless it is one of pods.
type fakeAPI struct {
	mu     sync.Mutex // guards writes
	writes []string
}

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer secret" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if r.URL.Query().Get("watch") == "true" {
		for i, event := range []string{"ADDED", "MODIFIED", "DELETED"} {
			fmt.Fprintf(w, `{"type":%q,"object":{"metadata":{"name":"o%d"}}}`+"\n", event, i)
			w.(http.Flusher).Flush()
		}
		if strings.HasSuffix(r.URL.Path, "/pods") {
			<-r.Context().Done()
		}
		return
	}
	if r.Method != http.MethodGet {
		f.mu.Lock()
		f.writes = append(f.writes, r.Method+" "+r.URL.Path)
		f.mu.Unlock()
	}
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"got":%q}`, body)
}

func (f *fakeAPI) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.writes)
}

// start runs a fake API server, a proxy before it and a client that uses the proxy's kubeconfig.
func start(t *testing.T, o Options) (*Proxy, *fakeAPI, *http.Client) {
	t.Helper()
	api := &fakeAPI{}
	server := httptest.NewTLSServer(api)
	t.Cleanup(server.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	p, err := New(&rest.Config{Host: server.URL, BearerToken: "secret", TLSClientConfig: rest.TLSClientConfig{CAData: ca}}, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := p.WriteKubeconfig(kubeconfig); err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	return p, api, client
}

const configMap = "/api/v1/namespaces/apps/configmaps/one"

func send(t *testing.T, client *http.Client, method, url string) (int, string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(`{"a":1}`))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		method, url, contentType string
		want                     Request
		write                    bool
	}{
		{"GET", "/api/v1/namespaces/apps/configmaps", "", Request{Verb: "list", Version: "v1", Resource: "configmaps", Namespace: "apps"}, false},
		{"GET", "/api/v1/configmaps?watch=true", "", Request{Verb: "watch", Version: "v1", Resource: "configmaps"}, false},
		{"GET", "/api/v1/namespaces/apps", "", Request{Verb: "get", Version: "v1", Resource: "namespaces", Name: "apps"}, false},
		{"PUT", "/api/v1/namespaces/apps/finalize", "", Request{Verb: "update", Version: "v1", Resource: "namespaces", Name: "apps", Subresource: "finalize"}, true},
		{"PATCH", "/apis/apps/v1/namespaces/apps/deployments/web/status?fieldManager=m", "application/merge-patch+json",
			Request{Verb: "patch", Group: "apps", Version: "v1", Resource: "deployments", Namespace: "apps", Name: "web", Subresource: "status", Manager: "m"}, true},
		{"PATCH", "/apis/apps/v1/namespaces/apps/deployments/web?dryRun=All", "application/apply-patch+yaml",
			Request{Verb: "apply", Group: "apps", Version: "v1", Resource: "deployments", Namespace: "apps", Name: "web", DryRun: true}, false},
		{"DELETE", "/apis/rbac.authorization.k8s.io/v1/clusterroles/x", "", Request{Verb: "delete", Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterroles", Name: "x"}, true},
		{"DELETE", "/api/v1/namespaces/apps/pods", "", Request{Verb: "deletecollection", Version: "v1", Resource: "pods", Namespace: "apps"}, true},
		{"POST", "/api/v1/namespaces/apps/events", "", Request{Verb: "create", Version: "v1", Resource: "events", Namespace: "apps"}, false},
		{"PUT", "/apis/coordination.k8s.io/v1/namespaces/apps/leases/l", "", Request{Verb: "update", Group: "coordination.k8s.io", Version: "v1", Resource: "leases", Namespace: "apps", Name: "l"}, false},
		{"GET", "/apis/apps/v1", "", Request{Path: "/apis/apps/v1"}, false},
		{"GET", "/readyz", "", Request{Path: "/readyz"}, false},
	} {
		t.Run(tt.method+" "+tt.url, func(t *testing.T) {
			h := httptest.NewRequest(tt.method, tt.url, nil)
			h.Header.Set("Content-Type", tt.contentType)
			got := parse(h)
			tt.want.Method = tt.method
			if d := cmp.Diff(&tt.want, got); d != "" {
				t.Error(d)
			}
			if got.IsWrite() != tt.write {
				t.Errorf("IsWrite() = %v", got.IsWrite())
			}
		})
	}
}

func TestPassThrough(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("http2=%v", http2), func(t *testing.T) {
			var log bytes.Buffer
			p, api, client := start(t, Options{Log: &log, HTTP2: http2, Capture: func(r *Request) bool { return r.IsWrite() }})
			code, body, err := send(t, client, http.MethodPut, p.URL+configMap)
			if err != nil || code != http.StatusOK || !strings.Contains(body, `{\"a\":1}`) {
				t.Fatalf("answer %d %q, %v", code, body, err)
			}
			if _, _, err := send(t, client, http.MethodGet, p.URL+configMap); err != nil {
				t.Fatal(err)
			}
			if api.count() != 1 {
				t.Errorf("%d writes arrived, want 1", api.count())
			}
			got := p.Requests(0)
			if len(got) != 2 || got[0].Write != 1 || got[1].Write != 0 || got[0].Code != http.StatusOK || string(got[0].Body) != `{"a":1}` || got[0].Answer == nil || got[1].Body != nil {
				t.Errorf("the requests are %+v", got)
			}
			if d := cmp.Diff(map[string]int{"update configmaps": 1, "get configmaps": 1}, Count(got)); d != "" {
				t.Error(d)
			}
			p.Close()
			lines := strings.Split(strings.TrimSpace(log.String()), "\n")
			var line Request
			if err := json.Unmarshal([]byte(lines[0]), &line); err != nil || line.Resource != "configmaps" {
				t.Errorf("the log is %q, %v", lines, err)
			}
		})
	}
}

func TestFaults(t *testing.T) {
	held := make(chan struct{})
	called := 0
	count := func(*Request) { called++ }
	for _, tt := range []struct {
		name    string
		fault   Fault
		code    int // 0: the connection is dropped
		arrives bool
		calls   int
	}{
		{"none", Fault{}, 200, true, 0},
		{"delay", Fault{Delay: time.Millisecond}, 200, true, 0},
		{"status", Fault{Status: http.StatusTooManyRequests, RetryAfter: 1}, 429, false, 0},
		{"reset", Fault{Reset: true}, 0, false, 0},
		{"before", Fault{Before: count}, 0, false, 1},
		{"after", Fault{After: count}, 0, true, 1},
		{"reset answer", Fault{ResetAnswer: true}, 0, true, 0},
		{"hold", Fault{Hold: held}, 200, true, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			called = 0
			p, api, client := start(t, Options{})
			p.Add(&Rule{Match: Match{Verb: "write", Resource: "configmaps"}, Fault: tt.fault})
			if tt.fault.Hold != nil {
				go func() {
					for p.Seq() == 0 {
						time.Sleep(time.Millisecond)
					}
					close(held)
				}()
			}
			code, _, err := send(t, client, http.MethodPut, p.URL+configMap)
			if code != tt.code || (err != nil) != (tt.code == 0) {
				t.Errorf("code %d, error %v; want code %d", code, err, tt.code)
			}
			if (api.count() == 1) != tt.arrives {
				t.Errorf("%d writes arrived, want it to arrive: %v", api.count(), tt.arrives)
			}
			if called != tt.calls {
				t.Errorf("the callback ran %d times, want %d", called, tt.calls)
			}
			if code, _, err := send(t, client, http.MethodPut, p.URL+configMap); code != http.StatusOK {
				t.Errorf("the second request is hit too: %d, %v", code, err)
			}
		})
	}
}

func TestHangEndsWithTheClient(t *testing.T) {
	p, api, client := start(t, Options{})
	p.Add(&Rule{Match: Match{Resource: "configmaps"}, Fault: Fault{Hang: true}})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, p.URL+configMap, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Do(req); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want a timeout", err)
	}
	if api.count() != 0 {
		t.Error("a hanging request was forwarded")
	}
}

func TestMatch(t *testing.T) {
	yes := true
	deployment := Request{Verb: "apply", Group: "apps", Version: "v1", Resource: "deployments", Namespace: "apps", Name: "web", UserAgent: "flux/1"}
	secret := Request{Verb: "get", Version: "v1", Resource: "secrets", Namespace: "apps", Name: "s", Subresource: "status", DryRun: true}
	for _, tt := range []struct {
		match              Match
		deployment, secret bool
	}{
		{Match{}, true, true},
		{Match{Verb: "write"}, true, false},
		{Match{Verb: "get"}, false, true},
		{Match{Group: "apps"}, true, false},
		{Match{Group: "core"}, false, true},
		{Match{Resource: "secrets", Name: "s", Namespace: "apps"}, false, true},
		{Match{Subresource: "none"}, true, false},
		{Match{Subresource: "status"}, false, true},
		{Match{DryRun: &yes}, false, true},
		{Match{UserAgent: "flux"}, true, false},
	} {
		if got := tt.match.matches(&deployment); got != tt.deployment {
			t.Errorf("%+v matches %v: %v", tt.match, &deployment, got)
		}
		if got := tt.match.matches(&secret); got != tt.secret {
			t.Errorf("%+v matches %v: %v", tt.match, &secret, got)
		}
	}
}

func TestNth(t *testing.T) {
	for _, tt := range []struct {
		rule Rule
		want string
	}{
		{Rule{}, "x...."},
		{Rule{Nth: 3}, "..x.."},
		{Rule{Nth: 2, Times: 2}, ".xx.."},
		{Rule{Nth: 4, Times: -1}, "...xx"},
	} {
		got := ""
		for range 5 {
			if tt.rule.hits() {
				got += "x"
			} else {
				got += "."
			}
		}
		if got != tt.want {
			t.Errorf("Nth %d, Times %d hits %s, want %s", tt.rule.Nth, tt.rule.Times, got, tt.want)
		}
	}
}

func TestDropEvents(t *testing.T) {
	for _, tt := range []struct {
		fault Fault
		want  string
	}{
		{Fault{}, "ADDED MODIFIED DELETED"},
		{Fault{DropEvents: "MODIFIED"}, "ADDED DELETED"},
		{Fault{DropEvents: "*"}, ""},
		{Fault{DropEvents: "*", EventName: "o2"}, "ADDED MODIFIED"},
	} {
		p, _, client := start(t, Options{})
		p.Add(&Rule{Match: Match{Verb: "watch"}, Fault: tt.fault})
		_, body, err := send(t, client, http.MethodGet, p.URL+"/api/v1/configmaps?watch=true")
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for line := range strings.Lines(body) {
			var event struct{ Type string }
			if err := json.Unmarshal([]byte(line), &event); err != nil {
				t.Fatal(err)
			}
			got = append(got, event.Type)
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%+v lets %q through, want %q", tt.fault, got, tt.want)
		}
	}
}

func TestEndAfter(t *testing.T) {
	p, _, client := start(t, Options{})
	p.Add(&Rule{Match: Match{Verb: "watch"}, Fault: Fault{EndAfter: 50 * time.Millisecond}})
	_, body, err := send(t, client, http.MethodGet, p.URL+"/api/v1/pods?watch=true")
	if err != nil {
		t.Fatalf("the watch ended with %v, want an orderly end", err)
	}
	if got := strings.Count(body, "\n"); got != 3 {
		t.Errorf("%d events came through before the end, want 3", got)
	}
}

func TestWhen(t *testing.T) {
	p, _, client := start(t, Options{})
	asked := 0
	p.Add(&Rule{
		Match: Match{Verb: "write"}, Times: -1, Fault: Fault{Status: http.StatusConflict},
		When: func(*Request) bool { asked++; return asked%2 == 0 },
	})
	var got []int
	for range 4 {
		code, _, err := send(t, client, http.MethodPut, p.URL+configMap)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, code)
	}
	if diff := cmp.Diff([]int{200, 409, 200, 409}, got); diff != "" {
		t.Errorf("every other write is to be refused (-want +got):\n%s", diff)
	}
}

func TestWitness(t *testing.T) {
	var api *fakeAPI
	var seen []string
	p, a, client := start(t, Options{
		Capture: func(r *Request) bool { return r.Verb == "update" },
		Witness: func(_ context.Context, r *Request) {
			if api.count() != len(seen) {
				t.Error("the request went on before its witness saw it")
			}
			seen = append(seen, r.Name+" "+string(r.Body))
		},
	})
	api = a
	if _, _, err := send(t, client, http.MethodPut, p.URL+configMap); err != nil {
		t.Fatal(err)
	}
	if len(seen) != 1 || seen[0] != `one {"a":1}` {
		t.Errorf("witnessed %q, want one update with its body", seen)
	}
}
