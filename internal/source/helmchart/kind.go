package helmchart

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seed-79636ae9/flux/api/meta"
	v1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/kind"
)

const (
	providerCosign   = "cosign"
	providerNotation = "notation"
)

// Kind describes HelmChart to the generic verbs.
func Kind() kind.Kind {
	return kind.Kind{
		GroupVersionKind: v1.GroupVersion.WithKind(v1.HelmChartKind), Resource: "helmcharts", Short: []string{"hc"},
		Words: []string{"source", "chart"}, ListWords: []string{"sources", "chart"}, Noun: "HelmChart source",
		Verbs: kind.AllVerbs, ShortenHashes: true, Artifact: true, WithSource: true,
		Columns: []kind.Column{
			kind.RevisionColumn(kind.Object.Revision), kind.SuspendedColumn(),
			kind.WideField("CHART", "spec", "chart"), kind.WideField("VERSION", "spec", "version"),
		},
		Source: func(o kind.Object) *kind.Ref { return o.SourceRef("spec", "sourceRef") },
		Secrets: func(o kind.Object) []string {
			if name := o.Field("spec", "verify", "secretRef", "name"); name != "" {
				return []string{name}
			}
			return nil
		},
		Done: kind.FetchedRevision,
		Describe: func(o kind.Object) []kind.Line {
			return append([]kind.Line{{Title: "Chart", Value: o.Field("spec", "chart")}, {Title: "Version", Value: o.Field("spec", "version")}}, kind.DescribeArtifact(o)...)
		},
		Create: &kind.Create{
			Short: "Create or update a HelmChart source",
			Long:  `The create source chart command generates a HelmChart resource and waits for the chart to be available.`,
			Example: `  # Create a source for a chart of a HelmRepository
  flux create source chart podinfo \
    --source=HelmRepository/podinfo \
    --chart=podinfo \
    --chart-version=6.x

  # Create a source for a chart in a Git repository, built anew with every commit
  flux create source chart podinfo \
    --source=GitRepository/podinfo \
    --chart=./charts/podinfo \
    --reconcile-strategy=Revision

  # Create a source for a chart in a registry that has to be signed by a workflow
  flux create source chart podinfo \
    --source=HelmRepository/podinfo \
    --chart=podinfo \
    --chart-version=6.6.2 \
    --verify-provider=cosign \
    --verify-issuer="^https://token.actions.githubusercontent.com$" \
    --verify-subject="^https://github.com/stefanprodan/podinfo/.github/workflows/release.yml@refs/tags/6.6.2$"`,
			Bind: bindCreate,
			Done: func(kind.Object) string { return "HelmChart source reconciliation completed" },
		},
	}
}

// sourceFlag takes <kind>/<name>, or the name of a HelmRepository.
type sourceFlag struct{ kind, name string }

func sourceKinds() []string {
	return []string{v1.HelmRepositoryKind, v1.GitRepositoryKind, v1.BucketKind}
}

// String implements pflag.Value.
func (s *sourceFlag) String() string {
	if s.name == "" {
		return ""
	}
	return s.kind + "/" + s.name
}

// Set implements pflag.Value.
func (s *sourceFlag) Set(value string) error {
	value = strings.TrimSpace(value)
	kindName, name, ok := strings.Cut(value, "/")
	if !ok {
		kindName, name = v1.HelmRepositoryKind, value
	}
	at := slices.IndexFunc(sourceKinds(), func(k string) bool { return strings.EqualFold(k, kindName) })
	switch {
	case at < 0:
		return fmt.Errorf("source kind '%s' is not supported, must be one of: %s", kindName, strings.Join(sourceKinds(), ", "))
	case name == "" || strings.Contains(name, "/"):
		return fmt.Errorf("source '%s' is not of the form <kind>/<name>", value)
	}
	s.kind, s.name = sourceKinds()[at], name
	return nil
}

// Type implements pflag.Value.
func (s *sourceFlag) Type() string { return "helmChartSource" }

