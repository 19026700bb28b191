package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"

	"github.com/seed-79636ae9/flux/toolkit/archive"
)

func pkt(format string, args ...any) string {
	line := fmt.Sprintf(format, args...)
	return fmt.Sprintf("%04x%s", len(line)+4, line)
}

const testCaps = "shallow side-band-64k ofs-delta"

func advertise(caps string, refs ...string) string {
	out := pkt("# service=git-upload-pack\n") + "0000"
	for i, ref := range refs {
		if i == 0 {
			out += pkt("%s\x00%s\n", ref, caps)
		} else {
			out += pkt("%s\n", ref)
		}
	}
	return out + "0000"
}

func sidebandPack(pack []byte) string {
	out := "0000" + pkt("NAK\n")
	for chunk := range slices.Chunk(pack, 60000) {
		out += pkt("\x01%s", chunk)
	}
	return out + "0000"
}

// hostile serves fixed answers.
func hostile(t testing.TB, advertisement, answer string) *Client {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			_, _ = io.WriteString(w, advertisement)
			return
		}
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(server.Close)
	c, err := New(Options{URL: server.URL + "/app.git"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// fetchPack fetches the branch main, which points to tip, from a server that
// sends pack, and archives the result.
func fetchPack(t testing.TB, tip plumbing.Hash, pack []byte, limits Limits) ([]string, error) {
	t.Helper()
	c := hostile(t, advertise(testCaps, tip.String()+" refs/heads/main"), sidebandPack(pack))
	c.limits = limits.orDefault()
	dir := t.TempDir()
	defer func() {
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%d files are left in the work directory", len(left))
		}
	}()
	checkout, err := c.Fetch(t.Context(), Reference{Branch: "main"}, dir)
	if err != nil {
		return nil, err
	}
	defer checkout.Close()
	var paths []string
	err = checkout.Tree().Walk(t.Context(), func(e archive.Entry) error {
		paths = append(paths, e.Path)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return paths, archive.Write(t.Context(), io.Discard, checkout.Tree(), archive.Matcher{})
}

// TestHostileNames: names that lead out of a directory or into .git.
func TestHostileNames(t *testing.T) {
	for _, name := range []string{
		".git", ".GIT", ".Git", "git~1", "GIT~1", "..", ".", "a/b", "/abs", ".git ", ".git.", ".git...", ".git::$INDEX_ALLOCATION",
		".g\u200cit", "\ufeff.git", `..\x`, `a\..\b`, `.git\config`,
	} {
		t.Run(fmt.Sprintf("%q", name), func(t *testing.T) {
			var b packBuilder
			blob := b.object(plumbing.BlobObject, "x")
			tree := b.object(plumbing.TreeObject, entry("100644", name, blob))
			_, err := fetchPack(t, b.commit(tree), b.bytes(), Limits{})
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("fetch: %v, want ErrMalformed", err)
			}
		})
	}
	t.Run("harmless", func(t *testing.T) {
		var b packBuilder
		blob := b.object(plumbing.BlobObject, "x")
		var content string
		names := []string{".gitignore", "...", "a..b", "git", "git~2", `x\x2dy.swap`}
		for _, name := range names {
			content += entry("100644", name, blob)
		}
		got, err := fetchPack(t, b.commit(b.object(plumbing.TreeObject, content)), b.bytes(), Limits{})
		slices.Sort(names)
		if err != nil || !slices.Equal(got, names) {
			t.Errorf("got %q, %v, want %q", got, err, names)
		}
	})
}

func TestHostileObjects(t *testing.T) {
	const author = "author a <a@b> 1 +0000\ncommitter a <a@b> 1 +0000\n"
	tests := []struct {
		name  string
		build func(b *packBuilder) plumbing.Hash // returns the tip
		want  error
	}{
		{"link and a file behind it", func(b *packBuilder) plumbing.Hash {
			link := b.object(plumbing.BlobObject, ".git")
			below := b.object(plumbing.TreeObject, entry("100644", "config", link))
			return b.commit(b.object(plumbing.TreeObject, entry("120000", "s", link)+entry("40000", "s", below)))
		}, ErrMalformed},
		{"two files of one name", func(b *packBuilder) plumbing.Hash {
			blob := b.object(plumbing.BlobObject, "x")
			return b.commit(b.object(plumbing.TreeObject, entry("100644", "a", blob)+entry("100755", "a", blob)))
		}, ErrMalformed},
		{"second tree header", func(b *packBuilder) plumbing.Hash {
			one := b.object(plumbing.TreeObject, "")
			two := b.object(plumbing.TreeObject, entry("100644", "a", b.object(plumbing.BlobObject, "x")))
			return b.object(plumbing.CommitObject, "tree "+one.String()+"\ntree "+two.String()+"\n"+author+"\nx")
		}, ErrMalformed},
		{"second signature", func(b *packBuilder) plumbing.Hash {
			tree := b.object(plumbing.TreeObject, "")
			return b.object(plumbing.CommitObject, "tree "+tree.String()+"\n"+author+"gpgsig a\n b\ngpgsig c\n\nx")
		}, ErrMalformed},
		{"tree header after the author", func(b *packBuilder) plumbing.Hash {
			return b.object(plumbing.CommitObject, author+"tree "+b.object(plumbing.TreeObject, "").String()+"\n\nx")
		}, ErrMalformed},
		{"tree that is a file", func(b *packBuilder) plumbing.Hash { return b.commit(b.object(plumbing.BlobObject, "x")) }, ErrMalformed},
		{"file that is a tree", func(b *packBuilder) plumbing.Hash {
			return b.commit(b.object(plumbing.TreeObject, entry("100644", "a", b.object(plumbing.TreeObject, ""))))
		}, ErrMalformed},
		{"tip that is a file", func(b *packBuilder) plumbing.Hash { return b.object(plumbing.BlobObject, "x") }, ErrMalformed},
		{"absent file", func(b *packBuilder) plumbing.Hash {
			return b.commit(b.object(plumbing.TreeObject, entry("100644", "a", plumbing.NewHash(strings.Repeat("1", 40)))))
		}, errObjectNotFound},
		{"absent tip", func(b *packBuilder) plumbing.Hash {
			b.object(plumbing.BlobObject, "x")
			return plumbing.NewHash(strings.Repeat("1", 40))
		}, errObjectNotFound},
		{"truncated tree", func(b *packBuilder) plumbing.Hash {
			return b.commit(b.object(plumbing.TreeObject, "100644 a\x00123"))
		}, ErrMalformed},
		{"tags in a circle are impossible, a long row is refused", func(b *packBuilder) plumbing.Hash {
			tip := b.commit(b.object(plumbing.TreeObject, ""))
			kind := "commit"
			for range maxTagChain {
				tip = b.object(plumbing.TagObject, "object "+tip.String()+"\ntype "+kind+"\ntag t\ntagger a <a@b> 1 +0000\n\nx")
				kind = "tag"
			}
			return tip
		}, ErrMalformed},
		{"unknown object type", func(b *packBuilder) plumbing.Hash { return b.object(5, "x") }, ErrMalformed},
		{"delta to nothing", func(b *packBuilder) plumbing.Hash {
			b.ofsDelta(3, varint(1)+varint(1)+"\x01x")
			return plumbing.ZeroHash
		}, ErrMalformed},
		{"deltas in a circle", func(b *packBuilder) plumbing.Hash {
			b.refDelta(plumbing.NewHash(strings.Repeat("1", 40)), varint(1)+varint(1)+"\x01x")
			b.refDelta(plumbing.NewHash(strings.Repeat("2", 40)), varint(1)+varint(1)+"\x01x")
			return plumbing.ZeroHash
		}, ErrMalformed},
		{"delta that claims 2^40 bytes", func(b *packBuilder) plumbing.Hash {
			base := b.object(plumbing.BlobObject, "x")
			b.refDelta(base, varint(1)+varint(1<<40)+"\x01x")
			return plumbing.ZeroHash
		}, ErrLimit},
		{"delta for another base size", func(b *packBuilder) plumbing.Hash {
			base := b.object(plumbing.BlobObject, "x")
			b.refDelta(base, varint(7)+varint(1)+"\x01x")
			return plumbing.ZeroHash
		}, ErrMalformed},
		{"delta that copies from outside", func(b *packBuilder) plumbing.Hash {
			base := b.object(plumbing.BlobObject, "x")
			b.refDelta(base, varint(1)+varint(9)+"\x91\x00\x09")
			return plumbing.ZeroHash
		}, ErrMalformed},
		{"delta that yields too little", func(b *packBuilder) plumbing.Hash {
			base := b.object(plumbing.BlobObject, "x")
			b.refDelta(base, varint(1)+varint(9)+"\x01x")
			return plumbing.ZeroHash
		}, ErrMalformed},
		{"delta that goes on", func(b *packBuilder) plumbing.Hash {
			base := b.object(plumbing.BlobObject, "x")
			b.refDelta(base, varint(1)+varint(1)+"\x01x\x01y")
			return plumbing.ZeroHash
		}, ErrMalformed},
		{"object shorter than it says", func(b *packBuilder) plumbing.Hash {
			b.header(plumbing.BlobObject, 100)
			b.deflate([]byte("x"))
			return plumbing.ZeroHash
		}, ErrMalformed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var b packBuilder
			tip := test.build(&b)
			if tip.IsZero() {
				tip = plumbing.NewHash(strings.Repeat("3", 40))
			}
			_, err := fetchPack(t, tip, b.bytes(), Limits{})
			if !errors.Is(err, test.want) {
				t.Errorf("fetch: %v, want %v", err, test.want)
			}
		})
	}
}

// TestHostilePacks: packs that are broken as a whole.
func TestHostilePacks(t *testing.T) {
	var b packBuilder
	tip := b.commit(b.object(plumbing.TreeObject, entry("100644", "a", b.object(plumbing.BlobObject, strings.Repeat("x", 999)))))
	good := b.bytes()
	if _, err := fetchPack(t, tip, good, Limits{}); err != nil {
		t.Fatalf("the pack without a fault: %v", err)
	}
	for n := range len(good) {
		if _, err := fetchPackDirect(t, good[:n]); err == nil {
			t.Fatalf("pack cut after %d of %d bytes: no error", n, len(good))
		}
	}
	flipped := slices.Clone(good)
	flipped[len(flipped)-1] ^= 1
	if _, err := fetchPack(t, tip, flipped, Limits{}); err == nil || !strings.Contains(err.Error(), "checksum mismatch") {
		t.Errorf("wrong checksum: %v", err)
	}
	more := slices.Clone(good)
	more[11]++
	if _, err := fetchPack(t, tip, more, Limits{}); err == nil {
		t.Error("a count that is too high: no error")
	}
}

func fetchPackDirect(t testing.TB, content []byte) (*pack, error) {
	p, err := readPack(t.Context(), bytes.NewReader(content), t.TempDir(), DefaultLimits())
	if err == nil {
		t.Cleanup(func() { _ = p.close() })
	}
	return p, err
}

func TestLimits(t *testing.T) {
	var b packBuilder
	blob := b.object(plumbing.BlobObject, strings.Repeat("x", 1000))
	tree := b.object(plumbing.TreeObject, entry("100644", "file", blob)+entry("100644", "other", blob))
	tip := b.commit(b.object(plumbing.TreeObject, entry("40000", "dir", tree)))
	tests := []struct {
		limits Limits
		want   string
	}{
		{Limits{AdvertisementBytes: 40}, "size of the list of references"},
		{Limits{PackBytes: 40}, "size of the pack"},
		{Limits{Objects: 3}, "number of objects in the pack 4 is more than 3"},
		{Limits{ObjectBytes: 999}, "size of an object 1000 is more than 999"},
		{Limits{TreeEntries: 2}, "number of paths in the tree 3 is more than 2"},
		{Limits{TreeBytes: 1999}, "size of the files in the tree 2000 is more than 1999"},
		{Limits{TreeDepth: 1}, "depth of the tree 2 is more than 1"},
		{Limits{PathBytes: 9}, "length of a path 10 is more than 9"},
		{Limits{TreeEntries: 3, TreeBytes: 2000, TreeDepth: 2, PathBytes: 10, ObjectBytes: 1000, Objects: 4}, ""},
	}
	for _, test := range tests {
		t.Run(test.want, func(t *testing.T) {
			_, err := fetchPack(t, tip, b.bytes(), test.limits)
			if test.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, ErrLimit) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("fetch: %v, want %q", err, test.want)
			}
		})
	}
}

