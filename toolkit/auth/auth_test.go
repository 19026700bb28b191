package auth_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/seed-79636ae9/flux/toolkit/auth"
	"github.com/seed-79636ae9/flux/toolkit/auth/authtest"
)

// lab is an Authenticator with one cloud, an API server and a clock that stands still.
type lab struct {
	*auth.Authenticator
	t        *testing.T
	accounts *authtest.Accounts
	cloud    *authtest.Cloud
	clock    *clocktesting.FakePassiveClock
	registry *prometheus.Registry
}

func newLab(t *testing.T, edits ...func(*auth.Options)) *lab {
	t.Helper()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	l := &lab{
		t: t, accounts: authtest.NewAccounts(t), cloud: &authtest.Cloud{Provider: "aws", Expires: now.Add(time.Hour)},
		clock: clocktesting.NewFakePassiveClock(now), registry: prometheus.NewRegistry(),
	}
	o := auth.Options{
		Clouds: []auth.Cloud{l.cloud}, ServiceAccounts: l.accounts.Client, CacheSize: auth.DefaultCacheSize,
		Registry: l.registry, Clock: l.clock,
	}
	for _, edit := range edits {
		edit(&o)
	}
	var err error
	if l.Authenticator, err = auth.New(o); err != nil {
		t.Fatal(err)
	}
	return l
}

func objectLevel(o *auth.Options) { o.ObjectLevel = true }

func request(edits ...func(*auth.Request)) auth.Request {
	r := auth.Request{Kind: "Bucket", Namespace: "apps", Name: "one", Operation: "reconcile"}
	for _, edit := range edits {
		edit(&r)
	}
	return r
}

func as(account string) func(*auth.Request) {
	return func(r *auth.Request) { r.ServiceAccountName = account }
}

// login returns the password for a registry.
func (l *lab) login(r auth.Request) string {
	l.t.Helper()
	got, err := l.Registry(l.t.Context(), "aws", r, "registry.example/app")
	if err != nil {
		l.t.Fatal(err)
	}
	return got.Password
}

func expect[T any](t *testing.T, what string, want, got T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// _common 47, 49: on whose behalf a cloud is asked.
func TestAccounts(t *testing.T) {
	for name, test := range map[string]struct {
		options []func(*auth.Options)
		account string
		exists  []string
		who     string
		err     error
		text    string
	}{
		"the process":                            {who: "process"},
		"_common 47: the gate is off":            {account: "team", exists: []string{"team"}, err: auth.ErrFeatureGate, text: "ObjectLevelWorkloadIdentity"},
		"_common 47: the gate is on":             {options: []func(*auth.Options){objectLevel}, account: "team", exists: []string{"team"}, who: "apps/team"},
		"no account with the gate":               {options: []func(*auth.Options){objectLevel}, who: "process"},
		"the account is missing":                 {options: []func(*auth.Options){objectLevel}, account: "team", err: auth.ErrServiceAccount, text: "the service account 'apps/team' does not exist"},
		"_common 49: the default account":        {options: []func(*auth.Options){objectLevel, defaultAccount}, exists: []string{"fallback"}, who: "apps/fallback"},
		"_common 49: an account of its own":      {options: []func(*auth.Options){objectLevel, defaultAccount}, account: "team", exists: []string{"fallback", "team"}, who: "apps/team"},
		"_common 49: the default is missing":     {options: []func(*auth.Options){objectLevel, defaultAccount}, err: auth.ErrServiceAccount, text: "the default service account 'apps/fallback' does not exist"},
		"the default has no effect without gate": {options: []func(*auth.Options){defaultAccount}, exists: []string{"fallback"}, who: "process"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, test.options...)
			for _, account := range test.exists {
				l.accounts.Put("apps", account, "1", nil)
			}
			_, err := l.Keys(t.Context(), request(as(test.account)))
			if !errors.Is(err, test.err) || err != nil && !strings.Contains(err.Error(), test.text) {
				t.Errorf("error = %v, want %v and %q in it", err, test.err, test.text)
			}
			var want []string
			if test.who != "" {
				want = []string{test.who + " keys "}
			}
			expect(t, "calls", want, l.cloud.Calls())
		})
	}
}

func defaultAccount(o *auth.Options) { o.DefaultServiceAccount = "fallback" }

// plainCloud can do nothing.
type plainCloud struct{}

func (plainCloud) Name() string { return "plain" }

