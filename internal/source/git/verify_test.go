package git

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/testkit"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func pgpSigner(t *testing.T) *testkit.GitSigner {
	t.Helper()
	s := must(testkit.NewPGPSigner(t.TempDir()))
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// trusting returns a lab whose Secret holds the keys, and what makes an object verify with them.
func trusting(t *testing.T, signers ...*testkit.GitSigner) (*lab, func(sourcev1.GitVerificationMode) func(*sourcev1.GitRepository)) {
	t.Helper()
	l := newLab(t, secretOf(publicKeys(signers...)))
	return l, func(mode sourcev1.GitVerificationMode) func(*sourcev1.GitRepository) {
		return func(o *sourcev1.GitRepository) {
			o.Spec.Verify = &sourcev1.GitRepositoryVerification{Mode: mode, SecretRef: meta.LocalObjectReference{Name: "creds"}}
		}
	}
}

func publicKeys(signers ...*testkit.GitSigner) map[string]string {
	keys := map[string]string{}
	for _, s := range signers {
		keys[s.SecretKey] = s.PublicKey
	}
	return keys
}

// trust replaces the public keys in the Secret.
func (l *lab) trust(signers ...*testkit.GitSigner) {
	l.t.Helper()
	var s corev1.Secret
	if err := l.secrets.Get(l.t.Context(), keyOf("creds"), &s); err != nil {
		l.t.Fatal(err)
	}
	s.Data = map[string][]byte{}
	for name, text := range publicKeys(signers...) {
		s.Data[name] = []byte(text)
	}
	if err := l.secrets.Update(l.t.Context(), &s); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) mode() string {
	return string(ptr.Deref(l.get().Status.SourceVerificationMode, "-"))
}

