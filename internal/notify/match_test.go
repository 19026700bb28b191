package notify

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	notificationv1 "github.com/seed-79636ae9/flux/api/notification/v1"
	notificationv1beta3 "github.com/seed-79636ae9/flux/api/notification/v1beta3"
	"github.com/seed-79636ae9/flux/toolkit/event"
)

// payload is an event about Kustomization prod/app.
func payload(change ...func(*event.Payload)) event.Payload {
	p := event.Payload{
		InvolvedObject: corev1.ObjectReference{
			APIVersion: "kustomize.toolkit.fluxcd.io/v1", Kind: "Kustomization", Namespace: "prod", Name: "app", UID: "uid-app",
		},
		Severity: event.Info, Reason: "ReconciliationSucceeded", Message: "done", ReportingController: "kustomize-controller",
		Metadata: map[string]string{"kustomize.toolkit.fluxcd.io/revision": "main@sha1:abc"},
	}
	for _, c := range change {
		c(&p)
	}
	return p
}

func metadata(pairs ...string) func(*event.Payload) {
	return func(p *event.Payload) {
		p.Metadata = map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			p.Metadata[pairs[i]] = pairs[i+1]
		}
	}
}

func severity(s event.Severity) func(*event.Payload) {
	return func(p *event.Payload) { p.Severity = s }
}

// alert is an Alert prod/a for all Kustomizations of its namespace, to Provider p.
func alert(change ...func(*notificationv1beta3.Alert)) *notificationv1beta3.Alert {
	a := &notificationv1beta3.Alert{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "a", UID: "uid-alert"}}
	a.Spec.ProviderRef.Name = "p"
	a.Spec.EventSeverity = "info"
	a.Spec.EventSources = []notificationv1.ObjectSelector{{Kind: "Kustomization", Name: "*"}}
	for _, c := range change {
		c(a)
	}
	return a
}

