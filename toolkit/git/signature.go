package git

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
)

const (
	// sshKeySuffix marks the keys of a Secret that hold SSH public keys.
	sshKeySuffix = ".sshpub"
	// sshNamespace is what SSH signatures of Git objects are made for.
	sshNamespace = "git"
	// signatureHeader begins the headers that hold signatures: gpgsig, and
	// gpgsig-sha256 for repositories with names of both kinds.
	signatureHeader = "gpgsig"
)

// SignatureKind is the kind of key that a signature was made with.
type SignatureKind string

// The kinds of signatures. Others than PGP and SSH cannot be verified.
const (
	NoSignature      SignatureKind = "empty"
	PGPSignature     SignatureKind = "openpgp"
	SSHSignature     SignatureKind = "ssh"
	X509Signature    SignatureKind = "x509"
	UnknownSignature SignatureKind = "unknown"
)

// armorHeads are the lines that signatures begin with. Git takes the same ones
// for the begin of a tag's signature.
var armorHeads = []struct {
	head string
	kind SignatureKind
}{
	{"-----BEGIN PGP SIGNATURE-----", PGPSignature},
	{"-----BEGIN PGP MESSAGE-----", PGPSignature},
	{"-----BEGIN SSH SIGNATURE-----", SSHSignature},
	{"-----BEGIN SIGNED MESSAGE-----", X509Signature},
}

func signatureKind(signature []byte) SignatureKind {
	if len(signature) == 0 {
		return NoSignature
	}
	for _, a := range armorHeads {
		if bytes.HasPrefix(signature, []byte(a.head)) {
			return a.kind
		}
	}
	return UnknownSignature
}

// Keys are public keys whose signatures count.
type Keys struct {
	rings []openpgp.EntityList
	ssh   []ssh.PublicKey
}

// KeysFromSecret reads public keys from the data of a Secret: authorized_keys
// lines from the keys that end in .sshpub, armored PGP key rings from all
// others. What cannot be read is left out, unless nothing else is there
// (contract: gitrepository 43, 48). The error has the property ErrInvalidKeys.
func KeysFromSecret(data map[string][]byte) (*Keys, error) {
	k := &Keys{}
	var failures []error
	for _, name := range slices.Sorted(maps.Keys(data)) {
		var err error
		if strings.HasSuffix(name, sshKeySuffix) {
			err = k.addSSH(data[name])
		} else {
			err = k.addRing(data[name])
		}
		if err != nil {
			failures = append(failures, fmt.Errorf("key '%s': %w", name, err))
		}
	}
	if len(k.rings) > 0 || len(k.ssh) > 0 {
		return k, nil
	}
	if len(failures) == 0 {
		failures = append(failures, errors.New("there are none"))
	}
	return nil, fmt.Errorf("%w: %w", ErrInvalidKeys, errors.Join(failures...))
}

func (k *Keys) addSSH(text []byte) error {
	found := false
	for rest := text; len(rest) > 0; {
		key, _, _, next, err := ssh.ParseAuthorizedKey(rest)
		if err != nil {
			break
		}
		k.ssh, rest, found = append(k.ssh, key), next, true
	}
	if !found {
		return errors.New("it holds no line in the format of authorized_keys")
	}
	return nil
}

func (k *Keys) addRing(armored []byte) error {
	ring, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(armored))
	if err != nil {
		return fmt.Errorf("it is no armored PGP key ring: %w", err)
	}
	k.rings = append(k.rings, ring)
	return nil
}

// VerifyCommit returns the identity of the key that signed a commit: the id of
// a PGP primary key, or the SHA256 fingerprint of an SSH key (contract:
// gitrepository 47). The error has the property ErrSignature.
func (k *Keys) VerifyCommit(c Commit) (string, error) {
	payload, signature := splitHeader(c.Raw)
	key, err := k.verify(payload, signature)
	if err != nil {
		return "", fmt.Errorf("%w of commit '%s': %w", ErrSignature, c.Hash, err)
	}
	return key, nil
}