// What each mode says of what is signed and what is not (gitrepository 42, 45-47, 51).
func TestVerification(t *testing.T) {
	pgp, ssh := pgpSigner(t), must(testkit.NewSSHSigner(t.TempDir(), "ed25519"))
	stranger := must(testkit.NewSSHSigner(t.TempDir(), "ed25519"))
	tag := func(name string) func(*sourcev1.GitRepository) {
		return func(o *sourcev1.GitRepository) { o.Spec.Ref = &sourcev1.GitRepositoryRef{Tag: name} }
	}
	for name, test := range map[string]struct {
		mode   sourcev1.GitVerificationMode
		signer *testkit.GitSigner // of commit and tag; nil: nobody
		ref    func(*sourcev1.GitRepository)
		want   string // condition SourceVerified; C and T are the hashes, K the key
		status string
		stalls bool
	}{
		"head, pgp":         {mode: "HEAD", signer: pgp, want: "True Succeeded: verified signature of\n\t- commit 'C' with key 'K'", status: "HEAD"},
		"head, ssh":         {mode: "HEAD", signer: ssh, want: "True Succeeded: verified signature of\n\t- commit 'C' with key 'K'", status: "HEAD"},
		"legacy head":       {mode: "head", signer: ssh, want: "True Succeeded: verified signature of\n\t- commit 'C' with key 'K'", status: "HEAD"},
		"an unknown mode":   {mode: "Both", signer: ssh, want: "True Succeeded: verified signature of\n\t- commit 'C' with key 'K'", status: "HEAD"},
		"tag":               {mode: "Tag", signer: pgp, ref: tag("v1.0.0"), want: "True Succeeded: verified signature of\n\t- tag 'v1.0.0@T' with key 'K'", status: "Tag"},
		"tag of a range":    {mode: "Tag", signer: ssh, ref: func(o *sourcev1.GitRepository) { o.Spec.Ref = &sourcev1.GitRepositoryRef{SemVer: "1.x"} }, want: "True Succeeded: verified signature of\n\t- tag 'v1.0.0@T' with key 'K'", status: "Tag"},
		"both":              {mode: "TagAndHEAD", signer: ssh, ref: tag("v1.0.0"), want: "True Succeeded: verified signature of\n\t- tag 'v1.0.0@T' with key 'K'\n\t- commit 'C' with key 'K'", status: "TagAndHEAD"},
		"no signature":      {mode: "HEAD", want: "False InvalidCommitSignature: unable to verify the signature of commit 'C': unsupported signature type: empty", status: "-"},
		"stranger's commit": {mode: "HEAD", signer: stranger, want: "False InvalidCommitSignature: unable to verify the signature of commit 'C': it is signed with key 'K', which is none of the given ones", status: "-"},
		"stranger's tag":    {mode: "TagAndHEAD", signer: stranger, ref: tag("v1.0.0"), want: "False InvalidTagSignature: unable to verify the signature of tag 'v1.0.0@T': it is signed with key 'K', which is none of the given ones", status: "-"},
		"lightweight tag":   {mode: "Tag", signer: pgp, ref: tag("light"), want: "False InvalidGitObject: cannot verify signature of tag 'light' since it is not signed", status: "-"},
		"tag mode, branch":  {mode: "Tag", signer: pgp, want: "False InvalidVerificationMode: cannot verify tag object's signature if a tag reference is not specified", status: "-", stalls: true},
		"both, but a name": {mode: "TagAndHEAD", signer: pgp, ref: func(o *sourcev1.GitRepository) {
			o.Spec.Ref = &sourcev1.GitRepositoryRef{Tag: "v1.0.0", Name: "refs/tags/v1.0.0"}
		}, want: "False InvalidVerificationMode: cannot verify tag object's signature if a tag reference is not specified", status: "-", stalls: true},
	} {
		t.Run(name, func(t *testing.T) {
			l, verify := trusting(t, pgp, ssh)
			commit, tagObject, keyID := l.commit("init", map[string]string{"app.yaml": "a"}), "", ""
			if test.signer != nil {
				commit = must(l.repo.SignCommit("main", "signed", test.signer))
				tagObject, keyID = must(l.repo.SignTag("v1.0.0", commit, test.signer)), test.signer.ID
			}
			must(l.repo.Commit(testkit.GitCommit{Branch: "other", Message: "light", Tag: "light"}))
			l.create(verify(test.mode), func(o *sourcev1.GitRepository) {
				if test.ref != nil {
					test.ref(o)
				}
			})
			_, _ = l.Run(t.Context(), key())
			want := strings.NewReplacer("'C'", "'"+commit+"'", "@T'", "@"+tagObject+"'", "'K'", "'"+keyID+"'").Replace(test.want)
			expect(t, "SourceVerified", want, l.condition("SourceVerified"))
			expect(t, "mode in the status", test.status, l.mode())
			good := strings.HasPrefix(want, "True")
			if !good {
				expect(t, "Ready", want, l.condition("Ready"))
				expect(t, "FetchFailed", "-", l.condition("FetchFailed"))
			}
			expect(t, "stalled", test.stalls, l.condition("Stalled") != "-")
			expect(t, "stored", good, len(l.files()) == 1)
			lines := l.Lines()
			if good && (len(lines) != 2 || lines[0] != "info Succeeded: "+strings.TrimPrefix(want, "True Succeeded: ")+" (local)") {
				t.Errorf("events = %q, want the signature first", lines)
			}
		})
	}
}

// gitrepository 49-51; reliability 066: whoever changes keys or mode gets a new answer for the revision that is stored.
func TestVerifiedAnew(t *testing.T) {
	pgp, ssh := pgpSigner(t), must(testkit.NewSSHSigner(t.TempDir(), "ed25519"))
	l, verify := trusting(t, ssh)
	l.commit("init", map[string]string{"app.yaml": "a"})
	first := must(l.repo.SignCommit("main", "signed", ssh))
	l.create(verify("HEAD"))
	l.step()
	l.Lines()
	requests := l.requests.Load()
	l.step()
	expect(t, "requests of an interval", int32(1), l.requests.Load()-requests)
	expect(t, "events of an interval", 0, len(l.Lines()))

	l.trust(pgp)
	_, _ = l.Run(t.Context(), key())
	if got := l.condition("SourceVerified"); !strings.HasPrefix(got, "False InvalidCommitSignature: ") {
		t.Errorf("after the key was revoked: SourceVerified = %q", got)
	}
	expect(t, "revision kept (gitrepository 51)", "main@sha1:"+first, l.get().Status.Artifact.Revision)
	if got := l.condition("Ready"); !strings.HasPrefix(got, "False InvalidCommitSignature: ") {
		t.Errorf("Ready = %q", got)
	}

	l.trust(pgp, ssh)
	l.step()
	expect(t, "after the key is back", true, strings.HasPrefix(l.condition("SourceVerified"), "True Succeeded: "))
	expect(t, "Ready", true, strings.HasPrefix(l.condition("Ready"), "True "))

	// gitrepository 41: without spec.verify the interval finds nothing to do; the next revision tells.
	l.edit(func(o *sourcev1.GitRepository) { o.Spec.Verify = nil })
	l.step()
	expect(t, "still said to be verified", true, strings.HasPrefix(l.condition("SourceVerified"), "True Succeeded: "))
	expect(t, "mode", "HEAD", l.mode())
	l.commit("unsigned", map[string]string{"app.yaml": "b"})
	l.step()
	expect(t, "SourceVerified", "-", l.condition("SourceVerified"))
	expect(t, "mode", "-", l.mode())

	// gitrepository 50: switched on, the stored revision is checked.
	l.edit(verify("HEAD"))
	_, _ = l.Run(t.Context(), key())
	if got := l.condition("SourceVerified"); !strings.HasPrefix(got, "False InvalidCommitSignature: ") {
		t.Errorf("switched on over an unsigned commit: %q", got)
	}
	// gitrepository 49: a failure of something else does not leave the old verdict.
	l.edit(func(o *sourcev1.GitRepository) { o.Spec.URL += "/absent" })
	_, _ = l.Run(t.Context(), key())
	expect(t, "SourceVerified", "-", l.condition("SourceVerified"))
}

