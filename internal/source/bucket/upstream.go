package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/source/bucket/storage"
	"github.com/seed-79636ae9/flux/internal/source/frame"
	"github.com/seed-79636ae9/flux/toolkit/archive"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
	"github.com/seed-79636ae9/flux/toolkit/loop"
)

const (
	// parallel is how many objects are downloaded at a time (bucket 22).
	parallel = 100
	// maxIgnoreBytes bounds the ignore file of a bucket.
	maxIgnoreBytes = 1 << 20
)

// upstream is the connection of one run.
type upstream struct {
	bucket storage.Bucket
	name   string
	prefix string
	ignore *string
	limits storage.Limits
	// stored and fresh are the algorithms of the stored revision and of new ones.
	stored, fresh artifact.Algo
	// identity is why requests go without the identity of the controller; may be nil.
	identity error

	// What Observe found.
	index      index
	ignoreFile *ignoreFile
}

// ignoreFile is the ignore file of the bucket's root.
type ignoreFile struct{ content []byte }

// Settled implements frame.Upstream. What spec.ignore changes shows in the index (bucket 42).
func (u *upstream) Settled(*sourcev1.Bucket) bool { return true }

// Settle implements frame.Upstream (bucket 43).
func (u *upstream) Settle(obj *sourcev1.Bucket) { obj.Status.ObservedIgnore = u.ignore }

// ObservesFirst implements frame.Lister.
func (u *upstream) ObservesFirst() {}

// Observe implements frame.Upstream: it lists the bucket (bucket 16-21). That the bucket exists shows in the listing.
func (u *upstream) Observe(ctx context.Context) (string, error) {
	listed, rules, err := u.list(ctx)
	if err != nil {
		return "", u.failed("list", err)
	}
	if err := u.readIgnore(ctx, rules); err != nil {
		return "", u.failed("read '"+archive.IgnoreFile+"' of", err)
	}
	ignore, err := u.matcher()
	if err != nil {
		return "", u.failed("read the ignore patterns for", err)
	}
	for key := range listed {
		if ignore.Excludes(key, false) {
			delete(listed, key)
		}
	}
	if err := listed.check(u.limits); err != nil {
		return "", u.failed("use", err)
	}
	u.index = listed
	return listed.revision(u.stored), nil
}

