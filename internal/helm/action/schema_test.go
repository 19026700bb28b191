package action

import (
	"strings"
	"testing"

	chart "helm.sh/helm/v4/pkg/chart/v2"
)

// reliability 011: a schema reaches out neither by network nor into the file system, and cannot exhaust the stack.
func TestSchemas(t *testing.T) {
	for schema, want := range map[string]string{
		``:                   "",
		`{"type": "object"}`: "",
		`{"$ref": "#/definitions/a", "definitions": {"a": {"type": "object"}}}`:                                                     "",
		`{"$schema": "http://json-schema.org/draft-07/schema#", "$ref": "#"}`:                                                       "",
		`{"$schema": "https://json-schema.org/draft/2020-12/schema"}`:                                                               "",
		`{"$id": "https://example.com/root.json", "$ref": "#/$defs/a", "$defs": {"a": {"$id": "a.json"}, "b": {"$ref": "a.json"}}}`: "",
		`{"properties": {"a": {"$ref": "http://127.0.0.1:1/s"}}}`:                                                                   "http://127.0.0.1:1/s",
		`{"allOf": [{"$ref": "https://example.com/s#/x"}]}`:                                                                         "https://example.com/s",
		`{"$ref": "file:///etc/passwd"}`:                                                                                            "file:///etc/passwd",
		`{"$ref": "other.json"}`:                                                                                                    "other.json",
		`{"$id": "http://127.0.0.1:1/", "properties": {"a": {"$ref": "s"}}}`:                                                        `"s"`,
		`{"$schema": "http://127.0.0.1:1/s"}`:                                                                                       "http://127.0.0.1:1/s",
		`{"$dynamicRef": "http://127.0.0.1:1/s"}`:                                                                                   "http://127.0.0.1:1/s",
		strings.Repeat(`{"allOf": [`, 300) + `{}` + strings.Repeat(`]}`, 300):                                                       "nested too deeply",
		`{"enum": ["` + strings.Repeat("x", 5<<20) + `"]}`:                                                                          "the limit is 4194304",
	} {
		parent := &chart.Chart{Metadata: &chart.Metadata{Name: "parent"}}
		parent.AddDependency(&chart.Chart{Metadata: &chart.Metadata{Name: "child"}, Schema: []byte(schema)})
		err := checkSchemas(parent)
		switch {
		case want == "" && err != nil:
			t.Errorf("%.100s: %v", schema, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "child") || !strings.Contains(err.Error(), "disableSchemaValidation")):
			t.Errorf("%.100s: error %v, want %s", schema, err, want)
		}
	}
}