// A restart does not trust what the process before it has trusted.
func TestVerifiedAfterRestart(t *testing.T) {
	ssh, other := must(testkit.NewSSHSigner(t.TempDir(), "ed25519")), must(testkit.NewSSHSigner(t.TempDir(), "ed25519"))
	l, verify := trusting(t, ssh)
	l.commit("init", map[string]string{"app.yaml": "a"})
	must(l.repo.SignCommit("main", "signed", ssh))
	l.create(verify("HEAD"))
	l.step()
	l.trust(other)
	l.open("storage.test")
	_, _ = l.Run(t.Context(), key())
	if got := l.condition("SourceVerified"); !strings.HasPrefix(got, "False InvalidCommitSignature: ") {
		t.Errorf("SourceVerified = %q", got)
	}
}

// gitrepository 45: keys that cannot be had.
func TestKeysMissing(t *testing.T) {
	for name, test := range map[string]struct {
		data map[string]string
		want string
	}{
		"no Secret": {nil, "reading public keys from secret 'apps/creds': failed to get secret 'apps/creds': "},
		"no keys":   {map[string]string{"a.asc": "x"}, "reading public keys from secret 'apps/creds': no usable public keys: key 'a.asc'"},
	} {
		l := newLab(t)
		if test.data != nil {
			l = newLab(t, secretOf(test.data))
		}
		l.commit("init", map[string]string{"app.yaml": "a"})
		l.create(func(o *sourcev1.GitRepository) {
			o.Spec.Verify = &sourcev1.GitRepositoryVerification{Mode: "HEAD", SecretRef: meta.LocalObjectReference{Name: "creds"}}
		})
		_, err := l.Run(t.Context(), key())
		for _, c := range []string{"Ready", "SourceVerified"} {
			if got := l.condition(c); !strings.HasPrefix(got, "False VerificationError: "+test.want) {
				t.Errorf("%s: %s = %q, want %q", name, c, got, test.want)
			}
		}
		if err == nil {
			t.Errorf("%s: it is not tried again", name)
		}
	}
}

// The order of the modes is a fact of its own (gitrepository 50).
func TestModesCover(t *testing.T) {
	got := map[string]bool{}
	for _, observed := range []sourcev1.GitVerificationMode{"", "HEAD", "Tag", "TagAndHEAD"} {
		for _, requested := range []sourcev1.GitVerificationMode{"HEAD", "Tag", "TagAndHEAD"} {
			got[string(observed+">"+requested)] = covers(observed, requested)
		}
	}
	want := map[string]bool{
		">HEAD": false, ">Tag": false, ">TagAndHEAD": false,
		"HEAD>HEAD": true, "HEAD>Tag": false, "HEAD>TagAndHEAD": false,
		"Tag>HEAD": false, "Tag>Tag": true, "Tag>TagAndHEAD": false,
		"TagAndHEAD>HEAD": true, "TagAndHEAD>Tag": true, "TagAndHEAD>TagAndHEAD": true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
