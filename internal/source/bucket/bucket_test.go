package bucket

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/ptr"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/source/bucket/buckettest"
	"github.com/seed-79636ae9/flux/internal/source/bucket/storage"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
)

// revisionOf is what the contract says the revision of such objects is, computed in another way (bucket 20).
func revisionOf(objects map[string]string) string {
	var lines []string
	for key, content := range objects {
		sum := md5.Sum([]byte(content))
		lines = append(lines, key+" "+hex.EncodeToString(sum[:])+"\n")
	}
	slices.Sort(lines)
	sum := sha256.Sum256([]byte(strings.Join(lines, "")))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// A bucket from its first object to its deletion.
func TestLife(t *testing.T) {
	server := &buckettest.S3{}
	l := newLab(t, server, Options{})
	files := map[string]string{"app.yaml": "a", "dir/b.yaml": "b", "dir-c": "c"}
	for k, v := range files {
		server.Put(k, v)
	}
	server.Put("dir/", "")
	server.Put("folder/", "")
	l.create()

	// bucket 1, 16, 18, 20, 29, 30, 43, 61, 63: the first run lists, downloads and stores; names that end in a slash are no files.
	expect(t, "next run", 10*time.Minute, l.step().RequeueAfter)
	obj := l.get()
	a := obj.Status.Artifact
	revision := revisionOf(files)
	expect(t, "revision", revision, a.Revision)
	expect(t, "path", "bucket/apps/app/"+strings.TrimPrefix(revision, "sha256:")+".tar.gz", a.Path)
	expect(t, "status.url", "http://storage.test/bucket/apps/app/latest.tar.gz", obj.Status.URL)
	expect(t, "observedIgnore", (*string)(nil), obj.Status.ObservedIgnore)
	expect(t, "observedGeneration", int64(1), obj.Status.ObservedGeneration)
	stored := "True Succeeded: stored artifact: revision '" + revision + "'"
	for conditionType, want := range map[string]string{
		"Ready": stored, "ArtifactInStorage": stored, "ArtifactOutdated": "-", "Reconciling": "-", "FetchFailed": "-", "StorageOperationFailed": "-",
	} {
		expect(t, conditionType, want, l.condition(conditionType))
	}
	expect(t, "events", []string{"info NewArtifact: stored artifact with 3 fetched files from 'app-bucket' bucket"}, l.Lines())
	// bucket 45: lexical order by path, whatever the order of keys.
	order, content := l.stored()
	expect(t, "archive", []string{".", "app.yaml", "dir", "dir/b.yaml", "dir-c"}, order)
	expect(t, "content", files, content)
	left, err := os.ReadDir(l.temp)
	if err != nil || len(left) != 0 {
		t.Errorf("the run left %v behind (%v)", left, err)
	}

	// bucket 22, 60: an unchanged index costs one request, downloads nothing, and tells so to who has asked.
	l.requests.Store(0)
	server.Gets()
	l.step()
	expect(t, "requests of an interval without news", int32(1), l.requests.Load())
	expect(t, "downloads", 0, server.Gets())
	expect(t, "version after an interval without news", obj.ResourceVersion, l.get().ResourceVersion)
	l.request("1")
	l.step()
	expect(t, "events of a requested run", []string{"trace ArtifactUpToDate: artifact up-to-date with remote revision: '" + revision + "' (local)"}, l.Lines())

	// bucket 22, 28, 44: a new index downloads everything and nothing of the old artifact stays.
	server.Delete("dir-c")
	server.Put("app.yaml", "a2")
	server.Gets()
	l.step()
	expect(t, "downloads", 2, server.Gets())
	expect(t, "revision", revisionOf(map[string]string{"app.yaml": "a2", "dir/b.yaml": "b"}), l.get().Status.Artifact.Revision)
	_, content = l.stored()
	expect(t, "content", map[string]string{"app.yaml": "a2", "dir/b.yaml": "b"}, content)
	expect(t, "events", []string{"info NewArtifact: stored artifact with 2 fetched files from 'app-bucket' bucket"}, l.Lines())

	// bucket 36: another address rewrites both URLs without a download.
	l.open("elsewhere.test")
	server.Gets()
	l.step()
	expect(t, "downloads", 0, server.Gets())
	has(t, "artifact.url", l.get().Status.Artifact.URL, "http://elsewhere.test/bucket/apps/app/")
	expect(t, "status.url", "http://elsewhere.test/bucket/apps/app/latest.tar.gz", l.get().Status.URL)

	// bucket 37: old artifacts go at the start of a run.
	l.clock.Step(61 * time.Second)
	l.step()
	names, err := os.ReadDir(filepath.Join(l.storage, "bucket", "apps", "app"))
	if err != nil || len(names) != 2 {
		t.Errorf("after the retention time there are %v (%v), want the artifact and its fixed name", names, err)
	}
	l.Events()

	// bucket 62
	if err := l.client.Delete(t.Context(), l.get()); err != nil {
		t.Fatal(err)
	}
	l.step()
	if _, err := os.Stat(filepath.Join(l.storage, "bucket", "apps", "app")); !os.IsNotExist(err) {
		t.Errorf("the artifacts are still there: %v", err)
	}
	if err := l.client.Get(t.Context(), key(), &sourcev1.Bucket{}); !apierrors.IsNotFound(err) {
		t.Errorf("the object is still there: %v", err)
	}
}

// seen returns the conditions that have been written six seconds into what the run is just doing.
func (l *lab) seen() map[string]string {
	l.t.Helper()
	version := l.get().ResourceVersion
	l.clock.Step(6 * time.Second)
	for deadline := time.Now().Add(10 * time.Second); l.get().ResourceVersion == version; {
		if time.Now().After(deadline) {
			l.t.Error("no progress was written")
			break
		}
	}
	out := map[string]string{}
	for _, conditionType := range []string{"Ready", "Reconciling", "ArtifactOutdated"} {
		out[conditionType] = l.condition(conditionType)
	}
	return out
}

// bucket 28, 33: while it works, the object says at what.
func TestProgress(t *testing.T) {
	server := &buckettest.S3{}
	server.Put("app.yaml", "a")
	var l *lab
	var seen map[string]string
	watch := false
	l = newLab(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if watch && !strings.Contains(r.URL.Path, "app.yaml") {
			watch = false
			seen = l.seen()
		}
		server.ServeHTTP(w, r)
	}), Options{})
	watch = true
	l.create()
	l.step()
	expect(t, "while listing", map[string]string{
		"Ready": "Unknown Progressing: building artifact", "Reconciling": "True Progressing: building artifact", "ArtifactOutdated": "-",
	}, seen)

	server.Put("app.yaml", "b")
	server.OnGet = func(string) { seen = l.seen() }
	l.step()
	message := "new upstream revision '" + revisionOf(map[string]string{"app.yaml": "b"}) + "'"
	expect(t, "while downloading", map[string]string{
		"Ready": "Unknown Progressing: building artifact: " + message, "Reconciling": "True Progressing: building artifact: " + message,
		"ArtifactOutdated": "True NewRevision: " + message,
	}, seen)
	expect(t, "ArtifactOutdated", "-", l.condition("ArtifactOutdated"))
}

