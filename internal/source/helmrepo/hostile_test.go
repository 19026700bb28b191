package helmrepo

import (
	"compress/gzip"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// aliasBomb is a small index that is huge with its aliases resolved.
func aliasBomb() string {
	var b strings.Builder
	b.WriteString("apiVersion: v1\nannotations:\n  a: &a " + strings.Repeat("x", 1000) + "\nentries:\n  demo:\n  - name: demo\n    version: 1.0.0\n    keywords:\n    - &l0 " + strings.Repeat("x", 1000) + "\n")
	for level := range 9 {
		fmt.Fprintf(&b, "    - &l%d [%s]\n", level+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*l%d, ", level), 10), ", "))
	}
	return b.String()
}

// gzipBomb sends a gigabyte in a megabyte.
func gzipBomb(testing.TB) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		line := []byte("# " + strings.Repeat("a", 1<<16) + "\n")
		for range 1 << 14 {
			if _, err := z.Write(line); err != nil {
				return
			}
		}
		_ = z.Close()
	})
}

// endless never ends its answer.
func endless(testing.TB) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		line := []byte("# " + strings.Repeat("a", 1<<16) + "\n")
		for r.Context().Err() == nil {
			if _, err := w.Write(line); err != nil {
				return
			}
		}
	})
}

// endlessHeaders never comes to the body.
func endlessHeaders(testing.TB) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for i := range 1 << 14 {
			w.Header().Set(fmt.Sprintf("X-%d", i), strings.Repeat("a", 1<<10))
		}
	})
}
