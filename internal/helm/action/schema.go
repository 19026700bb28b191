package action

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	chart "helm.sh/helm/v4/pkg/chart/v2"
)

// Limits of the schemas of charts, which Helm hands to a library that follows every reference.
const (
	maxSchema      = 4 << 20 // bytes
	maxSchemaDepth = 200
	// schemaRoot is where Helm pretends a schema is.
	schemaRoot = "file:///values.schema.json"
	// metaSchemas are built into the library.
	metaSchemas = "json-schema.org/"
)

// checkSchemas refuses schemas that refer to anything outside of themselves (reliability 011).
func checkSchemas(c *chart.Chart) error {
	if err := checkSchema(c.Schema); err != nil {
		return fmt.Errorf("values.schema.json of chart %s: %w; set disableSchemaValidation to do without it", c.Name(), err)
	}
	for _, d := range c.Dependencies() {
		if err := checkSchemas(d); err != nil {
			return err
		}
	}
	return nil
}

func checkSchema(text []byte) error {
	if len(text) == 0 {
		return nil
	}
	if len(text) > maxSchema {
		return fmt.Errorf("it has %d bytes, the limit is %d", len(text), maxSchema)
	}
	var doc any
	if err := json.Unmarshal(text, &doc); err != nil {
		// Helm says what is wrong with it.
		return nil
	}
	root, err := url.Parse(schemaRoot)
	if err != nil {
		return err
	}
	check := &schemaCheck{known: map[string]bool{schemaRoot: true}}
	if err := check.walk(doc, root, 0); err != nil {
		return err
	}
	for target, text := range check.targets {
		if !check.known[target] {
			return fmt.Errorf("the reference %q leads out of the schema, which is refused", text)
		}
	}
	return nil
}

// schemaCheck collects which documents a schema consists of, and which its references lead to.
type schemaCheck struct {
	known   map[string]bool
	targets map[string]string // document -> the reference as written
}

var errSchemaDepth = errors.New("it is nested too deeply")

func (s *schemaCheck) walk(v any, base *url.URL, depth int) error {
	if depth > maxSchemaDepth {
		return errSchemaDepth
	}
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			if err := s.walk(item, base, depth+1); err != nil {
				return err
			}
		}
	case map[string]any:
		for _, key := range []string{"$id", "id"} {
			if id, ok := v[key].(string); ok && !strings.HasPrefix(id, "#") {
				if at, err := base.Parse(id); err == nil {
					base = at
					s.known[document(at)] = true
				}
			}
		}
		for _, key := range []string{"$ref", "$dynamicRef", "$recursiveRef", "$schema"} {
			if ref, ok := v[key].(string); ok {
				if err := s.refer(base, ref); err != nil {
					return err
				}
			}
		}
		for _, item := range v {
			if err := s.walk(item, base, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *schemaCheck) refer(base *url.URL, ref string) error {
	to, err := base.Parse(ref)
	if err != nil {
		return fmt.Errorf("invalid reference %q: %w", ref, err)
	}
	target := document(to)
	if strings.HasPrefix(to.Host+to.Path, metaSchemas) && to.Scheme != "file" {
		return nil
	}
	if s.targets == nil {
		s.targets = map[string]string{}
	}
	s.targets[target] = ref
	return nil
}

// document is an address without its fragment.
func document(u *url.URL) string {
	d := *u
	d.Fragment, d.RawFragment = "", ""
	return d.String()
}
