package generate

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	v1beta1 "github.com/seed-79636ae9/flux/api/extensions/v1beta1"
)

func monorepo() files {
	return files{
		"apps/Web/prod/a.yaml": "", "apps/web-api/dev/a.yaml": "", "apps/file.yaml": "", "apps.d/x/prod/a.yaml": "", "libs/x/prod/a.yaml": "", "a.b/y/z/": "",
	}
}

// shown are the names, copies and labels of outputs.
func shown(outputs []output) []string {
	var out []string
	for _, o := range outputs {
		line := o.Name
		for _, c := range o.Copy {
			line += fmt.Sprintf(" %s>%s", c.From, c.To)
		}
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %v", line, o.labels)))
	}
	return out
}

func TestExpand(t *testing.T) {
	artifacts := func(names ...string) []v1beta1.OutputArtifact {
		var out []v1beta1.OutputArtifact
		for _, n := range names {
			out = append(out, v1beta1.OutputArtifact{Name: n})
		}
		return out
	}
	tests := map[string]struct {
		pattern   string
		artifacts []v1beta1.OutputArtifact
		want      []string
	}{
		"without a pattern nothing is replaced": {"", artifacts("one", "two"), []string{"one map[]", "two map[]"}},
		"artifactgenerator 23: a variable is one element of a directory's path": {
			"@repo/apps/{app}", artifacts("{app}"), []string{"web map[app:web]", "web-api map[app:web-api]"}},
		"artifactgenerator 23: or a part of one": {
			"@repo/apps/web-{part}/{env}", artifacts("{part}-{env}"), []string{"api-dev map[env:dev part:api]"}},
		"artifactgenerator 23: all else is literal": {"@repo/a.b/{x}/z", artifacts("{x}"), []string{"y map[x:y]"}},
		"artifactgenerator 23: anchored at both ends": {"@repo/{x}", artifacts("n-{x}"),
			[]string{"n-a.b map[x:a.b]", "n-apps map[x:apps]", "n-apps.d map[x:apps.d]", "n-libs map[x:libs]"}},
		"artifactgenerator 25: every artifact for every directory, in its order; values as they are in copies": {
			"@repo/apps/{app}/{env}",
			[]v1beta1.OutputArtifact{
				{Name: "{env}-{app}", Copy: []v1beta1.CopyOperation{{From: "@repo/apps/{app}/{env}/**", To: "@artifact/{app}/"}}},
				{Name: "x-{app}", Copy: []v1beta1.CopyOperation{{From: "@repo/libs/**", To: "@artifact/", Exclude: []string{"{app}"}}}},
			},
			[]string{
				"prod-web @repo/apps/Web/prod/**>@artifact/Web/ map[app:web env:prod]", "x-web @repo/libs/**>@artifact/ map[app:web env:prod]",
				"dev-web-api @repo/apps/web-api/dev/**>@artifact/web-api/ map[app:web-api env:dev]", "x-web-api @repo/libs/**>@artifact/ map[app:web-api env:dev]",
			}},
		"artifactgenerator 29: no directory, no artifact": {"@repo/absent/{x}", artifacts("{x}"), nil},
		"a slash at the end":                              {"@repo/libs/{x}/", artifacts("{x}"), []string{"x map[x:x]"}},
		"no variable at all":                              {"@repo/libs", artifacts("only"), []string{"only map[]"}},
	}
	trees := map[string]*node{"repo": onDisk(t, monorepo())}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := expand(&v1beta1.ArtifactGeneratorSpec{PathPattern: test.pattern, Artifacts: test.artifacts}, trees, 100)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, shown(got)); diff != "" {
				t.Errorf("outputs (-want +got):\n%s", diff)
			}
		})
	}
	// artifactgenerator 25: exclude patterns keep their braces.
	got, err := expand(&v1beta1.ArtifactGeneratorSpec{PathPattern: "@repo/libs/{app}", Artifacts: []v1beta1.OutputArtifact{
		{Name: "{app}", Revision: "@repo", Copy: []v1beta1.CopyOperation{{From: "@repo/x", To: "@artifact/", Exclude: []string{"{app,b}"}}}},
	}}, trees, 100)
	if err != nil || got[0].Copy[0].Exclude[0] != "{app,b}" || got[0].Revision != "@repo" {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestExpandRefuses(t *testing.T) {
	trees := map[string]*node{"repo": onDisk(t, files{"a/one/x": "", "a/ONE/x": "", "b/x y/x": "", "c/-d/x": "", "d/x/y": "", "d/z/y": ""})}
	for name, test := range map[string]struct{ pattern, artifact, from, want string }{
		"artifactgenerator 23: an unknown alias":          {"@nope/{x}", "{x}", "", "source alias 'nope' not found"},
		"no alias":                                        {"a/{x}", "{x}", "", "is not of the form @alias/path"},
		"out of the source":                               {"@repo/../{x}", "{x}", "", "leads out of its root"},
		"artifactgenerator 24: a name with a dash":        {"@repo/{a-b}", "x", "", "variable name 'a-b' is not valid"},
		"artifactgenerator 24: a name with a digit first": {"@repo/{1a}", "x", "", "variable name '1a' is not valid"},
		"artifactgenerator 24: a name no label can have":  {"@repo/{_a}", "x", "", "variable name '_a' is not valid"},
		"artifactgenerator 24: a name that is too long":   {"@repo/{" + strings.Repeat("a", 64) + "}", "x", "", "is not valid"},
		"artifactgenerator 24: a name twice":              {"@repo/{a}/{a}", "x", "", "variable 'a' occurs twice"},
		"artifactgenerator 24: an empty name":             {"@repo/{}", "x", "", "a variable without a name"},
		"artifactgenerator 24: a brace that stays open":   {"@repo/{a", "x", "", "has a { without }"},
		"artifactgenerator 24: a brace in a brace":        {"@repo/{a{b}}", "x", "", "has a { without }"},
		"artifactgenerator 24: a brace that was not open": {"@repo/a}", "x", "", "has a } without {"},
		"artifactgenerator 26: a value no label can have": {"@repo/b/{x}", "n", "", "'x y' cannot be the label 'x'"},
		"artifactgenerator 27: a name no object can have": {"@repo/d/{x}", "N{x}", "", "artifact name 'Nx' is not valid"},
		"artifactgenerator 27: one name twice":            {"@repo/a/{x}", "{x}", "", "duplicate artifact name 'one' found"},
		"artifactgenerator 27: one name for all":          {"@repo/d/{x}", "same", "", "duplicate artifact name 'same' found"},
		"artifactgenerator 28: an unknown variable":       {"@repo/d/{x}", "{y}", "", "variable 'y' is not in the path pattern"},
		"artifactgenerator 28: in a copy":                 {"@repo/d/{x}", "{x}", "@repo/{y}", "variable 'y' is not in the path pattern"},
		"artifactgenerator 28: a brace that stays open":   {"@repo/d/{x}", "{x}", "@repo/{y", "has a { without }"},
	} {
		t.Run(name, func(t *testing.T) {
			spec := &v1beta1.ArtifactGeneratorSpec{PathPattern: test.pattern, Artifacts: []v1beta1.OutputArtifact{
				{Name: test.artifact, Copy: []v1beta1.CopyOperation{{From: test.from, To: "@artifact/"}}},
			}}
			if _, err := expand(spec, trees, 100); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error = %v, want %q in it", err, test.want)
			}
		})
	}
	spec := &v1beta1.ArtifactGeneratorSpec{PathPattern: "@repo/{x}/{y}", Artifacts: []v1beta1.OutputArtifact{{Name: "{x}-{y}"}}}
	if _, err := expand(spec, trees, 5); !errors.Is(err, ErrLimit) {
		t.Errorf("six artifacts where five are allowed: %v", err)
	}
}

// FuzzPathPattern: no pattern panics, and what it captures can be put back.
func FuzzPathPattern(f *testing.F) {
	for _, seed := range []string{"@repo/apps/{app}", "@repo/{a}{b}/x", "@repo/.*/{x}", "@repo/{", "@/}", "@repo/(?i){x}", "@repo/\xff{x}"} {
		f.Add(seed)
	}
	tree := onDisk(f, monorepo())
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parsePathPattern(text)
		if err != nil {
			return
		}
		for _, values := range p.captures(tree) {
			back, err := replace(text, values)
			if err != nil {
				t.Fatalf("%q: %v", text, err)
			}
			_, at, _ := strings.Cut(back, "/")
			if at, err = inside(at); err != nil || tree.at(at) == nil || !tree.at(at).isDir() {
				t.Errorf("%q with %v is %q, which is no directory (%v)", text, values, at, err)
			}
		}
	})
}
