package cli

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	notificationv1 "github.com/seed-79636ae9/flux/api/notification/v1"
)

// The types of Receivers whose calls anybody can make; those of the other types come from one service each.
const (
	triggerGeneric = "generic"
	triggerHMAC    = "generic-hmac"
	triggerOIDC    = "generic-oidc"
)

const (
	// oidcTokenVariable holds the token of generic-oidc where no flag gives one (wire.md 16).
	oidcTokenVariable = "FLUX_TRIGGER_RECEIVER_OIDC_TOKEN"
	// defaultOIDCAudience is what Receivers expect unless they say otherwise (receiver 28).
	defaultOIDCAudience = "notification-controller"
	// triggerCallTimeout bounds one call, so that a silent server leaves time for further ones.
	triggerCallTimeout = 30 * time.Second
	// maxTokenAnswer bounds what an issuer may answer.
	maxTokenAnswer = 1 << 20
)

// oidcPermission says, for each --oidc-provider, what lets a job ask for tokens. Both services have the same protocol.
func oidcPermission() map[string]string {
	return map[string]string{"github": "permissions: id-token: write", "forgejo": "enable-openid-connect: true"}
}

// triggerOptions are the flags of `flux trigger receiver`.
type triggerOptions struct {
	*Factory
	of, address, token, payload           string
	oidcProvider, oidcToken, oidcAudience string
	retries                               int
	delay                                 time.Duration
}

func newTrigger(f *Factory) *cobra.Command {
	cmd := group("trigger", nil, "Trigger webhooks")
	cmd.Long = "The trigger sub-commands call webhooks, from a CI job for example."
	cmd.AddCommand(newTriggerReceiver(f))
	return cmd
}

