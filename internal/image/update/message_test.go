package update

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	imagev1 "github.com/seed-79636ae9/flux/api/image/v1"
	"github.com/seed-79636ae9/flux/internal/image/update/setters"
	"github.com/seed-79636ae9/flux/toolkit/loop"
)

func automation(edit func(*imagev1.ImageUpdateAutomation)) *imagev1.ImageUpdateAutomation {
	obj := &imagev1.ImageUpdateAutomation{
		ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "auto", Generation: 1},
		Spec: imagev1.ImageUpdateAutomationSpec{
			SourceRef: imagev1.ImageUpdateSourceReference{Kind: "GitRepository", Name: "app"},
			Git:       &imagev1.GitSpec{Commit: imagev1.CommitSpec{Author: imagev1.CommitUser{Name: "bot", Email: "bot@example.com"}}},
			Update:    &imagev1.UpdateStrategy{Strategy: imagev1.UpdateStrategySetters},
		},
	}
	if edit != nil {
		edit(obj)
	}
	return obj
}

func withTemplate(text string) *imagev1.ImageUpdateAutomation {
	return automation(func(o *imagev1.ImageUpdateAutomation) {
		o.Spec.Git.Commit.MessageTemplate = text
		o.Spec.Git.Commit.MessageTemplateValues = map[string]string{"cluster": "prod"}
	})
}

func someChanges() []fileChange {
	web := setters.Object{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "apps", Name: "web"}
	return []fileChange{
		{"deploy/web.yaml", setters.Change{Object: web, Setter: "apps:web", Old: "web:1", New: "web:2"}},
		{"deploy/web.yaml", setters.Change{Object: web, Setter: "apps:web:tag", Old: "1", New: "2"}},
		{"values.yaml", setters.Change{Setter: "apps:web:tag", Old: "1", New: "2"}},
	}
}

// imageupdateautomation 24, 25, 51: what templates see.
func TestMessage(t *testing.T) {
	for text, want := range map[string]string{
		"": "Update from image update automation",
		"{{ .AutomationObject }} {{ .AutomationObject.Name }}/{{ .AutomationObject.Namespace }} {{ .Values.cluster }}": "apps/auto auto/apps prod",
		"{{ range .Changed.Changes }}{{ .OldValue }}>{{ .NewValue }} {{ .Setter }};{{ end }}":                          "web:1>web:2 apps:web;1>2 apps:web:tag;",
		"{{ range $id, $c := .Changed.Objects }}{{ $id.Kind }}/{{ $id.Namespace }}/{{ $id.Name }} {{ $id.APIVersion }} {{ len $c }};{{ end }}": "//  1;" +
			"Deployment/apps/web apps/v1 2;",
		"{{ range $f, $o := .Changed.FileChanges }}{{ $f }}:{{ range $id, $c := $o }}{{ $id.Name }}{{ range $c }} {{ .NewValue }}{{ end }};{{ end }}{{ end }}": "deploy/web.yaml:web web:2 2;values.yaml: 2;",
		"{{ define \"x\" }}[{{ . }}]{{ end }}{{ template \"x\" \"a\" }}{{ printf \"%5s|%s\" \"b\" (upper \"c\") }}":                                            "[a]    b|C",
		"{{ range until 3 }}{{ . }}{{ end }}{{ repeat 3 \"x\" }}{{ \"a,b\" | splitList \",\" | join \"-\" }}":                                                  "012xxxa-b",
		"{{ with .Values }}{{ .Updated }}{{ end }}":                                  "<no value>",
		"{{ $d := dict \"a\" 1 }}{{ $_ := set $d \"b\" (list 1 2) }}{{ toJson $d }}": `{"a":1,"b":[1,2]}`,
		"{{ html \"<\" }}{{ urlquery \"a b\" }}{{ js \"'\" }}":                       "&lt;a+b\\'",
	} {
		got, err := message(t.Context(), withTemplate(text), someChanges())
		if err != nil || got != want {
			t.Errorf("%s: %q, %v\nwant %q", text, got, err, want)
		}
	}
}

