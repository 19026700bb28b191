package event

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/go-logr/logr"
)

const (
	defaultHTTPQueue = 1024
	tryTimeout       = 5 * time.Second
	// A receiver that answers with a server error is asked this often about one event.
	httpTries = 5
	// A receiver that does not answer at all says nothing about the event, so the event waits: long enough for a restart of the receiver,
	// not so long that news become history.
	defaultMaxAge = 5 * time.Minute
)

// HTTPOptions configure an HTTPSink. Address is required.
type HTTPOptions struct {
	// Address is where payloads are posted: an http or https URL (--events-addr).
	Address string
	// UserAgent of the requests.
	UserAgent string
	// Queue is how many payloads may wait; 0 means 1024.
	Queue int
	// MaxAge is how long a payload waits for a receiver that cannot be reached; 0 means five minutes.
	MaxAge time.Duration
	// Transport sends the requests; nil is a transport of the sink's own that honours the proxy environment.
	Transport http.RoundTripper
	Log       logr.Logger
	Metrics   *Metrics
}

// HTTPSink posts payloads as JSON to one address, one after another, in the background (_common 35). A try takes at most five seconds.
// HTTP 429 says that the receiver knows the event already: it is not repeated.
type HTTPSink struct {
	address   string
	userAgent string
	maxAge    time.Duration
	client    *http.Client
	queue     *queue[queued]
	log       logr.Logger
	metrics   *Metrics
}

type queued struct {
	payload Payload
	since   time.Time
}

// NewHTTPSink starts a sink; Shutdown ends it. It returns an error when the address is not an http or https URL.
func NewHTTPSink(o HTTPOptions) (*HTTPSink, error) {
	address, err := url.Parse(o.Address)
	if err != nil {
		// The error of net/url quotes the address, password included.
		return nil, errors.New("events address is not a URL: give http://host:port/")
	}
	if (address.Scheme != "http" && address.Scheme != "https") || address.Host == "" {
		return nil, fmt.Errorf("events address %q: give an http or https URL with a host", address.Redacted())
	}
	if o.Queue == 0 {
		o.Queue = defaultHTTPQueue
	}
	if o.MaxAge == 0 {
		o.MaxAge = defaultMaxAge
	}
	if o.Transport == nil {
		o.Transport = &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			MaxIdleConnsPerHost: 1,
			IdleConnTimeout:     time.Minute,
			ForceAttemptHTTP2:   true,
		}
	}
	s := &HTTPSink{
		address:   o.Address,
		userAgent: o.UserAgent,
		maxAge:    o.MaxAge,
		log:       o.Log.WithValues("receiver", address.Host),
		metrics:   o.Metrics,
		client: &http.Client{
			Transport: o.Transport,
			Timeout:   tryTimeout,
			// A redirected POST may arrive as a GET that is answered 200: an event lost without a trace.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	s.queue = startQueue(o.Queue, s.send)
	return s, nil
}

// Post implements Sink. A payload that finds the queue full is dropped and counted.
func (s *HTTPSink) Post(p Payload) {
	s.metrics.count(destinationHTTP, s.queue.offer(queued{payload: p, since: time.Now()}))
}

// Shutdown sends what is queued and ends the sink. When ctx ends first the rest is dropped and an error says how much.
func (s *HTTPSink) Shutdown(ctx context.Context) error {
	defer s.client.CloseIdleConnections()
	return s.queue.shutdown(ctx)
}

func (s *HTTPSink) send(ctx context.Context, q queued) {
	s.metrics.count(destinationHTTP, s.deliver(ctx, q))
}

func (s *HTTPSink) deliver(ctx context.Context, q queued) string {
	body, err := json.Marshal(q.payload)
	if err != nil {
		s.log.Error(err, "unable to encode event", "reason", q.payload.Reason)
		return resultRejected
	}
	var wait backoff
	failures := 0
	for ctx.Err() == nil {
		code, err := s.try(ctx, body)
		switch {
		case ctx.Err() != nil:
			return resultShutdown
		case err != nil:
			if time.Since(q.since) >= s.maxAge {
				return s.giveUp(q, err)
			}
		case code >= 200 && code < 300:
			return resultDelivered
		case code == http.StatusTooManyRequests:
			return resultDuplicate
		case code >= 500 || code == http.StatusRequestTimeout:
			if failures++; failures == httpTries {
				return s.giveUp(q, fmt.Errorf("receiver answers %d", code))
			}
		default:
			s.log.Error(nil, "receiver rejects event", "code", code, "reason", q.payload.Reason)
			return resultRejected
		}
		wait.pause(ctx)
	}
	return resultShutdown
}

func (s *HTTPSink) giveUp(q queued, err error) string {
	s.log.Error(err, "unable to send event", "reason", q.payload.Reason,
		"kind", q.payload.InvolvedObject.Kind, "namespace", q.payload.InvolvedObject.Namespace, "name", q.payload.InvolvedObject.Name)
	return resultGaveUp
}

// try makes one request. The errors it returns do not hold the address, which may carry credentials.
func (s *HTTPSink) try(ctx context.Context, body []byte) (int, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.address, bytes.NewReader(body))
	if err != nil {
		return 0, errors.New("build request for the events address")
	}
	request.Header.Set("Content-Type", "application/json")
	if s.userAgent != "" {
		request.Header.Set("User-Agent", s.userAgent)
	}
	response, err := s.client.Do(request)
	if err != nil {
		if inner, ok := errors.AsType[*url.Error](err); ok {
			err = inner.Err
		}
		return 0, err
	}
	defer response.Body.Close()
	// A drained body lets the connection be used again; a receiver has nothing long to say.
	_, _ = io.CopyN(io.Discard, response.Body, 4096)
	return response.StatusCode, nil
}
