package git

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seed-79636ae9/flux/api/meta"
	v1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/kind"
	"github.com/seed-79636ae9/flux/internal/ops"
)

// Kind describes GitRepository to the generic verbs.
func Kind() kind.Kind {
	return kind.Kind{
		GroupVersionKind: v1.GroupVersion.WithKind(v1.GitRepositoryKind), Resource: "gitrepositories", Short: []string{"gitrepo"},
		Words: []string{"source", "git"}, ListWords: []string{"sources", "git"}, Noun: "GitRepository source",
		Verbs: kind.AllVerbs, ShortenHashes: true, Artifact: true,
		Columns: []kind.Column{
			kind.RevisionColumn(kind.Object.Revision), kind.SuspendedColumn(), kind.WideField("URL", "spec", "url"),
		},
		Related: func(o kind.Object) []kind.Ref {
			var refs []kind.Ref
			for _, name := range o.Fields("repository", "spec", "include") {
				refs = append(refs, kind.Ref{Kind: v1.GitRepositoryKind, Namespace: o.GetNamespace(), Name: name})
			}
			return refs
		},
		Secrets:  kind.SecretRefs("secretRef", "proxySecretRef"),
		Done:     kind.FetchedRevision,
		Describe: kind.DescribeSource,
		Create: &kind.Create{
			Short: "Create or update a GitRepository source",
			Long: `The create source git command generates a GitRepository resource and waits for it to sync.
For Git over SSH, host and SSH keys are automatically generated and stored in a Kubernetes secret.
For private Git repositories over HTTP/S, the basic authentication credentials are stored in a Kubernetes secret.`,
			Example: `  # Create a source from a public Git repository branch
  flux create source git podinfo \
    --url=https://github.com/stefanprodan/podinfo \
    --branch=master

  # Create a source from a range of its versions
  flux create source git podinfo \
    --url=https://github.com/stefanprodan/podinfo \
    --tag-semver=">=6.0.0 <7.0.0"

  # Create a source over SSH: a deploy key is generated and the host key collected
  flux create source git podinfo \
    --url=ssh://git@github.com/stefanprodan/podinfo \
    --branch=master

  # Create a source with a username and a password
  flux create source git podinfo \
    --url=https://github.com/stefanprodan/podinfo \
    --branch=master \
    --username=user \
    --password=pass

  # Create a source with credentials from an existing Secret
  flux create source git podinfo \
    --url=https://github.com/stefanprodan/podinfo \
    --branch=master \
    --secret-ref=podinfo-credentials`,
			Bind: bindCreate,
			Done: func(kind.Object) string { return "GitRepository source reconciliation completed" },
		},
	}
}

// createOptions are the flags of `flux create source git`.
type createOptions struct {
	url                                string
	branch, tag, semver, refName, hash string
	username, password                 string
	caFile, privateKeyFile             string
	secretRef, proxySecretRef          string
	provider, algorithm, curve         kind.Enum
	bits                               kind.RSABits
	recurse, silent                    bool
	ignore, sparse                     []string
}

func bindCreate(flags *pflag.FlagSet) kind.Build {
	o := &createOptions{
		provider:  kind.Enum{Allowed: []string{"generic", "github", "aws", "azure"}, Noun: "git provider"},
		algorithm: kind.Enum{Value: "ecdsa", Allowed: []string{"rsa", "ecdsa", "ed25519"}, Noun: "SSH key algorithm"},
		curve:     kind.Enum{Value: "p384", Allowed: []string{"p256", "p384", "p521"}, Noun: "ECDSA curve"},
		bits:      kind.MinRSABits,
	}
	flags.StringVar(&o.url, "url", "", "git address, e.g. ssh://git@host/org/repository")
	flags.StringVar(&o.branch, "branch", "", "git branch")
	flags.StringVar(&o.tag, "tag", "", "git tag")
	flags.StringVar(&o.semver, "tag-semver", "", "git tag semver range")
	flags.StringVar(&o.refName, "ref-name", "", "git reference name")
	flags.StringVar(&o.hash, "commit", "", "git commit")
	flags.StringVarP(&o.username, "username", "u", "", "basic authentication username")
	flags.StringVarP(&o.password, "password", "p", "", "basic authentication password, or the passphrase of the private key")
	flags.Var(&o.algorithm, "ssh-key-algorithm", "SSH public key algorithm, one of: rsa, ecdsa, ed25519")
	flags.Var(&o.bits, "ssh-rsa-bits", "SSH RSA public key bit size (multiplies of 8)")
	flags.Var(&o.curve, "ssh-ecdsa-curve", "SSH ECDSA public key curve, one of: p256, p384, p521")
	flags.StringVar(&o.secretRef, "secret-ref", "", "the name of an existing secret containing SSH, bearer or basic credentials, or GitHub App data")
	flags.StringVar(&o.proxySecretRef, "proxy-secret-ref", "", "the name of an existing secret containing the proxy address and credentials")
	flags.Var(&o.provider, "provider", "the git provider that gives the credentials, one of: generic, github, aws, azure")
	flags.StringVar(&o.caFile, "ca-file", "", "path to TLS CA file used for validating self-signed certificates")
	flags.StringVar(&o.privateKeyFile, "private-key-file", "", "path to a passwordless private key file used for authenticating to the Git SSH server")
	flags.BoolVar(&o.recurse, "recurse-submodules", false, "when enabled, configures the GitRepository source to initialize and include Git submodules in the artifact it produces")
	flags.BoolVarP(&o.silent, "silent", "s", false, "assumes the deploy key is already setup, skips confirmation")
	flags.StringSliceVar(&o.ignore, "ignore-paths", nil, "set paths to ignore in git resource (can specify multiple paths with commas: path1,path2)")
	flags.StringSliceVar(&o.sparse, "sparse-checkout-paths", nil, "set paths to sparse checkout in git resource (can specify multiple paths with commas: path1,path2)")
	return o.build
}

