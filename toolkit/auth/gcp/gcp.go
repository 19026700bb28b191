// Package gcp obtains credentials from Google Cloud: tokens, and logins of its registries.
package gcp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
	"k8s.io/utils/clock"

	"github.com/seed-79636ae9/flux/toolkit/auth"
)

const (
	accountAnnotation  = "iam.gke.io/gcp-service-account"
	providerAnnotation = "gcp.auth.fluxcd.io/workload-identity-provider"

	// platformScope leaves it to IAM what a token may do.
	platformScope = "https://www.googleapis.com/auth/cloud-platform"
	registryUser  = "oauth2accesstoken"

	maxCredentialsFile = 1 << 20
)

// Options change where Google Cloud is found.
type Options struct {
	// STS, IAMCredentials and Metadata are URLs of these services; empty: Google's. The metadata server may also be named by the
	// environment (GCE_METADATA_HOST).
	STS, IAMCredentials, Metadata string
	// Container is the URL of the API of Kubernetes Engine; empty: Google's.
	Container string
	// Clock is the time from which lifetimes count; nil: the real one.
	Clock clock.PassiveClock
}

// Cloud is Google Cloud.
type Cloud struct{ options Options }

// New returns Google Cloud.
func New(o Options) *Cloud {
	o.STS = or(o.STS, "https://sts.googleapis.com")
	o.Container = or(o.Container, "https://container.googleapis.com")
	o.IAMCredentials = or(o.IAMCredentials, "https://iamcredentials.googleapis.com")
	if host := os.Getenv("GCE_METADATA_HOST"); o.Metadata == "" && host != "" {
		o.Metadata = "http://" + host
	}
	o.Metadata = or(o.Metadata, "http://metadata.google.internal")
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	return &Cloud{options: o}
}

func or(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}

// Name implements auth.Cloud.
func (c *Cloud) Name() string { return auth.GCP }

// The forms of hosts and of names; what is built into a URL has no room for more.
var (
	registry     = regexp.MustCompile(`^([a-z0-9-]+-docker\.pkg\.dev|([a-z0-9-]+\.)?gcr\.io)$`)
	accountEmail = regexp.MustCompile(`^[a-zA-Z0-9.:-]{1,100}@[a-zA-Z0-9.-]{1,150}\.gserviceaccount\.com$`)
	poolProvider = regexp.MustCompile(`^projects/[0-9]{1,30}/locations/global/workloadIdentityPools/[^/]{1,100}/providers/[^/]{1,100}$`)
	clusterName  = regexp.MustCompile(`^[a-zA-Z0-9:._-]{1,100}$`)
)

// CheckRegistry implements auth.RegistryCloud.
func (c *Cloud) CheckRegistry(host string) error {
	if !registry.MatchString(host) {
		return fmt.Errorf("%w: '%s' is not <location>-docker.pkg.dev, gcr.io or <location>.gcr.io", auth.ErrUnsupported, host)
	}
	return nil
}

// Registry implements auth.RegistryCloud.
func (c *Cloud) Registry(ctx context.Context, call *auth.Call, _ string) (auth.Login, error) {
	token, err := c.Token(ctx, call, nil)
	return auth.Login{Username: registryUser, Password: token.Value, Expires: token.Expires}, err
}

// Token implements auth.TokenCloud. Without scopes it is for the whole platform.
func (c *Cloud) Token(ctx context.Context, call *auth.Call, scopes []string) (auth.Token, error) {
	if len(scopes) == 0 {
		scopes = []string{platformScope}
	}
	if call.Account != nil {
		return c.federated(ctx, call, scopes)
	}
	return c.own(ctx, call, scopes)
}

// own is the identity of the process: what the file of the application default credentials says, or else the machine's metadata server.
func (c *Cloud) own(ctx context.Context, call *auth.Call, scopes []string) (auth.Token, error) {
	file := os.Getenv("GOOGLE_APPLICATION_CREDENTIALS")
	if file == "" {
		if home, err := os.UserHomeDir(); err == nil {
			file = filepath.Join(home, ".config", "gcloud", "application_default_credentials.json")
		}
		if _, err := os.Stat(file); err != nil {
			return c.machine(ctx, call, scopes)
		}
	}
	token, err := fromFile(context.WithValue(ctx, oauth2.HTTPClient, call.HTTP), file, scopes)
	if err != nil {
		return auth.Token{}, fmt.Errorf("use the application default credentials: %w", err)
	}
	return auth.Token{Value: token.AccessToken, Expires: token.Expiry}, nil
}

func fromFile(ctx context.Context, file string, scopes []string) (*oauth2.Token, error) {
	if info, err := os.Stat(file); err != nil {
		return nil, err
	} else if info.Size() > maxCredentialsFile {
		return nil, fmt.Errorf("%w: the file '%s' has more than %d bytes", auth.ErrLimit, file, maxCredentialsFile)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var kind struct {
		Type google.CredentialsType `json:"type"`
	}
	if json.Unmarshal(content, &kind) != nil {
		return nil, fmt.Errorf("the file '%s' is not JSON", file)
	}
	credentials, err := google.CredentialsFromJSONWithType(ctx, content, kind.Type, scopes...)
	if err != nil {
		return nil, err
	}
	return credentials.TokenSource.Token()
}

// issued is the answer of Google's servers to whom asks for a token.
type issued struct {
	Token     string `json:"access_token"`
	ExpiresIn int64  `json:"expires_in"`
}

func (c *Cloud) accept(answer issued) (auth.Token, error) {
	if answer.Token == "" || answer.ExpiresIn <= 0 {
		return auth.Token{}, errors.New("the answer has no token or no lifetime")
	}
	return auth.Token{Value: answer.Token, Expires: c.options.Clock.Now().Add(time.Duration(min(answer.ExpiresIn, 24*3600)) * time.Second)}, nil
}

// federated exchanges a token of the ServiceAccount, for the identity itself or for a Google service account it may act as (contract: wire 2).
func (c *Cloud) federated(ctx context.Context, call *auth.Call, scopes []string) (auth.Token, error) {
	account := call.Account
	email := account.Annotations[accountAnnotation]
	if email != "" && !accountEmail.MatchString(email) {
		return auth.Token{}, fmt.Errorf("%w: its annotation '%s' is '%s', not name@project.iam.gserviceaccount.com", auth.ErrServiceAccount, accountAnnotation, email)
	}
	pool, err := c.pool(ctx, call)
	if err != nil {
		return auth.Token{}, err
	}
	subject, err := account.Token(ctx, pool.tokenAudience)
	if err != nil {
		return auth.Token{}, err
	}
	wanted := scopes
	if email != "" {
		wanted = []string{platformScope}
	}
	token, err := c.exchange(ctx, call, pool.audience, subject, wanted)
	if err != nil {
		return auth.Token{}, fmt.Errorf("exchange the token of the service account: %w", err)
	}
	call.Hide(token.Value)
	if email == "" {
		return token, nil
	}
	if token, err = c.impersonate(ctx, call, token.Value, email, scopes); err != nil {
		return auth.Token{}, fmt.Errorf("act as '%s': %w", email, err)
	}
	return token, nil
}
