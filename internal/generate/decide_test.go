package generate

import (
	"errors"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1beta1 "github.com/seed-79636ae9/flux/api/extensions/v1beta1"
	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/sourceref"
)

// generator returns an object with one source and one artifact.
func generator() *v1beta1.ArtifactGenerator {
	return &v1beta1.ArtifactGenerator{
		ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "gen", UID: "u-1", Generation: 1},
		Spec: v1beta1.ArtifactGeneratorSpec{
			Sources:   []v1beta1.SourceReference{{Alias: "repo", Kind: sourcev1.GitRepositoryKind, Name: "app"}},
			Artifacts: []v1beta1.OutputArtifact{{Name: "one", Copy: []v1beta1.CopyOperation{op("@repo/**", "@artifact/")}}},
		},
	}
}

func TestValidate(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*v1beta1.ArtifactGenerator)
		reason string // empty: valid
		want   string
	}{
		"valid": {func(*v1beta1.ArtifactGenerator) {}, "", ""},
		"artifactgenerator 7": {func(o *v1beta1.ArtifactGenerator) { o.Spec.Sources = append(o.Spec.Sources, o.Spec.Sources[0]) },
			"ValidationFailed", "duplicate source alias 'repo' found"},
		"artifactgenerator 8": {func(o *v1beta1.ArtifactGenerator) { o.Spec.Sources[0].Namespace = "other" },
			"AccessDenied", "can't access 'GitRepository/other/app', cross-namespace references have been blocked"},
		"artifactgenerator 8: its own by name": {func(o *v1beta1.ArtifactGenerator) { o.Spec.Sources[0].Namespace = "apps" }, "", ""},
		"artifactgenerator 9": {func(o *v1beta1.ArtifactGenerator) { o.Spec.Artifacts = append(o.Spec.Artifacts, o.Spec.Artifacts[0]) },
			"ValidationFailed", "duplicate artifact name 'one' found"},
		"artifactgenerator 10": {func(o *v1beta1.ArtifactGenerator) { o.Spec.Artifacts[0].Name = "One" },
			"ValidationFailed", "artifact name 'One' is not valid"},
		"artifactgenerator 10: with a pattern after rendering": {func(o *v1beta1.ArtifactGenerator) {
			o.Spec.PathPattern, o.Spec.Artifacts[0].Name = "@repo/{x}", "N{x}"
		}, "", ""},
		"artifactgenerator 11": {func(o *v1beta1.ArtifactGenerator) { o.Spec.Artifacts[0].Revision = "@nope" },
			"ValidationFailed", "artifact one revision source alias 'nope' not found"},
		"artifactgenerator 11: the origin is not checked": {func(o *v1beta1.ArtifactGenerator) {
			o.Spec.Artifacts[0].Revision, o.Spec.Artifacts[0].OriginRevision = "@repo", "@nope"
		}, "", ""},
		"artifactgenerator 12": {func(o *v1beta1.ArtifactGenerator) { o.Spec.Sources[0].Kind = sourcev1.HelmRepositoryKind },
			"ValidationFailed", "unsupported kind 'HelmRepository'"},
		"made of itself": {func(o *v1beta1.ArtifactGenerator) {
			o.Spec.Sources[0].Kind, o.Spec.Sources[0].Name = sourcev1.ExternalArtifactKind, "one"
		}, "ValidationFailed", "artifact 'one' is copied from itself by the source 'repo'"},
		"made of another": {func(o *v1beta1.ArtifactGenerator) { o.Spec.Sources[0].Kind = sourcev1.ExternalArtifactKind }, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			obj := generator()
			test.change(obj)
			g := &Generator{Sources: &sourceref.Resolver{NoCrossNamespaceRefs: true}}
			err := g.validate(obj)
			if test.reason == "" {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			if err == nil || loop.Reason(err, "none") != test.reason || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error = %v (reason %s), want %s with %q", err, loop.Reason(err, "none"), test.reason, test.want)
			}
		})
	}
}

// artifactgenerator 15: the value is that of the lines in their order, computed with sha256sum.
func TestObserved(t *testing.T) {
	o := observed{
		"b": {Digest: "sha256:2", Revision: "v2", URL: "http://s/b", Metadata: map[string]string{meta.OriginRevisionKey: "main@sha1:1"}},
		"a": {Digest: "sha256:1", Revision: "v1", URL: "http://s/a"},
	}
	const want = "sha256:fa7fbf2444621697e5c4113eade95535349cf64e6deb8b6fc86582ed28781565"
	if got := o.digest(); got != want {
		t.Errorf("digest = %s, want %s", got, want)
	}
	// artifactgenerator 15: the origin revision is not part of it.
	o["b"].Metadata = nil
	if got := o.digest(); got != want {
		t.Errorf("digest = %s without the origin", got)
	}
	// artifactgenerator 52.
	o["b"].Metadata = map[string]string{meta.OriginRevisionKey: "main@sha1:1"}
	for alias, want := range map[string]string{"a": "v1", "b": "main@sha1:1", "nope": "", "": ""} {
		if got := o.originRevision(alias); got != want {
			t.Errorf("origin of %q = %q, want %q", alias, got, want)
		}
	}
}

