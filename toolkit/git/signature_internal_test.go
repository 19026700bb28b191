package git

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
)

func TestSplitHeader(t *testing.T) {
	for name, test := range map[string]struct{ raw, payload, signature string }{
		"none":             {"tree 1\n\nm\n", "tree 1\n\nm\n", ""},
		"one":              {"tree 1\ngpgsig a\n b\n \n c\nx y\n\nm\ngpgsig no\n", "tree 1\nx y\n\nm\ngpgsig no\n", "a\nb\n\nc\n"},
		"other algorithm":  {"tree 1\ngpgsig-sha256 a\n b\ngpgsig c\n\nm", "tree 1\n\nm", "c\n"},
		"in a merged tag":  {"tree 1\nmergetag object 2\n gpgsig no\n\nm", "tree 1\nmergetag object 2\n gpgsig no\n\nm", ""},
		"without an end":   {"tree 1\ngpgsig a", "tree 1\n", "a"},
		"look-alike":       {"tree 1\ngpgsigned a\n b\n\nm", "tree 1\n\nm", ""},
		"continued nobody": {" a\ntree 1\n\n", " a\ntree 1\n\n", ""},
	} {
		payload, signature := splitHeader([]byte(test.raw))
		if diff := gocmp.Diff([]string{test.payload, test.signature}, []string{string(payload), string(signature)}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestNamespace: a signature that was made for something else than a Git object does not count (gitrepository 47).
func TestNamespace(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	keys := &Keys{ssh: []ssh.PublicKey{key}}
	object := "tree 1\n\nm\n"
	for namespace, ok := range map[string]bool{"git": true, "file": false, "": false} {
		s, err := sshsig.Sign(strings.NewReader(object), signer, sshsig.HashSHA512, cmp.Or(namespace, "x"))
		if err != nil {
			t.Fatal(err)
		}
		s.Namespace = namespace
		armor := strings.ReplaceAll(strings.TrimSpace(string(sshsig.Armor(s))), "\n", "\n ")
		_, err = keys.VerifyCommit(Commit{Raw: []byte("tree 1\ngpgsig " + armor + "\n\nm\n")})
		if (err == nil) != ok {
			t.Errorf("namespace %q: %v", namespace, err)
		}
	}
}

// FuzzSignature: whatever an object holds, nothing panics, nothing verifies and the signed bytes are a part of it.
func FuzzSignature(f *testing.F) {
	f.Add([]byte("tree 1\ngpgsig -----BEGIN PGP SIGNATURE-----\n \n wg==\n -----END PGP SIGNATURE-----\n\nm"))
	f.Add([]byte("object 1\ntype commit\ntag v1\n\nm\n-----BEGIN SSH SIGNATURE-----\nU1NIU0lH\n-----END SSH SIGNATURE-----\n"))
	keys, err := KeysFromSecret(map[string][]byte{
		"a.sshpub": []byte("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBYfbvMnbKFxe5A8bKeNqXWsSCQuhQmf1LrqP1vHC1zQ signer"),
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if _, err := keys.VerifyCommit(Commit{Raw: raw}); err == nil {
			t.Error("a commit verifies")
		}
		if _, err := keys.VerifyTag(Tag{Raw: raw}); err == nil {
			t.Error("a tag verifies")
		}
		payload, signature := splitTag(raw)
		if len(payload)+len(signature) > len(raw) || !bytes.HasSuffix(raw, signature) {
			t.Errorf("%q splits into %q and %q", raw, payload, signature)
		}
	})
}
