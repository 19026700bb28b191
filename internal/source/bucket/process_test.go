package bucket

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/source/bucket/buckettest"
	"github.com/seed-79636ae9/flux/internal/source/bucket/storage"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
)

// newUpstream is a connection to a server, as a run has it.
func newUpstream(t testing.TB, h http.Handler) *upstream {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	b, err := storage.S3(storage.S3Options{
		Endpoint: strings.TrimPrefix(server.URL, "http://"), Bucket: buckettest.Bucket, Region: "us-east-1", Insecure: true, Transport: http.DefaultTransport,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return &upstream{bucket: b, name: buckettest.Bucket, limits: storage.DefaultLimits(), stored: artifact.SHA256, fresh: artifact.SHA256}
}

// The story of a bucket on an S3 server of another make; bucket 19, 22, 25.
func TestProcess(t *testing.T) {
	server := buckettest.StartProcess(t)
	l := newLab(t, http.NotFoundHandler(), Options{wrap: func(http.RoundTripper) http.RoundTripper { return server.Transport }})
	l.keep("keys", map[string]string{"accesskey": server.Access, "secretkey": server.Secret})
	for _, k := range []string{"app/a.yaml", "app/b.yaml", "other.yaml"} {
		server.Put(t, k, "content of "+k)
	}
	l.create(func(o *sourcev1.Bucket) {
		o.Spec.Endpoint, o.Spec.Region, o.Spec.SecretRef, o.Spec.Prefix = server.Endpoint, "", named("keys"), "app/"
	})
	l.step()
	_, content := l.stored()
	want := map[string]string{"app/a.yaml": "content of app/a.yaml", "app/b.yaml": "content of app/b.yaml"}
	expect(t, "content", want, content)
	expect(t, "revision", revisionOf(want), l.get().Status.Artifact.Revision)

	was := l.get()
	l.step()
	expect(t, "version after an interval without news", was.ResourceVersion, l.get().ResourceVersion)

	server.Put(t, ".sourceignore", "b.yaml\n")
	server.Put(t, "app/a.yaml", "new content")
	l.step()
	_, content = l.stored()
	expect(t, "content", map[string]string{".sourceignore": "b.yaml\n", "app/a.yaml": "new content"}, content)

	server.Put(t, "app/a", "in the way")
	server.Put(t, "app/c d+e%20f/ü.yaml", "odd")
	l.step()
	_, content = l.stored()
	expect(t, "odd key", "odd", content["app/c d+e%20f/ü.yaml"])
	l.edit(func(o *sourcev1.Bucket) { o.Spec.BucketName = "another" })
	expect(t, "Ready", "False BucketOperationFailed: bucket 'another' not found", l.fail())
}