// artifactgenerator 18: what counts as drift.
func TestDrift(t *testing.T) {
	sound := func() (*v1beta1.ArtifactGenerator, []sourcev1.ExternalArtifact) {
		obj := generator()
		obj.Status = v1beta1.ArtifactGeneratorStatus{
			Conditions:            settledConditions(),
			ObservedSourcesDigest: "sha256:1",
			Inventory:             []v1beta1.ArtifactReference{{Namespace: "apps", Name: "one", Digest: "sha256:d", Filename: "1.tar.gz"}},
		}
		ea := sourcev1.ExternalArtifact{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "one"}}
		ea.Status.Artifact = &meta.Artifact{Digest: "sha256:d"}
		return obj, []sourcev1.ExternalArtifact{ea}
	}
	for name, test := range map[string]struct {
		change func(*v1beta1.ArtifactGenerator, *[]sourcev1.ExternalArtifact)
		file   error
		want   string
	}{
		"nothing":       {func(*v1beta1.ArtifactGenerator, *[]sourcev1.ExternalArtifact) {}, nil, ""},
		"the first run": {func(o *v1beta1.ArtifactGenerator, _ *[]sourcev1.ExternalArtifact) { o.Status.Conditions = nil }, nil, "the last run did not succeed"},
		"a failure": {func(o *v1beta1.ArtifactGenerator, _ *[]sourcev1.ExternalArtifact) {
			o.Status.Conditions[0].Status = "False"
		}, nil, "the last run did not succeed"},
		"an unfinished run": {func(o *v1beta1.ArtifactGenerator, _ *[]sourcev1.ExternalArtifact) {
			o.Status.Conditions[0].Status = "Unknown"
		}, nil, "the last run did not succeed"},
		"a new generation": {func(o *v1beta1.ArtifactGenerator, _ *[]sourcev1.ExternalArtifact) { o.Generation = 2 }, nil, "the spec changed"},
		"a source": {func(o *v1beta1.ArtifactGenerator, _ *[]sourcev1.ExternalArtifact) {
			o.Status.ObservedSourcesDigest = "sha256:0"
		}, nil, "a source changed"},
		"an inventory too small":           {func(o *v1beta1.ArtifactGenerator, _ *[]sourcev1.ExternalArtifact) { o.Status.Inventory = nil }, nil, "the inventory is not complete"},
		"a file":                           {func(*v1beta1.ArtifactGenerator, *[]sourcev1.ExternalArtifact) {}, errors.New("gone"), "the file of artifact 'one': gone"},
		"artifactgenerator 21: a deletion": {func(_ *v1beta1.ArtifactGenerator, made *[]sourcev1.ExternalArtifact) { *made = nil }, nil, "there are 0 ExternalArtifacts"},
		"one too many": {func(_ *v1beta1.ArtifactGenerator, made *[]sourcev1.ExternalArtifact) {
			*made = append(*made, (*made)[0])
		}, nil, "there are 2 ExternalArtifacts"},
		"another digest": {func(_ *v1beta1.ArtifactGenerator, made *[]sourcev1.ExternalArtifact) {
			(*made)[0].Status.Artifact = &meta.Artifact{Digest: "sha256:e"}
		},
			nil, "ExternalArtifact 'one' was changed"},
		"no artifact": {func(_ *v1beta1.ArtifactGenerator, made *[]sourcev1.ExternalArtifact) {
			(*made)[0].Status.Artifact = nil
		}, nil, "ExternalArtifact 'one' was changed"},
		"an empty inventory of a pattern": {func(o *v1beta1.ArtifactGenerator, made *[]sourcev1.ExternalArtifact) {
			o.Spec.PathPattern, o.Status.Inventory, *made = "@repo/{x}", nil, nil
		}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			obj, made := sound()
			test.change(obj, &made)
			got := drift(obj, "sha256:1", func(v1beta1.ArtifactReference) error { return test.file }, made)
			if test.want == "" && got != "" || !strings.HasPrefix(got, test.want) {
				t.Errorf("drift = %q, want %q", got, test.want)
			}
		})
	}
}

func settledConditions() []metav1.Condition {
	return []metav1.Condition{{Type: meta.ReadyCondition, Status: metav1.ConditionTrue, ObservedGeneration: 1}}
}
