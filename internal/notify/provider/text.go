package provider

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/seed-79636ae9/flux/toolkit/event"
)

// Keys of the metadata of an event that mean something to providers (wire contract 7). Group prefixes are gone when a Notifier sees them.
const (
	revisionKey       = "revision"
	originRevisionKey = "originRevision"
	commitKey         = "commit"
	changeRequestKey  = "change_request"
	summaryKey        = "summary"
)

// progressingReason tells of work that has begun: no news to services that show results (provider 11, 20).
const progressingReason = "Progressing"

// objectName is the lower-case kind, name and namespace of the object: "kustomization/app.prod".
func objectName(e *event.Payload) string {
	o := &e.InvolvedObject
	return fmt.Sprintf("%s/%s.%s", strings.ToLower(o.Kind), o.Name, o.Namespace)
}

// objectPath is the kind, namespace and name of the object: "Kustomization/prod/app".
func objectPath(e *event.Payload) string {
	o := &e.InvolvedObject
	return fmt.Sprintf("%s/%s/%s", o.Kind, o.Namespace, o.Name)
}

// entry is one entry of the metadata.
type entry struct{ Key, Value string }

// sortedMetadata returns the metadata by key, without the keys given.
func sortedMetadata(e *event.Payload, without ...string) []entry {
	var out []entry
	for _, key := range slices.Sorted(maps.Keys(e.Metadata)) {
		if !slices.Contains(without, key) {
			out = append(out, entry{key, e.Metadata[key]})
		}
	}
	return out
}

// words splits a reason where the case changes, in lower case: "BuildFailed" is "build failed" (wire contract 13).
func words(reason string) string {
	var out strings.Builder
	runes := []rune(reason)
	for i, r := range runes {
		if i > 0 && unicode.IsUpper(r) && (!unicode.IsUpper(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])) {
			out.WriteByte(' ')
		}
		out.WriteRune(unicode.ToLower(r))
	}
	return out.String()
}

// statusMarkdown is an event as Markdown (wire contract 13, "Status markdown").
func statusMarkdown(e *event.Payload) string {
	emoji := "ℹ️"
	if e.Severity == event.Error {
		emoji = "⚠️"
	}
	var out strings.Builder
	fmt.Fprintf(&out, "## Flux Status\n\n%s %s\n\n%s\n", emoji, objectPath(e), e.Message)
	if entries := sortedMetadata(e, changeRequestKey); len(entries) > 0 {
		out.WriteString("\nMetadata:\n")
		for _, each := range entries {
			fmt.Fprintf(&out, "* `%s`: %s\n", each.Key, each.Value)
		}
	}
	return out.String()
}
