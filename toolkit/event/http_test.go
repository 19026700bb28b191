package event

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// receiver is a transport in memory: answers per call, times of the calls.
type receiver struct {
	answer func(call int, r *http.Request) (int, error)

	mu    sync.Mutex
	calls []time.Time
	seen  []string
}

func (f *receiver) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	var p Payload
	if err := json.Unmarshal(body, &p); err != nil {
		return nil, err
	}
	f.mu.Lock()
	f.calls = append(f.calls, time.Now())
	f.seen = append(f.seen, p.Reason)
	call := len(f.calls)
	f.mu.Unlock()
	code, err := f.answer(call, r)
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: code, Body: io.NopCloser(strings.NewReader("")), Header: http.Header{}, Request: r}, nil
}

func always(code int) func(int, *http.Request) (int, error) {
	return func(int, *http.Request) (int, error) { return code, nil }
}

func hang(_ int, r *http.Request) (int, error) {
	<-r.Context().Done()
	return 0, r.Context().Err()
}

func newSink(t *testing.T, transport http.RoundTripper, queue int) (*HTTPSink, func(result string) int) {
	t.Helper()
	registry := prometheus.NewRegistry()
	metrics, err := NewMetrics(registry)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewHTTPSink(HTTPOptions{
		Address: "http://receiver.test/", Queue: queue, Transport: transport, Log: logr.Discard(), Metrics: metrics,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, func(result string) int {
		return int(testutil.ToFloat64(metrics.events.WithLabelValues(destinationHTTP, result)))
	}
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// _common 35
func TestHTTPSinkRetries(t *testing.T) {
	refused := errors.New("connection refused")
	for _, tc := range []struct {
		name       string
		answer     func(int, *http.Request) (int, error)
		wantCalls  int // 0: more than one
		wantResult string
	}{
		{"accepted", always(202), 1, resultDelivered},
		{"_common 35: 429 is never retried", always(429), 1, resultDuplicate},
		{"bad request is not retried", always(400), 1, resultRejected},
		{"a redirect is not followed", always(302), 1, resultRejected},
		{"server error five times", always(503), 5, resultGaveUp},
		{"server error, then fine", func(call int, _ *http.Request) (int, error) { return []int{500, 502, 202}[call-1], nil }, 3, resultDelivered},
		{"unreachable for a while", func(call int, _ *http.Request) (int, error) {
			if call < 12 {
				return 0, refused
			}
			return 202, nil
		}, 12, resultDelivered},
		{"unreachable for good", func(int, *http.Request) (int, error) { return 0, refused }, 0, resultGaveUp},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &receiver{answer: tc.answer}
				s, count := newSink(t, f, 4)
				s.Post(Payload{Reason: "R"})
				if err := s.Shutdown(within(t, time.Hour)); err != nil {
					t.Fatal(err)
				}
				if tc.wantCalls != 0 && len(f.calls) != tc.wantCalls {
					t.Errorf("%d calls, want %d", len(f.calls), tc.wantCalls)
				}
				if tc.wantCalls == 0 && len(f.calls) < 10 {
					t.Errorf("%d calls, want many", len(f.calls))
				}
				if got := count(tc.wantResult); got != 1 {
					t.Errorf("%s counted %d times, want 1", tc.wantResult, got)
				}
			})
		})
	}
}

// _common 35: five seconds for each try; reliability 079: a receiver that accepts and never answers.
func TestHTTPSinkBoundsEachTry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &receiver{answer: hang}
		s, _ := newSink(t, f, 4)
		s.Post(Payload{Reason: "R"})
		time.Sleep(5*time.Second + 600*time.Millisecond)
		synctest.Wait()
		f.mu.Lock()
		calls := len(f.calls)
		f.mu.Unlock()
		if calls != 2 {
			t.Errorf("%d calls after 5.6 s, want a second one after the first timed out", calls)
		}
		_ = s.Shutdown(within(t, time.Second))
	})
}

