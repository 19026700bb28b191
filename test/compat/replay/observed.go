package replay

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// history is how much of the growing records earlier snapshots have shown.
type history struct {
	counts               map[string]int32 // occurrences of a Kubernetes Event, by name
	deliveries, requests int
}

func newHistory() *history { return &history{counts: map[string]int32{}} }

// kubernetesEvents shows the Events on toolkit objects that are new or were repeated since the last snapshot.
func (p *player) kubernetesEvents(ctx context.Context) ([]any, error) {
	shown := newGroups()
	for _, ns := range p.r.AllNamespaces() {
		list, err := p.lab.core.CoreV1().Events(ns).List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, fmt.Errorf("listing events: %w", err)
		}
		for i := range list.Items {
			e := &list.Items[i]
			gv, err := schema.ParseGroupVersion(e.InvolvedObject.APIVersion)
			if err != nil || !isToolkit(gv.Group) {
				continue
			}
			key := ns + "/" + e.Name
			if count := max(e.Count, 1); count > p.seen.counts[key] {
				p.seen.counts[key] = count
				shown.add(p.showEvent(e), e.Count > 1)
			}
		}
	}
	return shown.entries, nil
}

func (p *player) showEvent(e *corev1.Event) map[string]any {
	shown := map[string]any{
		"object": e.InvolvedObject.Kind + "/" + e.InvolvedObject.Name, "type": e.Type, "reason": e.Reason,
		"message": p.clean.text(e.Message), "source": e.Source.Component,
	}
	if len(e.Annotations) > 0 {
		shown["annotations"] = e.Annotations
	}
	return shown
}

// posted shows the events that arrived at the events address since the last snapshot.
func (p *player) posted() []any {
	shown := newGroups()
	all := p.lab.events.Deliveries(p.seen.deliveries)
	p.seen.deliveries += len(all)
	for _, d := range all {
		object, _ := d.Event["involvedObject"].(map[string]any)
		namespace, _ := object["namespace"].(string)
		if !slices.Contains(p.r.AllNamespaces(), namespace) {
			continue
		}
		body, _ := p.clean.tree(d.Event).(map[string]any)
		entry, first := shown.add(body, false)
		answers, _ := entry["answers"].([]any)
		if !first {
			entry["repeated"] = true
		}
		if !slices.Contains(answers, any(d.Code)) {
			entry["answers"] = append(answers, d.Code)
		}
	}
	return shown.entries
}

// groups collects entries, each distinct one once.
type groups struct {
	entries []any
	byKey   map[string]map[string]any
}

func newGroups() *groups { return &groups{entries: []any{}, byKey: map[string]map[string]any{}} }

// add returns the entry that stands for this one, and whether it is new.
func (g *groups) add(entry map[string]any, repeated bool) (map[string]any, bool) {
	b, err := json.Marshal(entry)
	if err != nil {
		// Only what came out of JSON goes in.
		panic(err)
	}
	if old := g.byKey[string(b)]; old != nil {
		if repeated {
			old["repeated"] = true
		}
		return old, false
	}
	if repeated {
		entry["repeated"] = true
	}
	g.byKey[string(b)] = entry
	g.entries = append(g.entries, entry)
	return entry, true
}

// requests shows what the notification sink got for this recording since the last snapshot.
func (p *player) requests() []any {
	shown := []any{}
	all := p.lab.sink.Requests(p.seen.requests)
	p.seen.requests += len(all)
	for _, r := range all {
		// The sink is shared; requests name the namespace in their path or in their body.
		if !mentions(r.Path, p.r.Namespace) && !mentions(string(r.Body), p.r.Namespace) {
			continue
		}
		entry := map[string]any{"method": r.Method, "path": r.Path, "headers": shownHeaders(r.Header)}
		var body any
		if json.Unmarshal(r.Body, &body) == nil {
			if fields, ok := body.(map[string]any); ok && fields["when"] != nil {
				fields["when"] = "<unix-time>"
			}
			entry["json"] = body
		} else {
			entry["body"] = string(r.Body)
		}
		shown = append(shown, entry)
	}
	return shown
}

// mentions reports whether a text holds the name as a whole: the name of one recording may begin with that of another.
func mentions(text, name string) bool {
	for {
		i := strings.Index(text, name)
		if i < 0 {
			return false
		}
		text = text[i+len(name):]
		if text == "" || !strings.ContainsRune("-abcdefghijklmnopqrstuvwxyz0123456789", rune(text[0])) {
			return true
		}
	}
}

func shownHeaders(h http.Header) map[string]string {
	out := map[string]string{}
	for key := range h {
		if key != "Content-Length" {
			out[key] = h.Get(key)
		}
	}
	if strings.HasPrefix(out["User-Agent"], "flux/v") {
		// Which version depends on how the program was built.
		out["User-Agent"] = "flux/<version>"
	}
	if strings.HasPrefix(out["X-Signature"], "sha256=") {
		out["X-Signature"] = "sha256=<hmac of the body>"
	}
	return out
}
