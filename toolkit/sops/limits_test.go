package sops_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	upstream "github.com/getsops/sops/v3"
	"github.com/getsops/sops/v3/hcvault"

	"github.com/seed-79636ae9/flux/toolkit/sops"
	"github.com/seed-79636ae9/flux/toolkit/sops/sopstest"
)

// recordedFailure is the beginning of what 2.9 said about a wrong key (recording sops-age-wrong-key).
const recordedFailure = `cannot get sops data key: Failed to get the data key required to decrypt the SOPS file.

Group 0: FAILED
  %s: FAILED
    - | failed to create reader for decrypting sops data key with
      | age: identity did not match any of the recipients: incorrect
      | identity for recipient block

Recovery failed because no master key was able to decrypt the file.`

func TestWrongAndMissingKeys(t *testing.T) {
	id := sopstest.NewIdentity(t)
	content := sopstest.File{Format: sops.YAML, Groups: id.Group(t)}.Encrypt(t, "password: swordfish\n")
	_, err := decrypter(t, sopstest.NewIdentity(t)).Decrypt(t.Context(), content, sops.YAML, sops.YAML)
	failsWith(t, err, fmt.Sprintf(recordedFailure, id.Public), "swordfish", "AGE-SECRET")
	_, err = sops.New(sops.Options{}).Decrypt(t.Context(), content, sops.YAML, sops.YAML)
	failsWith(t, err, "no age identity: add a key that ends", "swordfish")
	entity, _ := sopstest.NewPGP(t)
	content = sopstest.File{Format: sops.YAML, Groups: sopstest.Group(sopstest.PGPKey("ABCD")), PGP: openpgp.EntityList{entity}}.Encrypt(t, "password: swordfish\n")
	_, err = decrypter(t, id).Decrypt(t.Context(), content, sops.YAML, sops.YAML)
	failsWith(t, err, "no PGP key: add a key that ends", "swordfish")
	_, other := sopstest.NewPGP(t)
	_, err = sops.New(sops.Options{Keys: parse(t, "k.asc", other)}).Decrypt(t.Context(), content, sops.YAML, sops.YAML)
	failsWith(t, err, "could not decrypt data key with PGP", "swordfish")
}

// A file that is cut anywhere is an error or, where only what is not needed is lost, the whole content.
func TestTruncatedFile(t *testing.T) {
	id := sopstest.NewIdentity(t)
	for _, format := range []sops.Format{sops.YAML, sops.JSON, sops.Dotenv, sops.INI, sops.Binary} {
		content := sopstest.File{Format: format, Groups: id.Group(t)}.Encrypt(t, map[sops.Format]string{
			sops.YAML: "a: swordfish\n", sops.JSON: `{"a": "swordfish"}`, sops.Dotenv: "a=swordfish\n", sops.INI: "[s]\na = swordfish\n", sops.Binary: "swordfish",
		}[format])
		failed := 0
		for cut := 0; cut < len(content); cut += 7 {
			got, err := decrypter(t, id).Decrypt(t.Context(), content[:cut], format, format)
			switch {
			case err != nil:
				failed++
			case !bytes.Contains(got, []byte("swordfish")):
				t.Fatalf("%s cut to %d of %d bytes is taken for whole: %q", format, cut, len(content), got)
			}
		}
		if failed < 10 {
			t.Errorf("%s: only %d cuts failed", format, failed)
		}
	}
}

// Content that would exhaust the process (design rule "limits by default").
func TestHostileContent(t *testing.T) {
	id := sopstest.NewIdentity(t)
	small := sops.New(sops.Options{Keys: parse(t, "a.agekey", id.Private), Limits: sops.Limits{FileBytes: 1000, Keys: 3}})
	d := decrypter(t, id)
	deep := strings.Repeat("[", 2<<20)
	bomb := "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nsops:\n    mac: ENC[x]\n"
	long := sopstest.File{Format: sops.YAML, Groups: id.Group(t), Regex: strings.Repeat("a", 2000)}.Encrypt(t, "b: c\n")
	// Small files that would take minutes: many values below many levels, or after many comments.
	nested := strings.Repeat("{a: ", 90) + "[" + strings.Repeat("x,", 20_000) + "]" + strings.Repeat("}", 90)
	costly := hostileSelection("a: "+nested+"\n", "unencrypted_regex", strings.Repeat("(a|b)", 100)+"|.", id.Public)
	commented := hostileSelection(strings.Repeat("# c\n", 5000)+"a: ["+strings.Repeat("x,", 5000)+"]\n", "unencrypted_comment_regex", "^x$", id.Public)
	var crowd upstream.KeyGroup
	for range 4 {
		crowd = append(crowd, sopstest.Recipient(t, id.Public))
	}
	many := sopstest.File{Format: sops.Dotenv, Groups: []upstream.KeyGroup{crowd}}.Encrypt(t, "a=b\n")
	for name, test := range map[string]struct {
		d       *sops.Decrypter
		content []byte
		format  sops.Format
		want    string
	}{
		"huge":                {d, make([]byte, 5<<20+1), sops.YAML, "cannot decrypt a file of 5242881 bytes, the limit is 5242880"},
		"larger than allowed": {small, make([]byte, 1001), sops.INI, "the limit is 1000"},
		"deep JSON":           {d, []byte(`{"a":` + deep), sops.JSON, "nested deeper than 100"},
		"deep binary":         {d, []byte(`{"data":` + deep), sops.Binary, "nested deeper than 100"},
		"deep YAML":           {d, []byte("a: " + strings.Repeat("[", 200) + strings.Repeat("]", 200)), sops.YAML, "nested deeper than 100"},
		"aliases":             {d, []byte(bomb), sops.YAML, "YAML aliases"},
		"metadata, dotenv":    {d, []byte(strings.Repeat("sops_a=b\n", 500_000)), sops.Dotenv, "metadata of SOPS more than once, or too much"},
		"metadata, YAML":      {d, []byte("a: b\n---\n" + strings.Repeat("sops: a\n", 500_000)), sops.YAML, "metadata of SOPS more than once"},
		"deep dotenv":         {d, []byte("sops_mac=x\nsops_a" + strings.Repeat("__map_b", 500) + "=c\n"), sops.Dotenv, "nested deeper than 100"},
		"deep INI":            {d, []byte("[sops]\na" + strings.Repeat("__list_0", 500) + " = c\n"), sops.INI, "nested deeper than 100"},
		"costly expression":   {d, costly, sops.YAML, "too many values, levels or comments"},
		"costly comments":     {d, commented, sops.YAML, "too many values, levels or comments"},
		"a long expression":   {d, long, sops.YAML, "a regular expression of the file has 2000 bytes, the limit is 1024"},
		"too many keys":       {sops.New(sops.Options{Limits: sops.Limits{Keys: 3}}), many, sops.Dotenv, "the file names 4 keys, the limit is 3"},
		"no metadata":         {d, []byte("a: b\n"), sops.YAML, "cannot read the encrypted yaml file"},
		"no keys":             {d, []byte("a: b\nsops:\n    mac: ENC[x]\n    lastmodified: \"2026-11-22T06:38:26Z\"\n"), sops.YAML, "cannot read the encrypted yaml file"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := test.d.Decrypt(t.Context(), test.content, test.format, test.format)
			failsWith(t, err, test.want)
		})
	}
}

