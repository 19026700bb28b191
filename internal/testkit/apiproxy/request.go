package apiproxy

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// Request is one request that went through the proxy, and one line of its log.
type Request struct {
	// Time is when it arrived; Seq numbers requests in that order, from 1.
	Time time.Time `json:"ts"`
	Seq  int64     `json:"seq"`
	// Write numbers the requests that change the cluster, from 1; zero for all others.
	Write int64 `json:"write,omitempty"`

	// Method is the HTTP method, Verb what it means to Kubernetes: get, list, watch, create,
	// update, patch, apply, delete, deletecollection, or "" outside of the resource API.
	Method      string `json:"verb"`
	Verb        string `json:"op,omitempty"`
	Path        string `json:"path,omitempty"`
	Group       string `json:"group,omitempty"`
	Version     string `json:"version,omitempty"`
	Resource    string `json:"res,omitempty"`
	Subresource string `json:"sub,omitempty"`
	Namespace   string `json:"ns,omitempty"`
	Name        string `json:"name,omitempty"`
	DryRun      bool   `json:"dryRun,omitempty"`

	Manager     string `json:"manager,omitempty"`
	UserAgent   string `json:"ua,omitempty"`
	Impersonate string `json:"impersonate,omitempty"`

	// Code is the status code answered; zero when the connection was dropped.
	Code int `json:"code"`
	// Millis is how long the answer took.
	Millis float64 `json:"ms"`
	// Fault names what the proxy did to it.
	Fault string `json:"fault,omitempty"`

	// Body and Answer are the JSON bodies of captured requests.
	Body   json.RawMessage `json:"body,omitempty"`
	Answer json.RawMessage `json:"answer,omitempty"`
}

// IsWrite tells requests that change the cluster. Dry-runs, leases, events and access reviews do not count.
func (r *Request) IsWrite() bool {
	if r.DryRun || r.Resource == "" {
		return false
	}
	switch r.Verb {
	case "create", "update", "patch", "apply", "delete", "deletecollection":
	default:
		return false
	}
	switch r.Group {
	case "coordination.k8s.io", "authorization.k8s.io", "authentication.k8s.io":
		return false
	}
	return r.Resource != "events"
}

// String names the request in messages.
func (r *Request) String() string {
	s := r.Verb + " " + r.Resource
	if r.Verb == "" {
		s = r.Method + " " + r.Path
	}
	if r.Subresource != "" {
		s += "/" + r.Subresource
	}
	if r.Name != "" {
		s += " " + strings.Trim(r.Namespace+"/"+r.Name, "/")
	}
	return s
}

// parse reads what the URL and the headers of an API request say.
func parse(h *http.Request) *Request {
	query := h.URL.Query()
	r := &Request{
		Method: h.Method, UserAgent: h.UserAgent(), Impersonate: h.Header.Get("Impersonate-User"),
		DryRun: query.Get("dryRun") == "All", Manager: query.Get("fieldManager"),
	}
	parts := strings.Split(strings.Trim(h.URL.Path, "/"), "/")
	switch {
	case parts[0] == "api" && len(parts) > 2:
		r.Version, parts = parts[1], parts[2:]
	case parts[0] == "apis" && len(parts) > 3:
		r.Group, r.Version, parts = parts[1], parts[2], parts[3:]
	default:
		r.Path = h.URL.Path
		return r
	}
	// The namespace itself is a resource too: /namespaces/x has no third part but a subresource.
	if parts[0] == "namespaces" && len(parts) > 2 && parts[2] != "finalize" && parts[2] != "status" {
		r.Namespace, parts = parts[1], parts[2:]
	}
	r.Resource = parts[0]
	if len(parts) > 1 {
		r.Name = parts[1]
	}
	if len(parts) > 2 {
		r.Subresource = strings.Join(parts[2:], "/")
	}
	r.Verb = verb(h, r.Name, query.Get("watch"))
	return r
}

func verb(h *http.Request, name, watch string) string {
	switch h.Method {
	case http.MethodGet, http.MethodHead:
		if watch == "true" || watch == "1" {
			return "watch"
		}
		if name == "" {
			return "list"
		}
		return "get"
	case http.MethodPost:
		return "create"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		if strings.HasPrefix(h.Header.Get("Content-Type"), "application/apply-patch") {
			return "apply"
		}
		return "patch"
	case http.MethodDelete:
		if name == "" {
			return "deletecollection"
		}
		return "delete"
	}
	return ""
}
