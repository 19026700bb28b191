package buckettest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Azure is a server of the protocol of Azure Blob Storage with one container. Its ETags have quotes in answers about single
// blobs, and none in listings.
type Azure struct {
	Store
	// Token, SAS and Key are what requests have to be signed with, one of them; all empty: anybody may read.
	Token, SAS string
	Key        []byte
	// Account is the name of the account that Key belongs to.
	Account string
}

type azureEntry struct {
	Name       string
	Properties struct {
		Etag          string
		ContentLength int `xml:"Content-Length"`
	}
}

type azureListing struct {
	XMLName    xml.Name `xml:"EnumerationResults"`
	Prefix     string
	Blobs      struct{ Blob []azureEntry }
	NextMarker string
}

func azureETag(o object) string { return fmt.Sprintf("0x8D%012X", o.version) }

// ServeHTTP implements http.Handler.
func (s *Azure) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.admits(r) {
		azureError(w, http.StatusForbidden, "AuthenticationFailed")
		return
	}
	container, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	query := r.URL.Query()
	switch {
	case container != Bucket:
		azureError(w, http.StatusNotFound, "ContainerNotFound")
	case key != "":
		s.object(w, r, key)
	case query.Get("comp") == "list" && query.Get("restype") == "container":
		s.list(w, query)
	default:
		azureError(w, http.StatusBadRequest, "InvalidQueryParameterValue")
	}
}

func (s *Azure) list(w http.ResponseWriter, query url.Values) {
	most, err := strconv.Atoi(query.Get("maxresults"))
	if err != nil {
		most = 5000
	}
	page, next := s.page(query.Get("prefix"), query.Get("marker"), most)
	listing := azureListing{Prefix: query.Get("prefix"), NextMarker: next}
	for _, e := range page {
		item := azureEntry{Name: e.key}
		item.Properties.Etag, item.Properties.ContentLength = azureETag(e.object), len(e.content)
		listing.Blobs.Blob = append(listing.Blobs.Blob, item)
	}
	writeXML(w, listing)
}

func (s *Azure) object(w http.ResponseWriter, r *http.Request, key string) {
	o, ok := s.get(key)
	if !ok {
		azureError(w, http.StatusNotFound, "BlobNotFound")
		return
	}
	etag := `"` + azureETag(o) + `"`
	if match := r.Header.Get("If-Match"); match != "" && match != etag {
		azureError(w, http.StatusPreconditionFailed, "ConditionNotMet")
		return
	}
	serve(w, r, o, etag)
}

func (s *Azure) admits(r *http.Request) bool {
	authorization := r.Header.Get("Authorization")
	switch {
	case s.Token != "":
		return authorization == "Bearer "+s.Token
	case s.SAS != "":
		return r.URL.Query().Get("sig") == s.SAS && authorization == ""
	case s.Key != nil:
		return hmac.Equal([]byte(authorization), []byte("SharedKey "+s.Account+":"+s.signature(r)))
	}
	return authorization == ""
}

// signature computes what the request has to be signed with (Authorize with Shared Key).
func (s *Azure) signature(r *http.Request) string {
	var text strings.Builder
	text.WriteString(r.Method + "\n")
	for _, name := range []string{
		"Content-Encoding", "Content-Language", "Content-Length", "Content-MD5", "Content-Type", "Date",
		"If-Modified-Since", "If-Match", "If-None-Match", "If-Unmodified-Since", "Range",
	} {
		text.WriteString(r.Header.Get(name) + "\n")
	}
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		if lower := strings.ToLower(name); strings.HasPrefix(lower, "x-ms-") {
			text.WriteString(lower + ":" + r.Header.Get(name) + "\n")
		}
	}
	text.WriteString("/" + s.Account + r.URL.EscapedPath())
	query := r.URL.Query()
	for _, name := range slices.Sorted(maps.Keys(query)) {
		text.WriteString("\n" + strings.ToLower(name) + ":" + strings.Join(query[name], ","))
	}
	h := hmac.New(sha256.New, s.Key)
	h.Write([]byte(text.String()))
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

func azureError(w http.ResponseWriter, status int, code string) {
	w.Header().Set("x-ms-error-code", code)
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_ = xml.NewEncoder(w).Encode(struct {
		XMLName       xml.Name `xml:"Error"`
		Code, Message string
	}{Code: code, Message: "The server says " + code + "."})
}
