package update

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	testclock "k8s.io/utils/clock/testing"

	imagev1 "github.com/seed-79636ae9/flux/api/image/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/auth"
	"github.com/seed-79636ae9/flux/toolkit/git"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/loop/looptest"
)

// clouds hand out the credentials of the test server.
type clouds struct {
	bearer bool
	err    error
	asked  []auth.Request
	apps   []string
}

func (c *clouds) Git(_ context.Context, provider string, r auth.Request, repository *url.URL) (*auth.GitLogin, error) {
	c.asked = append(c.asked, r)
	c.apps = append(c.apps, provider+" "+repository.Path)
	if c.bearer {
		return &auth.GitLogin{Bearer: testkit.GitToken}, c.err
	}
	return &auth.GitLogin{Username: testkit.GitUser, Password: testkit.GitPassword}, c.err
}

func (c *clouds) GitHubApp(_ context.Context, r auth.Request, data map[string][]byte, _ *tls.Config) (*auth.Login, error) {
	c.asked = append(c.asked, r)
	c.apps = append(c.apps, string(data[auth.GitHubAppIDKey]))
	return &auth.Login{Username: testkit.GitUser, Password: testkit.GitPassword}, c.err
}

// withSource edits the GitRepository.
func (l *lab) withSource(edit func(*sourcev1.GitRepository)) {
	l.t.Helper()
	var r sourcev1.GitRepository
	l.check(l.client.Get(l.t.Context(), keyOf("app"), &r))
	edit(&r)
	l.check(l.client.Update(l.t.Context(), &r))
}

// imageupdateautomation 6, 7, 36, 59, 60: credentials of Secrets, clouds and apps serve for reading and writing. Those of clouds are
// obtained for the automation, in its own namespace, also where the GitRepository is in another.
func TestCredentials(t *testing.T) {
	app := map[string][]byte{"githubAppID": []byte("17"), "githubAppPrivateKey": []byte("k")}
	for name, test := range map[string]struct {
		provider string
		secret   map[string][]byte
		bearer   bool
		err      error
		want     string // begin of Ready; empty: success
		asked    []string
	}{
		"basic":  {secret: map[string][]byte{"username": []byte(testkit.GitUser), "password": []byte(testkit.GitPassword)}},
		"bearer": {secret: map[string][]byte{"bearerToken": []byte(testkit.GitToken)}},
		"wrong":  {secret: map[string][]byte{"bearerToken": []byte("hunter2")}, want: "False GitOperationFailed: failed to checkout source: "},
		"aws":    {provider: "aws", asked: []string{"aws /auth/app.git"}},
		"azure":  {provider: "azure", bearer: true, asked: []string{"azure /auth/app.git"}},
		"github": {provider: "github", secret: app, asked: []string{"17"}},
		"a URL that is none of the cloud's": {provider: "aws", err: auth.ErrUnsupported, asked: []string{"aws /auth/app.git"},
			want: "False SourceManagerFailed: failed configuring source manager: failed to configure authentication options: "},
		"no object level": {provider: "azure", err: auth.ErrFeatureGate, asked: []string{"azure /auth/app.git"}, want: "False FeatureGateDisabled: "},
		"bad app data": {provider: "github", secret: app, err: auth.ErrAppData, asked: []string{"17"},
			want: "False SourceManagerFailed: failed configuring source manager: failed to configure authentication options: "},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "creds"}, Data: test.secret})
			c := &clouds{bearer: test.bearer, err: test.err}
			l.options.Identities = c
			l.open()
			l.withSource(func(r *sourcev1.GitRepository) {
				r.Spec.URL, r.Spec.Provider = l.url+"/auth/app.git", test.provider
				if test.secret != nil {
					r.Spec.SecretRef = &meta.LocalObjectReference{Name: "creds"}
				}
				if test.provider == "aws" || test.provider == "azure" {
					r.Spec.ServiceAccountName = "pusher"
				}
			})
			l.create("auto", func(o *imagev1.ImageUpdateAutomation) { o.Namespace, o.Spec.SourceRef.Namespace = "other", "apps" })
			p := policy("web", "registry.test/web", "1.1.0", "")
			p.Namespace = "other"
			l.check(l.client.Create(t.Context(), p))
			l.commit("main", "for another namespace", map[string]string{"deploy/o.yaml": "a: x # {\"$imagepolicy\": \"other:web:tag\"}\n"})
			key := keyOf("auto")
			key.Namespace = "other"
			_, _ = l.Run(t.Context(), key)
			var obj imagev1.ImageUpdateAutomation
			l.check(l.client.Get(t.Context(), key, &obj))
			ready := obj.Status.Conditions[len(obj.Status.Conditions)-1]
			got := fmt.Sprintf("%s %s: %s", ready.Status, ready.Reason, ready.Message)
			if test.want == "" {
				expect(t, "Ready", upToDate, got)
				expect(t, "the file", "a: 1.1.0 # {\"$imagepolicy\": \"other:web:tag\"}\n", l.show("main", "deploy/o.yaml"))
			} else if !strings.HasPrefix(got, test.want) {
				t.Errorf("Ready = %s\nwant    %s", got, test.want)
			}
			if strings.Contains(got, "hunter2") {
				t.Errorf("Ready shows the token: %s", got)
			}
			if diff := cmp.Diff(test.asked, c.apps); diff != "" {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
			for _, r := range c.asked {
				account := "pusher"
				if test.provider == "github" {
					account = ""
				}
				if r.Kind != "ImageUpdateAutomation" || r.Namespace != "other" || r.Name != "auto" || r.ServiceAccountName != account {
					t.Errorf("asked as %+v", r)
				}
			}
		})
	}
}

