package preview

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"
)

// Field is one place where two states of an object differ. Before is nil if it would be added, After if it would be removed.
type Field struct {
	// Path are the keys that lead to it; an element of a list goes by its name, or by its index.
	Path          []string
	Before, After any
}

// differ appends the deepest differences between two values.
func differ(to []Field, path []string, a, b any) []Field {
	if reflect.DeepEqual(a, b) {
		return to
	}
	x, isMap := a.(map[string]any)
	y, areMaps := b.(map[string]any)
	if isMap && areMaps {
		return differMaps(to, path, x, y)
	}
	l, isList := a.([]any)
	m, areLists := b.([]any)
	if !isList || !areLists {
		return append(to, Field{path, a, b})
	}
	names, others := named(l), named(m)
	if names != nil && others != nil {
		return differMaps(to, path, names, others)
	}
	if len(l) != len(m) {
		return append(to, Field{path, a, b})
	}
	for i := range l {
		to = differ(to, join(path, strconv.Itoa(i)), l[i], m[i])
	}
	return to
}

func differMaps(to []Field, path []string, a, b map[string]any) []Field {
	keys := maps.Clone(a)
	maps.Copy(keys, b)
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		before, was := a[k]
		after, is := b[k]
		at := join(path, k)
		if was && is {
			to = differ(to, at, before, after)
			continue
		}
		to = append(to, Field{at, before, after})
	}
	return to
}

// join never shares the array of path, which siblings append to.
func join(path []string, key string) []string { return append(slices.Clip(path), key) }

// named is a list of objects by their names; nil if it is another list.
func named(list []any) map[string]any {
	out := make(map[string]any, len(list))
	for _, e := range list {
		m, _ := e.(map[string]any)
		name, _ := m["name"].(string)
		if _, twice := out[name]; twice || name == "" {
			return nil
		}
		out[name] = e
	}
	return out
}

// String is a field with what would become of it, one line per value, or per line of a text.
func (f Field) String() string {
	var b strings.Builder
	path := make([]string, len(f.Path))
	for i, k := range f.Path {
		if path[i] = k; strings.ContainsAny(k, ". ") {
			path[i] = `"` + k + `"`
		}
	}
	fmt.Fprintln(&b, strings.Join(path, "."))
	switch {
	case f.Before == nil:
		b.WriteString("  + added\n" + lines("    + ", text(f.After)))
	case f.After == nil:
		b.WriteString("  - removed\n" + lines("    - ", text(f.Before)))
	default:
		before, after, around := trim(text(f.Before), text(f.After))
		fmt.Fprintf(&b, "  ± value change%s\n%s%s", around, lines("    - ", before), lines("    + ", after))
	}
	return b.String()
}

// text is a value in YAML, a string as it is.
func text(v any) []string {
	s, ok := v.(string)
	if !ok {
		data, err := yaml.Marshal(v)
		if err != nil {
			data = []byte(fmt.Sprint(v))
		}
		s = string(data)
	}
	return strings.Split(strings.TrimSuffix(s, "\n"), "\n")
}

// trim drops the lines that two texts begin and end with, and says after which line they differ.
func trim(a, b []string) (before, after []string, around string) {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	m := 0
	for m < len(a)-n && m < len(b)-n && a[len(a)-1-m] == b[len(b)-1-m] {
		m++
	}
	if n > 0 {
		around = fmt.Sprintf(" after line %d", n)
	}
	return a[n : len(a)-m], b[n : len(b)-m], around
}

func lines(indent string, text []string) string {
	var b strings.Builder
	for _, line := range text {
		b.WriteString(indent + line + "\n")
	}
	return b.String()
}
