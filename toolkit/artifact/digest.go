package artifact

import (
	"crypto/sha1" //nolint:gosec // only to check digests that say sha1
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"strings"

	"lukechampine.com/blake3"
)

// Algo is a digest algorithm.
type Algo string

const (
	SHA256 Algo = "sha256"
	SHA384 Algo = "sha384"
	SHA512 Algo = "sha512"
	BLAKE3 Algo = "blake3"
	// SHA1 is accepted in the digest of an artifact that exists, not for new ones.
	SHA1 Algo = "sha1"
)

// ParseAlgo returns the algorithm of the name, one that may be used for new artifacts (--artifact-digest-algo).
func ParseAlgo(name string) (Algo, error) {
	switch a := Algo(name); a {
	case SHA256, SHA384, SHA512, BLAKE3:
		return a, nil
	}
	return "", fmt.Errorf("digest algorithm %q: want sha256, sha384, sha512 or blake3", name)
}

// New returns a hash of the algorithm, nil for one that is not known.
func (a Algo) New() hash.Hash {
	switch a {
	case SHA256:
		return sha256.New()
	case SHA384:
		return sha512.New384()
	case SHA512:
		return sha512.New()
	case BLAKE3:
		return blake3.New(32, nil)
	case SHA1:
		return sha1.New()
	}
	return nil
}

// Digest names content by its hash. The zero value names nothing.
type Digest struct {
	Algo Algo
	// Hex is the hash in lower-case hexadecimal.
	Hex string
}

// ParseDigest reads "<algorithm>:<lower-case hex>". Errors have the property ErrMismatch: nothing can be checked against such a digest.
func ParseDigest(s string) (Digest, error) {
	name, text, ok := strings.Cut(s, ":")
	if !ok {
		return Digest{}, fmt.Errorf("%w: digest %q is not of the form <algorithm>:<hex>", ErrMismatch, s)
	}
	h := Algo(name).New()
	if h == nil {
		return Digest{}, fmt.Errorf("%w: digest algorithm %q is not known", ErrMismatch, name)
	}
	if raw, err := hex.DecodeString(text); err != nil || len(raw) != h.Size() || strings.ToLower(text) != text {
		return Digest{}, fmt.Errorf("%w: digest %q: want %d lower-case hexadecimal digits", ErrMismatch, s, 2*h.Size())
	}
	return Digest{Algo: Algo(name), Hex: text}, nil
}

// String returns "<algorithm>:<hex>".
func (d Digest) String() string { return string(d.Algo) + ":" + d.Hex }

func sum(a Algo, h hash.Hash) Digest { return Digest{Algo: a, Hex: hex.EncodeToString(h.Sum(nil))} }

// digestOf reads r to its end.
func digestOf(a Algo, r io.Reader) (Digest, int64, error) {
	h := a.New()
	n, err := io.Copy(h, r)
	if err != nil {
		return Digest{}, n, err
	}
	return sum(a, h), n, nil
}
