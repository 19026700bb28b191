package artifact

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/seed-79636ae9/flux/api/meta"
)

// maxCollected bounds what one collection looks at (gitrepository 7); the next one goes on.
const maxCollected = 1000

// record remembers when the files of one object got their names. The time of a file cannot tell: hard links share it, and clocks step
// (reliability 130).
type record struct {
	Next  int64             `json:"next"`
	Files map[string]*entry `json:"files"`
}

type entry struct {
	// Order counts up with each Put of the object: the truth about what is older.
	Order int64 `json:"order"`
	// Added is when the file got its name.
	Added time.Time `json:"added"`
	// Digest of the content, "" while unknown.
	Digest string `json:"digest,omitempty"`
}

// Collect removes files of the object (name.File is ignored) that were replaced longer ago than the retention TTL and, oldest first,
// what exceeds the retention records; it returns the removed paths. The file of keep, which may be nil, stays. Links and lock files are
// left alone. At most 1000 files are looked at (gitrepository 7). An error does not take back what was removed before.
func (s *Store) Collect(ctx context.Context, name Name, keep *meta.Artifact) (removed []string, err error) {
	if err := name.checkObject(); err != nil {
		return nil, fmt.Errorf("collect artifacts: %w", err)
	}
	object := name.object()
	current := ""
	if n, err := nameOf(keep); err == nil && n.object() == object {
		current = n.File
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	garbage, err := s.garbage(object, current)
	if err != nil {
		return nil, fmt.Errorf("collect artifacts of '%s': %w", object.dir(), err)
	}
	if len(garbage) > 0 {
		defer func() { err = errors.Join(err, s.save(object)) }()
	}
	for _, file := range garbage {
		if ctx.Err() != nil {
			return removed, fmt.Errorf("collect artifacts of '%s': %w", object.dir(), context.Cause(ctx))
		}
		victim := object
		victim.File = file
		if err := s.removeName(victim); err != nil {
			return removed, fmt.Errorf("collect artifacts of '%s': %w", object.dir(), err)
		}
		removed = append(removed, victim.Path())
	}
	return removed, nil
}

// garbage chooses the files to remove. The caller holds mu.
func (s *Store) garbage(object Name, current string) ([]string, error) {
	files, err := s.list(object)
	if err != nil {
		return nil, err
	}
	entries, err := s.aged(object, files)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(files, func(a, b string) int {
		return cmp.Or(cmp.Compare(entries[a].Order, entries[b].Order), cmp.Compare(a, b))
	})
	now := s.options.Clock.Now()
	var garbage []string
	var remaining []string
	for _, file := range files {
		if file != current && now.Sub(entries[file].Added) > s.options.RetentionTTL {
			garbage = append(garbage, file)
		} else {
			remaining = append(remaining, file)
		}
	}
	excess := len(remaining) - s.options.RetentionRecords
	for _, file := range remaining {
		if excess <= 0 {
			break
		}
		if file != current {
			garbage = append(garbage, file)
			excess--
		}
	}
	return garbage, nil
}

// list returns the names of the regular files of an object, at most maxCollected.
func (s *Store) list(object Name) ([]string, error) {
	dir := s.file(object)
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, explain("list artifacts", dir, err)
	}
	defer f.Close()
	found, err := f.ReadDir(maxCollected)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, explain("list artifacts", dir, err)
	}
	var files []string
	for _, e := range found {
		if e.Type().IsRegular() && !strings.HasSuffix(e.Name(), lockSuffix) {
			files = append(files, e.Name())
		}
	}
	return files, nil
}

// aged returns what is known of the files. What has no record, because 2.9 or a crash left it, is dated by the file; a date in the
// future, from a clock that was wrong, becomes now, so that it will pass.
func (s *Store) aged(object Name, files []string) (map[string]entry, error) {
	now := s.options.Clock.Now()
	rec := s.record(object)
	type undated struct {
		file     string
		modified time.Time
	}
	var unknown []undated
	changed := false
	for _, file := range files {
		if e := rec.Files[file]; e == nil {
			info, err := os.Lstat(filepath.Join(s.file(object), file))
			if err != nil {
				return nil, explain("examine artifact", s.file(object), err)
			}
			unknown = append(unknown, undated{file, info.ModTime()})
		} else if e.Added.After(now) {
			e.Added = now
			changed = true
		}
	}
	// They are older than all that has a record: everything new gets one.
	slices.SortFunc(unknown, func(a, b undated) int {
		return cmp.Or(b.modified.Compare(a.modified), cmp.Compare(b.file, a.file))
	})
	oldest := int64(0)
	for _, e := range rec.Files {
		oldest = min(oldest, e.Order)
	}
	for _, u := range unknown {
		oldest--
		if u.modified.After(now) {
			u.modified = now
		}
		rec.Files[u.file] = &entry{Order: oldest, Added: u.modified}
		changed = true
	}
	if changed {
		if err := s.save(object); err != nil {
			return nil, err
		}
	}
	out := make(map[string]entry, len(files))
	for _, file := range files {
		out[file] = *rec.Files[file]
	}
	return out, nil
}

