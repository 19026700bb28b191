package artifact

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"k8s.io/utils/clock"

	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/archive"
)

// DefaultRetries is how often a fetch is repeated unless told otherwise (--http-retry).
const DefaultRetries = 9

// OpenerOptions configure an Opener. The zero value does not retry, allows every host and has the limits named below.
type OpenerOptions struct {
	// Retries is how often a fetch that failed is repeated: DefaultRetries, or --http-retry.
	Retries int
	// RetryWaitMin and RetryWaitMax bound the waits in between, which double; 0 means 5 s and 30 s.
	RetryWaitMin, RetryWaitMax time.Duration
	// StallTimeout ends a try that waits this long for an answer or for more bytes; 0 means 30 s.
	StallTimeout time.Duration
	// Hosts replaces the host of artifact URLs.
	Hosts HostOverrides
	// MoreStores are looked into after the one NewOpener is given.
	MoreStores []*Store
	// AllowHost tells whether to fetch from the host, or host:port, of an artifact's URL or of a redirect; nil allows all. Whoever may
	// write a source's status chooses that host (reliability 041).
	AllowHost func(host string) bool
	// MaxBytes is the largest artifact to fetch; 0 means 1 GiB.
	MaxBytes int64
	// Limits bound what is unpacked; nil means archive.DefaultLimits.
	Limits *archive.Limits
	// TreeCacheBytes is how much unpacked content stays although nobody uses it, on disk and, up to 64 MiB, in memory; 0 means 1 GiB,
	// negative none.
	TreeCacheBytes int64
	// FileCacheBytes is how much fetched content stays; 0 means 512 MiB, negative none.
	FileCacheBytes int64
	// UserAgent of the requests.
	UserAgent string
	// Transport sends the requests; nil is a transport of the opener's own that honours the proxy environment.
	Transport http.RoundTripper
	// Clock drives waits and ages; nil is the system's clock.
	Clock clock.Clock
}

// HostOverrides name hosts to fetch from in place of those in artifact URLs, for controllers run outside of the cluster (kustomization
// 24). An empty one changes nothing.
type HostOverrides struct {
	// SourceWatcher is for URLs that hold "//source-watcher" (SOURCE_WATCHER_LOCALHOST).
	SourceWatcher string
	// SourceController is for all others (SOURCE_CONTROLLER_LOCALHOST).
	SourceController string
}

func (o *OpenerOptions) setDefaults() {
	setDefault(&o.RetryWaitMin, 5*time.Second)
	setDefault(&o.RetryWaitMax, 30*time.Second)
	setDefault(&o.StallTimeout, 30*time.Second)
	setDefault(&o.MaxBytes, 1<<30)
	setDefault(&o.TreeCacheBytes, 1<<30)
	setDefault(&o.FileCacheBytes, 512<<20)
	if o.Limits == nil {
		limits := archive.DefaultLimits()
		o.Limits = &limits
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Opener gives artifacts to read. Wherever one comes from, its content is checked against its digest before it is used. An Opener is
// safe for concurrent use.
type Opener struct {
	stores  []*Store
	options OpenerOptions
	lock    *os.File
	client  *http.Client
	files   *fileCache
	trees   *treeCache
}

// NewOpener returns an opener that looks into the store, which may be nil, and then fetches over HTTP. The directory is for fetched and
// unpacked content; unpacked content of a former process is removed. It fails with ErrLocked while another process has the directory.
func NewOpener(store *Store, cacheDir string, o OpenerOptions) (_ *Opener, err error) {
	o.setDefaults()
	if err := os.MkdirAll(cacheDir, 0o750); err != nil {
		return nil, explain("create artifact cache", cacheDir, err)
	}
	op := &Opener{options: o, stores: o.MoreStores}
	if store != nil {
		op.stores = append([]*Store{store}, o.MoreStores...)
	}
	if op.lock, err = lockDir(cacheDir, 0); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			op.lock.Close()
		}
	}()
	op.client = newClient(o)
	if op.files, err = openFileCache(cacheDir, o.FileCacheBytes, o.Clock); err != nil {
		return nil, err
	}
	op.trees, err = openTreeCache(filepath.Join(cacheDir, treesDir), o.TreeCacheBytes, o.Clock)
	return op, err
}

// Close removes unpacked content and lets another process have the directory. Trees must have been closed.
func (o *Opener) Close() error {
	o.client.CloseIdleConnections()
	return errors.Join(removeTree(o.trees.dir), o.lock.Close())
}

// Open returns the unpacked artifact. The same content is unpacked once however many ask for it, at once or one after another. The
// caller reads the tree and closes it.
//
// Errors have the property ErrNotFound when the artifact is gone (kustomization 22), ErrMismatch when its content is not what its digest
// says (kustomization 23), ErrTooLarge, ErrHostDenied, or archive.ErrUnsafe.
func (o *Opener) Open(ctx context.Context, a *meta.Artifact) (*Tree, error) {
	digest, err := digestOfArtifact(a)
	if err != nil {
		return nil, err
	}
	tree, err := o.trees.open(ctx, a.Digest+" "+a.URL, digest, func(ctx context.Context, w io.Writer) (*archive.Index, error) {
		f, err := o.file(ctx, a, digest)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		index, err := archive.Unpack(ctx, f, w, *o.options.Limits)
		return index, explain("unpack", o.trees.dir, err)
	})
	if err != nil {
		return nil, fmt.Errorf("open artifact '%s': %w", a.Path, err)
	}
	return tree, nil
}

// File returns the artifact as it is stored, checked against its digest, for those that are no archives. The caller closes it. Errors
// are those of Open.
func (o *Opener) File(ctx context.Context, a *meta.Artifact) (*os.File, error) {
	digest, err := digestOfArtifact(a)
	if err != nil {
		return nil, err
	}
	f, err := o.file(ctx, a, digest)
	if err != nil {
		return nil, fmt.Errorf("open artifact '%s': %w", a.Path, err)
	}
	return f, nil
}

// TrimCache removes what nobody has used for the given time, and returns the bytes that were freed.
func (o *Opener) TrimCache(idle time.Duration) (int64, error) {
	before := o.options.Clock.Now().Add(-idle)
	trees, err := o.trees.trim(before)
	files, err2 := o.files.trim(before)
	return trees + files, errors.Join(err, err2)
}

func digestOfArtifact(a *meta.Artifact) (Digest, error) {
	if a == nil {
		return Digest{}, fmt.Errorf("open artifact: %w: there is none", ErrNotFound)
	}
	d, err := ParseDigest(a.Digest)
	if err != nil {
		return Digest{}, fmt.Errorf("open artifact '%s': %w", a.Path, err)
	}
	return d, nil
}

// file finds the content: in the stores by digest, in the stores by name, among what was fetched before, at the artifact's URL.
func (o *Opener) file(ctx context.Context, a *meta.Artifact, d Digest) (*os.File, error) {
	for _, store := range o.stores {
		if f, err := store.blob(d); err == nil {
			return f, nil
		}
		// A name whose content is not right says nothing about the URL, which may lead to another store.
		if f, err := store.open(a); err == nil {
			return f, nil
		} else if !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrMismatch) {
			return nil, err
		}
	}
	return o.files.open(ctx, a.Digest+" "+a.URL, d, func(ctx context.Context) (*draft, error) { return o.fetch(ctx, a, d) })
}
