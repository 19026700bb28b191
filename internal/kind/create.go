package kind

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Create is how objects of a kind are made from flags.
type Create struct {
	// Short, Long and Example are the help texts.
	Short, Long, Example string
	// Bind adds the kind's flags and returns the function that reads them once they are parsed.
	Bind func(*pflag.FlagSet) Build
	// Done is the line printed when the object became ready.
	Done func(Object) string
}

// Build makes the object. Errors name the flag to mend.
type Build func(context.Context, CreateInput) (*Created, error)

// CreateInput is what create commands of all kinds share.
type CreateInput struct {
	Name, Namespace string
	Labels          map[string]string
	// Interval is --interval of `flux create`.
	Interval time.Duration
	// Timeout is --fetch-timeout of `flux create source`; 0 means unset.
	Timeout time.Duration
	// Export says that the object is only printed: nothing may be generated, scanned or asked.
	Export bool
	UI     UI
}

// Created is what a create command applies, the Secret first.
type Created struct {
	Object client.Object
	// Secret is generated along with the object; nil: none.
	Secret *corev1.Secret
}

// UI is how building talks to the person at the terminal.
type UI struct {
	// Actionf, Generatef, Waitf and Successf print progress lines with 2.9's symbols.
	Actionf, Generatef, Waitf, Successf func(format string, args ...any)
	// Confirm asks a yes/no question; an error means it was refused.
	Confirm func(question string) error
	// Progress receives text that is neither data nor a progress line, such as a deploy key to copy.
	Progress io.Writer
}

// ValidateName checks the name of an object to create (cli 21).
func ValidateName(name string) error {
	ok := len(name) >= 2 && len(name) <= 63
	for i := 0; ok && i < len(name); i++ {
		c := name[i]
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
		case c == '-':
			ok = i > 0 && i < len(name)-1
		default:
			ok = false
		}
	}
	if !ok {
		return fmt.Errorf("name '%s' is invalid: use 2 to 63 lower-case letters, digits and '-', starting and ending with a letter or digit", name)
	}
	return nil
}