// TestBomb: twelve objects that stand for 10^10 paths are refused by counting,
// not by walking.
func TestBomb(t *testing.T) {
	var b packBuilder
	h := b.object(plumbing.BlobObject, "a: 1\n")
	mode := "100644"
	for range 10 {
		var content string
		for i := range 10 {
			content += entry(mode, fmt.Sprint("f", i), h)
		}
		h, mode = b.object(plumbing.TreeObject, content), "40000"
	}
	_, err := fetchPack(t, b.commit(h), b.bytes(), Limits{})
	if !errors.Is(err, ErrLimit) || !strings.Contains(err.Error(), "number of paths in the tree") {
		t.Errorf("fetch: %v, want a limit", err)
	}
	// A chain of directories is bounded by depth before the stack is.
	b = packBuilder{}
	h = b.object(plumbing.BlobObject, "x")
	mode = "100644"
	for range 10_000 {
		h, mode = b.object(plumbing.TreeObject, entry(mode, "d", h)), "40000"
	}
	if _, err = fetchPack(t, b.commit(h), b.bytes(), Limits{}); !errors.Is(err, ErrLimit) {
		t.Errorf("fetch: %v, want a limit", err)
	}
}

// TestHugeObjects: a declared size is judged before anything is inflated, and
// what is inflated beyond it stops the reading.
func TestHugeObjects(t *testing.T) {
	var b packBuilder
	b.header(plumbing.BlobObject, 4<<30)
	b.deflate(make([]byte, 1<<20))
	if _, err := fetchPack(t, plumbing.NewHash(strings.Repeat("1", 40)), b.bytes(), Limits{}); !errors.Is(err, ErrLimit) {
		t.Errorf("4 GiB declared: %v, want ErrLimit", err)
	}
	b = packBuilder{}
	b.header(plumbing.BlobObject, 10)
	b.deflate(make([]byte, 1<<20))
	if _, err := fetchPack(t, plumbing.NewHash(strings.Repeat("1", 40)), b.bytes(), Limits{}); err == nil {
		t.Error("1 MiB where 10 bytes were declared: no error")
	}
}