// createOptions are the flags of `flux create source chart`.
type createOptions struct {
	chart, version                   string
	strategy                         string
	source                           sourceFlag
	verifySecretRef, issuer, subject string
	verifyProvider                   kind.Enum
}

func bindCreate(flags *pflag.FlagSet) kind.Build {
	o := &createOptions{
		verifyProvider: kind.Enum{Allowed: []string{providerCosign, providerNotation}, TypeName: "sourceOCIVerifyProvider", Noun: "source OCI verify provider"},
	}
	flags.Var(&o.source, "source", "source that holds the chart, in the format <kind>/<name>; the kind is one of: HelmRepository, GitRepository, Bucket")
	flags.StringVar(&o.chart, "chart", "", "name of the chart in a HelmRepository, or its path in a GitRepository or Bucket")
	flags.StringVar(&o.version, "chart-version", "", "version of the chart, or a range of versions; without effect for a GitRepository or Bucket")
	flags.StringVar(&o.strategy, "reconcile-strategy", v1.ReconcileStrategyChartVersion, "what makes a new artifact, one of: ChartVersion, Revision")
	flags.Var(&o.verifyProvider, "verify-provider", "the provider that signatures are checked with, one of: cosign, notation")
	flags.StringVar(&o.verifySecretRef, "verify-secret-ref", "", "the name of a secret with what to trust in signatures")
	flags.StringVar(&o.subject, "verify-subject", "", "regular expression of the subject of the identity that has signed; goes with --verify-issuer")
	flags.StringVar(&o.issuer, "verify-issuer", "", "regular expression of the issuer of the identity that has signed; goes with --verify-subject")
	return o.build
}

// validate checks what can be checked without a cluster.
func (o *createOptions) validate() error {
	verifies := o.verifyProvider.Value != ""
	switch {
	case o.source.name == "":
		return errors.New("--source is required")
	case o.chart == "":
		return errors.New("--chart is required")
	case !slices.Contains([]string{v1.ReconcileStrategyChartVersion, v1.ReconcileStrategyRevision}, o.strategy):
		return fmt.Errorf("--reconcile-strategy '%s' is not supported, must be one of: ChartVersion, Revision", o.strategy)
	case !verifies && (o.verifySecretRef != "" || o.issuer != "" || o.subject != ""):
		return errors.New("--verify-secret-ref, --verify-issuer and --verify-subject need --verify-provider")
	case (o.issuer == "") != (o.subject == ""):
		return errors.New("--verify-issuer and --verify-subject belong together")
	case verifies && o.source.kind != v1.HelmRepositoryKind:
		return errors.New("--verify-provider is for charts of a HelmRepository of type oci")
	case o.verifyProvider.Value == providerNotation && o.verifySecretRef == "":
		return errors.New("--verify-secret-ref is required with --verify-provider=notation: it holds the trust policy and certificates")
	}
	return nil
}

func (o *createOptions) build(_ context.Context, in kind.CreateInput) (*kind.Created, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	obj := &v1.HelmChart{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1.GroupVersion.String(), Kind: v1.HelmChartKind},
		ObjectMeta: metav1.ObjectMeta{Name: in.Name, Namespace: in.Namespace, Labels: in.Labels},
		Spec: v1.HelmChartSpec{
			Chart: o.chart, Version: o.version, Interval: meta.DurationOf(in.Interval), ReconcileStrategy: o.strategy,
			SourceRef: v1.HelmChartSourceReference{Kind: o.source.kind, Name: o.source.name},
		},
	}
	if o.verifyProvider.Value != "" {
		obj.Spec.Verify = &v1.HelmChartVerification{Provider: o.verifyProvider.Value}
		if o.verifySecretRef != "" {
			obj.Spec.Verify.SecretRef = &meta.LocalObjectReference{Name: o.verifySecretRef}
		}
		if o.issuer != "" {
			obj.Spec.Verify.MatchOIDCIdentity = []v1.OIDCIdentityMatch{{Issuer: o.issuer, Subject: o.subject}}
		}
	}
	return &kind.Created{Object: obj}, nil
}
