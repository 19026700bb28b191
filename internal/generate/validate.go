package generate

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	v1beta1 "github.com/seed-79636ae9/flux/api/extensions/v1beta1"
	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/toolkit/loop"
)

// sourceKinds are the kinds an artifact can be made of (artifactgenerator 12).
func sourceKinds() []string {
	return []string{
		sourcev1.BucketKind, sourcev1.GitRepositoryKind, sourcev1.OCIRepositoryKind, sourcev1.HelmChartKind, sourcev1.ExternalArtifactKind,
	}
}

// validate refuses a spec that no retry can help (artifactgenerator 7-12).
func (g *Generator) validate(obj *v1beta1.ArtifactGenerator) error {
	aliases := map[string]v1beta1.SourceReference{}
	for _, s := range obj.Spec.Sources {
		if _, taken := aliases[s.Alias]; taken {
			return invalid("duplicate source alias '%s' found", s.Alias)
		}
		aliases[s.Alias] = s
		if !slices.Contains(sourceKinds(), s.Kind) {
			return invalid("source '%s' has the unsupported kind '%s': want one of %s", s.Alias, s.Kind, strings.Join(sourceKinds(), ", "))
		}
		if g.Sources.NoCrossNamespaceRefs && namespaceOf(obj, s) != obj.Namespace {
			return loop.Stall(meta.AccessDeniedReason, fmt.Errorf("can't access '%s/%s/%s', cross-namespace references have been blocked", s.Kind, s.Namespace, s.Name))
		}
	}
	names := map[string]bool{}
	for _, a := range obj.Spec.Artifacts {
		if names[a.Name] {
			return invalid("duplicate artifact name '%s' found", a.Name)
		}
		names[a.Name] = true
		if errs := validation.IsDNS1123Subdomain(a.Name); obj.Spec.PathPattern == "" && len(errs) > 0 {
			return invalid("artifact name '%s' is not valid: %s", a.Name, strings.Join(errs, "; "))
		}
		if alias := strings.TrimPrefix(a.Revision, "@"); alias != "" && aliases[alias].Alias == "" {
			return invalid("artifact %s revision source alias '%s' not found", a.Name, alias)
		}
		if alias := readsItself(obj, a, aliases); alias != "" {
			return invalid("artifact '%s' is copied from itself by the source '%s': it would grow with every run", a.Name, alias)
		}
	}
	return nil
}

func invalid(format string, args ...any) error {
	return loop.Stall(v1beta1.ValidationFailedReason, fmt.Errorf(format, args...))
}

// readsItself returns the alias by which an artifact is made of its own last version: no such run is ever the last.
func readsItself(obj *v1beta1.ArtifactGenerator, a v1beta1.OutputArtifact, aliases map[string]v1beta1.SourceReference) string {
	for _, c := range a.Copy {
		alias, _, _ := strings.Cut(strings.TrimPrefix(c.From, "@"), "/")
		s := aliases[alias]
		if s.Kind == sourcev1.ExternalArtifactKind && s.Name == a.Name && namespaceOf(obj, s) == obj.Namespace {
			return alias
		}
	}
	return ""
}

func namespaceOf(obj *v1beta1.ArtifactGenerator, s v1beta1.SourceReference) string {
	if s.Namespace != "" {
		return s.Namespace
	}
	return obj.Namespace
}
