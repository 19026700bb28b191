package git

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/depend"
)

func keyOf(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: key().Namespace, Name: name}
}

// other creates a second GitRepository with a repository of its own, and reconciles it.
func (l *lab) other(name string, files map[string]string) *testkit.GitRepo {
	l.t.Helper()
	repo := must(testkit.NewGitRepo(filepath.Join(l.root, name+".git")))
	l.push(repo, files)
	obj := &sourcev1.GitRepository{
		ObjectMeta: metav1.ObjectMeta{Namespace: key().Namespace, Name: name, Generation: 1},
		Spec: sourcev1.GitRepositorySpec{
			URL: l.url + "/" + name + ".git", Interval: meta.DurationOf(10 * time.Minute), Ref: &sourcev1.GitRepositoryRef{Branch: "main"},
		},
	}
	if err := l.client.Create(l.t.Context(), obj); err != nil {
		l.t.Fatal(err)
	}
	l.runOther(name)
	return repo
}

func (l *lab) push(repo *testkit.GitRepo, files map[string]string) {
	l.t.Helper()
	c := testkit.GitCommit{Branch: "main", Message: "push", Files: map[string]*testkit.GitFile{}}
	for name, content := range files {
		c.Files[name] = &testkit.GitFile{Content: content}
	}
	must(repo.Commit(c))
}

func (l *lab) runOther(name string) {
	l.t.Helper()
	if _, err := l.Run(l.t.Context(), keyOf(name)); err != nil {
		l.t.Fatal(err)
	}
}

func include(includes ...sourcev1.GitRepositoryInclude) func(*sourcev1.GitRepository) {
	return func(o *sourcev1.GitRepository) { o.Spec.Include = includes }
}

func from(name, fromPath, toPath string) sourcev1.GitRepositoryInclude {
	return sourcev1.GitRepositoryInclude{Repository: meta.LocalObjectReference{Name: name}, FromPath: fromPath, ToPath: toPath}
}

// entries returns the content of the artifact of the object.
func (l *lab) entries() []string {
	l.t.Helper()
	f := must(l.opener.File(l.t.Context(), l.get().Status.Artifact))
	defer f.Close()
	r := tar.NewReader(must(gzip.NewReader(f)))
	var out []string
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			l.t.Fatal(err)
		}
		out = append(out, h.Name+"="+string(must(io.ReadAll(r))))
	}
}

// A repository waits for those it includes, takes their content and follows their changes (gitrepository 39, 52-54, 66).
func TestInclude(t *testing.T) {
	l := newLab(t)
	l.commit("init", map[string]string{"app.yaml": "a"})
	l.create(include(from("lib", "", ""), from("lib", "base", "vendor/lib")))
	result := l.step()
	expect(t, "looked at again after", 30*time.Second, result.RequeueAfter)
	text := `NotFound: could not get resource for include 'lib': gitrepositories.source.toolkit.fluxcd.io "lib" not found`
	expect(t, "Ready", "False "+text, l.condition("Ready"))
	expect(t, "IncludeUnavailable", "True "+text, l.condition("IncludeUnavailable"))
	if diff := cmp.Diff([]string{"info " + text + " (local)"}, l.Lines()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}

	lib := l.other("lib", map[string]string{"base/f": "1", "base/run.tar.gz": "ignored", "deep/g": "1"})
	l.Lines()
	l.step()
	want := []string{".=", "app.yaml=a", "lib=", "lib/base=", "lib/base/f=1", "lib/deep=", "lib/deep/g=1", "vendor=", "vendor/lib=", "vendor/lib/f=1"}
	if diff := cmp.Diff(want, l.entries()); diff != "" {
		t.Errorf("artifact (-want +got):\n%s", diff)
	}
	status := l.get().Status
	expect(t, "IncludeUnavailable", "-", l.condition("IncludeUnavailable"))
	if diff := cmp.Diff(l.get().Spec.Include, status.ObservedInclude); diff != "" {
		t.Errorf("observedInclude (-want +got):\n%s", diff)
	}
	if len(status.IncludedArtifacts) != 2 || status.IncludedArtifacts[0].Revision != status.IncludedArtifacts[1].Revision {
		t.Errorf("includedArtifacts = %v", status.IncludedArtifacts)
	}
	digest := status.Artifact.Digest

	requests := l.requests.Load()
	l.step()
	expect(t, "requests of an interval", int32(1), l.requests.Load()-requests)

	l.push(lib, map[string]string{"base/f": "2"})
	l.runOther("lib")
	l.Lines()
	l.step()
	if l.get().Status.Artifact.Digest == digest {
		t.Error("the artifact did not follow the included one")
	}
	expect(t, "ArtifactOutdated", "-", l.condition("ArtifactOutdated"))
	expect(t, "number of events", 1, len(l.Lines()))
}

