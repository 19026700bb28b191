package bucket

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/source/bucket/buckettest"
	"github.com/seed-79636ae9/flux/internal/source/sourcetest"
	"github.com/seed-79636ae9/flux/toolkit/loop"
)

// s3Upstream publishes the content of a source to an S3 server.
type s3Upstream struct{ buckettest.S3 }

func (u *s3Upstream) Publish(_ testing.TB, files map[string]string) {
	u.Clear()
	for key, content := range files {
		u.Put(key, content)
	}
}

// hostileKeys are servers that list keys which are no files of an artifact (reliability 005).
func hostileKeys() map[string]func(testing.TB) http.Handler {
	servers := map[string]func(testing.TB) http.Handler{
		"listing without end": func(testing.TB) http.Handler {
			u := &s3Upstream{}
			u.Put("app.yaml", "x")
			u.Endless = true
			return u
		},
	}
	for name, keys := range map[string][]string{
		"parent":            {"../sibling.yaml"},
		"grandparent":       {"../../x"},
		"absolute":          {"/abs.yaml"},
		"inner parent":      {"a/../../b"},
		"encoded slash":     {"..%2fz"},
		"backslashes":       {`x\..\y`},
		"file and dir":      {"a", "a/b"},
		"foreign ignore":    {"../.sourceignore", "app.yaml"},
		"10 KB":             {strings.Repeat("k", 10<<10)},
		"control":           {"a\nb"},
		"long element":      {strings.Repeat("e", 256)},
		"ignore file twice": {"./.sourceignore", ".sourceignore"},
	} {
		servers[name] = func(testing.TB) http.Handler {
			u := &s3Upstream{}
			for _, key := range keys {
				u.Put(key, "x")
			}
			return u
		}
	}
	return servers
}

// A Bucket is a source like any other.
func TestSource(t *testing.T) {
	sourcetest.Run(t, sourcetest.Subject[*sourcev1.Bucket]{
		New: func() *sourcev1.Bucket { return &sourcev1.Bucket{} },
		Controller: func(_ testing.TB, e sourcetest.Environment) *loop.Controller[*sourcev1.Bucket] {
			return Controller("source-controller", e.Client, e.Store, Options{TempDir: e.TempDir})
		},
		Upstream: func(testing.TB) sourcetest.Upstream { return &s3Upstream{} },
		Configure: func(obj *sourcev1.Bucket, c sourcetest.Config) {
			obj.Spec.BucketName, obj.Spec.Endpoint, obj.Spec.Insecure = buckettest.Bucket, c.Host, !c.TLS
			obj.Spec.Region = "us-east-1"
			obj.Spec.Interval = meta.DurationOf(10 * time.Minute)
			switch {
			case c.Secret != "" && c.TLS:
				obj.Spec.CertSecretRef = &meta.LocalObjectReference{Name: c.Secret}
			case c.Secret != "":
				obj.Spec.SecretRef = &meta.LocalObjectReference{Name: c.Secret}
			}
		},
		Login: func(_ sourcetest.Config, user, password string) map[string][]byte {
			return map[string][]byte{"accesskey": []byte(user), "secretkey": []byte(password)}
		},
		Suspend:    func(obj *sourcev1.Bucket, suspend bool) { obj.Spec.Suspend = suspend },
		SetTimeout: func(obj *sourcev1.Bucket, d time.Duration) { obj.Spec.Timeout = meta.DurationOf(d) },
		Unchanged:  1,
		Hostile:    hostileKeys(),
	})
}