func newTriggerReceiver(f *Factory) *cobra.Command {
	o := &triggerOptions{Factory: f}
	cmd := &cobra.Command{
		Use:   "receiver" + nameArg,
		Short: "Call the webhook of a Receiver",
		Long: `The trigger receiver command calls the webhook of a Receiver, which then asks its resources to reconcile.
It needs no access to the cluster: the path of the webhook is computed from the name and namespace of the Receiver and its token.`,
		Example: `  # Call a Receiver of type generic-hmac
  flux trigger receiver deploy \
    --namespace=apps \
    --type=generic-hmac \
    --url=https://flux.example.com \
    --token="$WEBHOOK_TOKEN" \
    --payload='{"image": "example/webapp:1.2.0"}'

  # Call a Receiver of type generic-oidc from a job of GitHub Actions, without a secret
  flux trigger receiver deploy \
    --namespace=apps \
    --type=generic-oidc \
    --url=https://flux.example.com \
    --oidc-provider=github

  # The same from any other CI that has put a token of its issuer into a variable
  export FLUX_TRIGGER_RECEIVER_OIDC_TOKEN="$ID_TOKEN"
  flux trigger receiver deploy --type=generic-oidc --url=https://flux.example.com`,
		Args: exactly("Receiver name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.bounded(cmd.Context(), func(ctx context.Context) error { return o.run(ctx, args[0]) })
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.of, "type", triggerGeneric, "the type of the Receiver, one of: "+strings.Join(triggerTypes(), ", "))
	flags.StringVar(&o.address, "url", "", "the address that the webhooks of the cluster are reached at, e.g. https://flux.example.com")
	flags.StringVar(&o.token, "token", "", "the token of the Receiver, for the types generic and generic-hmac")
	flags.StringVar(&o.payload, "payload", "{}", "the JSON to send")
	flags.StringVar(&o.oidcProvider, "oidc-provider", "", "the CI service to ask for a token, for the type generic-oidc, one of: github, forgejo")
	flags.StringVar(&o.oidcToken, "oidc-token", "", "the token to present, for the type generic-oidc; defaults to the variable "+oidcTokenVariable)
	flags.StringVar(&o.oidcAudience, "oidc-audience", "", "the audience to ask --oidc-provider for, defaults to "+defaultOIDCAudience)
	flags.IntVar(&o.retries, "retries", 10, "how often to call again when the webhook is not reached or not ready")
	flags.DurationVar(&o.delay, "retry-delay", 10*time.Second, "how long to wait before calling again")
	return cmd
}

func triggerTypes() []string { return []string{triggerGeneric, triggerHMAC, triggerOIDC} }

// run calls the webhook until it takes the call (cli 70).
func (o *triggerOptions) run(ctx context.Context, name string) error {
	base, err := o.validate()
	if err != nil {
		return &usageError{err}
	}
	call, err := o.prepare(ctx, base, name)
	if err != nil {
		return err
	}
	o.Actionf("calling the webhook of Receiver %s in %s namespace", name, o.Namespace())
	for attempt := 0; ; attempt++ {
		again, err := call.send(ctx)
		if err == nil {
			o.Successf("Receiver %s triggered", name)
			return nil
		}
		err = hinted(fmt.Errorf("call the webhook of Receiver %s: %w", name, err), "flux get receivers %s -n %s", name, o.Namespace())
		if !again || attempt >= o.retries {
			return err
		}
		o.Waitf("%s, trying again in %s (%d of %d)", err, o.delay, attempt+1, o.retries)
		select {
		case <-ctx.Done():
			return err
		case <-o.Clock.After(o.delay):
		}
	}
}

// validate checks the flags and returns the address the webhooks are below.
func (o *triggerOptions) validate() (*url.URL, error) {
	if o.address == "" {
		return nil, errors.New("--url is required")
	}
	base, err := url.Parse(o.address)
	if err != nil || base.Host == "" || !slices.Contains([]string{"http", "https"}, base.Scheme) ||
		base.User != nil || base.RawQuery != "" || base.Fragment != "" {
		return nil, errors.New("--url is not an address of the form https://host")
	}
	if !json.Valid([]byte(o.payload)) {
		return nil, errors.New("--payload is not JSON")
	}
	if o.retries < 0 || o.delay < 0 {
		return nil, errors.New("--retries and --retry-delay cannot be negative")
	}
	switch o.of {
	case triggerGeneric, triggerHMAC:
		return base, o.validateToken()
	case triggerOIDC:
		return base, o.validateOIDC()
	}
	return nil, fmt.Errorf("--type '%s' is not supported, must be one of: %s", o.of, strings.Join(triggerTypes(), ", "))
}

func (o *triggerOptions) validateToken() error {
	switch {
	case o.token == "":
		return fmt.Errorf("--token is required with --type=%s", o.of)
	case o.oidcProvider != "" || o.oidcToken != "" || o.oidcAudience != "":
		return fmt.Errorf("--oidc-provider, --oidc-token and --oidc-audience are for --type=%s", triggerOIDC)
	}
	return nil
}

func (o *triggerOptions) validateOIDC() error {
	_, known := oidcPermission()[o.oidcProvider]
	switch {
	case o.token != "":
		return fmt.Errorf("--token is not for --type=%s: such a Receiver has none", triggerOIDC)
	case o.oidcProvider == "" && o.oidcToken == "" && o.Getenv(oidcTokenVariable) == "":
		return fmt.Errorf("--type=%s needs --oidc-provider, --oidc-token or the variable %s", triggerOIDC, oidcTokenVariable)
	case o.oidcProvider != "" && o.oidcToken != "":
		return errors.New("--oidc-provider and --oidc-token exclude each other")
	case o.oidcProvider == "" && o.oidcAudience != "":
		return errors.New("--oidc-audience needs --oidc-provider: a token that is given has its audience")
	case o.oidcProvider != "" && !known:
		return fmt.Errorf("--oidc-provider '%s' is not supported, must be one of: github, forgejo", o.oidcProvider)
	}
	return nil
}

// webhookCall is a call that can be repeated.
type webhookCall struct {
	client  *http.Client
	address string
	header  http.Header
	payload []byte
}

func (o *triggerOptions) prepare(ctx context.Context, base *url.URL, name string) (*webhookCall, error) {
	// What a redirect leads to has neither the path nor the token of this Receiver.
	client := &http.Client{Timeout: triggerCallTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	receiver := &notificationv1.Receiver{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: o.Namespace()}}
	call := &webhookCall{
		client:  client,
		address: strings.TrimSuffix(base.String(), "/") + receiver.GetWebhookPath(o.token),
		header:  http.Header{"Content-Type": {"application/json"}, "User-Agent": {"flux/" + o.Version}},
		payload: []byte(o.payload),
	}
	switch o.of {
	case triggerHMAC:
		mac := hmac.New(sha256.New, []byte(o.token))
		mac.Write(call.payload)
		call.header.Set("X-Signature", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	case triggerOIDC:
		token, err := o.identity(ctx, client)
		if err != nil {
			return nil, err
		}
		call.header.Set("Authorization", "Bearer "+token)
	}
	return call, nil
}

// send makes the call once and tells whether another one may go better. Its errors hold no path: who knows it can call, too.
func (c *webhookCall) send(ctx context.Context) (again bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.address, bytes.NewReader(c.payload))
	if err != nil {
		return false, withoutAddress(err)
	}
	req.Header = c.header
	resp, err := c.client.Do(req)
	if err != nil {
		var untrusted *tls.CertificateVerificationError
		return ctx.Err() == nil && !errors.As(err, &untrusted), withoutAddress(err)
	}
	defer resp.Body.Close()
	switch code := resp.StatusCode; {
	case code/100 == 2:
		return false, nil
	case code/100 == 3:
		return false, fmt.Errorf("answered %s: give --url as the address that it redirects to", resp.Status)
	case code == http.StatusBadRequest:
		return false, fmt.Errorf("answered %s: --type and the token must be those of the Receiver", resp.Status)
	case code == http.StatusNotFound:
		// A Receiver that was just made, or whose token has just changed, is there in a moment.
		return true, fmt.Errorf("answered %s: name, namespace and token must be those of a Receiver", resp.Status)
	default:
		return slices.Contains(passingAnswers(), code), fmt.Errorf("answered %s", resp.Status)
	}
}

// passingAnswers are those that another call may change, besides 404 (cli 70).
func passingAnswers() []int {
	return []int{
		http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout,
	}
}

// withoutAddress takes the address off an error of the HTTP client.
func withoutAddress(err error) error {
	var outer *url.Error
	if errors.As(err, &outer) {
		return outer.Err
	}
	return err
}

// identity is the token that generic-oidc presents.
func (o *triggerOptions) identity(ctx context.Context, client *http.Client) (string, error) {
	switch {
	case o.oidcToken != "":
		return o.oidcToken, nil
	case o.oidcProvider == "":
		return o.Getenv(oidcTokenVariable), nil
	}
	token, err := o.requestIdentity(ctx, client)
	if err != nil {
		return "", fmt.Errorf("ask %s for a token: %w", o.oidcProvider, err)
	}
	return token, nil
}

// requestIdentity asks the CI service that runs this job for a token.
func (o *triggerOptions) requestIdentity(ctx context.Context, client *http.Client) (string, error) {
	const address, credential = "ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"
	if o.Getenv(address) == "" || o.Getenv(credential) == "" {
		return "", fmt.Errorf("the variables %s and %s are not set: they are in jobs with '%s'", address, credential, oidcPermission()[o.oidcProvider])
	}
	u, err := url.Parse(o.Getenv(address))
	if err != nil || u.Host == "" {
		return "", fmt.Errorf("the variable %s holds no address", address)
	}
	audience := o.oidcAudience
	if audience == "" {
		audience = defaultOIDCAudience
	}
	query := u.Query()
	query.Set("audience", audience)
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return "", withoutAddress(err)
	}
	req.Header.Set("Authorization", "Bearer "+o.Getenv(credential))
	req.Header.Set("User-Agent", "flux/"+o.Version)
	resp, err := client.Do(req)
	if err != nil {
		return "", withoutAddress(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("answered %s", resp.Status)
	}
	var answer struct {
		Value string `json:"value"`
	}
	// The decoder's errors may quote what was answered.
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxTokenAnswer)).Decode(&answer); err != nil || answer.Value == "" {
		return "", errors.New("the answer holds no token")
	}
	return answer.Value, nil
}
