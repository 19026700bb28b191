package buckettest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// S3 is a server of the protocol of S3 with one bucket.
type S3 struct {
	Store

	mu sync.Mutex // guards what follows
	// access and secret are what requests have to be signed with; both empty: anybody may read.
	access, secret, session string
	listings                []string
}

// Protect asks for requests that are signed with these keys; with none when access is empty.
func (s *S3) Protect(access, secret string) { s.ProtectSession(access, secret, "") }

// ProtectSession asks for the token of a session, too.
func (s *S3) ProtectSession(access, secret, session string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.access, s.secret, s.session = access, secret, session
}

// Listings returns the versions of the protocol that listings since the last call were in.
func (s *S3) Listings() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.listings
	s.listings = nil
	return out
}

// ServeHTTP implements http.Handler.
func (s *S3) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if code := s.refuses(r); code != "" {
		s3Error(w, http.StatusForbidden, code)
		return
	}
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	query := r.URL.Query()
	switch {
	case bucket != Bucket:
		s3Error(w, http.StatusNotFound, "NoSuchBucket")
	case key != "":
		s.object(w, r, key)
	case query.Has("location"):
		writeXML(w, struct {
			XMLName xml.Name `xml:"LocationConstraint"`
		}{})
	default:
		s.list(w, query)
	}
}

func (s *S3) object(w http.ResponseWriter, r *http.Request, key string) {
	o, ok := s.get(key)
	if !ok {
		s3Error(w, http.StatusNotFound, "NoSuchKey")
		return
	}
	etag := `"` + o.md5() + `"`
	if match := r.Header.Get("If-Match"); match != "" && match != etag {
		s3Error(w, http.StatusPreconditionFailed, "PreconditionFailed")
		return
	}
	serve(w, r, o, etag)
}

type s3Entry struct {
	Key, ETag string
	Size      int
	// LastModified is required by clients.
	LastModified string
}

type s3Listing struct {
	XMLName                           xml.Name `xml:"ListBucketResult"`
	Name, Prefix, EncodingType        string
	IsTruncated                       bool
	NextMarker, NextContinuationToken string `xml:",omitempty"`
	Contents                          []s3Entry
}

func (s *S3) list(w http.ResponseWriter, query url.Values) {
	version, after := "1", query.Get("marker")
	if query.Get("list-type") == "2" {
		version, after = "2", query.Get("continuation-token")
	}
	s.mu.Lock()
	s.listings = append(s.listings, version)
	s.mu.Unlock()
	most := 1000
	if n, err := strconv.Atoi(query.Get("max-keys")); err == nil && n > 0 && n < most {
		most = n
	}
	page, next := s.page(query.Get("prefix"), after, most)
	listing := s3Listing{Name: Bucket, Prefix: url.QueryEscape(query.Get("prefix")), EncodingType: "url", IsTruncated: next != ""}
	if version == "2" {
		listing.NextContinuationToken = next
	} else if next != "" {
		listing.NextMarker = url.QueryEscape(next)
	}
	for _, e := range page {
		listing.Contents = append(listing.Contents, s3Entry{
			Key: url.QueryEscape(e.key), ETag: `"` + e.md5() + `"`, Size: len(e.content), LastModified: "2026-01-01T12:00:00.000Z",
		})
	}
	writeXML(w, listing)
}

// refuses returns the code of a refusal, empty for a request that is signed as it has to be.
func (s *S3) refuses(r *http.Request) string {
	s.mu.Lock()
	access, secret, session := s.access, s.secret, s.session
	s.mu.Unlock()
	if access == "" {
		return ""
	}
	fields := map[string]string{}
	scheme, rest, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	for field := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		fields[name] = value
	}
	id, scope, _ := strings.Cut(fields["Credential"], "/")
	switch {
	case scheme != "AWS4-HMAC-SHA256":
		return "AccessDenied"
	case id != access || r.Header.Get("X-Amz-Security-Token") != session:
		return "InvalidAccessKeyId"
	case !hmac.Equal([]byte(signature(r, secret, scope, fields["SignedHeaders"])), []byte(fields["Signature"])):
		return "SignatureDoesNotMatch"
	}
	return ""
}

// signature computes what the request has to be signed with (AWS Signature Version 4).
func signature(r *http.Request, secret, scope, signed string) string {
	var headers strings.Builder
	for name := range strings.SplitSeq(signed, ";") {
		value := r.Header.Get(name)
		if name == "host" {
			value = r.Host
		}
		fmt.Fprintf(&headers, "%s:%s\n", name, strings.TrimSpace(value))
	}
	query := strings.Split(strings.ReplaceAll(r.URL.Query().Encode(), "+", "%20"), "&")
	slices.Sort(query)
	canonical := strings.Join([]string{
		r.Method, r.URL.EscapedPath(), strings.Join(query, "&"), headers.String(), signed, r.Header.Get("X-Amz-Content-Sha256"),
	}, "\n")
	sum := sha256.Sum256([]byte(canonical))
	text := strings.Join([]string{"AWS4-HMAC-SHA256", r.Header.Get("X-Amz-Date"), scope, hex.EncodeToString(sum[:])}, "\n")
	key := []byte("AWS4" + secret)
	for part := range strings.SplitSeq(scope, "/") {
		key = hash(key, part)
	}
	return hex.EncodeToString(hash(key, text))
}

func hash(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func s3Error(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_ = xml.NewEncoder(w).Encode(struct {
		XMLName       xml.Name `xml:"Error"`
		Code, Message string
	}{Code: code, Message: "The server says " + code + "."})
}

func writeXML(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/xml")
	_, _ = w.Write([]byte(xml.Header))
	_ = xml.NewEncoder(w).Encode(v)
}
