package git_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/git"
)

func signers(t testing.TB) (pgp, ssh *testkit.GitSigner) {
	t.Helper()
	pgp, ssh = must(testkit.NewPGPSigner(t.TempDir())), must(testkit.NewSSHSigner(t.TempDir(), "ed25519"))
	t.Cleanup(func() { check(t, pgp.Close()) })
	return pgp, ssh
}

func keysOf(signers ...*testkit.GitSigner) map[string][]byte {
	data := map[string][]byte{}
	for i, s := range signers {
		data[fmt.Sprintf("%d-%s", i, s.SecretKey)] = []byte(s.PublicKey)
	}
	return data
}

// signedTag returns the fetched tag v1 whose commit and object are signed.
func signedTag(t testing.TB, s *testkit.GitSigner) *git.Checkout {
	t.Helper()
	server := gitServer(t)
	repo := app(t, server)
	commit := must(repo.SignCommit("main", "signed\n\nwith a body", s))
	must(repo.SignTag("v1", commit, s))
	client := must(git.New(git.Options{URL: server.URL + "/app.git"}))
	t.Cleanup(client.Close)
	checkout := must(client.Fetch(t.Context(), git.Reference{Tag: "v1"}, t.TempDir()))
	t.Cleanup(func() { check(t, checkout.Close()) })
	return checkout
}

// TestSignatures verifies what git signs (gitrepository 43, 44, 47).
func TestSignatures(t *testing.T) {
	pgp, ssh := signers(t)
	otherPGP, otherSSH := signers(t)
	rsa := must(testkit.NewSSHSigner(t.TempDir(), "rsa"))
	ecdsa := must(testkit.NewSSHSigner(t.TempDir(), "ecdsa"))
	for name, test := range map[string]struct {
		signer *testkit.GitSigner
		keys   map[string][]byte
		want   string // part of the error
	}{
		"pgp":                         {signer: pgp, keys: keysOf(pgp)},
		"pgp, second of two rings":    {signer: pgp, keys: keysOf(otherPGP, pgp)},
		"pgp, both rings in one file": {signer: pgp, keys: map[string][]byte{"keys.txt": []byte(otherPGP.PublicKey + pgp.PublicKey), "other": []byte(pgp.PublicKey)}},
		"ssh":                         {signer: ssh, keys: keysOf(ssh)},
		"ssh rsa":                     {signer: rsa, keys: keysOf(rsa)},
		"ssh ecdsa":                   {signer: ecdsa, keys: keysOf(ecdsa)},
		"ssh, second line of a file":  {signer: ssh, keys: map[string][]byte{"a.sshpub": []byte("# team\n" + otherSSH.PublicKey + "\n" + ssh.PublicKey)}},
		"ssh, line with options":      {signer: ssh, keys: map[string][]byte{"a.sshpub": []byte(`namespaces="git" ` + ssh.PublicKey)}},
		"both kinds of keys":          {signer: ssh, keys: keysOf(pgp, ssh)},
		"pgp, wrong ring":             {signer: pgp, keys: keysOf(otherPGP), want: "unable to verify it with any of the given key rings"},
		"ssh, wrong key":              {signer: ssh, keys: keysOf(otherSSH), want: "which is none of the given ones"},
		"pgp without pgp keys":        {signer: pgp, keys: keysOf(ssh), want: "there are no PGP keys"},
		"ssh without ssh keys":        {signer: ssh, keys: keysOf(pgp), want: "there are no SSH keys"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkout := signedTag(t, test.signer)
			keys := must(git.KeysFromSecret(test.keys))
			commitKey, commitErr := keys.VerifyCommit(checkout.Commit)
			tagKey, tagErr := keys.VerifyTag(*checkout.Tag)
			if test.want == "" {
				if diff := cmp.Diff([]any{test.signer.ID, nil, test.signer.ID, nil}, []any{commitKey, commitErr, tagKey, tagErr}); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				return
			}
			for _, err := range []error{commitErr, tagErr} {
				if !errors.Is(err, git.ErrSignature) || !strings.Contains(err.Error(), test.want) {
					t.Errorf("%v, want ErrSignature with %q", err, test.want)
				}
			}
		})
	}
}

