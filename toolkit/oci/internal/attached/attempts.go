package attached

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/seed-79636ae9/flux/toolkit/oci"
	"github.com/seed-79636ae9/flux/toolkit/secret"
)

// attempts keeps why the signatures of one manifest were refused, and why some
// could not be tried.
type attempts struct {
	refused int
	reasons []string
	over    []error
	outage  error
}

// Reasons are for a person: a few suffice, and whoever attached a signature may
// have chosen the words.
const (
	reasonsKept = 3
	reasonBytes = 400
)

// refuse notes that a signature does not count.
func (a *attempts) refuse(err error) {
	a.refused++
	reason := readable(err)
	if len(a.reasons) < reasonsKept && !slices.Contains(a.reasons, reason) {
		a.reasons = append(a.reasons, reason)
	}
}

// Unreadable notes that something could not be read. It reports whether to go
// on: not when the registry fails, as it would again.
func (a *attempts) Unreadable(err error) bool {
	switch {
	case errors.Is(err, oci.ErrLimit):
		a.limit(err)
	case errors.Is(err, oci.ErrNotVerified), isNotFound(err):
		a.refuse(err)
	default:
		a.outage = err
		return false
	}
	return true
}

func (a *attempts) exceeded(what string, found, limit int) {
	a.limit(Failed(oci.ErrLimit, "limit exceeded: of %d %s only the first %d were tried", found, what, limit))
}

func (a *attempts) limit(err error) {
	if len(a.over) < reasonsKept {
		a.over = append(a.over, err)
	}
}

func (a *attempts) verdict(ref name.Digest) error {
	if a.outage != nil {
		return &failure{a.outage, errors.New(readable(a.outage))}
	}
	text := fmt.Sprintf("no matching signatures were found for '%s'", ref.Name())
	if a.refused > 0 {
		text += fmt.Sprintf(": %d refused: %s", a.refused, strings.Join(a.reasons, "; "))
	}
	for _, limit := range a.over {
		text += "; " + readable(limit)
	}
	return &failure{errors.Join(append([]error{oci.ErrNotVerified}, a.over...)...), errors.New(text)}
}

// readable is the text of an error without credentials, short and on one line.
func readable(err error) string {
	text := strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, secret.Redact(err.Error()))
	if len(text) > reasonBytes {
		text = strings.ToValidUTF8(text[:reasonBytes], "") + "..."
	}
	return text
}