// imageupdateautomation 36, 61: TLS of the Secret, and the proxy of the GitRepository.
func TestTLSAndProxy(t *testing.T) {
	authority, err := testkit.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	config, err := authority.ServerTLS()
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var seen []string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen = append(seen, r.Method+" "+r.Host)
		mu.Unlock()
		w.WriteHeader(http.StatusForbidden)
	}))
	t.Cleanup(proxy.Close)
	l := newLab(t,
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "ca"}, Data: map[string][]byte{"ca.crt": authority.PEM}},
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "proxy"}, Data: map[string][]byte{"address": []byte(proxy.URL)}})
	secure, err := testkit.NewGitServer(l.root, config)
	l.check(err)
	t.Cleanup(secure.Close)
	l.withSource(func(r *sourcev1.GitRepository) {
		r.Spec.URL, r.Spec.SecretRef = secure.URL+"/app.git", &meta.LocalObjectReference{Name: "ca"}
	})
	l.create("auto", nil)
	expect(t, "Ready", upToDate, l.run("auto"))
	if len(l.subjects("main")) != 1 {
		t.Error("nothing was pushed")
	}
	l.withSource(func(r *sourcev1.GitRepository) {
		r.Spec.URL, r.Spec.ProxySecretRef = "http://git.test/app.git", &meta.LocalObjectReference{Name: "proxy"}
	})
	if got := l.run("auto"); !strings.HasPrefix(got, "False GitOperationFailed: ") {
		t.Errorf("Ready = %s", got)
	}
	if diff := cmp.Diff([]string{"GET git.test"}, seen); diff != "" {
		t.Errorf("the proxy saw (-want +got):\n%s", diff)
	}
}

