package update

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	imagev1 "github.com/seed-79636ae9/flux/api/image/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
)

func onto(branch string) func(*imagev1.ImageUpdateAutomation) {
	return func(o *imagev1.ImageUpdateAutomation) { o.Spec.Git.Push = &imagev1.PushSpec{Branch: branch} }
}

// imageupdateautomation 2, 3, 17-19, 24, 30-32, 34, 38, 48, 49, 64: a choice becomes a commit that changes the marked values and
// nothing else, and a second run finds nothing to do (imageupdateautomation 14-16, 40).
func TestUpdate(t *testing.T) {
	l := newLab(t)
	before := l.tip("main")
	l.create("auto", nil)
	expect(t, "Ready", upToDate, l.run("auto"))
	head := l.tip("main")
	expect(t, "the parent", before, l.tip("main~1"))
	expect(t, "the author", "bot <bot@example.com>|bot <bot@example.com>|Update from image update automation",
		l.git("log", "-1", "--format=%an <%ae>|%cn <%ce>|%B", "main"))
	expect(t, "the files", "deploy/d.yaml\ndeploy/values.yaml", l.git("diff", "--name-only", "main~1", "main"))
	expect(t, "a manifest", strings.ReplaceAll(deployment, "1.0.0", "1.1.0"), l.show("main", "deploy/d.yaml"))
	expect(t, "values", strings.ReplaceAll(values, "1.0.0", "1.1.0"), l.show("main", "deploy/values.yaml"))
	obj := l.get("auto")
	want := imagev1.ImageUpdateAutomationStatus{
		ObservedGeneration: 1, LastPushCommit: head, ObservedSourceRevision: "main@sha1:" + head,
		ObservedPolicies: map[string]imagev1.ImageRef{"web": {Name: "registry.test/web", Tag: "1.1.0"}},
	}
	got := *obj.Status.DeepCopy()
	if got.LastAutomationRunTime == nil || got.LastPushTime == nil {
		t.Error("the times are missing")
	}
	got.Conditions, got.LastAutomationRunTime, got.LastPushTime = nil, nil, nil
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
	expect(t, "Reconciling", "-", l.condition("auto", meta.ReconcilingCondition))
	if diff := cmp.Diff([]string{"finalizers.fluxcd.io"}, obj.Finalizers); diff != "" {
		t.Errorf("finalizers: %s", diff)
	}
	events := []string{"info Succeeded: pushed commit '" + head[:7] + "' to branch 'main'\nUpdate from image update automation"}
	if diff := cmp.Diff(events, l.Lines()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}

	// A routine run looks at the remote head and says nothing; one that was asked for says so.
	l.asked()
	expect(t, "Ready", upToDate, l.run("auto"))
	if diff := cmp.Diff([]string{"GET git-upload-pack"}, l.asked()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	obj = l.get("auto")
	obj.Annotations = map[string]string{meta.ReconcileRequestAnnotation: "token"}
	l.check(l.client.Update(t.Context(), obj))
	expect(t, "Ready", upToDate, l.run("auto"))
	if diff := cmp.Diff([]string{"trace Succeeded: no change since last reconciliation (local)"}, l.Lines()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	expect(t, "the head", head, l.tip("main"))

	// imageupdateautomation 1: the interval is what the spec says.
	if result, err := l.result("auto"); err != nil || result.RequeueAfter != 10*time.Minute {
		t.Errorf("next: %v, %v", result, err)
	}
	// The object may go at once: nothing is left behind.
	l.check(l.client.Delete(t.Context(), l.get("auto")))
	if _, err := l.result("auto"); err != nil {
		t.Error(err)
	}
	if err := l.client.Get(t.Context(), keyOf("auto"), &imagev1.ImageUpdateAutomation{}); err == nil {
		t.Error("imageupdateautomation 2: the object is still there")
	}
}

// imageupdateautomation 16, 28, 39, 40: nothing to update is told once, and the remote is looked at every time.
func TestNothingToUpdate(t *testing.T) {
	l := newLab(t)
	l.setPolicy("web", "registry.test/web", "1.0.0", "")
	l.create("auto", nil)
	head := l.tip("main")
	expect(t, "Ready", upToDate, l.run("auto"))
	if diff := cmp.Diff([]string{"info Succeeded: repository up-to-date"}, l.Lines()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	expect(t, "observed", "main@sha1:"+head, l.get("auto").Status.ObservedSourceRevision)
	// A commit of somebody else is looked at, and observed.
	head = l.commit("main", "more", map[string]string{"x": "y"})
	expect(t, "Ready", upToDate, l.run("auto"))
	expect(t, "observed", "main@sha1:"+head, l.get("auto").Status.ObservedSourceRevision)
	// A policy that is gone is a change, and its markers stay as they are.
	l.check(l.client.Delete(t.Context(), policy("web", "", "", "")))
	l.asked()
	expect(t, "Ready", upToDate, l.run("auto"))
	if len(l.asked()) < 2 {
		t.Error("imageupdateautomation 39: nothing was fetched")
	}
	expect(t, "the head", head, l.tip("main"))
	if l.get("auto").Status.ObservedPolicies != nil {
		t.Error("the policy is still observed")
	}
	if got := l.Lines(); len(got) > 0 {
		t.Errorf("events: %q", got)
	}
}

// imageupdateautomation 1, 38, 39: whom a change wakes.
func TestWakes(t *testing.T) {
	l := newLab(t)
	for _, name := range []string{"a", "b"} {
		l.create(name, nil)
	}
	l.create("elsewhere", func(o *imagev1.ImageUpdateAutomation) { o.Namespace = "other" })
	l.create("reaching", func(o *imagev1.ImageUpdateAutomation) {
		o.Namespace, o.Spec.SourceRef.Namespace = "other", "apps"
	})
	o := l.options
	o.Objects = l.client
	a := New(o)
	chosen, digested := policy("web", "r/web", "1", ""), policy("web", "r/web", "1", "sha256:1")
	repo := func(generation int64, revision string) *sourcev1.GitRepository {
		r := &sourcev1.GitRepository{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "app", Generation: generation}}
		r.Status.Artifact = &meta.Artifact{Revision: revision}
		return r
	}
	for name, test := range map[string]struct {
		keys any
		want []string
	}{
		"a choice":               {a.onPolicy(policy("web", "", "", ""), chosen), []string{"apps/a", "apps/b"}},
		"a new policy":           {a.onPolicy(nil, chosen), []string{"apps/a", "apps/b"}},
		"a policy without one":   {a.onPolicy(nil, policy("web", "", "", "")), nil},
		"a digest":               {a.onPolicy(chosen, digested), []string{"apps/a", "apps/b"}},
		"the same":               {a.onPolicy(chosen, policy("web", "r/web", "1", "")), nil},
		"a policy is gone":       {a.onPolicy(chosen, nil), []string{"apps/a", "apps/b"}},
		"a generation":           {a.onSource(repo(1, "x"), repo(2, "x")), []string{"apps/a", "apps/b", "other/reaching"}},
		"an artifact":            {a.onSource(repo(1, "x"), repo(1, "y")), nil},
		"a new repository":       {a.onSource(nil, repo(1, "x")), []string{"apps/a", "apps/b", "other/reaching"}},
		"a repository is gone":   {a.onSource(repo(1, "x"), nil), []string{"apps/a", "apps/b", "other/reaching"}},
		"a repository elsewhere": {a.onSource(nil, &sourcev1.GitRepository{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "x"}}), nil},
	} {
		var got []string
		for _, key := range strings.Fields(strings.Trim(fmt.Sprint(test.keys), "[]")) {
			got = append(got, key)
		}
		slices.Sort(got)
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// What a spec, its GitRepository and their Secrets do to the conditions (imageupdateautomation 4-8, 10, 23, 26, 27, 29, 50, 55, 59).
func TestRefusals(t *testing.T) {
	secretOf := func(name string, data map[string]string) *corev1.Secret {
		s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: name}, Data: map[string][]byte{}}
		for k, v := range data {
			s.Data[k] = []byte(v)
		}
		return s
	}
	source := func(edit func(*sourcev1.GitRepositorySpec)) func(*lab) {
		return func(l *lab) {
			var r sourcev1.GitRepository
			l.check(l.client.Get(l.t.Context(), keyOf("app"), &r))
			edit(&r.Spec)
			l.check(l.client.Update(l.t.Context(), &r))
		}
	}
	type spec = imagev1.ImageUpdateAutomation
	for name, test := range map[string]struct {
		edit   func(*spec)
		lab    func(*lab)
		want   string // reason and begin of the message
		stalls bool
	}{
		"imageupdateautomation 4: selector": {
			edit: func(o *spec) {
				o.Spec.PolicySelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Nope"}}}
			}, want: "InvalidPolicySelector: failed to parse policy selector: ", stalls: true,
		},
		"imageupdateautomation 5: no spec.git": {
			edit: func(o *spec) { o.Spec.Git = nil }, stalls: true,
			want: "InvalidSourceConfiguration: source kind 'GitRepository' necessitates field .spec.git: invalid source configuration",
		},
		"imageupdateautomation 5: another kind": {
			edit: func(o *spec) { o.Spec.SourceRef.Kind = "Bucket" }, stalls: true, want: "InvalidSourceConfiguration: source kind 'Bucket' not supported",
		},
		"imageupdateautomation 5: another namespace": {
			edit: func(o *spec) { o.Spec.SourceRef.Namespace = "other" }, lab: func(l *lab) { l.options.NoCrossNamespaceRefs = true; l.open() }, stalls: true,
			want: "AccessDenied: can't access 'GitRepository/other/app', cross-namespace references have been blocked",
		},
		"imageupdateautomation 6: no GitRepository": {
			edit: func(o *spec) { o.Spec.SourceRef.Name = "none" },
			want: `SourceManagerFailed: failed configuring source manager: referenced git repository does not exist: GitRepository.source.toolkit.fluxcd.io "none" not found`,
		},
		"imageupdateautomation 6: no Secret": {
			lab:  source(func(s *sourcev1.GitRepositorySpec) { s.SecretRef = &meta.LocalObjectReference{Name: "none"} }),
			want: "SourceManagerFailed: failed configuring source manager: failed to get secret 'apps/none'",
		},
		"imageupdateautomation 6: half a password": {
			lab:  source(func(s *sourcev1.GitRepositorySpec) { s.SecretRef = &meta.LocalObjectReference{Name: "half"} }),
			want: "SourceManagerFailed: failed configuring source manager: failed to configure authentication options: ",
		},
		"imageupdateautomation 36: no proxy": {
			lab:  source(func(s *sourcev1.GitRepositorySpec) { s.ProxySecretRef = &meta.LocalObjectReference{Name: "none"} }),
			want: "SourceManagerFailed: failed configuring source manager: failed to configure proxy options: failed to get secret 'apps/none'",
		},
		"imageupdateautomation 7: github without a Secret": {
			lab: source(func(s *sourcev1.GitRepositorySpec) { s.Provider = "github" }), stalls: true,
			want: "InvalidSourceConfiguration: secretRef with github app data must be specified when provider is set to github: invalid source configuration",
		},
		"imageupdateautomation 7: github with another Secret": {
			lab: source(func(s *sourcev1.GitRepositorySpec) {
				s.Provider, s.SecretRef = "github", &meta.LocalObjectReference{Name: "half"}
			}), stalls: true,
			want: "InvalidSourceConfiguration: secretRef 'apps/half' has no github app data",
		},
		"imageupdateautomation 59: app data without the provider": {
			lab: source(func(s *sourcev1.GitRepositorySpec) { s.SecretRef = &meta.LocalObjectReference{Name: "app"} }), stalls: true,
			want: "InvalidSourceConfiguration: secretRef 'apps/app' has github app data but provider is not set to github",
		},
		"imageupdateautomation 60: a cloud this process has not": {
			lab: source(func(s *sourcev1.GitRepositorySpec) { s.Provider = "aws" }), stalls: true, want: "InvalidSourceConfiguration: provider 'aws' is not available",
		},
		"a URL that is none (reliability 008)": {
			lab:  source(func(s *sourcev1.GitRepositorySpec) { s.URL = "https://exa mple/%zz" }),
			want: "SourceManagerFailed: failed configuring source manager: invalid URL ",
		},
		"imageupdateautomation 8: strategy": {
			edit: func(o *spec) { o.Spec.Update.Strategy = "Magic" }, want: "InvalidUpdateStrategy: unknown update strategy 'Magic'", stalls: true,
		},
		"imageupdateautomation 8: no strategy": {
			edit: func(o *spec) { o.Spec.Update = nil }, want: "InvalidUpdateStrategy: unknown update strategy ''", stalls: true,
		},
		"imageupdateautomation 10, 42: a tag and no branch": {
			edit: func(o *spec) {
				o.Spec.Git.Checkout = &imagev1.GitCheckoutSpec{Reference: sourcev1.GitRepositoryRef{Tag: "v1"}}
			},
			want: "SourceManagerFailed: failed configuring source manager: push branch not configured",
		},
		"imageupdateautomation 13: no refspec": {
			edit: func(o *spec) { o.Spec.Git.Push = &imagev1.PushSpec{Refspec: "main"} },
			want: "SourceManagerFailed: failed configuring source manager: spec.git.push.refspec 'main': want <source>:<destination>",
		},
		"imageupdateautomation 23: a reference that is none": {
			lab:  func(l *lab) { l.setPolicy("web", "registry.test/Web", "1 0", "") },
			want: "UpdateFailed: failed to apply policies: invalid image reference 'registry.test/Web:1 0' in policy 'apps/web'",
		},
		"imageupdateautomation 26: an unclosed template": {
			edit: func(o *spec) { o.Spec.Git.Commit.MessageTemplate = "{{ .AutomationObject " },
			want: "GitOperationFailed: failed to update source: unable to create commit message template from spec: template: commit message:1: unclosed action",
		},
		"imageupdateautomation 50: a removed field": {
			edit: func(o *spec) { o.Spec.Git.Commit.MessageTemplate = "{{ .Updated }}" }, stalls: true,
			want: "RemovedTemplateField: template uses removed '.Updated' field.",
		},
		"imageupdateautomation 27: no signing key": {
			edit: func(o *spec) {
				o.Spec.Git.Commit.SigningKey = &imagev1.SigningKey{SecretRef: meta.LocalObjectReference{Name: "none"}}
			},
			want: "SourceManagerFailed: failed configuring source manager: signing key: failed to get secret 'apps/none'",
		},
		"imageupdateautomation 27: no key in the Secret": {
			edit: func(o *spec) {
				o.Spec.Git.Commit.SigningKey = &imagev1.SigningKey{Type: "ssh", SecretRef: meta.LocalObjectReference{Name: "half"}}
			},
			want: "SourceManagerFailed: failed configuring source manager: signing key: invalid secret 'apps/half': key 'identity' is required",
		},
		"imageupdateautomation 27: no PGP key": {
			edit: func(o *spec) {
				o.Spec.Git.Commit.SigningKey = &imagev1.SigningKey{SecretRef: meta.LocalObjectReference{Name: "half"}}
			},
			want: "SourceManagerFailed: failed configuring source manager: signing key: invalid secret 'apps/half': key 'git.asc' is required",
		},
		"imageupdateautomation 29: no such branch": {
			edit: func(o *spec) {
				o.Spec.Git.Checkout = &imagev1.GitCheckoutSpec{Reference: sourcev1.GitRepositoryRef{Branch: "absent"}}
				onto("main")(o)
			},
			want: "GitOperationFailed: failed to checkout source: unable to clone '${URL}/app.git': reference not found",
		},
		"imageupdateautomation 9: master without any reference": {
			lab:  source(func(s *sourcev1.GitRepositorySpec) { s.Ref = nil }),
			want: "GitOperationFailed: failed to checkout source: unable to clone '${URL}/app.git': reference not found",
		},
		"imageupdateautomation 55: no such path": {
			edit: func(o *spec) { o.Spec.Update.Path = "./absent" },
			want: "UpdateFailed: failed to apply policies: walking path for files: lstat /tree/absent: no such file or directory",
		},
		"imageupdateautomation 57: no such path, sparse": {
			edit: func(o *spec) { o.Spec.Update.Path = "./absent" }, lab: func(l *lab) { l.options.SparseCheckout = true; l.open() },
			want: "UpdateFailed: failed to apply policies: walking path for files: lstat /tree/absent: no such file or directory",
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, secretOf("half", map[string]string{"password": "p"}), secretOf("app", map[string]string{"githubAppID": "1"}))
			if test.lab != nil {
				test.lab(l)
			}
			l.create("auto", test.edit)
			_, err := l.result("auto")
			if (err == nil) != test.stalls {
				t.Errorf("error for the queue: %v, want one: %t", err, !test.stalls)
			}
			want := strings.ReplaceAll(test.want, "${URL}", l.url)
			got := l.condition("auto", meta.ReadyCondition)
			if !strings.HasPrefix(got, "False "+want) {
				t.Errorf("Ready = %s\nwant    %s", got, want)
			}
			text := strings.TrimPrefix(got, "False ")
			expect(t, "Stalled", fmt.Sprint(test.stalls), fmt.Sprint(l.condition("auto", meta.StalledCondition) == "True "+text))
			reconciling := "-"
			if !test.stalls {
				reconciling = "True ProgressingWithRetry: processing object: new generation 0 -> 1"
			}
			expect(t, "Reconciling", reconciling, l.condition("auto", meta.ReconcilingCondition))
			if diff := cmp.Diff([]string{"error " + text}, l.Lines()); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			if got := l.subjects("main"); len(got) > 0 {
				t.Errorf("commits: %q", got)
			}
			if l.get("auto").Status.LastAutomationRunTime == nil {
				t.Error("imageupdateautomation 3: no time")
			}
		})
	}
}