// TestForgedSignatures changes what was signed (reliability 006).
func TestForgedSignatures(t *testing.T) {
	pgp, ssh := signers(t)
	for name, s := range map[string]*testkit.GitSigner{"pgp": pgp, "ssh": ssh} {
		keys := must(git.KeysFromSecret(keysOf(pgp, ssh)))
		checkout := signedTag(t, s)
		raw, tagRaw := checkout.Commit.Raw, checkout.Tag.Raw
		zero := strings.Repeat("0", 40)
		headerEnd := bytes.Index(raw, []byte("\n\n"))
		for what, forged := range map[string][]byte{
			"message":                        append(bytes.Clone(raw), 'x'),
			"tree":                           append([]byte("tree "+zero), raw[len("tree ")+40:]...),
			"header after the signature":     bytes.Join([][]byte{raw[:headerEnd], raw[headerEnd:]}, []byte("\nparent "+zero)),
			"continuation":                   bytes.Join([][]byte{raw[:headerEnd], raw[headerEnd:]}, []byte("\nx a\n tree "+zero)),
			"signature in the message alone": bytes.Replace(raw, []byte("\ngpgsig "), []byte("\n\ngpgsig "), 1),
			"no signature":                   []byte("tree " + zero + "\nauthor a <a> 1 +0000\ncommitter a <a> 1 +0000\n\nm"),
			"other header":                   bytes.Replace(raw, []byte("\ngpgsig "), []byte("\ngpgsig-sha256 "), 1),
			"truncated":                      raw[:headerEnd-60],
		} {
			if key, err := keys.VerifyCommit(git.Commit{Hash: zero, Raw: forged}); !errors.Is(err, git.ErrSignature) {
				t.Errorf("%s, %s: key %q, %v, want ErrSignature", name, what, key, err)
			}
		}
		tag := *checkout.Tag
		for what, forged := range map[string][]byte{
			"target":             bytes.Replace(tagRaw, []byte(checkout.Commit.Hash), []byte(zero), 1),
			"another signature":  append(bytes.Clone(tagRaw), "-----BEGIN SSH SIGNATURE-----\nx\n-----END SSH SIGNATURE-----\n"...),
			"text in between":    bytes.Replace(tagRaw, []byte("-----BEGIN"), []byte("more\n-----BEGIN"), 1),
			"not at line begin":  bytes.Replace(tagRaw, []byte("\n-----BEGIN"), []byte("\n -----BEGIN"), 1),
			"x509 in its place":  bytes.ReplaceAll(tagRaw, []byte("-----BEGIN PGP SIGNATURE-----"), []byte("-----BEGIN SIGNED MESSAGE-----")),
			"only the signature": tagRaw[bytes.Index(tagRaw, []byte("-----BEGIN")):],
		} {
			if name == "ssh" && what == "x509 in its place" {
				continue
			}
			tag.Raw = forged
			if key, err := keys.VerifyTag(tag); !errors.Is(err, git.ErrSignature) {
				t.Errorf("%s, tag, %s: key %q, %v, want ErrSignature", name, what, key, err)
			}
		}
		renamed := *checkout.Tag
		renamed.Name = "v2"
		if _, err := keys.VerifyTag(renamed); !errors.Is(err, git.ErrSignature) || !strings.Contains(err.Error(), "what is signed is the tag 'v1'") {
			t.Errorf("%s: a signed tag under another name: %v", name, err)
		}
	}
}

func TestKeys(t *testing.T) {
	pgp, ssh := signers(t)
	broken := map[string][]byte{"broken.asc": []byte("no ring"), "broken.sshpub": []byte("no key")}
	for name, test := range map[string]struct {
		data map[string][]byte
		want string
	}{
		"none":                       {want: "no usable public keys: there are none"},
		"broken only":                {data: broken, want: "no usable public keys: key 'broken.asc': it is no armored PGP key ring"},
		"suffix decides, pgp in ssh": {data: map[string][]byte{"a.sshpub": []byte(pgp.PublicKey)}, want: "no line in the format of authorized_keys"},
		"suffix decides, ssh in pgp": {data: map[string][]byte{"a.pub": []byte(ssh.PublicKey)}, want: "no armored PGP key ring"},
	} {
		_, err := git.KeysFromSecret(test.data)
		if !errors.Is(err, git.ErrInvalidKeys) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want ErrInvalidKeys with %q", name, err, test.want)
		}
	}
	// gitrepository 48: a broken key among good ones is left out.
	for _, s := range []*testkit.GitSigner{pgp, ssh} {
		data := maps.Clone(broken)
		maps.Copy(data, keysOf(s))
		checkout := signedTag(t, s)
		if key, err := must(git.KeysFromSecret(data)).VerifyCommit(checkout.Commit); err != nil || key != s.ID {
			t.Errorf("gitrepository 48: key %q, %v", key, err)
		}
	}
}

func TestUnsigned(t *testing.T) {
	server := gitServer(t)
	repo := app(t, server)
	must(repo.Commit(testkit.GitCommit{Branch: "main", Message: "second", AnnotatedTag: "v2"}))
	client := must(git.New(git.Options{URL: server.URL + "/app.git"}))
	defer client.Close()
	_, ssh := signers(t)
	keys := must(git.KeysFromSecret(keysOf(ssh)))
	for _, name := range []string{"v1.0.0", "v2"} {
		checkout := must(client.Fetch(t.Context(), git.Reference{Tag: name}, t.TempDir()))
		_, err := keys.VerifyCommit(checkout.Commit)
		want := "unable to verify the signature of commit '" + checkout.Commit.Hash + "': unsupported signature type: empty"
		if err == nil || err.Error() != want {
			t.Errorf("gitrepository 45: %v, want %q", err, want)
		}
		if checkout.Tag.Signed() {
			t.Errorf("tag %s is called signed", name)
		}
		if _, err := keys.VerifyTag(*checkout.Tag); !errors.Is(err, git.ErrSignature) {
			t.Errorf("tag %s: %v, want ErrSignature", name, err)
		}
		check(t, checkout.Close())
	}
}
