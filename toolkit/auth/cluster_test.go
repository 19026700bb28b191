package auth_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/seed-79636ae9/flux/toolkit/auth"
	"github.com/seed-79636ae9/flux/toolkit/auth/authtest"
)

// kustomization 97: a cluster that trusts the issuer of our accounts gets a token of one of them, and never one of the process.
func TestGenericCluster(t *testing.T) {
	target := auth.ClusterTarget{Address: "https://k.test", CA: "ca"}
	for name, test := range map[string]struct {
		options []func(*auth.Options)
		account string
		edit    func(*auth.ClusterTarget)
		issued  string
		err     error
		text    string
	}{
		"an account":         {options: []func(*auth.Options){objectLevel}, account: "team", issued: "apps/team https://k.test"},
		"audiences":          {options: []func(*auth.Options){objectLevel}, account: "team", edit: func(x *auth.ClusterTarget) { x.Audiences = []string{"a", "b"} }, issued: "apps/team a b"},
		"the default":        {options: []func(*auth.Options){objectLevel, defaultAccount}, issued: "apps/fallback https://k.test"},
		"nobody":             {options: []func(*auth.Options){objectLevel}, err: auth.ErrServiceAccount, text: "the controller's own token goes to no other server"},
		"the gate is off":    {account: "team", err: auth.ErrFeatureGate, text: "ObjectLevelWorkloadIdentity"},
		"a missing account":  {options: []func(*auth.Options){objectLevel}, account: "other", err: auth.ErrServiceAccount, text: "'apps/other' does not exist"},
		"without an address": {options: []func(*auth.Options){objectLevel}, account: "team", edit: func(x *auth.ClusterTarget) { x.Address = "" }, text: "needs the address"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, test.options...)
			l.accounts.Put("apps", "team", "1", nil)
			l.accounts.Put("apps", "fallback", "2", nil)
			want := target
			if test.edit != nil {
				test.edit(&want)
			}
			got, err := l.Cluster(t.Context(), auth.Generic, request(as(test.account)), want)
			if test.issued == "" {
				if err == nil || !errors.Is(err, test.err) && test.err != nil || !strings.Contains(err.Error(), test.text) {
					t.Errorf("error = %v, want %v and %q in it", err, test.err, test.text)
				}
				expect(t, "issued", nil, l.accounts.Issued())
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			expect(t, "issued", []string{test.issued}, l.accounts.Issued())
			account, audience, _ := strings.Cut(strings.TrimPrefix(test.issued, "apps/"), " ")
			expect(t, "access", &auth.ClusterAccess{
				Address: "https://k.test", CA: []byte("ca"), Token: authtest.TokenOf("apps", account, audience), Expires: l.clock.Now().Add(time.Hour),
			}, got)
		})
	}
}

// _common 50: one token serves all runs, but not those of another account, audience or server.
func TestGenericClusterCache(t *testing.T) {
	l := newLab(t, objectLevel)
	for _, account := range []string{"team", "other"} {
		l.accounts.Put("apps", account, account, nil)
	}
	ask := func(account string, target auth.ClusterTarget) {
		t.Helper()
		if _, err := l.Cluster(t.Context(), auth.Generic, request(as(account)), target); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		ask("team", auth.ClusterTarget{Address: "https://a.test"})
		ask("team", auth.ClusterTarget{Address: "https://b.test"})
		ask("team", auth.ClusterTarget{Address: "https://b.test", Audiences: []string{"x"}})
		ask("other", auth.ClusterTarget{Address: "https://a.test"})
	}
	expect(t, "issued", []string{"apps/team https://a.test", "apps/team https://b.test", "apps/team x", "apps/other https://a.test"}, l.accounts.Issued())
	l.accounts.Put("apps", "team", "anew", nil)
	ask("team", auth.ClusterTarget{Address: "https://a.test"})
	if got := l.accounts.Issued(); len(got) != 5 {
		t.Errorf("an account that was made anew has the token of its predecessor: %q", got)
	}
}

// A process without clouds, and a provider that has no clusters.
func TestNoClusters(t *testing.T) {
	var none *auth.Authenticator
	if _, err := none.Cluster(t.Context(), auth.Generic, request(), auth.ClusterTarget{}); !errors.Is(err, auth.ErrUnsupported) {
		t.Errorf("error = %v", err)
	}
	l := newLab(t)
	for _, provider := range []string{"aws", "other", ""} {
		if _, err := l.Cluster(t.Context(), provider, request(), auth.ClusterTarget{}); !errors.Is(err, auth.ErrUnsupported) {
			t.Errorf("%s: error = %v", provider, err)
		}
	}
}
