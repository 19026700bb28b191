package update

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	imagev1 "github.com/seed-79636ae9/flux/api/image/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/testkit"
)

// imageupdateautomation 11, 12, 30, 44, 45: a push branch of its own begins at what is checked out, is continued while it is there,
// and what others commit to it stays.
func TestSwitch(t *testing.T) {
	l := newLab(t)
	main := l.tip("main")
	l.create("auto", onto("bot/updates"))
	expect(t, "Ready", upToDate, l.run("auto"))
	expect(t, "main", main, l.tip("main"))
	expect(t, "the branch", "Update from image update automation\ninit", l.git("log", "--format=%s", "bot/updates"))
	first := l.tip("bot/updates")
	expect(t, "observed", "main@sha1:"+main, l.get("auto").Status.ObservedSourceRevision)
	expect(t, "pushed", first, l.get("auto").Status.LastPushCommit)
	l.Lines()

	// The shortcut is off, and yet nothing is pushed (imageupdateautomation 14, 44).
	l.asked()
	expect(t, "Ready", upToDate, l.run("auto"))
	expect(t, "the branch", first, l.tip("bot/updates"))
	if got := l.asked(); len(got) < 3 {
		t.Errorf("imageupdateautomation 14: the repository is not fetched: %q", got)
	}

	// Somebody amends the branch, main moves on, and a new tag comes.
	l.commit("bot/updates", "review", map[string]string{"deploy/notes.txt": "reviewed"})
	main = l.commit("main", "more", map[string]string{"x": "y"})
	l.setPolicy("web", "registry.test/web", "1.2.0", "")
	expect(t, "Ready", upToDate, l.run("auto"))
	expect(t, "the branch", "Update from image update automation\nreview\nUpdate from image update automation\ninit", l.git("log", "--format=%s", "bot/updates"))
	expect(t, "observed", "main@sha1:"+main, l.get("auto").Status.ObservedSourceRevision)
	expect(t, "a manifest", strings.ReplaceAll(deployment, "1.0.0", "1.2.0"), l.show("bot/updates", "deploy/d.yaml"))
}

// imageupdateautomation 11, 12, 45: without the gate the branch is made anew, by force where that is allowed, and only when it would
// become something else.
func TestSwitchAnew(t *testing.T) {
	for _, force := range []bool{true, false} {
		l := newLab(t)
		l.options.AllBranchReferences, l.options.ForcePushBranch = false, force
		l.open()
		l.create("auto", onto("bot"))
		expect(t, "Ready", upToDate, l.run("auto"))
		first := l.tip("bot")
		expect(t, "Ready", upToDate, l.run("auto"))
		expect(t, "the branch", first, l.tip("bot"))
		l.commit("bot", "review", map[string]string{"x": "y"})
		l.commit("main", "more", map[string]string{"z": "y"})
		got := l.run("auto")
		if !force {
			if !strings.HasPrefix(got, "False GitOperationFailed: failed to update source: unable to push to '") || !strings.Contains(got, "not a fast-forward") {
				t.Errorf("Ready = %s", got)
			}
			expect(t, "the branch", "review\nUpdate from image update automation\ninit", l.git("log", "--format=%s", "bot"))
			continue
		}
		expect(t, "Ready", upToDate, got)
		expect(t, "the branch", "Update from image update automation\nmore\ninit", l.git("log", "--format=%s", "bot"))
	}
}

// imageupdateautomation 9, 10, 42, 43, 58: from what is checked out to where it is pushed.
func TestCheckouts(t *testing.T) {
	for name, ref := range map[string]sourcev1.GitRepositoryRef{
		"tag": {Tag: "v1.0.0"}, "semver": {SemVer: "1.x"}, "commit": {Commit: "$first"}, "name": {Name: "refs/tags/v1.0.0"},
		"commit in a branch": {Branch: "main", Commit: "$first"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			first := l.tip("main")
			l.git("tag", "v1.0.0", first)
			l.git("tag", "v1.0.0+other", first)
			l.commit("main", "more", map[string]string{"x": "y"})
			if ref.Commit != "" {
				ref.Commit = first
			}
			l.create("auto", func(o *imagev1.ImageUpdateAutomation) {
				onto("release")(o)
				o.Spec.Git.Checkout = &imagev1.GitCheckoutSpec{Reference: ref}
			})
			expect(t, "Ready", upToDate, l.run("auto"))
			expect(t, "the branch", first, l.tip("release~1"))
			if got := l.get("auto").Status.ObservedSourceRevision; !strings.HasSuffix(got, "sha1:"+first) {
				t.Errorf("observed: %s", got)
			}
			head := l.tip("release")
			expect(t, "Ready", upToDate, l.run("auto"))
			expect(t, "the branch", head, l.tip("release"))
		})
	}
}

