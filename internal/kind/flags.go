package kind

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Enum is a flag that takes one of a few words.
type Enum struct {
	// Value is the word in force.
	Value string
	// Allowed are the words.
	Allowed []string
	// TypeName, when set, is shown in help instead of the words joined by "|".
	TypeName string
	// Noun names the flag in errors, "SSH key algorithm".
	Noun string
}

// String implements pflag.Value.
func (e *Enum) String() string { return e.Value }

// Set implements pflag.Value.
func (e *Enum) Set(s string) error {
	s = strings.TrimSpace(s)
	if !slices.Contains(e.Allowed, s) {
		return fmt.Errorf("unsupported %s '%s', must be one of: %s", e.Noun, s, strings.Join(e.Allowed, ", "))
	}
	e.Value = s
	return nil
}

// Type implements pflag.Value.
func (e *Enum) Type() string {
	if e.TypeName != "" {
		return e.TypeName
	}
	return strings.Join(e.Allowed, "|")
}

// RSABits is a flag that takes the size of an RSA key: a multiple of 8, 2048 at least.
type RSABits int

// MinRSABits is the smallest RSA key worth generating (NIST SP 800-57 part 1).
const MinRSABits = 2048

// String implements pflag.Value.
func (b *RSABits) String() string { return strconv.Itoa(int(*b)) }

// Set implements pflag.Value.
func (b *RSABits) Set(s string) error {
	n, err := strconv.Atoi(strings.TrimSpace(s))
	if err != nil {
		return fmt.Errorf("RSA key size '%s' is not a number", s)
	}
	if n < MinRSABits || n > 16384 || n%8 != 0 {
		return fmt.Errorf("RSA key size %d is not supported: use a multiple of 8 between %d and 16384", n, MinRSABits)
	}
	*b = RSABits(n)
	return nil
}

// Type implements pflag.Value.
func (b *RSABits) Type() string { return "rsaKeyBits" }

// RelativePath is a flag that takes a path inside a repository. Whatever is given, it ends up below the root and
// starts with "./" (cli 25).
type RelativePath string

// String implements pflag.Value.
func (p *RelativePath) String() string { return string(*p) }

// Set implements pflag.Value.
func (p *RelativePath) Set(s string) error {
	s = strings.ReplaceAll(strings.TrimSpace(s), `\`, "/")
	if s == "" {
		return fmt.Errorf("path cannot be empty, use './' for the root of the repository")
	}
	*p = RelativePath("./" + strings.TrimPrefix(path.Clean("/"+s), "/"))
	return nil
}

// Type implements pflag.Value.
func (p *RelativePath) Type() string { return "safeRelativePath" }
