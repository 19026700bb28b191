package sops

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	sops "github.com/getsops/sops/v3"
	"github.com/getsops/sops/v3/aes"
	"github.com/getsops/sops/v3/keyservice"
	"github.com/getsops/sops/v3/logging"
	"github.com/sirupsen/logrus"

	"github.com/seed-79636ae9/flux/toolkit/auth"
	"github.com/seed-79636ae9/flux/toolkit/secret"
)

// Limits bounds what decrypting one file or object may cost. Zero fields mean the default.
type Limits struct {
	// FileBytes is the size of the encrypted content, in bytes (kustomization 45).
	FileBytes int
	// Timeout is the time for one file, key services included.
	Timeout time.Duration
	// Keys is how many keys a file may name, in all its groups.
	Keys int
	// RemoteKeys is how many of them, at key services over the network, are tried.
	RemoteKeys int
}

// DefaultLimits are generous: a file has a few keys and some kilobytes.
func DefaultLimits() Limits {
	return Limits{FileBytes: 5 << 20, Timeout: time.Minute, Keys: 2000, RemoteKeys: 20}
}

func (l Limits) withDefaults() Limits {
	d := DefaultLimits()
	if l.FileBytes <= 0 {
		l.FileBytes = d.FileBytes
	}
	if l.Timeout <= 0 {
		l.Timeout = d.Timeout
	}
	if l.Keys <= 0 {
		l.Keys = d.Keys
	}
	if l.RemoteKeys <= 0 {
		l.RemoteKeys = d.RemoteKeys
	}
	return l
}

const (
	// maxMessage bounds the text about keys that failed, in bytes: it goes into a status and into events.
	maxMessage = 2048
	// maxHidden bounds what is remembered for Redact, in bytes.
	maxHidden = 8 << 20
)

// Identity obtains credentials that the key material does not hold (kustomization 42, 43). A nil function means that there
// are none.
type Identity struct {
	// AWS returns keys for a region.
	AWS func(ctx context.Context, region string) (*auth.Keys, error)
	// Token returns a bearer token of auth.Azure or auth.GCP for a scope.
	Token func(ctx context.Context, provider, scope string) (*auth.Token, error)
	// Vault returns what to log in with at a Vault; nil if the operator has not listed its address.
	Vault func(ctx context.Context, address string) (*VaultLogin, error)
}

// Options make a Decrypter.
type Options struct {
	Keys     *Keys
	Identity Identity
	Limits   Limits
	// HTTP is used for all key services; nil: a client of its own. Redirects are never followed.
	HTTP *http.Client
	// Endpoints change where clouds are found.
	Endpoints Endpoints
}

// Decrypter decrypts with one set of keys. It is not safe for concurrent use: it keeps tokens of Vaults, and should live
// as long as one build.
type Decrypter struct {
	keys      *Keys
	identity  Identity
	limits    Limits
	http      *http.Client
	endpoints Endpoints
	sessions  map[string]string // tokens by address of a Vault
	hidden    []string          // credentials obtained on the way, and decrypted values
	size      int               // of hidden, in bytes
	remote    bool
}

// Remote reports whether a key service over the network was asked: it may answer otherwise next time.
func (d *Decrypter) Remote() bool { return d.remote }

// quiet keeps the library from writing to standard error: its lines are no JSON, and name what it decrypts.
var quiet = sync.OnceFunc(func() { logging.SetLevel(logrus.PanicLevel) })

// New returns a Decrypter.
func New(o Options) *Decrypter {
	quiet()
	if o.Keys == nil {
		o.Keys = &Keys{}
	}
	return &Decrypter{
		keys: o.Keys, identity: o.Identity, limits: o.Limits.withDefaults(), http: client(o.HTTP), endpoints: o.Endpoints,
		sessions: map[string]string{},
	}
}

// ErrKeys is the property of the error of a file that none of the keys opens.
var ErrKeys = errors.New("cannot get sops data key")

// Decrypt decrypts content of the format in and writes it in the format out. The message authentication code is not
// verified: kustomize changes fields that it covers (kustomization 44); each value is authenticated with its path.
func (d *Decrypter) Decrypt(ctx context.Context, content []byte, in, out Format) (plain []byte, err error) {
	if len(content) > d.limits.FileBytes {
		return nil, fmt.Errorf("cannot decrypt a file of %d bytes, the limit is %d", len(content), d.limits.FileBytes)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, d.limits.Timeout, fmt.Errorf("the decryption has taken longer than %s", d.limits.Timeout))
	defer cancel()
	defer func() {
		// The value of a panic may hold what was being decrypted.
		if recover() != nil {
			plain, err = nil, fmt.Errorf("the %s file confuses the SOPS library", in)
		}
		err = d.Redact(err)
	}()
	if err := in.guard(content); err != nil {
		return nil, err
	}
	tree, err := in.store().LoadEncryptedFile(content)
	if err != nil {
		return nil, fmt.Errorf("cannot read the encrypted %s file: %w", in, err)
	}
	if err := d.open(ctx, &tree); err != nil {
		return nil, err
	}
	plain, err = out.store().EmitPlainFile(tree.Branches)
	if err != nil {
		// The cause may quote what it could not write.
		return nil, fmt.Errorf("the %s file cannot be written as %s: change the extension of its key", in, out)
	}
	return plain, nil
}