// validate checks what can be checked without a cluster (cli 24).
func (o *createOptions) validate() (*url.URL, error) {
	if o.url == "" {
		return nil, errors.New("--url is required")
	}
	u, err := url.Parse(o.url)
	if err != nil || u.Host == "" {
		return nil, errors.New("--url is not an address of the form https://host/path or ssh://git@host/path")
	}
	switch u.Scheme {
	case "ssh", "http", "https":
	default:
		return nil, fmt.Errorf("--url has scheme '%s', use ssh, http or https", u.Scheme)
	}
	if o.branch == "" && o.tag == "" && o.semver == "" && o.hash == "" && o.refName == "" {
		return nil, errors.New("a Git reference is required: use one of --branch, --tag, --tag-semver, --commit or --ref-name")
	}
	if o.caFile != "" && u.Scheme == "ssh" {
		return nil, errors.New("--ca-file is for https addresses, SSH servers are known by their host key")
	}
	if o.provider.Value == "github" && o.secretRef == "" {
		return nil, errors.New("--secret-ref is required with --provider=github: it holds the GitHub App")
	}
	return u, nil
}

func (o *createOptions) build(ctx context.Context, in kind.CreateInput) (*kind.Created, error) {
	u, err := o.validate()
	if err != nil {
		return nil, err
	}
	repo := &v1.GitRepository{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1.GroupVersion.String(), Kind: v1.GitRepositoryKind},
		ObjectMeta: metav1.ObjectMeta{Name: in.Name, Namespace: in.Namespace, Labels: in.Labels},
		Spec: v1.GitRepositorySpec{
			URL: o.url, Interval: meta.DurationOf(in.Interval), Provider: o.provider.Value,
			RecurseSubmodules: o.recurse, SparseCheckout: o.sparse,
			Ref: &v1.GitRepositoryRef{Branch: o.branch, Tag: o.tag, SemVer: o.semver, Name: o.refName, Commit: o.hash},
		},
	}
	if in.Timeout > 0 {
		repo.Spec.Timeout = meta.DurationOf(in.Timeout)
	}
	if len(o.ignore) > 0 {
		patterns := strings.Join(o.ignore, "\n")
		repo.Spec.Ignore = &patterns
	}
	if o.proxySecretRef != "" {
		repo.Spec.ProxySecretRef = &meta.LocalObjectReference{Name: o.proxySecretRef}
	}
	if o.secretRef != "" {
		repo.Spec.SecretRef = &meta.LocalObjectReference{Name: o.secretRef}
		return &kind.Created{Object: repo}, nil
	}
	if in.Export {
		return &kind.Created{Object: repo}, nil
	}
	data, err := o.credentials(ctx, in, u)
	if err != nil || data == nil {
		return &kind.Created{Object: repo}, err
	}
	repo.Spec.SecretRef = &meta.LocalObjectReference{Name: in.Name}
	return &kind.Created{Object: repo, Secret: &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Name: in.Name, Namespace: in.Namespace, Labels: in.Labels},
		Data:       data,
	}}, nil
}

// credentials makes the data of the Secret that goes with the object, nil when none is needed.
func (o *createOptions) credentials(ctx context.Context, in kind.CreateInput, u *url.URL) (map[string][]byte, error) {
	if u.Scheme == "ssh" {
		return o.deployKey(ctx, in, u)
	}
	data := map[string][]byte{}
	if o.username != "" || o.password != "" {
		if o.username == "" || o.password == "" {
			return nil, errors.New("--username and --password belong together")
		}
		data["username"], data["password"] = []byte(o.username), []byte(o.password)
	}
	if o.caFile != "" {
		ca, err := os.ReadFile(o.caFile)
		if err != nil {
			return nil, fmt.Errorf("read --ca-file: %w", err)
		}
		data["ca.crt"] = ca
	}
	if len(data) == 0 {
		return nil, nil
	}
	return data, nil
}

// deployKey takes or makes a key pair, has the person register it, and collects the host key.
func (o *createOptions) deployKey(ctx context.Context, in kind.CreateInput, u *url.URL) (map[string][]byte, error) {
	pair, err := o.keyPair(in)
	if err != nil {
		return nil, err
	}
	in.UI.Generatef("deploy key: %s", pair.Public)
	if !o.silent {
		if err := in.UI.Confirm("Have you added the deploy key to your repository?"); err != nil {
			return nil, fmt.Errorf("the deploy key was not confirmed: %w", err)
		}
	}
	in.UI.Actionf("collecting preferred public key from SSH server")
	known, err := ops.ScanHostKey(ctx, u.Host)
	if err != nil {
		return nil, err
	}
	in.UI.Successf("collected public key from SSH server:\n%s", known)
	data := map[string][]byte{"identity": pair.Private, "identity.pub": pair.Public, "known_hosts": known}
	if o.privateKeyFile != "" && o.password != "" {
		data["password"] = []byte(o.password)
	}
	return data, nil
}

func (o *createOptions) keyPair(in kind.CreateInput) (*ops.KeyPair, error) {
	if o.privateKeyFile == "" {
		in.UI.Generatef("generating deploy key pair")
		return ops.GenerateKey(ops.KeyOptions{Algorithm: o.algorithm.Value, Curve: o.curve.Value, Bits: int(o.bits)})
	}
	private, err := os.ReadFile(o.privateKeyFile)
	if err != nil {
		return nil, fmt.Errorf("read --private-key-file: %w", err)
	}
	pair, err := ops.ParseKey(private, o.password)
	if err != nil {
		return nil, fmt.Errorf("--private-key-file: %w", err)
	}
	return pair, nil
}
