package receiver

import (
	"context"
	"net/http"
	"slices"

	notificationv1 "github.com/seed-79636ae9/flux/api/notification/v1"
)

// Type is one value of spec.type: a sort of sender.
type Type struct {
	// Name is the value of spec.type.
	Name string
	// Title is what the sender is called.
	Title string
	// Proof says in Markdown how a call proves where it comes from.
	Proof string
	// Events is the header that names the event of a call; empty: calls name none, and spec.events has no meaning (receiver 13).
	Events string
	// SecretKeys are the keys that the Secret needs besides "token".
	SecretKeys []string
	// NoSecret: a call is verified without the Secret, which only makes the path.
	NoSecret bool
	// OIDC: the type needs spec.oidcProviders, and has no Secret.
	OIDC bool
	// Verify checks a call. Its errors repeat nothing of the call and name no secret: they are logged.
	Verify func(ctx context.Context, c *Call) (*Verified, error)
}

// Call is what a sender has sent. Nothing of it can be trusted.
type Call struct {
	Header http.Header
	// Body is at most MaxBody bytes.
	Body []byte
	// Secret is the data of the Secret, read live (receiver 12); its "token" is not empty. Nil for types without need of it.
	Secret map[string][]byte

	spec     *notificationv1.ReceiverSpec
	rules    *rules
	issuers  *issuers
	thinking *thinking
}

// token of the Secret.
func (c *Call) token() []byte { return c.Secret["token"] }

// Verified is what is known of a call that was checked.
type Verified struct {
	// Request is the JSON that filters see as "req"; nil: the body, if its content type is JSON (receiver 14, 31).
	Request []byte
	// Claims of the token, for types with OIDC.
	Claims map[string]any
}

// Types lists every type, in the order of the API's enumeration.
func Types() []Type {
	return []Type{
		generic(), genericHMAC(), genericOIDC(), github(), gitlab(), bitbucket(), harbor(), dockerHub(), quay(), gcr(), nexus(), acr(), cdEvents(),
	}
}

// Find returns the type of that name.
func Find(name string) (Type, bool) {
	types := Types()
	n := slices.IndexFunc(types, func(t Type) bool { return t.Name == name })
	if n < 0 {
		return Type{}, false
	}
	return types[n], true
}
