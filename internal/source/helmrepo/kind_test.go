package helmrepo

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seed-79636ae9/flux/api/meta"
	v1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/kind"
	"github.com/seed-79636ae9/flux/internal/testkit"
)

func build(t *testing.T, in kind.CreateInput, args ...string) (*kind.Created, error) {
	t.Helper()
	flags := pflag.NewFlagSet("helm", pflag.ContinueOnError)
	build := Kind().Create.Bind(flags)
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	in.Name, in.Namespace, in.Interval = "charts", "apps", time.Minute
	return build(t.Context(), in)
}

// The flags of `flux create source helm`, and what becomes of them.
func TestCreate(t *testing.T) {
	ca, err := testkit.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := ca.Issue("client")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, content := range map[string][]byte{"ca": ca.PEM, "cert": cert, "key": key} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ref := func(name string) *meta.LocalObjectReference { return &meta.LocalObjectReference{Name: name} }
	for _, test := range []struct {
		name string
		in   kind.CreateInput
		args []string
		want v1.HelmRepositorySpec
		data map[string][]byte
	}{
		{name: "a URL", args: []string{"--url=https://example.com/charts"}, want: v1.HelmRepositorySpec{URL: "https://example.com/charts"}},
		{name: "a timeout", in: kind.CreateInput{Timeout: time.Second}, args: []string{"--url=https://example.com", "--pass-credentials"},
			want: v1.HelmRepositorySpec{URL: "https://example.com", Timeout: meta.DurationOf(time.Second), PassCredentials: true}},
		{name: "a registry", args: []string{"--url=oci://example.com/charts", "--oci-provider=aws"},
			want: v1.HelmRepositorySpec{URL: "oci://example.com/charts", Type: "oci", Provider: "aws"}},
		{name: "a Secret", args: []string{"--url=https://example.com", "--secret-ref=mine", "--username=me", "--password=s3cr3t"},
			want: v1.HelmRepositorySpec{URL: "https://example.com", SecretRef: ref("mine")}},
		{name: "a login", args: []string{"--url=https://example.com", "-u=me", "-p=s3cr3t"},
			want: v1.HelmRepositorySpec{URL: "https://example.com", SecretRef: ref("helm-charts")},
			data: map[string][]byte{"username": []byte("me"), "password": []byte("s3cr3t")}},
		{name: "an export", in: kind.CreateInput{Export: true}, args: []string{"--url=https://example.com", "-u=me", "-p=s3cr3t"},
			want: v1.HelmRepositorySpec{URL: "https://example.com"}},
		{name: "certificates", args: []string{"--url=https://example.com", "--ca-file=" + dir + "/ca", "--cert-file=" + dir + "/cert", "--key-file=" + dir + "/key"},
			want: v1.HelmRepositorySpec{URL: "https://example.com", CertSecretRef: ref("helm-charts")},
			data: map[string][]byte{"ca.crt": ca.PEM, "tls.crt": cert, "tls.key": key}},
	} {
		t.Run(test.name, func(t *testing.T) {
			created, err := build(t, test.in, test.args...)
			if err != nil {
				t.Fatal(err)
			}
			test.want.Interval = meta.DurationOf(time.Minute)
			want := &v1.HelmRepository{
				TypeMeta:   metav1.TypeMeta{APIVersion: "source.toolkit.fluxcd.io/v1", Kind: "HelmRepository"},
				ObjectMeta: metav1.ObjectMeta{Name: "charts", Namespace: "apps"}, Spec: test.want,
			}
			if diff := cmp.Diff(want, created.Object); diff != "" {
				t.Errorf("object (-want +got):\n%s", diff)
			}
			var secret *corev1.Secret
			if test.data != nil {
				secret = &corev1.Secret{
					TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
					ObjectMeta: metav1.ObjectMeta{Name: "helm-charts", Namespace: "apps"}, Data: test.data,
				}
			}
			if diff := cmp.Diff(secret, created.Secret); diff != "" {
				t.Errorf("Secret (-want +got):\n%s", diff)
			}
		})
	}
	for want, args := range map[string][]string{
		"--url is required": nil,
		"--url is not an address of the form https://host/path, http://host/path or oci://host/path":                   {"--url=ftp://example.com"},
		"--oci-provider is for addresses that begin with oci://":                                                       {"--url=https://example.com", "--oci-provider=gcp"},
		"--pass-credentials is for http and https addresses: a registry has no index that could point elsewhere":       {"--url=oci://example.com", "--pass-credentials"},
		"--username and --password belong together":                                                                    {"--url=https://example.com", "-u=me"},
		"--cert-file and --key-file belong together":                                                                   {"--url=https://example.com", "--key-file=" + dir + "/key"},
		"read --ca-file: open " + dir + "/none: no such file or directory":                                             {"--url=https://example.com", "--ca-file=" + dir + "/none"},
		"--cert-file and --key-file are no pair of certificate and key: tls: failed to find any PEM data in key input": {"--url=https://example.com", "--cert-file=" + dir + "/cert", "--key-file=/dev/null"},
	} {
		if _, err := build(t, kind.CreateInput{}, args...); err == nil || err.Error() != want {
			t.Errorf("%q: error %v, want %s", args, err, want)
		}
	}
}
