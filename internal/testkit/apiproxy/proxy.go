// Package apiproxy stands between a process under test and the Kubernetes API server. It logs every
// request, numbers the writes, and does what rules tell it to some of them: delay, refuse, hang,
// reset, hold, lose an answer, lose a watch event, or call back so that the test can kill the
// process at that very point.
package apiproxy

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/seed-79636ae9/flux/internal/testkit"
)

// Options of a proxy.
type Options struct {
	// Log receives one JSON line per request; nil for none.
	Log io.Writer
	// Capture says whose bodies to keep, request and answer; nil for none. Their answers are
	// forced to be JSON. Watches are never captured.
	Capture func(*Request) bool
	// Witness, when set, is told of each request before anything happens to it, so that it can look
	// at what the request is about to change. The request waits for it, and holds the body if captured.
	Witness func(context.Context, *Request)
	// HTTP2 lets clients speak HTTP/2. Resets then end a stream, not the connection.
	HTTP2 bool
}

// Proxy is a running proxy. Credentials of the client pass through.
type Proxy struct {
	// URL is the address to use instead of the API server's.
	URL string

	options Options
	ca      *testkit.CA
	config  *rest.Config
	server  *http.Server

	mu       sync.Mutex // guards the fields below and the log
	seq      int64
	writes   int64
	rules    []*Rule
	requests []*Request
}

// New starts a proxy in front of the API server of config.
func New(config *rest.Config, o Options) (*Proxy, error) {
	target, err := url.Parse(config.Host)
	if err != nil {
		return nil, fmt.Errorf("parsing the API server's address: %w", err)
	}
	tlsConfig, err := rest.TLSConfigFor(config)
	if err != nil {
		return nil, fmt.Errorf("reading the API server's TLS configuration: %w", err)
	}
	ca, err := testkit.NewCA()
	if err != nil {
		return nil, err
	}
	serverTLS, err := ca.ServerTLS()
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening for clients of the API server: %w", err)
	}
	p := &Proxy{URL: "https://" + listener.Addr().String(), options: o, ca: ca, config: config}
	reverse := &httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = target.Host },
		Transport:      &http.Transport{TLSClientConfig: tlsConfig, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 100},
		FlushInterval:  -1, // a watch event must not wait for the next
		ModifyResponse: p.answered,
		ErrorHandler:   p.failed,
		ErrorLog:       log.New(io.Discard, "", 0),
	}
	p.server = &http.Server{
		Handler:   http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.serve(reverse, w, r) }),
		TLSConfig: serverTLS,
		ErrorLog:  log.New(io.Discard, "", 0),
	}
	if !o.HTTP2 {
		p.server.Protocols = new(http.Protocols)
		p.server.Protocols.SetHTTP1(true)
	}
	go func() { _ = p.server.ServeTLS(listener, "", "") }()
	return p, nil
}

// Close ends the proxy and every request in flight.
func (p *Proxy) Close() { _ = p.server.Close() }

// Add puts rules in force and forgets nothing of those before. Of the rules that hit a request the first wins.
func (p *Proxy) Add(rules ...*Rule) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = append(p.rules, rules...)
}

// Clear removes all rules.
func (p *Proxy) Clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = nil
}

// Requests returns what has arrived with a sequence number above after.
func (p *Proxy) Requests(after int64) []Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []Request
	for _, r := range p.requests {
		if r.Seq > after {
			out = append(out, *r)
		}
	}
	return out
}

// Seq is the sequence number of the latest request.
func (p *Proxy) Seq() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seq
}

// Count tallies requests by "verb resource[/subresource]".
func Count(requests []Request) map[string]int {
	counts := map[string]int{}
	for i := range requests {
		r := requests[i]
		r.Name, r.Namespace = "", ""
		counts[r.String()]++
	}
	return counts
}

