package sops_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
	upstream "github.com/getsops/sops/v3"
	"github.com/getsops/sops/v3/keys"
	"golang.org/x/crypto/ssh"

	"github.com/seed-79636ae9/flux/toolkit/secret"
	"github.com/seed-79636ae9/flux/toolkit/sops"
	"github.com/seed-79636ae9/flux/toolkit/sops/sopstest"
)

// kustomization 45: every format of SOPS.
func TestFormats(t *testing.T) {
	id := sopstest.NewIdentity(t)
	for format, plain := range map[sops.Format]string{
		sops.YAML:   "# a comment\nuser: admin\nports:\n    - 80\n    - 443\nnested:\n    open: true\n    rate: 1.5\n",
		sops.JSON:   "{\n\t\"user\": \"admin\",\n\t\"ports\": [\n\t\t80,\n\t\t443\n\t]\n}\n",
		sops.Dotenv: "USER=admin\nPASSWORD=swordfish\n",
		sops.INI:    "[db]\nuser     = admin\npassword = swordfish\n",
		sops.Binary: "\x00\x01 not any text \xff",
	} {
		t.Run(format.String(), func(t *testing.T) {
			content := sopstest.File{Format: format, Groups: id.Group(t)}.Encrypt(t, plain)
			if bytes.Contains(content, []byte("admin")) {
				t.Fatalf("the fixture is not encrypted:\n%s", content)
			}
			found, encrypted := sops.Detect(content)
			if want := format; !encrypted || found != want && !(want == sops.Binary && found == sops.JSON) {
				t.Errorf("taken for %s, %t", found, encrypted)
			}
			got, err := decrypter(t, id).Decrypt(t.Context(), content, format, format)
			if err != nil {
				t.Fatal(err)
			}
			if strings.TrimSpace(string(got)) != strings.TrimSpace(plain) {
				t.Errorf("got %q, want %q", got, plain)
			}
		})
	}
	for name, content := range map[string]string{
		"plain": "a: b\n", "talks of it": "note: |\n  values look like ENC[AES256_GCM,...]\n", "empty": "",
	} {
		if f, encrypted := sops.Detect([]byte(content)); encrypted {
			t.Errorf("%s is taken for encrypted %s", name, f)
		}
	}
}

