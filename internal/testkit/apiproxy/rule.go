package apiproxy

import (
	"net/http"
	"strings"
	"time"
)

// Match says which requests a rule is about. An empty field matches anything.
type Match struct {
	// Verb is a Kubernetes verb, or "write" for every request that changes the cluster.
	Verb string
	// Group, Resource, Namespace and Name are exact; the core group is "core".
	Group, Resource, Namespace, Name string
	// Subresource is exact; "none" matches requests without one.
	Subresource string
	// DryRun, when set, must be equal.
	DryRun *bool
	// UserAgent is a prefix.
	UserAgent string
}

func (m Match) matches(r *Request) bool {
	is := func(want, got string) bool { return want == "" || want == got }
	group, subresource := r.Group, r.Subresource
	if group == "" && r.Resource != "" {
		group = "core"
	}
	if subresource == "" {
		subresource = "none"
	}
	verb := is(m.Verb, r.Verb) || m.Verb == "write" && r.IsWrite()
	return verb && is(m.Group, group) && is(m.Resource, r.Resource) && is(m.Subresource, subresource) &&
		is(m.Namespace, r.Namespace) && is(m.Name, r.Name) &&
		(m.DryRun == nil || *m.DryRun == r.DryRun) && strings.HasPrefix(r.UserAgent, m.UserAgent)
}

// Rule is a fault for some of the requests that match.
type Rule struct {
	Match Match
	// When, when set, decides about requests that match, a random draw say. One request at a time is
	// asked about; it must not call the proxy.
	When func(*Request) bool
	// Nth is the first matching request that the fault hits, from 1; zero means 1.
	Nth int
	// Times is how many matching requests it hits from there on; zero means 1, negative all.
	Times int
	Fault Fault

	matched int
}

// hits counts a matching request and tells whether the fault applies to it.
func (r *Rule) hits() bool {
	r.matched++
	first := max(r.Nth, 1)
	if r.matched < first {
		return false
	}
	times := r.Times
	if times == 0 {
		times = 1
	}
	return times < 0 || r.matched < first+times
}

// Fault is what happens to a request. The zero fault forwards it untouched. Fields apply in the
// order in which they stand here.
type Fault struct {
	// Delay passes before anything else.
	Delay time.Duration
	// Hold blocks the request until the channel is closed.
	Hold <-chan struct{}
	// Before runs before the request is forwarded; it then never is. Use it to kill a process
	// that must not have made this write.
	Before func(*Request)
	// Status is answered instead of forwarding, with RetryAfter seconds in the header when set.
	Status     int
	RetryAfter int
	// Hang never answers; the request ends when the client gives up.
	Hang bool
	// Reset drops the connection without forwarding.
	Reset bool
	// After runs when the API server has answered, and the client never hears of it. Use it to
	// kill a process that has made this write and does not know.
	After func(*Request)
	// ResetAnswer forwards and then drops the connection.
	ResetAnswer bool
	// DropEvents removes watch events of this type ("ADDED", "MODIFIED", "DELETED", "BOOKMARK"; "*"
	// for all) from a watch; with EventName only those of the object of that name.
	DropEvents string
	EventName  string
	// EndAfter ends the answer in good order after so long, as the API server ends a watch.
	EndAfter time.Duration
}

// Name is the word for the log.
func (f *Fault) Name() string {
	switch {
	case f == nil:
		return ""
	case f.Before != nil:
		return "before"
	case f.Status != 0:
		return "status " + http.StatusText(f.Status)
	case f.Hang:
		return "hang"
	case f.Reset:
		return "reset"
	case f.After != nil:
		return "after"
	case f.ResetAnswer:
		return "reset answer"
	case f.DropEvents != "":
		return "drop events"
	case f.EndAfter > 0:
		return "end after " + f.EndAfter.String()
	case f.Hold != nil:
		return "hold"
	default:
		return "delay"
	}
}
