package cli

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/seed-79636ae9/flux/internal/kind"
	"github.com/seed-79636ae9/flux/toolkit/auth"
	"github.com/seed-79636ae9/flux/toolkit/oci"
)

// registryOptions are the flags of commands that talk to a registry (cli 34).
type registryOptions struct {
	creds    string
	provider kind.Enum
	insecure bool
}

func (o *registryOptions) bind(flags *pflag.FlagSet) {
	o.provider = kind.Enum{Value: auth.Generic, Allowed: []string{auth.Generic, auth.AWS, auth.Azure, auth.GCP}, Noun: "OCI provider"}
	flags.StringVar(&o.creds, "creds", "", "credentials for OCI registry in the format <username>[:<password>] if --provider is generic")
	flags.Var(&o.provider, "provider", "the OCI provider used for authentication, one of: generic, aws, azure, gcp")
}

func (o *registryOptions) bindInsecure(flags *pflag.FlagSet) {
	flags.BoolVar(&o.insecure, "insecure-registry", false, "allows artifacts to be pushed and pulled without TLS")
}

// remote is a repository with a client that may use it.
type remote struct {
	client *oci.Client
	ref    name.Reference
	tagged bool
}

// connect parses "oci://<host>/<path>[:<tag>|@<digest>]" and finds the credentials for it.
func (o *registryOptions) connect(ctx context.Context, f *Factory, address string) (*remote, error) {
	rest, ok := strings.CutPrefix(address, oci.URLPrefix)
	if !ok {
		return nil, &usageError{fmt.Errorf("'%s' is not an address of the form oci://<host>/<path>:<tag>", address)}
	}
	var parse []name.Option
	if o.insecure {
		parse = append(parse, name.Insecure)
	}
	ref, err := name.ParseReference(rest, parse...)
	if err != nil {
		return nil, &usageError{fmt.Errorf("address '%s': %w", address, err)}
	}
	keychain, err := o.keychain(ctx, f, ref.Context())
	if err != nil {
		return nil, err
	}
	client, err := oci.New(oci.Options{Keychain: keychain, Insecure: o.insecure})
	if err != nil {
		return nil, err
	}
	_, path, _ := strings.Cut(rest, "/")
	return &remote{client: client, ref: ref, tagged: strings.ContainsAny(path, ":@")}, nil
}

func (o *registryOptions) keychain(ctx context.Context, f *Factory, repo name.Repository) (authn.Keychain, error) {
	if o.provider.Value != auth.Generic {
		if o.creds != "" {
			return nil, &usageError{errors.New("--creds is for --provider=generic")}
		}
		clouds, err := f.authenticator()
		if err != nil {
			return nil, err
		}
		login, err := clouds.Registry(ctx, o.provider.Value, auth.Request{Operation: "cli"}, repo.Name())
		if err != nil {
			return nil, fmt.Errorf("sign in to the registry: %w", err)
		}
		return oci.Login(repo.Registry, login.Username, login.Password), nil
	}
	if o.creds != "" {
		username, password, _ := strings.Cut(o.creds, ":")
		if username == "" {
			return nil, &usageError{errors.New("--creds is not of the form <username>[:<password>]")}
		}
		return oci.Login(repo.Registry, username, password), nil
	}
	return authn.DefaultKeychain, nil
}

// url is the address of a reference as commands print it.
func artifactURL(ref name.Reference) string { return oci.URLPrefix + ref.Name() }

// retry tries again where it may help: three times after a second, or so, and up to ten times in all (cli 35).
func retry(ctx context.Context, do func() error) error {
	backoff := wait.Backoff{Duration: time.Second, Factor: 1.5, Jitter: 0.1, Steps: 10, Cap: 10 * time.Second}
	var last error
	err := wait.ExponentialBackoffWithContext(ctx, backoff, func(context.Context) (bool, error) {
		last = do()
		if last == nil {
			return true, nil
		}
		for _, final := range []error{oci.ErrUnauthorized, oci.ErrNotFound, oci.ErrInvalidURL, oci.ErrLimit, oci.ErrMalformed, oci.ErrRedirect, context.Canceled} {
			if errors.Is(last, final) {
				return false, last
			}
		}
		return false, nil
	})
	if err != nil && last != nil {
		return last
	}
	return err
}

// attachment matches the tags under which signatures, attestations and bills of materials are kept beside an artifact.
func attachment() *regexp.Regexp {
	return regexp.MustCompile(`^sha256-[0-9a-f]{64}(\.(sig|att|sbom))?$`)
}
