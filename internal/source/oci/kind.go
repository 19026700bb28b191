package oci

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seed-79636ae9/flux/api/meta"
	v1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/kind"
	"github.com/seed-79636ae9/flux/toolkit/oci"
)

// Kind describes OCIRepository to the generic verbs.
func Kind() kind.Kind {
	return kind.Kind{
		GroupVersionKind: v1.GroupVersion.WithKind(v1.OCIRepositoryKind), Resource: "ocirepositories", Short: []string{"ocirepo"},
		Words: []string{"source", "oci"}, ListWords: []string{"sources", "oci"}, Noun: "OCIRepository source",
		Verbs: kind.AllVerbs, ShortenHashes: true, Artifact: true,
		Columns: []kind.Column{
			kind.RevisionColumn(kind.Object.Revision), kind.SuspendedColumn(), kind.WideField("URL", "spec", "url"),
		},
		Secrets:  kind.SecretRefs("secretRef", "certSecretRef", "proxySecretRef"),
		Done:     kind.FetchedRevision,
		Describe: kind.DescribeSource,
		Create: &kind.Create{
			Short: "Create or update an OCIRepository",
			Long:  `The create source oci command generates an OCIRepository resource and waits for it to be ready.`,
			Example: `  # Create an OCIRepository for a public artifact
  flux create source oci podinfo \
    --url=oci://ghcr.io/stefanprodan/manifests/podinfo \
    --tag=6.6.2 \
    --interval=10m

  # Create an OCIRepository that follows a range of versions, with credentials from an existing Secret
  flux create source oci podinfo \
    --url=oci://ghcr.io/stefanprodan/manifests/podinfo \
    --tag-semver=">=6.0.0 <7.0.0" \
    --secret-ref=ghcr-auth

  # Create an OCIRepository whose artifacts have to be signed by a workflow
  flux create source oci podinfo \
    --url=oci://ghcr.io/stefanprodan/manifests/podinfo \
    --tag=6.6.2 \
    --verify-provider=cosign \
    --verify-subject="^https://github.com/stefanprodan/podinfo/.github/workflows/release.yml@refs/tags/6.6.2$" \
    --verify-issuer="^https://token.actions.githubusercontent.com$"`,
			Bind: bindCreate,
			Done: func(kind.Object) string { return "OCIRepository reconciliation completed" },
		},
	}
}

// createOptions are the flags of `flux create source oci`.
type createOptions struct {
	url, tag, semver, digest           string
	secretRef, certRef, proxySecretRef string
	serviceAccount                     string
	verifySecretRef, issuer, subject   string
	layerSelector                      string
	insecure                           bool
	ignore                             []string
	provider, verifyProvider           kind.Enum
}

func bindCreate(flags *pflag.FlagSet) kind.Build {
	o := &createOptions{
		provider:       kind.Enum{Value: v1.GenericProvider, Allowed: []string{v1.GenericProvider, v1.AWSProvider, v1.AzureProvider, v1.GCPProvider}, Noun: "source OCI provider"},
		verifyProvider: kind.Enum{Allowed: []string{providerCosign, providerNotation}, TypeName: "sourceOCIVerifyProvider", Noun: "source OCI verify provider"},
	}
	flags.Var(&o.provider, "provider", "the OCI provider that gives the credentials, one of: generic, aws, azure, gcp")
	flags.StringVar(&o.url, "url", "", "the OCI repository URL, e.g. oci://ghcr.io/org/repository")
	flags.StringVar(&o.tag, "tag", "", "the OCI artifact tag")
	flags.StringVar(&o.semver, "tag-semver", "", "the OCI artifact tag semver range")
	flags.StringVar(&o.digest, "digest", "", "the OCI artifact digest")
	flags.StringVar(&o.secretRef, "secret-ref", "", "the name of the Kubernetes image pull secret (type 'kubernetes.io/dockerconfigjson')")
	flags.StringVar(&o.proxySecretRef, "proxy-secret-ref", "", "the name of an existing secret containing the proxy address and credentials")
	flags.StringVar(&o.serviceAccount, "service-account", "", "the name of the Kubernetes service account that refers to an image pull secret")
	flags.StringVar(&o.certRef, "cert-ref", "", "the name of a secret to use for TLS certificates")
	flags.StringVar(&o.layerSelector, "layer-selector", "", "the media type of the layer to take, and optionally the operation after a comma: extract or copy")
	flags.Var(&o.verifyProvider, "verify-provider", "the provider that signatures are checked with, one of: cosign, notation")
	flags.StringVar(&o.verifySecretRef, "verify-secret-ref", "", "the name of a secret with what to trust in signatures")
	flags.StringVar(&o.subject, "verify-subject", "", "regular expression of the subject of the identity that has signed; goes with --verify-issuer")
	flags.StringVar(&o.issuer, "verify-issuer", "", "regular expression of the issuer of the identity that has signed; goes with --verify-subject")
	flags.StringSliceVar(&o.ignore, "ignore-paths", nil, "set paths to ignore resources (can specify multiple paths with commas: path1,path2)")
	flags.BoolVar(&o.insecure, "insecure", false, "for when connecting to a non-TLS registry over plain HTTP")
	return o.build
}

