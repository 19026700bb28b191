package kind

import (
	"fmt"
	"slices"
	"strings"

	"github.com/seed-79636ae9/flux/api/meta"
)

// ParseSource reads a source in the form [<kind>/]<name>[.<namespace>], of one of the kinds, whose case is ignored (cli 25, 26).
// Without a kind it is of the one called otherwise, or an error when that is empty. Errors name the flag.
func ParseSource(flag, value, otherwise string, kinds []string) (Ref, error) {
	ref, form := Ref{Kind: otherwise, Name: value}, "[<kind>/]<name>[.<namespace>]"
	if otherwise == "" {
		form = "<kind>/<name>[.<namespace>]"
	}
	if word, name, ok := strings.Cut(value, "/"); ok {
		i := slices.IndexFunc(kinds, func(known string) bool { return strings.EqualFold(known, word) })
		if i < 0 {
			return Ref{}, fmt.Errorf("--%s '%s' has kind '%s', use one of: %s", flag, value, word, strings.Join(kinds, ", "))
		}
		ref.Kind, ref.Name = kinds[i], name
	}
	ref.Name, ref.Namespace, _ = strings.Cut(ref.Name, ".")
	if ref.Kind == "" || ref.Name == "" || strings.Contains(ref.Name, "/") {
		return Ref{}, fmt.Errorf("--%s '%s' is not of the form %s", flag, value, form)
	}
	return ref, nil
}

// ParseDependencies reads what --depends-on names, each in the form [<namespace>/]<name>.
func ParseDependencies(list []string) ([]meta.DependencyReference, error) {
	var out []meta.DependencyReference
	for _, s := range list {
		d := meta.DependencyReference{Name: s}
		if ns, name, ok := strings.Cut(s, "/"); ok {
			d.Namespace, d.Name = ns, name
		}
		if d.Name == "" || strings.Contains(d.Name, "/") {
			return nil, fmt.Errorf("--depends-on '%s' is not of the form [<namespace>/]<name>", s)
		}
		out = append(out, d)
	}
	return out, nil
}
