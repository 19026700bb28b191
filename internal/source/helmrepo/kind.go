package helmrepo

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seed-79636ae9/flux/api/meta"
	v1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/kind"
	"github.com/seed-79636ae9/flux/toolkit/secret"
)

// Kind describes HelmRepository to the generic verbs.
func Kind() kind.Kind {
	return kind.Kind{
		GroupVersionKind: v1.GroupVersion.WithKind(v1.HelmRepositoryKind), Resource: "helmrepositories", Short: []string{"helmrepo"},
		Words: []string{"source", "helm"}, ListWords: []string{"sources", "helm"}, Noun: "HelmRepository source",
		Verbs: kind.AllVerbs, ShortenHashes: true, Artifact: true,
		Columns:       []kind.Column{kind.RevisionColumn(kind.Object.Revision), kind.SuspendedColumn(), kind.WideField("URL", "spec", "url")},
		Static:        func(o kind.Object) bool { return o.Field("spec", "type") == v1.HelmRepositoryTypeOCI },
		StaticMessage: "Helm repository is Ready",
		Secrets:       kind.SecretRefs("secretRef", "certSecretRef"),
		Done:          kind.FetchedRevision,
		Describe:      kind.DescribeSource,
		Create: &kind.Create{
			Short: "Create or update a HelmRepository source",
			Long: `The create source helm command generates a HelmRepository resource and waits for it to fetch the index.
For private Helm repositories, the basic authentication credentials are stored in a Kubernetes secret.
A repository in an OCI registry has no index: charts of it are looked up when they are needed.`,
			Example: `  # Create a source for an HTTPS public Helm repository
  flux create source helm podinfo \
    --url=https://stefanprodan.github.io/podinfo \
    --interval=10m

  # Create a source for an HTTPS Helm repository using basic authentication
  flux create source helm podinfo \
    --url=https://stefanprodan.github.io/podinfo \
    --username=username \
    --password=password

  # Create a source for an HTTPS Helm repository using TLS authentication
  flux create source helm podinfo \
    --url=https://stefanprodan.github.io/podinfo \
    --cert-file=./cert.crt \
    --key-file=./key.crt \
    --ca-file=./ca.crt

  # Create a source for an OCI Helm repository
  flux create source helm podinfo \
    --url=oci://ghcr.io/stefanprodan/charts/podinfo \
    --username=username \
    --password=password

  # Create a source for an OCI Helm repository using an existing secret with basic auth or dockerconfig credentials
  flux create source helm podinfo \
    --url=oci://ghcr.io/stefanprodan/charts/podinfo \
    --secret-ref=docker-config`,
			Bind: bindCreate,
			Done: func(kind.Object) string { return "HelmRepository source reconciliation completed" },
		},
	}
}

// createOptions are the flags of `flux create source helm`.
type createOptions struct {
	url                       string
	username, password        string
	certFile, keyFile, caFile string
	secretRef                 string
	provider                  kind.Enum
	passCredentials           bool
}

func bindCreate(flags *pflag.FlagSet) kind.Build {
	o := &createOptions{provider: kind.Enum{Allowed: []string{"generic", "aws", "azure", "gcp"}, Noun: "OCI provider", TypeName: "string"}}
	flags.StringVar(&o.url, "url", "", "Helm repository address")
	flags.StringVarP(&o.username, "username", "u", "", "basic authentication username")
	flags.StringVarP(&o.password, "password", "p", "", "basic authentication password")
	flags.StringVar(&o.certFile, "cert-file", "", "TLS authentication cert file path")
	flags.StringVar(&o.keyFile, "key-file", "", "TLS authentication key file path")
	flags.StringVar(&o.caFile, "ca-file", "", "TLS authentication CA file path")
	flags.StringVar(&o.secretRef, "secret-ref", "", "the name of an existing secret containing TLS, basic auth or docker-config credentials")
	flags.Var(&o.provider, "oci-provider", "the provider of credentials for an OCI registry, one of: generic, aws, azure, gcp")
	flags.BoolVar(&o.passCredentials, "pass-credentials", false, "pass credentials to all domains")
	return o.build
}