// imageupdateautomation 37: policies that cannot be listed are a failure.
func TestPoliciesUnlisted(t *testing.T) {
	l := newLab(t)
	l.create("auto", nil)
	if _, err := policies(t.Context(), &brokenReader{l.client}, l.get("auto")); err == nil || !strings.Contains(err.Error(), "failed to list policies") {
		t.Errorf("error: %v", err)
	}
}

type brokenReader struct{ client.Reader }

func (*brokenReader) List(context.Context, client.ObjectList, ...client.ListOption) error {
	return errors.New("no")
}

// imageupdateautomation 4, 22: the selector decides which policies count, and those without a choice do not.
func TestSelector(t *testing.T) {
	l := newLab(t, policy("side", "registry.test/side", "3", ""), policy("unready", "", "", ""))
	l.commit("main", "more", map[string]string{"deploy/more.yaml": "a: x # {\"$imagepolicy\": \"apps:side:tag\"}\nb: y # {\"$imagepolicy\": \"apps:unready:tag\"}\n" +
		"c: z # {\"$imagepolicy\": \"other:web:tag\"}\n"})
	l.create("auto", func(o *imagev1.ImageUpdateAutomation) {
		o.Spec.PolicySelector = &metav1.LabelSelector{MatchLabels: map[string]string{"name": "side"}}
	})
	expect(t, "Ready", upToDate, l.run("auto"))
	expect(t, "more", "a: \"3\" # {\"$imagepolicy\": \"apps:side:tag\"}\nb: y # {\"$imagepolicy\": \"apps:unready:tag\"}\nc: z # {\"$imagepolicy\": \"other:web:tag\"}\n",
		l.show("main", "deploy/more.yaml"))
	expect(t, "a manifest", deployment, l.show("main", "deploy/d.yaml"))
	if diff := cmp.Diff(map[string]imagev1.ImageRef{"side": {Name: "registry.test/side", Tag: "3"}}, l.get("auto").Status.ObservedPolicies); diff != "" {
		t.Errorf("observed (-want +got):\n%s", diff)
	}
}

