// Package oci is the source kind OCIRepository.
package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/source/frame"
	"github.com/seed-79636ae9/flux/toolkit/archive"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
	"github.com/seed-79636ae9/flux/toolkit/auth"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/oci"
	"github.com/seed-79636ae9/flux/toolkit/oci/cosign"
)

// alias is the fixed name of the latest artifact (ocirepository 5).
const alias = "latest.tar.gz"

// Options are what the kind shares with others of its process.
type Options struct {
	// TempDir is where runs make their directories; empty: the system's.
	TempDir string
	// Hosts keeps hanging servers apart; nil: it does not.
	Hosts *frame.Hosts
	// Auth signs in to the registries of clouds; nil: it does not.
	Auth *auth.Authenticator
	// Pool keeps connections to registries; nil: one of its own.
	Pool *oci.Pool
	// PublicRoot is the root of keyless signatures; nil: one of its own.
	PublicRoot *cosign.PublicRoot
	// Registry bounds what registries may send, Signatures what comes with signatures; zero fields take the default.
	Registry   oci.Limits
	Signatures oci.SignatureLimits
	// Unpack bounds what a layer unpacks to; nil: archive.DefaultLimits.
	Unpack *archive.Limits
}

// Source connects OCIRepositories to their registries.
type Source struct {
	reader  client.Reader
	options Options
}

// Controller returns the kind for the loop. Secrets and service accounts are read live through the reader.
func Controller(controllerName string, reader client.Reader, store *artifact.Store, o Options) *loop.Controller[*sourcev1.OCIRepository] {
	if o.Pool == nil {
		o.Pool = oci.NewPool(nil)
	}
	if o.PublicRoot == nil {
		o.PublicRoot = cosign.NewPublicRoot(nil)
	}
	if o.Unpack == nil {
		o.Unpack = ptr.To(archive.DefaultLimits())
	}
	return &loop.Controller[*sourcev1.OCIRepository]{
		Name: controllerName,
		Kind: sourcev1.OCIRepositoryKind,
		New:  func() *sourcev1.OCIRepository { return &sourcev1.OCIRepository{} },
		Reconciler: &frame.Reconciler[*sourcev1.OCIRepository]{
			Kind: sourcev1.OCIRepositoryKind, Alias: alias, Store: store, TempDir: o.TempDir, Hosts: o.Hosts,
			Source: &Source{reader: reader, options: o}, Words: words(),
		},
		Conditions: frame.Conditions(nil, []string{sourcev1.SourceVerifiedCondition}),
		FailReason: sourcev1.OCIArtifactPullFailedReason,
		Policy:     frame.Policy(),
	}
}

func words() frame.Words[*sourcev1.OCIRepository] {
	return frame.Words[*sourcev1.OCIRepository]{
		Outdated: func(obj *sourcev1.OCIRepository, revision string) string {
			return fmt.Sprintf("new revision '%s' for '%s'", revision, referenceOf(obj, revision))
		},
		Stored: func(obj *sourcev1.OCIRepository) (reason, message string) {
			return "", fmt.Sprintf("stored artifact for digest '%s'", obj.Status.Artifact.Revision)
		},
		News: news,
	}
}

// referenceOf is what a revision was found by, as registries' tools write it.
func referenceOf(obj *sourcev1.OCIRepository, revision string) string {
	repo := strings.TrimPrefix(obj.Spec.URL, oci.URLPrefix)
	if parsed, err := oci.ParseRepository(obj.Spec.URL, obj.Spec.Insecure); err == nil {
		repo = parsed.Name()
	}
	if tag, _, ok := strings.Cut(revision, "@"); ok {
		return repo + ":" + tag
	}
	return repo + "@" + revision
}

// news is the message about a new artifact (ocirepository 50).
func news(obj *sourcev1.OCIRepository) string {
	a := obj.Status.Artifact
	message := fmt.Sprintf("stored artifact with revision '%s' from '%s'", a.Revision, obj.Spec.URL)
	source, revision := a.Metadata[oci.SourceAnnotation], a.Metadata[oci.RevisionAnnotation]
	if source != "" && revision != "" {
		message += fmt.Sprintf(", origin source '%s', origin revision '%s'", source, revision)
	}
	return message
}