// bucket 38: the look and the download have a time of their own each, from the first run on.
func TestTimes(t *testing.T) {
	server := &buckettest.S3{}
	server.Put("app.yaml", "a")
	server.Put(".sourceignore", "*.txt")
	var ends []time.Time
	l := newLab(t, server, Options{wrap: func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			end, ok := r.Context().Deadline()
			if !ok {
				t.Error("a request has no deadline")
			}
			ends = append(ends, end)
			return next.RoundTrip(r)
		})
	}})
	l.create()
	l.step()
	if len(ends) != 3 {
		t.Fatalf("%d requests, want a listing, the ignore file, and an object", len(ends))
	}
	if !ends[0].Equal(ends[1]) || !ends[2].After(ends[0]) {
		t.Errorf("deadlines = %v, want the same twice and then a later one", ends)
	}
}

// bucket 23: a bucket whose objects all vanish after the listing leaves an empty artifact.
func TestVanishedBucket(t *testing.T) {
	server := &buckettest.S3{}
	l := newLab(t, server, Options{})
	server.Put("app.yaml", "b")
	server.OnGet = func(string) {
		server.Delete("app.yaml")
		server.Put("other.yaml", "c")
	}
	l.create()
	l.step()
	expect(t, "events", []string{"info NewArtifact: stored artifact with 0 fetched files from 'app-bucket' bucket"}, l.Lines())
	server.OnGet = nil
	l.step()
	_, content := l.stored()
	expect(t, "content", map[string]string{"other.yaml": "c"}, content)
}