// reliability 083: whoever is faster keeps what he pushed, and the automation lands on top of it in the same run.
func TestLostRace(t *testing.T) {
	l := newLab(t)
	l.create("auto", nil)
	races := 0
	l.intercept(func(what string) bool {
		if what == "GET git-receive-pack" && races < 3 {
			races++
			l.commit("main", fmt.Sprintf("human %d", races), map[string]string{fmt.Sprintf("human-%d", races): "x", "deploy/notes.txt": strings.Repeat("x", races+1)})
		}
		return true
	})
	expect(t, "Ready", upToDate, l.run("auto"))
	expect(t, "the log", "Update from image update automation\nhuman 3\nhuman 2\nhuman 1\ninit", l.git("log", "--format=%s", "main"))
	expect(t, "the files", "deploy/d.yaml\ndeploy/values.yaml", l.git("diff", "--name-only", "main~1", "main"))
	if got := l.Lines(); len(got) != 1 {
		t.Errorf("events: %q", got)
	}
}

// A race that the server notices, and one that never ends.
func TestEndlessRace(t *testing.T) {
	l := newLab(t)
	l.create("auto", nil)
	n := 0
	l.intercept(func(what string) bool {
		if what == "GET git-receive-pack" {
			n++
			l.commit("main", "human", map[string]string{"human": fmt.Sprint(n)})
		}
		return true
	})
	got := l.run("auto")
	if !strings.HasPrefix(got, "False GitOperationFailed: failed to update source: unable to push to '") || n != maxAttempts {
		t.Errorf("after %d attempts Ready = %s", n, got)
	}
	expect(t, "Reconciling", "True ProgressingWithRetry: processing object: new generation 0 -> 1", l.condition("auto", meta.ReconcilingCondition))
	l.intercept(nil)
	expect(t, "Ready", upToDate, l.run("auto"))
	if got := l.subjects("main"); len(got) != 1 {
		t.Errorf("commits: %q", got)
	}
}

