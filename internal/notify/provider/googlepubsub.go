package provider

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"

	notificationv1 "github.com/seed-79636ae9/flux/api/notification/v1beta3"
	"github.com/seed-79636ae9/flux/toolkit/auth"
	"github.com/seed-79636ae9/flux/toolkit/event"
)

const (
	pubSubScope = "https://www.googleapis.com/auth/pubsub"
	// pubSubAttributes, pubSubKey and pubSubValue are how many attributes a message may have, and how long they may be in bytes.
	pubSubAttributes, pubSubKey, pubSubValue = 100, 256, 1024
	// googleUniverse is where Google's services are, unless a key says otherwise.
	googleUniverse = "googleapis.com"
)

// googlePubSub publishes events as messages (provider 26, 42, wire contract 13), through the REST API: the client library keeps connections
// and collects messages, which is for those who publish much.
func googlePubSub() Type {
	return Type{
		Name: "googlepubsub", Title: "Google Cloud Pub/Sub", Group: Bus,
		Address: "the id of the project", Channel: "the id of the topic",
		Secret: "`token`: the JSON key of a service account; without it, the identity of `serviceAccountName` or of the controller. " +
			"`headers` (optional): a YAML map of attributes",
		New: func(c Config) (Notifier, error) {
			p, err := newPubSub(&c)
			if err != nil {
				return nil, err
			}
			return NotifierFunc(p.notify), nil
		},
	}
}

type pubSubNotifier struct {
	config *Config
	url    string
	key    oauth2.TokenSource // nil: a cloud identity
}

// What a name of Pub/Sub may be made of, so that it stays one segment of a path.
var (
	pubSubProject = regexp.MustCompile(`^[a-z0-9.:-]{1,100}$`)
	pubSubTopic   = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._~+%-]{0,254}$`)
	universeHost  = regexp.MustCompile(`^[a-z0-9-]+(\.[a-z0-9-]+)+$`)
)

func newPubSub(c *Config) (*pubSubNotifier, error) {
	switch {
	case c.Address == "":
		return nil, errors.New("spec.address is empty: give the id of the project")
	case !pubSubProject.MatchString(c.Address):
		return nil, errors.New("spec.address is not the id of a project: give one such as my-project")
	case c.Channel == "":
		return nil, errors.New("spec.channel is empty: give the id of the topic")
	case !pubSubTopic.MatchString(c.Channel):
		return nil, fmt.Errorf("spec.channel '%s' is not the id of a topic: give the last part of projects/<project>/topics/<topic>", c.Channel)
	case len(c.Headers) > pubSubAttributes:
		return nil, fmt.Errorf("the Secret of spec.secretRef has %d headers: a message has at most %d attributes", len(c.Headers), pubSubAttributes)
	}
	for key, value := range c.Headers {
		if len(key) == 0 || len(key) > pubSubKey || len(value) > pubSubValue {
			return nil, fmt.Errorf("the headers in the Secret of spec.secretRef do not fit: attributes have a key of 1 to %d bytes and a value of up to %d",
				pubSubKey, pubSubValue)
		}
	}
	p, universe, err := &pubSubNotifier{config: c}, googleUniverse, error(nil)
	if c.Token != "" {
		p.key, universe, err = pubSubKeyOf([]byte(c.Token))
	} else {
		err = checkIdentity(c)
	}
	if err != nil {
		return nil, err
	}
	p.url = "https://pubsub." + universe + "/v1/projects/" + url.PathEscape(c.Address) + "/topics/" + url.PathEscape(c.Channel) + ":publish"
	return p, nil
}

// pubSubKeyOf reads the key of a service account, and where Google's services are for it. Other credentials name files, programs and servers to
// call: whoever may write a Secret must not choose those. The token is a statement signed with the key, which Google's services take in place
// of one that their token server would give for it (https://google.aip.dev/auth/4111): no request, and no address that the key could choose.
func pubSubKeyOf(key []byte) (oauth2.TokenSource, string, error) {
	const remedy = "give the JSON key of a service account of Google Cloud"
	var about struct {
		Type     string `json:"type"`
		Universe string `json:"universe_domain"`
	}
	if json.Unmarshal(key, &about) != nil {
		return nil, "", errors.New("the token in the Secret of spec.secretRef is not JSON: " + remedy)
	}
	if about.Type != string(google.ServiceAccount) {
		return nil, "", errors.New("the token in the Secret of spec.secretRef has another type than " + string(google.ServiceAccount) + ": " + remedy)
	}
	if about.Universe == "" {
		about.Universe = googleUniverse
	}
	if !universeHost.MatchString(about.Universe) {
		return nil, "", errors.New("the token in the Secret of spec.secretRef has a universe_domain that is not a domain: " + remedy)
	}
	source, err := google.JWTAccessTokenSourceFromJSON(key, "https://pubsub."+about.Universe+"/")
	if err != nil {
		// The error may repeat what it cannot read.
		return nil, "", errors.New("the token in the Secret of spec.secretRef has no usable private_key: " + remedy)
	}
	return source, about.Universe, nil
}

type pubSubMessages struct {
	Messages []pubSubMessage `json:"messages"`
}

type pubSubMessage struct {
	Data       []byte            `json:"data"` // JSON has it in base64
	Attributes map[string]string `json:"attributes,omitempty"`
}

func (p *pubSubNotifier) notify(ctx context.Context, e event.Payload) error {
	data, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encoding the event: %w", err)
	}
	token, err := p.token(ctx)
	if err != nil {
		return err
	}
	header := http.Header{"Authorization": {"Bearer " + token}}
	if _, err := p.config.HTTP.PostJSON(ctx, p.url, pubSubMessages{[]pubSubMessage{{data, p.config.Headers}}}, header); err != nil {
		return fmt.Errorf("publishing the event: %w", err)
	}
	return nil
}

func (p *pubSubNotifier) token(ctx context.Context) (string, error) {
	if p.key != nil {
		token, err := p.key.Token()
		if err != nil {
			return "", errors.New("signing with the private_key of the token in the Secret of spec.secretRef failed")
		}
		return token.AccessToken, nil
	}
	return cloudToken(ctx, p.config, auth.GCP, pubSubScope)
}

// checkIdentity keeps the identity of the controller from servers that are Google's or Microsoft's only by the word of a CA and a proxy of the
// Provider's own.
func checkIdentity(c *Config) error {
	if c.ServiceAccountName == "" && c.TLS != nil && c.TLS.RootCAs != nil {
		return errors.New("spec.certSecretRef has a CA, and the identity of the controller goes to servers of public CAs only: " +
			"remove ca.crt, or set spec.serviceAccountName or a credential")
	}
	return nil
}

// cloudToken returns a token of the identity of the Provider's ServiceAccount or of the controller. An account without the feature gate that
// allows it is an error (provider 8).
func cloudToken(ctx context.Context, c *Config, cloud, scope string) (string, error) {
	token, err := c.Auth.Token(ctx, cloud, auth.Request{
		Kind: notificationv1.ProviderKind, Namespace: c.Provider.Namespace, Name: c.Provider.Name, Operation: "post",
		ServiceAccountName: c.ServiceAccountName, Proxy: c.Proxy,
	}, scope)
	if err != nil {
		return "", err
	}
	return token.Value, nil
}
