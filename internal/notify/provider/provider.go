// Package provider tells services of events: chats, incident managers, Git hosts, message buses. Each type of Provider has a file of its
// own and an entry in Types.
package provider

import (
	"context"
	"crypto/tls"
	"net/url"
	"slices"

	"github.com/seed-79636ae9/flux/toolkit/auth"
	"github.com/seed-79636ae9/flux/toolkit/event"
)

// Notifier tells one service of events.
type Notifier interface {
	// Notify tells the service of one event and returns when the service has taken it. Its metadata is what the service is to see: no
	// group prefixes, the Alert's own entries included. An event that this service is not interested in is no error. Errors name no
	// secret and repeat nothing the service has answered.
	Notify(ctx context.Context, e event.Payload) error
}

// NotifierFunc is a function as a Notifier.
type NotifierFunc func(ctx context.Context, e event.Payload) error

// Notify implements Notifier.
func (f NotifierFunc) Notify(ctx context.Context, e event.Payload) error { return f(ctx, e) }

// Owner names an object that a notification belongs to.
type Owner struct{ Namespace, Name, UID string }

// Config is what a Provider and its Secrets say, for one Alert. Values are as the contract wants them: trimmed, and those of the Secret
// before those of the spec (provider 4-6, 34-38).
type Config struct {
	// Type is spec.type.
	Type string
	// Provider and Alert that the events go through.
	Provider, Alert Owner
	// Address and Channel mean what the type makes of them.
	Address, Channel string
	Username         string
	Password         string
	Token            string
	// Headers are the "headers" of the Secret.
	Headers map[string]string
	// Secret is the data of the Secret, for keys that only one type knows.
	Secret map[string][]byte
	// CommitStatus is the id of a commit status, for types that post them (provider 10).
	CommitStatus string
	// ServiceAccountName is spec.serviceAccountName.
	ServiceAccountName string
	// Auth obtains credentials from clouds and Git hosts.
	Auth *auth.Authenticator
	// HTTP makes the requests. It honours TLS and Proxy.
	HTTP *Client
	// TLS is the material of certSecretRef, nil when there is none. It is for types that do not speak HTTP.
	TLS *tls.Config
	// Proxy to go through, nil when there is none. It is for types that do not speak HTTP.
	Proxy *url.URL
}

// Group is what sort of service a type is.
type Group string

// The groups, as titles of documentation.
const (
	Chat          Group = "Chat"
	Incident      Group = "Incidents and alerts"
	Observability Group = "Monitoring and tracing"
	Bus           Group = "Message buses"
	Webhook       Group = "Webhooks"
	CommitStatus  Group = "Commit statuses"
	Comment       Group = "Comments and dispatches"
)

// Type is one value of spec.type.
type Type struct {
	// Name is the value of spec.type.
	Name string
	// Title is what the service is called.
	Title string
	Group Group
	// Address, Channel and Secret say in Markdown what the fields of that name and the keys of the Secret mean to this type. Empty: the
	// type makes nothing of them.
	Address, Channel, Secret string
	// New returns the Notifier of a Config. It does not talk to the service. Its errors name the field and the remedy.
	New func(Config) (Notifier, error)
	// StatusUpdates: the type also takes events that exist only for the sake of commit statuses (alert 14).
	StatusUpdates bool
}

// PostsCommitStatus reports whether the type puts a status on the commit an event is about.
func (t Type) PostsCommitStatus() bool { return t.Group == CommitStatus }

// ForChangeRequests reports whether the type comments on pull and merge requests, and so needs events that name one (alert 16).
func (t Type) ForChangeRequests() bool { return t.Group == Comment && t.Name != "githubdispatch" }

// Types lists every type, in the order of the API's enumeration.
func Types() []Type {
	return []Type{
		slack(), discord(), msteams(), rocket(), generic(), genericHMAC(), github(), gitlab(), gitea(), giteaPullRequestComment(),
		bitbucketServer(), bitbucket(), azureDevOps(), googleChat(), googlePubSub(), webex(), sentry(), azureEventHub(), telegram(), lark(),
		matrix(), opsgenie(), alertmanager(), grafana(), githubDispatch(), githubPullRequestComment(), gitlabMergeRequestComment(),
		pagerDuty(), datadog(), nats(), zulip(), otel(),
	}
}

// Find returns the type of that name.
func Find(name string) (Type, bool) {
	types := Types()
	i := slices.IndexFunc(types, func(t Type) bool { return t.Name == name })
	if i < 0 {
		return Type{}, false
	}
	return types[i], true
}