// kustomization 45: the extension tells the format.
func TestFormatOf(t *testing.T) {
	for name, want := range map[string]sops.Format{
		"a.yaml": sops.YAML, "b.yml": sops.YAML, "c.json": sops.JSON, ".dockerconfigjson": sops.JSON, "d.env": sops.Dotenv, ".env": sops.Dotenv,
		"e.ini": sops.INI, "f.txt": sops.Binary, "key": sops.Binary,
	} {
		if got := sops.FormatOf(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// kustomization 40: keys that need no server.
func TestLocalKeys(t *testing.T) {
	entity, private := sopstest.NewPGP(t)
	fingerprint := fmt.Sprintf("%X", entity.PrimaryKey.Fingerprint)
	x, hybrid, ed, rsa := sopstest.NewIdentity(t), sopstest.NewHybrid(t), sopstest.NewSSH(t, ssh.KeyAlgoED25519), sopstest.NewSSH(t, ssh.KeyAlgoRSA)
	for name, test := range map[string]struct {
		key  keys.MasterKey
		data []string
	}{
		"age":              {sopstest.Recipient(t, x.Public), []string{"id.agekey", "# created: today\n\n" + x.Private + "\n"}},
		"age, later line":  {sopstest.Recipient(t, x.Public), []string{"id.agekey", sopstest.NewIdentity(t).Private + "\n" + x.Private}},
		"age, second key":  {sopstest.Recipient(t, x.Public), []string{"a.agekey", sopstest.NewIdentity(t).Private, "b.agekey", x.Private}},
		"age post-quantum": {sopstest.Recipient(t, hybrid.Public), []string{"id.agekey", hybrid.Private}},
		"ssh ed25519":      {sopstest.Recipient(t, ed.Public), []string{"id.agekey", ed.Private}},
		"ssh rsa":          {sopstest.Recipient(t, rsa.Public), []string{"id.agekey", rsa.Private}},
		"pgp":              {sopstest.PGPKey(fingerprint), []string{"key.asc", private}},
	} {
		t.Run(name, func(t *testing.T) {
			content := sopstest.File{Format: sops.YAML, Groups: sopstest.Group(test.key), PGP: openpgp.EntityList{entity}}.Encrypt(t, "password: swordfish\n")
			got, err := sops.New(sops.Options{Keys: parse(t, test.data...)}).Decrypt(t.Context(), content, sops.YAML, sops.YAML)
			if err != nil || string(got) != "password: swordfish\n" {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

// kustomization 40, 41: what a Secret may hold, and that no message shows it.
func TestParseKeys(t *testing.T) {
	entity, private := sopstest.NewPGP(t)
	public := sopstest.Armored(t, openpgp.PublicKeyType, func(w *bytes.Buffer) error { return entity.Serialize(w) })
	for name, test := range map[string]struct{ key, value, want string }{
		"no age identity":   {"a.agekey", "hunter22hunter22", "key 'a.agekey': line 1 is not an age identity"},
		"a broken identity": {"a.agekey", sopstest.NewIdentity(t).Private[:40], "key 'a.agekey': line 1 is not an age identity"},
		"a plugin":          {"a.agekey", "AGE-PLUGIN-YUBIKEY-1QQPQQQQQQQ", "names a plugin of age, and no programs are started"},
		"a broken SSH key":  {"a.agekey", "-----BEGIN OPENSSH PRIVATE KEY-----\nhunter22\n-----END OPENSSH PRIVATE KEY-----", "not an SSH private key"},
		"no PGP key":        {"k.asc", "hunter22", "key 'k.asc': not a PGP key in ASCII armor"},
		"a public PGP key":  {"k.asc", public, "is public: export the private one"},
		"no AWS keys":       {sops.AWSKey, "aws_access_key_id: hunter22", "key 'sops.aws-kms': not YAML with"},
		"AWS text":          {sops.AWSKey, "\thunter22", "key 'sops.aws-kms': not YAML with"},
		"managed identity":  {sops.AzureKey, "clientId: hunter22", "for a managed identity leave the key out"},
		"no tenant":         {sops.AzureKey, "clientId: x\nclientSecret: hunter22", "tenantId or clientId is missing"},
		"GCP, no JSON":      {sops.GCPKey, "hunter22", "key 'sops.gcp-kms': not JSON"},
		"GCP, external":     {sops.GCPKey, `{"type": "external_account", "credential_source": {"file": "/etc/passwd"}}`, "not the key of a service account"},
		"Vault's address":   {sops.VaultAddressKey, "vault.example.com", "the address of a Vault has the form"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := sops.ParseKeys(material(test.key, test.value))
			failsWith(t, err, test.want, "hunter22", "AGE-SECRET-KEY-1")
			var key *secret.KeyError
			if !errors.As(err, &key) {
				t.Errorf("%T is no KeyError", err)
			}
		})
	}
	if _, err := sops.ParseKeys(material("note.txt", "not a key", "k.asc", private)); err != nil {
		t.Errorf("other keys are ignored: %v", err)
	}
	if _, err := sops.ParseAgeKeys(material("k.asc", "not a key", sops.AWSKey, "nor this")); err != nil {
		t.Errorf("only age identities are looked at: %v", err)
	}
	one, same, other := parse(t, "a", "b"), parse(t, "a", "b"), parse(t, "a", "c")
	if one.Fingerprint() != same.Fingerprint() || one.Fingerprint() == other.Fingerprint() || (*sops.Keys)(nil).Fingerprint() == one.Fingerprint() {
		t.Error("the fingerprint does not tell keys apart, or tells equal ones apart")
	}
	many := strings.Repeat(sopstest.NewIdentity(t).Private+"\n", 101)
	_, err := sops.ParseKeys(material("a.agekey", many))
	failsWith(t, err, "more than 100 age and PGP keys", "AGE-SECRET-KEY-1")
}

// kustomization 44: kustomize changes fields that the message authentication code covers.
func TestMACIsNotVerified(t *testing.T) {
	id := sopstest.NewIdentity(t)
	content := sopstest.File{Format: sops.YAML, Groups: id.Group(t), Regex: "^data$"}.Encrypt(t, "name: before\ndata: swordfish\n")
	content = bytes.Replace(content, []byte("before"), []byte("after"), 1)
	got, err := decrypter(t, id).Decrypt(t.Context(), content, sops.YAML, sops.YAML)
	if err != nil || string(got) != "name: after\ndata: swordfish\n" {
		t.Errorf("got %q, %v", got, err)
	}
}

// Keys are shared out among groups.
func TestKeyGroups(t *testing.T) {
	a, b, c := sopstest.NewIdentity(t), sopstest.NewIdentity(t), sopstest.NewIdentity(t)
	groups := []upstream.KeyGroup{{sopstest.Recipient(t, a.Public)}, {sopstest.Recipient(t, b.Public)}, {sopstest.Recipient(t, c.Public)}}
	content := sopstest.File{Format: sops.JSON, Groups: groups, Threshold: 2}.Encrypt(t, `{"password": "swordfish"}`)
	two := sops.New(sops.Options{Keys: parse(t, "a.agekey", a.Private, "c.agekey", c.Private)})
	if got, err := two.Decrypt(t.Context(), content, sops.JSON, sops.JSON); err != nil || !bytes.Contains(got, []byte("swordfish")) {
		t.Errorf("two of three: %q, %v", got, err)
	}
	_, err := decrypter(t, a).Decrypt(t.Context(), content, sops.JSON, sops.JSON)
	failsWith(t, err, "encrypted with a Shamir threshold of", "swordfish")
}

// reliability 056: a patch has put plain text where SOPS has encrypted something.
func TestPatchedValueIsNotShown(t *testing.T) {
	id := sopstest.NewIdentity(t)
	content := string(sopstest.File{Format: sops.YAML, Groups: id.Group(t)}.Encrypt(t, "data:\n    empty: \"\"\n    password: swordfish\n"))
	before, after, _ := strings.Cut(content, "password: ")
	_, rest, _ := strings.Cut(after, "\n")
	for name, value := range map[string]string{
		"plain text": "opensesame", "of another file": "ENC[AES256_GCM,data:b3BlbnNlc2FtZQ==,iv:b3BlbnNlc2FtZQ==,tag:b3BlbnNlc2FtZQ==,type:str]",
	} {
		_, err := decrypter(t, id).Decrypt(t.Context(), []byte(before+"password: "+value+"\n"+rest), sops.YAML, sops.YAML)
		failsWith(t, err, "the value of 'data.password' is not what SOPS has encrypted there", "opensesame", "b3Blbn", "swordfish")
		if t.Failed() {
			t.Fatal(name)
		}
	}
}

// What was decrypted is in no later message, in none of its spellings (reliability 054).
func TestRedact(t *testing.T) {
	id := sopstest.NewIdentity(t)
	d := decrypter(t, id)
	content := sopstest.File{Format: sops.YAML, Groups: id.Group(t)}.Encrypt(t, "a: swordfish\nb: \"first line\\nsecond \\\"line\\\"\\n\"\nc: b3BlbnNlc2FtZQ==\n")
	if _, err := d.Decrypt(t.Context(), content, sops.YAML, sops.YAML); err != nil {
		t.Fatal(err)
	}
	cause := errors.New(`cannot read swordfish, "first line\nsecond \"line\"\n", second "line" and opensesame`)
	err := d.Redact(cause)
	failsWith(t, err, "cannot read ***", "swordfish", "line", "opensesame")
	if !errors.Is(err, cause) || d.Redact(nil) != nil {
		t.Error("the error has lost its cause")
	}
	for range 3 {
		content := sopstest.File{Format: sops.Binary, Groups: id.Group(t)}.Encrypt(t, strings.Repeat("x", 3<<20)+"tunafish")
		if _, err := d.Decrypt(t.Context(), content, sops.Binary, sops.Binary); err != nil {
			t.Fatal(err)
		}
	}
	failsWith(t, d.Redact(errors.New("cannot read tunafish")), "the cause is not shown", "tunafish")
}

// kustomization 40: what gpg encrypts for a key that gpg has exported.
func TestGnuPG(t *testing.T) {
	home, err := os.MkdirTemp("", "gpg") // sockets need a short path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(home); err != nil {
			t.Error(err)
		}
	})
	gpg := func(input []byte, args ...string) []byte {
		command := exec.Command("gpg", append([]string{"--batch", "--homedir", home, "--pinentry-mode", "loopback", "--passphrase", "", "--trust-model", "always"}, args...)...)
		command.Stdin = bytes.NewReader(input)
		var problems bytes.Buffer
		command.Stderr = &problems
		out, err := command.Output()
		if err != nil {
			t.Fatalf("gpg %v: %v\n%s", args, err, problems.Bytes())
		}
		return out
	}
	for _, kind := range []string{"default", "future-default"} {
		address := kind + "@example.com"
		gpg(nil, "--quick-generate-key", address, kind, "default", "never")
		private := gpg(nil, "--armor", "--export-secret-keys", address)
		f := sopstest.File{Format: sops.YAML, Groups: sopstest.Group(sopstest.PGPKey(address)), Seal: func(plain []byte) []byte {
			return gpg(plain, "--armor", "--encrypt", "--recipient", address)
		}}
		d := sops.New(sops.Options{Keys: parse(t, "key.asc", string(private))})
		got, err := d.Decrypt(t.Context(), f.Encrypt(t, "password: swordfish\n"), sops.YAML, sops.YAML)
		if err != nil || string(got) != "password: swordfish\n" {
			t.Errorf("%s: got %q, %v", kind, got, err)
		}
	}
}