// imageupdateautomation 13, 31, 46, 47: a second push, and options with both. reliability 049: no other reference moves.
func TestRefspec(t *testing.T) {
	for name, test := range map[string]struct {
		refspec, branch string
		prepare         func(l *lab)
		moved           map[string]string // reference -> what it is at: pushed, checkout
		fails           string
	}{
		"another branch":           {"refs/heads/main:refs/heads/mirror", "", nil, map[string]string{"refs/heads/mirror": "pushed", "refs/heads/main": "pushed"}, ""},
		"HEAD to a tag":            {"HEAD:refs/tags/latest", "", nil, map[string]string{"refs/tags/latest": "pushed", "refs/heads/main": "pushed"}, ""},
		"short name":               {"main:refs/for/main", "", nil, map[string]string{"refs/for/main": "pushed", "refs/heads/main": "pushed"}, ""},
		"pattern":                  {"refs/heads/*:refs/heads/copy/*", "", nil, map[string]string{"refs/heads/copy/main": "pushed", "refs/heads/main": "pushed"}, ""},
		"what is checked out":      {"refs/heads/main:refs/heads/seen", "bot", nil, map[string]string{"refs/heads/seen": "checkout", "refs/heads/bot": "pushed"}, ""},
		"behind":                   {"refs/heads/main:refs/heads/mirror", "", func(l *lab) { l.git("branch", "mirror", "main") }, map[string]string{"refs/heads/mirror": "pushed", "refs/heads/main": "pushed"}, ""},
		"diverged":                 {"refs/heads/main:refs/heads/mirror", "", diverge, map[string]string{"refs/heads/main": "pushed"}, "not a fast-forward"},
		"diverged, by force":       {"+refs/heads/main:refs/heads/mirror", "", diverge, map[string]string{"refs/heads/main": "pushed", "refs/heads/mirror": "pushed"}, ""},
		"diverged, in switch mode": {"refs/heads/bot:refs/heads/mirror", "bot", diverge, map[string]string{"refs/heads/bot": "pushed", "refs/heads/mirror": "pushed"}, ""},
		"unknown source":           {"refs/heads/none:refs/heads/mirror", "", nil, map[string]string{"refs/heads/main": "pushed"}, "neither the push branch"},
		"deletion":                 {":refs/heads/victim", "", nil, nil, "would delete a reference"},
		"forced deletion":          {"+:refs/heads/victim", "", nil, nil, "would delete a reference"},
		"no full name":             {"main:mirror", "", nil, nil, "full reference name"},
		"two patterns":             {"refs/*/*:refs/x/*", "", nil, nil, "same number of '*'"},
		"impossible name":          {"main:refs/heads/a..b", "", nil, map[string]string{"refs/heads/main": "pushed"}, "invalid reference name"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.git("branch", "victim", "main")
			l.git("config", "receive.advertisePushOptions", "true")
			l.hook("pre-receive", `echo "$GIT_PUSH_OPTION_COUNT $GIT_PUSH_OPTION_0 $GIT_PUSH_OPTION_1" >>options`)
			if test.prepare != nil {
				test.prepare(l)
			}
			refs := func() map[string]string {
				out := map[string]string{}
				for line := range strings.Lines(l.git("for-each-ref", "--format=%(refname) %(objectname)")) {
					ref, hash, _ := strings.Cut(strings.TrimSpace(line), " ")
					out[ref] = hash
				}
				return out
			}
			before, main := refs(), l.tip("main")
			l.create("auto", func(o *imagev1.ImageUpdateAutomation) {
				o.Spec.Git.Push = &imagev1.PushSpec{Branch: test.branch, Refspec: test.refspec, Options: map[string]string{"b": "2", "a": "1"}}
			})
			got := l.run("auto")
			if test.fails == "" {
				expect(t, "Ready", upToDate, got)
			} else if !strings.HasPrefix(got, "False ") || !strings.Contains(got, test.fails) {
				t.Errorf("Ready = %s, want %q", got, test.fails)
			}
			moved := map[string]string{}
			for ref, hash := range refs() {
				switch {
				case hash == before[ref]:
				case hash == main:
					moved[ref] = "checkout"
				case hash == l.get("auto").Status.LastPushCommit:
					moved[ref] = "pushed"
				default:
					moved[ref] = hash
				}
			}
			if diff := cmp.Diff(test.moved, moved, equateEmpty); diff != "" {
				t.Errorf("references (-want +got):\n%s", diff)
			}
			for ref := range before {
				if _, ok := refs()[ref]; !ok {
					t.Errorf("%s is gone", ref)
				}
			}
			if len(test.moved) == 0 {
				return
			}
			options, err := os.ReadFile(filepath.Join(l.repo.Dir, "options"))
			l.check(err)
			if want := strings.Repeat("2 a=1 b=2\n", strings.Count(string(options), "\n")); string(options) != want || want == "" {
				t.Errorf("options: %q", options)
			}
			if test.fails == "" {
				if got := l.Lines(); len(got) != 1 || !strings.Contains(got[0], "' and refspecs '"+test.refspec+"'\n") {
					t.Errorf("events: %q", got)
				}
			}
		})
	}
}

