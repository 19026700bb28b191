package testkit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
)

// maxBody bounds what the recording servers keep of one request, in bytes.
const maxBody = 3 << 20

// Files is a static file server. Below /auth/ the same files need Basic user:pass.
type Files struct {
	URL string

	server *httptest.Server
	mu     sync.RWMutex // guards files
	files  map[string][]byte
}

// NewFiles starts a file server without files.
func NewFiles() *Files {
	f := &Files{files: map[string][]byte{}}
	f.server = httptest.NewServer(f)
	f.URL = f.server.URL
	return f
}

// Close ends the server.
func (f *Files) Close() { f.server.Close() }

// Put serves content at the path, which is relative to the root.
func (f *Files) Put(path string, content []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.files[strings.Trim(path, "/")] = content
}

// ServeHTTP answers with the file.
func (f *Files) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.Trim(r.URL.Path, "/")
	if rest, ok := strings.CutPrefix(path, "auth/"); ok {
		if user, pass, _ := r.BasicAuth(); user != "user" || pass != "pass" {
			w.Header().Set("WWW-Authenticate", `Basic realm="files"`)
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
			return
		}
		path = rest
	}
	f.mu.RLock()
	content, ok := f.files[path]
	f.mu.RUnlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	// A failed write means that the client went away; there is nobody left to tell.
	_, _ = w.Write(content)
}

// Request is one request that a recording server received.
type Request struct {
	Method string
	// Path is the request URI: path and query.
	Path   string
	Header http.Header
	Body   []byte
}

// Sink plays the services that notifications go to, chat rooms and forges alike, over plain HTTP
// and over TLS, and remembers every request. It answers 200 "ok", except: paths containing /bad/
// get 400, paths containing /slackapi/ a refusal in Slack's manner, and forge calls what a forge
// would say.
type Sink struct {
	URL, TLSURL string

	plain, secure *httptest.Server
	mu            sync.Mutex // guards requests
	requests      []Request
}

// NewSink starts the plain server and one with a certificate of ca.
func NewSink(ca *CA) (*Sink, error) {
	config, err := ca.ServerTLS()
	if err != nil {
		return nil, err
	}
	s := &Sink{}
	s.plain = httptest.NewServer(s)
	s.secure = httptest.NewUnstartedServer(s)
	s.secure.TLS = config
	s.secure.StartTLS()
	s.URL, s.TLSURL = s.plain.URL, s.secure.URL
	return s, nil
}

// Close ends both servers.
func (s *Sink) Close() {
	s.plain.Close()
	s.secure.Close()
}

// Requests returns what has arrived since the first skip requests.
func (s *Sink) Requests(skip int) []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.requests[min(skip, len(s.requests)):]...)
}

// ServeHTTP records the request and answers in the role that its path names.
func (s *Sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.requests = append(s.requests, Request{Method: r.Method, Path: r.URL.RequestURI(), Header: r.Header.Clone(), Body: body})
	s.mu.Unlock()
	code, answer := sinkAnswer(r.Method, r.URL.Path)
	if strings.HasPrefix(answer, "{") || strings.HasPrefix(answer, "[") {
		w.Header().Set("Content-Type", "application/json")
	}
	w.WriteHeader(code)
	_, _ = io.WriteString(w, answer)
}

func sinkAnswer(method, path string) (int, string) {
	switch {
	case strings.Contains(path, "/bad/"):
		return http.StatusBadRequest, "bad request body"
	case strings.Contains(path, "/slackapi/"):
		return http.StatusOK, `{"ok":false,"error":"channel_not_found"}`
	case strings.HasSuffix(path, "/user"):
		return http.StatusOK, `{"login":"bot","id":1}`
	case strings.HasSuffix(path, "/api/v1/version"):
		return http.StatusOK, `{"version":"1.22.0"}`
	case !isForgePath(path):
		return http.StatusOK, "ok"
	case method == http.MethodGet:
		return http.StatusOK, "[]"
	default:
		return http.StatusCreated, `{"id":1,"state":"success","name":"status","sha":"","ref":"main"}`
	}
}

// isForgePath tells the status and comment calls of GitHub, GitLab and Gitea from everything else.
func isForgePath(path string) bool {
	for _, part := range []string{"/repos/", "/projects/"} {
		if strings.Contains(path, part) {
			return true
		}
	}
	return false
}

// Delivery is one event that was posted to an event endpoint, with the status code answered.
type Delivery struct {
	Event map[string]any
	Code  int
}

// EventEndpoint plays notification-controller's event server: 202, or 429 for an event whose key
// was seen before (alert 4; the rate limit interval of five minutes is longer than any test).
type EventEndpoint struct {
	URL string

	server     *httptest.Server
	mu         sync.Mutex // guards the fields below
	forward    string
	seen       map[string]bool
	deliveries []Delivery
}

// NewEventEndpoint starts the endpoint.
func NewEventEndpoint() *EventEndpoint {
	e := &EventEndpoint{seen: map[string]bool{}}
	e.server = httptest.NewServer(e)
	e.URL = e.server.URL
	return e
}

// Close ends the server.
func (e *EventEndpoint) Close() { e.server.Close() }

// Deliveries returns what was posted since the first skip deliveries, in order of arrival.
func (e *EventEndpoint) Deliveries(skip int) []Delivery {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]Delivery(nil), e.deliveries[min(skip, len(e.deliveries)):]...)
}

// Forward makes the endpoint a proxy that records: what is posted goes to the URL, whose answers count.
func (e *EventEndpoint) Forward(to string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.forward = to
}

// ServeHTTP takes one event.
func (e *EventEndpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var event map[string]any
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err == nil {
		err = json.Unmarshal(body, &event)
	}
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	e.mu.Lock()
	to := e.forward
	e.mu.Unlock()
	if to != "" {
		e.pass(w, r, to, body, event)
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	code, key := http.StatusAccepted, rateLimitKey(event)
	if e.seen[key] {
		code = http.StatusTooManyRequests
	}
	e.seen[key] = true
	e.deliveries = append(e.deliveries, Delivery{Event: event, Code: code})
	w.WriteHeader(code)
}

// pass hands an event on, and the answer back.
func (e *EventEndpoint) pass(w http.ResponseWriter, r *http.Request, to string, body []byte, event map[string]any) {
	request, err := http.NewRequestWithContext(r.Context(), r.Method, to, bytes.NewReader(body))
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	request.Header = r.Header.Clone()
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		// The controller starts later than those who post: they try again.
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer answer.Body.Close()
	e.mu.Lock()
	e.deliveries = append(e.deliveries, Delivery{Event: event, Code: answer.StatusCode})
	e.mu.Unlock()
	w.WriteHeader(answer.StatusCode)
}

// rateLimitKey is what makes two events the same one to the rate limiter (alert 4). Severity and
// reason are no part of it.
func rateLimitKey(event map[string]any) string {
	object, _ := event["involvedObject"].(map[string]any)
	metadata, _ := event["metadata"].(map[string]any)
	apiVersion, _ := object["apiVersion"].(string)
	group, _, _ := strings.Cut(apiVersion, "/")
	parts := []any{object["name"], object["namespace"], object["kind"], event["message"]}
	for _, key := range []string{"originRevision", "revision", "token"} {
		parts = append(parts, metadata[group+"/"+key])
	}
	return fmt.Sprintf("%q", parts)
}
