package sops

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	azcloud "github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/getsops/sops/v3/keyservice"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"

	"github.com/seed-79636ae9/flux/toolkit/auth"
)

// Endpoints change where clouds are found.
type Endpoints struct {
	// AWS and STS are URLs of KMS and STS, GCP is that of Cloud KMS; empty: those of the clouds.
	AWS, STS, GCP string
	// AzureHosts are further hosts, with their port if any, that may see tokens for Key Vault.
	AzureHosts []string
}

const (
	gcpEndpoint     = "https://cloudkms.googleapis.com"
	gcpScope        = "https://www.googleapis.com/auth/cloudkms"
	azureAPIVersion = "7.4"
	sessionName     = "sops@flux"
)

// errNoIdentity is the answer where neither key material nor identity exists.
func errNoIdentity(what, key string) error {
	return fmt.Errorf("no credentials for %s: add '%s' to the Secret, or give the controller or a service account an identity", what, key)
}

// kmsARN is a key or an alias; the group is the region, which becomes part of the host (kustomization 42).
var kmsARN = regexp.MustCompile(`^arn:aws[a-z-]{0,20}:kms:([a-z]{2,4}(?:-[a-z0-9]{1,20}){2,3}):[0-9]{12}:(?:key|alias)/[\w/-]{1,256}$`)

// awsKMS decrypts with AWS KMS. No configuration but this one is looked at: no profile, no environment.
func (d *Decrypter) awsKMS(ctx context.Context, key *keyservice.KmsKey, ciphertext []byte) ([]byte, error) {
	match := kmsARN.FindStringSubmatch(key.Arn)
	if match == nil {
		return nil, errors.New("the ARN is not one of a key or an alias of AWS KMS")
	}
	blob, err := base64.StdEncoding.DecodeString(string(ciphertext))
	if err != nil {
		return nil, errors.New("the encrypted data key is not base64")
	}
	provider, err := d.awsCredentials(ctx, match[1], key.Role)
	if err != nil {
		return nil, err
	}
	client := kms.New(kms.Options{Region: match[1], Credentials: provider, HTTPClient: d.http, BaseEndpoint: endpoint(d.endpoints.AWS), RetryMaxAttempts: 2})
	answer, err := client.Decrypt(ctx, &kms.DecryptInput{KeyId: &key.Arn, CiphertextBlob: blob, EncryptionContext: key.Context})
	if err != nil {
		return nil, fmt.Errorf("failed to decrypt sops data key with AWS KMS: %w", explainAWS(err))
	}
	return checkDataKey(answer.Plaintext)
}

// explainAWS keeps the code and the message of an answer, and drops the id of the request: it differs every time, and a
// status that holds it changes with every try.
func explainAWS(err error) error {
	if answer, ok := errors.AsType[smithy.APIError](err); ok {
		return fmt.Errorf("%s: %s", answer.ErrorCode(), answer.ErrorMessage())
	}
	return err
}

func endpoint(url string) *string {
	if url == "" {
		return nil
	}
	return &url
}

// awsCredentials are those of the Secret or of the identity, or of the role that the file names, taken with them.
func (d *Decrypter) awsCredentials(ctx context.Context, region, role string) (aws.CredentialsProvider, error) {
	keys := d.keys.aws
	if keys == nil && d.identity.AWS != nil {
		var err error
		if keys, err = d.identity.AWS(ctx, region); err != nil {
			return nil, err
		}
	}
	if keys == nil {
		return nil, errNoIdentity("AWS KMS", AWSKey)
	}
	d.hide(keys.SecretKey)
	d.hide(keys.SessionToken)
	own := credentials.NewStaticCredentialsProvider(keys.AccessKey, keys.SecretKey, keys.SessionToken)
	if role == "" {
		return own, nil
	}
	client := sts.New(sts.Options{Region: region, Credentials: own, HTTPClient: d.http, BaseEndpoint: endpoint(d.endpoints.STS), RetryMaxAttempts: 2})
	return stscreds.NewAssumeRoleProvider(client, role, func(o *stscreds.AssumeRoleOptions) { o.RoleSessionName = sessionName }), nil
}