func TestUnsupported(t *testing.T) {
	l := newLab(t, func(o *auth.Options) { o.Clouds = append(o.Clouds, plainCloud{}) })
	l.cloud.Hosts = []string{"registry.example"}
	git := &url.URL{Scheme: "https", User: url.UserPassword("u", "canary-secret"), Host: "git.example", Path: "/app"}
	calls := map[string]func(a *auth.Authenticator, provider string) error{
		"Registry": func(a *auth.Authenticator, p string) error {
			_, err := a.Registry(t.Context(), p, request(), "elsewhere.example/app")
			return err
		},
		"Git": func(a *auth.Authenticator, p string) error {
			_, err := a.Git(t.Context(), p, request(), git)
			return err
		},
		"Token": func(a *auth.Authenticator, p string) error {
			_, err := a.Token(t.Context(), p, request(), "scope")
			return err
		},
	}
	for name, call := range calls {
		for what, a := range map[string]*auth.Authenticator{"nil": nil, "": l.Authenticator} {
			for _, provider := range []string{"generic", "", "unknown", "plain", "aws"} {
				if name == "Token" && provider == "aws" && a != nil {
					continue
				}
				err := call(a, provider)
				if !errors.Is(err, auth.ErrUnsupported) || strings.Contains(err.Error(), "canary") {
					t.Errorf("%s of a %s Authenticator from %q: error = %v, want %v", name, what, provider, err, auth.ErrUnsupported)
				}
			}
		}
	}
	var none *auth.Authenticator
	if _, err := none.Keys(t.Context(), request()); !errors.Is(err, auth.ErrUnsupported) {
		t.Errorf("keys of a nil Authenticator: error = %v", err)
	}
	if _, err := none.GitHubApp(t.Context(), request(), nil, nil); !errors.Is(err, auth.ErrUnsupported) {
		t.Errorf("app of a nil Authenticator: error = %v", err)
	}
	none.Forget("Bucket", "apps", "one")
	expect(t, "calls", nil, l.cloud.Calls())
	for _, repository := range []string{"", "/app", "https://", "oci://us er/app", "host:port/app", "u:p@registry.example/app"} {
		if _, err := l.Registry(t.Context(), "aws", request(), repository); !errors.Is(err, auth.ErrUnsupported) {
			t.Errorf("registry of %q: error = %v, want %v", repository, err, auth.ErrUnsupported)
		}
	}
}

// A repository may be written with a scheme, in capitals, and the user of a Git URL is nobody's business.
func TestTargets(t *testing.T) {
	l := newLab(t)
	for _, repository := range []string{"registry.example/app", "oci://Registry.Example/other", "registry.example"} {
		if _, err := l.Registry(t.Context(), "aws", request(), repository); err != nil {
			t.Error(err)
		}
	}
	got, err := l.Git(t.Context(), "aws", request(), &url.URL{Scheme: "https", User: url.User("x"), Host: "git.example", Path: "/app"})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "login", &auth.GitLogin{Bearer: "secret-2", Expires: l.cloud.Expires}, got)
	token, err := l.Token(t.Context(), "aws", request(), "b", "a")
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "token", &auth.Token{Value: "secret-3", Expires: l.cloud.Expires}, token)
	expect(t, "calls", []string{"process registry registry.example", "process git https://git.example/app", "process token a b"}, l.cloud.Calls())
}

// _common 50: a credential is kept for 80 percent of its life, and no longer than --token-cache-max-duration and an hour.
func TestCacheDuration(t *testing.T) {
	for name, test := range map[string]struct {
		life, most, kept time.Duration
	}{
		"80 percent":                {life: 10 * time.Minute, most: time.Hour, kept: 8 * time.Minute},
		"as long as it may":         {life: 10 * time.Hour, most: 30 * time.Minute, kept: 30 * time.Minute},
		"never more than an hour":   {life: 10 * time.Hour, most: 5 * time.Hour, kept: time.Hour},
		"an hour without a flag":    {life: 10 * time.Hour, kept: time.Hour},
		"not after its end":         {life: -time.Second, most: time.Hour, kept: 0},
		"without an end, the most":  {life: 0, most: 20 * time.Minute, kept: 20 * time.Minute},
		"80 percent of a short one": {life: 10 * time.Second, most: time.Hour, kept: 8 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, func(o *auth.Options) { o.CacheDuration = test.most })
			l.cloud.Expires = l.clock.Now().Add(test.life)
			if test.life == 0 {
				l.cloud.Expires = time.Time{}
			}
			l.login(request())
			if test.kept > 0 {
				l.clock.SetTime(l.clock.Now().Add(test.kept - time.Millisecond))
				expect(t, "just before", "secret-1", l.login(request()))
				l.clock.SetTime(l.clock.Now().Add(time.Millisecond))
			}
			expect(t, "then", "secret-2", l.login(request()))
		})
	}
}

