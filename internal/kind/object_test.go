package kind

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"
)

func object(t *testing.T, text string) Object {
	t.Helper()
	data, err := yaml.YAMLToJSON([]byte("{apiVersion: v1, kind: X, " + text[1:]))
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(data); err != nil {
		t.Fatal(err)
	}
	return Object{u}
}

func TestShortenHashes(t *testing.T) {
	sha1, sha256, sha512 := strings.Repeat("0a", 20), strings.Repeat("0b", 32), strings.Repeat("0c", 64)
	for in, want := range map[string]string{
		"":                             "",
		"main@sha1:" + sha1:            "main@sha1:0a0a0a0a",
		"latest@sha256:" + sha256:      "latest@sha256:0b0b0b0b",
		"sha512:" + sha512:             "sha512:0c0c0c0c",
		"sha512:" + sha512 + "0":       "sha512:" + sha512 + "0",
		"short " + sha1[:39] + " kept": "short " + sha1[:39] + " kept",
		sha1 + " and " + sha1:          "0a0a0a0a and 0a0a0a0a",
		strings.ToUpper(sha1):          "0A0A0A0A",
		"für " + sha1:                  "für 0a0a0a0a",
	} {
		// cli 11
		if got := ShortenHashes(in); got != want {
			t.Errorf("ShortenHashes(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzShortenHashes(f *testing.F) {
	f.Add("main@sha1:" + strings.Repeat("0a", 20))
	f.Fuzz(func(t *testing.T, s string) {
		got := ShortenHashes(s)
		if len(got) > len(s) || ShortenHashes(got) == "" && got != "" {
			t.Errorf("ShortenHashes(%q) = %q", s, got)
		}
	})
}

func TestParseEntry(t *testing.T) {
	entry := func(ns, name, group, kind, version string) Entry {
		return Entry{GroupKind: schema.GroupKind{Group: group, Kind: kind}, Version: version, Namespace: ns, Name: name}
	}
	for id, want := range map[string]Entry{
		"apps_web_apps_Deployment": entry("apps", "web", "apps", "Deployment", "v1"),
		"apps_web__Service":        entry("apps", "web", "", "Service", "v1"),
		"_apps__Namespace":         entry("", "apps", "", "Namespace", "v1"),
		"_system__node-reader_rbac.authorization.k8s.io_ClusterRole": entry("", "system:node-reader", "rbac.authorization.k8s.io", "ClusterRole", "v1"),
		"_a__b__c_g_K": entry("", "a:b:c", "g", "K", "v1"),
	} {
		got, ok := ParseEntry(id, "v1")
		if !ok {
			t.Errorf("ParseEntry(%q) failed", id)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("ParseEntry(%q) (-want +got):\n%s", id, diff)
		}
	}
	for _, id := range []string{"", "a", "a_b", "a_b_c", "a_b_c_", "___K"} {
		if got, ok := ParseEntry(id, "v1"); ok {
			t.Errorf("ParseEntry(%q) = %v, want a refusal", id, got)
		}
	}
}

func FuzzParseEntry(f *testing.F) {
	f.Add("apps_web_apps_Deployment")
	f.Add("_system__reader_rbac.authorization.k8s.io_ClusterRole")
	f.Fuzz(func(t *testing.T, id string) {
		e, ok := ParseEntry(id, "v1")
		if ok && (e.Kind == "" || e.Name == "") {
			t.Errorf("ParseEntry(%q) = %+v", id, e)
		}
	})
}

func TestState(t *testing.T) {
	for name, tc := range map[string]struct {
		object  string
		want    State
		message string
	}{
		"no status":           {`{metadata: {generation: 1}}`, Current, ""},
		"not observed":        {`{metadata: {generation: 2}, status: {observedGeneration: 1, conditions: [{type: Ready, status: "True", message: old}]}}`, InProgress, "waiting to be reconciled"},
		"schema default":      {`{metadata: {generation: 1}, status: {observedGeneration: -1}}`, InProgress, "waiting to be reconciled"},
		"reconciling":         {`{metadata: {generation: 1}, status: {observedGeneration: 1, conditions: [{type: Reconciling, status: "True", message: building}, {type: Ready, status: Unknown}]}}`, InProgress, "building"},
		"failing and retried": {`{metadata: {generation: 1}, status: {conditions: [{type: Reconciling, status: "True", message: again}, {type: Ready, status: "False", message: why}]}}`, InProgress, "why"},
		"waiting":             {`{metadata: {generation: 1}, status: {conditions: [{type: Ready, status: "False", message: why}]}}`, InProgress, "why"},
		"stalled":             {`{metadata: {generation: 1}, status: {observedGeneration: 1, conditions: [{type: Stalled, status: "True", message: never}, {type: Ready, status: "False"}]}}`, Failed, "never"},
		"ready":               {`{metadata: {generation: 1}, status: {observedGeneration: 1, conditions: [{type: Ready, status: "True"}]}}`, Current, ""},
		"deleted":             {`{metadata: {generation: 1, deletionTimestamp: "2026-01-01T00:00:00Z"}}`, Terminating, "being deleted"},
	} {
		t.Run(name, func(t *testing.T) {
			got, message := object(t, tc.object).State()
			if got != tc.want || message != tc.message {
				t.Errorf("State() = %s, %q, want %s, %q", got, message, tc.want, tc.message)
			}
		})
	}
}

func TestNamed(t *testing.T) {
	kinds := Set{
		{
			GroupVersionKind: schema.GroupVersionKind{Group: "image.toolkit.fluxcd.io", Version: "v1", Kind: "ImageUpdateAutomation"},
			Resource:         "imageupdateautomations", Short: []string{"iua", "imgupd", "imgauto"},
		},
		{GroupVersionKind: schema.GroupVersionKind{Group: "notification.toolkit.fluxcd.io", Version: "v1", Kind: "Receiver"}, Resource: "receivers"},
	}
	for word, want := range map[string]string{
		"ImageUpdateAutomation": "ImageUpdateAutomation", "iua": "ImageUpdateAutomation", "IMAGEUPDATEAUTOMATIONS": "ImageUpdateAutomation",
		"imageupdateautomation.image.toolkit.fluxcd.io":     "ImageUpdateAutomation",
		"imageupdateautomations.v1.image.toolkit.fluxcd.io": "ImageUpdateAutomation",
		"receiver": "Receiver", "receiver.image.toolkit.fluxcd.io": "", "deployment": "",
	} {
		k, _ := kinds.Named(word)
		if k.Kind != want {
			t.Errorf("Named(%q) = %q, want %q", word, k.Kind, want)
		}
	}
}
