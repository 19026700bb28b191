package git

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/event"
)

func expect(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// A repository from its first commit to its deletion.
func TestLife(t *testing.T) {
	l := newLab(t)
	subject := strings.Repeat("ü", 50)
	first := l.commit(subject+"x\n\nA body.", map[string]string{"app.yaml": "a"})
	l.create()

	// gitrepository 1, 59, 66-69; _common 34: the first run fetches, stores, and cleans up behind itself. There is no lock
	// file beside the artifact: a name appears with its whole content.
	result := l.step()
	expect(t, "next run", 10*time.Minute, result.RequeueAfter)
	file := "gitrepository/apps/app/" + first + ".tar.gz"
	expect(t, "stored", []string{file}, l.files())
	left, err := os.ReadDir(l.temp)
	if err != nil || len(left) != 0 {
		t.Errorf("the run left %v behind (%v)", left, err)
	}
	obj := l.get()
	a := obj.Status.Artifact
	if a == nil || a.Revision != "main@sha1:"+first || a.Path != file || a.URL != "http://storage.test/"+file || !strings.HasPrefix(a.Digest, "sha256:") {
		t.Fatalf("artifact = %+v", a)
	}
	expect(t, "events", []event.Event{{
		Severity: event.Info, Reason: "NewArtifact", Message: "stored artifact for commit '" + subject + "...'",
		Metadata: map[string]string{"revision": a.Revision, "digest": a.Digest},
	}}, l.Events())
	stored := "True Succeeded: stored artifact for revision '" + a.Revision + "'"
	for conditionType, want := range map[string]string{
		"Ready": stored, "ArtifactInStorage": stored, "ArtifactOutdated": "-", "Reconciling": "-", "FetchFailed": "-",
	} {
		expect(t, conditionType, want, l.condition(conditionType))
	}
	expect(t, "observedGeneration", int64(1), obj.Status.ObservedGeneration)

	// gitrepository 37, 38: a routine run asks for the refs only, and writes and tells nothing; a requested one tells, but posts nothing.
	before := l.requests.Load()
	l.step()
	asked := l.requests.Load() - before
	expect(t, "version after a routine run", obj.ResourceVersion, l.get().ResourceVersion)
	expect(t, "events of a routine run", 0, len(l.Events()))
	l.request("1")
	l.step()
	expect(t, "events of a requested run", []string{"info GitOperationSucceeded: no changes since last reconciliation: observed revision '" + a.Revision + "' (local)"}, l.Lines())
	expect(t, "handled", "1", l.get().Status.LastHandledReconcileAt)

	// gitrepository 57: a new revision replaces the artifact.
	second := l.commit("second", map[string]string{"app.yaml": "b"})
	before = l.requests.Load()
	l.step()
	if fetched := l.requests.Load() - before; fetched <= asked {
		t.Errorf("a new revision took %d requests, nothing new %d: the latter must have fetched", fetched, asked)
	}
	expect(t, "events", []string{"info NewArtifact: stored artifact for commit 'second'"}, l.Lines())
	expect(t, "revision", "main@sha1:"+second, l.get().Status.Artifact.Revision)

	// gitrepository 65; _common 34: another commit with the same content is another revision, but no news.
	third := l.commit("third, nothing changed", nil)
	l.step()
	expect(t, "number of events", 0, len(l.Events()))
	expect(t, "revision", "main@sha1:"+third, l.get().Status.Artifact.Revision)

	// gitrepository 6, 7: three commits in a minute leave three files; the next run leaves two, and the last is alone once the
	// retention time has passed.
	expect(t, "files before the collection", 3, len(l.files()))
	l.step()
	expect(t, "files after the collection", 2, len(l.files()))
	expect(t, "events", []string{"trace GarbageCollectionSucceeded: garbage collected 1 artifacts (local)"}, l.Lines())
	l.clock.Step(61 * time.Second)
	l.step()
	expect(t, "files after the retention time", []string{"gitrepository/apps/app/" + third + ".tar.gz"}, l.files())
	l.Events()

	// gitrepository 73: the artifacts go with the object, also with a suspended one (_common 3).
	l.edit(func(o *sourcev1.GitRepository) { o.Spec.Suspend = true })
	if err := l.client.Delete(t.Context(), l.get()); err != nil {
		t.Fatal(err)
	}
	l.step()
	expect(t, "events", []string{"trace GarbageCollectionSucceeded: garbage collected artifacts for deleted resource (local)"}, l.Lines())
	if _, err := os.Stat(filepath.Join(l.storage, "gitrepository", "apps", "app")); !os.IsNotExist(err) {
		t.Errorf("the artifacts are still there: %v", err)
	}
	if err := l.client.Get(t.Context(), key(), &sourcev1.GitRepository{}); !apierrors.IsNotFound(err) {
		t.Errorf("the object is still there: %v", err)
	}
}

// What shapes the content makes a new artifact of the same revision.
func TestContentConfiguration(t *testing.T) {
	l := newLab(t)
	l.commit("init", map[string]string{"app.yaml": "a", "notes.txt": "b"})
	l.create()
	l.step()
	l.Events()
	was := l.get().Status.Artifact

	// gitrepository 39, 40: with another spec.ignore the refs are not asked for first; one fetch brings the content.
	l.edit(func(o *sourcev1.GitRepository) { o.Spec.Ignore = ptr.To("*.txt") })
	l.step()
	is := l.get().Status.Artifact
	if is.Revision != was.Revision || is.Digest == was.Digest {
		t.Errorf("artifact = %+v, was %+v", is, was)
	}
	expect(t, "events", []string{"info NewArtifact: stored artifact for commit 'init'"}, l.Lines())
	expect(t, "observedIgnore", ptr.To("*.txt"), l.get().Status.ObservedIgnore)

	// gitrepository 39: empty is not unset. The content is as it was at first, which is news once more.
	l.edit(func(o *sourcev1.GitRepository) { o.Spec.Ignore = ptr.To("") })
	l.step()
	expect(t, "digest", was.Digest, l.get().Status.Artifact.Digest)
	expect(t, "observedIgnore", ptr.To(""), l.get().Status.ObservedIgnore)
	l.Events()

	// gitrepository 39; _common 34: from empty to unset the content is fetched anew, and equal.
	l.edit(func(o *sourcev1.GitRepository) { o.Spec.Ignore = nil })
	l.step()
	expect(t, "observedIgnore", (*string)(nil), l.get().Status.ObservedIgnore)
	expect(t, "number of events", 0, len(l.Events()))
}

// gitrepository 33, 58: tags that are equally good versions take a fetch to tell apart, which may bring nothing new.
func TestUpToDateAfterFetch(t *testing.T) {
	l := newLab(t)
	for _, tag := range []string{"v1.0.0+a", "v1.0.0+b"} {
		if _, err := l.repo.Commit(testkit.GitCommit{Branch: "main", Message: tag, Tag: tag, Files: map[string]*testkit.GitFile{"f": {Content: tag}}}); err != nil {
			t.Fatal(err)
		}
	}
	l.create(func(o *sourcev1.GitRepository) { o.Spec.Ref = &sourcev1.GitRepositoryRef{SemVer: "1.x"} })
	l.step()
	revision := l.get().Status.Artifact.Revision
	if !strings.HasPrefix(revision, "v1.0.0+b@sha1:") {
		t.Errorf("revision = %q, want the younger of two equal versions", revision)
	}
	l.Events()
	version := l.get().Status.Artifact.LastUpdateTime
	l.clock.Step(time.Hour)
	l.request("1")
	l.step()
	expect(t, "events", []string{"trace ArtifactUpToDate: artifact up-to-date with remote revision: '" + revision + "' (local)"}, l.Lines())
	if is := l.get().Status.Artifact.LastUpdateTime; !is.Equal(&version) {
		t.Errorf("the artifact was archived again at %s", is)
	}
}

// The storage loses or changes what it holds.
func TestStorage(t *testing.T) {
	l := newLab(t)
	l.commit("init", map[string]string{"app.yaml": "a"})
	l.create()
	l.step()
	l.Events()
	file := filepath.Join(l.storage, filepath.FromSlash(l.files()[0]))
	lose := func() {
		t.Helper()
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}

	// gitrepository 11: a suspended object does not notice.
	lose()
	l.edit(func(o *sourcev1.GitRepository) { o.Spec.Suspend = true })
	l.step()
	if l.get().Status.Artifact == nil {
		t.Error("a suspended object noticed the lost artifact")
	}

	// gitrepository 8, 9; _common 22: a lost artifact is built again, and whoever looks while that lasts sees why.
	l.edit(func(o *sourcev1.GitRepository) { o.Spec.Suspend = false })
	seen := l.watchWhile(func() { l.step() })
	expect(t, "Ready meanwhile", "Unknown Progressing: building artifact: disappeared from storage", seen["Ready"])
	expect(t, "ArtifactInStorage meanwhile", "-", seen["ArtifactInStorage"])
	if _, err := os.Stat(file); err != nil {
		t.Errorf("the artifact was not built again: %v", err)
	}
	expect(t, "events", []string{"info NewArtifact: stored artifact for commit 'init'"}, l.Lines())

	// gitrepository 8: a file with another content is told, removed and built again.
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("something else"), 0o600); err != nil {
		t.Fatal(err)
	}
	l.open("storage.test")
	l.step()
	events := l.Events()
	if len(events) != 2 || events[0].Severity != event.Error || events[0].Reason != "ArtifactVerificationFailed" || events[1].Reason != "NewArtifact" {
		t.Errorf("events = %+v", events)
	}
	if err := l.store.Verify(l.get().Status.Artifact); err != nil {
		t.Error(err)
	}

	// gitrepository 8: so is an artifact whose digest in the status is none.
	for _, digest := range []string{"", "md5:x", "nonsense"} {
		l.setStatus(func(s *sourcev1.GitRepositoryStatus) { s.Artifact.Digest = digest })
		l.step()
		expect(t, "digest "+digest+": Ready", "True", l.condition("Ready")[:4])
		if a := l.get().Status.Artifact; a == nil || !strings.HasPrefix(a.Digest, "sha256:") {
			t.Errorf("digest %q: artifact = %+v", digest, a)
		}
	}
	l.Events()

	// gitrepository 10: another advertised address changes the URL and nothing else.
	was := l.get().Status.Artifact
	l.open("elsewhere.test")
	l.clock.Step(time.Hour)
	l.step()
	want := was.DeepCopy()
	want.URL = "http://elsewhere.test/" + was.Path
	expect(t, "artifact", want, l.get().Status.Artifact)
	expect(t, "number of events", 0, len(l.Events()))
}