// imageupdateautomation 25, 26, 50: mistakes are told, and those of old templates apart.
func TestMessageErrors(t *testing.T) {
	for text, want := range map[string]string{
		"{{ .AutomationObject ": "unable to create commit message template from spec: template: commit message:1: unclosed action",
		"{{ .Nope }}":           "failed to run template from spec: template: commit message:1:3: executing",
		`{{ fail "no" }}`:       "failed to run template from spec: ",
		`{{ env "HOME" }}`:      `function "env" not defined`,
		`{{ now }}`:             `function "now" not defined`,
		"{{ range .Updated.Images }}{{ . }}{{ end }}": "RemovedTemplateField: template uses removed '.Updated' field. Please use '.Changed' instead. " +
			"See: https://fluxcd.io/flux/components/image/imageupdateautomations/#message-template",
		"{{ range .Changed.ImageResult.Images }}{{ . }}{{ end }}": "RemovedTemplateField: template uses removed '.Changed.ImageResult' field.",
	} {
		_, err := message(t.Context(), withTemplate(text), someChanges())
		if err == nil {
			t.Errorf("%s: no error", text)
			continue
		}
		got := err.Error()
		if reason := loop.Reason(err, ""); reason != "" {
			got = reason + ": " + got
		}
		if !strings.Contains(got, want) || strings.HasPrefix(want, "Removed") != strings.HasPrefix(got, "Removed") {
			t.Errorf("%s: %s\nwant %s", text, got, want)
		}
	}
}

// Templates of tenants cannot keep the process busy, fill its memory or end it (reliability 025).
func TestMessageLimits(t *testing.T) {
	for name, text := range map[string]string{
		"loop":                 "{{ range until 2000 }}{{ range until 2000 }}{{ end }}{{ end }}",
		"loop over a number":   "{{ range 100000000 }}{{ end }}",
		"list":                 "{{ until 1000000000 }}",
		"list by steps":        "{{ untilStep 0 1000000000 1 }}",
		"numbers":              "{{ seq 1000000000 }}",
		"repeat":               `{{ repeat 1000000000 "x" }}`,
		"indent":               `{{ indent 1000000000 "x" }}`,
		"nindent":              `{{ nindent 1000000000 "x" }}`,
		"replace":              `{{ $x := repeat 100000 "x" }}{{ replace "x" $x $x }}`,
		"join":                 `{{ $x := repeat 100000 "x" }}{{ join $x (until 100000) }}`,
		"regular expression":   `{{ $x := repeat 100000 "x" }}{{ regexReplaceAll "x" $x $x }}`,
		"wrap":                 `{{ $x := repeat 100000 "x" }}{{ wrapWith 1 $x $x }}`,
		"doubled text":         `{{ $x := "x" }}{{ range until 60 }}{{ $x = print $x $x }}{{ end }}`,
		"doubled list":         `{{ $x := list "x" }}{{ range until 60 }}{{ $x = concat $x $x }}{{ end }}`,
		"doubled tree":         `{{ $x := list "x" }}{{ range until 60 }}{{ $x = list $x $x }}{{ end }}`,
		"width":                `{{ printf "%1000000d%1000000d" 1 2 }}`,
		"width of an argument": `{{ printf "%*d" 1000000 2 }}`,
		"output":               `{{ $x := repeat 10000 "x" }}{{ range until 1000 }}{{ $x }}{{ end }}`,
		"circle":               `{{ $d := dict }}{{ $_ := set $d "a" $d }}{{ $d }}`,
		"circle by a merge":    `{{ $d := dict "b" 1 }}{{ $_ := merge $d (dict "a" $d) }}{{ $d }}`,
		"recursion":            `{{ define "x" }}{{ template "x" }}{{ end }}{{ template "x" }}`,
	} {
		start := time.Now()
		got, err := message(t.Context(), withTemplate(text), someChanges())
		if err == nil {
			t.Errorf("%s: %d bytes and no error", name, len(got))
		}
		if took := time.Since(start); took > 2*messageTimeout {
			t.Errorf("%s took %s", name, took)
		}
	}
}

func TestMessageData(t *testing.T) {
	got := newMessageData(automation(nil), someChanges()).Changed.Changes
	want := []change{{"web:1", "web:2", "apps:web"}, {"1", "2", "apps:web:tag"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("imageupdateautomation 51: (-want +got):\n%s", diff)
	}
	if errors.Is(errTooDeep, errTooLarge) {
		t.Error("limits are not told apart")
	}
}
