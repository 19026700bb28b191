package notify

import (
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"
)

// What became of a notification.
const (
	sentResult    = "sent"
	failedResult  = "failed"
	droppedResult = "dropped" // no room, or no time before the process ended
)

// Metrics counts notifications per Alert: sent, failed, dropped.
type Metrics struct {
	notifications *prometheus.CounterVec
}

// NewMetrics registers the counter flux_notifications_total. It returns an error when the registry holds it already.
func NewMetrics(registry prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{notifications: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "flux_notifications_total",
		Help: "Notifications of an Alert and what became of them; failed and dropped ones are lost.",
	}, []string{"name", "namespace", "provider", "result"})}
	return m, registry.Register(m.notifications)
}

// count does nothing on nil Metrics.
func (m *Metrics) count(alert types.NamespacedName, provider, result string) {
	if m != nil {
		m.notifications.WithLabelValues(alert.Name, alert.Namespace, provider, result).Inc()
	}
}

// forget drops the series of an Alert that is gone.
func (m *Metrics) forget(alert types.NamespacedName) {
	if m != nil {
		m.notifications.DeletePartialMatch(prometheus.Labels{"name": alert.Name, "namespace": alert.Namespace})
	}
}
