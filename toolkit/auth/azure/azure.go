// Package azure obtains credentials from Microsoft Entra ID: tokens, and logins of Azure's registries and of Azure DevOps.
package azure

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/golang-jwt/jwt/v5"

	"github.com/seed-79636ae9/flux/toolkit/auth"
	"github.com/seed-79636ae9/flux/toolkit/auth/internal/rest"
)

const (
	tenantAnnotation = "azure.workload.identity/tenant-id"
	clientAnnotation = "azure.workload.identity/client-id"
	tokenAudience    = "api://AzureADTokenExchange"

	devOpsScope   = "499b84ac-1321-427f-aa17-267ca6975798/.default"
	registryScope = "https://containerregistry.azure.net/.default"
	// registryUser is the name of all whose password is a token.
	registryUser = "00000000-0000-0000-0000-000000000000"

	maxReason = 512
)

// Options change where Azure is found.
type Options struct {
	// Authority is the URL of Entra ID; empty: that of the environment (AZURE_AUTHORITY_HOST), or the one of the registry's cloud.
	Authority string
	// Exchange is the URL on which registries exchange tokens; empty: the registry itself.
	Exchange string
	// Manager is the URL of Azure Resource Manager; empty: that of the cloud of the authority.
	Manager string
	// TrustedHosts are further hosts, with their port if any, that may see tokens for Azure DevOps.
	TrustedHosts []string
}

// Cloud is Azure.
type Cloud struct{ options Options }

// New returns Azure.
func New(o Options) *Cloud { return &Cloud{options: o} }

// Name implements auth.Cloud.
func (c *Cloud) Name() string { return auth.Azure }

// Token implements auth.TokenCloud.
func (c *Cloud) Token(ctx context.Context, call *auth.Call, scopes []string) (auth.Token, error) {
	return c.token(ctx, call, "", scopes)
}

// CheckGit implements auth.GitCloud: an object chooses the URL, and a token for Azure DevOps must not go anywhere else.
func (c *Cloud) CheckGit(repository *url.URL) error {
	host := repository.Host
	known := repository.Scheme == "https" && (host == "dev.azure.com" || strings.HasSuffix(host, ".visualstudio.com"))
	if !known && !slices.Contains(c.options.TrustedHosts, host) {
		return fmt.Errorf("%w: not a repository of Azure DevOps, https://dev.azure.com/... or https://<organization>.visualstudio.com/...", auth.ErrUnsupported)
	}
	return nil
}

// Git implements auth.GitCloud (contract: gitrepository 23).
func (c *Cloud) Git(ctx context.Context, call *auth.Call, _ *url.URL) (auth.GitLogin, error) {
	token, err := c.token(ctx, call, "", []string{devOpsScope})
	return auth.GitLogin{Bearer: token.Value, Expires: token.Expires}, err
}

