package receiver

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// HTTPMetrics are the series about the calls of one HTTP service of the component: <prefix>_http_request_duration_seconds,
// <prefix>_http_response_size_bytes and <prefix>_http_requests_inflight (wire.md 10).
type HTTPMetrics struct {
	service  string
	duration *prometheus.HistogramVec
	size     *prometheus.HistogramVec
	inflight *prometheus.GaugeVec
}

// NewHTTPMetrics declares the series and registers them; a nil registry keeps them to themselves, and series of the same prefix that are
// registered already are shared. It panics when the names are taken by series of another sort, which only a change of the program can bring.
func NewHTTPMetrics(registry prometheus.Registerer, prefix, service string) *HTTPMetrics {
	labels := []string{"service", "handler", "method", "code"}
	return &HTTPMetrics{
		service: service,
		duration: register(registry, prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: prefix + "_http_request_duration_seconds", Help: "The duration in seconds of a call.", Buckets: prometheus.DefBuckets,
		}, labels)),
		size: register(registry, prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: prefix + "_http_response_size_bytes", Help: "The size in bytes of the answer to a call.",
			Buckets: prometheus.ExponentialBuckets(100, 10, 8),
		}, labels)),
		inflight: register(registry, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: prefix + "_http_requests_inflight", Help: "The number of calls being worked on.",
		}, labels[:2])),
	}
}

func register[C prometheus.Collector](registry prometheus.Registerer, c C) C {
	if registry == nil {
		return c
	}
	err := registry.Register(c)
	if before, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		return before.ExistingCollector.(C)
	}
	if err != nil {
		panic(err)
	}
	return c
}

// Wrap measures the calls to next. Label says what stands for the path of a call; it must have few values, whatever is called.
func (m *HTTPMetrics) Wrap(next http.Handler, label func(*http.Request) string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler, start := label(r), time.Now()
		inflight := m.inflight.WithLabelValues(m.service, handler)
		inflight.Inc()
		answer := &measured{ResponseWriter: w, code: http.StatusOK}
		defer func() {
			inflight.Dec()
			values := []string{m.service, handler, method(r.Method), strconv.Itoa(answer.code)}
			m.duration.WithLabelValues(values...).Observe(time.Since(start).Seconds())
			m.size.WithLabelValues(values...).Observe(float64(answer.size))
		}()
		next.ServeHTTP(answer, r)
	})
}

// forget drops the series of a path that is served no more.
func (m *HTTPMetrics) forget(path string) {
	gone := prometheus.Labels{"handler": path}
	m.duration.DeletePartialMatch(gone)
	m.size.DeletePartialMatch(gone)
	m.inflight.DeletePartialMatch(gone)
}

// method is the label of a method: callers may make up any number of them.
func method(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return m
	}
	return "other"
}

// measured remembers what was answered.
type measured struct {
	http.ResponseWriter
	code int
	size int64
}

// WriteHeader implements http.ResponseWriter.
func (m *measured) WriteHeader(code int) {
	m.code = code
	m.ResponseWriter.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (m *measured) Write(data []byte) (int, error) {
	n, err := m.ResponseWriter.Write(data)
	m.size += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController find the connection.
func (m *measured) Unwrap() http.ResponseWriter { return m.ResponseWriter }
