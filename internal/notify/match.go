package notify

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/runtime/schema"

	notificationv1 "github.com/seed-79636ae9/flux/api/notification/v1"
	notificationv1beta3 "github.com/seed-79636ae9/flux/api/notification/v1beta3"
	"github.com/seed-79636ae9/flux/toolkit/event"
)

// eventPrefix marks metadata that people give to events; the other metadata has the API group of the object in front (alert 3).
const eventPrefix = "event.toolkit.fluxcd.io/"

// Keys of metadata, without the group in front.
const (
	tokenKey         = "token"
	revisionKey      = "revision"
	originKey        = "originRevision"
	summaryKey       = "summary"
	commitStatusKey  = "commit_status"
	commitKey        = eventPrefix + "commit"
	changeRequestKey = eventPrefix + "change_request"
)

// commitStatusUpdate is the value of commit_status that marks an event of interest to commit statuses alone (alert 14).
const commitStatusUpdate = "update"

// groupPrefix is what metadata of the object's controller has in front.
func groupPrefix(p *event.Payload) string {
	gv, err := schema.ParseGroupVersion(p.InvolvedObject.APIVersion)
	if err != nil || gv.Group == "" {
		return ""
	}
	return gv.Group + "/"
}

// keptMetadata returns the metadata that alerts may see (alert 3).
func keptMetadata(p *event.Payload) map[string]string {
	group := groupPrefix(p)
	kept := map[string]string{}
	for key, value := range p.Metadata {
		if strings.HasPrefix(key, eventPrefix) {
			kept[key] = value
			continue
		}
		name, ours := strings.CutPrefix(key, group)
		if group == "" || !ours || strings.EqualFold(name, "checksum") || strings.EqualFold(name, "digest") {
			continue
		}
		kept[key] = value
	}
	if len(kept) == 0 {
		return nil
	}
	return kept
}

// combinedMetadata is what a provider sees: metadata of the event, of the Alert and of the object, the later ones before the earlier
// ones. It also returns the keys that had more than one value (alert 17, 18).
func combinedMetadata(p *event.Payload, alert *notificationv1beta3.Alert) (combined map[string]string, conflicts []string) {
	group := groupPrefix(p)
	fromEvent, fromObject := map[string]string{}, map[string]string{}
	for key, value := range p.Metadata {
		if name, ok := strings.CutPrefix(key, eventPrefix); ok {
			fromEvent[name] = value
		} else if name, ok := strings.CutPrefix(key, group); ok && group != "" {
			fromObject[name] = value
		}
	}
	summary := map[string]string{}
	if alert.Spec.Summary != "" {
		summary[summaryKey] = alert.Spec.Summary
	}
	combined = map[string]string{}
	for _, source := range []map[string]string{fromEvent, alert.Spec.EventMetadata, summary, fromObject} {
		for _, key := range slices.Sorted(maps.Keys(source)) {
			if _, taken := combined[key]; taken && !slices.Contains(conflicts, key) {
				conflicts = append(conflicts, key)
			}
			combined[key] = source[key]
		}
	}
	if len(combined) == 0 {
		return p.Metadata, nil
	}
	return combined, conflicts
}

// isStatusUpdate reports whether an event exists for the sake of commit statuses alone (alert 14).
func isStatusUpdate(p *event.Payload) bool {
	return p.Metadata[groupPrefix(p)+commitStatusKey] == commitStatusUpdate
}

// severe reports whether the severity is one that the Alert takes (alert 9, 23).
func severe(alert *notificationv1beta3.Alert, severity event.Severity) bool {
	return alert.Spec.EventSeverity != notificationv1beta3.SeverityError || severity == event.Error
}

// names reports whether the source names the object of the event, labels aside (alert 8, 22).
func names(source *notificationv1.ObjectSelector, alertNamespace string, p *event.Payload) bool {
	namespace := source.Namespace
	if namespace == "" {
		namespace = alertNamespace
	}
	o := &p.InvolvedObject
	return source.Kind == o.Kind && namespace == o.Namespace && (source.Name == notificationv1.AnyName || source.Name == o.Name)
}

// objectOf names the object of an event in messages: "Kind/namespace/name" (alert 19).
func objectOf(p *event.Payload) string {
	o := &p.InvolvedObject
	return fmt.Sprintf("%s/%s/%s", o.Kind, o.Namespace, o.Name)
}

const (
	// maxPattern bounds a regular expression of an Alert, in bytes. Go's expressions take time in proportion to their size and the message.
	maxPattern = 4 << 10
	// maxPatterns bounds how many compiled expressions are kept.
	maxPatterns = 1024
)

// patterns keeps compiled regular expressions: an Alert's are the same for every event.
type patterns struct {
	mu   sync.Mutex // guards kept
	kept map[string]*regexp.Regexp
}

// get compiles a pattern; nil: it cannot be used.
func (p *patterns) get(text string) *regexp.Regexp {
	p.mu.Lock()
	defer p.mu.Unlock()
	if found, ok := p.kept[text]; ok {
		return found
	}
	var compiled *regexp.Regexp
	if len(text) <= maxPattern {
		// An error is a nil expression: the caller tells.
		compiled, _ = regexp.Compile(text)
	}
	if p.kept == nil || len(p.kept) >= maxPatterns {
		p.kept = map[string]*regexp.Regexp{}
	}
	p.kept[text] = compiled
	return compiled
}

// admits reports whether the lists of the Alert let a message through, and complains about expressions that cannot be used (alert 11, 25).
func (p *patterns) admits(alert *notificationv1beta3.Alert, message string, complain func(string)) bool {
	included := len(alert.Spec.InclusionList) == 0
	for _, text := range alert.Spec.InclusionList {
		switch pattern := p.get(text); {
		case pattern == nil:
			complain("failed to compile inclusion regex: " + text)
		case pattern.MatchString(message):
			included = true
		}
	}
	if !included {
		return false
	}
	for _, text := range alert.Spec.ExclusionList {
		switch pattern := p.get(text); {
		case pattern == nil:
			complain("failed to compile exclusion regex: " + text)
		case pattern.MatchString(message):
			return false
		}
	}
	return true
}
