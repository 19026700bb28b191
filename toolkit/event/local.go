package event

import "context"

// LocalOptions configure a LocalSink. Take is required.
type LocalOptions struct {
	// Take takes one payload; false: it knows the payload already. It may wait, but returns soon once ctx has ended.
	Take func(ctx context.Context, p Payload) bool
	// Queue is how many payloads may wait; 0 means 1024.
	Queue   int
	Metrics *Metrics
}

// LocalSink hands payloads to a receiver in the same process, one after another, in the background: a receiver that waits delays nobody
// who posts.
type LocalSink struct {
	queue   *queue[Payload]
	metrics *Metrics
}

// NewLocalSink starts a sink; Shutdown ends it.
func NewLocalSink(o LocalOptions) *LocalSink {
	if o.Queue == 0 {
		o.Queue = defaultHTTPQueue
	}
	s := &LocalSink{metrics: o.Metrics}
	s.queue = startQueue(o.Queue, func(ctx context.Context, p Payload) {
		switch taken := o.Take(ctx, p); {
		case taken:
			s.metrics.count(destinationLocal, resultDelivered)
		case ctx.Err() != nil:
			s.metrics.count(destinationLocal, resultShutdown)
		default:
			s.metrics.count(destinationLocal, resultDuplicate)
		}
	})
	return s
}

// Post implements Sink. A payload that finds the queue full is dropped and counted.
func (s *LocalSink) Post(p Payload) { s.metrics.count(destinationLocal, s.queue.offer(p)) }

// Shutdown hands over what is queued and ends the sink. When ctx ends first the rest is dropped and an error says how much.
func (s *LocalSink) Shutdown(ctx context.Context) error { return s.queue.shutdown(ctx) }
