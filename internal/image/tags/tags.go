// Package tags is the database of the tags that images have in their registries: one file for each ImageRepository, in the
// layout that 2.9 has with its feature gate FluxStorage (imagerepository 28).
//
// A list is replaced as a whole or not at all, whenever the process dies: it is written beside the old one, synced, and
// renamed. A list that cannot be read counts as none, so that the next scan heals it.
package tags

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/adler32"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// Options of a Database.
type Options struct {
	// Dir holds the database; it is created.
	Dir string
	// Digests makes revisions SHA-256 digests, as 2.9 does with its feature gate FluxStorage, instead of Adler-32 checksums
	// (imagerepository 14, 28).
	Digests bool
	// CompressFrom is the size of a list, in bytes, from which on it is compressed; zero: all are.
	CompressFrom int64
}

// List is the tags of an image. Its zero value is no list.
type List struct {
	// Image is the full name of the image.
	Image string
	// Tags in descending order of their bytes. They are shared: nobody changes them.
	Tags []string
	// Revision is the checksum of the tags.
	Revision string
}

// Database keeps lists by the namespace and name of their ImageRepository. Several goroutines may use it, and one process.
type Database struct {
	root    *os.Root
	options Options

	mu sync.RWMutex // guards the files
	// waiting are closed when a list is put.
	waitMu  sync.Mutex // guards waiting
	waiting map[types.NamespacedName]chan struct{}
}

// Open opens the database. What 2.9 has left in the directory besides the files of this layout is left alone.
func Open(o Options) (*Database, error) {
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("open the database of image tags: %w", err)
	}
	root, err := os.OpenRoot(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("open the database of image tags: %w", err)
	}
	d := &Database{root: root, options: o, waiting: map[types.NamespacedName]chan struct{}{}}
	if err := d.claim(); err != nil {
		return nil, errors.Join(fmt.Errorf("open the database of image tags in '%s': %w", o.Dir, err), root.Close())
	}
	return d, nil
}

// Close ends the use of the directory.
func (d *Database) Close() error { return d.root.Close() }

// Normal returns tags as lists have them: in descending order, each once. It changes the slice.
func Normal(tags []string) []string {
	slices.SortFunc(tags, func(a, b string) int { return strings.Compare(b, a) })
	return slices.Compact(tags)
}

// Revision returns the checksum of tags in the order of lists.
func (d *Database) Revision(tags []string) string {
	if d.options.Digests {
		sum := sha256.Sum256([]byte(text(tags)))
		return "sha256:" + hex.EncodeToString(sum[:])
	}
	sum := adler32.New()
	encoder := json.NewEncoder(elements{sum})
	separator := "["
	for _, tag := range tags {
		sum.Write([]byte(separator))
		// A string always has a JSON form, and a checksum takes all there is.
		_ = encoder.Encode(tag)
		separator = ","
	}
	if separator == "[" {
		sum.Write([]byte(separator))
	}
	sum.Write([]byte("]"))
	return strconv.FormatUint(uint64(sum.Sum32()), 10)
}

// elements takes the line end away that an encoder adds to each value.
type elements struct {
	sum interface{ Write([]byte) (int, error) }
}

func (e elements) Write(p []byte) (int, error) {
	_, err := e.sum.Write(p[:len(p)-1])
	return len(p), err
}

// Get returns the list of an object, the zero value when there is none that can be used. Its errors are those of the disk.
func (d *Database) Get(key types.NamespacedName) (List, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.get(key)
}

func (d *Database) get(key types.NamespacedName) (List, error) {
	image, err := d.read(key, imageFile)
	if err != nil || image == "" {
		return List{}, err
	}
	content, err := d.read(key, plainFile)
	if err == nil && content == "" {
		content, err = d.unpack(key)
	}
	if err != nil || content == "" {
		return List{}, err
	}
	list := List{Image: image, Tags: strings.FieldsFunc(content, func(r rune) bool { return r == '\n' })}
	// Somebody else may have written the file.
	list.Tags = Normal(list.Tags)
	list.Revision = d.Revision(list.Tags)
	return list, nil
}