func TestHostileAdvertisements(t *testing.T) {
	one, two := strings.Repeat("1", 40), strings.Repeat("2", 40)
	tests := []struct {
		name          string
		advertisement string
		want          error
		text          string
	}{
		{"name with dots", advertise(testCaps, one+" refs/heads/../../config"), ErrReferenceNotFound, "couldn't find remote ref"},
		{"NUL in a name", advertise(testCaps, one+" refs/heads/a", two+" refs/heads/x\x00y"), ErrReferenceNotFound, "couldn't find remote ref"},
		{"two spaces", advertise(testCaps, one+" refs/heads/a", two+" refs/heads/x y"), ErrMalformed, "more than one space"},
		{"strange HEAD", advertise(testCaps+" symref=HEAD:refs/../../x", one+" HEAD", two+" refs/heads/a"), ErrReferenceNotFound, ""},
		{"SHA-256", advertise(testCaps+" object-format=sha256", one+strings.Repeat("1", 24)+" refs/heads/main"), ErrUnsupported, "SHA-256"},
		{"no hash", advertise(testCaps, "zz refs/heads/main"), ErrMalformed, ""},
		{"no packet", "hello", ErrMalformed, "invalid pkt-len"},
		{"web page", "<html>sign in</html>", ErrMalformed, "web page"},
		{"nothing", "", nil, "empty input"},
		{"cut", advertise(testCaps, one+" refs/heads/main")[:90], nil, "unexpected EOF"},
		{"error", pkt("ERR access denied or repository not exported: /x"), ErrNotFound, "repository not found"},
		{"long error", pkt("ERR %s", strings.Repeat("x", 9000)), nil, "xxx..."},
		{"empty", pkt("# service=git-upload-pack\n") + "0000" + pkt("%s capabilities^{}\x00%s\n", strings.Repeat("0", 40), testCaps) + "0000", ErrEmptyRepository, "git repository is empty"},
		{"very long name", advertise(testCaps, one+" refs/heads/"+strings.Repeat("x", 65000)), ErrReferenceNotFound, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := hostile(t, test.advertisement, "").Fetch(t.Context(), Reference{Branch: "main"}, t.TempDir())
			if err == nil || test.want != nil && !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.text) {
				t.Errorf("fetch: %v, want %v, %q", err, test.want, test.text)
			}
			if err != nil && len(err.Error()) > 1000 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}

// TestEndlessAdvertisement: a million references end at the limit.
func TestEndlessAdvertisement(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		line := strings.Repeat("1", 40) + " refs/heads/"
		_, _ = io.WriteString(w, pkt("%s%d\x00%s\n", line, 0, testCaps))
		for i := 0; ; i++ {
			if _, err := io.WriteString(w, pkt("%s%d\n", line, i)); err != nil {
				return
			}
		}
	}))
	defer server.Close()
	c, err := New(Options{URL: server.URL, Limits: Limits{AdvertisementBytes: 1 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Resolve(t.Context(), Reference{Branch: "main"}); !errors.Is(err, ErrLimit) {
		t.Errorf("resolve: %v, want ErrLimit", err)
	}
}

func TestHostileAnswers(t *testing.T) {
	tip := strings.Repeat("1", 40)
	for name, test := range map[string]struct {
		answer, want string
	}{
		"error line":        {pkt("ERR upload-pack: not our ref"), "the server said: upload-pack: not our ref"},
		"error in the band": {"0000" + pkt("NAK\n") + pkt("\x02progress") + pkt("\x03fatal: out of memory"), "the server said: fatal: out of memory"},
		"wrong line":        {"0000" + pkt("ACK %s", tip), "unexpected line"},
		"no end":            {pkt("shallow %s", tip), "unexpected EOF"},
		"unknown band":      {"0000" + pkt("NAK\n") + pkt("\x07x"), "unknown channel"},
		"nothing":           {"", "unexpected EOF"},
		"no pack":           {"0000" + pkt("NAK\n") + "0000", "empty packfile"},
		"not a pack":        {"0000" + pkt("NAK\n") + pkt("\x01hello world") + "0000", "malformed pack file"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := hostile(t, advertise(testCaps, tip+" refs/heads/main"), test.answer).Fetch(t.Context(), Reference{Branch: "main"}, t.TempDir())
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("fetch: %v, want %q", err, test.want)
			}
		})
	}
}

