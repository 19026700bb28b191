package provider

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/seed-79636ae9/flux/toolkit/auth"
	"github.com/seed-79636ae9/flux/toolkit/event"
)

const (
	// eventHubsScope is that of the SDKs; Event Hubs calls itself by a URL that ends in a slash.
	eventHubsScope = "https://eventhubs.azure.net//.default"
	// eventHubsSuffix completes the name of a namespace.
	eventHubsSuffix = ".servicebus.windows.net"
	// sasLifetime is how long a signature holds; it is made anew for each event.
	sasLifetime = time.Hour
)

// eventHubs are the hosts of namespaces, in all of Azure's clouds. Tokens of cloud identities go nowhere else.
var eventHubs = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}\.servicebus\.(windows\.net|chinacloudapi\.cn|usgovcloudapi\.net|cloudapi\.de)$`)

// hubName keeps the name of a hub one segment of a path.
var hubName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,254}[A-Za-z0-9])?$`)

// azureEventHub sends events to a hub (provider 25, 42, 43, wire contract 13), through the REST API that needs no connection of its own protocol.
func azureEventHub() Type {
	return Type{
		Name: "azureeventhub", Title: "Azure Event Hubs", Group: Bus,
		Address: "a connection string with a shared access key; otherwise the name of the hub, or the host of the namespace",
		Channel: "the namespace, where the address is the name of the hub; the name of the hub, where the address is the host of the namespace or a " +
			"connection string without `EntityPath`",
		Secret: "`address`: a connection string; or `token`: a token of Entra ID (deprecated). Without either, the identity of `serviceAccountName` " +
			"or of the controller",
		New: func(c Config) (Notifier, error) {
			h, err := newEventHub(&c)
			if err != nil {
				return nil, err
			}
			return NotifierFunc(h.notify), nil
		},
	}
}

type eventHubNotifier struct {
	config *Config
	// resource is the URL of the hub.
	resource string
	// keyName and key sign; empty: there is a signature, or a token is used.
	keyName, key string
	signature    string
}

func newEventHub(c *Config) (*eventHubNotifier, error) {
	signed := isConnectionString(c.Address)
	if c.ServiceAccountName != "" && (signed || c.Token != "") {
		return nil, errors.New("spec.serviceAccountName does not go with a connection string or a token: remove one of them")
	}
	if !signed && c.Token == "" {
		if err := checkIdentity(c); err != nil {
			return nil, err
		}
	}
	h := &eventHubNotifier{config: c}
	host, hub, err := "", "", error(nil)
	if signed {
		host, hub, err = h.readConnectionString(c.Address, c.Channel)
	} else {
		host, hub, err = namespaceAndHub(c.Address, c.Channel)
	}
	if err != nil {
		return nil, err
	}
	if !hubName.MatchString(hub) {
		return nil, errors.New("the name of the hub is not one: it has letters, digits, periods, hyphens and underscores")
	}
	h.resource = "https://" + host + "/" + hub
	return h, nil
}

func isConnectionString(address string) bool {
	return strings.Contains(strings.ToLower(address), "endpoint=sb://")
}

// readConnectionString reads "Endpoint=sb://<host>/;SharedAccessKeyName=<name>;SharedAccessKey=<key>[;EntityPath=<hub>]", where
// "SharedAccessSignature=<signature>" may stand in place of the key.
func (h *eventHubNotifier) readConnectionString(address, channel string) (host, hub string, err error) {
	parts := map[string]string{}
	for part := range strings.SplitSeq(address, ";") {
		if name, value, ok := strings.Cut(strings.TrimSpace(part), "="); ok {
			parts[strings.ToLower(name)] = value
		}
	}
	const remedy = "copy it from the shared access policy of the namespace or the hub"
	endpoint, err := url.Parse(parts["endpoint"])
	if err != nil || endpoint.Host == "" || endpoint.User != nil {
		return "", "", errors.New("the connection string in spec.address or the Secret has no Endpoint: " + remedy)
	}
	h.keyName, h.key = parts["sharedaccesskeyname"], parts["sharedaccesskey"]
	h.signature = parts["sharedaccesssignature"]
	if h.signature == "" && (h.keyName == "" || h.key == "") {
		return "", "", errors.New("the connection string in spec.address or the Secret has no SharedAccessKeyName or no SharedAccessKey: " + remedy)
	}
	if hub = parts["entitypath"]; hub == "" {
		hub = channel
	}
	if hub == "" {
		return "", "", errors.New("spec.channel is empty, and the connection string has no EntityPath: give the name of the hub")
	}
	return endpoint.Host, hub, nil
}

// namespaceAndHub tells which of address and channel is the namespace: the one with the host of a namespace, or else the channel.
func namespaceAndHub(address, channel string) (host, hub string, err error) {
	if address == "" || channel == "" {
		return "", "", errors.New("spec.address or spec.channel is empty: give the name of the hub as address and the namespace as channel, " +
			"or a connection string as address")
	}
	host, hub = namespaceHost(channel), address
	if asAddress := namespaceHost(address); eventHubs.MatchString(asAddress) {
		host, hub = asAddress, channel
	} else if !strings.Contains(host, ".") {
		host += eventHubsSuffix
	}
	if !eventHubs.MatchString(host) {
		return "", "", errors.New("neither spec.address nor spec.channel is a namespace of Event Hubs: give its name, or its host <name>" + eventHubsSuffix)
	}
	return host, hub, nil
}

// namespaceHost takes scheme and path from around the host of a namespace.
func namespaceHost(s string) string {
	if _, rest, ok := strings.Cut(s, "://"); ok {
		s = rest
	}
	return strings.ToLower(strings.TrimSuffix(strings.TrimSuffix(s, "/"), ":443"))
}

func (h *eventHubNotifier) notify(ctx context.Context, e event.Payload) error {
	body, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encoding the event: %w", err)
	}
	login, err := h.login(ctx)
	if err != nil {
		return err
	}
	header := http.Header{"Authorization": {login}, "Content-Type": {"application/atom+xml;type=entry;charset=utf-8"}}
	request := Request{URL: h.resource + "/messages?api-version=2014-01", Header: header, Body: body}
	if _, err := h.config.HTTP.Do(ctx, request); err != nil {
		return fmt.Errorf("sending the event to the hub: %w", err)
	}
	return nil
}

func (h *eventHubNotifier) login(ctx context.Context) (string, error) {
	if h.signature != "" {
		return h.signature, nil
	}
	if h.key != "" {
		return sharedAccessSignature(h.resource, h.keyName, h.key, time.Now().Add(sasLifetime)), nil
	}
	if h.config.Token != "" {
		return "Bearer " + h.config.Token, nil
	}
	token, err := cloudToken(ctx, h.config, auth.Azure, eventHubsScope)
	if err != nil {
		return "", err
	}
	return "Bearer " + token, nil
}

// sharedAccessSignature is made as https://learn.microsoft.com/rest/api/eventhub/generate-sas-token says.
func sharedAccessSignature(resource, keyName, key string, expires time.Time) string {
	escaped, until := url.QueryEscape(resource), strconv.FormatInt(expires.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(escaped + "\n" + until))
	signature := base64.StdEncoding.EncodeToString(mac.Sum(nil))
	return fmt.Sprintf("SharedAccessSignature sr=%s&sig=%s&se=%s&skn=%s", escaped, url.QueryEscape(signature), until, url.QueryEscape(keyName))
}