// Put replaces the list of an object, with tags as Normal returns them, and returns it. No tags are no list.
func (d *Database) Put(key types.NamespacedName, image string, tags []string) (List, error) {
	list := List{Image: image, Tags: tags, Revision: d.Revision(tags)}
	if err := d.put(key, list); err != nil {
		return List{}, fmt.Errorf("store the tags of '%s': %w", key, err)
	}
	d.wake(key)
	return list, nil
}

func (d *Database) put(key types.NamespacedName, list List) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	old, err := d.get(key)
	if err != nil {
		return err
	}
	if old.Image == list.Image && slices.Equal(old.Tags, list.Tags) {
		return nil
	}
	if len(list.Tags) == 0 {
		return d.drop(key)
	}
	if old.Image != list.Image {
		// In this order: tags that are there are always those of the image that is named beside them.
		if err := d.drop(key); err != nil {
			return err
		}
		if err := d.write(key, imageFile, []byte(list.Image)); err != nil {
			return err
		}
	}
	return d.writeTags(key, text(list.Tags))
}

// Remove forgets an object.
func (d *Database) Remove(key types.NamespacedName) error {
	defer d.wake(key)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.root.RemoveAll(dirOf(key)); err != nil {
		return fmt.Errorf("remove the tags of '%s': %w", key, err)
	}
	// The directory of the namespace goes with the last of its objects; until then this fails.
	_ = d.root.Remove(namespaceDir(key.Namespace))
	return nil
}

// Await returns when the object has tags of the image, or with the cause for which ctx has ended.
func (d *Database) Await(ctx context.Context, key types.NamespacedName, image string) error {
	for {
		put := d.putting(key)
		// What was put before the channel was there has told nobody.
		if list, err := d.Get(key); err != nil || list.Image == image && len(list.Tags) > 0 {
			return err
		}
		select {
		case <-put:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// putting is closed when a list of the object is put the next time.
func (d *Database) putting(key types.NamespacedName) <-chan struct{} {
	d.waitMu.Lock()
	defer d.waitMu.Unlock()
	put := d.waiting[key]
	if put == nil {
		put = make(chan struct{})
		d.waiting[key] = put
	}
	return put
}

func (d *Database) wake(key types.NamespacedName) {
	d.waitMu.Lock()
	defer d.waitMu.Unlock()
	if put := d.waiting[key]; put != nil {
		close(put)
		delete(d.waiting, key)
	}
}

// Living returns the names of the objects that exist in a namespace.
type Living func(ctx context.Context, namespace string) (map[string]bool, error)

// Collect forgets the objects that no longer exist. Where nobody knows whether they do, everything stays. The first error
// ends the collection (imagerepository 20, 31).
func (d *Database) Collect(ctx context.Context, living Living) (removed int, err error) {
	namespaces, err := d.entries(lists)
	if err != nil {
		return 0, err
	}
	for _, namespace := range namespaces {
		// The names come first: an object is there before its list is.
		names, err := d.entries(namespaceDir(namespace))
		if err != nil {
			return removed, err
		}
		alive, err := living(ctx, namespace)
		if err != nil {
			return removed, err
		}
		for _, name := range names {
			if alive[name] {
				continue
			}
			if err := d.Remove(types.NamespacedName{Namespace: namespace, Name: name}); err != nil {
				return removed, err
			}
			removed++
		}
	}
	return removed, nil
}

// entries returns the names in a directory, none when it does not exist.
func (d *Database) entries(dir string) ([]string, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	entries, err := fs.ReadDir(d.root.FS(), dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list the image tags that are stored: %w", err)
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

// text is the content of a file: a tag in each line.
func text(tags []string) string { return strings.Join(tags, "\n") }