// _common 50: the size bounds the cache; the least recently used makes room, and 0 turns it off.
func TestCacheSize(t *testing.T) {
	region := func(name string) auth.Request { return request(func(r *auth.Request) { r.Region = name }) }
	l := newLab(t, func(o *auth.Options) { o.CacheSize = 2 })
	for _, step := range []struct{ region, want string }{
		{"a", "secret-1"}, {"b", "secret-2"}, {"a", "secret-1"}, {"c", "secret-3"}, {"a", "secret-1"}, {"b", "secret-4"},
	} {
		expect(t, "password of "+step.region, step.want, l.login(region(step.region)))
	}
	expect(t, "metrics", map[string]float64{
		"gotk_token_cached_items": 2, "gotk_token_cache_evictions_total": 2, "gotk_token_cache_requests_total success": 6,
		"gotk_token_cache_events_total cache_hit Bucket one apps reconcile": 2, "gotk_token_cache_events_total cache_miss Bucket one apps reconcile": 4,
	}, l.metrics())

	off := newLab(t, func(o *auth.Options) { o.CacheSize = 0 })
	expect(t, "first", "secret-1", off.login(request()))
	expect(t, "second", "secret-2", off.login(request()))
	expect(t, "items", 0, off.metrics()["gotk_token_cached_items"])
}

// What has expired makes room before anything else does.
func TestExpiredMakesRoom(t *testing.T) {
	l := newLab(t, func(o *auth.Options) { o.CacheSize = 2 })
	l.login(request(func(r *auth.Request) { r.Region = "a" }))
	l.login(request(func(r *auth.Request) { r.Region = "b" }))
	l.clock.SetTime(l.clock.Now().Add(2 * time.Hour))
	l.cloud.Expires = l.clock.Now().Add(time.Hour)
	l.login(request(func(r *auth.Request) { r.Region = "c" }))
	expect(t, "items", 1, l.metrics()["gotk_token_cached_items"])
	expect(t, "evictions", 0, l.metrics()["gotk_token_cache_evictions_total"])
}