// watchWhile runs f, holds it at the server until its progress has been written, and returns the conditions seen meanwhile.
func (l *lab) watchWhile(f func()) map[string]string {
	l.t.Helper()
	seen := map[string]string{}
	version := l.get().ResourceVersion
	l.onRequest = func() {
		if len(seen) > 0 {
			return
		}
		l.clock.Step(6 * time.Second)
		for deadline := time.Now().Add(10 * time.Second); l.get().ResourceVersion == version; {
			if time.Now().After(deadline) {
				l.t.Error("no progress was written")
				break
			}
		}
		for _, conditionType := range []string{"Ready", "Reconciling", "ArtifactInStorage", "ArtifactOutdated"} {
			seen[conditionType] = l.condition(conditionType)
		}
	}
	f()
	l.onRequest = nil
	return seen
}

// gitrepository 6: garbage that cannot be collected stays for the next run; this one goes on, and tells only those who look.
// gitrepository 73: a deletion that cannot remove the artifacts keeps the finalizer.
func TestCollectionFails(t *testing.T) {
	l := newLab(t)
	l.commit("init", map[string]string{"app.yaml": "a"})
	l.create()
	l.step()
	l.Events()
	dir := filepath.Join(l.storage, "gitrepository", "apps", "app")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, _ = l.Run(t.Context(), key())
	lines := l.Lines()
	if len(lines) == 0 || !strings.HasPrefix(lines[0], "error GarbageCollectionFailed: garbage collection of artifacts failed: ") || !strings.HasSuffix(lines[0], "(local)") {
		t.Errorf("events = %q", lines)
	}
	if got := l.condition("Ready"); strings.Contains(got, "GarbageCollection") {
		t.Errorf("Ready = %q: the collection decided about the run", got)
	}

	if err := l.client.Delete(t.Context(), l.get()); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Run(t.Context(), key()); err == nil {
		t.Error("the queue was not told to try again")
	}
	if got := l.condition("Ready"); !strings.HasPrefix(got, "False GarbageCollectionFailed: garbage collection for deleted resource failed: ") {
		t.Errorf("Ready = %q", got)
	}
	expect(t, "finalizers", []string{meta.Finalizer}, l.get().Finalizers)
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	l.step()
	if err := l.client.Get(t.Context(), key(), &sourcev1.GitRepository{}); !apierrors.IsNotFound(err) {
		t.Errorf("the object is still there: %v", err)
	}
}

