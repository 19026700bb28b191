package sourceref

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
)

// cluster gives every object it holds, by "Type namespace/name", the artifact; nil for one without.
type cluster struct {
	client.Reader
	artifacts map[string]*meta.Artifact
	fail      error
	reads     int
}

func (c *cluster) Get(_ context.Context, key client.ObjectKey, obj client.Object, _ ...client.GetOption) error {
	c.reads++
	if c.fail != nil {
		return c.fail
	}
	a, ok := c.artifacts[fmt.Sprintf("%T %s", obj, key)]
	if !ok {
		return apierrors.NewNotFound(schema.GroupResource{Group: sourcev1.GroupVersion.Group, Resource: "gitrepositories"}, key.Name)
	}
	obj.SetName(key.Name)
	switch o := obj.(type) {
	case *sourcev1.GitRepository:
		o.Status.Artifact = a
	case *sourcev1.OCIRepository:
		o.Status.Artifact = a
	case *sourcev1.Bucket:
		o.Status.Artifact = a
	case *sourcev1.HelmChart:
		o.Status.Artifact = a
	case *sourcev1.HelmRepository:
		o.Status.Artifact = a
	case *sourcev1.ExternalArtifact:
		o.Status.Artifact = a
	}
	return nil
}

var obj = &kustomizev1.Kustomization{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "app"}}

func TestResolve(t *testing.T) {
	git := &meta.Artifact{Revision: "main@sha1:1"}
	oci := &meta.Artifact{Revision: "1.0@sha256:2", Metadata: map[string]string{"org.opencontainers.image.revision": "main@sha1:1"}}
	c := &cluster{artifacts: map[string]*meta.Artifact{
		"*v1.GitRepository apps/a": git, "*v1.GitRepository infra/a": git, "*v1.OCIRepository apps/a": oci, "*v1.Bucket apps/a": git,
		"*v1.HelmChart apps/a": git, "*v1.HelmRepository apps/a": git, "*v1.ExternalArtifact apps/a": oci, "*v1.GitRepository apps/new": nil,
	}}
	for _, tc := range []struct {
		name     string
		resolver Resolver
		ref      Reference
		want     error
		text     string // of the error, or "revision origin"
	}{
		{"git", Resolver{}, Reference{Kind: "GitRepository", Name: "a"}, nil, "main@sha1:1 "},
		{"apiVersion given", Resolver{}, Reference{APIVersion: "source.toolkit.fluxcd.io/v1", Kind: "GitRepository", Name: "a"}, nil, "main@sha1:1 "},
		{"older apiVersion", Resolver{}, Reference{APIVersion: "source.toolkit.fluxcd.io/v1beta2", Kind: "Bucket", Name: "a"}, nil, "main@sha1:1 "},
		{"kustomization 105: origin revision", Resolver{}, Reference{Kind: "OCIRepository", Name: "a"}, nil, "1.0@sha256:2 main@sha1:1"},
		{"bucket", Resolver{}, Reference{Kind: "Bucket", Name: "a"}, nil, "main@sha1:1 "},
		{"chart", Resolver{}, Reference{Kind: "HelmChart", Name: "a"}, nil, "main@sha1:1 "},
		{"Helm repository", Resolver{}, Reference{Kind: "HelmRepository", Name: "a"}, nil, "main@sha1:1 "},
		{"other namespace", Resolver{}, Reference{Kind: "GitRepository", Name: "a", Namespace: "infra"}, nil, "main@sha1:1 "},
		{"externalartifact 8: allowed", Resolver{ExternalArtifact: true}, Reference{Kind: "ExternalArtifact", Name: "a"}, nil, "1.0@sha256:2 main@sha1:1"},

		{"kustomization 10", Resolver{}, Reference{Kind: "GitRepository", Name: "b"}, ErrNotFound, `GitRepository.source.toolkit.fluxcd.io "b" not found`},
		{"kustomization 12", Resolver{}, Reference{Kind: "GitRepository", Name: "new"}, ErrNoArtifact, "Source artifact not found"},
		{"kustomization 11", Resolver{NoCrossNamespaceRefs: true}, Reference{Kind: "GitRepository", Name: "a", Namespace: "infra"}, ErrAccessDenied,
			"can't access 'GitRepository/infra/a', cross-namespace references have been blocked"},
		{"_common 41: own namespace named", Resolver{NoCrossNamespaceRefs: true}, Reference{Kind: "GitRepository", Name: "a", Namespace: "apps"}, nil, "main@sha1:1 "},
		{"externalartifact 5", Resolver{}, Reference{Kind: "ExternalArtifact", Name: "a"}, ErrAccessDenied,
			"can't access 'ExternalArtifact/apps/a', ExternalArtifact feature gate is disabled"},
		{"kustomization 13", Resolver{}, Reference{Kind: "ConfigMap", Name: "a"}, ErrUnknownKind,
			`source 'a' has kind "ConfigMap": want GitRepository, OCIRepository, Bucket, HelmChart, HelmRepository or ExternalArtifact`},
		{"kustomization 13: other group", Resolver{}, Reference{APIVersion: "v1", Kind: "GitRepository", Name: "a"}, ErrUnknownKind,
			`source 'a' has apiVersion "v1": want source.toolkit.fluxcd.io/v1 or none`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.resolver.Reader = c
			before := c.reads
			source, err := tc.resolver.Resolve(t.Context(), obj, tc.ref)
			if !errors.Is(err, tc.want) {
				t.Fatalf("error %v, want %v", err, tc.want)
			}
			if err != nil {
				if err.Error() != tc.text {
					t.Errorf("got  %s\nwant %s", err, tc.text)
				}
				if denied := tc.want == ErrAccessDenied || tc.want == ErrUnknownKind; denied && c.reads != before {
					t.Error("read what must not be read")
				}
				if (source != nil) != (tc.want == ErrNoArtifact) {
					t.Errorf("source %v", source)
				}
				return
			}
			if got := source.Revision + " " + source.OriginRevision; got != tc.text {
				t.Errorf("got %q, want %q", got, tc.text)
			}
			namespace := tc.ref.Namespace
			if namespace == "" {
				namespace = "apps"
			}
			if source.Key != (types.NamespacedName{Namespace: namespace, Name: "a"}) || source.Kind != tc.ref.Kind || source.Object.GetName() != "a" || source.Artifact == nil {
				t.Errorf("source %+v", source)
			}
		})
	}
}

