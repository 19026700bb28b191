package values

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"

	yamlv2 "go.yaml.in/yaml/v2"
	"sigs.k8s.io/yaml"
)

// errLimit is the property of errors about values that exceed the limits. Their texts hold nothing of the values.
var errLimit = errors.New("values exceed a limit")

// limited says which limit was exceeded, and by which flag it is raised.
type limited string

func (l limited) Error() string        { return string(l) }
func (l limited) Is(target error) bool { return target == errLimit }

// parse reads a document of values. An empty one has none.
func parse(data []byte, limits Limits) (map[string]any, error) {
	if bytes.ContainsRune(data, '&') {
		// What is written once can be meant many times: a document of one megabyte can stand for gigabytes, and it would be written out
		// on the way through JSON. The parser itself shares what is repeated, so here it costs little to look.
		var shared any
		if err := yamlv2.Unmarshal(data, &shared); err == nil {
			if err := limits.check(shared); err != nil {
				return nil, err
			}
		}
	}
	var values map[string]any
	if err := yaml.Unmarshal(data, &values); err != nil {
		return nil, err
	}
	return values, nil
}

var lineOf = regexp.MustCompile(`\bline (\d+)\b`)

// where tells the line of an error of the YAML parser, if it names one.
func where(err error) string {
	if found := lineOf.FindString(err.Error()); found != "" {
		return ", in " + found
	}
	return ""
}

// check refuses values that are too large or too deep. It looks no further than the limits allow.
func (l Limits) check(v any) error {
	m := measure{limits: l, bytes: l.Bytes}
	return m.add(v, 0)
}

// measure is what is left of the limits while values are looked at.
type measure struct {
	limits Limits
	bytes  int
}

func (m *measure) add(v any, depth int) error {
	if depth > m.limits.Depth {
		return limited(fmt.Sprintf("the values are nested deeper than %d levels: flatten them, or raise --values-limit-depth", m.limits.Depth))
	}
	// A number, and an element of a list or map, count as a few bytes: each takes that much in the record of a release.
	const scalar = 8
	size := scalar
	switch v := v.(type) {
	case string:
		size += len(v)
	case map[string]any:
		for key, value := range v {
			if err := m.entry(key, value, depth); err != nil {
				return err
			}
		}
	case map[any]any:
		for key, value := range v {
			if err := m.entry(fmt.Sprint(key), value, depth); err != nil {
				return err
			}
		}
	case []any:
		for _, value := range v {
			if err := m.add(value, depth+1); err != nil {
				return err
			}
		}
	}
	return m.take(size)
}

func (m *measure) entry(key string, value any, depth int) error {
	if err := m.take(len(key)); err != nil {
		return err
	}
	return m.add(value, depth+1)
}

func (m *measure) take(size int) error {
	if m.bytes -= size; m.bytes < 0 {
		return limited(fmt.Sprintf("the values are larger than %d bytes: drop what the chart does not use, or raise --values-limit-size", m.limits.Bytes))
	}
	return nil
}
