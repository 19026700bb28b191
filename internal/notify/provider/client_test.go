package provider_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/seed-79636ae9/flux/internal/notify/provider"
)

// waits is a client that waits without time passing, and remembers how long.
func waits(t *testing.T) (*provider.Client, *[]time.Duration) {
	t.Helper()
	var all []time.Duration
	c := provider.NewClient(http.DefaultTransport, "flux/test", "s3cr3t-value")
	c.Pause = func(ctx context.Context, d time.Duration) error {
		all = append(all, d)
		return ctx.Err()
	}
	return c, &all
}

// alert 21, provider 52: four retries, two to thirty seconds apart, or when the service says so; and none for what will not change.
func TestRetries(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		want   []time.Duration
	}{
		{"a server error", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, []time.Duration{2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second}},
		{"not implemented", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(501) }, nil},
		{"refused", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }, nil},
		{"Retry-After", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(429)
		}, []time.Duration{7 * time.Second, 7 * time.Second, 7 * time.Second, 7 * time.Second}},
		{"nonsense in Retry-After", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "-1")
			w.WriteHeader(503)
		}, []time.Duration{2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second}},
		{"the connection breaks", func(w http.ResponseWriter, _ *http.Request) {
			if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
				conn.Close()
			}
		}, []time.Duration{2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second}},
	} {
		t.Run(c.name, func(t *testing.T) {
			service := httptest.NewServer(c.answer)
			defer service.Close()
			client, all := waits(t)
			_, err := client.PostJSON(t.Context(), service.URL+"/s3cr3t-value", map[string]string{}, nil)
			if err == nil {
				t.Fatal("no error")
			}
			if strings.Contains(err.Error(), "s3cr3t") {
				t.Errorf("the error holds the address: %v", err)
			}
			if len(*all) != len(c.want) {
				t.Fatalf("waited %v, want %v", *all, c.want)
			}
			for i, want := range c.want {
				if (*all)[i] != want {
					t.Errorf("wait %d is %s, want %s", i, (*all)[i], want)
				}
			}
		})
	}
}

// provider 51: the timeout covers the retries too: one that cannot be in time is not waited for.
func TestRetriesInTime(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }))
	defer service.Close()
	client, all := waits(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := client.PostJSON(ctx, service.URL, nil, nil)
	if status, ok := errors.AsType[*provider.StatusError](err); !ok || status.Code != 503 || len(*all) != 0 {
		t.Errorf("error = %v after %v", err, *all)
	}
}

// Redirects: a POST stays a POST, a loop ends, and what is for one host stays there.
func TestRedirects(t *testing.T) {
	var header http.Header
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { header = r.Header }))
	defer elsewhere.Close()
	for _, c := range []struct {
		to    string
		code  int
		wrong string
	}{
		{elsewhere.URL, 307, ""}, {elsewhere.URL, 308, ""}, {elsewhere.URL, 301, "turns a notification into a question"},
		{elsewhere.URL, 303, "turns a notification into a question"}, {"", 307, "more than 3 times"},
	} {
		service := httptest.NewServer(nil)
		to := c.to
		if to == "" {
			to = service.URL
		}
		service.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, c.code) })
		header = nil
		client, all := waits(t)
		_, err := client.PostJSON(t.Context(), service.URL, map[string]string{}, http.Header{"Authorization": {"Bearer x"}, "X-Key": {"x"}})
		if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%d: error = %v", c.code, err)
		}
		if len(*all) != 0 {
			t.Errorf("%d: a redirect is tried again", c.code)
		}
		if header.Get("Authorization") != "" || header.Get("X-Key") != "" {
			t.Errorf("%d: another host got %v", c.code, header)
		}
		service.Close()
	}
}

// reliability 048: the addresses at which clouds hand out credentials are not called, whatever a Provider says, with a proxy neither.
func TestGuard(t *testing.T) {
	var transports provider.Transports
	transport, _, err := transports.Get(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := provider.NewClient(transport, "flux/test")
	client.Pause = func(context.Context, time.Duration) error {
		t.Error("it is tried again")
		return nil
	}
	if _, err := client.PostJSON(t.Context(), "http://169.254.169.254/latest/meta-data", nil, nil); err == nil || !strings.Contains(err.Error(), "belongs to the machine or its cloud") {
		t.Errorf("error = %v", err)
	}
}

// Answers are bounded, and what is in them is no part of an error.
func TestAnswers(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/large":
			_, _ = w.Write([]byte(`{"a":"` + strings.Repeat("x", 100<<10) + `"}`))
		default:
			_, _ = w.Write([]byte(`{"a": private}`))
		}
	}))
	defer service.Close()
	for path, want := range map[string]string{"/large": "larger than 65536 bytes", "/wrong": "not the JSON that was expected"} {
		client, _ := waits(t)
		answer, err := client.PostJSON(t.Context(), service.URL+path, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		var into any
		if err := answer.JSON(&into); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "private") {
			t.Errorf("%s: error = %v", path, err)
		}
	}
}