// open decrypts a tree in place.
func (d *Decrypter) open(ctx context.Context, tree *sops.Tree) error {
	meta := &tree.Metadata
	if n := meta.MasterKeyCount(); n > d.limits.Keys {
		return fmt.Errorf("the file names %d keys, the limit is %d", n, d.limits.Keys)
	}
	if err := checkSelection(tree); err != nil {
		return err
	}
	s := &service{Decrypter: d, ctx: ctx, tries: d.limits.RemoteKeys}
	// What costs no request comes first.
	key, err := meta.GetDataKeyWithKeyServices([]keyservice.KeyServiceClient{s}, []string{"age", "pgp"})
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if err != nil {
		return fmt.Errorf("%w: %s", ErrKeys, explain(err))
	}
	if _, err := tree.Decrypt(key, values{d, ctx, aes.NewCipher()}); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return fmt.Errorf("cannot decrypt the values: %w", err)
	}
	return nil
}

// explain returns what the sops command says about keys that failed, cut to a length that fits a message.
func explain(err error) string {
	text := err.Error()
	if known, ok := err.(sops.UserError); ok {
		text = known.UserError()
	}
	if len(text) <= maxMessage {
		return text
	}
	cut := maxMessage
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "..."
}

// values decrypts single values, and keeps them out of errors (reliability 056).
type values struct {
	*Decrypter
	ctx    context.Context
	cipher aes.Cipher
}

// Encrypt implements sops.Cipher.
func (v values) Encrypt(any, []byte, string) (string, error) {
	return "", errors.New("nothing is encrypted here")
}

// Decrypt implements sops.Cipher.
func (v values) Decrypt(ciphertext string, key []byte, path string) (any, error) {
	if err := v.ctx.Err(); err != nil {
		return nil, err
	}
	plain, err := v.cipher.Decrypt(ciphertext, key, path)
	if err != nil {
		return nil, fmt.Errorf("the value of '%s' is not what SOPS has encrypted there: encrypt the file anew, and patch no encrypted field",
			strings.ReplaceAll(strings.TrimSuffix(path, ":"), ":", "."))
	}
	switch plain := plain.(type) {
	case string:
		v.hidePlain(plain)
	case []byte:
		v.hidePlain(string(plain))
	}
	return plain, nil
}

// hide keeps a credential or a decrypted value out of messages.
func (d *Decrypter) hide(value string) {
	if len(value) < secret.MinRedacted {
		return
	}
	if d.size += len(value); d.size <= maxHidden {
		d.hidden = append(d.hidden, value)
	}
}

// hidePlain hides a decrypted value as messages may quote it: in whole, by line, in Go syntax, and without base64.
func (d *Decrypter) hidePlain(text string) {
	d.hide(text)
	for line := range strings.SplitSeq(text, "\n") {
		if line = strings.TrimSpace(line); line != text {
			d.hide(line)
		}
	}
	if quoted := strconv.Quote(text); quoted != `"`+text+`"` {
		d.hide(quoted[1 : len(quoted)-1])
	}
	if content, err := base64.StdEncoding.DecodeString(text); err == nil && utf8.Valid(content) {
		d.hide(string(content))
	}
}

// Redact returns the error without what this Decrypter has decrypted, and without the credentials it used; nil stays nil.
func (d *Decrypter) Redact(err error) error {
	if err == nil {
		return nil
	}
	return &redactedError{err, d.hidden[:len(d.hidden):len(d.hidden)], d.keys, d.size > maxHidden}
}

// redactedError is an error whose text shows no credentials.
type redactedError struct {
	err    error
	hidden []string
	keys   *Keys
	// lost is set when there was more to hide than was remembered.
	lost bool
}

func (e *redactedError) Error() string {
	if e.lost {
		return "the cause is not shown: more has been decrypted than can be cut out of it"
	}
	return secret.Redact(e.err.Error(), append(e.hidden, e.keys.secrets...)...)
}

func (e *redactedError) Unwrap() error { return e.err }
