// Package helmchart is the source kind HelmChart.
package helmchart

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/chartfile"
	"github.com/seed-79636ae9/flux/internal/source/frame"
	"github.com/seed-79636ae9/flux/internal/source/helmchart/build"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
	"github.com/seed-79636ae9/flux/toolkit/auth"
	"github.com/seed-79636ae9/flux/toolkit/depend"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/oci"
	"github.com/seed-79636ae9/flux/toolkit/oci/cosign"
	"github.com/seed-79636ae9/flux/toolkit/sourceref"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

// noArtifactRetry is when a source without an artifact is looked at again, should the event of a new one get lost.
const noArtifactRetry = 30 * time.Second

// Artifacts gives the artifacts of sources to read; artifact.Opener does.
type Artifacts interface {
	Open(ctx context.Context, a *meta.Artifact) (*artifact.Tree, error)
}

// HTTP connects to Helm repositories of type default.
type HTTP interface {
	// Open returns the repository of the object: lookups take its artifact, downloads its credentials. An object that is
	// not in the cluster has a namespace, a URL and nothing else; its index is fetched. Errors are verdicts, or about the
	// credentials.
	Open(ctx context.Context, obj *sourcev1.HelmRepository) (build.Repository, error)
}

// Options are what the kind needs of its process.
type Options struct {
	// Cached reads sources from the cache, Reader Secrets live.
	Cached, Reader client.Reader
	// Artifacts opens the artifacts of GitRepositories and Buckets.
	Artifacts Artifacts
	// HTTP connects to repositories of type default.
	HTTP HTTP
	// Limits bound charts (--helm-chart-max-size, --helm-chart-file-max-size); nil: chartfile.DefaultLimits.
	Limits *chartfile.Limits
	// Auth logs in to the registries of clouds; nil: it does not.
	Auth *auth.Authenticator
	// Pool keeps connections to registries; nil: one of its own.
	Pool *oci.Pool
	// PublicRoot gives the root of keyless signatures; nil: that of a cosign.PublicRoot of its own.
	PublicRoot func(context.Context) (root.TrustedMaterial, error)
	// TempDir is where runs make their directories; empty: the system's.
	TempDir string
	// Hosts keeps hanging servers apart; nil: it does not.
	Hosts *frame.Hosts
	// Registry bounds what registries may send, Signatures what comes with signatures; zero fields take the default.
	Registry   oci.Limits
	Signatures oci.SignatureLimits
}

// Source connects HelmCharts to their sources.
type Source struct {
	options Options
	limits  chartfile.Limits
	graph   *depend.Graph
}

// Controller returns the kind for the loop.
func Controller(name string, store *artifact.Store, o Options) *loop.Controller[*sourcev1.HelmChart] {
	if o.Pool == nil {
		o.Pool = oci.NewPool(nil)
	}
	if o.PublicRoot == nil {
		o.PublicRoot = cosign.NewPublicRoot(nil).Get
	}
	s := &Source{options: o, limits: chartfile.DefaultLimits(), graph: depend.NewGraph()}
	if o.Limits != nil {
		s.limits = *o.Limits
	}
	return &loop.Controller[*sourcev1.HelmChart]{
		Name: name,
		Kind: sourcev1.HelmChartKind,
		New:  func() *sourcev1.HelmChart { return &sourcev1.HelmChart{} },
		Reconciler: &frame.Reconciler[*sourcev1.HelmChart]{
			Kind: sourcev1.HelmChartKind, Alias: "latest.tar.gz", Store: store, TempDir: o.TempDir, Hosts: o.Hosts,
			Source: s, Words: words(),
		},
		Conditions: frame.Conditions([]string{sourcev1.BuildFailedCondition}, []string{sourcev1.SourceVerifiedCondition}),
		FailReason: sourcev1.ChartPullErrorReason,
		Policy:     frame.Policy(),
		Watches: []loop.Watch{
			{Object: &sourcev1.HelmRepository{}, Map: s.onSource(sourcev1.HelmRepositoryKind)},
			{Object: &sourcev1.GitRepository{}, Map: s.onSource(sourcev1.GitRepositoryKind)},
			{Object: &sourcev1.Bucket{}, Map: s.onSource(sourcev1.BucketKind)},
		},
	}
}

func words() frame.Words[*sourcev1.HelmChart] {
	return frame.Words[*sourcev1.HelmChart]{
		Outdated: func(_ *sourcev1.HelmChart, revision string) string {
			return fmt.Sprintf("new chart version '%s'", revision)
		},
		OutdatedReason: sourcev1.NewChartReason,
		// What was done to get the artifact is known while it is done; later the condition remembers.
		Stored: func(obj *sourcev1.HelmChart) (reason, message string) {
			if c := status.Find(obj.Status.Conditions, sourcev1.ArtifactInStorageCondition); c != nil {
				return c.Reason, c.Message
			}
			return sourcev1.ChartPullSucceededReason, fmt.Sprintf("pulled '%s' chart with version '%s'", obj.Status.ObservedChartName, obj.Status.Artifact.Revision)
		},
		News: func(obj *sourcev1.HelmChart) string {
			if c := status.Find(obj.Status.Conditions, sourcev1.ArtifactInStorageCondition); c != nil {
				return c.Message
			}
			return fmt.Sprintf("stored chart with version '%s'", obj.Status.Artifact.Revision)
		},
	}
}

// onSource wakes the charts of a source whose artifact changed. Sources of the same name in other namespaces are none of
// theirs (helmchart 1, 2).
func (s *Source) onSource(kind string) func(before, after client.Object) []types.NamespacedName {
	return func(before, after client.Object) []types.NamespacedName {
		if !sourceref.ArtifactChanged(before, after) && !appeared(before, after) {
			return nil
		}
		var woken []types.NamespacedName
		for _, key := range s.graph.Dependents(depend.Key{Kind: kind, Namespace: after.GetNamespace(), Name: after.GetName()}) {
			woken = append(woken, types.NamespacedName{Namespace: key.Namespace, Name: key.Name})
		}
		return woken
	}
}

