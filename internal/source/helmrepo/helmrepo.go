package helmrepo

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/source/frame"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/secret"
)

// alias is the fixed name of the latest index of a repository (helmrepository 19).
const alias = "index.yaml"

// Options are the flags of the kind, and what it shares with others.
type Options struct {
	// Limits; the zero value: DefaultLimits.
	Limits Limits
	// Digest is the algorithm of revisions (--artifact-digest-algo); empty: SHA-256.
	Digest artifact.Algo
	// TempDir is where runs make their files; empty: the system's.
	TempDir string
	// Hosts keeps hanging servers apart; nil: it does not.
	Hosts *frame.Hosts
	// Cache forgets objects that are gone; may be nil.
	Cache *Cache
}

// Source connects HelmRepositories to their servers.
type Source struct {
	reader  client.Reader
	options Options

	mu sync.Mutex // guards seen
	// seen is what the server of an object said last. It costs a download to lose it.
	seen map[types.NamespacedName]sighting
}

// sighting is an index under a URL, and how its server recognises it.
type sighting struct {
	url, revision string
	tag           Tag
}

// Controller returns the kind for the loop. Secrets are read live through the reader.
func Controller(name string, reader client.Reader, store *artifact.Store, o Options) *loop.Controller[*sourcev1.HelmRepository] {
	if o.Limits == (Limits{}) {
		o.Limits = DefaultLimits()
	}
	if o.Digest == "" {
		o.Digest = artifact.SHA256
	}
	return &loop.Controller[*sourcev1.HelmRepository]{
		Name: name,
		Kind: sourcev1.HelmRepositoryKind,
		New:  func() *sourcev1.HelmRepository { return &sourcev1.HelmRepository{} },
		Reconciler: &frame.Reconciler[*sourcev1.HelmRepository]{
			Kind: sourcev1.HelmRepositoryKind, Alias: alias, Store: store, TempDir: o.TempDir, Hosts: o.Hosts,
			Source: &Source{reader: reader, options: o, seen: map[types.NamespacedName]sighting{}}, Words: words(),
		},
		Conditions: frame.Conditions(nil, nil),
		FailReason: meta.FailedReason,
		Policy:     frame.Policy(),
		Static:     func(obj *sourcev1.HelmRepository) bool { return obj.Spec.Type == sourcev1.HelmRepositoryTypeOCI },
	}
}

func words() frame.Words[*sourcev1.HelmRepository] {
	return frame.Words[*sourcev1.HelmRepository]{
		Outdated: func(_ *sourcev1.HelmRepository, revision string) string {
			return fmt.Sprintf("new index revision '%s'", revision)
		},
		Stored: func(obj *sourcev1.HelmRepository) (reason, message string) {
			return "", fmt.Sprintf("stored artifact: revision '%s'", obj.Status.Artifact.Revision)
		},
		News: func(obj *sourcev1.HelmRepository) string {
			size := "unknown size"
			if n := obj.Status.Artifact.Size; n != nil {
				size = "size " + humanSize(*n)
			}
			return fmt.Sprintf("stored fetched index of %s from '%s'", size, secret.RedactURL(obj.Spec.URL))
		},
	}
}

// humanSize spells a number of bytes in decimal units with four digits (helmrepository 54).
func humanSize(n int64) string {
	size, unit := float64(n), 0
	for units := len(sizeUnits) - 1; size >= 1000 && unit < units; unit++ {
		size /= 1000
	}
	return fmt.Sprintf("%.4g%s", size, sizeUnits[unit])
}

var sizeUnits = [...]string{"B", "kB", "MB", "GB", "TB", "PB", "EB"}

