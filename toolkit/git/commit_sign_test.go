package git_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/ProtonMail/go-crypto/openpgp/s2k"

	"github.com/seed-79636ae9/flux/toolkit/git"
)

// run runs a program that makes keys.
func run(t testing.TB, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, stderr.String())
	}
	return string(out)
}

// imageupdateautomation 27: signatures of all sorts of keys, encrypted ones too, hold before git, which asks gpg and ssh-keygen.
func TestSign(t *testing.T) {
	server := gitServer(t)
	repo := shelf(t, server)
	client := clientOf(t, git.Options{URL: server.URL + "/app.git"})
	home := t.TempDir()
	check(t, os.Chmod(home, 0o700))
	env := []string{"GNUPGHOME=" + home}
	t.Cleanup(func() { run(t, env, "gpgconf", "--kill", "gpg-agent") })
	allowed := filepath.Join(t.TempDir(), "allowed")

	pgpKey := func(algorithm, passphrase string) git.Signer {
		before := run(t, env, "gpg", "--batch", "--with-colons", "--list-keys")
		user := algorithm + passphrase + " <bot@example.com>"
		run(t, env, "gpg", "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", passphrase, "--quick-gen-key", user, algorithm, "sign", "never")
		id := ""
		for line := range strings.Lines(run(t, env, "gpg", "--batch", "--with-colons", "--list-keys")) {
			if fields := strings.Split(line, ":"); fields[0] == "pub" && !strings.Contains(before, fields[4]) {
				id = fields[4]
			}
		}
		armored := run(t, env, "gpg", "--batch", "--pinentry-mode", "loopback", "--passphrase", passphrase, "--armor", "--export-secret-keys", id)
		return must(git.NewPGPSigner([]byte(armored), []byte(passphrase)))
	}
	sshKey := func(kind, passphrase string) git.Signer {
		file := filepath.Join(t.TempDir(), "id")
		run(t, nil, "ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "bot", "-f", file)
		f := must(os.OpenFile(allowed, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600))
		_ = must(f.WriteString("bot@example.com " + string(must(os.ReadFile(file+".pub")))))
		check(t, f.Close())
		return must(git.NewSSHSigner(must(os.ReadFile(file)), []byte(passphrase)))
	}
	for name, test := range map[string]struct {
		signer git.Signer
		want   string
	}{
		"pgp ed25519":           {pgpKey("ed25519", ""), "Good signature from"},
		"pgp ed25519 encrypted": {pgpKey("ed25519", "swordfish"), "Good signature from"},
		"pgp rsa":               {pgpKey("rsa2048", ""), "Good signature from"},
		"ssh ed25519":           {sshKey("ed25519", ""), `Good "git" signature for bot@example.com`},
		"ssh ed25519 encrypted": {sshKey("ed25519", "swordfish"), `Good "git" signature for bot@example.com`},
		"ssh rsa":               {sshKey("rsa", ""), `Good "git" signature for bot@example.com`},
		"ssh ecdsa":             {sshKey("ecdsa", ""), `Good "git" signature for bot@example.com`},
	} {
		t.Run(name, func(t *testing.T) {
			o := edit("a.yaml", "signed: "+name+"\n")
			o.Signer, o.Message = test.signer, "Signed\n\nby "+name
			d := draft(t, client, "main", o)
			check(t, client.Push(t.Context(), d, git.Update{Ref: "refs/heads/main", From: &d.Parent}, t.TempDir()))
			testkitGit(t, repo, "fsck", "--strict")
			cmd := exec.Command("git", "-C", repo.Dir, "-c", "gpg.ssh.allowedSignersFile="+allowed, "verify-commit", "-v", d.Hash)
			cmd.Env = append(os.Environ(), env...)
			said, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(said), test.want) {
				t.Errorf("verify-commit: %v\n%s", err, said)
			}
			// What is verified when the source is fetched holds as well.
			checkout := must(client.Fetch(t.Context(), git.Reference{Branch: "main"}, t.TempDir()))
			defer checkout.Close()
			if checkout.Commit.Hash != d.Hash || checkout.Commit.Message != d.Message {
				t.Errorf("fetched %s %q", checkout.Commit.Hash, checkout.Commit.Message)
			}
		})
	}
}

