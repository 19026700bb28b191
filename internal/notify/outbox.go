package notify

import (
	"context"
	"fmt"
	"hash/fnv"
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"github.com/seed-79636ae9/flux/toolkit/event"
)

const (
	// lanes is how many events one Provider is told at once. Events of one object go one after another, so that what was true first is
	// told first.
	lanes = 4
	// laneLength is how many events wait in a lane.
	laneLength = 256
	// outboxBytes bounds what waits for all Providers together.
	outboxBytes = 64 << 20
)

// job is an event on its way to a Provider.
type job struct {
	alert, provider types.NamespacedName
	payload         event.Payload
}

// size is roughly what the job holds in memory.
func (j *job) size() int {
	n := 512 + len(j.payload.Message)
	for key, value := range j.payload.Metadata {
		n += len(key) + len(value)
	}
	return n
}

// laneKey is a lane of a Provider.
type laneKey struct {
	provider types.NamespacedName
	lane     uint32
}

// outbox holds the events that wait for their Providers. A Provider that hangs fills its own lanes and delays nobody else. What has no
// room is dropped, news before errors, and never blocks whoever puts it.
type outbox struct {
	send    func(context.Context, *job)
	dropped func(*job)

	ctx    context.Context // ends when a shutdown ran out of time
	cancel context.CancelFunc

	mu      sync.Mutex // guards what follows
	waiting map[laneKey][]*job
	bytes   int
	closed  bool
	idle    *sync.Cond // no lane is left
}

func newOutbox(send func(context.Context, *job), dropped func(*job)) *outbox {
	o := &outbox{send: send, dropped: dropped, waiting: map[laneKey][]*job{}}
	o.ctx, o.cancel = context.WithCancel(context.Background())
	o.idle = sync.NewCond(&o.mu)
	return o
}

// put queues a job. Jobs that have to go are told to dropped.
func (o *outbox) put(j *job) {
	for _, lost := range o.take(j) {
		o.dropped(lost)
	}
}

// take queues the job and returns what had no room.
func (o *outbox) take(j *job) (lost []*job) {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(objectOf(&j.payload)))
	key := laneKey{j.provider, hash.Sum32() % lanes}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return []*job{j}
	}
	queue, running := o.waiting[key]
	if len(queue) >= laneLength || o.bytes+j.size() > outboxBytes {
		victim := leastImportant(queue)
		if victim < 0 || j.payload.Severity != event.Error {
			return []*job{j}
		}
		lost = append(lost, queue[victim])
		o.bytes -= queue[victim].size()
		queue = append(queue[:victim:victim], queue[victim+1:]...)
	}
	o.waiting[key] = append(queue, j)
	o.bytes += j.size()
	if !running {
		go o.run(key)
	}
	return lost
}

// leastImportant is the oldest job that is no error; -1: all are.
func leastImportant(queue []*job) int {
	for i, j := range queue {
		if j.payload.Severity != event.Error {
			return i
		}
	}
	return -1
}

// run sends what waits in a lane until nothing does.
func (o *outbox) run(key laneKey) {
	for {
		o.mu.Lock()
		queue := o.waiting[key]
		if len(queue) == 0 {
			delete(o.waiting, key)
			if len(o.waiting) == 0 {
				o.idle.Broadcast()
			}
			o.mu.Unlock()
			return
		}
		j := queue[0]
		queue[0] = nil
		o.waiting[key] = queue[1:]
		o.bytes -= j.size()
		o.mu.Unlock()
		if o.ctx.Err() != nil {
			o.dropped(j)
			continue
		}
		o.send(o.ctx, j)
	}
}

// shutdown refuses new jobs and waits until the others are sent. When ctx ends first, what is left is dropped and an error tells how much.
func (o *outbox) shutdown(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		o.cancel()
		o.mu.Lock()
		defer o.mu.Unlock()
		o.idle.Broadcast()
	})
	defer stop()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	left := 0
	for len(o.waiting) > 0 {
		if ctx.Err() != nil && left == 0 {
			for _, queue := range o.waiting {
				left += len(queue)
			}
		}
		o.idle.Wait()
	}
	o.cancel()
	if left > 0 {
		return fmt.Errorf("telling Providers of events before shutdown: %d still waited: %w", left, context.Cause(ctx))
	}
	return nil
}

// queued is how many jobs wait.
func (o *outbox) queued() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for _, queue := range o.waiting {
		n += len(queue)
	}
	return n
}