// A server that hangs costs its own automations alone: with a single work slot, one of another server is done meanwhile
// (reliability 069). imageupdateautomation 33: the timeout is that of the GitRepository.
func TestHangingServer(t *testing.T) {
	l := newLab(t)
	begun, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	hung := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		once.Do(func() { close(begun) })
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	l.check(l.client.Create(t.Context(), &sourcev1.GitRepository{
		ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "hung"},
		Spec:       sourcev1.GitRepositorySpec{URL: hung + "/app.git", Ref: &sourcev1.GitRepositoryRef{Branch: "main"}, Timeout: meta.DurationOf(30 * time.Second)},
	}))
	for i := range 4 {
		l.create(fmt.Sprintf("hung-%d", i), func(o *imagev1.ImageUpdateAutomation) { o.Spec.SourceRef.Name = "hung" })
	}
	l.create("auto", nil)
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() { _, _ = l.Run(t.Context(), keyOf(fmt.Sprintf("hung-%d", i))) })
	}
	<-begun
	expect(t, "Ready", upToDate, l.run("auto"))
	close(release)
	all.Wait()
	if got := l.condition("hung-0", meta.ReadyCondition); !strings.HasPrefix(got, "False GitOperationFailed: failed to checkout source: ") {
		t.Errorf("Ready = %s", got)
	}
	// The time a step has is the source's.
	l.withSource(func(r *sourcev1.GitRepository) { r.Spec.Timeout = meta.DurationOf(100 * time.Millisecond) })
	stop := make(chan struct{})
	l.intercept(func(string) bool { <-stop; return true })
	if got := l.run("auto"); !strings.Contains(got, "deadline exceeded") {
		t.Errorf("imageupdateautomation 33: Ready = %s", got)
	}
	close(stop)
}

// Who waits for a branch that somebody holds for ever goes on after a while: the lock saves work, and nothing depends on it.
func TestLongestWait(t *testing.T) {
	l := newLab(t)
	l.create("auto", nil)
	o := l.options
	o.Objects, o.Reader, o.TempDir = l.client, l.client, t.TempDir()
	fake := testclock.NewFakeClock(time.Now())
	o.Clock = fake
	a := New(o)
	l.Bench = looptest.New(t, a.Controller("image-automation-controller"), loop.Options{Client: l.client, Reader: l.client, Concurrent: 1, MaxParked: 1})
	unlock, err := a.branches.lock(t.Context(), nil, branchKey(l.url+"/app.git", "main"))
	l.check(err)
	done := make(chan string)
	go func() { done <- l.run("auto") }()
	for !fake.HasWaiters() {
		runtime.Gosched()
	}
	fake.Step(longestWait)
	expect(t, "Ready", upToDate, <-done)
	unlock()
	if len(a.branches.locks) > 0 {
		t.Error("locks are kept that nobody uses")
	}
}

// hosts gives the work slot back when a server lets wait, and lets further calls begin without one.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHosts(New(Options{}).options.Clock)
		if err := h.call(t.Context(), nil, "quick", func() error { return errors.New("x") }); err == nil || err.Error() != "x" {
			t.Errorf("error: %v", err)
		}
		if h.isSlow("quick") {
			t.Error("a quick server is slow")
		}
		defer func() {
			if recover() == nil {
				t.Error("a panic is lost")
			}
		}()
		_ = h.call(t.Context(), nil, "quick", func() error { panic("boom") })
	})
}

func TestBranchKey(t *testing.T) {
	same := []string{
		"https://git.test/org/app.git", "https://git.test/org/app", "https://user:pass@GIT.test/org/app.git/", "ssh://git@git.test/org/app.git",
	}
	for _, u := range same[1:] {
		if branchKey(u, "main") != branchKey(same[0], "main") {
			t.Errorf("%s is another repository than %s", u, same[0])
		}
	}
	for _, other := range []string{branchKey(same[0], "dev"), branchKey("https://git.test/org/other.git", "main"), branchKey("https://other.test/org/app.git", "main"), branchKey("https://git.test/%zz", "main"),
		branchKey("https://git.test:8443/org/app.git", "main")} {
		if other == branchKey(same[0], "main") {
			t.Errorf("%q is the same", other)
		}
	}
}

