package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
)

// Defaults of RemoteOptions.
const (
	DefaultRemoteTimeout     = time.Minute
	DefaultRemoteAnswerBytes = 64 << 20
	// DefaultRemoteSlow is how long a request may take before it counts as slow.
	DefaultRemoteSlow = 3 * time.Second
)

// RemoteOptions bound what the API server of another cluster may cost.
type RemoteOptions struct {
	// Timeout is how long an answer may take, that of a watch until it begins; 0 means DefaultRemoteTimeout.
	Timeout time.Duration
	// Slow is how long a request may take before the function of WhenSlow is called; 0 means DefaultRemoteSlow.
	Slow time.Duration
	// AnswerBytes bounds each answer, unpacked; 0 means DefaultRemoteAnswerBytes. The frames of a watch are bounded by client-go.
	AnswerBytes int64
	// Token returns the bearer token of each request; nil: the configuration has the credentials.
	Token func(context.Context) (string, error)
	// UserAgent of the requests.
	UserAgent string
	// Clock may be replaced by a test.
	Clock clock.PassiveClock
}

// Remote returns a copy of config for a cluster that somebody else runs: its answers begin in time and have an end, and redirects,
// which would take the credentials along, are errors.
func Remote(config *rest.Config, o RemoteOptions) *rest.Config {
	if o.Timeout == 0 {
		o.Timeout = DefaultRemoteTimeout
	}
	if o.AnswerBytes == 0 {
		o.AnswerBytes = DefaultRemoteAnswerBytes
	}
	if o.Slow == 0 {
		o.Slow = DefaultRemoteSlow
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	c := Config(config, o.UserAgent)
	p := &pulse{clock: o.Clock}
	c.Wrap(func(next http.RoundTripper) http.RoundTripper { return &remoteTransport{o, p, next} })
	return c
}

// ErrSlow is the cause of a request that was given up because the API server did not begin to answer.
var ErrSlow = errors.New("the API server does not answer")

// silence is how long nothing more is asked of an API server that did not answer: the objects of a run would wait for it one after the
// other.
const silence = 10 * time.Second

// pulse is what the requests of all clients tell of one API server.
type pulse struct {
	clock clock.PassiveClock

	mu       sync.Mutex // guards what follows
	answered time.Time
	until    time.Time
}

// silent reports whether the server is to be left alone.
func (p *pulse) silent() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.clock.Now().Before(p.until)
}

func (p *pulse) beat() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answered, p.until = p.clock.Now(), time.Time{}
}

// missed notes that a request of that time was given up. If another one was answered since, it is that request which is slow, and not
// the server.
func (p *pulse) missed(asked time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.answered.Before(asked) {
		p.until = p.clock.Now().Add(silence)
	}
}

type remoteTransport struct {
	o     RemoteOptions
	pulse *pulse
	next  http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (t *remoteTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if t.pulse.silent() {
		return nil, fmt.Errorf("%w, and is asked again within %s", ErrSlow, silence)
	}
	x := t.begin(r.Context())
	answer, err := t.send(r.WithContext(x.ctx))
	if err != nil {
		err = x.explain(err)
		x.end()
		return nil, err
	}
	t.pulse.beat()
	endless := r.URL.Query().Get("watch") == "true" || r.URL.Query().Get("watch") == "1"
	if endless && !x.begun() {
		_ = answer.Body.Close()
		err = x.explain(context.Canceled)
		x.end()
		return nil, err
	}
	answer.Body = &remoteBody{ReadCloser: answer.Body, call: x, endless: endless, limit: t.o.AnswerBytes, left: t.o.AnswerBytes}
	return answer, nil
}

func (t *remoteTransport) send(r *http.Request) (*http.Response, error) {
	if t.o.Token != nil {
		token, err := t.o.Token(r.Context())
		if err != nil {
			return nil, err
		}
		// A RoundTripper must not change the request it is given; this one is the copy of the caller.
		r.Header = r.Header.Clone()
		r.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := t.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode >= 300 && answer.StatusCode < 400 && answer.Header.Get("Location") != "" {
		_ = answer.Body.Close()
		return nil, fmt.Errorf("the API server answers %d, a redirect, which is not followed: use its own address", answer.StatusCode)
	}
	return answer, nil
}

// remoteCall is one request and its answer.
type remoteCall struct {
	t      *remoteTransport
	ctx    context.Context
	cancel context.CancelCauseFunc
	asked  time.Time
	limit  *time.Timer
	slow   func()
}

func (t *remoteTransport) begin(ctx context.Context) *remoteCall {
	x := &remoteCall{t: t, asked: t.o.Clock.Now(), slow: watchSlow(ctx, t.o.Slow)}
	x.ctx, x.cancel = context.WithCancelCause(ctx)
	x.limit = time.AfterFunc(t.o.Timeout, func() { x.cancel(fmt.Errorf("%w within %s", ErrSlow, t.o.Timeout)) })
	return x
}

// begun lets a watch go on for as long as it wants; false: it came too late.
func (x *remoteCall) begun() bool {
	x.slow()
	return x.limit.Stop()
}

// explain puts the cause in the place of an error that only tells of the end of the context.
func (x *remoteCall) explain(err error) error {
	if cause := context.Cause(x.ctx); errors.Is(cause, ErrSlow) {
		x.t.pulse.missed(x.asked)
		return cause
	}
	return err
}

func (x *remoteCall) end() {
	x.limit.Stop()
	x.cancel(nil)
	x.slow()
}

// remoteBody bounds an answer and ends its call when it is closed.
type remoteBody struct {
	io.ReadCloser
	call        *remoteCall
	endless     bool
	limit, left int64
	closed      sync.Once
}

func (b *remoteBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.endless {
		return n, err
	}
	if b.left -= int64(n); b.left < 0 {
		return 0, fmt.Errorf("the answer of the API server has more than %d bytes", b.limit)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.call.explain(err)
	}
	return n, err
}

func (b *remoteBody) Close() error {
	defer b.closed.Do(b.call.end)
	return b.ReadCloser.Close()
}

type slowKey struct{}

// WhenSlow returns a context for requests to other clusters: when one takes long, begin is called, and what it returns is called when the
// request has ended, which then waits for it. begin must not block. A nil begin takes that back.
func WhenSlow(ctx context.Context, begin func() (end func())) context.Context {
	return context.WithValue(ctx, slowKey{}, begin)
}

// watchSlow watches one request until the function that it returns is called.
func watchSlow(ctx context.Context, after time.Duration) (done func()) {
	begin, _ := ctx.Value(slowKey{}).(func() func())
	if begin == nil {
		return func() {}
	}
	var mu sync.Mutex
	var end func()
	over := false
	timer := time.AfterFunc(after, func() {
		mu.Lock()
		defer mu.Unlock()
		if !over {
			end = begin()
		}
	})
	return func() {
		timer.Stop()
		mu.Lock()
		over = true
		finish := end
		end = nil
		mu.Unlock()
		if finish != nil {
			finish()
		}
	}
}