// Fifty automations on one branch, each with a policy and a file of its own, while somebody else pushes: all land, once each, with
// nothing lost (reliability 083).
func TestFifty(t *testing.T) {
	n := 50
	if testing.Short() {
		n = 8
	}
	var objects []client.Object
	files := map[string]string{}
	for i := range n {
		objects = append(objects, policy(fmt.Sprintf("p%02d", i), fmt.Sprintf("registry.test/p%02d", i), "2.0.0", ""))
		files[fmt.Sprintf("apps/%02d/d.yaml", i)] = fmt.Sprintf("image: registry.test/p%02d:1.0.0 # {\"$imagepolicy\": \"apps:p%02d\"}\n", i, i)
	}
	l := newLab(t, objects...)
	l.commit("main", "apps", files)
	for i := range n {
		l.create(fmt.Sprintf("a%02d", i), func(o *imagev1.ImageUpdateAutomation) {
			o.Spec.Update.Path = fmt.Sprintf("apps/%02d", i)
			o.Spec.Git.Commit.MessageTemplate = "{{ .AutomationObject.Name }}"
		})
	}
	humans := 0
	l.intercept(func(what string) bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		if what == "GET git-receive-pack" && len(l.requests)%11 == 0 {
			humans++
			l.commit("main", "human", map[string]string{"human": fmt.Sprint(humans)})
		}
		return true
	})
	var all sync.WaitGroup
	start := time.Now()
	for i := range n {
		all.Go(func() { _, _ = l.Run(t.Context(), keyOf(fmt.Sprintf("a%02d", i))) })
	}
	all.Wait()
	t.Logf("%d commits and %d of somebody else in %s", n, humans, time.Since(start).Round(time.Millisecond))
	count := map[string]int{}
	for _, s := range l.subjects("main") {
		count[s]++
	}
	for i := range n {
		name := fmt.Sprintf("a%02d", i)
		if count[name] != 1 {
			t.Errorf("%s has %d commits; Ready = %s", name, count[name], l.condition(name, meta.ReadyCondition))
		}
		want := fmt.Sprintf("image: registry.test/p%02d:2.0.0 # {\"$imagepolicy\": \"apps:p%02d\"}\n", i, i)
		expect(t, name, want, l.show("main", fmt.Sprintf("apps/%02d/d.yaml", i)))
	}
	if got := l.git("log", "--format=%s", "main"); strings.Count(got, "human") != humans || humans == 0 {
		t.Errorf("%d of %d commits of somebody else are left", strings.Count(got, "human"), humans)
	}
	if len(count) != n {
		t.Errorf("commits: %v", count)
	}
	// Fifty that want the same make one commit.
	l.intercept(nil)
	before := len(l.subjects("main"))
	for i := range n {
		l.change(fmt.Sprintf("a%02d", i), func(o *imagev1.ImageUpdateAutomation) { o.Spec.Update.Path = "deploy" })
	}
	for i := range n {
		all.Go(func() { _, _ = l.Run(t.Context(), keyOf(fmt.Sprintf("a%02d", i))) })
	}
	all.Wait()
	if got := len(l.subjects("main")) - before; got != 1 {
		t.Errorf("%d commits for one change", got)
	}
	l.git("fsck", "--strict")
}