// Connect implements frame.Kind.
func (s *Source) Connect(ctx context.Context, obj *sourcev1.OCIRepository, run *loop.Run) (frame.Upstream[*sourcev1.OCIRepository], error) {
	repo, err := oci.ParseRepository(obj.Spec.URL, obj.Spec.Insecure)
	if err != nil {
		return nil, loop.Stall(sourcev1.URLInvalidReason, fmt.Errorf("URL validation failed for '%s': %w", obj.Spec.URL, err)).On(sourcev1.FetchFailedCondition)
	}
	o, err := s.connection(ctx, obj, run, repo)
	if err != nil {
		return nil, err
	}
	c, err := oci.New(*o)
	if err != nil {
		return nil, authenticationFailed(err)
	}
	u := &upstream{client: c, repo: repo, url: obj.Spec.URL, ref: reference(obj.Spec), layers: selectorOf(obj.Spec.LayerSelector), ignore: ptr.Deref(obj.Spec.Ignore, ""), run: run, unpack: *s.options.Unpack}
	if obj.Spec.Verify == nil {
		run.Unset(sourcev1.SourceVerifiedCondition) // ocirepository 39, 67
		return u, nil
	}
	u.check = s.verification(ctx, obj, c, o.Proxy)
	return u, nil
}

// Forget implements frame.Forgetter.
func (s *Source) Forget(key types.NamespacedName) {
	s.options.Auth.Forget(sourcev1.OCIRepositoryKind, key.Namespace, key.Name)
}

func reference(spec sourcev1.OCIRepositorySpec) oci.Reference {
	ref := oci.Reference{Helm: selectorOf(spec.LayerSelector).MediaType == oci.HelmChartLayer}
	if r := spec.Ref; r != nil {
		ref.Digest, ref.SemVer, ref.SemVerFilter, ref.Tag = r.Digest, r.SemVer, r.SemverFilter, r.Tag
	}
	return ref
}

// selectorOf spells out what a selector leaves out (ocirepository 32, 55).
func selectorOf(s *sourcev1.OCILayerSelector) sourcev1.OCILayerSelector {
	out := ptr.Deref(s, sourcev1.OCILayerSelector{})
	if out.Operation == "" {
		out.Operation = sourcev1.OCILayerExtract
	}
	return out
}

// upstream is the connection of one run.
type upstream struct {
	client   *oci.Client
	repo     name.Repository
	url      string
	ref      oci.Reference
	layers   sourcev1.OCILayerSelector
	ignore   string
	unpack   archive.Limits
	check    *check // nil: no signature is asked for
	run      *loop.Run
	resolved oci.Resolved
}

// Settled implements frame.Upstream (ocirepository 29, 55).
func (u *upstream) Settled(obj *sourcev1.OCIRepository) bool {
	spec, observed := obj.Spec.LayerSelector, obj.Status.ObservedLayerSelector
	return ptr.Equal(obj.Spec.Ignore, obj.Status.ObservedIgnore) && (spec == nil) == (observed == nil) && selectorOf(spec) == selectorOf(observed)
}

// Settle implements frame.Upstream (ocirepository 38).
func (u *upstream) Settle(obj *sourcev1.OCIRepository) {
	obj.Status.ObservedIgnore, obj.Status.ObservedLayerSelector = nil, nil
	if obj.Spec.Ignore != nil {
		obj.Status.ObservedIgnore = ptr.To(*obj.Spec.Ignore)
	}
	if obj.Spec.LayerSelector != nil {
		obj.Status.ObservedLayerSelector = ptr.To(*obj.Spec.LayerSelector)
	}
}

// Observe implements frame.Upstream (ocirepository 9-19).
func (u *upstream) Observe(ctx context.Context) (string, error) {
	resolved, err := u.client.Resolve(ctx, u.repo, u.ref)
	switch {
	case errors.Is(err, oci.ErrSelect):
		return "", fetchFailed(sourcev1.ReadOperationFailedReason, fmt.Errorf("failed to determine the artifact tag for '%s': %w", u.url, err))
	case err != nil:
		return "", fetchFailed(sourcev1.OCIArtifactPullFailedReason, fmt.Errorf("failed to determine artifact digest: %w", err))
	}
	u.resolved = resolved
	return resolved.Revision(), nil
}

// Fetch implements frame.Upstream. All is pulled by the digest that Observe found (ocirepository 18).
func (u *upstream) Fetch(ctx context.Context, dir string) (*frame.Content, error) {
	m, err := u.client.Manifest(ctx, u.repo, u.resolved.Digest)
	if err != nil {
		return nil, fetchFailed(sourcev1.OCIArtifactPullFailedReason, fmt.Errorf("failed to pull artifact from '%s': %w", u.url, err))
	}
	layer, err := selectLayer(m, u.layers.MediaType)
	if err != nil {
		return nil, layerFailed(err)
	}
	content := &frame.Content{Revision: u.resolved.Revision(), File: u.resolved.Digest + ".tar.gz", Metadata: m.Annotations}
	if u.layers.Operation == sourcev1.OCILayerCopy {
		content.Write, err = u.copy(ctx, layer, dir)
	} else {
		content.Write, err = u.extract(ctx, layer, dir)
	}
	if err != nil {
		return nil, err
	}
	return content, nil
}