// RemoveAll removes all files of an object and returns how many artifacts there were (gitrepository 73). An object without files is
// fine.
func (s *Store) RemoveAll(kind, namespace, name string) (n int, err error) {
	object := Name{Kind: kind, Namespace: namespace, Object: name}.object()
	if err := object.checkObject(); err != nil {
		return 0, fmt.Errorf("remove artifacts: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		files, err := s.list(object)
		if err != nil {
			return n, fmt.Errorf("remove artifacts of '%s': %w", object.dir(), err)
		}
		if len(files) == 0 {
			break
		}
		for _, file := range files {
			victim := object
			victim.File = file
			if err := s.removeName(victim); err != nil {
				return n, fmt.Errorf("remove artifacts of '%s': %w", object.dir(), err)
			}
			n++
		}
	}
	delete(s.records, object)
	for _, dir := range []string{s.file(object), s.recordFile(object)} {
		if err := os.RemoveAll(dir); err != nil {
			return n, explain(fmt.Sprintf("remove artifacts of '%s'", object.dir()), dir, err)
		}
	}
	// The directory of the namespace goes with its last object.
	_ = os.Remove(filepath.Dir(s.file(object)))
	_ = os.Remove(filepath.Dir(s.recordFile(object)))
	return n, nil
}

func (s *Store) recordFile(object Name) string {
	return filepath.Join(s.dir, recordsDir, filepath.FromSlash(object.dir())+".json")
}

// record returns the record of an object. One that is missing or unreadable starts anew: it is worth an age, not an error. The caller
// holds mu.
func (s *Store) record(object Name) *record {
	if rec := s.records[object]; rec != nil {
		return rec
	}
	rec := &record{}
	if data, err := os.ReadFile(s.recordFile(object)); err != nil || json.Unmarshal(data, rec) != nil {
		rec = &record{}
	}
	if rec.Files == nil {
		rec.Files = map[string]*entry{}
	}
	for file, e := range rec.Files {
		if e == nil {
			delete(rec.Files, file)
		}
	}
	s.records[object] = rec
	return rec
}

func (s *Store) save(object Name) error {
	file := s.recordFile(object)
	data, err := json.Marshal(s.record(object))
	if err != nil {
		return explain("encode record", file, err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
		return explain("create directory", filepath.Dir(file), err)
	}
	aside := filepath.Join(s.blobs.tmp, "record")
	if err := os.WriteFile(aside, data, 0o600); err != nil {
		return explain("write record", aside, err)
	}
	return explain("write record", file, os.Rename(aside, file))
}

// added notes that the name was given now. The caller holds mu.
func (s *Store) added(name Name, d Digest) error {
	rec := s.record(name.object())
	rec.Next++
	rec.Files[name.File] = &entry{Order: rec.Next, Added: s.options.Clock.Now(), Digest: d.String()}
	return s.save(name.object())
}

// learned notes the digest of a file that was there before. The caller holds mu.
func (s *Store) learned(name Name, d Digest) error {
	if _, err := s.aged(name.object(), []string{name.File}); err != nil {
		return err
	}
	rec := s.record(name.object())
	rec.Files[name.File].Digest = d.String()
	return s.save(name.object())
}

// blobOf returns the digest recorded for a name, zero when there is none. The caller holds mu.
func (s *Store) blobOf(name Name) Digest {
	e := s.record(name.object()).Files[name.File]
	if e == nil {
		return Digest{}
	}
	d, err := ParseDigest(e.Digest)
	if err != nil {
		return Digest{}
	}
	return d
}

// recorded returns the digest a served name must have, zero when nothing is recorded; aliases are followed.
func (s *Store) recorded(name Name) Digest {
	if target, err := os.Readlink(s.file(name)); err == nil {
		name.File = path.Base(target)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.blobOf(name)
}