// gitrepository 53: that includes have changed shows, also where the fetch then fails.
func TestIncludeChange(t *testing.T) {
	l := newLab(t)
	l.commit("init", map[string]string{"app.yaml": "a"})
	lib := l.other("lib", map[string]string{"f": "1"})
	l.create(include(from("lib", "", "")))
	l.step()
	l.push(lib, map[string]string{"f": "2"})
	l.runOther("lib")
	l.edit(func(o *sourcev1.GitRepository) { o.Spec.URL += "/absent" })
	if _, err := l.Run(t.Context(), key()); err == nil {
		t.Fatal("no error")
	}
	expect(t, "ArtifactOutdated", "True IncludeChange: included artifacts differ from last observed includes", l.condition("ArtifactOutdated"))
}

// What an include may not do (gitrepository 52, 55).
func TestIncludeRefusals(t *testing.T) {
	for name, test := range map[string]struct {
		include sourcev1.GitRepositoryInclude
		on      string
		want    string
	}{
		"no such directory": {from("lib", "absent", ""), "StorageOperationFailed", "CopyFailure: failed to copy 'lib' include from absent to lib: cannot stat /tree/unpack/absent"},
		"from outside":      {from("lib", "../x", ""), "StorageOperationFailed", "CopyFailure: failed to copy 'lib' include from ../x to lib: '../x' leaves the artifact"},
		"to outside":        {from("lib", "", "../x"), "StorageOperationFailed", "IllegalPath: path calculation for include 'lib' failed: '../x' leaves the repository"},
		"to the root":       {from("lib", "", "/etc"), "StorageOperationFailed", "IllegalPath: "},
		"no artifact":       {from("empty", "", ""), "IncludeUnavailable", "NoArtifact: no artifact available for include 'empty'"},
		"itself":            {from("app", "", ""), "IncludeUnavailable", "DependencyNotReady: include forms a circle: 'app' includes itself"},
		"itself, indirect":  {from("back", "", ""), "IncludeUnavailable", "DependencyNotReady: include forms a circle: 'app' includes itself"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.commit("init", map[string]string{"app.yaml": "a"})
			l.other("lib", map[string]string{"f": "1"})
			for _, obj := range []*sourcev1.GitRepository{
				{ObjectMeta: metav1.ObjectMeta{Namespace: key().Namespace, Name: "empty"}},
				{ObjectMeta: metav1.ObjectMeta{Namespace: key().Namespace, Name: "back"}, Spec: sourcev1.GitRepositorySpec{Include: []sourcev1.GitRepositoryInclude{from("app", "", "")}}},
			} {
				if err := l.client.Create(t.Context(), obj); err != nil {
					t.Fatal(err)
				}
			}
			l.create(include(test.include))
			_, _ = l.Run(t.Context(), key())
			if got := l.condition("Ready"); !strings.HasPrefix(got, "False "+test.want) {
				t.Errorf("Ready = %q, want %q", got, test.want)
			}
			if got := l.condition(test.on); !strings.HasPrefix(got, "True "+test.want) {
				t.Errorf("%s = %q, want %q", test.on, got, test.want)
			}
			if l.get().Status.Artifact != nil {
				t.Error("an artifact was stored")
			}
		})
	}
}

// gitrepository 55: a file can be included too. gitrepository 56: the parent's ignore rules hold for what it includes.
func TestIncludedContent(t *testing.T) {
	l := newLab(t)
	l.commit("init", map[string]string{"app.yaml": "a", "lib/old": "x", "lib/g": "old", ".sourceignore": "*.md\n"})
	l.other("lib", map[string]string{"f": "1", "g": "1", "README.md": "#", "sub/secret": "s"})
	l.create(include(from("lib", "", ""), from("lib", "f", "copied/as")), func(o *sourcev1.GitRepository) {
		ignore := "secret\n"
		o.Spec.Ignore = &ignore
	})
	l.step()
	want := []string{".=", ".sourceignore=*.md\n", "app.yaml=a", "copied=", "copied/as=1", "lib=", "lib/f=1", "lib/g=1", "lib/old=x", "lib/sub="}
	if diff := cmp.Diff(want, l.entries()); diff != "" {
		t.Errorf("artifact (-want +got):\n%s", diff)
	}
}