// selectLayer finds the layer to take (ocirepository 32, 36).
func selectLayer(m *oci.Manifest, mediaType string) (oci.Layer, error) {
	if len(m.Layers) == 0 {
		return oci.Layer{}, errors.New("no layers found in artifact")
	}
	if mediaType == "" {
		return m.Layers[0], nil
	}
	for _, l := range m.Layers {
		if l.MediaType == mediaType {
			return l, nil
		}
	}
	return oci.Layer{}, fmt.Errorf("failed to find layer with media type '%s' in artifact", mediaType)
}

type write = func(context.Context, io.Writer) error

// extract unpacks the layer; its files are packed anew (ocirepository 33, 68).
func (u *upstream) extract(ctx context.Context, layer oci.Layer, dir string) (write, error) {
	path := filepath.Join(dir, "tree")
	content, err := u.open(ctx, layer)
	if err != nil {
		return nil, err
	}
	defer content.Close()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, storageFailed(err)
	}
	disk := &diskWriter{w: f}
	tree, err := archive.Unpack(ctx, content, disk, u.unpack)
	if err := errors.Join(disk.err, f.Close()); err != nil {
		return nil, storageFailed(fmt.Errorf("failed to extract layer contents: %w", err))
	}
	if err == nil {
		// What follows the archive still has to have the digest of the layer.
		_, err = io.Copy(io.Discard, content)
	}
	if err != nil {
		return nil, u.broken("extract", err)
	}
	return func(ctx context.Context, w io.Writer) (err error) {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		files := archive.FS(tree.FS(f), ".")
		ignore, err := archive.ReadIgnore(ctx, files, u.ignore)
		if err != nil {
			return fmt.Errorf("reading ignore rules: %w", err)
		}
		return archive.Write(ctx, w, files, ignore)
	}, nil
}

// diskWriter remembers why it could not be written to: Unpack's errors do not tell the disk's from those of the archive.
type diskWriter struct {
	w   io.Writer
	err error
}

func (d *diskWriter) Write(p []byte) (int, error) {
	n, err := d.w.Write(p)
	if err != nil {
		d.err = err
	}
	return n, err
}

// copy keeps the layer byte for byte (ocirepository 34).
func (u *upstream) copy(ctx context.Context, layer oci.Layer, dir string) (write, error) {
	path := filepath.Join(dir, "layer")
	content, err := u.open(ctx, layer)
	if err != nil {
		return nil, err
	}
	defer content.Close()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, storageFailed(err)
	}
	_, err = io.Copy(f, content)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, u.broken("copy", err)
	}
	return func(_ context.Context, w io.Writer) (err error) {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		_, err = io.Copy(w, f)
		return err
	}, nil
}

func (u *upstream) open(ctx context.Context, layer oci.Layer) (io.ReadCloser, error) {
	content, err := u.client.Layer(ctx, u.repo, layer)
	if err != nil {
		return nil, layerFailed(fmt.Errorf("failed to pull layer from artifact: %w", err))
	}
	return content, nil
}

// broken judges what went wrong between the registry and the disk.
func (u *upstream) broken(operation string, err error) error {
	var disk *os.PathError
	if errors.As(err, &disk) {
		return storageFailed(fmt.Errorf("failed to %s layer contents: %w", operation, err))
	}
	return layerFailed(fmt.Errorf("failed to %s layer contents from artifact: %w", operation, err))
}

// Host implements frame.Hosted.
func (u *upstream) Host() string { return u.repo.RegistryStr() }

// Close implements frame.Upstream. Connections are the pool's.
func (u *upstream) Close() {}

func fetchFailed(reason string, err error) error {
	return loop.Fail(reason, err).On(sourcev1.FetchFailedCondition)
}

func authenticationFailed(err error) error {
	return fetchFailed(sourcev1.AuthenticationFailedReason, err)
}

func layerFailed(err error) error {
	return fetchFailed(sourcev1.OCIArtifactLayerOperationFailedReason, err)
}

func storageFailed(err error) error {
	return loop.Fail(sourcev1.DirectoryCreationFailedReason, err).On(sourcev1.StorageOperationFailedCondition)
}

// featureGateDisabled waits for the gate without blaming the registry (ocirepository 23).
func featureGateDisabled(err error) error { return loop.Stall(meta.FeatureGateDisabledReason, err) }