// appeared reports whether a HelmRepository came into being that never has an artifact (helmchart 3).
func appeared(before, after client.Object) bool {
	repository, ok := after.(*sourcev1.HelmRepository)
	return ok && before == nil && repository.Spec.Type == sourcev1.HelmRepositoryTypeOCI
}

// Forget implements frame.Forgetter.
func (s *Source) Forget(key types.NamespacedName) {
	s.graph.Remove(depend.Key{Kind: sourcev1.HelmChartKind, Namespace: key.Namespace, Name: key.Name})
	s.options.Auth.Forget(sourcev1.HelmChartKind, key.Namespace, key.Name)
}

// Connect implements frame.Kind.
func (s *Source) Connect(ctx context.Context, obj *sourcev1.HelmChart, run *loop.Run) (frame.Upstream[*sourcev1.HelmChart], error) {
	ref := obj.Spec.SourceRef
	s.graph.Set(depend.Key{Kind: sourcev1.HelmChartKind, Namespace: obj.Namespace, Name: obj.Name},
		[]depend.Key{{Kind: ref.Kind, Namespace: obj.Namespace, Name: ref.Name}})
	if obj.Spec.Verify == nil {
		run.Unset(sourcev1.SourceVerifiedCondition) // helmchart 55
	}
	switch ref.Kind {
	case sourcev1.HelmRepositoryKind:
		return s.connectRepository(ctx, obj, run)
	case sourcev1.GitRepositoryKind:
		var source sourcev1.GitRepository
		if err := s.source(ctx, obj, &source); err != nil {
			return nil, err
		}
		return s.connectTree(ctx, obj, run, source.Status.Artifact)
	case sourcev1.BucketKind:
		var source sourcev1.Bucket
		if err := s.source(ctx, obj, &source); err != nil {
			return nil, err
		}
		return s.connectTree(ctx, obj, run, source.Status.Artifact)
	}
	return nil, loop.Stall(sourcev1.UnsupportedSourceKindReason,
		fmt.Errorf("unsupported source kind '%s': want HelmRepository, GitRepository or Bucket", ref.Kind)).On(sourcev1.FetchFailedCondition)
}

// source reads the source of the chart from its namespace (helmchart 4, 7).
func (s *Source) source(ctx context.Context, obj *sourcev1.HelmChart, source client.Object) error {
	err := s.options.Cached.Get(ctx, types.NamespacedName{Namespace: obj.Namespace, Name: obj.Spec.SourceRef.Name}, source)
	switch {
	case err == nil:
		return nil
	case apierrors.IsNotFound(err):
		return loop.Fail(sourcev1.SourceUnavailableReason, fmt.Errorf("failed to get source: %w", err)).On(sourcev1.FetchFailedCondition)
	}
	return fmt.Errorf("failed to get source: %w", err)
}

// noArtifact waits for the artifact of the source, whose event wakes the chart (helmchart 8).
func noArtifact(obj *sourcev1.HelmChart) error {
	message := fmt.Sprintf("no artifact available for %s source '%s'", obj.Spec.SourceRef.Kind, obj.Spec.SourceRef.Name)
	return loop.Wait(sourcev1.NoSourceArtifactReason, noArtifactRetry, errors.New(message)).On(sourcev1.FetchFailedCondition).
		Announce(event.Event{Severity: event.Trace, Reason: sourcev1.NoSourceArtifactReason, Message: message})
}

// failed makes a verdict of what went wrong with a build (helmchart 45, 46).
func failed(err error) error {
	var e *build.Error
	switch {
	case loop.Judged(err) || !errors.As(err, &e):
		return err
	case e.Stalls():
		return loop.Stall(e.Reason, err).On(e.Condition())
	}
	return loop.Fail(e.Reason, err).On(e.Condition())
}

// content offers what was built.
func content(result *build.Result) *frame.Content {
	return &frame.Content{
		Revision: result.Version,
		File:     fmt.Sprintf("%s-%s.tgz", result.Name, result.Version),
		News:     result.Summary(),
		Reason:   result.Reason(),
		Stored:   result.Summary(),
		Write: func(_ context.Context, w io.Writer) error {
			f, err := os.Open(result.Path)
			if err != nil {
				return fmt.Errorf("opening the built chart: %w", err)
			}
			defer f.Close()
			_, err = io.Copy(w, f)
			return err
		},
	}
}

// settled reports whether the artifact was made for this generation of the spec (helmchart 41, 42).
func settled(obj *sourcev1.HelmChart) bool {
	return obj.Status.ObservedGeneration == obj.Generation
}

// settle records what was built (helmchart 33, 49).
func settle(obj *sourcev1.HelmChart, run *loop.Run, result *build.Result) {
	obj.Status.ObservedChartName = result.Name
	obj.Status.ObservedValuesFiles = nil
	if obj.Spec.IgnoreMissingValuesFiles {
		obj.Status.ObservedValuesFiles = result.ValuesFiles
	}
	if result.Resolved > 0 {
		run.Event(event.Event{
			Severity: event.Trace, Reason: sourcev1.ResolvedDependenciesReason,
			Message: fmt.Sprintf("resolved %d chart dependencies", result.Resolved),
		})
	}
}

func request(obj *sourcev1.HelmChart, revision string) build.Request {
	return build.Request{
		Revision:   revision,
		Values:     build.Values{Files: obj.Spec.ValuesFiles, IgnoreMissing: obj.Spec.IgnoreMissingValuesFiles},
		Generation: obj.Generation,
	}
}