// imageupdateautomation 9-14, 33, 42, 43, 47, 55: what a spec asks for.
func TestPlan(t *testing.T) {
	repository := func(ref *sourcev1.GitRepositoryRef) *sourcev1.GitRepository {
		return &sourcev1.GitRepository{Spec: sourcev1.GitRepositorySpec{URL: "https://git.test/app.git", Ref: ref}}
	}
	for name, test := range map[string]struct {
		ref      *sourcev1.GitRepositoryRef
		edit     func(*imagev1.ImageUpdateAutomation)
		checkout git.Reference
		branch   string
		switched bool
		shortcut bool
	}{
		"nothing said":      {nil, nil, git.Reference{Branch: "master"}, "master", false, true},
		"an empty one":      {&sourcev1.GitRepositoryRef{}, nil, git.Reference{Branch: "master"}, "master", false, true},
		"of the repository": {&sourcev1.GitRepositoryRef{Branch: "main"}, nil, git.Reference{Branch: "main"}, "main", false, true},
		"of the automation": {&sourcev1.GitRepositoryRef{Branch: "main"}, func(o *imagev1.ImageUpdateAutomation) {
			o.Spec.Git.Checkout = &imagev1.GitCheckoutSpec{Reference: sourcev1.GitRepositoryRef{Branch: "dev"}}
		}, git.Reference{Branch: "dev"}, "dev", false, true},
		"pushed to itself":  {&sourcev1.GitRepositoryRef{Branch: "main"}, onto("main"), git.Reference{Branch: "main"}, "main", false, true},
		"pushed to another": {&sourcev1.GitRepositoryRef{Branch: "main"}, onto("bot"), git.Reference{Branch: "main"}, "bot", true, false},
		"a tag":             {&sourcev1.GitRepositoryRef{Tag: "v1"}, onto("bot"), git.Reference{Tag: "v1"}, "bot", true, false},
		"with a refspec": {&sourcev1.GitRepositoryRef{Branch: "main"}, func(o *imagev1.ImageUpdateAutomation) {
			o.Spec.Git.Push = &imagev1.PushSpec{Refspec: "refs/heads/main:refs/heads/x"}
		}, git.Reference{Branch: "main"}, "main", false, false},
	} {
		p, err := makePlan(automation(test.edit), repository(test.ref))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if p.checkout != test.checkout || p.branch != test.branch || p.switched != test.switched || p.shortcut() != test.shortcut || p.timeout != time.Minute {
			t.Errorf("%s: %+v", name, p)
		}
	}
	endless := repository(nil)
	endless.Spec.Timeout = meta.DurationOf(1000 * time.Hour)
	if p, err := makePlan(automation(nil), endless); err != nil || p.timeout != time.Hour {
		t.Errorf("imageupdateautomation 33: %+v, %v", p, err)
	}
	if _, err := makePlan(automation(nil), repository(&sourcev1.GitRepositoryRef{Tag: "v1"})); err == nil {
		t.Error("imageupdateautomation 10: a tag without a push branch")
	}
	for path, want := range map[string]string{"": "", "./": "", "/": "", "..": "", "../../x": "x", "./a//b/": "a/b", "a/../../b": "b"} {
		p, err := makePlan(automation(func(o *imagev1.ImageUpdateAutomation) { o.Spec.Update.Path = path }), repository(nil))
		if err != nil || p.path != want {
			t.Errorf("imageupdateautomation 55: %q becomes %q, %v", path, p.path, err)
		}
	}
}

// imageupdateautomation 41: a failure of the last run is taken back as soon as the run is past its place, and not before.
func TestHeal(t *testing.T) {
	l := newLab(t)
	l.withSource(func(r *sourcev1.GitRepository) { r.Spec.SecretRef = &meta.LocalObjectReference{Name: "creds"} })
	l.create("auto", nil)
	l.run("auto")
	l.check(l.client.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "creds"}}))
	var while string
	l.intercept(func(what string) bool {
		if what == "POST git-receive-pack" {
			while = l.condition("auto", meta.ReadyCondition)
		}
		return true
	})
	expect(t, "Ready", upToDate, l.run("auto"))
	expect(t, "Ready during the push", "Unknown Progressing: reconciliation in progress", while)
}

// imageupdateautomation 35, 62: nothing of a run stays on the disk.
func TestLeavesNothing(t *testing.T) {
	l := newLab(t)
	dir := t.TempDir()
	l.create("auto", nil)
	l.options.TempDir = dir
	l.open()
	expect(t, "Ready", upToDate, l.run("auto"))
	expect(t, "what is left", "", strings.Join(files(t, dir), " "))
}