// Connect implements frame.Kind.
func (s *Source) Connect(ctx context.Context, obj *sourcev1.HelmRepository, run *loop.Run) (frame.Upstream[*sourcev1.HelmRepository], error) {
	o, err := ClientOptionsFor(ctx, s.reader, obj, s.options.Limits)
	if err != nil {
		return nil, connectFailed(err)
	}
	c, err := NewClient(o)
	if err != nil {
		return nil, connectFailed(err)
	}
	return &upstream{
		source: s, client: c, key: client.ObjectKeyFromObject(obj), url: o.URL,
		stored: obj.Status.Artifact.DeepCopy(), requested: run.Requested(),
	}, nil
}

// Forget implements frame.Forgetter.
func (s *Source) Forget(key types.NamespacedName) {
	s.mu.Lock()
	delete(s.seen, key)
	s.mu.Unlock()
	if s.options.Cache != nil {
		s.options.Cache.Forget(key)
	}
}

// tag returns how the server recognises the stored index, if that is what it sent last.
func (s *Source) tag(u *upstream) Tag {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.seen[u.key]
	if u.stored == nil || seen.url != u.url || seen.revision != u.stored.Revision {
		return Tag{}
	}
	return seen.tag
}

func (s *Source) remember(u *upstream, tag Tag) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[u.key] = sighting{url: u.url, revision: u.revision, tag: tag}
}

// upstream is the connection of one run.
type upstream struct {
	source    *Source
	client    *Client
	key       types.NamespacedName
	url       string
	stored    *meta.Artifact // nil: none
	requested bool

	// raw is the index as it was fetched, and revision its digest.
	raw      *os.File
	revision string
}

// Settled implements frame.Upstream (helmrepository 51).
func (u *upstream) Settled(obj *sourcev1.HelmRepository) bool {
	return obj.Status.Artifact.Digest != ""
}

// Settle implements frame.Upstream: nothing but the index shapes the content.
func (u *upstream) Settle(*sourcev1.HelmRepository) {}

// Host implements frame.Hosted.
func (u *upstream) Host() string { return u.client.Host() }

// Close implements frame.Upstream.
func (u *upstream) Close() {
	u.client.Close()
	u.discard()
}

func (u *upstream) discard() {
	if u.raw != nil {
		_ = u.raw.Close()
		_ = os.Remove(u.raw.Name())
		u.raw = nil
	}
}

// Observe implements frame.Upstream: the server is asked whether the index is still the stored one, and what it sends
// otherwise is kept for Fetch. A requested run takes nobody's word for it (helmrepository 62).
func (u *upstream) Observe(ctx context.Context) (string, error) {
	var known Tag
	if !u.requested {
		known = u.source.tag(u)
	}
	err := u.download(ctx, known)
	return u.revision, err
}

// Fetch implements frame.Upstream. The index is read here and not while it is stored: one that cannot be read is no news
// (helmrepository 14-16).
func (u *upstream) Fetch(ctx context.Context, dir string) (*frame.Content, error) {
	if u.raw == nil {
		if err := u.download(ctx, Tag{}); err != nil {
			return nil, err
		}
	}
	_, hex, _ := strings.Cut(u.revision, ":")
	content := &frame.Content{Revision: u.revision, File: "index-" + hex + ".yaml"}
	write := func(ctx context.Context, w io.Writer) error { return u.convert(ctx, w, dir) }
	if u.stored != nil && u.stored.Revision == u.revision {
		// Most likely nobody is going to read this.
		content.Write = write
		return content, nil
	}
	stored := filepath.Join(dir, "index.json")
	if err := writeFile(ctx, stored, write); err != nil {
		return nil, err
	}
	content.Write = func(_ context.Context, w io.Writer) error { return copyFile(w, stored) }
	return content, nil
}

