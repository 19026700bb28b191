package charts

import (
	"encoding/json"
	"fmt"
	"strings"
)

// bare is a chart of nothing but its metadata and the given files.
func bare(name string, files map[string]string) Chart {
	files[metadataFile] = fmt.Sprintf("apiVersion: v2\nname: %s\nversion: %s\n", name, First)
	return Chart{Name: name, Version: First, Files: files}
}

// withSchema is a chart whose values are judged by the schema.
func withSchema(schema string) Chart {
	return bare("schema", map[string]string{
		"values.schema.json": schema,
		"values.yaml":        "value: {}\n",
		"templates/a.yaml":   "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}\n",
	})
}

// SchemaReference is a chart whose schema refers to another one: an address on the network, a file of the machine, or "#",
// which is the schema itself (reliability 011).
func SchemaReference(target string) Chart {
	quoted, err := json.Marshal(target)
	if err != nil {
		// A text always has a form in JSON.
		panic(err)
	}
	return withSchema(`{"type": "object", "properties": {"value": {"$ref": ` + string(quoted) + `}}}`)
}

// SchemaLoop is a chart with a schema of which two parts refer to each other, without a value between them that could end
// the chain.
func SchemaLoop() Chart {
	return withSchema(`{"allOf": [{"$ref": "#/definitions/a"}], "definitions": {"a": {"allOf": [{"$ref": "#/definitions/b"}]}, "b": {"allOf": [{"$ref": "#/definitions/a"}]}}}`)
}

// SchemaDepth is a chart with a schema of so many schemas in each other.
func SchemaDepth(depth int) Chart {
	return withSchema(strings.Repeat(`{"allOf": [`, depth) + `{"type": "object"}` + strings.Repeat(`]}`, depth))
}

// SchemaEnumeration is a chart with a schema that lists so many values, none of which is the right one.
func SchemaEnumeration(size int) Chart {
	var list strings.Builder
	for i := range size {
		fmt.Fprintf(&list, `"value-%d",`, i)
	}
	return withSchema(`{"type": "object", "properties": {"value": {"enum": [` + list.String() + `"last"]}}}`)
}

// Expression is a chart with one ConfigMap that shows what a template's expression yields, such as `lookup "v1" "Secret"
// "kube-system" ""`, `getHostByName "canary.test"`, `.Files.Get "../../x"` or `env "HOME"` (reliability 013, 014).
func Expression(expression string) Chart {
	return bare("expression", map[string]string{
		"templates/a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}\ndata:\n  value: {{ " + expression + " | toJson | quote }}\n",
	})
}