// list returns what can be part of the index, and whether the listing has an ignore file; nil: it does not tell.
func (u *upstream) list(ctx context.Context) (index, *bool, error) {
	listed := index{}
	var count int64
	found := false
	err := u.bucket.List(ctx, u.prefix, func(o storage.Object) error {
		if count++; count > u.limits.Keys {
			return fmt.Errorf("%w: the listing has more than the %d objects of --bucket-limit-keys: set spec.prefix", storage.ErrLimit, u.limits.Keys)
		}
		if int64(len(o.Key)) > u.limits.KeyBytes {
			return fmt.Errorf("object '%s': %w: its key has more than the %d bytes of --bucket-limit-key-bytes", printable(o.Key), storage.ErrLimit, u.limits.KeyBytes)
		}
		if ignored(o.Key) {
			found = found || o.Key == archive.IgnoreFile
			return nil
		}
		// A server that repeats itself would be read for ever (reliability 075).
		if _, twice := listed[o.Key]; twice {
			return fmt.Errorf("object '%s': %w: it is listed twice", printable(o.Key), storage.ErrMalformed)
		}
		listed[o.Key] = o
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	if !strings.HasPrefix(archive.IgnoreFile, u.prefix) {
		return listed, nil, nil
	}
	return listed, &found, nil
}

// readIgnore reads the ignore file of the root, which the prefix is no matter to (bucket 16, 19, 40).
func (u *upstream) readIgnore(ctx context.Context, listed *bool) error {
	if listed != nil && !*listed {
		return nil
	}
	var content bytes.Buffer
	_, err := u.bucket.Get(ctx, storage.Object{Key: archive.IgnoreFile}, &limited{w: &content, left: maxIgnoreBytes, err: fmt.Errorf("%w: it has more than %d bytes", storage.ErrLimit, maxIgnoreBytes)})
	if errors.Is(err, storage.ErrNoObject) {
		return nil
	}
	if err != nil {
		return err
	}
	u.ignoreFile = &ignoreFile{content.Bytes()}
	return nil
}

// matcher returns the rules of the bucket with those of the spec after them; there are no others (bucket 16, 17, 41).
func (u *upstream) matcher() (archive.Matcher, error) {
	var patterns []archive.Pattern
	if u.ignoreFile != nil {
		own, err := archive.ParsePatterns(bytes.NewReader(u.ignoreFile.content), "")
		if err != nil {
			return archive.Matcher{}, err
		}
		patterns = own
	}
	if u.ignore != nil {
		inline, err := archive.ParsePatterns(strings.NewReader(*u.ignore), "")
		if err != nil {
			return archive.Matcher{}, fmt.Errorf("spec.ignore: %w", err)
		}
		patterns = append(patterns, inline...)
	}
	return archive.NewMatcher(patterns...), nil
}

// Fetch implements frame.Upstream: it downloads all objects of the index (bucket 22, 23, 44).
func (u *upstream) Fetch(ctx context.Context, dir string) (*frame.Content, error) {
	tree := filepath.Join(dir, "tree")
	if err := os.Mkdir(tree, 0o700); err != nil {
		return nil, storageFailed(err)
	}
	root, err := os.OpenRoot(tree)
	if err != nil {
		return nil, storageFailed(err)
	}
	fetched, err := u.download(ctx, root)
	if err = errors.Join(err, root.Close()); err != nil {
		var local *localError
		if errors.As(err, &local) {
			return nil, storageFailed(local.err)
		}
		return nil, u.failed("download", err)
	}
	revision := fetched.revision(u.fresh)
	_, hex, _ := strings.Cut(revision, ":")
	return &frame.Content{
		Revision: revision,
		File:     hex + ".tar.gz",
		News:     fmt.Sprintf("stored artifact with %d fetched files from '%s' bucket", len(fetched), u.name),
		// bucket 29
		Write: func(ctx context.Context, w io.Writer) error {
			return archive.Write(ctx, w, archive.Dir(tree), archive.Matcher{})
		},
	}, nil
}

// download writes the objects of the index below root, and returns the index of what was there.
func (u *upstream) download(ctx context.Context, root *os.Root) (index, error) {
	if u.ignoreFile != nil {
		// bucket 18
		if err := root.WriteFile(archive.IgnoreFile, u.ignoreFile.content, 0o600); err != nil {
			return nil, &localError{err}
		}
	}
	var mu sync.Mutex // guards fetched
	fetched := make(index, len(u.index))
	left := &atomic.Int64{}
	left.Store(u.limits.Bytes)
	group, downloads := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for _, o := range u.index {
		if downloads.Err() != nil {
			break
		}
		group.Go(func() error {
			o, err := u.downloadOne(downloads, root, o, left)
			if errors.Is(err, storage.ErrNoObject) {
				return nil
			}
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			fetched[o.Key] = o
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if len(fetched) < len(u.index) {
		if err := u.reallyGone(ctx, fetched); err != nil {
			return nil, err
		}
	}
	return fetched, nil
}

// reallyGone lists the bucket once more, to tell objects that were deleted meanwhile, which are left out (bucket 23), from
// a server that lists what it does not give: what such a one leaves would delete things from clusters.
func (u *upstream) reallyGone(ctx context.Context, fetched index) error {
	listed, _, err := u.list(ctx)
	if err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(u.index)) {
		if _, ok := fetched[key]; ok {
			continue
		}
		if _, still := listed[key]; still {
			return fmt.Errorf("object '%s' is listed and does not exist: %w", printable(key), storage.ErrMalformed)
		}
	}
	return nil
}

// downloadOne writes one object. One that has changed since the listing is taken as it is now (bucket 23).
func (u *upstream) downloadOne(ctx context.Context, root *os.Root, o storage.Object, left *atomic.Int64) (storage.Object, error) {
	// The index was checked: the path is one below root.
	w := &objectWriter{root: root, path: path.Clean(o.Key), limit: u.limits.ObjectBytes, left: left}
	o, err := u.bucket.Get(ctx, o, w)
	if errors.Is(err, storage.ErrChanged) {
		o, err = u.bucket.Get(ctx, storage.Object{Key: o.Key}, w)
	}
	if errors.Is(err, storage.ErrNoObject) {
		return o, err
	}
	if err = errors.Join(err, w.close()); err != nil {
		if w.err != nil {
			err = w.err
		}
		return o, fmt.Errorf("object '%s': %w", printable(o.Key), err)
	}
	return o, nil
}

// Host implements frame.Hosted.
func (u *upstream) Host() string { return u.bucket.Host() }

// Close implements frame.Upstream.
func (u *upstream) Close() { u.bucket.Close() }

// failed judges what went wrong with the server (bucket 15, 39).
func (u *upstream) failed(doing string, err error) error {
	if u.identity != nil && errors.Is(err, storage.ErrDenied) {
		err = fmt.Errorf("%w; the request had no credentials: %w", err, u.identity)
	}
	if errors.Is(err, storage.ErrNoBucket) {
		err = fmt.Errorf("bucket '%s' not found", u.name)
	} else {
		err = fmt.Errorf("failed to %s bucket '%s': %w", doing, u.name, err)
	}
	return loop.Fail(sourcev1.BucketOperationFailedReason, err).On(sourcev1.FetchFailedCondition)
}

// localError is a failure of the local file system.
type localError struct{ err error }

func (e *localError) Error() string { return e.err.Error() }

func (e *localError) Unwrap() error { return e.err }

func storageFailed(err error) error {
	return loop.Fail(sourcev1.DirectoryCreationFailedReason, fmt.Errorf("failed to write to the temporary working directory: %w", err)).
		On(sourcev1.StorageOperationFailedCondition)
}

// limited fails once more was written than allowed.
type limited struct {
	w    io.Writer
	left int64
	err  error
}

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= int64(len(p)); l.left < 0 {
		return 0, l.err
	}
	return l.w.Write(p)
}

// objectWriter is the file of one object, created when the first bytes arrive or, for an empty one, when it is closed.
type objectWriter struct {
	root  *os.Root
	path  string
	limit int64
	left  *atomic.Int64

	file *os.File
	size int64
	// err is what went wrong here, not with the server.
	err error
}

func (w *objectWriter) Write(p []byte) (int, error) {
	if w.err == nil {
		w.err = w.open()
	}
	if w.err != nil {
		return 0, w.err
	}
	if w.size += int64(len(p)); w.size > w.limit {
		w.err = fmt.Errorf("%w: it has more than the %d bytes of --bucket-limit-object-bytes", storage.ErrLimit, w.limit)
		return 0, w.err
	}
	if w.left.Add(-int64(len(p))) < 0 {
		w.err = fmt.Errorf("%w: with it the objects have more than the bytes of --bucket-limit-bytes", storage.ErrLimit)
		return 0, w.err
	}
	n, err := w.file.Write(p)
	if err != nil {
		w.err = &localError{err}
	}
	return n, err
}

func (w *objectWriter) open() error {
	if w.file != nil {
		return nil
	}
	if err := w.root.MkdirAll(path.Dir(w.path), 0o700); err != nil {
		return &localError{err}
	}
	file, err := w.root.OpenFile(w.path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return &localError{err}
	}
	w.file = file
	return nil
}

func (w *objectWriter) close() error {
	if w.err == nil {
		w.err = w.open()
	}
	if w.file == nil {
		return w.err
	}
	if err := w.file.Close(); err != nil && w.err == nil {
		w.err = &localError{err}
	}
	return w.err
}
