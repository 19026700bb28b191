package cluster

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/auth"
	"github.com/seed-79636ae9/flux/toolkit/auth/authtest"
	"github.com/seed-79636ae9/flux/toolkit/cluster/clustertest"
	"github.com/seed-79636ae9/flux/toolkit/kube"
)

// kustomization 97, 98, reliability 027: what a Secret may say, and that its content is in no error.
func TestSecrets(t *testing.T) {
	remote := clustertest.NewServer(t, "one")
	good := remote.Kubeconfig()
	program := clustertest.Kubeconfig(remote.URL, remote.CA, "exec: {command: canary, apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never}")
	plain := strings.Replace(good, "https:", "http:", 1)
	insecure := kube.KubeconfigOptions{Exec: true, InsecureTLS: true}
	for name, test := range map[string]struct {
		data    map[string]string
		key     string
		options kube.KubeconfigOptions
		fails   string
		is      error
	}{
		"value":             {data: map[string]string{"value": good, "value.yaml": "canary: ["}},
		"value.yaml":        {data: map[string]string{"value.yaml": good}},
		"a key":             {data: map[string]string{"value": "canary: [", "config": good}, key: "config"},
		"no Secret":         {fails: "it does not exist", is: ErrNotFound},
		"no key":            {data: map[string]string{"other": good}, fails: "it cannot be used: it has no key 'value' or 'value.yaml'", is: ErrUnusable},
		"the wrong key":     {data: map[string]string{"value": good}, key: "config", fails: "it has no key 'config'", is: ErrUnusable},
		"garbage":           {data: map[string]string{"value": "canary: ["}, fails: "it cannot be used: key 'value': the kubeconfig is not one", is: ErrUnusable},
		"too much":          {data: map[string]string{"value": good}, options: kube.KubeconfigOptions{MaxBytes: 10}, fails: "the limit is 10", is: ErrUnusable},
		"a program":         {data: map[string]string{"value": program}, fails: "--insecure-kubeconfig-exec", is: ErrUnusable},
		"an allowed one":    {data: map[string]string{"value": program}, options: insecure},
		"no TLS":            {data: map[string]string{"value": plain}, fails: "--insecure-kubeconfig-tls", is: ErrUnusable},
		"no TLS is allowed": {data: map[string]string{"value": plain}, options: insecure},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, func(o *Options) { o.Kubeconfig = test.options })
			if test.data != nil {
				l.secret("fleet", test.data)
			}
			r := to("a", "fleet")
			r.KubeConfig.SecretRef.Key = test.key
			got, err := l.target(t.Context(), r)
			if test.fails == "" {
				if err != nil || !strings.HasSuffix(got.config.Host, strings.TrimPrefix(remote.URL, "https:")) || got.token != nil || strings.Contains(got.key, "canary") {
					t.Errorf("target = %+v, %v", got, err)
				}
				return
			}
			if !errors.Is(err, test.is) || !strings.HasPrefix(err.Error(), "the Secret 'apps/fleet' of spec.kubeConfig: ") || !strings.Contains(err.Error(), test.fails) {
				t.Errorf("error = %v, want %q in it", err, test.fails)
			}
			if err != nil && strings.Contains(err.Error(), "canary") {
				t.Errorf("the content is told: %v", err)
			}
		})
	}
}

func withAccounts(t *testing.T) (*authtest.Accounts, *auth.Authenticator) {
	t.Helper()
	accounts := authtest.NewAccounts(t)
	accounts.Put("apps", "team", "1", nil)
	accounts.Put("apps", "fallback", "2", nil)
	authenticator, err := auth.New(auth.Options{ServiceAccounts: accounts.Client, ObjectLevel: true})
	if err != nil {
		t.Fatal(err)
	}
	return accounts, authenticator
}

func toConfigMap() Request {
	r := to("a", "")
	r.KubeConfig = &meta.KubeConfigReference{ConfigMapRef: &meta.LocalObjectReference{Name: "fleet"}}
	return r
}

func (l *lab) configMap(data map[string]string) {
	l.t.Helper()
	l.put(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "fleet"}, Data: data})
}

