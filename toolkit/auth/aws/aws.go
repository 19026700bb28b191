// Package aws obtains credentials from Amazon Web Services: for its registries, CodeCommit, and signed requests.
package aws

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecrpublic"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"k8s.io/utils/clock"

	"github.com/seed-79636ae9/flux/toolkit/auth"
)

const (
	roleAnnotation = "eks.amazonaws.com/role-arn"
	tokenAudience  = "sts.amazonaws.com"
	publicRegistry = "public.ecr.aws"
	// publicRegion is the only one that logs in to the public registry.
	publicRegion = "us-east-1"
	// maxSessionName is AWS's.
	maxSessionName = 64
)

// Options change where AWS is found.
type Options struct {
	// STS, ECR, ECRPublic and EKS are URLs of these services; empty: AWS's, or those of the environment (AWS_ENDPOINT_URL_STS, ...).
	STS, ECR, ECRPublic, EKS string
	// TrustedHosts are further hosts, with their port if any, that an object may name as its STS endpoint while it acts as the process
	// itself. Its token is worth the identity of the process, so that by default only AWS's endpoints see it.
	TrustedHosts []string
	// Clock is the time of signatures; nil: the real one.
	Clock clock.PassiveClock
}

// Cloud is AWS.
type Cloud struct{ options Options }

// New returns AWS.
func New(o Options) *Cloud {
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	return &Cloud{options: o}
}

// Name implements auth.Cloud.
func (c *Cloud) Name() string { return auth.AWS }

// Keys implements auth.KeysCloud (contract: bucket 6, 55).
func (c *Cloud) Keys(ctx context.Context, call *auth.Call) (auth.Keys, error) {
	_, keys, err := c.identify(ctx, call, call.Region)
	return keys, err
}

// privateRegistry are the hosts of ECR; the groups are the suffix of FIPS and the region.
var privateRegistry = regexp.MustCompile(`^[0-9]{12}\.dkr\.ecr(-fips)?\.([a-z0-9-]{1,63})\.amazonaws\.com(?:\.cn)?$`)

// CheckRegistry implements auth.RegistryCloud.
func (c *Cloud) CheckRegistry(host string) error {
	if host != publicRegistry && !privateRegistry.MatchString(host) {
		return fmt.Errorf("%w: '%s' is not <account>.dkr.ecr.<region>.amazonaws.com or %s", auth.ErrUnsupported, host, publicRegistry)
	}
	return nil
}

// Registry implements auth.RegistryCloud.
func (c *Cloud) Registry(ctx context.Context, call *auth.Call, host string) (auth.Login, error) {
	if host == publicRegistry {
		return c.publicLogin(ctx, call)
	}
	parts := privateRegistry.FindStringSubmatch(host)
	settings, _, err := c.identify(ctx, call, parts[2])
	if err != nil {
		return auth.Login{}, err
	}
	client := ecr.NewFromConfig(settings, func(o *ecr.Options) {
		o.BaseEndpoint = or(c.options.ECR, o.BaseEndpoint)
		// The SDK refuses to look for the one at another place.
		if parts[1] != "" && o.BaseEndpoint == nil {
			o.EndpointOptions.UseFIPSEndpoint = aws.FIPSEndpointStateEnabled
		}
	})
	answer, err := client.GetAuthorizationToken(ctx, &ecr.GetAuthorizationTokenInput{})
	if err != nil {
		return auth.Login{}, explain("get an authorization token of ECR", err)
	}
	if len(answer.AuthorizationData) == 0 {
		return auth.Login{}, errors.New("get an authorization token of ECR: the answer has none")
	}
	return login(answer.AuthorizationData[0].AuthorizationToken, answer.AuthorizationData[0].ExpiresAt)
}

func (c *Cloud) publicLogin(ctx context.Context, call *auth.Call) (auth.Login, error) {
	settings, _, err := c.identify(ctx, call, publicRegion)
	if err != nil {
		return auth.Login{}, err
	}
	client := ecrpublic.NewFromConfig(settings, func(o *ecrpublic.Options) { o.BaseEndpoint = or(c.options.ECRPublic, o.BaseEndpoint) })
	answer, err := client.GetAuthorizationToken(ctx, &ecrpublic.GetAuthorizationTokenInput{})
	if err != nil {
		return auth.Login{}, explain("get an authorization token of ECR Public", err)
	}
	if answer.AuthorizationData == nil {
		return auth.Login{}, errors.New("get an authorization token of ECR Public: the answer has none")
	}
	return login(answer.AuthorizationData.AuthorizationToken, answer.AuthorizationData.ExpiresAt)
}

// login reads the token of a registry, which is "user:password" in base64.
func login(token *string, expires *time.Time) (auth.Login, error) {
	decoded, err := base64.StdEncoding.DecodeString(aws.ToString(token))
	user, password, ok := strings.Cut(string(decoded), ":")
	if err != nil || !ok || user == "" || password == "" {
		return auth.Login{}, errors.New("read the authorization token: not a user name and a password in base64")
	}
	return auth.Login{Username: user, Password: password, Expires: aws.ToTime(expires)}, nil
}

