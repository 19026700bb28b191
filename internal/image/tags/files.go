package tags

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"k8s.io/apimachinery/pkg/types"
)

const (
	// lists is the directory of all lists.
	lists = "imagerepository"
	// plainFile and packedFile hold the tags of an object; only one of them is there.
	plainFile, packedFile = "tags.txt", "tags.txt.gz"
	// imageFile holds the full name of the image they are of.
	imageFile = "image.txt"
	// draftFile becomes one of the others.
	draftFile = ".draft"

	// versionFile tells the layout of the directory (imagerepository 14).
	versionFile = ".storage-version"
	version     = "2"

	// maxBytes bounds what is read of a file. A tag has at most 128 bytes.
	maxBytes = 256 << 20
)

// claim makes the directory one of this layout. Lists of another version go before the version is written, so that a crash
// in between is made good by the next start. 2.9, started on the directory, finds a version that is not that of its other
// database and begins with an empty one, instead of going on with tags that are long outdated (imagerepository 29).
func (d *Database) claim() error {
	found, err := d.readFile(versionFile)
	if err != nil || found == version {
		return err
	}
	if err := d.root.RemoveAll(lists); err != nil {
		return err
	}
	return d.replace(".", versionFile, []byte(version))
}

func namespaceDir(namespace string) string { return path.Join(lists, namespace) }

func dirOf(key types.NamespacedName) string { return path.Join(lists, key.Namespace, key.Name) }

// read returns the content of a file of an object, "" when there is none.
func (d *Database) read(key types.NamespacedName, file string) (string, error) {
	return d.readFile(path.Join(dirOf(key), file))
}

func (d *Database) readFile(name string) (string, error) {
	f, err := d.root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err != nil {
		return "", err
	}
	if len(content) > maxBytes {
		return "", fmt.Errorf("'%s' is larger than %d bytes: delete it", name, maxBytes)
	}
	return string(content), nil
}

// unpack returns the content of the compressed list of an object. One that is damaged counts as none.
func (d *Database) unpack(key types.NamespacedName) (string, error) {
	packed, err := d.read(key, packedFile)
	if err != nil || packed == "" {
		return "", err
	}
	z, err := gzip.NewReader(bytes.NewReader([]byte(packed)))
	if err != nil {
		return "", nil
	}
	content, err := io.ReadAll(io.LimitReader(z, maxBytes+1))
	if err != nil || len(content) > maxBytes {
		return "", nil
	}
	return string(content), nil
}

// writeTags replaces the list of an object. The other form of it goes first: after a crash in between there is none.
func (d *Database) writeTags(key types.NamespacedName, content string) error {
	name, other, body := plainFile, packedFile, []byte(content)
	if int64(len(content)) >= d.options.CompressFrom {
		name, other = packedFile, plainFile
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		if _, err := z.Write(body); err != nil {
			return err
		}
		if err := z.Close(); err != nil {
			return err
		}
		body = packed.Bytes()
	}
	if err := d.removeFile(path.Join(dirOf(key), other)); err != nil {
		return err
	}
	return d.write(key, name, body)
}

// drop removes the list of an object in both forms.
func (d *Database) drop(key types.NamespacedName) error {
	return errors.Join(d.removeFile(path.Join(dirOf(key), plainFile)), d.removeFile(path.Join(dirOf(key), packedFile)))
}

func (d *Database) removeFile(name string) error {
	if err := d.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (d *Database) write(key types.NamespacedName, file string, content []byte) error {
	if err := d.root.MkdirAll(dirOf(key), 0o755); err != nil {
		return err
	}
	return d.replace(dirOf(key), file, content)
}

// replace writes a file beside the old one, syncs it, and renames it. The directory is not synced: a list that a crash of
// the machine takes away is scanned again.
func (d *Database) replace(dir, file string, content []byte) error {
	draft := path.Join(dir, draftFile)
	f, err := d.root.OpenFile(draft, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return d.root.Rename(draft, path.Join(dir, file))
}