var equateEmpty = cmp.FilterValues(func(a, b map[string]string) bool { return len(a) == 0 && len(b) == 0 }, cmp.Ignore())

// diverge gives the repository a branch mirror that has nothing to do with main.
func diverge(l *lab) {
	tree := l.git("rev-parse", "main^{tree}")
	l.git("branch", "mirror", l.git("commit-tree", "-m", "other", tree))
}

// A refspec that has failed after the branch was pushed is pushed by the next run, which finds nothing to commit.
func TestRefspecRetried(t *testing.T) {
	l := newLab(t)
	l.hook("update", `[ "$1" != refs/heads/mirror ] || exit 1`)
	l.create("auto", func(o *imagev1.ImageUpdateAutomation) {
		o.Spec.Git.Push = &imagev1.PushSpec{Refspec: "refs/heads/main:refs/heads/mirror"}
	})
	got := l.run("auto")
	if !strings.HasPrefix(got, "False GitOperationFailed: failed to update source: failed to push refspec 'refs/heads/main:refs/heads/mirror': ") {
		t.Errorf("imageupdateautomation 46: Ready = %s", got)
	}
	expect(t, "pushed", l.tip("main"), l.get("auto").Status.LastPushCommit)
	l.Lines()
	l.hook("update", "exit 0")
	expect(t, "Ready", upToDate, l.run("auto"))
	expect(t, "the mirror", l.tip("main"), l.tip("mirror"))
	if got := l.Lines(); len(got) != 1 || !strings.HasPrefix(got[0], "info Succeeded: pushed commit '"+l.tip("main")[:7]+"' to branch 'main' and refspecs ") {
		t.Errorf("events: %q", got)
	}
	expect(t, "Ready", upToDate, l.run("auto"))
	if got := l.Lines(); len(got) > 0 {
		t.Errorf("events: %q", got)
	}
}