// registry are the hosts of Azure's registries; the group is the top domain, which tells the cloud.
var registry = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]*\.azurecr\.(io|cn|de|us)$`)

// CheckRegistry implements auth.RegistryCloud.
func (c *Cloud) CheckRegistry(host string) error {
	if !registry.MatchString(host) {
		return fmt.Errorf("%w: '%s' is not <registry>.azurecr.io, .cn, .de or .us", auth.ErrUnsupported, host)
	}
	return nil
}

// Registry implements auth.RegistryCloud: a registry takes a token of Entra ID and gives one of its own.
func (c *Cloud) Registry(ctx context.Context, call *auth.Call, host string) (auth.Login, error) {
	authority := map[string]string{
		"cn": cloud.AzureChina.ActiveDirectoryAuthorityHost, "us": cloud.AzureGovernment.ActiveDirectoryAuthorityHost,
		"de": "https://login.microsoftonline.de/",
	}[registry.FindStringSubmatch(host)[1]]
	token, err := c.token(ctx, call, authority, []string{registryScope})
	if err != nil {
		return auth.Login{}, err
	}
	base := c.options.Exchange
	if base == "" {
		base = "https://" + host
	}
	var answer struct {
		Token string `json:"refresh_token"`
	}
	form := url.Values{"grant_type": {"access_token"}, "service": {host}, "access_token": {token.Value}}
	request, err := rest.PostForm(ctx, base+"/oauth2/exchange", form)
	if err == nil {
		err = rest.JSON(call.HTTP, request, &answer)
	}
	if err == nil && answer.Token == "" {
		err = errors.New("the answer has no token")
	}
	if err != nil {
		return auth.Login{}, fmt.Errorf("exchange the token at the registry '%s': %w", host, err)
	}
	return auth.Login{Username: registryUser, Password: answer.Token, Expires: expiry(answer.Token, token.Expires)}, nil
}

// expiry reads when a token ends. It is the registry's to verify; if it does not tell, it lives as long as what it was given for.
func expiry(token string, otherwise time.Time) time.Time {
	var claims jwt.RegisteredClaims
	if _, _, err := jwt.NewParser().ParseUnverified(token, &claims); err != nil || claims.ExpiresAt == nil {
		return otherwise
	}
	return claims.ExpiresAt.Time
}

// token asks the authority of the options or the environment, or else the one given, or else that of the public cloud.
func (c *Cloud) token(ctx context.Context, call *auth.Call, authority string, scopes []string) (auth.Token, error) {
	options := azcore.ClientOptions{Transport: call.HTTP, Telemetry: policy.TelemetryOptions{Disabled: true}}
	// Three tries, so that a machine that is none of Azure's finds out while the run still lasts.
	options.Retry = policy.RetryOptions{MaxRetries: 2, RetryDelay: time.Second, MaxRetryDelay: 5 * time.Second, TryTimeout: 15 * time.Second}
	if c.options.Authority != "" {
		authority = c.options.Authority
	} else if fromEnv := os.Getenv("AZURE_AUTHORITY_HOST"); fromEnv != "" {
		authority = fromEnv
	}
	options.Cloud.ActiveDirectoryAuthorityHost = authority
	find := own
	if account := call.Account; account != nil {
		find = func(o azcore.ClientOptions) (azcore.TokenCredential, error) { return federated(account, o) }
	}
	credential, err := find(options)
	if err != nil {
		return auth.Token{}, err
	}
	got, err := credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: scopes})
	if err != nil {
		return auth.Token{}, fmt.Errorf("get a token for '%s': %w", strings.Join(scopes, " "), explain(err))
	}
	call.Hide(got.Token)
	return auth.Token{Value: got.Token, Expires: got.ExpiresOn}, nil
}

// federated exchanges tokens of the ServiceAccount (contract: wire 2).
func federated(account *auth.Account, options azcore.ClientOptions) (azcore.TokenCredential, error) {
	tenant, client := account.Annotations[tenantAnnotation], account.Annotations[clientAnnotation]
	if tenant == "" || client == "" {
		return nil, fmt.Errorf("%w: it needs both annotations '%s' and '%s'", auth.ErrServiceAccount, tenantAnnotation, clientAnnotation)
	}
	assertion := func(ctx context.Context) (string, error) { return account.Token(ctx, tokenAudience) }
	credential, err := azidentity.NewClientAssertionCredential(tenant, client, assertion, &azidentity.ClientAssertionCredentialOptions{
		ClientOptions: options,
		// The authority is the operator's choice. Asking the public cloud about it would fail in private ones.
		DisableInstanceDiscovery: true,
	})
	if err != nil {
		return nil, fmt.Errorf("%w: annotation '%s': %w", auth.ErrServiceAccount, tenantAnnotation, err)
	}
	return credential, nil
}

// own is the identity of the process: what the environment says, the workload identity of its Pod, or the managed identity of its machine
// (contract: bucket 12). The default chain of the SDK would also start programs.
func own(options azcore.ClientOptions) (azcore.TokenCredential, error) {
	var chain []azcore.TokenCredential
	// Each says by an error that it is not set up.
	if c, err := azidentity.NewEnvironmentCredential(&azidentity.EnvironmentCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: true}); err == nil {
		chain = append(chain, c)
	}
	if c, err := azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: true}); err == nil {
		chain = append(chain, c)
	}
	managed := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: options}
	if id := os.Getenv("AZURE_CLIENT_ID"); id != "" {
		managed.ID = azidentity.ClientID(id)
	}
	if c, err := azidentity.NewManagedIdentityCredential(managed); err == nil {
		chain = append(chain, c)
	}
	credential, err := azidentity.NewChainedTokenCredential(chain, nil)
	if err != nil {
		return nil, fmt.Errorf("find the identity of the process: %w", err)
	}
	return credential, nil
}

// explain keeps what Entra ID says, and drops the dump of its answer and the ids in it: they differ every time, and a status that holds them
// changes with every try.
func explain(err error) error {
	failed, ok := errors.AsType[*azidentity.AuthenticationFailedError](err)
	if !ok || failed.RawResponse == nil {
		return err
	}
	return &answerError{status: failed.RawResponse.StatusCode, reason: reason(failed), err: err}
}

func reason(failed *azidentity.AuthenticationFailedError) string {
	var answer struct {
		Code        string `json:"error"`
		Description string `json:"error_description"`
	}
	body, err := runtime.Payload(failed.RawResponse)
	if err != nil || json.Unmarshal(body, &answer) != nil {
		return "an answer that is not the expected JSON"
	}
	text, _, _ := strings.Cut(answer.Description, "Trace ID:")
	if text = strings.TrimSpace(text); text == "" {
		text = answer.Code
	}
	return text[:min(len(text), maxReason)]
}

type answerError struct {
	status int
	reason string
	err    error
}

func (e *answerError) Error() string {
	return fmt.Sprintf("Entra ID answered %d: %s", e.status, e.reason)
}

func (e *answerError) Unwrap() error { return e.err }
