package artifact

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	"github.com/seed-79636ae9/flux/api/meta"
)

// StoreOptions configure a Store. The zero value is that of Flux 2.9.
type StoreOptions struct {
	// AdvertisedAddr is the host and port in the URLs of artifacts (--storage-adv-addr).
	AdvertisedAddr string
	// Digest is the algorithm of new artifacts (--artifact-digest-algo); empty means sha256.
	Digest Algo
	// RetentionTTL is how long a replaced artifact stays (--artifact-retention-ttl); 0 means 60 s.
	RetentionTTL time.Duration
	// RetentionRecords is how many artifacts of an object stay, the current one included (--artifact-retention-records); 0 means 2.
	RetentionRecords int
	// LockWait is how long to wait for another process to leave the directory; 0 fails at once.
	LockWait time.Duration
	// Clock tells ages; nil is the system's clock.
	Clock clock.PassiveClock
}

// Store keeps artifacts in a directory. Names below it are hard links to blobs, one per content: "<dir>/gitrepository/ns/app/x.tar.gz"
// is the file "<dir>/blobs/sha256/<hex>". Where the file system has no hard links, names are files of their own and there are no blobs.
//
// Nothing unfinished is ever seen under a name: content is written aside, synced, and then named by one rename or link, so that a crash
// at any moment leaves the old file, the new one, or none (reliability 097, 126). A Store is safe for concurrent use; only one process
// can have it open.
type Store struct {
	dir     string
	blobs   *blobs
	options StoreOptions
	lock    *os.File
	linked  bool
	root    *os.Root

	mu      sync.Mutex // guards names and blobs on disk while links are made, counted and removed, and records
	records map[Name]*record
}

// OpenStore opens or creates the store in dir, also one that Flux 2.9 left behind: its files keep their names and are taken in, after a
// check of their digest, when they are first verified or opened. It fails with ErrLocked while another process has the directory.
func OpenStore(dir string, o StoreOptions) (_ *Store, err error) {
	if o.Digest == "" {
		o.Digest = SHA256
	}
	if _, err := ParseAlgo(string(o.Digest)); err != nil {
		return nil, err
	}
	if o.RetentionTTL == 0 {
		o.RetentionTTL = time.Minute
	}
	if o.RetentionRecords == 0 {
		o.RetentionRecords = 2
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, explain("create artifact storage", dir, err)
	}
	s := &Store{dir: dir, options: o, records: map[Name]*record{}}
	if s.lock, err = lockDir(dir, o.LockWait); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.root, err = os.OpenRoot(dir); err != nil {
		return nil, explain("open artifact storage", dir, err)
	}
	if s.blobs, err = openBlobs(dir); err != nil {
		return nil, err
	}
	s.linked = canLink(s.blobs.tmp)
	return s, s.sweep()
}

// Close lets another process open the directory.
func (s *Store) Close() error {
	var errs []error
	if s.root != nil {
		errs = append(errs, s.root.Close())
	}
	return errors.Join(append(errs, s.lock.Close())...)
}

// sweep removes blobs that lost their last name, or never got one, in a crash.
func (s *Store) sweep() error {
	return filepath.WalkDir(s.blobs.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return explain("examine storage", path, err)
		}
		if entry.IsDir() {
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return explain("examine storage", path, err)
		}
		if s.linked && links(info) > 1 {
			return nil
		}
		return s.blobs.remove(path)
	})
}

// AdvertisedAddr returns the address for artifact URLs when none is given: the host and port of the listen address, where no host means
// localhost and "any address" means this host (wire contract 8). hostname is the environment's HOSTNAME or the system's.
func AdvertisedAddr(listen, hostname string) (string, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", fmt.Errorf("storage address %q: want host:port or :port: %w", listen, err)
	}
	switch host {
	case "":
		host = "localhost"
	case "0.0.0.0":
		host = hostname
	}
	return net.JoinHostPort(host, port), nil
}