// identify returns the keys of the one who is asked for, and a configuration that uses them.
func (c *Cloud) identify(ctx context.Context, call *auth.Call, region string) (aws.Config, auth.Keys, error) {
	endpoint, err := c.stsEndpoint(call)
	if err != nil {
		return aws.Config{}, auth.Keys{}, err
	}
	options := []func(*config.LoadOptions) error{config.WithHTTPClient(call.HTTP), config.WithRegion(region)}
	if endpoint != "" {
		client := sts.New(sts.Options{Region: region, HTTPClient: call.HTTP, BaseEndpoint: &endpoint})
		options = append(options, config.WithWebIdentityRoleCredentialOptions(func(o *stscreds.WebIdentityRoleOptions) { o.Client = client }))
	}
	if call.Account != nil {
		if region == "" {
			return aws.Config{}, auth.Keys{}, fmt.Errorf("%w: acting as a service account needs one, in the object", auth.ErrRegion)
		}
		// The chain of the process must not even be looked at.
		options = append(options, config.WithCredentialsProvider(aws.AnonymousCredentials{}))
	}
	settings, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return aws.Config{}, auth.Keys{}, explain("read the configuration of AWS", err)
	}
	if call.Account != nil {
		settings.Credentials, err = c.assume(ctx, call, settings.Region, sts.NewFromConfig(settings, func(o *sts.Options) { o.BaseEndpoint = or(endpoint, o.BaseEndpoint) }))
		if err != nil {
			return aws.Config{}, auth.Keys{}, err
		}
	}
	got, err := settings.Credentials.Retrieve(ctx)
	if err != nil {
		return aws.Config{}, auth.Keys{}, explain("find the keys of the process", err)
	}
	call.Hide(got.SecretAccessKey)
	call.Hide(got.SessionToken)
	keys := auth.Keys{AccessKey: got.AccessKeyID, SecretKey: got.SecretAccessKey, SessionToken: got.SessionToken}
	if got.CanExpire {
		keys.Expires = got.Expires
	}
	return settings, keys, nil
}

var roleARN = regexp.MustCompile(`^arn:aws[\w-]*:iam::[0-9]{1,30}:role/.{1,200}$`)

// assume takes the role of the ServiceAccount (contract: wire 2).
func (c *Cloud) assume(ctx context.Context, call *auth.Call, region string, client *sts.Client) (aws.CredentialsProvider, error) {
	account := call.Account
	role := account.Annotations[roleAnnotation]
	if !roleARN.MatchString(role) {
		return nil, fmt.Errorf("%w: its annotation '%s' is '%s', not the ARN of a role like arn:aws:iam::123456789012:role/name",
			auth.ErrServiceAccount, roleAnnotation, role)
	}
	token, err := account.Token(ctx, tokenAudience)
	if err != nil {
		return nil, err
	}
	answer, err := client.AssumeRoleWithWebIdentity(ctx, &sts.AssumeRoleWithWebIdentityInput{
		RoleArn: &role, RoleSessionName: aws.String(sessionName(account, region)), WebIdentityToken: &token,
	})
	if err != nil {
		return nil, explain(fmt.Sprintf("assume the role '%s'", role), err)
	}
	if answer.Credentials == nil {
		return nil, fmt.Errorf("assume the role '%s': the answer has no credentials", role)
	}
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		got := answer.Credentials
		return aws.Credentials{
			AccessKeyID: aws.ToString(got.AccessKeyId), SecretAccessKey: aws.ToString(got.SecretAccessKey), SessionToken: aws.ToString(got.SessionToken),
			CanExpire: got.Expiration != nil, Expires: aws.ToTime(got.Expiration),
		}, nil
	}), nil
}

// sessionName is what AWS's audit log shows (contract: wire 17). Names of Kubernetes consist of characters that it allows.
func sessionName(a *auth.Account, region string) string {
	name := a.Name + "." + a.Namespace + "." + region + ".fluxcd.io"
	return name[:min(len(name), maxSessionName)]
}

// stsEndpoint returns the URL of STS, empty for AWS's own.
func (c *Cloud) stsEndpoint(call *auth.Call) (string, error) {
	endpoint := call.STSEndpoint
	if endpoint == "" {
		return c.options.STS, nil
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || !slices.Contains([]string{"http", "https"}, u.Scheme) {
		return "", errors.New("the STS endpoint is not a URL of the form https://host")
	}
	// Whoever writes the object may have tokens of its ServiceAccounts made, but none of the process.
	own := call.Account == nil
	if own && !slices.Contains(c.options.TrustedHosts, u.Host) && (u.Scheme != "https" || !awsSTS.MatchString(u.Host)) {
		return "", fmt.Errorf("%w: the STS endpoint '%s' is not AWS's, and would see the identity of the controller: name a service account, or set AWS_ENDPOINT_URL_STS for the controller",
			auth.ErrUnsupported, u.Host)
	}
	return endpoint, nil
}

// awsSTS are the global, regional, FIPS, dual-stack and VPC endpoints.
var awsSTS = regexp.MustCompile(`^(vpce-[a-z0-9-]+\.)?sts(-fips)?\.([a-z0-9-]+\.)?(vpce\.)?(amazonaws\.com(\.cn)?|api\.aws)(:443)?$`)

func or(value string, otherwise *string) *string {
	if value == "" {
		return otherwise
	}
	return &value
}

// explain keeps the code and the message of what AWS answers, and drops the id of the request: it differs every time, and a status that
// holds it changes with every try.
func explain(doing string, err error) error {
	if answer, ok := errors.AsType[smithy.APIError](err); ok {
		return fmt.Errorf("%s: %w", doing, &answerError{answer})
	}
	return fmt.Errorf("%s: %w", doing, err)
}

type answerError struct{ smithy.APIError }

func (e *answerError) Error() string { return e.ErrorCode() + ": " + e.ErrorMessage() }

func (e *answerError) Unwrap() error { return e.APIError }
