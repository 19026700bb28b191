package kube

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
	clocktesting "k8s.io/utils/clock/testing"
)

// remoteClients are those of a server that answers by handler.
func remoteClients(t *testing.T, o RemoteOptions, handler http.HandlerFunc) *Clients {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	c, err := NewClients(ClientsOptions{Config: Remote(&rest.Config{Host: server.URL, BearerToken: "x"}, o)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func reply(code int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_, _ = w.Write([]byte(body))
	}
}

func refusal(code int, reason string) http.HandlerFunc {
	return reply(code, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"`+reason+`","message":"no"}`)
}

const kubeSystem = `{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"kube-system","uid":"one"}}`

// reliability 136: a cluster tells who it is, or at least that it is there.
func TestIdentify(t *testing.T) {
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		uid     string
		fails   string
	}{
		"it tells":            {reply(http.StatusOK, kubeSystem), "one", ""},
		"it keeps quiet":      {refusal(http.StatusForbidden, "Forbidden"), "", ""},
		"it knows nothing":    {refusal(http.StatusNotFound, "NotFound"), "", ""},
		"it knows us not":     {refusal(http.StatusUnauthorized, "Unauthorized"), "", "failed to reach the cluster"},
		"it is no API server": {func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }, "", "no API server"},
		"it is a gate":        {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>no</html>", http.StatusForbidden) }, "", "no API server"},
		"it is broken":        {refusal(http.StatusInternalServerError, "InternalError"), "", "failed to reach the cluster"},
	} {
		t.Run(name, func(t *testing.T) {
			id, err := remoteClients(t, RemoteOptions{}, test.handler).Identify(t.Context())
			if (err != nil) != (test.fails != "") || err != nil && !strings.Contains(err.Error(), test.fails) {
				t.Errorf("error = %v, want %q in it", err, test.fails)
			}
			if string(id.UID) != test.uid || !strings.HasPrefix(id.Address, "http://127.0.0.1") {
				t.Errorf("id = %v", id)
			}
		})
	}
}

// reliability 136: credentials and addresses come and go, a cluster stays what it is.
func TestClusterIDs(t *testing.T) {
	for _, test := range []struct {
		a, b ClusterID
		same bool
	}{
		{ClusterID{"https://a", "1"}, ClusterID{"https://a", "1"}, true},
		{ClusterID{"https://a", "1"}, ClusterID{"https://b", "1"}, true},
		{ClusterID{"https://a", "1"}, ClusterID{"https://a", "2"}, false},
		{ClusterID{"https://a", "1"}, ClusterID{"https://a", ""}, true},
		{ClusterID{"https://a", ""}, ClusterID{"https://b", "1"}, false},
	} {
		if test.a.Same(test.b) != test.same || test.b.Same(test.a) != test.same {
			t.Errorf("%s and %s: want the same: %t", test.a, test.b, test.same)
		}
		if want := test.a.Address == test.b.Address && test.b.UID == ""; want && test.b.Known(test.a) != test.a {
			t.Errorf("%s forgets the UID of %s", test.b, test.a)
		}
		if got := ParseClusterID(test.a.String()); got != test.a {
			t.Errorf("%s was read as %+v", test.a, got)
		}
	}
}

// reliability 081: a server that hangs is given up.
func TestRemoteHangs(t *testing.T) {
	ended := make(chan struct{})
	c := remoteClients(t, RemoteOptions{Timeout: 50 * time.Millisecond}, func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		close(ended)
	})
	if _, err := c.Identify(t.Context()); !errors.Is(err, ErrSlow) {
		t.Errorf("error = %v, want ErrSlow", err)
	}
	<-ended
}

// reliability 081: a server that was silent is not asked by everybody in turn; one that answers others is not taken for silent.
func TestRemoteSilence(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	now := clocktesting.NewFakePassiveClock(start)
	var asked atomic.Int32
	hangs := make(chan bool, 1)
	c := remoteClients(t, RemoteOptions{Timeout: 50 * time.Millisecond, Clock: now}, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		select {
		case <-hangs:
			<-r.Context().Done()
		default:
			reply(http.StatusOK, kubeSystem)(w, r)
		}
	})
	ask := func(want error, requests int32) {
		t.Helper()
		if _, err := c.Identify(t.Context()); !errors.Is(err, want) {
			t.Errorf("error = %v, want %v", err, want)
		}
		if got := asked.Swap(0); got != requests {
			t.Errorf("there were %d requests, want %d", got, requests)
		}
	}
	hangs <- true
	ask(ErrSlow, 1)
	ask(ErrSlow, 0)
	now.SetTime(start.Add(silence))
	ask(nil, 1)
	// It has answered at this very time, so that it is the request that is slow.
	hangs <- true
	ask(ErrSlow, 1)
	ask(nil, 1)
}

// What a stranger's server sends has an end, and leads nowhere else.
func TestRemoteAnswers(t *testing.T) {
	large := remoteClients(t, RemoteOptions{AnswerBytes: 100}, reply(http.StatusOK, strings.Repeat(" ", 101)+kubeSystem))
	if _, err := large.Identify(t.Context()); err == nil || !strings.Contains(err.Error(), "more than 100 bytes") {
		t.Errorf("a large answer: error = %v", err)
	}
	var stolen []string
	thief := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { stolen = append(stolen, r.Header.Get("Authorization")) }))
	t.Cleanup(thief.Close)
	redirects := remoteClients(t, RemoteOptions{}, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, thief.URL, http.StatusTemporaryRedirect)
	})
	if _, err := redirects.Identify(t.Context()); err == nil || !strings.Contains(err.Error(), "redirect") {
		t.Errorf("a redirect: error = %v", err)
	}
	if len(stolen) > 0 {
		t.Errorf("the redirect was followed with %q", stolen)
	}
}

// kustomization 97: the token is asked for with each request, and the account is impersonated there.
func TestRemoteToken(t *testing.T) {
	var seen []string
	token := "a"
	c := remoteClients(t, RemoteOptions{Token: func(context.Context) (string, error) { return token, nil }}, func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Header.Get("Authorization")+" "+r.Header.Get("Impersonate-User"))
		refusal(http.StatusForbidden, "Forbidden")(w, r)
	})
	as, err := c.For(t.Context(), Identity{Namespace: "apps", ServiceAccount: "team"})
	if err != nil {
		t.Fatal(err)
	}
	ref := Ref{Resource: Resource{Plural: "pods", Namespaced: true}, Namespace: "x", Name: "y"}
	ref.Version = "v1"
	for _, token = range []string{"a", "b"} {
		if _, err := as.GetMetadata(t.Context(), ref); !apierrors.IsForbidden(err) {
			t.Fatal(err)
		}
	}
	if got := strings.Join(seen, ", "); got != "Bearer a system:serviceaccount:apps:team, Bearer b system:serviceaccount:apps:team" {
		t.Errorf("seen: %s", got)
	}
	broken := remoteClients(t, RemoteOptions{Token: func(context.Context) (string, error) { return "", errors.New("no token") }}, reply(http.StatusOK, kubeSystem))
	if _, err := broken.Identify(t.Context()); err == nil || !strings.Contains(err.Error(), "no token") {
		t.Errorf("without a token: error = %v", err)
	}
}

// reliability 081: whoever asks is told that an answer takes long, its body included, and goes on when all is there.
func TestWhenSlow(t *testing.T) {
	for name, early := range map[string]bool{"nothing comes": false, "the end does not come": true} {
		t.Run(name, func(t *testing.T) {
			told := make(chan struct{})
			c := remoteClients(t, RemoteOptions{Slow: time.Millisecond}, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				if early {
					_, _ = w.Write([]byte(" "))
					_ = http.NewResponseController(w).Flush()
				}
				<-told
				_, _ = w.Write([]byte(kubeSystem))
			})
			var steps []string
			ctx := WhenSlow(t.Context(), func() func() {
				steps = append(steps, "slow")
				close(told)
				return func() { steps = append(steps, "over") }
			})
			if _, err := c.Identify(ctx); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(steps, ", "); got != "slow, over" {
				t.Errorf("steps: %s", got)
			}
		})
	}
}

// What is taken back is not called, and a quick request does not call it.
func TestWhenSlowIsQuiet(t *testing.T) {
	called := func() func() {
		t.Error("it was called")
		return func() {}
	}
	slow := remoteClients(t, RemoteOptions{Slow: time.Nanosecond, Timeout: 20 * time.Millisecond}, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	if _, err := slow.Identify(WhenSlow(WhenSlow(t.Context(), called), nil)); !errors.Is(err, ErrSlow) {
		t.Errorf("error = %v", err)
	}
	quick := remoteClients(t, RemoteOptions{Slow: time.Hour}, reply(http.StatusOK, kubeSystem))
	if _, err := quick.Identify(WhenSlow(t.Context(), called)); err != nil {
		t.Error(err)
	}
}

// An answer that trickles has an end, too.
func TestRemoteTrickles(t *testing.T) {
	c := remoteClients(t, RemoteOptions{Timeout: 50 * time.Millisecond}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for r.Context().Err() == nil {
			_, _ = w.Write([]byte(" "))
			_ = http.NewResponseController(w).Flush()
		}
	})
	if _, err := c.Identify(t.Context()); err == nil || !strings.Contains(err.Error(), ErrSlow.Error()) {
		t.Errorf("error = %v, want ErrSlow", err)
	}
}