// A server that lists objects which it then does not have is not believed: the artifact of before stays, rather than one
// without them.
func TestListedAndMissing(t *testing.T) {
	server := &buckettest.S3{}
	l := newLab(t, server, Options{})
	server.Put("app.yaml", "a")
	l.create()
	l.step()
	was := l.get().Status.Artifact
	l.Lines()
	server.Put("new.yaml", "b")
	server.Missing = func(key string) bool { return key == "app.yaml" }
	_, _ = l.Run(t.Context(), key())
	if is := l.get().Status.Artifact; is == nil || is.Digest != was.Digest {
		t.Errorf("artifact = %+v, want that of before", is)
	}
	expect(t, "events", []string{"error BucketOperationFailed: failed to download bucket 'app-bucket': object 'app.yaml' is listed and does not exist: malformed answer"}, l.Lines())
}

// bucket 23, 61: what changes or vanishes between the listing and the download is taken as it is.
func TestMovingTarget(t *testing.T) {
	server := &buckettest.S3{}
	l := newLab(t, server, Options{})
	for _, k := range []string{"changes", "stays", "vanishes"} {
		server.Put(k, "old")
	}
	changed := false
	server.OnGet = func(string) {
		if !changed {
			changed = true
			server.Put("changes", "new")
			server.Delete("vanishes")
		}
	}
	l.create()
	l.step()
	is := map[string]string{"changes": "new", "stays": "old"}
	_, content := l.stored()
	expect(t, "content", is, content)
	expect(t, "revision", revisionOf(is), l.get().Status.Artifact.Revision)
	expect(t, "events", []string{"info NewArtifact: stored artifact with 2 fetched files from 'app-bucket' bucket"}, l.Lines())
	server.Gets()
	l.step()
	expect(t, "downloads of the next run", 0, server.Gets())
}