// metrics returns the values of all series by their name and the values of their labels.
func (l *lab) metrics() map[string]float64 {
	l.t.Helper()
	families, err := l.registry.Gather()
	if err != nil {
		l.t.Fatal(err)
	}
	out := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			name := family.GetName()
			for _, label := range m.GetLabel() {
				name += " " + label.GetValue()
			}
			out[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return out
}

// _common 50; wire 10: the series of an object go with it, those of others stay.
func TestForget(t *testing.T) {
	l := newLab(t)
	l.login(request())
	l.login(request(func(r *auth.Request) { r.Name = "two" }))
	l.login(request(func(r *auth.Request) { r.Namespace = "other" }))
	l.Forget("Bucket", "apps", "one")
	want := map[string]float64{
		"gotk_token_cached_items": 1, "gotk_token_cache_evictions_total": 0, "gotk_token_cache_requests_total success": 3,
		"gotk_token_cache_events_total cache_hit Bucket two apps reconcile": 1, "gotk_token_cache_events_total cache_hit Bucket one other reconcile": 1,
	}
	expect(t, "metrics", want, l.metrics())
}

// Objects that act as one identity share its credentials. Whatever shapes a credential tells them apart.
func TestWhoShares(t *testing.T) {
	l := newLab(t, objectLevel)
	for _, account := range []string{"one", "two"} {
		l.accounts.Put("apps", account, "uid-"+account, map[string]string{"role": account})
	}
	l.accounts.Put("other", "one", "uid-one", map[string]string{"role": "one"})
	proxy := func(raw string) func(*auth.Request) {
		return func(r *auth.Request) { r.Proxy = must(url.Parse(raw)) }
	}
	steps := []struct {
		what string
		r    auth.Request
		want string
	}{
		{"the process", request(), "secret-1"},
		{"another object", request(func(r *auth.Request) { r.Kind, r.Namespace, r.Name = "GitRepository", "other", "x" }), "secret-1"},
		{"an account", request(as("one")), "secret-2"},
		{"the account, of another object", request(as("one"), func(r *auth.Request) { r.Name = "x" }), "secret-2"},
		{"another account", request(as("two")), "secret-3"},
		{"an account of the same name elsewhere", request(as("one"), func(r *auth.Request) { r.Namespace = "other" }), "secret-4"},
		{"a proxy", request(proxy("http://proxy:1")), "secret-5"},
		{"another password of the proxy", request(proxy("http://u:p@proxy:1")), "secret-6"},
		{"a region", request(func(r *auth.Request) { r.Region = "a" }), "secret-7"},
		{"an STS endpoint", request(func(r *auth.Request) { r.STSEndpoint = "a" }), "secret-8"},
	}
	for round := range 2 {
		for _, step := range steps {
			expect(t, step.what, step.want, l.login(step.r))
		}
		expect(t, "calls after a round", 8, len(l.cloud.Calls()))
		_ = round
	}
	l.accounts.Put("apps", "one", "uid-one", map[string]string{"role": "changed"})
	expect(t, "the account, annotated anew", "secret-9", l.login(request(as("one"))))
	l.accounts.Put("apps", "one", "uid-new", map[string]string{"role": "changed"})
	expect(t, "the account, made anew", "secret-10", l.login(request(as("one"))))
	l.accounts.Remove("apps", "one")
	if _, err := l.Registry(t.Context(), "aws", request(as("one")), "registry.example/app"); !errors.Is(err, auth.ErrServiceAccount) {
		t.Errorf("the account is gone: error = %v, want %v, not what is cached", err, auth.ErrServiceAccount)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A failure is told to all who wait and to nobody after them.
func TestFailureIsNotKept(t *testing.T) {
	l := newLab(t)
	broken := errors.New("broken")
	l.cloud.Err = func(context.Context, *auth.Call) error { return broken }
	if _, err := l.Keys(t.Context(), request()); !errors.Is(err, broken) {
		t.Errorf("error = %v, want %v", err, broken)
	}
	expect(t, "failures", 1, l.metrics()["gotk_token_cache_requests_total failure"])
	l.cloud.Err = nil
	if _, err := l.Keys(t.Context(), request()); err != nil {
		t.Error(err)
	}
	l.cloud.Err = func(context.Context, *auth.Call) error { panic("boom") }
	if _, err := l.Token(t.Context(), "aws", request()); err == nil || !strings.Contains(err.Error(), "boom") {
		t.Errorf("error = %v, want that of the panic", err)
	}
}

// Those who want the same at the same time ask once, and one who gives up fails nobody else.
func TestConcurrent(t *testing.T) {
	l := newLab(t)
	asked, answer := make(chan struct{}), make(chan struct{})
	l.cloud.Err = func(context.Context, *auth.Call) error {
		close(asked)
		<-answer
		return nil
	}
	impatient, give := context.WithCancel(t.Context())
	first := make(chan error)
	go func() {
		_, err := l.Keys(impatient, request())
		first <- err
	}()
	<-asked
	var others sync.WaitGroup
	for range 10 {
		others.Go(func() {
			if got, err := l.Keys(t.Context(), request()); err != nil || got.SecretKey != "secret-1" {
				t.Errorf("keys = %v, %v", got, err)
			}
		})
	}
	give()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("error of the one who gave up = %v", err)
	}
	close(answer)
	others.Wait()
	expect(t, "calls", 1, len(l.cloud.Calls()))
}

// What a call has learned on its way appears in no error, however the cloud quotes it.
func TestSecretsStayOutOfErrors(t *testing.T) {
	l := newLab(t, objectLevel)
	l.accounts.Put("apps", "team", "1", nil)
	l.cloud.Err = func(ctx context.Context, c *auth.Call) error {
		token, err := c.Account.Token(ctx, "audience")
		if err != nil {
			return err
		}
		c.Hide("canary-middle")
		return errors.New("refused " + token + " and canary-middle\n through http://u:canary-proxy@proxy")
	}
	r := request(as("team"), func(r *auth.Request) { r.Proxy = must(url.Parse("http://u:canary-proxy@proxy")) })
	_, err := l.Keys(t.Context(), r)
	want := "obtain a credential from provider 'aws' as service account 'apps/team': refused *** and *** through http://proxy"
	if err == nil || err.Error() != want {
		t.Errorf("error = %v\nwant    %v", err, want)
	}
}

// A change of what was handed out changes nothing for the others.
func TestCopies(t *testing.T) {
	l := newLab(t)
	got, err := l.Keys(t.Context(), request())
	if err != nil {
		t.Fatal(err)
	}
	got.SecretKey = "changed"
	again, err := l.Keys(t.Context(), request())
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "secret key", "secret-1", again.SecretKey)
}

func BenchmarkCached(b *testing.B) {
	a, err := auth.New(auth.Options{Clouds: []auth.Cloud{&authtest.Cloud{Provider: "aws"}}, CacheSize: 100})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := a.Registry(b.Context(), "aws", request(), "registry.example/app"); err != nil {
			b.Fatal(err)
		}
	}
}

// A request may leave the default account out, which is there for another purpose.
func TestNoDefault(t *testing.T) {
	l := newLab(t, objectLevel, defaultAccount)
	if _, err := l.Keys(t.Context(), request(func(r *auth.Request) { r.NoDefault = true })); err != nil {
		t.Fatal(err)
	}
	expect(t, "calls", []string{"process keys "}, l.cloud.Calls())
}
