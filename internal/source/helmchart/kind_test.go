package helmchart

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/seed-79636ae9/flux/api/meta"
	v1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/kind"
)

func TestCreate(t *testing.T) {
	tests := map[string]struct {
		args string
		want *v1.HelmChartSpec
		err  string
	}{
		"of a repository": {"--source=podinfo --chart=podinfo --chart-version=6.x", &v1.HelmChartSpec{
			Chart: "podinfo", Version: "6.x", ReconcileStrategy: "ChartVersion", SourceRef: v1.HelmChartSourceReference{Kind: "HelmRepository", Name: "podinfo"},
		}, ""},
		"of a Git repository": {"--source=gitrepository/podinfo --chart=./charts/podinfo --reconcile-strategy=Revision", &v1.HelmChartSpec{
			Chart: "./charts/podinfo", ReconcileStrategy: "Revision", SourceRef: v1.HelmChartSourceReference{Kind: "GitRepository", Name: "podinfo"},
		}, ""},
		"keyless": {"--source=HelmRepository/a --chart=b --verify-provider=cosign --verify-issuer=^i$ --verify-subject=^s$", &v1.HelmChartSpec{
			Chart: "b", ReconcileStrategy: "ChartVersion", SourceRef: v1.HelmChartSourceReference{Kind: "HelmRepository", Name: "a"},
			Verify: &v1.HelmChartVerification{Provider: "cosign", MatchOIDCIdentity: []v1.OIDCIdentityMatch{{Issuer: "^i$", Subject: "^s$"}}},
		}, ""},
		"with a key": {"--source=HelmRepository/a --chart=b --verify-provider=notation --verify-secret-ref=keys", &v1.HelmChartSpec{
			Chart: "b", ReconcileStrategy: "ChartVersion", SourceRef: v1.HelmChartSourceReference{Kind: "HelmRepository", Name: "a"},
			Verify: &v1.HelmChartVerification{Provider: "notation", SecretRef: &meta.LocalObjectReference{Name: "keys"}},
		}, ""},
		"no source":             {"--chart=b", nil, "--source"},
		"no chart":              {"--source=a", nil, "--chart"},
		"another strategy":      {"--source=a --chart=b --reconcile-strategy=Never", nil, "--reconcile-strategy"},
		"no provider":           {"--source=a --chart=b --verify-secret-ref=keys", nil, "--verify-provider"},
		"half an identity":      {"--source=a --chart=b --verify-provider=cosign --verify-issuer=i", nil, "--verify-subject"},
		"verified Git":          {"--source=GitRepository/a --chart=b --verify-provider=cosign", nil, "--verify-provider"},
		"notation without keys": {"--source=a --chart=b --verify-provider=notation", nil, "--verify-secret-ref"},
		"another kind":          {"--source=OCIRepository/a --chart=b", nil, "source kind 'OCIRepository'"},
		"no name":               {"--source=Bucket/ --chart=b", nil, "<kind>/<name>"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			flags := pflag.NewFlagSet("", pflag.ContinueOnError)
			build := Kind().Create.Bind(flags)
			err := flags.Parse(strings.Fields(tt.args))
			var made *kind.Created
			if err == nil {
				made, err = build(t.Context(), kind.CreateInput{Name: "demo", Namespace: "apps", Interval: time.Minute})
			}
			switch {
			case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
				t.Fatalf("want an error that names %s, got %v", tt.err, err)
			case tt.err != "":
				return
			case err != nil:
				t.Fatal(err)
			}
			tt.want.Interval = meta.DurationOf(time.Minute)
			if diff := cmp.Diff(*tt.want, made.Object.(*v1.HelmChart).Spec); diff != "" {
				t.Errorf("spec (-want +got):\n%s", diff)
			}
		})
	}
}
