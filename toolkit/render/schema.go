package render

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/semaphore"
	"sigs.k8s.io/kustomize/kyaml/openapi"
	"sigs.k8s.io/yaml"
)

// maxShared is more builds than can ever run at once; taking all places is to be alone.
const maxShared = 1 << 30

// schemaTurns decides who may run kustomize. Its OpenAPI schema lives in package variables: builds that use the
// built-in one may run side by side once it is parsed, a build that brings its own must be alone and clean up.
type schemaTurns struct {
	places *semaphore.Weighted
	parsed atomic.Bool // the built-in schema is; written only by who is alone
}

// turns is a package variable because what it guards is.
var turns = &schemaTurns{places: semaphore.NewWeighted(maxShared)}

// errSchemaLate reports that a build turned out to bring its own schema while it was not alone.
var errSchemaLate = errors.New("the kustomization declares an OpenAPI schema")

// shared runs fn beside others.
func (t *schemaTurns) shared(ctx context.Context, fn func()) error {
	for {
		if err := t.places.Acquire(ctx, 1); err != nil {
			return context.Cause(ctx)
		}
		if t.parsed.Load() {
			break
		}
		// Parsing on demand would race with builds that read the schema without a lock.
		t.places.Release(1)
		if err := t.places.Acquire(ctx, maxShared); err != nil {
			return context.Cause(ctx)
		}
		openapi.Schema()
		t.parsed.Store(true)
		t.places.Release(maxShared)
	}
	defer t.places.Release(1)
	fn()
	return nil
}

// alone runs fn while no other build runs, and throws the schema away afterwards. Only then: parsing it costs more
// than most builds.
func (t *schemaTurns) alone(ctx context.Context, fn func()) error {
	if err := t.places.Acquire(ctx, maxShared); err != nil {
		return context.Cause(ctx)
	}
	defer func() {
		openapi.ResetOpenAPI()
		t.parsed.Store(false)
		t.places.Release(maxShared)
	}()
	openapi.ResetOpenAPI()
	fn()
	return nil
}

// schema is as much of an OpenAPI document as guardSchema looks at.
type schema = map[string]any

// guardSchema refuses an OpenAPI schema whose references lead back to themselves: kustomize would follow them
// for ever, while every other build waits.
func guardSchema(content []byte) error {
	var doc schema
	if err := yaml.Unmarshal(content, &doc); err != nil {
		return nil // kustomize reports it
	}
	safe := map[string]bool{}
	var walk func(v any) error
	walk = func(v any) error {
		switch v := v.(type) {
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				if err := followRef(doc, ref, safe); err != nil {
					return err
				}
			}
			for _, item := range v {
				if err := walk(item); err != nil {
					return err
				}
			}
		case []any:
			for _, item := range v {
				if err := walk(item); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return walk(doc)
}

func followRef(doc schema, ref string, safe map[string]bool) error {
	var trail []string
	for seen := map[string]bool{}; ref != "" && !safe[ref]; {
		if seen[ref] {
			return fmt.Errorf("the OpenAPI reference %s leads back to itself", ref)
		}
		seen[ref] = true
		trail = append(trail, ref)
		ref = refOf(doc, ref)
	}
	for _, r := range trail {
		safe[r] = true
	}
	return nil
}

// refOf returns the reference that the target of a reference consists of, if it does.
func refOf(doc schema, ref string) string {
	_, pointer, _ := strings.Cut(ref, "#")
	var at any = doc
	for _, part := range strings.Split(strings.TrimPrefix(pointer, "/"), "/") {
		m, ok := at.(map[string]any)
		if !ok {
			return ""
		}
		at = m[strings.NewReplacer("~1", "/", "~0", "~").Replace(part)]
	}
	m, _ := at.(map[string]any)
	next, _ := m["$ref"].(string)
	return next
}
