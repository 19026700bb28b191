package cli

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/notaryproject/notation-go/verifier/trustpolicy"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	notificationv1 "github.com/seed-79636ae9/flux/api/notification/v1"
	"github.com/seed-79636ae9/flux/internal/notify"
	"github.com/seed-79636ae9/flux/toolkit/secret"
)

// maxSecretFile bounds the files that become part of a Secret, which the API server limits to a megabyte.
const maxSecretFile = 1 << 20

// readFlagFile reads the file a flag names.
func readFlagFile(flag, path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read --%s: %w", flag, err)
	}
	if info.Size() > maxSecretFile {
		return nil, fmt.Errorf("read --%s: %s has %d bytes, a Secret holds at most %d", flag, path, info.Size(), maxSecretFile)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read --%s: %w", flag, err)
	}
	return content, nil
}

// authority adds a bundle of certificate authorities to data.
func authority(data map[string]string, path string) error {
	if path == "" {
		return nil
	}
	ca, err := readFlagFile("ca-crt-file", path)
	if err != nil {
		return err
	}
	if _, err := secret.TLS(map[string][]byte{secret.CACertKey: ca}); err != nil {
		return fmt.Errorf("--ca-crt-file: %w", err)
	}
	data[secret.CACertKey] = string(ca)
	return nil
}

// clientCertificate adds a certificate with its key to data and tells whether there is one.
func clientCertificate(data map[string]string, certPath, keyPath string) (bool, error) {
	if err := requireTogether("tls-crt-file", certPath, "tls-key-file", keyPath); err != nil || certPath == "" {
		return false, err
	}
	cert, err := readFlagFile("tls-crt-file", certPath)
	if err != nil {
		return false, err
	}
	key, err := readFlagFile("tls-key-file", keyPath)
	if err != nil {
		return false, err
	}
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		return false, fmt.Errorf("--tls-crt-file and --tls-key-file: %w", err)
	}
	data[secret.TLSCertKey], data[secret.TLSKeyKey] = string(cert), string(key)
	return true, nil
}

func helmSecret() secretKind {
	return secretKind{
		word: "helm", short: "Create or update a Kubernetes secret for Helm repository authentication",
		long: `The create secret helm command generates a Kubernetes secret with basic authentication credentials or a client certificate.`,
		example: `  # Create a Helm authentication secret on disk and encrypt it with SOPS
  flux create secret helm repo-auth \
    --namespace=my-namespace \
    --username=my-username \
    --password=my-password \
    --export > repo-auth.yaml
  sops --encrypt --encrypted-regex '^(data|stringData)$' --in-place repo-auth.yaml`,
		bind: func(flags *pflag.FlagSet) buildSecret {
			var username, password, ca, cert, key string
			flags.StringVarP(&username, "username", "u", "", "basic authentication username")
			flags.StringVarP(&password, "password", "p", "", "basic authentication password")
			flags.StringVar(&cert, "tls-crt-file", "", "TLS authentication cert file path")
			flags.StringVar(&key, "tls-key-file", "", "TLS authentication key file path")
			flags.StringVar(&ca, "ca-crt-file", "", "TLS authentication CA file path")
			return func(context.Context, secretInput) (*secretContent, error) {
				data := map[string]string{}
				certified, err := clientCertificate(data, cert, key)
				if err != nil {
					return nil, err
				}
				if err := requireTogether("username", username, "password", password); err != nil {
					return nil, err
				}
				// A client certificate wins over a login (cli 32).
				if username != "" && !certified {
					data[secret.UsernameKey], data[secret.PasswordKey] = username, password
				}
				if err := authority(data, ca); err != nil {
					return nil, err
				}
				if len(data) == 0 {
					return nil, errors.New("give --username and --password, --tls-crt-file and --tls-key-file, or --ca-crt-file")
				}
				return &secretContent{Data: data}, nil
			}
		},
	}
}

func tlsSecret() secretKind {
	return secretKind{
		word: "tls", short: "Create or update a Kubernetes secret with TLS certificates",
		long: `The create secret tls command generates a Kubernetes secret with certificates for use with TLS.`,
		example: `  # Create a TLS secret on disk and encrypt it with SOPS.
  # Files are expected to be PEM-encoded.
  flux create secret tls certs \
    --namespace=my-namespace \
    --tls-crt-file=./client.crt \
    --tls-key-file=./client.key \
    --ca-crt-file=./ca.crt \
    --export > certs.yaml
  sops --encrypt --encrypted-regex '^(data|stringData)$' --in-place certs.yaml`,
		bind: func(flags *pflag.FlagSet) buildSecret {
			var ca, cert, key string
			flags.StringVar(&cert, "tls-crt-file", "", "TLS authentication cert file path")
			flags.StringVar(&key, "tls-key-file", "", "TLS authentication key file path")
			flags.StringVar(&ca, "ca-crt-file", "", "TLS authentication CA file path")
			return func(context.Context, secretInput) (*secretContent, error) {
				content := &secretContent{Type: corev1.SecretTypeOpaque, Data: map[string]string{}}
				certified, err := clientCertificate(content.Data, cert, key)
				if err != nil {
					return nil, err
				}
				if certified {
					content.Type = corev1.SecretTypeTLS
				}
				if err := authority(content.Data, ca); err != nil {
					return nil, err
				}
				if len(content.Data) == 0 {
					return nil, errors.New("give --tls-crt-file and --tls-key-file, or --ca-crt-file")
				}
				return content, nil
			}
		},
	}
}

