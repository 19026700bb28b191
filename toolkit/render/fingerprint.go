package render

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
)

// Inputs is everything a build depends on, as long as its Result is not Remote.
type Inputs struct {
	// Tree identifies the content of the tree: the digest of the artifact.
	Tree string
	Spec Spec
	// Substitute is set when the build has a Substitution; Variables, Always and Lenient are its parts.
	Substitute, Always, Lenient bool
	Variables                   map[string]string
	// NoRemoteBases is the option of the same name.
	NoRemoteBases bool
	// Decryption identifies the keys and settings of the Decrypter: a build must not outlive them.
	Decryption string
}

// fingerprintVersion changes with everything else that changes the result of a build.
const fingerprintVersion = "render/1"

// Fingerprint names a build: as long as it stays the same, building again gives the same Result. It is derived from
// the values of variables, so keep it in memory and out of logs.
func Fingerprint(in Inputs) (string, error) {
	sum := sha256.New()
	enc := json.NewEncoder(sum) // writes map keys in order
	if err := enc.Encode(fingerprintVersion); err != nil {
		return "", err
	}
	if err := enc.Encode(in); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