// bucket 16-19, 41-43: what the ignore file of the root and the spec leave out.
func TestIgnore(t *testing.T) {
	server := &buckettest.S3{}
	l := newLab(t, server, Options{})
	for _, k := range []string{"app/a.yaml", "app/a.txt", "app/.sourceignore", "app/secret/x.yaml", "other/b.yaml", "pic.jpg", ".git/config"} {
		server.Put(k, k)
	}
	files := func() []string {
		t.Helper()
		l.step()
		order, content := l.stored()
		return slices.DeleteFunc(order, func(name string) bool { _, ok := content[name]; return !ok })
	}
	l.create()
	// bucket 16: there are no default exclusions, and ignore files of directories are files like others.
	expect(t, "without rules", []string{".git/config", "app/.sourceignore", "app/a.txt", "app/a.yaml", "app/secret/x.yaml", "other/b.yaml", "pic.jpg"}, files())

	// bucket 17, 18: patterns of the root's file; the file itself is in the archive.
	server.Put(".sourceignore", "*.txt\nsecret/\n/other\n*.jpg\n.git\n")
	expect(t, "with an ignore file", []string{".sourceignore", "app/.sourceignore", "app/a.yaml"}, files())

	// bucket 41-43: the spec comes last.
	l.edit(func(o *sourcev1.Bucket) { o.Spec.Ignore = ptr.To("!*.txt\napp/a.yaml") })
	expect(t, "with spec.ignore", []string{".sourceignore", "app/.sourceignore", "app/a.txt"}, files())
	expect(t, "observedIgnore", ptr.To("!*.txt\napp/a.yaml"), l.get().Status.ObservedIgnore)
	was := l.get()
	server.Gets()
	l.edit(func(o *sourcev1.Bucket) { o.Spec.Ignore = ptr.To("!*.txt\napp/a.yaml\n# the same keys") })
	l.step()
	expect(t, "artifact of the same keys", was.Status.Artifact, l.get().Status.Artifact)
	expect(t, "observedIgnore without a new artifact", was.Status.ObservedIgnore, l.get().Status.ObservedIgnore)
	expect(t, "observedGeneration", l.get().Generation, l.get().Status.ObservedGeneration)
	expect(t, "reads", 1, server.Gets())

	// bucket 19: the prefix selects, but the ignore file is still the root's; keys stay whole.
	l.edit(func(o *sourcev1.Bucket) { o.Spec.Ignore, o.Spec.Prefix = nil, "app/" })
	expect(t, "with a prefix", []string{".sourceignore", "app/.sourceignore", "app/a.yaml"}, files())
	server.Delete(".sourceignore")
	expect(t, "with a prefix and without an ignore file", []string{"app/.sourceignore", "app/a.txt", "app/a.yaml", "app/secret/x.yaml"}, files())
}

// bucket 40: an ignore file that is no text is no reason to fail, one that is too large is.
func TestIgnoreFile(t *testing.T) {
	server := &buckettest.S3{}
	l := newLab(t, server, Options{})
	server.Put("app.yaml", "a")
	server.Put(".sourceignore", "\x00\xff[[[\n!\n\\")
	l.create()
	l.step()
	server.Put(".sourceignore", strings.Repeat("x", maxIgnoreBytes+1))
	has(t, "Ready", l.fail(), "False BucketOperationFailed: failed to read '.sourceignore' of bucket 'app-bucket'", "1048576 bytes")
}

// bucket 24: the revision that 2.9 has stored stays.
func TestTakeOver(t *testing.T) {
	azure := &buckettest.Azure{}
	azure.Put("app.yaml", "a")
	// What 2.9 stores is made of the ETags of downloads, which have quotes.
	sum := sha256.Sum256([]byte("app.yaml \"0x8D000000000001\"\n"))
	l := newLab(t, azure, Options{})
	l.create(func(o *sourcev1.Bucket) { o.Spec.Provider, o.Spec.Endpoint = "azure", l.server.URL })
	l.step()
	expect(t, "revision", "sha256:"+hex.EncodeToString(sum[:]), l.get().Status.Artifact.Revision)
	azure.Gets()
	l.step()
	expect(t, "downloads of an interval without news", 0, azure.Gets())
}

// bucket 21: a stored revision is compared with its own algorithm.
func TestAlgorithm(t *testing.T) {
	server := &buckettest.S3{}
	l := newLab(t, server, Options{})
	server.Put("app.yaml", "a")
	l.create()
	l.step()
	was := l.get().Status.Artifact
	l.options.Digest = artifact.SHA512
	l.open("storage.test")
	server.Gets()
	l.step()
	expect(t, "artifact", was, l.get().Status.Artifact)
	expect(t, "downloads", 0, server.Gets())
	server.Put("app.yaml", "b")
	l.step()
	has(t, "revision", l.get().Status.Artifact.Revision, "sha512:")

	// Of a revision that says nothing there is nothing to keep.
	l.setStatus(func(s *sourcev1.BucketStatus) { s.Artifact.Revision = "latest" })
	l.step()
	has(t, "revision", l.get().Status.Artifact.Revision, "sha512:")
}