// WriteKubeconfig writes a kubeconfig that leads through the proxy, with the same credentials.
func (p *Proxy) WriteKubeconfig(path string) error {
	token := p.config.BearerToken
	if token == "" && p.config.BearerTokenFile != "" {
		b, err := os.ReadFile(p.config.BearerTokenFile)
		if err != nil {
			return fmt.Errorf("reading the token: %w", err)
		}
		token = string(bytes.TrimSpace(b))
	}
	c := clientcmdapi.NewConfig()
	c.Clusters["proxy"] = &clientcmdapi.Cluster{Server: p.URL, CertificateAuthorityData: p.ca.PEM}
	c.AuthInfos["proxy"] = &clientcmdapi.AuthInfo{Token: token}
	c.Contexts["proxy"] = &clientcmdapi.Context{Cluster: "proxy", AuthInfo: "proxy"}
	c.CurrentContext = "proxy"
	if err := clientcmd.WriteToFile(*c, path); err != nil {
		return fmt.Errorf("writing the kubeconfig: %w", err)
	}
	return nil
}

// exchange is one request on its way.
type exchange struct {
	record  *Request
	fault   *Fault
	capture bool
}

type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

func (p *Proxy) serve(next http.Handler, w http.ResponseWriter, h *http.Request) {
	x := p.arrive(h)
	// Whatever happens below, a panic that drops the connection included, the request is logged.
	defer p.finish(x)
	if x.capture {
		body, err := io.ReadAll(h.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		h.Body = io.NopCloser(bytes.NewReader(body))
		p.keep(&x.record.Body, body)
	}
	if x.capture || x.fault != nil && x.fault.DropEvents != "" {
		// A client that asks for JSON in some shape, metadata alone say, still gets that shape.
		if !strings.HasPrefix(h.Header.Get("Accept"), "application/json") {
			h.Header.Set("Accept", "application/json")
		}
		h.Header.Del("Accept-Encoding")
	}
	if p.options.Witness != nil {
		p.options.Witness(h.Context(), x.record)
	}
	if x.fault != nil {
		p.inject(x, w, h)
		if x.record.Code != 0 {
			return
		}
	}
	ctx := context.WithValue(h.Context(), exchangeKey{}, x)
	if x.fault != nil && x.fault.EndAfter > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, x.fault.EndAfter)
		defer cancel()
	}
	next.ServeHTTP(w, h.WithContext(ctx))
}

// arrive parses and numbers a request and finds the rule that hits it.
func (p *Proxy) arrive(h *http.Request) *exchange {
	r := parse(h)
	r.Time = time.Now().UTC()
	x := &exchange{record: r}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seq++
	r.Seq = p.seq
	if r.IsWrite() {
		p.writes++
		r.Write = p.writes
	}
	p.requests = append(p.requests, r)
	for _, rule := range p.rules {
		if rule.Match.matches(r) && (rule.When == nil || rule.When(r)) && rule.hits() && x.fault == nil {
			x.fault = &rule.Fault
			r.Fault = rule.Fault.Name()
		}
	}
	x.capture = p.options.Capture != nil && r.Verb != "watch" && p.options.Capture(r)
	return x
}

// inject does the part of a fault that comes before the API server. It sets the code when it answered.
func (p *Proxy) inject(x *exchange, w http.ResponseWriter, h *http.Request) {
	f := x.fault
	if f.Delay > 0 {
		select {
		case <-time.After(f.Delay):
		case <-h.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
	if f.Hold != nil {
		select {
		case <-f.Hold:
		case <-h.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
	switch {
	case f.Before != nil:
		f.Before(x.record)
		panic(http.ErrAbortHandler)
	case f.Status != 0:
		p.refuse(x, w)
	case f.Hang:
		<-h.Context().Done()
		panic(http.ErrAbortHandler)
	case f.Reset:
		panic(http.ErrAbortHandler)
	}
}

// refuse answers as the API server does when it refuses.
func (p *Proxy) refuse(x *exchange, w http.ResponseWriter) {
	f := x.fault
	status := metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusFailure, Code: int32(f.Status), Reason: reason(f.Status),
		Message: "refused by the test: " + http.StatusText(f.Status),
	}
	w.Header().Set("Content-Type", "application/json")
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(f.RetryAfter))
		status.Details = &metav1.StatusDetails{RetryAfterSeconds: int32(f.RetryAfter)}
	}
	p.setCode(x, f.Status)
	w.WriteHeader(f.Status)
	_ = json.NewEncoder(w).Encode(status)
}

func reason(code int) metav1.StatusReason {
	switch code {
	case http.StatusTooManyRequests:
		return metav1.StatusReasonTooManyRequests
	case http.StatusConflict:
		return metav1.StatusReasonConflict
	case http.StatusForbidden:
		return metav1.StatusReasonForbidden
	case http.StatusNotFound:
		return metav1.StatusReasonNotFound
	case http.StatusServiceUnavailable:
		return metav1.StatusReasonServiceUnavailable
	case http.StatusInternalServerError:
		return metav1.StatusReasonInternalError
	case http.StatusGatewayTimeout:
		return metav1.StatusReasonTimeout
	case http.StatusGone:
		return metav1.StatusReasonExpired
	default:
		return metav1.StatusReasonUnknown
	}
}

// answered does the part of a fault that comes after the API server.
func (p *Proxy) answered(resp *http.Response) error {
	x := exchangeOf(resp.Request.Context())
	if x.capture {
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return fmt.Errorf("reading the answer: %w", err)
		}
		resp.Body.Close()
		resp.Body = io.NopCloser(bytes.NewReader(body))
		p.keep(&x.record.Answer, body)
	}
	if f := x.fault; f != nil {
		if f.After != nil {
			f.After(x.record)
		}
		if f.After != nil || f.ResetAnswer {
			return errDropped
		}
		if f.EndAfter > 0 {
			resp.Body = &ending{resp.Body}
		}
		if f.DropEvents != "" && resp.StatusCode == http.StatusOK && x.record.Verb == "watch" {
			resp.Body = filterEvents(resp.Body, f)
			resp.ContentLength = -1
		}
	}
	p.setCode(x, resp.StatusCode)
	return nil
}