// imageupdateautomation 27: which keys are refused, and that no error shows what they hold.
func TestSigningKeys(t *testing.T) {
	ring := func(edit func(*openpgp.Entity), n int) []byte {
		var out bytes.Buffer
		w := must(armor.Encode(&out, openpgp.PrivateKeyType, nil))
		for range n {
			e := must(openpgp.NewEntity("bot", "", "bot@example.com", nil))
			edit(e)
			check(t, e.SerializePrivateWithoutSigning(w, nil))
		}
		check(t, w.Close())
		return out.Bytes()
	}
	nothing := func(*openpgp.Entity) {}
	encrypted := ring(func(e *openpgp.Entity) { check(t, e.EncryptPrivateKeys([]byte("swordfish"), nil)) }, 1)
	var public bytes.Buffer
	w := must(armor.Encode(&public, openpgp.PublicKeyType, nil))
	check(t, must(openpgp.NewEntity("bot", "", "bot@example.com", nil)).Serialize(w))
	check(t, w.Close())
	for name, test := range map[string]struct {
		key, passphrase []byte
		want            string
	}{
		"one key":               {ring(nothing, 1), nil, ""},
		"needless passphrase":   {ring(nothing, 1), []byte("swordfish"), ""},
		"right passphrase":      {encrypted, []byte("swordfish"), ""},
		"no passphrase":         {encrypted, nil, "there is no passphrase"},
		"wrong passphrase":      {encrypted, []byte("hunter2"), "cannot be decrypted with the passphrase"},
		"two keys":              {ring(nothing, 2), nil, "holds 2 keys, and must hold one"},
		"public key":            {public.Bytes(), nil, "public key alone"},
		"no key":                {[]byte("hello"), nil, "no armored PGP key ring"},
		"nothing":               {nil, nil, "no armored PGP key ring"},
		"cut":                   {encrypted[:len(encrypted)/2], nil, ""},
		"an SSH key, not PGP's": {[]byte("-----BEGIN OPENSSH PRIVATE KEY-----\n"), nil, "no armored PGP key ring"},
	} {
		signer, err := git.NewPGPSigner(test.key, test.passphrase)
		if name == "cut" {
			test.want = "invalid signing key"
		}
		switch {
		case test.want == "" && (err != nil || len(must(signer.Sign([]byte("x")))) == 0):
			t.Errorf("%s: %v", name, err)
		case test.want != "" && (!errors.Is(err, git.ErrSigningKey) || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: %v, want %q", name, err, test.want)
		case err != nil && (strings.Contains(err.Error(), "swordfish") || strings.Contains(err.Error(), "hunter2")):
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, v6 := range []bool{false, true} {
		config := &packet.Config{
			V6Keys: v6, AEADConfig: &packet.AEADConfig{}, S2KConfig: &s2k.Config{
				S2KMode: s2k.Argon2S2K, Argon2Config: &s2k.Argon2Config{NumberOfPasses: 7, DegreeOfParallelism: 5, Memory: 1 << 16},
			},
		}
		if v6 {
			config.Algorithm = packet.PubKeyAlgoEd25519
		}
		e := must(openpgp.NewEntity("bot", "", "bot@example.com", config))
		check(t, e.EncryptPrivateKeys([]byte("swordfish"), config))
		var raw bytes.Buffer
		check(t, e.SerializePrivateWithoutSigning(&raw, config))
		sensible, costs := []byte{7, 5, 16}, []byte{7, 5, 31}
		if bytes.Count(raw.Bytes(), sensible) == 0 {
			t.Fatal("the key does not say what it costs")
		}
		for i, content := range [][]byte{raw.Bytes(), bytes.ReplaceAll(raw.Bytes(), sensible, costs)} {
			var out bytes.Buffer
			w := must(armor.Encode(&out, openpgp.PrivateKeyType, nil))
			must(w.Write(content))
			check(t, w.Close())
			_, err := git.NewPGPSigner(out.Bytes(), []byte("swordfish"))
			if i == 0 && err != nil || i == 1 && (!errors.Is(err, git.ErrSigningKey) || !strings.Contains(err.Error(), "2^31 KiB of memory")) {
				t.Errorf("version 6: %t: a key that costs memory: %v", v6, err)
			}
		}
	}
	if _, err := git.NewSSHSigner([]byte("hello"), nil); !errors.Is(err, git.ErrSigningKey) {
		t.Errorf("no SSH key: %v", err)
	}
}