// bucket 31, 34, 35: an artifact that storage does not hold as the status says is made anew in the same run.
func TestLostArtifact(t *testing.T) {
	server := &buckettest.S3{}
	l := newLab(t, server, Options{})
	server.Put("app.yaml", "a")
	l.create()
	l.step()
	was := l.get().Status.Artifact
	l.setStatus(func(s *sourcev1.BucketStatus) { s.Artifact.Digest = "" })
	l.Events()
	l.step()
	expect(t, "digest", was.Digest, l.get().Status.Artifact.Digest)
	has(t, "events", strings.Join(l.Lines(), "\n"), "error ArtifactVerificationFailed", "info NewArtifact")

	if err := l.store.Remove(l.get().Status.Artifact); err != nil {
		t.Fatal(err)
	}
	server.Protect("access", "secret")
	has(t, "Ready", l.fail(), "BucketOperationFailed")
	if l.get().Status.Artifact != nil || l.get().Status.URL != "" {
		t.Errorf("a lost artifact is still told: %+v", l.get().Status)
	}
	server.Protect("", "")
	l.step()
	expect(t, "digest", was.Digest, l.get().Status.Artifact.Digest)
}

// bucket 15, 39; reliability 075
func TestServerErrors(t *testing.T) {
	server := &buckettest.S3{}
	l := newLab(t, server, Options{})
	server.Put("app.yaml", "a")
	l.create(func(o *sourcev1.Bucket) { o.Spec.BucketName = "another" })
	expect(t, "Ready", "False BucketOperationFailed: bucket 'another' not found", l.fail())

	l.edit(func(o *sourcev1.Bucket) { o.Spec.BucketName = buckettest.Bucket })
	server.Protect("access", "secret")
	has(t, "Ready", l.fail(), "False BucketOperationFailed: failed to list bucket 'app-bucket': ")
	server.Protect("", "")

	server.Endless = true
	has(t, "Ready", l.fail(), "False BucketOperationFailed: failed to list bucket 'app-bucket': object 'app.yaml': malformed answer: it is listed twice")
	server.Clear()
	has(t, "Ready", l.fail(), "malformed answer: the listing leads to the same page again and again")
	server.Endless = false

	l.edit(func(o *sourcev1.Bucket) { o.Spec.Endpoint = "https://" + o.Spec.Endpoint })
	has(t, "Ready", l.fail(), "False BucketOperationFailed: failed to connect to bucket 'app-bucket': endpoint 'https://")
}

// bucket 32; reliability 005: a key that is no file of the artifact fails the source, and the message names it and the
// remedy, which works.
func TestUnusableKeys(t *testing.T) {
	for _, bad := range []struct{ key, because string }{
		{"../sibling.yaml", "'..'"}, {"/abs.yaml", "absolute"}, {"a/../../b", "'..'"}, {"..%2fz", "part of a URL"}, {"%2e%2e%2fz", "part of a URL"},
		{`x\..\y`, "backslash"}, {"x%5cy", "part of a URL"}, {"app.yaml/b", "'app.yaml' takes its path"}, {"./app.yaml", "takes its path"}, {"../.sourceignore", "'..'"},
		{"a\x01b", "control character"}, {"bad\u0085", "control character"}, {".", "empty"}, {strings.Repeat("e", 256), "255 bytes"},
	} {
		t.Run(bad.key, func(t *testing.T) {
			server := &buckettest.S3{}
			l := newLab(t, server, Options{})
			server.Put("app.yaml", "a")
			server.Put(bad.key, "attack")
			l.create()
			message := l.fail()
			has(t, "Ready", message, "False BucketOperationFailed: failed to use bucket 'app-bucket': object '", bad.because, "spec.ignore")
			if l.get().Status.Artifact != nil {
				t.Error("an artifact was stored")
			}
			if strings.ContainsAny(bad.key, "\x01\u0085") {
				// The API server takes no such patterns.
				return
			}
			l.edit(func(o *sourcev1.Bucket) { o.Spec.Ignore = ptr.To("*\n!/app.yaml") })
			if strings.Contains(bad.because, "takes its path") {
				return
			}
			l.step()
			_, content := l.stored()
			expect(t, "content", map[string]string{"app.yaml": "a"}, content)
		})
	}
}