var gcpResource = regexp.MustCompile(`^projects/[\w.:-]+/locations/[\w-]+/keyRings/[\w-]+/cryptoKeys/[\w-]+$`)

// gcpKMS decrypts with Cloud KMS (https://cloud.google.com/kms/docs/reference/rest).
func (d *Decrypter) gcpKMS(ctx context.Context, resource string, ciphertext []byte) ([]byte, error) {
	if !gcpResource.MatchString(resource) {
		return nil, errors.New("the resource id is not that of a key of GCP KMS")
	}
	token, err := d.gcpToken(ctx)
	if err != nil {
		return nil, err
	}
	var answer struct{ Plaintext string }
	body := map[string]string{"ciphertext": string(ciphertext)}
	if err := d.post(ctx, first(d.endpoints.GCP, gcpEndpoint)+"/v1/"+resource+":decrypt", bearer(token), body, &answer); err != nil {
		return nil, fmt.Errorf("failed to decrypt sops data key with GCP KMS key: %w", err)
	}
	plain, err := base64.StdEncoding.DecodeString(answer.Plaintext)
	if err != nil {
		return nil, errors.New("the answer of GCP KMS has no data key")
	}
	return checkDataKey(plain)
}

func (d *Decrypter) gcpToken(ctx context.Context) (string, error) {
	if d.keys.gcp == nil {
		return d.token(ctx, auth.GCP, gcpScope, "GCP KMS", GCPKey)
	}
	c, err := google.JWTConfigFromJSON(d.keys.gcp, gcpScope)
	if err != nil {
		return "", fmt.Errorf("'%s' of the Secret is not the key of a service account", GCPKey)
	}
	token, err := c.TokenSource(context.WithValue(ctx, oauth2.HTTPClient, d.http)).Token()
	if err != nil {
		return "", fmt.Errorf("obtain a token with '%s' of the Secret: %w", GCPKey, err)
	}
	d.hide(token.AccessToken)
	return token.AccessToken, nil
}

// token is one of the identity.
func (d *Decrypter) token(ctx context.Context, provider, scope, what, key string) (string, error) {
	if d.identity.Token == nil {
		return "", errNoIdentity(what, key)
	}
	token, err := d.identity.Token(ctx, provider, scope)
	if err != nil {
		return "", err
	}
	d.hide(token.Value)
	return token.Value, nil
}

// keyVaultHost are the hosts of Azure Key Vault and Managed HSM; the group is the audience of their tokens.
var keyVaultHost = regexp.MustCompile(`^[a-z0-9-]{1,63}\.((?:vault|managedhsm)\.(?:azure\.net|azure\.cn|usgovcloudapi\.net))$`)

var (
	keyVaultName    = regexp.MustCompile(`^[A-Za-z0-9-]{1,127}$`)
	keyVaultVersion = regexp.MustCompile(`^[A-Za-z0-9]{0,64}$`)
)

// keyVault decrypts with Azure Key Vault (https://learn.microsoft.com/rest/api/keyvault/keys/decrypt).
func (d *Decrypter) keyVault(ctx context.Context, key *keyservice.AzureKeyVaultKey, ciphertext []byte) ([]byte, error) {
	u, err := url.Parse(key.VaultUrl)
	if err != nil || u.Scheme != "https" || u.Path != "" && u.Path != "/" || !keyVaultName.MatchString(key.Name) || !keyVaultVersion.MatchString(key.Version) {
		return nil, errors.New("not a key of Azure Key Vault: the URL has the form https://<name>.vault.azure.net, the name and the version are letters and digits")
	}
	audience := "vault.azure.net"
	if match := keyVaultHost.FindStringSubmatch(u.Host); match != nil {
		audience = match[1]
	} else if !slices.Contains(d.endpoints.AzureHosts, u.Host) {
		return nil, fmt.Errorf("'%s' is not a host of Azure Key Vault, and gets no token", u.Host)
	}
	token, err := d.azureToken(ctx, "https://"+audience+"/.default")
	if err != nil {
		return nil, err
	}
	var answer struct{ Value string }
	body := map[string]string{"alg": "RSA-OAEP-256", "value": string(ciphertext)}
	target := url.URL{Scheme: u.Scheme, Host: u.Host, Path: "/keys/" + key.Name + "/" + key.Version + "/decrypt", RawQuery: "api-version=" + azureAPIVersion}
	if err := d.post(ctx, target.String(), bearer(token), body, &answer); err != nil {
		return nil, fmt.Errorf("failed to decrypt sops data key with Azure Key Vault key '%s': %w", key.Name, err)
	}
	plain, err := base64.RawURLEncoding.DecodeString(answer.Value)
	if err != nil {
		return nil, errors.New("the answer of Azure Key Vault has no data key")
	}
	return checkDataKey(plain)
}