// download fetches the index into a file, and sets revision.
func (u *upstream) download(ctx context.Context, known Tag) (err error) {
	answer, err := u.client.Index(ctx, known)
	if err != nil {
		return fetchFailed(err)
	}
	if answer.Unchanged {
		u.revision = u.stored.Revision
		return nil
	}
	defer answer.Body.Close()
	u.discard()
	if u.raw, err = os.CreateTemp(u.source.options.TempDir, "index-*"); err != nil {
		return diskFailed(err)
	}
	digests := u.digests()
	var write error
	file := writerFunc(func(p []byte) (n int, err error) {
		n, write = u.raw.Write(p)
		return n, write
	})
	if _, err := io.Copy(io.MultiWriter(append(digests.writers(), file)...), answer.Body); err != nil {
		if write != nil {
			return diskFailed(write)
		}
		return fetchFailed(u.client.redact(err))
	}
	u.revision = digests.revision(u.stored)
	u.source.remember(u, answer.Tag)
	return nil
}

// digests are the hashes of an index: that of new revisions and, where it is another, that of the stored one, so that a
// change of the flag rebuilds nothing (helmrepository 13).
func (u *upstream) digests() digests {
	d := digests{{u.source.options.Digest, u.source.options.Digest.New()}}
	if u.stored != nil {
		if stored, err := artifact.ParseDigest(u.stored.Revision); err == nil && stored.Algo != d[0].algo {
			d = append(d, digest{stored.Algo, stored.Algo.New()})
		}
	}
	return d
}

type digests []digest

type digest struct {
	algo artifact.Algo
	hash hash.Hash
}

func (d digests) writers() []io.Writer {
	var w []io.Writer
	for _, one := range d {
		w = append(w, one.hash)
	}
	return w
}

func (d digests) revision(stored *meta.Artifact) string {
	for _, one := range d {
		if revision := fmt.Sprintf("%s:%x", one.algo, one.hash.Sum(nil)); stored != nil && revision == stored.Revision {
			return revision
		}
	}
	return fmt.Sprintf("%s:%x", d[0].algo, d[0].hash.Sum(nil))
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// convert writes the fetched index as it is stored.
func (u *upstream) convert(ctx context.Context, w io.Writer, dir string) error {
	if _, err := u.raw.Seek(0, io.SeekStart); err != nil {
		return diskFailed(err)
	}
	err := WriteJSON(ctx, w, u.raw, dir, u.source.options.Limits)
	if err == nil || !errors.Is(err, ErrIndex) && !errors.Is(err, ErrTooLarge) {
		return err
	}
	return loop.Fail(sourcev1.IndexationFailedReason, fmt.Errorf("failed to load Helm repository from index YAML: failed to load index: %w", err)).
		On(sourcev1.FetchFailedCondition)
}

func writeFile(ctx context.Context, name string, write func(context.Context, io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return diskFailed(err)
	}
	err = errors.Join(write(ctx, f), f.Close())
	switch {
	case err == nil, loop.Judged(err):
		return err
	case ctx.Err() != nil:
		return fetchFailed(fmt.Errorf("reading the index: %w", err))
	}
	return diskFailed(err)
}

func copyFile(w io.Writer, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return errors.Join(err, f.Close())
}

// connectFailed judges what is wrong with the spec or the Secrets (helmrepository 5, 29, 44).
func connectFailed(err error) error {
	switch {
	case errors.Is(err, errScheme):
		return loop.Stall(meta.FailedReason, err).On(sourcev1.FetchFailedCondition)
	case errors.Is(err, ErrURL):
		return loop.Stall(sourcev1.URLInvalidReason, err).On(sourcev1.FetchFailedCondition)
	}
	return loop.Fail(sourcev1.AuthenticationFailedReason, err).On(sourcev1.FetchFailedCondition)
}

// fetchFailed judges what went wrong with the server (helmrepository 12, 37).
func fetchFailed(err error) error {
	return loop.Fail(meta.FailedReason, fmt.Errorf("failed to fetch Helm repository index: failed to cache index to temporary file: %w", err)).
		On(sourcev1.FetchFailedCondition)
}

// diskFailed judges what went wrong with the temporary directory.
func diskFailed(err error) error {
	return loop.Fail(sourcev1.DirectoryCreationFailedReason, fmt.Errorf("failed to keep the index in the temporary directory: %w", err)).
		On(sourcev1.StorageOperationFailedCondition)
}