// imageupdateautomation 19-21, 55-57: which files are looked at. reliability 025: nothing outside of the path changes, whatever it is
// and whatever links there are.
func TestPaths(t *testing.T) {
	const marked = "a: old # {\"$imagepolicy\": \"apps:web:tag\"}\n"
	for name, test := range map[string]struct {
		path  string
		files []string
	}{
		"all":               {"", []string{"Kustomization", "a.yaml", "dir/Kustomization", "dir/b.yml", "dir/sub/c.yaml", "dirx/d.yaml"}},
		"root":              {"./", []string{"Kustomization", "a.yaml", "dir/Kustomization", "dir/b.yml", "dir/sub/c.yaml", "dirx/d.yaml"}},
		"directory":         {"dir", []string{"dir/Kustomization", "dir/b.yml", "dir/sub/c.yaml"}},
		"with a slash":      {"/dir/", []string{"dir/Kustomization", "dir/b.yml", "dir/sub/c.yaml"}},
		"file":              {"dir/b.yml", []string{"dir/b.yml"}},
		"escaping":          {"../../dir", []string{"dir/Kustomization", "dir/b.yml", "dir/sub/c.yaml"}},
		"escaping to /":     {"../..", []string{"Kustomization", "a.yaml", "dir/Kustomization", "dir/b.yml", "dir/sub/c.yaml", "dirx/d.yaml"}},
		"inside and out":    {"dir/../dirx", []string{"dirx/d.yaml"}},
		"another sort":      {"dir/e.txt", nil},
		"a link":            {"link", nil},
		"below a link":      {"link/f.yaml", nil},
		"a link to a file":  {"filelink.yaml", nil},
		"a link outside":    {"outside", nil},
		"below one outside": {"outside/f.yaml", nil},
	} {
		for _, sparse := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				l := newLab(t)
				l.options.SparseCheckout = sparse
				l.open()
				secret := filepath.Join(t.TempDir(), "f.yaml")
				l.check(os.WriteFile(secret, []byte(marked), 0o600))
				c := testkit.GitCommit{Branch: "main", Message: "files", Files: map[string]*testkit.GitFile{
					"link": {Symlink: "dir"}, "filelink.yaml": {Symlink: "a.yaml"}, "dir/back.yaml": {Symlink: "../a.yaml"}, "broken.yaml": {Symlink: "none"},
					"outside": {Symlink: filepath.Dir(secret)}, "outside.yaml": {Symlink: secret}, "dir/self": {Symlink: "."},
					"dir/bad.yaml": {Content: "{{- if x }}\n" + marked}, "deploy/d.yaml": nil, "deploy/values.yaml": nil, "deploy/notes.txt": nil, "other/d.yaml": nil,
				}}
				for _, file := range []string{"Kustomization", "a.yaml", "dir/Kustomization", "dir/b.yml", "dir/sub/c.yaml", "dirx/d.yaml", "dir/e.txt", "dir/kustomization", "x.YAML"} {
					c.Files[file] = &testkit.GitFile{Content: marked}
				}
				_, err := l.repo.Commit(c)
				l.check(err)
				before := l.tip("main")
				l.create("auto", func(o *imagev1.ImageUpdateAutomation) { o.Spec.Update.Path = test.path })
				got := l.run("auto")
				if changed := l.tip("main") != before; changed != (test.files != nil) {
					t.Fatalf("changed: %t; Ready = %s", changed, got)
				}
				if test.files != nil {
					expect(t, "files", strings.Join(test.files, "\n"), l.git("diff", "--name-only", "main~1", "main"))
					for _, file := range test.files {
						expect(t, file, strings.Replace(marked, "old", "1.1.0", 1), l.show("main", file))
					}
				}
				content, err := os.ReadFile(secret)
				l.check(err)
				expect(t, "the file outside", marked, string(content))
			})
		}
	}
}