// validate checks what can be checked without a cluster.
func (o *createOptions) validate() error {
	if o.url == "" {
		return errors.New("--url is required")
	}
	if _, err := oci.ParseRepository(o.url, o.insecure); err != nil {
		return fmt.Errorf("--url: %w", err)
	}
	if o.tag == "" && o.semver == "" && o.digest == "" {
		return errors.New("a reference is required: use one of --tag, --tag-semver or --digest")
	}
	if o.verifyProvider.Value == "" && (o.verifySecretRef != "" || o.issuer != "" || o.subject != "") {
		return errors.New("--verify-secret-ref, --verify-issuer and --verify-subject need --verify-provider")
	}
	if (o.issuer == "") != (o.subject == "") {
		return errors.New("--verify-issuer and --verify-subject belong together")
	}
	if o.verifyProvider.Value == providerNotation && o.verifySecretRef == "" {
		return errors.New("--verify-secret-ref is required with --verify-provider=notation: it holds the trust policy and certificates")
	}
	return nil
}

func (o *createOptions) build(_ context.Context, in kind.CreateInput) (*kind.Created, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	selector, err := o.selector()
	if err != nil {
		return nil, err
	}
	repo := &v1.OCIRepository{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1.GroupVersion.String(), Kind: v1.OCIRepositoryKind},
		ObjectMeta: metav1.ObjectMeta{Name: in.Name, Namespace: in.Namespace, Labels: in.Labels},
		Spec: v1.OCIRepositorySpec{
			URL: o.url, Interval: meta.DurationOf(in.Interval), Provider: o.provider.Value, Insecure: o.insecure,
			ServiceAccountName: o.serviceAccount, LayerSelector: selector, Verify: o.verification(),
			Ref:            &v1.OCIRepositoryRef{Tag: o.tag, SemVer: o.semver, Digest: o.digest},
			SecretRef:      local(o.secretRef),
			CertSecretRef:  local(o.certRef),
			ProxySecretRef: local(o.proxySecretRef),
		},
	}
	if in.Timeout > 0 {
		repo.Spec.Timeout = meta.DurationOf(in.Timeout)
	}
	if len(o.ignore) > 0 {
		patterns := strings.Join(o.ignore, "\n")
		repo.Spec.Ignore = &patterns
	}
	return &kind.Created{Object: repo}, nil
}

// selector reads --layer-selector.
func (o *createOptions) selector() (*v1.OCILayerSelector, error) {
	if o.layerSelector == "" {
		return nil, nil
	}
	mediaType, operation, _ := strings.Cut(o.layerSelector, ",")
	switch operation {
	case "", v1.OCILayerExtract, v1.OCILayerCopy:
		return &v1.OCILayerSelector{MediaType: mediaType, Operation: operation}, nil
	}
	return nil, fmt.Errorf("--layer-selector has the operation '%s', use %s or %s", operation, v1.OCILayerExtract, v1.OCILayerCopy)
}

func (o *createOptions) verification() *v1.OCIRepositoryVerification {
	if o.verifyProvider.Value == "" {
		return nil
	}
	v := &v1.OCIRepositoryVerification{Provider: o.verifyProvider.Value, SecretRef: local(o.verifySecretRef)}
	if o.issuer != "" {
		v.MatchOIDCIdentity = []v1.OIDCIdentityMatch{{Issuer: o.issuer, Subject: o.subject}}
	}
	return v
}

func local(name string) *meta.LocalObjectReference {
	if name == "" {
		return nil
	}
	return &meta.LocalObjectReference{Name: name}
}
