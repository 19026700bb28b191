// Package values puts together the values of a release: documents and single values from ConfigMaps and Secrets, under the values that
// the HelmRelease itself holds. What it reads may have been written by people who are trusted with nothing but a namespace: it is bounded,
// and what a Secret holds is in no error.
package values

import (
	"fmt"

	"github.com/spf13/pflag"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
)

// Limits bound the values of a release.
type Limits struct {
	// Bytes is the size of the values, all text and numbers of them (--values-limit-size).
	Bytes int
	// Depth is how deep maps and lists lie in each other (--values-limit-depth).
	Depth int
	// Elements is how many elements of lists the indexes of all targetPaths may ask for (--values-limit-elements).
	Elements int
}

// DefaultLimits admit all values that can be released: the record of a release has to fit into a Secret of 1 MiB, compressed.
func DefaultLimits() Limits { return Limits{Bytes: 8 << 20, Depth: 100, Elements: 100_000} }

// Bind binds the limits to flags, with the defaults as their values.
func (l *Limits) Bind(fs *pflag.FlagSet) {
	d := DefaultLimits()
	fs.IntVar(&l.Bytes, "values-limit-size", d.Bytes, "The most bytes of the values of a release.")
	fs.IntVar(&l.Depth, "values-limit-depth", d.Depth, "How deep the values of a release may be nested.")
	fs.IntVar(&l.Elements, "values-limit-elements", d.Elements, "How many list elements the targetPaths of a release may ask for.")
}

// Error says that a reference in spec.valuesFrom could not be resolved (helmrelease 27). It never tells what a Secret holds.
type Error struct {
	// Kind, Namespace and Name are those of the ConfigMap or Secret, Key is the key of its data.
	Kind, Namespace, Name, Key string
	// Optional is that of the reference.
	Optional bool
	// Missing says that the object or the key does not exist, rather than that it cannot be read or used.
	Missing bool
	// Err is the cause.
	Err error
}

// Error returns the text of 2.9.
func (e *Error) Error() string {
	optional := ""
	if e.Optional {
		optional = "optional "
	}
	return fmt.Sprintf("could not resolve %s%s chart values reference '%s/%s' with key '%s': %v", optional, e.Kind, e.Namespace, e.Name, e.Key, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// defaultKey of a document of values (helmrelease 27).
const defaultKey = "values.yaml"

func keyOf(ref *helmv2.ValuesReference) string {
	if ref.ValuesKey != "" {
		return ref.ValuesKey
	}
	return defaultKey
}
