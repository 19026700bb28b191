package storage

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
)

const (
	// AzureScope is what tokens for Azure Blob Storage are for.
	AzureScope = "https://storage.azure.com/.default"
	// azurePage is how many blobs a page holds: their descriptions stay below PageBytes.
	azurePage = 2000
	// azureRetries is how often a request is made again before its failure fails the run.
	azureRetries = 2
)

// The keys of an Azure Secret (bucket 11).
const (
	azTenantID            = "tenantId"
	azClientID            = "clientId"
	azClientSecret        = "clientSecret"
	azClientCertificate   = "clientCertificate"
	azCertificatePassword = "clientCertificatePassword"
	azSendChain           = "clientCertificateSendChain"
	azAccountKey          = "accountKey"
	azSASKey              = "sasKey"
	azAuthorityHost       = "authorityHost"
	azResourceID          = "resourceId"
)

// AzureOptions describe a container of Azure Blob Storage.
type AzureOptions struct {
	// Endpoint is the URL of the account, e.g. https://account.blob.core.windows.net.
	Endpoint string
	Bucket   string
	// Secret holds the credentials in one of the forms of 2.9 (bucket 11); nil: Token, or else none.
	Secret map[string][]byte
	// Token signs in where the Secret does not; nil: requests are anonymous.
	Token TokenFunc
	// Transport makes the requests.
	Transport http.RoundTripper
	Limits    Limits
}

// NeedsToken reports whether Token counts: there is no Secret, or none with credentials.
func (o *AzureOptions) NeedsToken() bool {
	for key, value := range o.Secret {
		if key != azAuthorityHost && len(value) > 0 {
			return false
		}
	}
	return o.Secret == nil || len(o.Secret[azAuthorityHost]) > 0
}

type azure struct {
	client  *container.Client
	host    string
	guard   *guard
	secrets []string
	// anonymous says that the server was given no credentials at all.
	anonymous bool
}

// Azure returns a container of Azure Blob Storage. No request is made.
func Azure(o AzureOptions) (Bucket, error) {
	g := &guard{next: o.Transport, limits: o.Limits.OrDefault()}
	u, err := url.Parse(o.Endpoint)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		// The cause would quote the endpoint, whose query may be a SAS token.
		return nil, &storageError{property: ErrEndpoint, err: errors.New("spec.endpoint: not a URL of the form https://account.blob.core.windows.net")}
	}
	b := &azure{host: hostOf(u), guard: g, secrets: querySecrets(u)}
	u = u.JoinPath(o.Bucket)
	client := policy.ClientOptions{
		Transport: g.client(),
		Retry:     policy.RetryOptions{MaxRetries: azureRetries},
		// What the service sends is not logged.
		Logging: policy.LogOptions{IncludeBody: false},
	}
	options := &container.ClientOptions{ClientOptions: client}
	data := o.Secret
	for _, key := range []string{azClientSecret, azClientCertificate, azCertificatePassword, azAccountKey, azSASKey} {
		b.secrets = append(b.secrets, string(data[key]))
	}
	credential, err := azureCredential(data, client)
	switch {
	case err != nil:
		return nil, b.unusable(err)
	case credential != nil:
		b.client, err = container.NewClient(u.String(), credential, options)
	case len(data[azAccountKey]) > 0:
		var shared *container.SharedKeyCredential
		if shared, err = sharedKey(u, data[azAccountKey]); err == nil {
			b.client, err = container.NewClientWithSharedKeyCredential(u.String(), shared, options)
		}
	case len(data[azSASKey]) > 0:
		if err = addSAS(u, string(data[azSASKey])); err == nil {
			b.secrets = append(b.secrets, querySecrets(u)...)
			b.client, err = container.NewClientWithNoCredential(u.String(), options)
		}
	case data != nil && len(data[azAuthorityHost]) == 0:
		err = fmt.Errorf("the keys of the Secret are no credentials: give '%s', '%s' and '%s' or '%s', or '%s' alone, or '%s', or '%s'",
			azTenantID, azClientID, azClientSecret, azClientCertificate, azClientID, azAccountKey, azSASKey)
	default:
		b.client, err = azureWithout(u, o.Token, data, options, b)
	}
	if err != nil {
		return nil, b.unusable(err)
	}
	return b, nil
}