// gitrepository 74: an object that goes before it ever had the finalizer is left alone.
func TestDeletedBeforeTheFinalizer(t *testing.T) {
	l := newLab(t)
	l.create(func(o *sourcev1.GitRepository) { o.Finalizers = []string{"example.com/other"} })
	if err := l.client.Delete(t.Context(), l.get()); err != nil {
		t.Fatal(err)
	}
	before := l.get()
	l.step()
	expect(t, "object", before, l.get())
	expect(t, "requests to the server", int32(0), l.requests.Load())
}

// gitrepository 2-4; _common 29, 31, 33: each failure condition of an earlier run is gone after a good one, and that is told.
func TestRecovery(t *testing.T) {
	for _, failure := range []string{"FetchFailed", "StorageOperationFailed", "IncludeUnavailable"} {
		t.Run(failure, func(t *testing.T) {
			l := newLab(t)
			l.commit("init", map[string]string{"app.yaml": "a"})
			l.create()
			l.step()
			l.Events()
			l.setStatus(func(s *sourcev1.GitRepositoryStatus) {
				s.Conditions[0].Status, s.Conditions[0].Reason, s.Conditions[0].Message = metav1.ConditionFalse, "Broken", "it was broken"
				s.Conditions = append(s.Conditions, metav1.Condition{Type: failure, Status: metav1.ConditionTrue, Reason: "Broken", Message: "it was broken"})
			})
			l.step()
			revision := l.get().Status.Artifact.Revision
			expect(t, failure, "-", l.condition(failure))
			expect(t, "Ready", "True Succeeded: stored artifact for revision '"+revision+"'", l.condition("Ready"))
			expect(t, "events", []string{"info Succeeded: stored artifact for commit '" + revision + "'"}, l.Lines())
		})
	}
}

