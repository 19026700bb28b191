// Package httpmetrics measures HTTP handlers (wire contract 10).
package httpmetrics

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// constantHandler stands for all paths where they are not exported: whoever asks for paths that do not exist must not make series.
const constantHandler = "/"

// Metrics are the series of one server: <prefix>_http_request_duration_seconds, _response_size_bytes and _requests_inflight.
type Metrics struct {
	paths    bool
	duration *prometheus.HistogramVec
	size     *prometheus.HistogramVec
	inflight *prometheus.GaugeVec
}

// New registers the metrics, or takes up those that the registry has. With paths, series carry the path of the request.
func New(registry prometheus.Registerer, prefix string, paths bool) *Metrics {
	labels := []string{"service", "handler", "method", "code"}
	return &Metrics{
		paths: paths,
		duration: register(registry, prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: prefix, Subsystem: "http", Name: "request_duration_seconds", Help: "The latency of the HTTP requests.", Buckets: prometheus.DefBuckets,
		}, labels)),
		size: register(registry, prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: prefix, Subsystem: "http", Name: "response_size_bytes", Help: "The size of the HTTP responses.",
			Buckets: prometheus.ExponentialBuckets(100, 10, 8),
		}, labels)),
		inflight: register(registry, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: prefix, Subsystem: "http", Name: "requests_inflight", Help: "The number of requests being handled at the same time.",
		}, []string{"service", "handler"})),
	}
}

func register[C prometheus.Collector](registry prometheus.Registerer, c C) C {
	if err := registry.Register(c); err != nil {
		if known, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
			if existing, ok := known.ExistingCollector.(C); ok {
				return existing
			}
		}
	}
	return c
}

// Wrap measures a handler.
func (m *Metrics) Wrap(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler := constantHandler
		if m.paths {
			handler = r.URL.Path
		}
		m.inflight.WithLabelValues("", handler).Inc()
		defer m.inflight.WithLabelValues("", handler).Dec()
		seen, start := &recorder{ResponseWriter: w, code: http.StatusOK}, time.Now()
		h.ServeHTTP(seen, r)
		code, method := strconv.Itoa(seen.code), known(r.Method)
		m.duration.WithLabelValues("", handler, method, code).Observe(time.Since(start).Seconds())
		m.size.WithLabelValues("", handler, method, code).Observe(float64(seen.size))
	})
}

// known bounds the methods that make series: a client may send any word.
func known(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	}
	return "other"
}

// recorder sees what a handler answers.
type recorder struct {
	http.ResponseWriter
	code, size int
}

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(code int) {
	r.code = code
	r.ResponseWriter.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (r *recorder) Write(data []byte) (int, error) {
	n, err := r.ResponseWriter.Write(data)
	r.size += n
	return n, err
}

// Unwrap lets http.ResponseController find what is below.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
