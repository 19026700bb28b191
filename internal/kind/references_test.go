package kind

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-79636ae9/flux/api/meta"
)

// cli 25, 26: how sources are named.
func TestParseSource(t *testing.T) {
	kinds := []string{"Bucket", "GitRepository"}
	for value, tc := range map[string]struct {
		otherwise string
		want      Ref
		err       string
	}{
		"app":                     {otherwise: "Bucket", want: Ref{Kind: "Bucket", Name: "app"}},
		"app.team":                {otherwise: "Bucket", want: Ref{Kind: "Bucket", Name: "app", Namespace: "team"}},
		"gitrepository/app.team":  {otherwise: "Bucket", want: Ref{Kind: "GitRepository", Name: "app", Namespace: "team"}},
		"Bucket/app":              {want: Ref{Kind: "Bucket", Name: "app"}},
		"other":                   {err: "--source 'other' is not of the form <kind>/<name>[.<namespace>]"},
		"Bucket/":                 {err: "--source 'Bucket/' is not of the form <kind>/<name>[.<namespace>]"},
		"Bucket/.team":            {otherwise: "Bucket", err: "--source 'Bucket/.team' is not of the form [<kind>/]<name>[.<namespace>]"},
		"Bucket/a/b":              {otherwise: "Bucket", err: "--source 'Bucket/a/b' is not of the form [<kind>/]<name>[.<namespace>]"},
		"HelmRepository/app.team": {otherwise: "Bucket", err: "--source 'HelmRepository/app.team' has kind 'HelmRepository', use one of: Bucket, GitRepository"},
		"":                        {otherwise: "Bucket", err: "--source '' is not of the form [<kind>/]<name>[.<namespace>]"},
	} {
		t.Run(value, func(t *testing.T) {
			got, err := ParseSource("source", value, tc.otherwise, kinds)
			if text := message(err); text != tc.err {
				t.Errorf("error %q, want %q", text, tc.err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("reference (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseDependencies(t *testing.T) {
	got, err := ParseDependencies([]string{"infra", "base/crds"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]meta.DependencyReference{{Name: "infra"}, {Namespace: "base", Name: "crds"}}, got); diff != "" {
		t.Errorf("dependencies (-want +got):\n%s", diff)
	}
	for _, value := range []string{"", "a/", "a/b/c"} {
		if _, err := ParseDependencies([]string{value}); err == nil {
			t.Errorf("--depends-on '%s' is accepted", value)
		}
	}
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