// alert 3
func TestKeptMetadata(t *testing.T) {
	p := payload(metadata(
		"kustomize.toolkit.fluxcd.io/revision", "r", "kustomize.toolkit.fluxcd.io/Checksum", "c", "kustomize.toolkit.fluxcd.io/digest", "d",
		"event.toolkit.fluxcd.io/team", "t", "event.toolkit.fluxcd.io/digest", "mine", "source.toolkit.fluxcd.io/revision", "x", "bare", "y",
	))
	want := map[string]string{"kustomize.toolkit.fluxcd.io/revision": "r", "event.toolkit.fluxcd.io/team": "t", "event.toolkit.fluxcd.io/digest": "mine"}
	if diff := cmp.Diff(want, keptMetadata(&p)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	// An object of the core group has no prefix of its own: nothing bare may pass for it.
	p = payload(metadata("bare", "y"))
	p.InvolvedObject.APIVersion = "v1"
	if got := keptMetadata(&p); got != nil {
		t.Errorf("kept %v", got)
	}
}

// alert 17, 18: the order of precedence, and what contradicts.
func TestCombinedMetadata(t *testing.T) {
	everywhere := alert(func(a *notificationv1beta3.Alert) {
		a.Spec.EventMetadata = map[string]string{"a": "alert", "b": "alert", "summary": "of the alert's metadata"}
		a.Spec.Summary = "deprecated"
	})
	for _, c := range []struct {
		name      string
		alert     *notificationv1beta3.Alert
		metadata  func(*event.Payload)
		want      map[string]string
		conflicts []string
	}{
		{"prefixes go", alert(), metadata("kustomize.toolkit.fluxcd.io/revision", "r", "event.toolkit.fluxcd.io/team", "t"), map[string]string{"revision": "r", "team": "t"}, nil},
		{
			"later wins", everywhere, metadata("event.toolkit.fluxcd.io/a", "event", "kustomize.toolkit.fluxcd.io/b", "object"),
			map[string]string{"a": "alert", "b": "object", "summary": "deprecated"}, []string{"a", "summary", "b"},
		},
		{"nothing to combine", alert(), metadata(), map[string]string{}, nil},
	} {
		p := payload(c.metadata)
		got, conflicts := combinedMetadata(&p, c.alert)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
		if !slices.Equal(c.conflicts, conflicts) {
			t.Errorf("%s: conflicts %v, want %v", c.name, conflicts, c.conflicts)
		}
	}
}

// alert 8, 22: kind, namespace and name.
func TestNames(t *testing.T) {
	p := payload()
	for _, c := range []struct {
		source notificationv1.ObjectSelector
		from   string
		want   bool
	}{
		{notificationv1.ObjectSelector{Kind: "Kustomization", Name: "*"}, "prod", true},
		{notificationv1.ObjectSelector{Kind: "Kustomization", Name: "app"}, "prod", true},
		{notificationv1.ObjectSelector{Kind: "Kustomization", Name: "ap*"}, "prod", false},
		{notificationv1.ObjectSelector{Kind: "HelmRelease", Name: "*"}, "prod", false},
		{notificationv1.ObjectSelector{Kind: "Kustomization", Name: "*"}, "other", false},
		{notificationv1.ObjectSelector{Kind: "Kustomization", Name: "*", Namespace: "prod"}, "other", true},
		{notificationv1.ObjectSelector{Kind: "Kustomization", Name: "*", Namespace: "*"}, "other", false},
	} {
		if got := names(&c.source, c.from, &p); got != c.want {
			t.Errorf("%+v in %s: %t", c.source, c.from, got)
		}
	}
}

// alert 9, 23
func TestSevere(t *testing.T) {
	for _, c := range []struct {
		of   string
		is   event.Severity
		want bool
	}{
		{"info", event.Info, true}, {"info", event.Error, true}, {"info", event.Trace, true}, {"", event.Info, true},
		{"error", event.Error, true}, {"error", event.Info, false}, {"error", event.Trace, false},
	} {
		a := alert(func(a *notificationv1beta3.Alert) { a.Spec.EventSeverity = c.of })
		if got := severe(a, c.is); got != c.want {
			t.Errorf("an alert of severity %q takes %s: %t", c.of, c.is, got)
		}
	}
}

// alert 11, 25: inclusion, exclusion, and expressions that cannot be used.
func TestAdmits(t *testing.T) {
	for _, c := range []struct {
		name               string
		include, exclude   []string
		message            string
		want               bool
		complaintsContains string
	}{
		{"no lists", nil, nil, "anything", true, ""},
		{"one includes", []string{"no", "^any"}, nil, "anything", true, ""},
		{"none includes", []string{"no"}, nil, "anything", false, ""},
		{"exclusion beats inclusion", []string{"any"}, []string{"thing$"}, "anything", false, ""},
		{"unanchored, over the whole message", nil, []string{"second"}, "first\nsecond line", false, ""},
		{"a bad inclusion counts as no match", []string{"("}, nil, "anything", false, "failed to compile inclusion regex: ("},
		{"a bad exclusion is ignored", nil, []string{"("}, "anything", true, "failed to compile exclusion regex: ("},
		{"a huge expression", nil, []string{strings.Repeat("a", maxPattern+1)}, "a", true, "failed to compile exclusion regex"},
		{"counted repeats", nil, []string{"(((a{100}){100}){100})"}, "a", true, "failed to compile exclusion regex"},
	} {
		var p patterns
		var complaints []string
		a := alert(func(a *notificationv1beta3.Alert) { a.Spec.InclusionList, a.Spec.ExclusionList = c.include, c.exclude })
		for range 2 {
			if got := p.admits(a, c.message, func(s string) { complaints = append(complaints, s) }); got != c.want {
				t.Errorf("%s: %t", c.name, got)
			}
		}
		if got := strings.Join(complaints, "\n"); !strings.Contains(got, c.complaintsContains) || (c.complaintsContains == "") != (got == "") {
			t.Errorf("%s: complaints %q", c.name, got)
		}
	}
}

// alert 4: what makes two events the same, and for how long.
func TestLimiter(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	l := newLimiter(5*time.Minute, func() time.Time { return now })
	allow := func(change ...func(*event.Payload)) bool {
		p := payload(change...)
		return l.allow(keyOf(&p))
	}
	group := "kustomize.toolkit.fluxcd.io/"
	if !allow() || allow() {
		t.Fatal("the first event passes, the second does not")
	}
	if allow(severity(event.Error)) || allow(func(p *event.Payload) { p.Reason = "Other" }) {
		t.Error("severity or reason make an event another one")
	}
	for name, change := range map[string]func(*event.Payload){
		"name":      func(p *event.Payload) { p.InvolvedObject.Name = "other" },
		"namespace": func(p *event.Payload) { p.InvolvedObject.Namespace = "other" },
		"kind":      func(p *event.Payload) { p.InvolvedObject.Kind = "HelmRelease" },
		"message":   func(p *event.Payload) { p.Message = "other" },
		"revision":  metadata(group+"revision", "main@sha1:def"),
		"origin":    metadata(group+"revision", "main@sha1:abc", group+"originRevision", "x"),
		"token":     metadata(group+"revision", "main@sha1:abc", group+"token", "x"),
	} {
		if !allow(change) {
			t.Errorf("another %s makes no other event", name)
		}
	}
	if allow(metadata(group+"revision", "main@sha1:abc", group+"other", "x")) {
		t.Error("other metadata makes an event another one")
	}
	// Neither the turn of the generations nor many events in between make it forget too early, or remember too long.
	now = now.Add(5*time.Minute - time.Second)
	if allow() {
		t.Error("it passes before the interval is over")
	}
	now = now.Add(time.Second)
	if !allow() {
		t.Error("it does not pass after the interval")
	}
	for i := range 3 * maxRemembered {
		var key eventKey
		key[0], key[1], key[2] = byte(i), byte(i>>8), byte(i>>16)
		l.allow(key)
	}
	if n := len(l.recent) + len(l.older); n > 2*maxRemembered {
		t.Errorf("%d events are remembered", n)
	}
}