// VerifyTag is VerifyCommit for an annotated tag. A tag's own name is signed,
// the reference to it is not: they have to be the same, or an old signed tag
// would pass for a new one.
func (k *Keys) VerifyTag(t Tag) (string, error) {
	payload, signature := splitTag(t.Raw)
	key, err := k.verify(payload, signature)
	if err == nil && t.signedName != t.Name {
		err = fmt.Errorf("what is signed is the tag '%s'", t.signedName)
	}
	if err != nil {
		return "", fmt.Errorf("%w of tag '%s': %w", ErrSignature, t, err)
	}
	return key, nil
}

// Signed reports whether the tag carries a signature, of whatever kind.
func (t Tag) Signed() bool {
	_, signature := splitTag(t.Raw)
	return len(signature) > 0
}

// String names the tag, and its object when it has one.
func (t Tag) String() string {
	if !t.Annotated() {
		return t.Name
	}
	return t.Name + "@" + t.Hash
}

func (k *Keys) verify(payload, signature []byte) (string, error) {
	switch kind := signatureKind(signature); kind {
	case PGPSignature:
		return k.verifyPGP(payload, signature)
	case SSHSignature:
		return k.verifySSH(payload, signature)
	default:
		return "", fmt.Errorf("unsupported signature type: %s", kind)
	}
}

func (k *Keys) verifyPGP(payload, signature []byte) (string, error) {
	if len(k.rings) == 0 {
		return "", errors.New("it is signed with PGP and there are no PGP keys to verify it with")
	}
	var failures []error
	for _, ring := range k.rings {
		signer, err := openpgp.CheckArmoredDetachedSignature(ring, bytes.NewReader(payload), bytes.NewReader(signature), nil)
		if err == nil {
			return signer.PrimaryKey.KeyIdString(), nil
		}
		failures = append(failures, err)
	}
	return "", fmt.Errorf("unable to verify it with any of the given key rings: %w", errors.Join(failures...))
}

func (k *Keys) verifySSH(payload, signature []byte) (string, error) {
	if len(k.ssh) == 0 {
		return "", errors.New("it is signed with SSH and there are no SSH keys to verify it with")
	}
	s, err := sshsig.Unarmor(signature)
	if err != nil {
		return "", fmt.Errorf("read the SSH signature: %w", err)
	}
	fingerprint := ssh.FingerprintSHA256(s.PublicKey)
	for _, key := range k.ssh {
		if ssh.FingerprintSHA256(key) != fingerprint {
			continue
		}
		if err := sshsig.Verify(bytes.NewReader(payload), s, key, s.HashAlgorithm, sshNamespace); err != nil {
			return "", fmt.Errorf("verify it with key '%s': %w", fingerprint, err)
		}
		return fingerprint, nil
	}
	return "", fmt.Errorf("it is signed with key '%s', which is none of the given ones", fingerprint)
}

// splitHeader takes the signature out of the headers of an object, as Git does
// before it verifies: the header's lines without the space that continues
// them, and the object without any header that begins with gpgsig.
func splitHeader(raw []byte) (payload, signature []byte) {
	const none, ours, other = 0, 1, 2
	in := none
	for rest := raw; len(rest) > 0; {
		end := bytes.IndexByte(rest, '\n') + 1
		if end == 0 {
			end = len(rest)
		}
		line := rest[:end]
		if line[0] == '\n' {
			return append(payload, rest...), signature
		}
		rest = rest[end:]
		first, isOurs := bytes.CutPrefix(line, []byte(signatureHeader+" "))
		switch {
		case line[0] == ' ' && in != none:
			first = line[1:]
		case isOurs:
			in = ours
		case bytes.HasPrefix(line, []byte(signatureHeader)):
			in = other
		default:
			in = none
		}
		switch in {
		case ours:
			signature = append(signature, first...)
		case none:
			payload = append(payload, line...)
		}
	}
	return payload, signature
}

// splitTag takes the signature off the end of a tag object, where Git looks
// for it: from the last line on that begins one.
func splitTag(raw []byte) (payload, signature []byte) {
	begin := len(raw)
	for at := 0; at < len(raw); {
		if kind := signatureKind(raw[at:]); kind != UnknownSignature {
			begin = at
		}
		end := bytes.IndexByte(raw[at:], '\n')
		if end < 0 {
			break
		}
		at += end + 1
	}
	payload, _ = splitHeader(raw[:begin])
	return payload, raw[begin:]
}
