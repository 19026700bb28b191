package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/spf13/pflag"

	"github.com/seed-79636ae9/flux/internal/kind"
	"github.com/seed-79636ae9/flux/internal/ops"
	"github.com/seed-79636ae9/flux/toolkit/secret"
)

func gitSecret() secretKind {
	return secretKind{
		word: "git", short: "Create or update a Kubernetes secret for Git authentication",
		long: `The create secret git command generates a Kubernetes secret with Git credentials.
For Git over SSH, the host and SSH keys are automatically generated and stored in the secret.
For Git over HTTP/S, the provided basic or bearer authentication credentials are stored in the secret.`,
		example: `  # Create a Git SSH authentication secret with a generated ECDSA P-521 key
  flux create secret git podinfo-auth \
    --url=ssh://git@github.com/stefanprodan/podinfo \
    --ssh-key-algorithm=ecdsa \
    --ssh-ecdsa-curve=p521

  # Create a Git SSH authentication secret with an existing key
  flux create secret git podinfo-auth \
    --url=ssh://git@github.com/stefanprodan/podinfo \
    --private-key-file=./private.key

  # Create a secret with a username and a password
  flux create secret git podinfo-auth \
    --url=https://github.com/stefanprodan/podinfo \
    --username=username \
    --password=password

  # Create the manifest of a secret and encrypt it
  flux create secret git podinfo-auth \
    --namespace=apps \
    --url=https://github.com/stefanprodan/podinfo \
    --username=username \
    --password=password \
    --export > auth.yaml
  sops --encrypt --encrypted-regex '^(data|stringData)$' --in-place auth.yaml`,
		bind: bindGitSecret,
	}
}

// gitSecretOptions are the flags of `flux create secret git`.
type gitSecretOptions struct {
	url, username, password, bearer, caFile, privateKeyFile string
	algorithm, curve                                        kind.Enum
	bits                                                    kind.RSABits
}

func bindGitSecret(flags *pflag.FlagSet) buildSecret {
	o := &gitSecretOptions{
		algorithm: kind.Enum{Value: "ecdsa", Allowed: []string{"rsa", "ecdsa", "ed25519"}, Noun: "SSH key algorithm"},
		curve:     kind.Enum{Value: "p384", Allowed: []string{"p256", "p384", "p521"}, Noun: "ECDSA curve"},
		bits:      kind.MinRSABits,
	}
	flags.StringVar(&o.url, "url", "", "git address, e.g. ssh://git@host/org/repository")
	flags.StringVarP(&o.username, "username", "u", "", "basic authentication username")
	flags.StringVarP(&o.password, "password", "p", "", "basic authentication password, or the passphrase of the private key")
	flags.StringVar(&o.bearer, "bearer-token", "", "bearer authentication token")
	flags.Var(&o.algorithm, "ssh-key-algorithm", "SSH public key algorithm, one of: rsa, ecdsa, ed25519")
	flags.Var(&o.bits, "ssh-rsa-bits", "SSH RSA public key bit size (multiplies of 8)")
	flags.Var(&o.curve, "ssh-ecdsa-curve", "SSH ECDSA public key curve, one of: p256, p384, p521")
	flags.StringVar(&o.caFile, "ca-crt-file", "", "path to TLS CA certificate file used for validating self-signed certificates")
	flags.StringVar(&o.privateKeyFile, "private-key-file", "", "path to a private key file used for authenticating to the Git SSH server")
	return o.build
}

func (o *gitSecretOptions) build(ctx context.Context, in secretInput) (*secretContent, error) {
	if o.url == "" {
		return nil, errors.New("--url is required")
	}
	u, err := url.Parse(o.url)
	if err != nil || u.Host == "" {
		return nil, errors.New("--url is not an address of the form https://host/path or ssh://git@host/path")
	}
	switch u.Scheme {
	case "ssh":
		return o.ssh(ctx, in, u)
	case "http", "https":
		return o.http()
	}
	return nil, fmt.Errorf("--url has scheme '%s', use ssh, http or https", u.Scheme)
}