// TestFetchEndsWithContext: a server that never ends its pack.
func TestFetchEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			_, _ = io.WriteString(w, advertise(testCaps, strings.Repeat("1", 40)+" refs/heads/main"))
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "0000"+pkt("NAK\n")+pkt("\x01PACK\x00\x00\x00\x02\x00\x00\x00\x01"))
		_ = http.NewResponseController(w).Flush()
		cancel()
		<-r.Context().Done()
	}))
	defer server.Close()
	c, err := New(Options{URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Fetch(ctx, Reference{Branch: "main"}, t.TempDir()); !errors.Is(err, context.Canceled) {
		t.Errorf("fetch: %v, want the context's error", err)
	}
}

func FuzzAdvertisement(f *testing.F) {
	f.Add([]byte(advertise(testCaps, strings.Repeat("1", 40)+" refs/heads/main", strings.Repeat("2", 40)+" refs/tags/v1.0.0")))
	f.Fuzz(func(t *testing.T, content []byte) {
		refs, err := readAdvertisement(bytes.NewReader(content), 1<<16, []string{""})
		if err != nil {
			return
		}
		for _, ref := range []Reference{{Branch: "main"}, {SemVer: "*"}, {Name: "HEAD"}, {Commit: strings.Repeat("1", 40)}} {
			s, err := newSelector(ref)
			if err != nil {
				t.Fatal(err)
			}
			if found, err := s.find(refs); err == nil {
				wanted(s, refs, found).encode(refs)
			}
		}
	})
}

func FuzzObjects(f *testing.F) {
	f.Add([]byte("tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor a <a@b> 1 +0000\ncommitter a <a@b> 1 +0000\n\nx"), []byte(entry("100644", "a", plumbing.ZeroHash)))
	f.Fuzz(func(t *testing.T, commit, tree []byte) {
		var b packBuilder
		treeHash := b.object(plumbing.TreeObject, string(tree))
		commitHash := b.object(plumbing.CommitObject, string(commit))
		p, err := readPack(t.Context(), bytes.NewReader(b.bytes()), t.TempDir(), DefaultLimits())
		if err != nil {
			t.Fatal(err)
		}
		defer p.close()
		if c, err := readCommit(p, commitHash); err == nil && c.tree.IsZero() && !bytes.Contains(commit, []byte(strings.Repeat("0", 40))) {
			t.Errorf("commit %q has no tree", commit)
		}
		entries, err := readTree(p, treeHash)
		if err != nil {
			return
		}
		for _, e := range entries {
			if strings.ContainsAny(e.name, "/\x00") || e.name == ".." || strings.EqualFold(e.name, ".git") {
				t.Errorf("name %q", e.name)
			}
		}
	})
}

// FuzzModules: whatever .gitmodules says, paths stay inside and URLs are those of servers.
func FuzzModules(f *testing.F) {
	f.Add("[submodule \"a\"]\n\tpath = a\n\turl = ../b.git\n")
	f.Add("[submodule \"../x\"]\n\tpath = /etc\n\turl = ext::sh -c id\n")
	f.Add("[submodule \"a\"]\n\tpath = a\n\turl = git@host:org/b.git\n")
	f.Fuzz(func(t *testing.T, text string) {
		urls, err := parseModules(strings.NewReader(text))
		if err != nil {
			return
		}
		for at, raw := range urls {
			if !filepath.IsLocal(at) {
				t.Errorf("path %q", at)
			}
			u, err := moduleURL("https://host/org/app.git", raw)
			if err == nil && u.Scheme != "https" && u.Scheme != "http" && u.Scheme != "ssh" {
				t.Errorf("%q becomes %s", raw, u)
			}
		}
	})
}

func FuzzReferenceList(f *testing.F) {
	f.Add([]byte(pkt("%s refs/heads/main\n", strings.Repeat("1", 40)) + "0000"))
	f.Add([]byte(pkt("%s refs/tags/v1 peeled:%s\n", strings.Repeat("1", 40), strings.Repeat("2", 40)) + "0000"))
	f.Fuzz(func(t *testing.T, content []byte) {
		refs := packp.NewAdvRefs()
		_ = readCapabilities(refs, content)
		_ = readList(refs, bytes.NewReader(content), []string{""})
		_, _ = fetchResponse(bytes.NewReader(content))
	})
}

// TestSieve: of many references only those that are looked at are kept, and
// nothing that is wrong passes for one that is not.
func TestSieve(t *testing.T) {
	one, two := strings.Repeat("1", 40), strings.Repeat("2", 40)
	lines := []string{one + " refs/heads/first"}
	for i := range 1000 {
		lines = append(lines, fmt.Sprintf("%s refs/heads/other-%d", one, i))
	}
	lines = append(lines, two+" refs/heads/main", one+" refs/tags/v1", two+" refs/tags/v1^{}")
	read := func(prefixes ...string) (*advertisement, error) {
		return readAdvertisement(strings.NewReader(advertise(testCaps, lines...)), 1<<20, prefixes)
	}
	refs, err := read("refs/heads/main")
	if err != nil || len(refs.References) != 2 || refs.References["refs/heads/main"] != plumbing.NewHash(two) {
		t.Errorf("main: %v, %v, want the first reference and main", refs, err)
	}
	refs, err = read("refs/tags/")
	if err != nil || len(refs.References) != 2 || refs.Peeled["refs/tags/v1"] != plumbing.NewHash(two) {
		t.Errorf("tags: %v, %v, want the first reference and v1 with its commit", refs, err)
	}
	lines = append(lines, two+" refs/heads/a space")
	if _, err := read("refs/heads/main"); !errors.Is(err, ErrMalformed) {
		t.Errorf("a malformed line: %v, want ErrMalformed", err)
	}
}
