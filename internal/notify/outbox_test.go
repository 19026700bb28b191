package notify

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/seed-79636ae9/flux/toolkit/event"
)

func jobFor(provider, object string, s event.Severity) *job {
	p := payload(severity(s))
	p.InvolvedObject.Name = object
	return &job{provider: types.NamespacedName{Namespace: "prod", Name: provider}, payload: p}
}

// counter counts what an outbox drops.
type counter struct {
	mu   sync.Mutex
	jobs []*job
}

func (c *counter) add(j *job) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.jobs = append(c.jobs, j)
}

func (c *counter) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.jobs)
}

// provider 48: a Provider that hangs delays no other, and what it cannot take is dropped, news before errors.
func TestOutboxHangingProvider(t *testing.T) {
	release := make(chan struct{})
	told := make(chan string, 4*laneLength)
	var dropped counter
	o := newOutbox(func(ctx context.Context, j *job) {
		if j.provider.Name == "hangs" {
			<-release
		}
		told <- j.provider.Name + " " + string(j.payload.Severity)
	}, dropped.add)
	for range laneLength + 2 {
		o.put(jobFor("hangs", "app", event.Info))
	}
	o.put(jobFor("healthy", "app", event.Info))
	if got := <-told; got != "healthy info" {
		t.Errorf("told %q first", got)
	}
	before := dropped.len()
	if before == 0 {
		t.Fatal("a lane without end")
	}
	o.put(jobFor("hangs", "app", event.Error))
	if got := dropped.len(); got != before+1 || dropped.jobs[got-1].payload.Severity != event.Info {
		t.Errorf("an error had to go before news: %d dropped", got)
	}
	o.put(jobFor("hangs", "app", event.Info))
	if got := dropped.len(); got != before+2 {
		t.Errorf("%d dropped", got)
	}
	close(release)
	if err := o.shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	close(told)
	failures := 0
	for line := range told {
		if line == "hangs error" {
			failures++
		}
	}
	if failures != 1 {
		t.Errorf("%d errors were told, want 1", failures)
	}
	if o.put(jobFor("healthy", "app", event.Error)); dropped.len() != before+3 {
		t.Error("a closed outbox takes jobs")
	}
}

// Events of one object are told in their order.
func TestOutboxOrder(t *testing.T) {
	var mu sync.Mutex
	seen := map[string][]string{}
	o := newOutbox(func(_ context.Context, j *job) {
		mu.Lock()
		defer mu.Unlock()
		name := j.payload.InvolvedObject.Name
		seen[name] = append(seen[name], j.payload.Message)
	}, func(*job) { t.Error("dropped") })
	var want []string
	for i := range 50 {
		want = append(want, fmt.Sprint(i))
		for object := range 10 {
			j := jobFor("p", fmt.Sprint("app-", object), event.Info)
			j.payload.Message = fmt.Sprint(i)
			o.put(j)
		}
	}
	if err := o.shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(seen) != 10 {
		t.Errorf("told of %d objects", len(seen))
	}
	for name, got := range seen {
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// Memory is bounded whatever the number of Providers.
func TestOutboxBytes(t *testing.T) {
	var dropped counter
	block := make(chan struct{})
	o := newOutbox(func(context.Context, *job) { <-block }, dropped.add)
	message := strings.Repeat("x", event.MaxPayloadMessage)
	const n = 3 * outboxBytes / event.MaxPayloadMessage
	for i := range n {
		j := jobFor(fmt.Sprint("p", i%100), fmt.Sprint("app-", i), event.Info)
		j.payload.Message = message
		o.put(j)
	}
	o.mu.Lock()
	held := o.bytes
	o.mu.Unlock()
	if held > outboxBytes || dropped.len() < n/2 {
		t.Errorf("%d bytes are held, %d of %d dropped", held, dropped.len(), n)
	}
	close(block)
	if err := o.shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if o.bytes != 0 || o.queued() != 0 {
		t.Errorf("%d bytes and %d jobs are left", o.bytes, o.queued())
	}
}

// A shutdown that runs out of time ends what is under way, and tells how much was left.
func TestOutboxShutdownReports(t *testing.T) {
	var dropped counter
	begun := make(chan struct{})
	o := newOutbox(func(ctx context.Context, _ *job) {
		close(begun)
		<-ctx.Done()
	}, dropped.add)
	for range 4 {
		o.put(jobFor("p", "app", event.Info))
	}
	<-begun
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := o.shutdown(ctx)
	if err == nil || !strings.Contains(err.Error(), "3 still waited") {
		t.Errorf("error = %v", err)
	}
	if dropped.len() != 3 {
		t.Errorf("%d dropped", dropped.len())
	}
}