// imageupdateautomation 27: commits of PGP and SSH keys, as git sees them.
func TestSigned(t *testing.T) {
	keys := t.TempDir()
	run := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Env = append(os.Environ(), "GNUPGHOME="+keys)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
		return string(out)
	}
	if err := os.Chmod(keys, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { run("gpgconf", "--kill", "gpg-agent") })
	run("ssh-keygen", "-q", "-t", "ed25519", "-N", "swordfish", "-C", "bot", "-f", keys+"/id")
	run("gpg", "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "swordfish", "--quick-gen-key", "bot <bot@example.com>", "ed25519", "sign", "never")
	identity, _ := os.ReadFile(keys + "/id")
	public, _ := os.ReadFile(keys + "/id.pub")
	if err := os.WriteFile(keys+"/allowed", append([]byte("bot@example.com "), public...), 0o600); err != nil {
		t.Fatal(err)
	}
	pgp := run("gpg", "--batch", "--pinentry-mode", "loopback", "--passphrase", "swordfish", "--armor", "--export-secret-keys")
	for kind, data := range map[string]map[string][]byte{
		"ssh": {"identity": identity, "password": []byte("swordfish")},
		"gpg": {"git.asc": []byte(pgp), "passphrase": []byte("swordfish")},
		"":    {"git.asc": []byte(pgp), "passphrase": []byte("swordfish")},
	} {
		l := newLab(t, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "sign"}, Data: data})
		l.create("auto", func(o *imagev1.ImageUpdateAutomation) {
			o.Spec.Git.Commit.SigningKey = &imagev1.SigningKey{Type: kind, SecretRef: meta.LocalObjectReference{Name: "sign"}}
		})
		expect(t, kind, upToDate, l.run("auto"))
		run("git", "-C", l.repo.Dir, "-c", "gpg.ssh.allowedSignersFile="+keys+"/allowed", "verify-commit", "main")
	}
}

// imageupdateautomation 36: over SSH as over HTTP.
func TestOverSSH(t *testing.T) {
	l := newLab(t)
	server, err := testkit.NewGitSSHServer(l.root, testkit.SSHServerOptions{})
	l.check(err)
	t.Cleanup(server.Close)
	l.check(l.client.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "key"}, Data: map[string][]byte{"identity": server.Identity, "known_hosts": server.KnownHosts},
	}))
	var r sourcev1.GitRepository
	l.check(l.client.Get(t.Context(), keyOf("app"), &r))
	r.Spec.URL, r.Spec.SecretRef = server.URL+"/app.git", &meta.LocalObjectReference{Name: "key"}
	// imageupdateautomation 61, 63: what else the GitRepository says is its own affair.
	r.Spec.Suspend, r.Spec.SparseCheckout, r.Spec.Verify = true, []string{"none"}, &sourcev1.GitRepositoryVerification{Mode: "HEAD"}
	l.check(l.client.Update(t.Context(), &r))
	l.create("auto", nil)
	expect(t, "Ready", upToDate, l.run("auto"))
	expect(t, "a manifest", strings.ReplaceAll(deployment, "1.0.0", "1.1.0"), l.show("main", "deploy/d.yaml"))
	if diff := cmp.Diff([]string{"git-upload-pack '/app.git'", "git-receive-pack '/app.git'"}, server.Commands()); diff != "" {
		t.Errorf("commands (-want +got):\n%s", diff)
	}
	expect(t, "Ready", upToDate, l.run("auto"))
}

// A file that is too large to be edited is told when it asks to be, and no other.
func TestFileLimit(t *testing.T) {
	l := newLab(t)
	l.options.MaxFileBytes = 100
	l.open()
	l.commit("main", "large", map[string]string{"deploy/large.yaml": strings.Repeat("a: b\n", 20_000)})
	l.setPolicy("web", "registry.test/web", "1.1.0", "")
	l.create("auto", func(o *imagev1.ImageUpdateAutomation) { o.Spec.Update.Path = "" })
	got := l.run("auto")
	if !strings.Contains(got, "UpdateFailed: failed to apply policies: file 'deploy/d.yaml': it has markers and ") || !strings.Contains(got, "--update-limit-file-size") {
		t.Errorf("Ready = %s", got)
	}
	l.change("auto", func(o *imagev1.ImageUpdateAutomation) { o.Spec.Update.Path = "deploy/large.yaml" })
	expect(t, "Ready", upToDate, l.run("auto"))
	l.commit("main", "marker at the end", map[string]string{"deploy/large.yaml": strings.Repeat("a: b\n", 20_000) + "c: d # {\"$imagepolicy\": \"apps:web\"}\n"})
	if got := l.run("auto"); !strings.Contains(got, "file 'deploy/large.yaml': it has markers") {
		t.Errorf("Ready = %s", got)
	}
}
