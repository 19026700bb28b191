package loop

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the gotk_* series every kind shares (wire.md 10). One value serves all controllers of a process.
type Metrics struct {
	duration  *prometheus.HistogramVec
	condition *prometheus.GaugeVec
	suspend   *prometheus.GaugeVec
}

// NewMetrics declares the series and registers them; condition and suspend are declared, but as in 2.9 not recorded.
func NewMetrics(registry prometheus.Registerer) (*Metrics, error) {
	object := []string{"kind", "name", "namespace"}
	m := &Metrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "gotk_reconcile_duration_seconds",
			Help:    "The duration in seconds of a reconciliation.",
			Buckets: prometheus.ExponentialBucketsRange(0.01, 1800, 10),
		}, object),
		condition: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "gotk_reconcile_condition",
			Help: "The condition status of an object.",
		}, append(object[:3:3], "type", "status")),
		suspend: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "gotk_suspend_status",
			Help: "Whether an object is suspended.",
		}, object),
	}
	for _, c := range []prometheus.Collector{m.duration, m.condition, m.suspend} {
		if err := registry.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *Metrics) observe(kind, name, namespace string, d time.Duration) {
	if m != nil {
		m.duration.WithLabelValues(kind, name, namespace).Observe(d.Seconds())
	}
}

// forget drops the series of a deleted object, so that a cluster that creates and deletes objects does not grow them for ever.
func (m *Metrics) forget(kind, name, namespace string) {
	if m != nil {
		m.duration.DeleteLabelValues(kind, name, namespace)
	}
}
