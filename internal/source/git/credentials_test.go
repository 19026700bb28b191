package git

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/auth"
)

// identities signs in without any cloud, and remembers what for.
type identities struct {
	calls []string
	login auth.GitLogin
	err   error
}

func (f *identities) Git(_ context.Context, provider string, r auth.Request, repository *url.URL) (*auth.GitLogin, error) {
	f.calls = append(f.calls, fmt.Sprintf("%s %s/%s/%s %s sa=%s proxy=%v %s", provider, r.Kind, r.Namespace, r.Name, r.Operation, r.ServiceAccountName, r.Proxy, repository.Path))
	return &f.login, f.err
}

func (f *identities) GitHubApp(_ context.Context, r auth.Request, data map[string][]byte, config *tls.Config) (*auth.Login, error) {
	f.calls = append(f.calls, fmt.Sprintf("app %s %s/%s tls=%t", data[auth.GitHubAppIDKey], r.Namespace, r.Name, config != nil))
	if f.err != nil {
		return nil, f.err
	}
	return &auth.Login{Username: f.login.Username, Password: f.login.Password}, nil
}

func (f *identities) Forget(kind, namespace, name string) {
	f.calls = append(f.calls, "forget "+kind+"/"+namespace+"/"+name)
}

// Each provider signs in its own way (gitrepository 21-24).
func TestProviders(t *testing.T) {
	basic := auth.GitLogin{Username: testkit.GitUser, Password: testkit.GitPassword}
	ca := must(testkit.NewCA())
	for name, test := range map[string]struct {
		provider string
		secret   map[string]string
		edit     func(*sourcev1.GitRepository)
		fake     *identities
		calls    []string
		want     string
		stalls   bool
	}{
		"gitrepository 22: app": {
			provider: "github", secret: map[string]string{auth.GitHubAppIDKey: "7"}, fake: &identities{login: basic},
			calls: []string{"app 7 apps/app tls=false"}, want: "True Succeeded: ",
		},
		"gitrepository 22: app, certificates for API and Git": {
			provider: "github", secret: map[string]string{auth.GitHubAppIDKey: "7", "ca.crt": string(ca.PEM)}, fake: &identities{login: basic},
			calls: []string{"app 7 apps/app tls=true"}, want: "True Succeeded: ",
		},
		"gitrepository 23: bearer": {
			provider: "azure", fake: &identities{login: auth.GitLogin{Bearer: testkit.GitToken}},
			calls: []string{"azure GitRepository/apps/app reconcile sa= proxy=<nil> /auth/app.git"}, want: "True Succeeded: ",
		},
		"gitrepository 23: basic, service account": {
			provider: "aws", edit: func(o *sourcev1.GitRepository) { o.Spec.ServiceAccountName = "tenant" }, fake: &identities{login: basic},
			calls: []string{"aws GitRepository/apps/app reconcile sa=tenant proxy=<nil> /auth/app.git"}, want: "True Succeeded: ",
		},
		"gitrepository 24: no gate": {
			provider: "aws", edit: func(o *sourcev1.GitRepository) { o.Spec.ServiceAccountName = "tenant" },
			fake:  &identities{err: fmt.Errorf("to use spec.serviceAccountName: %w", auth.ErrFeatureGate)},
			calls: []string{"aws GitRepository/apps/app reconcile sa=tenant proxy=<nil> /auth/app.git"},
			want:  "False FeatureGateDisabled: ", stalls: true,
		},
		"the cloud refuses": {
			provider: "azure", fake: &identities{err: errors.New("no identity")},
			calls: []string{"azure GitRepository/apps/app reconcile sa= proxy=<nil> /auth/app.git"},
			want:  "False AuthenticationFailed: failed to configure authentication options: no identity",
		},
		"GitHub refuses": {
			provider: "github", secret: map[string]string{auth.GitHubAppIDKey: "7"}, fake: &identities{err: errors.New("no installation")},
			calls: []string{"app 7 apps/app tls=false"}, want: "False AuthenticationFailed: failed to configure authentication options: no installation",
		},
		"gitrepository 21: app without its data": {
			provider: "github", secret: map[string]string{auth.GitHubAppIDKey: "7"}, fake: &identities{err: fmt.Errorf("%w: no key", auth.ErrAppData)},
			calls: []string{"app 7 apps/app tls=false"}, want: "False InvalidProviderConfiguration: secretRef 'apps/creds': invalid github app data: no key",
		},
		"broken certificates": {
			provider: "azure", secret: map[string]string{"tls.crt": "x"}, fake: &identities{},
			want: "False AuthenticationFailed: failed to configure authentication options: ",
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, secretOf(test.secret))
			l.options.Identities = test.fake
			l.open("storage.test")
			l.commit("init", map[string]string{"app.yaml": "a"})
			l.create(func(o *sourcev1.GitRepository) {
				o.Spec.URL = l.url + "/auth/app.git"
				o.Spec.Provider = test.provider
				if test.secret != nil {
					o.Spec.SecretRef = &meta.LocalObjectReference{Name: "creds"}
				}
				if test.edit != nil {
					test.edit(o)
				}
			})
			_, _ = l.Run(t.Context(), key())
			if got := l.condition("Ready"); !strings.HasPrefix(got, test.want) {
				t.Errorf("Ready = %q, want %q", got, test.want)
			}
			expect(t, "stalled", test.stalls, l.condition("Stalled") != "-")
			if diff := cmp.Diff(test.calls, test.fake.calls); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
		})
	}
}

// gitrepository 25: the proxy is for tokens too. gitrepository 73: nothing is kept for an object that is gone.
func TestProviderProxyAndEnd(t *testing.T) {
	l := newLab(t, secretOf(map[string]string{"address": "http://127.0.0.1:1"}))
	fake := &identities{login: auth.GitLogin{Bearer: "t"}}
	l.options.Identities = fake
	l.open("storage.test")
	l.create(func(o *sourcev1.GitRepository) {
		o.Spec.Provider, o.Spec.ProxySecretRef = "azure", &meta.LocalObjectReference{Name: "creds"}
	})
	_, _ = l.Run(t.Context(), key())
	obj := l.get()
	if err := l.client.Delete(t.Context(), obj); err != nil {
		t.Fatal(err)
	}
	l.step()
	want := []string{"azure GitRepository/apps/app reconcile sa= proxy=http://127.0.0.1:1 /app.git", "forget GitRepository/apps/app"}
	if diff := cmp.Diff(want, fake.calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}