// validate checks what can be checked without a cluster.
func (o *createOptions) validate() (*url.URL, error) {
	if o.url == "" {
		return nil, errors.New("--url is required")
	}
	u, err := url.Parse(o.url)
	if err != nil || u.Host == "" || !slices.Contains([]string{"http", "https", "oci"}, u.Scheme) {
		return nil, errors.New("--url is not an address of the form https://host/path, http://host/path or oci://host/path")
	}
	switch oci := u.Scheme == v1.HelmRepositoryTypeOCI; {
	case o.provider.Value != "" && !oci:
		return nil, errors.New("--oci-provider is for addresses that begin with oci://")
	case o.passCredentials && oci:
		return nil, errors.New("--pass-credentials is for http and https addresses: a registry has no index that could point elsewhere")
	case (o.username == "") != (o.password == ""):
		return nil, errors.New("--username and --password belong together")
	case (o.certFile == "") != (o.keyFile == ""):
		return nil, errors.New("--cert-file and --key-file belong together")
	}
	return u, nil
}

func (o *createOptions) build(_ context.Context, in kind.CreateInput) (*kind.Created, error) {
	u, err := o.validate()
	if err != nil {
		return nil, err
	}
	repo := &v1.HelmRepository{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1.GroupVersion.String(), Kind: v1.HelmRepositoryKind},
		ObjectMeta: metav1.ObjectMeta{Name: in.Name, Namespace: in.Namespace, Labels: in.Labels},
		Spec: v1.HelmRepositorySpec{
			URL: o.url, Interval: meta.DurationOf(in.Interval), Provider: o.provider.Value, PassCredentials: o.passCredentials,
		},
	}
	if u.Scheme == v1.HelmRepositoryTypeOCI {
		repo.Spec.Type = v1.HelmRepositoryTypeOCI
	}
	if in.Timeout > 0 {
		repo.Spec.Timeout = meta.DurationOf(in.Timeout)
	}
	if o.secretRef != "" {
		repo.Spec.SecretRef = &meta.LocalObjectReference{Name: o.secretRef}
		return &kind.Created{Object: repo}, nil
	}
	if in.Export {
		return &kind.Created{Object: repo}, nil
	}
	return o.withSecret(in, repo)
}

// withSecret adds the Secret for the credentials of the flags, if there are any.
func (o *createOptions) withSecret(in kind.CreateInput, repo *v1.HelmRepository) (*kind.Created, error) {
	data, name := map[string][]byte{}, "helm-"+in.Name
	for _, file := range []struct{ flag, path, key string }{
		{"cert-file", o.certFile, secret.TLSCertKey}, {"key-file", o.keyFile, secret.TLSKeyKey}, {"ca-file", o.caFile, secret.CACertKey},
	} {
		if file.path == "" {
			continue
		}
		content, err := os.ReadFile(file.path)
		if err != nil {
			return nil, fmt.Errorf("read --%s: %w", file.flag, err)
		}
		data[file.key] = content
		repo.Spec.CertSecretRef = &meta.LocalObjectReference{Name: name}
	}
	if o.certFile != "" {
		if _, err := tls.X509KeyPair(data[secret.TLSCertKey], data[secret.TLSKeyKey]); err != nil {
			return nil, fmt.Errorf("--cert-file and --key-file are no pair of certificate and key: %w", err)
		}
	}
	if o.username != "" {
		data[secret.UsernameKey], data[secret.PasswordKey] = []byte(o.username), []byte(o.password)
		repo.Spec.SecretRef = &meta.LocalObjectReference{Name: name}
	}
	if len(data) == 0 {
		return &kind.Created{Object: repo}, nil
	}
	return &kind.Created{Object: repo, Secret: &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: in.Namespace, Labels: in.Labels},
		Data:       data,
	}}, nil
}
