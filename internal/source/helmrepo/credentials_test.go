package helmrepo

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/secret"
)

func newSecret(name string, data map[string]string) *corev1.Secret {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: name}, Data: map[string][]byte{}}
	for key, value := range data {
		s.Data[key] = []byte(value)
	}
	return s
}

func newRepository(login, tls string) *sourcev1.HelmRepository {
	repo := &sourcev1.HelmRepository{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "repo"}}
	if login != "" {
		repo.Spec.SecretRef = &meta.LocalObjectReference{Name: login}
	}
	if tls != "" {
		repo.Spec.CertSecretRef = &meta.LocalObjectReference{Name: tls}
	}
	return repo
}

// helmrepository 23-25, 29, 39, 43-45: what Secrets give.
func TestReadCredentials(t *testing.T) {
	ca, err := testkit.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	pem := string(ca.PEM)
	cert, key, err := ca.Issue("client")
	if err != nil {
		t.Fatal(err)
	}
	reader := fake.NewClientBuilder().WithScheme(newScheme(t)).WithObjects(
		newSecret("basic", map[string]string{"username": "me", "password": "s3cr3t"}),
		newSecret("both", map[string]string{"username": "me", "password": "s3cr3t", "caFile": pem}),
		newSecret("docker", map[string]string{".dockerconfigjson": "{}"}),
		newSecret("other", map[string]string{"token": "x"}),
		newSecret("ca", map[string]string{"ca.crt": pem}),
		newSecret("legacy", map[string]string{"caFile": pem, "certFile": string(cert), "keyFile": string(key)}),
		newSecret("twins", map[string]string{"ca.crt": pem, "caFile": "nonsense"}),
		newSecret("half", map[string]string{"tls.crt": string(cert)}),
		newSecret("bad", map[string]string{"ca.crt": "nonsense"}),
		newSecret("user", map[string]string{"username": "me"}),
	).Build()
	basic := &secret.Basic{Username: "me", Password: "s3cr3t"}
	withCA := &secret.TLSMaterial{CA: ca.PEM}
	for _, test := range []struct {
		login, tls string
		want       Credentials
		err        string
	}{
		{},
		{login: "basic", want: Credentials{Basic: basic}},
		{login: "docker", want: Credentials{DockerConfig: []byte("{}")}},
		{login: "other"},
		{login: "both", want: Credentials{Basic: basic, TLS: withCA}},
		{login: "basic", tls: "ca", want: Credentials{Basic: basic, TLS: withCA}},
		{tls: "legacy", want: Credentials{TLS: &secret.TLSMaterial{CA: ca.PEM, Cert: cert, Key: key}}},
		{tls: "twins", want: Credentials{TLS: withCA}},
		// TLS material of secretRef does not even have to be valid beside certSecretRef.
		{login: "bad", tls: "ca", want: Credentials{TLS: withCA}},
		{login: "missing", err: `failed to get secret 'apps/missing': secrets "missing" not found`},
		{tls: "missing", err: `failed to get secret 'apps/missing': secrets "missing" not found`},
		{login: "user", err: "invalid secret 'apps/user': key 'password': key is required beside 'username'"},
		{login: "bad", err: "invalid secret 'apps/bad': key 'ca.crt': no PEM certificate found"},
		{tls: "half", err: "invalid secret 'apps/half': key 'tls.key': key is required beside 'tls.crt'"},
		{tls: "other", err: "invalid secret 'apps/other': it has neither 'ca.crt' nor 'tls.crt' and 'tls.key'"},
	} {
		t.Run(test.login+"+"+test.tls, func(t *testing.T) {
			is, err := ReadCredentials(t.Context(), reader, newRepository(test.login, test.tls))
			if test.err != "" {
				if !errors.Is(err, ErrCredentials) || err.Error() != test.err {
					t.Errorf("error %v, want %s", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, is); diff != "" {
				t.Errorf("credentials (-want +got):\n%s", diff)
			}
		})
	}
}

// helmrepository 26, 57; helmchart 59: the options of a repository over HTTP.
func TestClientOptions(t *testing.T) {
	reader := fake.NewClientBuilder().WithScheme(newScheme(t)).WithObjects(newSecret("basic", map[string]string{"username": "me", "password": "s3cr3t"})).Build()
	repo := newRepository("basic", "")
	repo.Spec.URL, repo.Spec.PassCredentials, repo.Spec.Provider = "https://example.com/charts", true, "aws"
	is, err := ClientOptionsFor(t.Context(), reader, repo, DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	want := ClientOptions{URL: "https://example.com/charts/", Basic: &secret.Basic{Username: "me", Password: "s3cr3t"}, PassCredentials: true, Limits: DefaultLimits()}
	if diff := cmp.Diff(want, is); diff != "" {
		t.Errorf("options (-want +got):\n%s", diff)
	}
	repo.Spec.SecretRef.Name = "missing"
	if _, err := ClientOptionsFor(t.Context(), reader, repo, DefaultLimits()); !errors.Is(err, ErrCredentials) {
		t.Errorf("error %v", err)
	}
	repo.Spec.URL = "oci://example.com/charts"
	if _, err := ClientOptionsFor(t.Context(), reader, repo, DefaultLimits()); !errors.Is(err, ErrURL) {
		t.Errorf("error %v", err)
	}
}

// helmrepository 25, 27, 28; helmchart 60: who logs in to a registry.
func TestRegistryOptions(t *testing.T) {
	login := base64.StdEncoding.EncodeToString([]byte("you:s3cr3t"))
	reader := fake.NewClientBuilder().WithScheme(newScheme(t)).WithObjects(
		newSecret("basic", map[string]string{"username": "me", "password": "s3cr3t"}),
		newSecret("docker", map[string]string{".dockerconfigjson": `{"auths":{"example.com":{"auth":"` + login + `"}}}`}),
		newSecret("bad", map[string]string{".dockerconfigjson": "nonsense"}),
		newSecret("other", map[string]string{"token": "x"}),
	).Build()
	target, err := name.NewRepository("example.com/charts/demo")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ login, provider, url, want, err string }{
		{url: "oci://example.com/charts"},
		{url: "oci://example.com/charts/", login: "basic", want: "me"},
		{url: "oci://example.com/charts", login: "docker", want: "you"},
		{url: "oci://example.com", login: "basic", want: "me"},
		{url: "oci://example.com:5000", login: "basic"},
		{url: "oci://example.com/charts", login: "other"},
		// The provider counts only without a secretRef.
		{url: "oci://example.com/charts", login: "docker", provider: "aws", want: "you"},
		{url: "oci://example.com/charts", provider: "generic"},
		{url: "oci://example.com/charts", login: "bad", err: "invalid secret 'apps/bad': key '.dockerconfigjson': not a Docker configuration in JSON"},
		{url: "oci://exa mple.com", err: "invalid Helm repository URL: "},
		{url: "oci://example.com/UPPER", err: "invalid Helm repository URL: "},
		{url: "oci://example.com/charts", provider: "aws", err: "failed to log in to the registry with provider 'aws': "},
	} {
		t.Run(test.login+"+"+test.provider+"+"+test.url, func(t *testing.T) {
			repo := newRepository(test.login, "")
			repo.Spec.Type, repo.Spec.URL, repo.Spec.Provider, repo.Spec.Insecure = "oci", test.url, test.provider, true
			o, err := RegistryOptionsFor(t.Context(), reader, nil, repo)
			if test.err != "" {
				if err == nil || !strings.HasPrefix(err.Error(), test.err) {
					t.Errorf("error %v, want %s", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			user := ""
			if o.Keychain != nil {
				a, err := o.Keychain.Resolve(target)
				if err != nil {
					t.Fatal(err)
				}
				c, err := authn.Authorization(t.Context(), a)
				if err != nil {
					t.Fatal(err)
				}
				user = c.Username
			}
			if user != test.want || !o.Insecure {
				t.Errorf("user %q, insecure %v, want %q", user, o.Insecure, test.want)
			}
		})
	}
}
