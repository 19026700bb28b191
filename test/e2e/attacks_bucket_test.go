package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/testkit/hostile"
)

// buckets is reliability 005 and 075: keys that want to get out, and listings that do not end.
func (a *arena) buckets(t *testing.T) {
	a.secret(t, "s3", map[string][]byte{"accesskey": []byte("attacked"), "secretkey": []byte(canaryPassword)})
	at := func(name string, server http.Handler, fails ...string) attack {
		return attack{name: name, kind: sourcev1.BucketKind, fails: fails, spec: map[string]any{
			"provider": "generic", "bucketName": "bucket", "endpoint": strings.TrimPrefix(serve(t, server), "http://"), "insecure": true,
			"secretRef": map[string]any{"name": "s3"},
		}}
	}
	keys := func(keys ...string) *hostile.Bucket { return &hostile.Bucket{Keys: append(keys, "app.yaml")} }
	var pages atomic.Int64
	circle := keys()
	circle.Next = "again"
	pagesOf := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { pages.Add(1); next.ServeHTTP(w, r) })
	}
	huge := keys()
	huge.Size = 1 << 50
	liar := keys()
	liar.Object = func(w http.ResponseWriter, _ *http.Request) { endless(w, "x") }
	gone := keys()
	gone.Object = http.NotFound
	silent := keys()
	silent.Object = hostile.Hang
	listing := func(list http.HandlerFunc) *hostile.Bucket { return &hostile.Bucket{List: list} }
	many := make([]string, 300_000)
	for i := range many {
		many[i] = fmt.Sprint("k", i)
	}
	a.run(t,
		at("parent", keys("../sibling.yaml"), "'..'"),
		at("grandparent", keys("../../x"), "'..'"),
		at("absolute", keys("/abs.yaml"), "absolute"),
		at("absolute, to the secret", keys(a.scratch+"/evil"), "absolute"),
		at("inner parent", keys("a/../../b"), "'..'"),
		at("encoded", keys("..%2fz"), "unusable key"),
		at("backslash", keys(`x\..\y`), "backslash"),
		at("file and directory", keys("a", "a/b"), "takes its path"),
		at("ignore rules from outside", keys("../.sourceignore"), "'..'"),
		at("key of 10 KB", keys(strings.Repeat("k", 10<<10)), "limit"),
		at("control characters", keys("a\tb"), "control character"),
		at("listing in a circle", pagesOf(circle), "bucket 'bucket'"),
		at("listing of 300000 keys", keys(many...), "limit"),
		at("object of a petabyte", huge, "limit"),
		at("endless object", liar, "app.yaml"),
		at("object that is gone", gone, "is listed and does not exist"),
		at("silent object", silent, "deadline exceeded"),
		at("endless listing", listing(func(w http.ResponseWriter, _ *http.Request) { endless(w, "<Contents>") }), "bucket 'bucket'"),
		at("alias bomb", listing(hostile.Text("application/xml", `<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><ListBucketResult><Name>&b;</Name></ListBucketResult>`)), "bucket 'bucket'"),
		at("repeats the login", hostile.Echo(http.StatusForbidden), "bucket 'bucket'"),
	)
	if n := pages.Load(); n > 100 {
		t.Errorf("a listing in a circle was followed %d times", n)
	}
}
