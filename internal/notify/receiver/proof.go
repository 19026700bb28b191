package receiver

import (
	"crypto/hmac"
	"crypto/sha1" // #nosec G505 -- senders choose it (receiver 19, 20, 26)
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strings"
)

// Algorithms of signatures, as they are named before the "=".
const (
	algorithmSHA1   = "sha1"
	algorithmSHA256 = "sha256"
	algorithmSHA512 = "sha512"
)

// checkToken compares a header with the token, without telling by the time it takes how much of it is right, its length included.
func checkToken(c *Call, header string) error {
	given := c.Header.Get(header)
	if given == "" {
		return fmt.Errorf("the header %s is missing", header)
	}
	got, want := sha256.Sum256([]byte(given)), sha256.Sum256(c.token())
	if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
		return fmt.Errorf("the header %s is not the token", header)
	}
	return nil
}

// checkSignature checks a header of the form "<algorithm>=<hex of the HMAC of the body>".
func checkSignature(c *Call, header string, algorithms ...string) error {
	given := c.Header.Get(header)
	if given == "" {
		return fmt.Errorf("the header %s is missing", header)
	}
	algorithm, signature, ok := strings.Cut(given, "=")
	if !ok || !slices.Contains(algorithms, algorithm) {
		return fmt.Errorf("the header %s does not begin with one of %s and '='", header, strings.Join(algorithms, ", "))
	}
	if err := checkHMAC(c, algorithm, signature); err != nil {
		return fmt.Errorf("the header %s: %w", header, err)
	}
	return nil
}

func checkHMAC(c *Call, algorithm, signature string) error {
	given, err := hex.DecodeString(signature)
	if err != nil {
		return errors.New("the signature is not hexadecimal")
	}
	mac := hmac.New(hashOf(algorithm), c.token())
	mac.Write(c.Body)
	if !hmac.Equal(given, mac.Sum(nil)) {
		return errors.New("the signature does not match the body and the token")
	}
	return nil
}

func hashOf(algorithm string) func() hash.Hash {
	switch algorithm {
	case algorithmSHA1:
		return sha1.New
	case algorithmSHA512:
		return sha512.New
	}
	return sha256.New
}
