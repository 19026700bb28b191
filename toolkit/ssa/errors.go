package ssa

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// ObjectError is what went wrong with one object.
type ObjectError struct {
	ID  ID
	Err error

	text string
}

// Error is one line of text in the words of kustomization 73.
func (e *ObjectError) Error() string { return e.text }

// Unwrap is the API server's error.
func (e *ObjectError) Unwrap() error { return e.Err }

// Errors are the failures of one stage: all of them, so that one commit can mend them all.
type Errors []*ObjectError

// Error is one line per object, each with its line end (kustomization 73).
func (es Errors) Error() string {
	var b strings.Builder
	for _, e := range es {
		b.WriteString(e.text)
		b.WriteByte('\n')
	}
	return b.String()
}

// Unwrap lets errors.Is and errors.As see each.
func (es Errors) Unwrap() []error {
	out := make([]error, len(es))
	for i, e := range es {
		out[i] = e
	}
	return out
}

// errNamespace is what the API server says to a namespaced object sent without its namespace; the mapper knows it without asking.
var errNamespace = errors.New("the server could not find the requested resource")

func noNamespace(id ID) *ObjectError {
	return &ObjectError{ID: id, Err: errNamespace, text: fmt.Sprintf("%s namespace not specified: %v", id.Subject(), errNamespace)}
}

// dryRunFailed puts a refused dry-run into words.
func (p *plan) dryRunFailed(err error) *ObjectError {
	if apierrors.IsNotFound(err) {
		return &ObjectError{ID: p.id, Err: err, text: fmt.Sprintf("%s not found: %v", p.id.Subject(), err)}
	}
	return p.failed("dry-run failed", err)
}

func (p *plan) failed(what string, err error) *ObjectError { return failed(p.id, p.desired, what, err) }

// NewObjectError says what did not work with an object and, if the API server gave one, the reason, in words that may go to
// status and events.
func NewObjectError(o *unstructured.Unstructured, what string, err error) *ObjectError {
	return failed(IDOf(o), o, what, err)
}

// failed says what did not work and, if the API server gave one, the reason. The text goes to status and events, so what the
// API server quotes of a Secret is cut out of it.
func failed(id ID, o *unstructured.Unstructured, what string, err error) *ObjectError {
	if reason := apierrors.ReasonForError(err); reason != "" {
		what += " (" + string(reason) + ")"
	}
	text := err.Error()
	if id.Kind == "Secret" && id.Group == "" {
		text = redact(o, text)
	}
	return &ObjectError{ID: id, Err: err, text: fmt.Sprintf("%s %s: %v", id.Subject(), what, text)}
}

const redacted = "***"

// redact cuts the values of a Secret out of a text. The API server quotes a value of the wrong type in Go syntax.
func redact(o *unstructured.Unstructured, text string) string {
	const quoted = "&value.valueUnstructured{Value:"
	var b strings.Builder
	for {
		i := strings.Index(text, quoted)
		if i < 0 {
			break
		}
		b.WriteString(text[:i+len(quoted)] + redacted)
		text = text[i+len(quoted):]
		if end := strings.LastIndexByte(text, '}'); end >= 0 {
			text = text[end:]
		} else {
			text = ""
		}
	}
	b.WriteString(text)
	text = b.String()
	if o == nil {
		return text
	}
	for _, field := range []string{"data", "stringData"} {
		values, _ := o.Object[field].(map[string]any)
		for _, v := range values {
			s := fmt.Sprint(v)
			if len(s) < minQuoted {
				continue
			}
			text = strings.ReplaceAll(text, s, redacted)
			if plain, err := base64.StdEncoding.DecodeString(s); err == nil && len(plain) >= minQuoted {
				text = strings.ReplaceAll(text, string(plain), redacted)
			}
		}
	}
	return text
}

// minQuoted spares texts as short as words of the message itself.
const minQuoted = 4

// isImmutable reports whether an answer may mean that a field cannot be changed in place (kustomization 72). Invalid also stands
// for plainly bad objects, so deleting needs better evidence.
func isImmutable(err error) bool {
	if apierrors.IsConflict(err) || apierrors.IsInvalid(err) {
		return true
	}
	return strings.Contains(err.Error(), "is immutable") || strings.Contains(err.Error(), "immutable field")
}