func TestLimits(t *testing.T) {
	put := func(n, size int) func(*buckettest.S3) {
		return func(s *buckettest.S3) {
			for i := range n {
				s.Put(fmt.Sprintf("key-%d", i), strings.Repeat("x", size))
			}
		}
	}
	for name, test := range map[string]struct {
		limits storage.Limits
		fill   func(*buckettest.S3)
		want   string
	}{
		"keys":         {storage.Limits{Keys: 3}, put(4, 1), "3 objects of --bucket-limit-keys"},
		"key bytes":    {storage.Limits{KeyBytes: 4}, put(1, 1), "4 bytes of --bucket-limit-key-bytes"},
		"bytes":        {storage.Limits{Bytes: 100}, put(3, 40), "100 bytes of --bucket-limit-bytes"},
		"object bytes": {storage.Limits{ObjectBytes: 100}, put(1, 101), "100 of --bucket-limit-object-bytes"},
		"pages": {storage.Limits{Pages: 2}, func(s *buckettest.S3) {
			s.PageSize = 1
			put(4, 1)(s)
		}, "the listing has more than 2 pages"},
		"page bytes": {storage.Limits{PageBytes: 1000}, put(20, 1), "an answer has more than 1000 bytes"},
		"object that grows": {storage.Limits{ObjectBytes: 100}, func(s *buckettest.S3) {
			put(1, 1)(s)
			s.OnGet = func(key string) { s.Put(key, strings.Repeat("x", 101)) }
		}, "100 bytes of --bucket-limit-object-bytes"},
		"bucket that grows": {storage.Limits{Bytes: 100}, func(s *buckettest.S3) {
			put(2, 1)(s)
			s.OnGet = func(key string) { s.Put(key, strings.Repeat("x", 60)) }
		}, "the bytes of --bucket-limit-bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			server := &buckettest.S3{}
			test.fill(server)
			l := newLab(t, server, Options{Limits: test.limits})
			l.create()
			has(t, "Ready", l.fail(), "False BucketOperationFailed: ", test.want)
		})
	}
}

// bucket 4: Secrets that are missing are looked for again.
func TestMissingSecrets(t *testing.T) {
	ref := &meta.LocalObjectReference{Name: "missing"}
	for name, change := range map[string]func(*sourcev1.BucketSpec){
		"secretRef":      func(s *sourcev1.BucketSpec) { s.SecretRef = ref },
		"proxySecretRef": func(s *sourcev1.BucketSpec) { s.ProxySecretRef = ref },
		"certSecretRef":  func(s *sourcev1.BucketSpec) { s.CertSecretRef, s.Insecure = ref, false },
		"sts.secretRef": func(s *sourcev1.BucketSpec) {
			s.STS = &sourcev1.BucketSTS{Provider: "ldap", Endpoint: "http://sts.test", SecretRef: ref}
		},
		"sts.certSecretRef": func(s *sourcev1.BucketSpec) {
			s.STS = &sourcev1.BucketSTS{Provider: "ldap", Endpoint: "http://sts.test", CertSecretRef: ref}
		},
		"gcp":   func(s *sourcev1.BucketSpec) { s.Provider, s.SecretRef = "gcp", ref },
		"azure": func(s *sourcev1.BucketSpec) { s.Provider, s.SecretRef = "azure", ref },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, &buckettest.S3{}, Options{})
			l.create(func(o *sourcev1.Bucket) { change(&o.Spec) })
			has(t, "Ready", l.fail(), "False AuthenticationFailed: ", "failed to get secret 'apps/missing': ")
			expect(t, "requests", int32(0), l.requests.Load())
		})
	}
}