// reliability 095: a process that is killed between the note and the push, or between the push and the status, leaves one commit, and
// the next tells it.
func TestKilled(t *testing.T) {
	for name, test := range map[string]struct {
		// fails tells which writes of the status get lost, from 1; pushes, whether the push does.
		fails  func(write int) bool
		push   bool
		landed bool
		later  bool // somebody else pushes before the restart
		edit   func(*imagev1.ImageUpdateAutomation)
		anew   bool
	}{
		"before the push":                                     {fails: func(int) bool { return false }},
		"after the push":                                      {fails: func(n int) bool { return n > 1 }, push: true, landed: true},
		"after the push, and somebody else":                   {fails: func(n int) bool { return n > 1 }, push: true, landed: true, later: true},
		"before the note":                                     {fails: func(n int) bool { return true }, push: true},
		"after the push of another branch":                    {fails: func(n int) bool { return n > 1 }, push: true, landed: true, edit: onto("bot")},
		"after the push of another branch, and somebody else": {fails: func(n int) bool { return n > 1 }, push: true, landed: true, later: true, edit: onto("bot")},
		"after the push of a branch that is made anew":        {fails: func(n int) bool { return n > 1 }, push: true, landed: true, edit: onto("bot"), anew: true},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.options.AllBranchReferences = !test.anew
			l.open()
			l.create("auto", test.edit)
			branch := "main"
			if test.edit != nil {
				branch = "bot"
				l.git("branch", "bot", "main")
			}
			writes := 0
			l.onStatus = func(client.Object) error {
				if writes++; test.fails(writes) {
					return errors.New("killed")
				}
				return nil
			}
			l.intercept(func(what string) bool { return test.push || what != "POST git-receive-pack" })
			_, _ = l.result("auto")
			events := l.Lines()
			commits := l.subjects(branch)
			if (len(commits) == 1) != test.landed {
				t.Fatalf("commits: %q", commits)
			}
			pushed := l.tip(branch)
			if test.later {
				l.commit(branch, "human", map[string]string{"human": "x"})
			}
			l.onStatus = nil
			l.intercept(nil)
			l.open()
			expect(t, "Ready", upToDate, l.run("auto"))
			if got := l.subjects(branch); len(got) != 1 {
				t.Fatalf("commits after the restart: %q", got)
			}
			if !test.landed {
				pushed = l.tip(branch)
			}
			expect(t, "lastPushCommit", pushed, l.get("auto").Status.LastPushCommit)
			expect(t, "observed", "main@sha1:"+l.tip("main"), l.get("auto").Status.ObservedSourceRevision)
			want := "info Succeeded: pushed commit '" + pushed[:7] + "' to branch '" + branch + "'\nUpdate from image update automation"
			if got := l.Lines(); !slices.Contains(got, want) {
				t.Errorf("events: %q after %q, want %q", got, events, want)
			}
			expect(t, "Ready", upToDate, l.run("auto"))
			if got := l.Lines(); len(got) > 0 {
				t.Errorf("events of a quiet run: %q", got)
			}
		})
	}
}