// hostileSelection is a file of which nothing is encrypted, by an expression.
func hostileSelection(values, field, pattern, recipient string) []byte {
	return []byte(values + "sops:\n    mac: ENC[x]\n    lastmodified: \"2026-11-22T06:38:26Z\"\n    " + field + ": \"" + pattern + "\"\n" +
		"    age:\n        - recipient: " + recipient + "\n          enc: x\n")
}

// A file for a thousand recipients opens for the last of them, and when it does not, the message stays short.
func TestThousandRecipients(t *testing.T) {
	ours, other := sopstest.NewIdentity(t), sopstest.NewIdentity(t)
	var crowd upstream.KeyGroup
	for range 999 {
		crowd = append(crowd, sopstest.Recipient(t, other.Public))
	}
	content := sopstest.File{Format: sops.YAML, Groups: []upstream.KeyGroup{append(crowd, sopstest.Recipient(t, ours.Public))}}.Encrypt(t, "password: swordfish\n")
	got, err := decrypter(t, ours).Decrypt(t.Context(), content, sops.YAML, sops.YAML)
	if err != nil || string(got) != "password: swordfish\n" {
		t.Errorf("got %q, %v", got, err)
	}
	_, err = decrypter(t, sopstest.NewIdentity(t)).Decrypt(t.Context(), content, sops.YAML, sops.YAML)
	failsWith(t, err, other.Public)
	if err != nil && len(err.Error()) > 3000 {
		t.Errorf("the message has %d bytes", len(err.Error()))
	}
}

// A file that names many key services is not a way to have many connections made.
func TestRemoteKeysAreBounded(t *testing.T) {
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		w.WriteHeader(http.StatusForbidden)
	}))
	t.Cleanup(server.Close)
	var crowd upstream.KeyGroup
	for range 30 {
		crowd = append(crowd, hcvault.NewMasterKey(server.URL, "transit", "key"))
	}
	content := sopstest.File{Format: sops.YAML, Groups: []upstream.KeyGroup{crowd}}.Encrypt(t, "a: b\n")
	d := sops.New(sops.Options{Keys: parse(t, sops.VaultTokenKey, "token-of-vault"), Limits: sops.Limits{RemoteKeys: 4}})
	_, err := d.Decrypt(t.Context(), content, sops.YAML, sops.YAML)
	failsWith(t, err, "403", "token-of-vault")
	if asked != 4 {
		t.Errorf("%d requests, want 4", asked)
	}
}

// A key service that hangs costs the time of one file.
func TestTimeout(t *testing.T) {
	released := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-released:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(func() { close(released); server.Close() })
	content := sopstest.File{Format: sops.YAML, Groups: sopstest.Group(hcvault.NewMasterKey(server.URL, "transit", "key"))}.Encrypt(t, "a: b\n")
	d := sops.New(sops.Options{Keys: parse(t, sops.VaultTokenKey, "token-of-vault"), Limits: sops.Limits{Timeout: time.Millisecond}})
	_, err := d.Decrypt(t.Context(), content, sops.YAML, sops.YAML)
	failsWith(t, err, "the decryption has taken longer than 1ms", "token-of-vault")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = decrypter(t, sopstest.NewIdentity(t)).Decrypt(ctx, content, sops.YAML, sops.YAML)
	failsWith(t, err, "context canceled")
}

func FuzzDecrypt(f *testing.F) {
	id := sopstest.NewIdentity(f)
	formats := []sops.Format{sops.YAML, sops.JSON, sops.Dotenv, sops.INI, sops.Binary}
	for i, plain := range []string{"a: [b, 1]\n", `{"a": ["b", 1]}`, "a=b\n", "[a]\nb=c\n", "binary"} {
		f.Add(sopstest.File{Format: formats[i], Groups: id.Group(f)}.Encrypt(f, plain), i)
	}
	d := decrypter(f, id)
	f.Fuzz(func(t *testing.T, content []byte, n int) {
		format := formats[uint(n)%uint(len(formats))]
		plain, err := d.Decrypt(t.Context(), content, format, format)
		if err == nil && plain == nil {
			t.Error("neither content nor error")
		}
	})
}
