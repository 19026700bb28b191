// Package event tells the world what happened to an object: as a Kubernetes Event beside the object, and as a JSON payload for the
// notification component.
//
// A Recorder never blocks its caller and never fails: both ways out are bounded queues with a worker behind them, and what does not
// fit is dropped and counted. A receiver that hangs costs events, not reconciliations.
package event

import (
	"strings"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Severity ranks an event (wire contract 7). Error becomes a Kubernetes event of type Warning, the others of type Normal.
type Severity string

const (
	// Trace is for facts that matter only to someone looking at the object: recorded in Kubernetes, never posted (_common 36).
	Trace Severity = "trace"
	// Info is for changes that went well.
	Info Severity = "info"
	// Error is for what needs attention.
	Error Severity = "error"
)

const (
	// MaxPayloadMessage is the length in bytes to which the message of a Payload is cut (wire contract 7).
	MaxPayloadMessage = 39000
	// MaxKubernetesMessage is the length in bytes to which the message of a Kubernetes Event is cut. The API sets no limit on core/v1
	// events; this one keeps etcd and the correlation cache, which holds recent messages, small.
	MaxKubernetesMessage = 8192
)

// annotationPrefix marks annotations of an object that its events carry along (_common 37).
const annotationPrefix = "event.toolkit.fluxcd.io/"

// Event is one fact about an object.
type Event struct {
	Severity Severity
	// Reason is a CamelCase word; tools match on it.
	Reason string
	// Message is for people.
	Message string
	// Metadata becomes annotations of the Kubernetes event and the metadata of the payload. A key without a slash gets the API group of
	// the involved object in front (_common 38).
	Metadata map[string]string
	// Local keeps an Info or Error event out of the payload sink: recorded in Kubernetes, not posted (gitrepository 38).
	Local bool
}

// Payload is the JSON body sent to the events address (wire contract 7).
type Payload struct {
	InvolvedObject      corev1.ObjectReference `json:"involvedObject"`
	Severity            Severity               `json:"severity"`
	Timestamp           metav1.Time            `json:"timestamp"`
	Message             string                 `json:"message"`
	Reason              string                 `json:"reason"`
	Metadata            map[string]string      `json:"metadata,omitempty"`
	ReportingController string                 `json:"reportingController"`
	ReportingInstance   string                 `json:"reportingInstance,omitempty"`
}

// Sink takes payloads. Post returns at once whatever the state of the receiver, and may keep the payload: the caller does not touch
// its map again.
type Sink interface {
	Post(p Payload)
}

// SinkFunc is a function as a Sink, for a receiver in the same process. It must not block.
type SinkFunc func(p Payload)

// Post implements Sink.
func (f SinkFunc) Post(p Payload) { f(p) }

// Nop is the Sink of a process without an events address: it forgets.
type Nop struct{}

// Post implements Sink.
func (Nop) Post(Payload) {}

// cut shortens s to at most limit bytes without splitting a character; mark, when given, ends a shortened text and counts.
func cut(s string, limit int, mark string) string {
	if len(s) <= limit {
		return s
	}
	end := limit - len(mark)
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + mark
}

// qualify puts the API group before keys that have no prefix of their own.
func qualify(group, key string) string {
	if group == "" || strings.Contains(key, "/") {
		return key
	}
	return group + "/" + key
}
