package auth

import "github.com/prometheus/client_golang/prometheus"

// Values of the label event_type.
const (
	cacheHit  = "cache_hit"
	cacheMiss = "cache_miss"
)

// metrics are the gotk_token_cache_* series (contract: wire 10).
type metrics struct {
	events    *prometheus.CounterVec
	items     prometheus.Gauge
	requests  *prometheus.CounterVec
	evictions prometheus.Counter
}

func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gotk_token_cache_events_total",
			Help: "How often an object found its credential in the cache, or did not.",
		}, []string{"event_type", "kind", "name", "namespace", "operation"}),
		items: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "gotk_token_cached_items",
			Help: "The number of credentials in the cache.",
		}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gotk_token_cache_requests_total",
			Help: "The number of requests for credentials, by success or failure.",
		}, []string{"status"}),
		evictions: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gotk_token_cache_evictions_total",
			Help: "The number of credentials that left the cache for lack of room.",
		}),
	}
	if registry == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.events, m.items, m.requests, m.evictions} {
		if err := registry.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// event counts for an object; a request for none has no series.
func (m *metrics) event(what string, r Request) {
	if r.Kind != "" {
		m.events.WithLabelValues(what, r.Kind, r.Name, r.Namespace, r.Operation).Inc()
	}
}

func (m *metrics) request(err error) {
	status := "success"
	if err != nil {
		status = "failure"
	}
	m.requests.WithLabelValues(status).Inc()
}

func (m *metrics) forget(kind, namespace, name string) {
	m.events.DeletePartialMatch(prometheus.Labels{"kind": kind, "namespace": namespace, "name": name})
}