// reliability 079: Post never waits, losses are counted.
func TestHTTPSinkDropsWhenFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &receiver{answer: hang}
		s, count := newSink(t, f, 3)
		s.Post(Payload{Reason: "in flight"})
		synctest.Wait()
		start := time.Now()
		for range 10 {
			s.Post(Payload{Reason: "queued"})
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("Post waited %s", waited)
		}
		if got := count(resultQueueFull); got != 7 {
			t.Errorf("%d drops counted, want 7", got)
		}
		err := s.Shutdown(within(t, 7*time.Second))
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "3 still waited") {
			t.Errorf("shutdown: %v", err)
		}
		if got := count(resultShutdown); got != 4 {
			t.Errorf("%d lost at shutdown, want the one in flight and three queued", got)
		}
		s.Post(Payload{})
		if got := count(resultShutdown); got != 5 {
			t.Errorf("post after shutdown counted as %d", got)
		}
	})
}

func TestHTTPSinkDrainsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &receiver{answer: func(call int, _ *http.Request) (int, error) {
			if call == 1 {
				return 500, nil
			}
			return 202, nil
		}}
		s, count := newSink(t, f, 10)
		for _, reason := range []string{"a", "b", "c"} {
			s.Post(Payload{Reason: reason})
		}
		if err := s.Shutdown(within(t, time.Minute)); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(f.seen, " "); got != "a a b c" || count(resultDelivered) != 3 {
			t.Errorf("order %q, %d delivered", got, count(resultDelivered))
		}
	})
}

func TestHTTPSinkOverTheWire(t *testing.T) {
	got := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		user, password, _ := r.BasicAuth()
		got <- fmt.Sprintf("%s %s %s %s %s:%s %d", r.Method, r.URL.Path, r.Header.Get("Content-Type"), r.UserAgent(), user, password, len(body))
		w.WriteHeader(http.StatusAccepted)
	}))
	defer server.Close()
	s, err := NewHTTPSink(HTTPOptions{
		Address:   strings.Replace(server.URL, "http://", "http://u:hunter2@", 1) + "/",
		UserAgent: "source-controller/v1", Log: logr.Discard(),
	})
	if err != nil {
		t.Fatal(err)
	}
	p := Payload{Reason: "R", Severity: Info}
	body, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	s.Post(p)
	if err := s.Shutdown(within(t, 10*time.Second)); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("POST / application/json source-controller/v1 u:hunter2 %d", len(body)); <-got != want {
		t.Errorf("request differs from %q", want)
	}
}

func TestHTTPSinkKeepsCredentialsOutOfLogs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		s, err := NewHTTPSink(HTTPOptions{
			Address:   "http://u:hunter2@receiver.test/?token=hunter2",
			Transport: &receiver{answer: func(int, *http.Request) (int, error) { return 0, errors.New("no route") }},
			Log:       funcr.New(func(prefix, args string) { log.WriteString(prefix + args + "\n") }, funcr.Options{Verbosity: 9}),
		})
		if err != nil {
			t.Fatal(err)
		}
		s.Post(Payload{Reason: "R"})
		if err := s.Shutdown(within(t, time.Hour)); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(log.String(), "no route") || strings.Contains(log.String(), "hunter2") {
			t.Errorf("log: %s", log.String())
		}
		if lines := strings.Count(log.String(), "\n"); lines != 1 {
			t.Errorf("%d lines for one lost event", lines)
		}
	})
}

func TestNewHTTPSinkRefusesAddresses(t *testing.T) {
	for _, address := range []string{"", "receiver:80", "ftp://u:hunter2@h/", "http://", "http://u:hunter2@h:port/"} {
		_, err := NewHTTPSink(HTTPOptions{Address: address})
		if err == nil {
			t.Errorf("address %q accepted", address)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("password in %q", err)
		}
	}
}