// A cache that lags behind after a restart shows an old choice; what is committed is the one the API server has.
func TestStaleCache(t *testing.T) {
	l := newLab(t)
	l.setPolicy("web", "registry.test/web", "1.2.0", "")
	l.create("auto", nil)
	expect(t, "Ready", upToDate, l.run("auto"))
	head := l.tip("main")
	l.stale.Store(&imagev1.ImagePolicyList{Items: []imagev1.ImagePolicy{*policy("web", "registry.test/web", "1.0.0", "")}})
	l.open()
	expect(t, "Ready", upToDate, l.run("auto"))
	expect(t, "the head", head, l.tip("main"))
	expect(t, "observed", "1.2.0", l.get("auto").Status.ObservedPolicies["web"].Tag)
}

// An automation does not take back what a newer choice has written: while it fetches, or is about to push, the policy chooses anew and
// another process, which does not wait for the lock of this one, commits that.
func TestNeverBackwards(t *testing.T) {
	for _, when := range []string{"GET git-upload-pack", "POST git-upload-pack", "GET git-receive-pack", "POST git-receive-pack"} {
		t.Run(when, func(t *testing.T) {
			l := newLab(t)
			l.create("auto", nil)
			var once sync.Once
			l.intercept(func(what string) bool {
				if what == when {
					once.Do(func() {
						l.setPolicy("web", "registry.test/web", "1.2.0", "")
						l.commit("main", "newer", map[string]string{
							"deploy/d.yaml":      strings.ReplaceAll(deployment, "1.0.0", "1.2.0"),
							"deploy/values.yaml": strings.ReplaceAll(values, "1.0.0", "1.2.0"),
						})
					})
				}
				return true
			})
			expect(t, "Ready", upToDate, l.run("auto"))
			expect(t, "the log", "newer\ninit", l.git("log", "--format=%s", "main"))
			expect(t, "a manifest", strings.ReplaceAll(deployment, "1.0.0", "1.2.0"), l.show("main", "deploy/d.yaml"))
			expect(t, "observed", "1.2.0", l.get("auto").Status.ObservedPolicies["web"].Tag)
		})
	}
}