// Who includes a repository is woken by its artifact, and by nothing else of it.
func TestIncludersAreWoken(t *testing.T) {
	l := newLab(t)
	l.commit("init", map[string]string{"app.yaml": "a"})
	l.create(include(from("lib", "", "")))
	controller := Controller("source-controller", l.secrets, l.store, Options{Objects: l.client})
	source := &Source{reader: l.secrets, options: Options{Objects: l.client}, includes: depend.NewGraph()}
	if _, err := source.include(t.Context(), l.get(), nil); err == nil {
		t.Fatal("an absent repository is included")
	}
	if len(controller.Watches) != 1 {
		t.Fatalf("watches = %v", controller.Watches)
	}
	lib := func(digest string) client.Object {
		o := &sourcev1.GitRepository{ObjectMeta: metav1.ObjectMeta{Namespace: key().Namespace, Name: "lib"}}
		if digest != "" {
			o.Status.Artifact = &meta.Artifact{Digest: digest}
		}
		return o
	}
	for name, test := range map[string]struct {
		before, after client.Object
		woken         bool
	}{
		"created without": {nil, lib(""), false},
		"stored":          {lib(""), lib("1"), true},
		"the same":        {lib("1"), lib("1"), false},
		"another":         {lib("1"), lib("2"), true},
		"deleted":         {lib("1"), nil, true},
	} {
		if woken := len(source.includers(test.before, test.after)) == 1; woken != test.woken {
			t.Errorf("%s: woken = %t", name, woken)
		}
	}
	source.Forget(key())
	if woken := source.includers(nil, lib("1")); len(woken) != 0 {
		t.Errorf("after the object is gone: %v", woken)
	}
}

// gitrepository 39, 66, 70-72: what shapes the content is fetched anew when it changes, and told in the status.
func TestSelection(t *testing.T) {
	l := newLab(t)
	sub := must(testkit.NewGitRepo(filepath.Join(l.root, "sub.git")))
	subCommit := must(sub.Commit(testkit.GitCommit{Branch: "main", Message: "1", Files: map[string]*testkit.GitFile{"f": {Content: "s"}}}))
	must(l.repo.Commit(testkit.GitCommit{Branch: "main", Message: "1", Files: map[string]*testkit.GitFile{
		"a/x": {Content: "x"}, "b/y": {Content: "y"}, "root": {Content: "r"},
		".gitmodules": {Content: "[submodule \"sub\"]\n\tpath = b/sub\n\turl = ../sub.git\n"}, "b/sub": {Submodule: subCommit},
	}}))
	l.create(func(o *sourcev1.GitRepository) { o.Spec.SparseCheckout = []string{"./a"} })
	for _, step := range []struct {
		edit func(*sourcev1.GitRepository)
		want []string
	}{
		{nil, []string{".=", "a=", "a/x=x"}},
		{func(o *sourcev1.GitRepository) { o.Spec.SparseCheckout = []string{"./b"} }, []string{".=", "b=", "b/sub=", "b/y=y"}},
		{func(o *sourcev1.GitRepository) { o.Spec.RecurseSubmodules = true }, []string{".=", "b=", "b/sub=", "b/sub/f=s", "b/y=y"}},
		{func(o *sourcev1.GitRepository) { o.Spec.SparseCheckout, o.Spec.RecurseSubmodules = nil, false }, []string{".=", "a=", "a/x=x", "b=", "b/sub=", "b/y=y", "root=r"}},
	} {
		if step.edit != nil {
			l.edit(step.edit)
		}
		l.step()
		if diff := cmp.Diff(step.want, l.entries()); diff != "" {
			t.Errorf("artifact (-want +got):\n%s", diff)
		}
		got := l.get()
		expect(t, "observedRecurseSubmodules", got.Spec.RecurseSubmodules, got.Status.ObservedRecurseSubmodules)
		if diff := cmp.Diff(got.Spec.SparseCheckout, got.Status.ObservedSparseCheckout); diff != "" {
			t.Errorf("observedSparseCheckout (-want +got):\n%s", diff)
		}
	}
}