func proxySecret() secretKind {
	return secretKind{
		word: "proxy", short: "Create or update a Kubernetes secret for proxy authentication",
		long: `The create secret proxy command generates a Kubernetes secret with the proxy address and the basic authentication credentials.`,
		example: `  # Create a proxy secret on disk and encrypt it with SOPS
  flux create secret proxy my-proxy \
    --namespace=my-namespace \
    --address=https://my-proxy.com \
    --username=my-username \
    --password=my-password \
    --export > proxy.yaml
  sops --encrypt --encrypted-regex '^(data|stringData)$' --in-place proxy.yaml`,
		bind: func(flags *pflag.FlagSet) buildSecret {
			var address, username, password string
			flags.StringVar(&address, "address", "", "proxy address")
			flags.StringVarP(&username, "username", "u", "", "basic authentication username")
			flags.StringVarP(&password, "password", "p", "", "basic authentication password")
			return func(context.Context, secretInput) (*secretContent, error) {
				if address == "" {
					return nil, errors.New("--address is required")
				}
				if username == "" && password != "" {
					return nil, errors.New("--password needs --username")
				}
				if _, err := secret.Proxy(map[string][]byte{secret.AddressKey: []byte(address)}); err != nil {
					return nil, fmt.Errorf("--address: %w", err)
				}
				data := map[string]string{secret.AddressKey: address}
				if username != "" {
					data[secret.UsernameKey], data[secret.PasswordKey] = username, password
				}
				return &secretContent{Data: data}, nil
			}
		},
	}
}

func ociSecret() secretKind {
	return secretKind{
		word: "oci", short: "Create or update a Kubernetes image pull secret",
		long: `The create secret oci command generates a Kubernetes secret that can be used for OCIRepository authentication`,
		example: `  # Create an OCI authentication secret on disk and encrypt it with SOPS
  flux create secret oci podinfo-auth \
    --url=ghcr.io \
    --username=username \
    --password=password \
    --export > repo-auth.yaml
  sops --encrypt --encrypted-regex '^(data|stringData)$' --in-place repo-auth.yaml`,
		bind: func(flags *pflag.FlagSet) buildSecret {
			var address, username, password string
			flags.StringVar(&address, "url", "", "oci repository address e.g ghcr.io/stefanprodan/charts")
			flags.StringVarP(&username, "username", "u", "", "basic authentication username")
			flags.StringVarP(&password, "password", "p", "", "basic authentication password")
			return func(context.Context, secretInput) (*secretContent, error) {
				switch {
				case address == "":
					return nil, errors.New("--url is required")
				case username == "":
					return nil, errors.New("--username is required")
				case password == "":
					return nil, errors.New("--password is required")
				}
				host, err := registryHost(address)
				if err != nil {
					return nil, fmt.Errorf("--url: %w", err)
				}
				config, err := json.Marshal(map[string]any{"auths": map[string]any{host: map[string]string{
					"username": username, "password": password,
					"auth": base64.StdEncoding.EncodeToString([]byte(username + ":" + password)),
				}}})
				if err != nil {
					return nil, err
				}
				return &secretContent{Type: corev1.SecretTypeDockerConfigJson, Data: map[string]string{corev1.DockerConfigJsonKey: string(config)}}, nil
			}
		},
	}
}