// errDropped makes the error handler drop the connection.
var errDropped = errors.New("the answer is dropped")

// failed drops the connection: a client of a broken API server sees no polite answer either.
func (p *Proxy) failed(w http.ResponseWriter, r *http.Request, _ error) {
	if x, ok := r.Context().Value(exchangeKey{}).(*exchange); ok && x.fault != nil && x.fault.EndAfter > 0 {
		// The time was over before the answer began: a watch without events.
		w.WriteHeader(http.StatusOK)
		return
	}
	panic(http.ErrAbortHandler)
}

// keep stores a captured body. One that is no JSON cannot stand in the log.
func (p *Proxy) keep(into *json.RawMessage, body []byte) {
	if !json.Valid(body) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	*into = body
}

func (p *Proxy) setCode(x *exchange, code int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	x.record.Code = code
	x.record.Millis = float64(time.Since(x.record.Time).Microseconds()) / 1000
}

// finish writes the log line.
func (p *Proxy) finish(x *exchange) {
	if p.options.Log == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	line, err := json.Marshal(x.record)
	if err == nil {
		_, err = p.options.Log.Write(append(line, '\n'))
	}
	if err != nil {
		log.Printf("the API proxy could not write its log: %v", err)
	}
}

// ending turns the end of the time that a fault allows into the end of the answer: the client sees
// an orderly close, as when the API server's own limit of a watch is over.
type ending struct{ io.ReadCloser }

func (e *ending) Read(p []byte) (int, error) {
	n, err := e.ReadCloser.Read(p)
	if err != nil {
		// The transport may tell of the end before the context does.
		err = io.EOF
	}
	return n, err
}

// filterEvents copies a watch and leaves out the events that the fault drops.
func filterEvents(body io.ReadCloser, f *Fault) io.ReadCloser {
	reader, writer := io.Pipe()
	go func() {
		lines := bufio.NewReader(body)
		for {
			line, err := lines.ReadBytes('\n')
			if len(line) > 0 && !drops(f, line) {
				if _, werr := writer.Write(line); werr != nil {
					err = werr
				}
			}
			if err != nil {
				writer.CloseWithError(err)
				return
			}
		}
	}()
	return &filtered{PipeReader: reader, source: body}
}

// filtered closes the API server's side with the client's.
type filtered struct {
	*io.PipeReader
	source io.Closer
}

func (f *filtered) Close() error {
	return errors.Join(f.PipeReader.Close(), f.source.Close())
}

func drops(f *Fault, line []byte) bool {
	var event struct {
		Type   string `json:"type"`
		Object struct {
			Metadata struct {
				Name string `json:"name"`
			} `json:"metadata"`
		} `json:"object"`
	}
	if err := json.Unmarshal(line, &event); err != nil {
		return false
	}
	return (f.DropEvents == "*" || f.DropEvents == event.Type) && (f.EventName == "" || f.EventName == event.Object.Metadata.Name)
}
