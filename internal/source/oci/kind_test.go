package oci

import (
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/seed-79636ae9/flux/api/meta"
	v1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/kind"
)

func create(t *testing.T, args ...string) (*v1.OCIRepository, error) {
	t.Helper()
	flags := pflag.NewFlagSet("oci", pflag.ContinueOnError)
	build := bindCreate(flags)
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	created, err := build(t.Context(), kind.CreateInput{Name: "app", Namespace: "apps", Interval: time.Minute, Timeout: time.Second})
	if err != nil {
		return nil, err
	}
	return created.Object.(*v1.OCIRepository), nil
}

func TestCreate(t *testing.T) {
	got, err := create(t, "--url=oci://ghcr.io/org/app", "--tag=latest", "--tag-semver=1.x", "--digest=sha256:1", "--secret-ref=a",
		"--cert-ref=b", "--proxy-secret-ref=c", "--service-account=d", "--provider=aws", "--insecure", "--ignore-paths=x,y",
		"--layer-selector=text/plain,copy", "--verify-provider=cosign", "--verify-subject=s", "--verify-issuer=i")
	if err != nil {
		t.Fatal(err)
	}
	ref := func(name string) *meta.LocalObjectReference { return &meta.LocalObjectReference{Name: name} }
	expect(t, "object", &v1.OCIRepository{
		TypeMeta:   metav1.TypeMeta{APIVersion: "source.toolkit.fluxcd.io/v1", Kind: "OCIRepository"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "app"},
		Spec: v1.OCIRepositorySpec{
			URL: "oci://ghcr.io/org/app", Interval: meta.DurationOf(time.Minute), Timeout: meta.DurationOf(time.Second), Provider: "aws",
			Ref:       &v1.OCIRepositoryRef{Tag: "latest", SemVer: "1.x", Digest: "sha256:1"},
			SecretRef: ref("a"), CertSecretRef: ref("b"), ProxySecretRef: ref("c"), ServiceAccountName: "d", Insecure: true,
			Ignore: ptr.To("x\ny"), LayerSelector: &v1.OCILayerSelector{MediaType: "text/plain", Operation: "copy"},
			Verify: &v1.OCIRepositoryVerification{Provider: "cosign", MatchOIDCIdentity: []v1.OIDCIdentityMatch{{Issuer: "i", Subject: "s"}}},
		},
	}, got)
}

// Errors name the flag to mend.
func TestCreateRefuses(t *testing.T) {
	url, tag := "--url=oci://ghcr.io/org/app", "--tag=latest"
	for flag, args := range map[string][]string{
		"--url":               {tag},
		"--url:":              {"--url=https://ghcr.io/org/app", tag},
		"--tag-semver":        {url},
		"--verify-provider":   {url, tag, "--verify-secret-ref=a"},
		"--verify-issuer":     {url, tag, "--verify-provider=cosign", "--verify-subject=a"},
		"--verify-secret-ref": {url, tag, "--verify-provider=notation"},
		"--layer-selector":    {url, tag, "--layer-selector=a/b,move"},
		"--provider":          {url, tag, "--provider=other"},
	} {
		if _, err := create(t, args...); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%q: error %v, want one about %s", args, err, flag)
		}
	}
}