// registryHost is the host of an OCI address, which may have a scheme and a path.
func registryHost(address string) (string, error) {
	address = strings.TrimPrefix(address, "oci://")
	if !strings.Contains(address, "://") {
		address = "https://" + address
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil {
		return "", errors.New("want the address of a registry or repository, like registry.example.com/org/app")
	}
	return u.Host, nil
}

func notationSecret() secretKind {
	return secretKind{
		word: "notation", short: "Create or update a Kubernetes secret for verifications of artifacts signed by Notation",
		long: `The create secret notation command generates a Kubernetes secret with root ca certificates and trust policy.`,
		example: `  # Create a Notation configuration secret on disk and encrypt it with SOPS
  flux create secret notation my-notation-cert \
    --namespace=my-namespace \
    --trust-policy-file=./my-trust-policy.json \
    --ca-cert-file=./my-cert.crt \
    --export > my-notation-cert.yaml
  sops --encrypt --encrypted-regex '^(data|stringData)$' --in-place my-notation-cert.yaml`,
		bind: func(flags *pflag.FlagSet) buildSecret {
			var policy string
			var authorities []string
			flags.StringVar(&policy, "trust-policy-file", "", "notation trust policy file path")
			flags.StringSliceVar(&authorities, "ca-cert-file", nil, "root ca cert file path")
			return func(context.Context, secretInput) (*secretContent, error) {
				if policy == "" {
					return nil, errors.New("--trust-policy-file is required")
				}
				if len(authorities) == 0 {
					return nil, errors.New("--ca-cert-file is required")
				}
				content, err := readFlagFile("trust-policy-file", policy)
				if err != nil {
					return nil, err
				}
				var document trustpolicy.Document
				if err := json.Unmarshal(content, &document); err != nil {
					return nil, fmt.Errorf("--trust-policy-file: %w", err)
				}
				if err := document.Validate(); err != nil {
					return nil, fmt.Errorf("--trust-policy-file: %w", err)
				}
				data := map[string]string{"trustpolicy.json": string(content)}
				for _, path := range authorities {
					name := filepath.Base(path)
					if ext := filepath.Ext(name); ext != ".crt" && ext != ".pem" {
						return nil, fmt.Errorf("--ca-cert-file: %s must end with .crt or .pem", name)
					}
					if data[name] != "" {
						return nil, fmt.Errorf("--ca-cert-file: two files are named %s", name)
					}
					cert, err := readFlagFile("ca-cert-file", path)
					if err != nil {
						return nil, err
					}
					data[name] = string(cert)
				}
				return &secretContent{Data: data}, nil
			}
		},
	}
}

// webhookAnnotation tells the address of the Receiver that the Secret is made for (wire.md 2).
const webhookAnnotation = "notification.toolkit.fluxcd.io/webhook"

func receiverSecret() secretKind {
	return secretKind{
		word: "receiver", short: "Create or update a Kubernetes secret for a Receiver webhook",
		long: `The create secret receiver command generates a Kubernetes secret with the token used for
webhook payload validation. The address to register with the sender is in an annotation of the secret; it
holds for a Receiver of the same name.`,
		example: `  # Create a receiver secret for a GitHub webhook
  flux create secret receiver github-receiver \
    --namespace=my-namespace \
    --type=github \
    --hostname=flux.example.com \
    --export

  # Create a receiver secret for GCR with the email of the sender
  flux create secret receiver gcr-receiver \
    --namespace=my-namespace \
    --type=gcr \
    --hostname=flux.example.com \
    --email-claim=sa@project.iam.gserviceaccount.com \
    --export`,
		bind: bindReceiverSecret,
	}
}

func bindReceiverSecret(flags *pflag.FlagSet) buildSecret {
	of := notify.ReceiverType()
	var token, hostname, email, audience string
	flags.Var(&of, "type", "the receiver type, one of: "+strings.Join(of.Allowed, ", "))
	flags.StringVar(&token, "token", "", "webhook secret token used for payload validation, auto-generated if not specified")
	flags.StringVar(&hostname, "hostname", "", "hostname for the webhook URL e.g. flux.example.com")
	flags.StringVar(&email, "email-claim", "", "IAM service account email, required for gcr type")
	flags.StringVar(&audience, "audience-claim", "", "custom OIDC token audience for gcr type, defaults to the webhook URL")
	return func(_ context.Context, in secretInput) (*secretContent, error) {
		switch {
		case of.Value == "":
			return nil, errors.New("--type is required")
		case hostname == "":
			return nil, errors.New("--hostname is required")
		case of.Value == "gcr" && email == "":
			return nil, errors.New("--email-claim is required with --type=gcr")
		case of.Value != "gcr" && (email != "" || audience != ""):
			return nil, errors.New("--email-claim and --audience-claim are for --type=gcr")
		}
		if u, err := url.Parse("https://" + hostname); err != nil || u.Host != hostname {
			return nil, errors.New("--hostname: want a host name, without scheme and path")
		}
		if token == "" {
			random := make([]byte, 32)
			if _, err := rand.Read(random); err != nil {
				return nil, fmt.Errorf("generate the token: %w", err)
			}
			token = hex.EncodeToString(random)
		}
		// cli 33; wire.md 12
		receiver := &notificationv1.Receiver{ObjectMeta: metav1.ObjectMeta{Name: in.Name, Namespace: in.Namespace}}
		webhook := "https://" + hostname + receiver.GetWebhookPath(token)
		data := map[string]string{secret.TokenKey: token}
		if of.Value == "gcr" {
			data["email"], data["audience"] = email, audience
			if audience == "" {
				data["audience"] = webhook
			}
		}
		return &secretContent{Annotations: map[string]string{webhookAnnotation: webhook}, Data: data}, nil
	}
}