// azureWithout connects without credentials of a Secret: as the environment says, as an identity, or as nobody
// (bucket 12, 50, 51).
func azureWithout(u *url.URL, token TokenFunc, data map[string][]byte, options *container.ClientOptions, b *azure) (*container.Client, error) {
	var chain []azcore.TokenCredential
	if AzureHost(u.String()) {
		environment, err := azidentity.NewEnvironmentCredential(&azidentity.EnvironmentCredentialOptions{
			ClientOptions: authority(options.ClientOptions, data),
		})
		// Without its variables the environment has no credential, which is no error here.
		if err == nil {
			chain = append(chain, environment)
		}
	}
	if token != nil {
		chain = append(chain, azureToken(token))
	}
	if len(chain) == 0 {
		b.anonymous = u.RawQuery == ""
		return container.NewClientWithNoCredential(u.String(), options)
	}
	credential, err := azidentity.NewChainedTokenCredential(chain, nil)
	if err != nil {
		return nil, err
	}
	return container.NewClient(u.String(), credential, options)
}

// authority returns the options of a credential that signs in where the Secret says.
func authority(o policy.ClientOptions, data map[string][]byte) policy.ClientOptions {
	if host := data[azAuthorityHost]; len(host) > 0 {
		o.Cloud = cloud.Configuration{ActiveDirectoryAuthorityHost: string(host)}
	}
	return o
}

// azureCredential returns the identity that a Secret describes, nil when it is of another form (bucket 11, 52).
func azureCredential(data map[string][]byte, client policy.ClientOptions) (azcore.TokenCredential, error) {
	client = authority(client, data)
	tenant, id := string(data[azTenantID]), string(data[azClientID])
	switch {
	case id == "" && len(data[azResourceID]) > 0:
		return credential(azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{
			ClientOptions: client, ID: azidentity.ResourceID(data[azResourceID]),
		}))
	case id == "":
		return nil, nil
	case tenant != "" && len(data[azClientSecret]) > 0:
		return credential(azidentity.NewClientSecretCredential(tenant, id, string(data[azClientSecret]),
			&azidentity.ClientSecretCredentialOptions{ClientOptions: client}))
	case tenant != "" && len(data[azClientCertificate]) > 0:
		certificates, key, err := azidentity.ParseCertificates(data[azClientCertificate], data[azCertificatePassword])
		if err != nil {
			return nil, fmt.Errorf("key '%s': no certificate with its RSA key, in PEM or as PKCS#12, that '%s' opens", azClientCertificate, azCertificatePassword)
		}
		return credential(azidentity.NewClientCertificateCredential(tenant, id, certificates, key,
			&azidentity.ClientCertificateCredentialOptions{ClientOptions: client, SendCertificateChain: sendChain(data, certificates)}))
	}
	return credential(azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{
		ClientOptions: client, ID: azidentity.ClientID(id),
	}))
}

// credential turns a constructor's nil pointer into no credential.
func credential[C azcore.TokenCredential](c C, err error) (azcore.TokenCredential, error) {
	if err != nil {
		return nil, err
	}
	return c, nil
}

func sendChain(data map[string][]byte, certificates []*x509.Certificate) bool {
	value := string(data[azSendChain])
	return len(certificates) > 0 && (value == "1" || strings.EqualFold(value, "true"))
}

func sharedKey(u *url.URL, key []byte) (*container.SharedKeyCredential, error) {
	labels := strings.Split(u.Hostname(), ".")
	if len(labels) <= 2 {
		return nil, fmt.Errorf("spec.endpoint: the host '%s' does not begin with the name of the account, which '%s' belongs to", u.Hostname(), azAccountKey)
	}
	shared, err := blob.NewSharedKeyCredential(labels[0], string(key))
	if err != nil {
		return nil, fmt.Errorf("key '%s': not base64", azAccountKey)
	}
	return shared, nil
}

// addSAS adds a SAS token to the query of a URL, over what is there (bucket 11, 13).
func addSAS(u *url.URL, token string) error {
	values, err := url.ParseQuery(strings.TrimPrefix(strings.TrimSpace(token), "?"))
	if err != nil {
		return fmt.Errorf("key '%s': not a SAS token of the form sv=...&sig=...", azSASKey)
	}
	query := u.Query()
	maps.Copy(query, values)
	u.RawQuery = query.Encode()
	return nil
}

// querySecrets are the values of a query that must not be shown: those of a SAS token.
func querySecrets(u *url.URL) []string {
	return slices.Concat(slices.Collect(maps.Values(u.Query()))...)
}

func (b *azure) unusable(err error) error {
	return &storageError{property: ErrCredentials, err: err, secrets: b.secrets}
}

