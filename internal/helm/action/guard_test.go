package action

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v4/pkg/chart/common"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/engine"
)

func templates(texts ...string) *chart.Chart {
	c := &chart.Chart{Metadata: &chart.Metadata{Name: "demo", Version: "1.0.0", APIVersion: chart.APIVersionV2}}
	for i, text := range texts {
		c.Templates = append(c.Templates, &common.File{Name: fmt.Sprintf("templates/%d.yaml", i), Data: []byte(text)})
	}
	return c
}

func rendering(ctx context.Context, c *chart.Chart, guard *guard) (map[string]string, error) {
	values := common.Values{
		"Values":  map[string]any{"list": []any{"a", "b"}, "map": map[string]any{"k": "v"}},
		"Release": map[string]any{"Name": "app"}, "Chart": c.Metadata, "Capabilities": common.DefaultCapabilities,
	}
	e := engine.Engine{}
	if guard != nil {
		e.CustomTemplateFuncs = guard.funcs()
	}
	return e.RenderWithContext(ctx, c, values)
}

// Charts render under guard as without.
func TestGuardedOutput(t *testing.T) {
	texts := []string{
		"{{ range .Values.list }}x{{ . }}\n{{ end }}",
		"{{- range .Values.list -}}\n  x {{- . -}} y\n{{- else -}} none {{- end -}}\n",
		"{{ range $i, $v := .Values.list -}}  \n\n {{ if $i }}{{ continue }}{{ end }}{{ $v }}{{ end }}",
		"{{ range .Values.list }}{{ range $.Values.map }}{{ . }}{{ end }}{{ end }}",
		"{{ range .Values.none }}x{{ else }}{{ range .Values.list }}{{ . }}{{ end }}{{ end }}",
		"{{ with .Values.map }}{{ range . }}{{ . }}{{ end }}{{ else }}{{ range $.Values.list }}{{ end }}{{ end }}",
		"{{ if .Values.map }}{{ range 3 }}{{/* comment */}}{{ . }}{{ break }}{{ end }}{{ end }}",
		"{{ define \"a\" -}}\n  {{ range . }}<{{ . }}>{{ end }}\n{{- end }}{{ include \"a\" .Values.list }}{{ template \"a\" .Values.list }}",
		"{{ define \"empty\" }}{{ end }}x{{ include \"empty\" . }}{{ block \"b\" . }} blocked {{ end }}",
		"{{ range .Values.list }}{{/* only a comment */}}{{ end }}{{ range .Values.list }}{{ end }}",
		"{{ tpl \"{{ range .Values.list }}{{ . }}{{ end }}\" . }}",
		"é {{ range .Values.list }}é{{ . }}{{ end }}",
	}
	for _, f := range []string{"until 3", "until -3", "untilStep 1 10 4", "untilStep 10 1 -4", "untilStep 1 10 0", "untilStep 10 1 4", "seq 5", "seq -2", "seq 2 5", "seq 5 2",
		"seq 1 2 7", "seq 7 -2 1", "seq 7 2 1", "seq 0", "seq", "repeat 3 \"ab\"", "repeat 0 \"ab\"", "indent 2 \"a\\nb\"", "nindent 4 \"a\\n\\nb\"", "indent 0 \"\""} {
		texts = append(texts, "{{ "+f+" }}")
	}
	for _, text := range texts {
		c := templates(text)
		want, err := rendering(t.Context(), c, nil)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		got, err := rendering(t.Context(), guarded(c), &guard{ctx: t.Context(), maxBytes: 1 << 20})
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", text, d)
		}
		if string(c.Templates[0].Data) != text {
			t.Errorf("%s: the chart was changed", text)
		}
	}
}

// Dependencies are guarded too, and keep their places.
func TestGuardedDependencies(t *testing.T) {
	c, d := templates("{{ range .Values.list }}p{{ end }}"), templates("{{ range 2 }}{{ $.Template.Name }}{{ end }}")
	d.Metadata.Name = "child"
	c.AddDependency(d)
	want, err := rendering(t.Context(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	g := guarded(c)
	got, err := rendering(t.Context(), g, &guard{ctx: t.Context(), maxBytes: 1 << 20})
	if d := cmp.Diff(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got))); d != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	if !strings.Contains(string(g.Dependencies()[0].Templates[0].Data), stepFunc) || c.Dependencies()[0] != d || d.Parent() != c {
		t.Error("the dependency is not guarded, or was changed")
	}
}

// Templates that would take for ever, or all memory, end with an error.
func TestGuardStops(t *testing.T) {
	late, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errors.New("the timeout is over"))
	defer cancel()
	for text, tt := range map[string]struct {
		ctx  context.Context
		want string
	}{
		"{{ range 1000000000000 }}{{ end }}": {late, "the timeout is over"},
		"{{ define \"a\" }}{{ range 1000000 }}{{ end }}{{ template \"a\" }}{{ end }}{{ template \"a\" }}": {late, "the timeout is over"},
		"{{ range 1000000000000 }}" + strings.Repeat("x", 1000) + "{{ end }}":                             {t.Context(), "templates write more than"},
		"{{ repeat 2000000000 \"x\" }}":      {t.Context(), "at once"},
		"{{ repeat -1 \"x\" }}":              {t.Context(), "negative"},
		"{{ until 2000000000 }}":             {t.Context(), "at once"},
		"{{ untilStep 2000000000 0 -1 }}":    {t.Context(), "at once"},
		"{{ seq 2000000000 }}":               {t.Context(), "at once"},
		"{{ indent 2000000000 \"x\" }}":      {t.Context(), "at once"},
		"{{ nindent 2000000000 \"x\\ny\" }}": {t.Context(), "at once"},
	} {
		_, err := rendering(tt.ctx, guarded(templates(text)), &guard{ctx: tt.ctx, maxBytes: 1 << 20})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.60s: error %v, want %s", text, err, tt.want)
		}
	}
}

// A panic in a template is an error.
func TestPanic(t *testing.T) {
	_, err := contained(func() (any, error) { panic("no") })
	if err == nil || err.Error() != "panic: no" {
		t.Errorf("error: %v", err)
	}
	if _, err := rendering(t.Context(), templates("{{ mustToYaml .Chart.IsRoot }}{{ repeat -1 \"x\" }}"), nil); err == nil {
		t.Error("no error")
	}
}