func (o *gitSecretOptions) http() (*secretContent, error) {
	data := map[string]string{}
	switch {
	case o.privateKeyFile != "":
		return nil, errors.New("--private-key-file is for ssh addresses")
	case o.bearer != "" && (o.username != "" || o.password != ""):
		return nil, errors.New("--bearer-token cannot be combined with --username and --password")
	case o.bearer != "":
		data[secret.BearerTokenKey] = o.bearer
	case o.username == "" || o.password == "":
		return nil, errors.New("for Git over HTTP/S give --username and --password, or --bearer-token")
	default:
		data[secret.UsernameKey], data[secret.PasswordKey] = o.username, o.password
	}
	return &secretContent{Data: data}, authority(data, o.caFile)
}

func (o *gitSecretOptions) ssh(ctx context.Context, in secretInput, u *url.URL) (*secretContent, error) {
	switch {
	case o.caFile != "":
		return nil, errors.New("--ca-crt-file is for https addresses, SSH servers are known by their host key")
	case o.bearer != "" || o.username != "":
		return nil, errors.New("--username and --bearer-token are for http and https addresses")
	case o.password != "" && o.privateKeyFile == "":
		return nil, errors.New("--password is the passphrase of --private-key-file, which is missing")
	}
	pair, err := o.keyPair()
	if err != nil {
		return nil, err
	}
	known, err := ops.ScanHostKey(ctx, u.Host)
	if err != nil {
		return nil, err
	}
	data := map[string]string{secret.IdentityKey: string(pair.Private), secret.IdentityPubKey: string(pair.Public), secret.KnownHostsKey: string(known)}
	if o.password != "" {
		data[secret.PasswordKey] = o.password
	}
	in.UI.Generatef("deploy key: %s", bytes.TrimSpace(pair.Public))
	return &secretContent{Data: data}, nil
}

func (o *gitSecretOptions) keyPair() (*ops.KeyPair, error) {
	if o.privateKeyFile == "" {
		return ops.GenerateKey(ops.KeyOptions{Algorithm: o.algorithm.Value, Curve: o.curve.Value, Bits: int(o.bits)})
	}
	private, err := readFlagFile("private-key-file", o.privateKeyFile)
	if err != nil {
		return nil, err
	}
	pair, err := ops.ParseKey(private, o.password)
	if err != nil {
		return nil, fmt.Errorf("--private-key-file: %w", err)
	}
	return pair, nil
}

func githubAppSecret() secretKind {
	return secretKind{
		word: "githubapp", short: "Create or update a github app secret",
		long: `The create secret githubapp command generates a Kubernetes secret that can be used for GitRepository authentication with github app`,
		example: `  # Create a githubapp authentication secret
  flux create secret githubapp podinfo-auth \
    --app-id="1" \
    --app-installation-id="2" \
    --app-private-key=./private-key-file.pem \
    --export > githubapp-auth.yaml`,
		bind: func(flags *pflag.FlagSet) buildSecret {
			var id, installation, owner, keyFile, base string
			flags.StringVar(&id, "app-id", "", "github app ID")
			flags.StringVar(&owner, "app-installation-owner", "", "github app installation owner (user or organization)")
			flags.StringVar(&installation, "app-installation-id", "", "github app installation ID")
			flags.StringVar(&keyFile, "app-private-key", "", "path to github app private key file")
			flags.StringVar(&base, "app-base-url", "", "github app base URL")
			return func(context.Context, secretInput) (*secretContent, error) {
				switch {
				case id == "":
					return nil, errors.New("--app-id is required")
				case keyFile == "":
					return nil, errors.New("--app-private-key is required")
				case (installation == "") == (owner == ""):
					return nil, errors.New("give exactly one of --app-installation-owner and --app-installation-id")
				}
				key, err := readFlagFile("app-private-key", keyFile)
				if err != nil {
					return nil, err
				}
				data := map[string]string{"githubAppID": id, "githubAppPrivateKey": string(key)}
				for name, value := range map[string]string{
					"githubAppInstallationOwner": owner, "githubAppInstallationID": installation, "githubAppBaseURL": base,
				} {
					if value != "" {
						data[name] = value
					}
				}
				return &secretContent{Data: data}, nil
			}
		},
	}
}