// List implements Bucket. A container without blobs that match answers as well as another: its existence needs no request
// of its own (bucket 15).
func (b *azure) List(ctx context.Context, prefix string, fn func(Object) error) error {
	ctx, end := begin(ctx, false)
	defer end()
	size := int32(azurePage)
	pager := b.client.NewListBlobsFlatPager(&container.ListBlobsFlatOptions{Prefix: &prefix, MaxResults: &size})
	for pager.More() {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return b.failed(ctx, err)
		}
		if page.Segment == nil {
			return &storageError{property: ErrMalformed, err: errors.New("the listing has no list of blobs")}
		}
		for _, item := range page.Segment.BlobItems {
			o, err := azureObject(item)
			if err != nil {
				return err
			}
			if err := fn(o); err != nil {
				return err
			}
		}
	}
	return nil
}

func azureObject(item *container.BlobItem) (Object, error) {
	if item == nil || item.Name == nil || item.Properties == nil || item.Properties.ETag == nil {
		return Object{}, &storageError{property: ErrMalformed, err: errors.New("the listing has a blob without a name or an ETag")}
	}
	o := Object{Key: *item.Name, ETag: quoted(*item.Properties.ETag)}
	if item.Properties.ContentLength != nil {
		o.Size = *item.Properties.ContentLength
	}
	return o, nil
}

// quoted is an ETag as the answers to single requests have it; listings leave out the quotes (bucket 24).
func quoted(tag azcore.ETag) string {
	return `"` + strings.Trim(string(tag), `"`) + `"`
}

// Get implements Bucket.
func (b *azure) Get(ctx context.Context, o Object, w io.Writer) (Object, error) {
	ctx, end := begin(ctx, true)
	defer end()
	options := &blob.DownloadStreamOptions{}
	if o.ETag != "" {
		tag := azcore.ETag(o.ETag)
		options.AccessConditions = &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfMatch: &tag}}
	}
	answer, err := b.client.NewBlobClient(o.Key).DownloadStream(ctx, options)
	if err != nil {
		return o, b.failed(ctx, err)
	}
	defer answer.Body.Close()
	if _, err := io.Copy(w, answer.Body); err != nil {
		return o, b.failed(ctx, err)
	}
	if o.ETag == "" && answer.ETag != nil {
		o.ETag = quoted(*answer.ETag)
	}
	return o, nil
}

// failed puts what the service says into one line.
func (b *azure) failed(ctx context.Context, err error) error {
	failure := &storageError{err: cause(ctx, err), secrets: b.secrets}
	var signIn *azidentity.AuthenticationFailedError
	var answer *azcore.ResponseError
	switch {
	case errors.As(failure.err, &signIn):
		failure.property = ErrDenied
		failure.err = fmt.Errorf("signing in failed; check the credentials of spec.secretRef or the identity of the controller, and that it has the role 'Storage Blob Data Reader': %w", failure.err)
		return failure
	case !errors.As(failure.err, &answer):
		return failure
	}
	text := fmt.Sprintf("the server answered %d %s", answer.StatusCode, cmp.Or(answer.ErrorCode, http.StatusText(answer.StatusCode)))
	switch {
	case answer.ErrorCode == string(bloberror.ContainerNotFound):
		failure.property = ErrNoBucket
	case answer.ErrorCode == string(bloberror.ConditionNotMet) || answer.StatusCode == http.StatusPreconditionFailed:
		failure.property = ErrChanged
	case answer.ErrorCode == string(bloberror.BlobNotFound):
		failure.property = ErrNoObject
	case answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden || answer.ErrorCode == string(bloberror.ResourceNotFound) && b.anonymous:
		// bucket 48; a private container does not show itself to strangers.
		failure.property = ErrDenied
		text += ": the credentials are missing, wrong, or lack the role 'Storage Blob Data Reader' or the permission to list and to read"
	}
	failure.err = errors.New(text)
	return failure
}

// Host implements Bucket.
func (b *azure) Host() string { return b.host }

// Close implements Bucket.
func (b *azure) Close() { b.guard.close() }

// AzureHost reports whether an endpoint is Azure's own: only there the identity of the controller may be shown, which the
// author of a spec does not own.
func AzureHost(endpoint string) bool {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "https" {
		return false
	}
	host := strings.ToLower(u.Hostname())
	return slices.ContainsFunc([]string{
		".core.windows.net", ".storage.azure.net", ".core.chinacloudapi.cn", ".core.usgovcloudapi.net",
	}, func(suffix string) bool { return strings.HasSuffix(host, suffix) })
}

// azureToken is an identity whose tokens come from elsewhere.
type azureToken TokenFunc

// GetToken implements azcore.TokenCredential.
func (f azureToken) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	value, expires, err := f(ctx, o.Scopes...)
	if err != nil {
		return azcore.AccessToken{}, err
	}
	return azcore.AccessToken{Token: value, ExpiresOn: expires}, nil
}
