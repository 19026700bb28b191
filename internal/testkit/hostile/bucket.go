package hostile

import (
	"crypto/md5"
	"encoding/xml"
	"fmt"
	"net/http"
	"strings"
)

// Bucket is a server of the S3 protocol that lists what it is told and has every object.
type Bucket struct {
	// Keys are listed on one page.
	Keys []string
	// Next, when set, is the token of a further page that every page names.
	Next string
	// Size is what the listing says of each object; zero: what it is.
	Size int64
	// List and Object replace the answers; each may be nil.
	List, Object http.HandlerFunc
	// ETag is that of an object; nil: a digest of its content.
	ETag func(key string) string
}

// ServeHTTP implements http.Handler.
func (b *Bucket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch {
	case r.URL.Query().Has("location"):
		Text("application/xml", `<LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/">us-east-1</LocationConstraint>`)(w, r)
	case key == "" && r.Method == http.MethodHead:
	case key == "" && b.List != nil:
		b.List(w, r)
	case key == "":
		b.list(w)
	case b.Object != nil:
		b.Object(w, r)
	default:
		w.Header().Set("ETag", `"`+b.etag(key)+`"`)
		w.Header().Set("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
		Text("application/octet-stream", content(key))(w, r)
	}
}

func content(key string) string { return "content of " + key }

func (b *Bucket) etag(key string) string {
	if b.ETag != nil {
		return b.ETag(key)
	}
	return fmt.Sprintf("%x", md5.Sum([]byte(content(key))))
}

func (b *Bucket) list(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/xml")
	fmt.Fprintf(w, `<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><IsTruncated>%t</IsTruncated>`, b.Next != "")
	if b.Next != "" {
		fmt.Fprintf(w, "<NextContinuationToken>%s</NextContinuationToken>", b.Next)
	}
	for _, key := range b.Keys {
		size := b.Size
		if size == 0 {
			size = int64(len(content(key)))
		}
		fmt.Fprint(w, "<Contents><Key>")
		// The client may be gone; its answer is nobody's then.
		_ = xml.EscapeText(w, []byte(key))
		fmt.Fprintf(w, `</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified><ETag>"%s"</ETag><Size>%d</Size></Contents>`, b.etag(key), size)
	}
	fmt.Fprint(w, "</ListBucketResult>")
}