func TestResolvePassesOtherErrorsOn(t *testing.T) {
	r := Resolver{Reader: &cluster{fail: errors.New("connection refused")}}
	_, err := r.Resolve(t.Context(), obj, Reference{Kind: "GitRepository", Name: "a"})
	if err == nil || errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "GitRepository/apps/a': connection refused") {
		t.Errorf("got %v", err)
	}
}

func TestArtifactChanged(t *testing.T) {
	with := func(revision, digest string) client.Object {
		return &sourcev1.GitRepository{Status: sourcev1.GitRepositoryStatus{Artifact: &meta.Artifact{Revision: revision, Digest: digest}}}
	}
	without := &sourcev1.GitRepository{}
	touched := with("r1", "d1")
	touched.SetLabels(map[string]string{"x": "y"})
	for _, tc := range []struct {
		name              string
		before, after     client.Object
		changed, revision bool
	}{
		{"kustomization 2: first artifact", without, with("r1", "d1"), true, true},
		{"kustomization 2: new revision", with("r1", "d1"), with("r2", "d2"), true, true},
		{"kustomization 2: created with artifact", nil, with("r1", "d1"), true, true},
		{"kustomization 2: new revision, same content", with("r1", "d1"), with("r2", "d1"), true, true},
		{"kustomization 106, artifactgenerator 2: new content, same revision", with("r1", "d1"), with("r1", "d2"), true, false},
		{"anything else changed", with("r1", "d1"), touched, false, false},
		{"artifact lost", with("r1", "d1"), without, false, false},
		{"created without artifact", nil, without, false, false},
		{"deleted", with("r1", "d1"), nil, false, false},
		{"not a source", nil, obj, false, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := ArtifactChanged(tc.before, tc.after); got != tc.changed {
				t.Errorf("ArtifactChanged %v", got)
			}
			if got := RevisionChanged(tc.before, tc.after); got != tc.revision {
				t.Errorf("RevisionChanged %v", got)
			}
		})
	}
}