// A run whose object changes while it waits ends without a word and without a commit.
func TestChangedMeanwhile(t *testing.T) {
	for name, change := range map[string]func(l *lab){
		"suspended": func(l *lab) { l.change("auto", func(o *imagev1.ImageUpdateAutomation) { o.Spec.Suspend = true }) },
		"deleted":   func(l *lab) { l.check(l.client.Delete(l.t.Context(), l.get("auto"))) },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.create("auto", nil)
			l.run("auto")
			l.Lines()
			head := l.tip("main")
			l.setPolicy("web", "registry.test/web", "1.2.0", "")
			var once sync.Once
			l.intercept(func(what string) bool {
				if what == "GET git-receive-pack" {
					once.Do(func() {
						l.commit("main", "human", map[string]string{"human": "x"})
						change(l)
					})
				}
				return true
			})
			if result, err := l.result("auto"); err != nil || result.RequeueAfter == 0 {
				t.Errorf("next: %v, %v", result, err)
			}
			if got := l.Lines(); len(got) > 0 {
				t.Errorf("events: %q", got)
			}
			expect(t, "the parent", head, l.tip("main~1"))
		})
	}
}

// imageupdateautomation 29: a refusal of the server is told, with what its hook says.
func TestRejected(t *testing.T) {
	l := newLab(t)
	l.create("auto", nil)
	l.git("config", "receive.denyNonFastForwards", "true")
	l.hook("pre-receive", "echo 'no robots' >&2; exit 1")
	got := l.run("auto")
	if !strings.HasPrefix(got, "False GitOperationFailed: failed to update source: unable to push to '") || !strings.Contains(got, "no robots") {
		t.Errorf("Ready = %s", got)
	}
	expect(t, "lastPushCommit", "", l.get("auto").Status.LastPushCommit)
	if len(l.subjects("main")) > 0 {
		t.Error("the commit is there")
	}
	if _, err := l.result("auto"); err == nil {
		t.Error("no backoff")
	}
}

// A server that is overloaded is left alone for as long as it asks.
func TestThrottled(t *testing.T) {
	server := newLab(t)
	busy := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "77")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	var r sourcev1.GitRepository
	server.check(server.client.Get(t.Context(), keyOf("app"), &r))
	r.Spec.URL = busy + "/app.git"
	server.check(server.client.Update(t.Context(), &r))
	server.create("auto", nil)
	if result, err := server.result("auto"); err != nil || result.RequeueAfter != 77*time.Second {
		t.Errorf("next: %v, %v", result, err)
	}
}