func (d *Decrypter) azureToken(ctx context.Context, scope string) (string, error) {
	if d.keys.azure == nil {
		return d.token(ctx, auth.Azure, scope, "Azure Key Vault", AzureKey)
	}
	credential, err := d.keys.azure.credential(d.http, scope)
	if err != nil {
		return "", err
	}
	token, err := credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{scope}})
	if err != nil {
		return "", fmt.Errorf("obtain a token with '%s' of the Secret: %w", AzureKey, explainEntra(err))
	}
	d.hide(token.Token)
	return token.Token, nil
}

// explainEntra keeps what Entra ID says, and drops the ids and the time in it, for the same reason as explainAWS.
func explainEntra(err error) error {
	failed, ok := errors.AsType[*azidentity.AuthenticationFailedError](err)
	if !ok || failed.RawResponse == nil {
		return err
	}
	var answer struct {
		Code        string `json:"error"`
		Description string `json:"error_description"`
	}
	body, err := runtime.Payload(failed.RawResponse)
	if err != nil || json.Unmarshal(body, &answer) != nil {
		return fmt.Errorf("Entra ID answered %d", failed.RawResponse.StatusCode)
	}
	text, _, _ := strings.Cut(answer.Description, "Trace ID:")
	text = first(strings.TrimSpace(text), answer.Code)
	return fmt.Errorf("Entra ID answered %d: %s", failed.RawResponse.StatusCode, text[:min(len(text), maxReason)])
}

// credential makes the application of the Secret ready. Where it names no authority, the cloud of the vault tells it.
func (c *azureConfig) credential(client *http.Client, scope string) (azcore.TokenCredential, error) {
	authority := azcloud.AzurePublic
	switch {
	case strings.Contains(scope, ".azure.cn/"):
		authority = azcloud.AzureChina
	case strings.Contains(scope, ".usgovcloudapi.net/"):
		authority = azcloud.AzureGovernment
	}
	if c.Authority != "" {
		authority = azcloud.Configuration{ActiveDirectoryAuthorityHost: c.Authority}
	}
	options := azcore.ClientOptions{
		Cloud: authority, Transport: client, Telemetry: policy.TelemetryOptions{Disabled: true},
		Retry: policy.RetryOptions{MaxRetries: 1, RetryDelay: time.Second},
	}
	if c.Certificate == "" {
		return azidentity.NewClientSecretCredential(c.Tenant, c.Client, c.Secret,
			&azidentity.ClientSecretCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: c.Authority != ""})
	}
	chain, key, err := azidentity.ParseCertificates([]byte(c.Certificate), []byte(c.CertificatePassword))
	if err != nil {
		return nil, fmt.Errorf("'%s' of the Secret: clientCertificate is not a certificate with its private key in PEM or PKCS 12", AzureKey)
	}
	return azidentity.NewClientCertificateCredential(c.Tenant, c.Client, chain, key,
		&azidentity.ClientCertificateCredentialOptions{ClientOptions: options, SendCertificateChain: c.SendChain, DisableInstanceDiscovery: c.Authority != ""})
}