// gitrepository 1, 4; _common 27: a step that fails ends the chain, so that the server is not asked; the condition goes with
// the next run.
func TestTemporaryDirectory(t *testing.T) {
	l := newLab(t)
	l.commit("init", map[string]string{"app.yaml": "a"})
	l.create()
	if err := os.Remove(l.temp); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Run(t.Context(), key()); err == nil {
		t.Error("the queue was not told to try again")
	}
	if got := l.condition("StorageOperationFailed"); !strings.HasPrefix(got, "True DirectoryCreationFailed: ") {
		t.Errorf("StorageOperationFailed = %q", got)
	}
	expect(t, "requests to the server", int32(0), l.requests.Load())
	if err := os.Mkdir(l.temp, 0o750); err != nil {
		t.Fatal(err)
	}
	l.step()
	expect(t, "StorageOperationFailed", "-", l.condition("StorageOperationFailed"))
}

func secretOf(data map[string]string) client.Object {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "creds"}, Data: map[string][]byte{}}
	for name, value := range data {
		s.Data[name] = []byte(value)
	}
	return s
}

// What a spec and its Secret do to the conditions: the reason and message of the failure are those of Ready (_common 29) and of
// one Warning event (_common 32). Secrets are read live (_common 46): the client of the loop has none.
func TestRefusals(t *testing.T) {
	withSecret := func(o *sourcev1.GitRepository) { o.Spec.SecretRef = &meta.LocalObjectReference{Name: "creds"} }
	for name, test := range map[string]struct {
		edit    func(*sourcev1.GitRepository)
		secret  map[string]string
		reason  string
		message string
		stalls  bool
	}{
		"gitrepository 12: unparseable URL": {
			edit: func(o *sourcev1.GitRepository) { o.Spec.URL = "https://exa mple/%zz" }, reason: "URLInvalid", message: "URL", stalls: true,
		},
		"gitrepository 13: no Secret": {edit: withSecret, reason: "AuthenticationFailed", message: "failed to get secret 'apps/creds'"},
		"gitrepository 15: password without a name": {
			edit: withSecret, secret: map[string]string{"password": "p"}, reason: "AuthenticationFailed", message: "username",
		},
		"gitrepository 15: bearer token and a name in the URL": {
			edit: func(o *sourcev1.GitRepository) {
				withSecret(o)
				o.Spec.URL = strings.Replace(o.Spec.URL, "http://", "http://git@", 1)
			},
			secret: map[string]string{"bearerToken": "t"}, reason: "AuthenticationFailed", message: "bearer",
		},
		"gitrepository 20: app data without the provider": {
			edit: withSecret, secret: map[string]string{"githubAppID": "1"}, reason: "InvalidProviderConfiguration",
			message: "secretRef 'apps/creds' has github app data but provider is not set to github",
		},
		"gitrepository 25: no proxy Secret": {
			edit:   func(o *sourcev1.GitRepository) { o.Spec.ProxySecretRef = &meta.LocalObjectReference{Name: "creds"} },
			reason: "AuthenticationFailed", message: "failed to configure proxy options: ",
		},
		"gitrepository 36: no such repository": {
			edit:   func(o *sourcev1.GitRepository) { o.Spec.URL = strings.Replace(o.Spec.URL, "/app.git", "/none.git", 1) },
			reason: "GitOperationFailed", message: "failed to checkout and determine revision: ",
		},
		"gitrepository 21: github without a Secret": {
			edit: func(o *sourcev1.GitRepository) { o.Spec.Provider = "github" }, reason: "InvalidProviderConfiguration",
			message: "secretRef with github app data must be specified when provider is set to github", stalls: true,
		},
		"gitrepository 21: github with another Secret": {
			edit:   func(o *sourcev1.GitRepository) { withSecret(o); o.Spec.Provider = "github" },
			secret: map[string]string{"username": "u"}, reason: "InvalidProviderConfiguration",
			message: "secretRef 'apps/creds' has no github app data (key 'githubAppID') but provider is set to github",
		},
		"provider of a process without clouds": {
			edit:   func(o *sourcev1.GitRepository) { o.Spec.Provider = "azure" },
			reason: "InvalidProviderConfiguration", message: "provider 'azure' is not available in this process", stalls: true,
		},
		"gitrepository 70: no such directory": {
			edit:   func(o *sourcev1.GitRepository) { o.Spec.SparseCheckout = []string{"./deploy"} },
			reason: "GitOperationFailed", message: "failed to sparse checkout directories : sparse checkout dir 'deploy' does not exist in repository",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var secrets []client.Object
			if test.secret != nil {
				secrets = append(secrets, secretOf(test.secret))
			}
			l := newLab(t, secrets...)
			l.commit("init", map[string]string{"app.yaml": "a"})
			l.create(test.edit)
			_, err := l.Run(t.Context(), key())
			if (err == nil) != test.stalls {
				t.Errorf("error for the queue = %v, want one: %t", err, !test.stalls)
			}
			ready := l.condition("Ready")
			if !strings.HasPrefix(ready, "False "+test.reason+": ") || !strings.Contains(ready, test.message) {
				t.Errorf("Ready = %q, want reason %s and %q in the message", ready, test.reason, test.message)
			}
			text := strings.TrimPrefix(ready, "False ")
			expect(t, "FetchFailed", "True "+text, l.condition("FetchFailed"))
			expect(t, "Stalled", test.stalls, l.condition("Stalled") == "True "+text)
			expect(t, "events", []string{"error " + text}, l.Lines())
			expect(t, "number of files", 0, len(l.files()))
		})
	}
}

// gitrepository 15, 17: credentials go to a server of plain HTTP. gitrepository 16: also those of the URL.
func TestCredentialsOverPlainHTTP(t *testing.T) {
	basic := map[string]string{"username": testkit.GitUser, "password": testkit.GitPassword}
	for name, test := range map[string]struct {
		secret map[string]string
		user   string
	}{
		"basic":  {secret: basic},
		"bearer": {secret: map[string]string{"bearerToken": testkit.GitToken, "username": "ignored", "password": "ignored"}},
		"URL":    {user: testkit.GitUser + ":" + testkit.GitPassword + "@"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, secretOf(test.secret))
			l.commit("init", map[string]string{"app.yaml": "a"})
			l.create(func(o *sourcev1.GitRepository) {
				o.Spec.URL = strings.Replace(l.url, "http://", "http://"+test.user, 1) + "/auth/app.git"
				if test.secret != nil {
					o.Spec.SecretRef = &meta.LocalObjectReference{Name: "creds"}
				}
			})
			l.step()
			if got := l.condition("Ready"); !strings.HasPrefix(got, "True ") {
				t.Errorf("Ready = %q", got)
			}
		})
	}
}