// kustomization 97, wire 18: what a ConfigMap may say.
func TestConfigMaps(t *testing.T) {
	accounts, authenticator := withAccounts(t)
	for name, test := range map[string]struct {
		data            map[string]string
		fallback, fails string
		issued          string
	}{
		"generic":             {map[string]string{"provider": "generic", "address": "https://k.test", "serviceAccountName": "team"}, "", "", "apps/team https://k.test"},
		"audiences":           {map[string]string{"provider": "generic", "address": "https://k.test", "serviceAccountName": "team", "audiences": "a\nb\n"}, "", "", "apps/team a b"},
		"the default account": {map[string]string{"provider": "generic", "address": "https://k.test"}, "fallback", "", "apps/fallback https://k.test"},
		"nobody":              {map[string]string{"provider": "generic", "address": "https://k.test"}, "", "the controller's own token goes to no other server", ""},
		"no ConfigMap":        {nil, "", "it does not exist", ""},
		"no provider":         {map[string]string{"address": "https://k.test"}, "", "it has no key 'provider'", ""},
		"another provider":    {map[string]string{"provider": "other"}, "", "provider 'other' is not one", ""},
		"no TLS":              {map[string]string{"provider": "generic", "address": "http://k.test", "serviceAccountName": "team"}, "", "it has no TLS", "apps/team http://k.test"},
		"no address":          {map[string]string{"provider": "generic", "address": "k.test", "serviceAccountName": "team"}, "", "key 'address': it is not a URL", ""},
		"too many audiences":  {map[string]string{"provider": "generic", "audiences": strings.Repeat("a\n", 11)}, "", "the limit is 10", ""},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(accounts.Issued())
			l := newLab(t, func(o *Options) { o.Auth, o.KubeConfigServiceAccount = authenticator, test.fallback })
			if test.data != nil {
				l.configMap(test.data)
			}
			got, err := l.target(t.Context(), toConfigMap())
			if test.fails != "" {
				if err == nil || !strings.Contains(err.Error(), test.fails) || !strings.HasPrefix(err.Error(), "the ConfigMap 'apps/fleet' of spec.kubeConfig: ") {
					t.Errorf("error = %v, want %q in it", err, test.fails)
				}
			} else if err != nil || got.config.Host != test.data["address"] || got.config.BearerToken != "" || got.token == nil {
				t.Errorf("target = %+v, %v", got, err)
			}
			var want []string
			if test.issued != "" {
				want = []string{test.issued}
			}
			if diff := cmp.Diff(want, accounts.Issued()[before:], cmp.Transformer("nil", func(s []string) string { return strings.Join(s, ",") })); diff != "" {
				t.Errorf("issued (-want +got):\n%s", diff)
			}
		})
	}
}

// kustomization 97: the requests carry the token of the account, and who may use it no longer is cut off.
func TestSignsIn(t *testing.T) {
	accounts, authenticator := withAccounts(t)
	tokens := make(chan string, 10)
	remote := clustertest.NewServer(t, "one")
	remote.Instead = func(_ http.ResponseWriter, r *http.Request) bool {
		tokens <- r.Header.Get("Authorization")
		return false
	}
	l := newLab(t, func(o *Options) { o.Auth = authenticator })
	l.configMap(map[string]string{"provider": "generic", "address": remote.URL, "ca.crt": string(remote.CA), "serviceAccountName": "team"})
	r := toConfigMap()
	c := l.reach(r)
	if got, want := <-tokens, "Bearer "+authtest.TokenOf("apps", "team", remote.URL); got != want {
		t.Errorf("the request had %q, want %q", got, want)
	}
	if l.reach(r) != c {
		t.Error("a second run has another cluster")
	}
	accounts.Remove("apps", "team")
	if _, err := l.Reach(t.Context(), r, l.park); !errors.Is(err, auth.ErrServiceAccount) || l.Of(r.Owner).Remote() {
		t.Errorf("error = %v; it is still in use: %t", err, l.Of(r.Owner).Remote())
	}
}

// The key tells apart what is cut at different places, and two clusters that differ in anything.
func TestDigest(t *testing.T) {
	seen := map[string]bool{}
	for _, parts := range [][]string{{"a", "b"}, {"ab"}, {"a", "", "b"}, {"b", "a"}, {"1:a"}, {"a"}, nil} {
		seen[digest(parts...)] = true
	}
	if len(seen) != 7 {
		t.Errorf("7 lists have %d digests", len(seen))
	}
}

// A token is used until a minute before its end, and renewed for watches that outlast it.
func TestTokens(t *testing.T) {
	l := newLab(t)
	var renewed []string
	source := func(token string, expires time.Time, err error) *tokenSource {
		return &tokenSource{clock: l.clock, access: &auth.ClusterAccess{Token: token, Expires: expires}, renew: func(context.Context) (*auth.ClusterAccess, error) {
			renewed = append(renewed, token)
			return &auth.ClusterAccess{Token: token + "+", Expires: expires.Add(time.Hour)}, err
		}}
	}
	get := func(s *tokenSource, want string) {
		t.Helper()
		if got, err := s.get(t.Context()); err != nil || got != want {
			t.Errorf("token = %s, %v, want %s", got, err, want)
		}
	}
	start := l.clock.Now()
	get(source("endless", time.Time{}, nil), "endless")
	s := source("a", start.Add(time.Hour), nil)
	get(s, "a")
	l.clock.SetTime(start.Add(time.Hour - tokenMargin))
	get(s, "a+")
	get(s, "a+")
	s.set(source("b", start.Add(2*time.Hour), nil))
	get(s, "b")
	s.set(s)
	get(s, "b")
	if !slices.Equal(renewed, []string{"a"}) {
		t.Errorf("renewed %q", renewed)
	}
	no := errors.New("no")
	if _, err := source("c", start, no).get(t.Context()); !errors.Is(err, no) {
		t.Errorf("error = %v", err)
	}
}
