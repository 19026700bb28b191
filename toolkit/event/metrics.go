package event

import "github.com/prometheus/client_golang/prometheus"

// What became of an event at one destination.
const (
	resultQueued    = ""           // not final, not counted
	resultDelivered = "delivered"  // accepted by the receiver
	resultDuplicate = "duplicate"  // the receiver has seen it lately (HTTP 429)
	resultFiltered  = "filtered"   // repeated too often to be worth a write
	resultRejected  = "rejected"   // the receiver refuses it for good
	resultGaveUp    = "gave_up"    // the receiver failed too often or was gone too long
	resultQueueFull = "queue_full" // dropped: the queue had no room
	resultShutdown  = "shutdown"   // dropped: the process ends
)

const (
	destinationHTTP       = "http"
	destinationLocal      = "local"
	destinationKubernetes = "kubernetes"
)

// Metrics counts events per destination ("http", "local", "kubernetes") and result: delivered, duplicate, filtered, rejected, gave_up,
// queue_full, shutdown. The last three are losses.
type Metrics struct {
	events *prometheus.CounterVec
}

// NewMetrics registers the counter flux_events_total. It returns an error when the registry holds it already.
func NewMetrics(registry prometheus.Registerer) (*Metrics, error) {
	events := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "flux_events_total",
		Help: "Events by destination and what became of them; gave_up, queue_full and shutdown are lost.",
	}, []string{"destination", "result"})
	if err := registry.Register(events); err != nil {
		return nil, err
	}
	return &Metrics{events: events}, nil
}

// count does nothing on a nil Metrics, so that a sink needs no registry.
func (m *Metrics) count(destination, result string) {
	if m == nil || result == resultQueued {
		return
	}
	m.events.WithLabelValues(destination, result).Inc()
}