// URL returns the address of a path of the store. It depends on the advertised address alone, so that a changed host needs no new
// artifact (gitrepository 10).
func (s *Store) URL(path string) string { return "http://" + s.options.AdvertisedAddr + "/" + path }

// Put stores what write writes under the name, replacing what was there, and returns the artifact without Revision and Metadata, which
// the caller knows. Content that the store already has costs one link. Nothing is stored when write fails or ctx ends; the errors of
// the file system name the path and what to do.
func (s *Store) Put(ctx context.Context, name Name, write func(io.Writer) error) (*meta.Artifact, error) {
	if err := name.check(); err != nil {
		return nil, fmt.Errorf("store artifact: %w", err)
	}
	d, err := s.blobs.write(s.options.Digest, func(w io.Writer) error {
		if err := write(&contextWriter{ctx: ctx, w: w}); err != nil {
			return err
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("store artifact '%s': %w", name.Path(), err)
	}
	if err := s.publish(name, d); err != nil {
		return nil, fmt.Errorf("store artifact '%s': %w", name.Path(), err)
	}
	return &meta.Artifact{
		Path:           name.Path(),
		URL:            s.URL(name.Path()),
		Digest:         d.digest.String(),
		Size:           &d.size,
		LastUpdateTime: metav1.NewTime(s.options.Clock.Now()),
	}, nil
}

// publish moves the draft under its name.
func (s *Store) publish(name Name, d *draft) error {
	if s.linked {
		// Reading an existing blob, once after a start, is better done before the lock is taken.
		_ = s.blobs.check(s.blobs.path(d.digest), d.digest)
	}
	changed, err := s.name(name, d)
	if err != nil {
		return errors.Join(err, s.blobs.remove(d.path))
	}
	for _, dir := range changed {
		// A directory that is gone was removed with its object meanwhile.
		if err := syncDir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return explain("sync directory", dir, err)
		}
	}
	return nil
}

// name links the draft and returns the directories it changed.
func (s *Store) name(name Name, d *draft) (changed []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	path := s.file(name)
	if changed, err = s.makeDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	replaced := s.blobOf(name)
	if s.linked {
		if err := s.blobs.keep(d); err != nil {
			return nil, err
		}
		if err := s.link(s.blobs.path(d.digest), path); err != nil {
			return nil, err
		}
	} else if err := os.Rename(d.path, path); err != nil {
		return nil, explain("store artifact", path, err)
	}
	if replaced != (Digest{}) && replaced != d.digest {
		if err := s.dropBlob(replaced); err != nil {
			return nil, err
		}
	}
	return append(changed, filepath.Dir(path)), s.added(name, d.digest)
}

// link makes path a name of the blob, in one step as seen by readers.
func (s *Store) link(blob, path string) error {
	err := os.Link(blob, path)
	if err == nil {
		return nil
	}
	if !errors.Is(err, fs.ErrExist) {
		return explain("link artifact", path, err)
	}
	if old, err := os.Stat(path); err == nil {
		if now, err := os.Stat(blob); err == nil && os.SameFile(old, now) {
			// A rename of one name of a file onto another does nothing and would leave the aside name behind.
			return nil
		}
	}
	aside := filepath.Join(s.blobs.tmp, "link-"+filepath.Base(blob))
	if err := os.Link(blob, aside); err != nil {
		return explain("link artifact", path, err)
	}
	if err := os.Rename(aside, path); err != nil {
		os.Remove(aside)
		return explain("link artifact", path, err)
	}
	return nil
}

// makeDir creates the directory of an object and returns the directories whose entries it changed.
func (s *Store) makeDir(dir string) (changed []string, err error) {
	for d := dir; d != s.dir; d = filepath.Dir(d) {
		if _, err := os.Stat(d); err == nil {
			break
		}
		changed = append(changed, filepath.Dir(d))
	}
	if len(changed) == 0 {
		return nil, nil
	}
	return changed, explain("create directory", dir, os.MkdirAll(dir, 0o750))
}

// Alias gives an artifact a second, fixed name in its directory, such as "latest.tar.gz": a symbolic link, which retention leaves alone
// (wire contract 8).
func (s *Store) Alias(name Name, alias string) error {
	other := name
	other.File = alias
	if err := errors.Join(name.check(), other.check()); err != nil {
		return fmt.Errorf("link artifact: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	path := s.file(other)
	if target, err := os.Readlink(path); err == nil && target == name.File {
		return nil
	}
	aside := filepath.Join(s.blobs.tmp, "alias")
	if err := os.Symlink(name.File, aside); err != nil {
		return explain("link artifact", path, err)
	}
	if err := os.Rename(aside, path); err != nil {
		os.Remove(aside)
		return explain("link artifact", path, err)
	}
	return nil
}

// Exists tells whether there is a file under the artifact's path, whatever its content.
func (s *Store) Exists(a *meta.Artifact) bool {
	name, err := nameOf(a)
	if err != nil {
		return false
	}
	info, err := os.Lstat(s.file(name))
	return err == nil && info.Mode().IsRegular()
}

// Verify returns nil when the artifact's file is there and has the artifact's digest, and otherwise an error with the property
// ErrNotFound or ErrMismatch (gitrepository 8). A file is read once, and again only when it was touched since.
func (s *Store) Verify(a *meta.Artifact) error {
	f, err := s.open(a)
	if err != nil {
		return err
	}
	return f.Close()
}

// open returns the artifact's file after a check of its digest. A file that 2.9 left gets its blob here.
func (s *Store) open(a *meta.Artifact) (*os.File, error) {
	name, err := nameOf(a)
	if err != nil {
		return nil, err
	}
	digest, err := ParseDigest(a.Digest)
	if err != nil {
		return nil, fmt.Errorf("artifact '%s': %w", a.Path, err)
	}
	path := s.file(name)
	f, err := s.blobs.open(path, digest)
	if err != nil {
		return nil, err
	}
	if err := s.adopt(name, path, digest); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// blob returns the content of a digest whatever its name, ErrNotFound when there is none.
func (s *Store) blob(d Digest) (*os.File, error) {
	if !s.linked {
		return nil, ErrNotFound
	}
	return s.blobs.open(s.blobs.path(d), d)
}

// adopt gives a verified file without a blob one, and a record of its age.
func (s *Store) adopt(name Name, path string, d Digest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.blobOf(name) == d {
		return nil
	}
	if s.linked {
		blob := s.blobs.path(d)
		if err := os.MkdirAll(filepath.Dir(blob), 0o750); err != nil {
			return explain("create directory", filepath.Dir(blob), err)
		}
		if err := os.Link(path, blob); err != nil && !errors.Is(err, fs.ErrExist) {
			return explain("link artifact", blob, err)
		}
	}
	return s.learned(name, d)
}

// Remove removes the file of an artifact, such as one that failed verification. A file that is not there is fine.
func (s *Store) Remove(a *meta.Artifact) error {
	name, err := nameOf(a)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.removeName(name); err != nil {
		return err
	}
	return s.save(name.object())
}

func (s *Store) file(name Name) string { return filepath.Join(s.dir, filepath.FromSlash(name.Path())) }

// dropBlob removes a blob without names. The caller holds mu.
func (s *Store) dropBlob(d Digest) error {
	if !s.linked {
		return nil
	}
	path := s.blobs.path(d)
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return explain("examine storage", path, err)
	}
	if links(info) > 1 {
		return nil
	}
	return s.blobs.remove(path)
}

// removeName removes one name and, with the last name, the blob, and forgets it; the caller saves the record, once for many. The
// caller holds mu.
func (s *Store) removeName(name Name) error {
	digest := s.blobOf(name)
	if err := s.blobs.remove(s.file(name)); err != nil {
		return err
	}
	if digest != (Digest{}) {
		if err := s.dropBlob(digest); err != nil {
			return err
		}
	}
	delete(s.record(name.object()).Files, name.File)
	return nil
}

type contextWriter struct {
	ctx context.Context
	w   io.Writer
}

func (c *contextWriter) Write(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.w.Write(p)
}
