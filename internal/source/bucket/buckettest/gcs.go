package buckettest

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
)

// GCS is a server of the JSON API of Google Cloud Storage with one bucket, and of the tokens for it.
type GCS struct {
	Store
	// Token is what requests have to carry; empty: anybody may read.
	Token string
	// Issue, if set, decides about a request for a token, which the path /token answers.
	Issue func(assertion string) bool
}

type gcsItem struct {
	Name       string `json:"name"`
	Etag       string `json:"etag"`
	Size       string `json:"size"`
	Generation string `json:"generation"`
}

func gcsItemOf(e entry) gcsItem {
	return gcsItem{Name: e.key, Etag: gcsETag(e.object), Size: strconv.Itoa(len(e.content)), Generation: strconv.FormatInt(e.version, 10)}
}

func gcsETag(o object) string {
	return base64.StdEncoding.EncodeToString([]byte("v" + strconv.FormatInt(o.version, 10)))
}

// ServeHTTP implements http.Handler.
func (s *GCS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/token" && s.Issue != nil {
		if err := r.ParseForm(); err != nil || !s.Issue(r.PostForm.Get("assertion")) {
			w.WriteHeader(http.StatusBadRequest)
			writeJSON(w, map[string]string{"error": "invalid_grant", "error_description": "Invalid JWT Signature."})
			return
		}
		writeJSON(w, map[string]any{"access_token": s.Token, "token_type": "Bearer", "expires_in": 3600})
		return
	}
	if s.Token != "" && r.Header.Get("Authorization") != "Bearer "+s.Token {
		gcsError(w, http.StatusUnauthorized, "Anonymous caller does not have storage.objects.list access.")
		return
	}
	path, ok := strings.CutPrefix(r.URL.Path, "/storage/v1/b/"+Bucket+"/o")
	query := r.URL.Query()
	switch {
	case !ok:
		gcsError(w, http.StatusNotFound, "The specified bucket does not exist.")
	case path == "":
		page, next := s.page(query.Get("prefix"), query.Get("pageToken"), 1000)
		items := []gcsItem{}
		for _, e := range page {
			items = append(items, gcsItemOf(e))
		}
		writeJSON(w, map[string]any{"kind": "storage#objects", "items": items, "nextPageToken": next})
	default:
		s.object(w, r, strings.TrimPrefix(path, "/"))
	}
}

func (s *GCS) object(w http.ResponseWriter, r *http.Request, key string) {
	query := r.URL.Query()
	o, ok := s.get(key)
	if !ok {
		gcsError(w, http.StatusNotFound, "No such object: "+Bucket+"/"+key)
		return
	}
	if match := query.Get("ifGenerationMatch"); match != "" && match != strconv.FormatInt(o.version, 10) {
		gcsError(w, http.StatusPreconditionFailed, "At least one of the pre-conditions you specified did not hold.")
		return
	}
	if query.Get("alt") == "media" {
		serve(w, r, o, gcsETag(o))
		return
	}
	writeJSON(w, gcsItemOf(entry{key, o}))
}

func gcsError(w http.ResponseWriter, status int, message string) {
	w.WriteHeader(status)
	writeJSON(w, map[string]any{"error": map[string]any{
		"code": status, "message": message, "errors": []any{map[string]string{"message": message, "domain": "global"}},
	}})
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	_ = json.NewEncoder(w).Encode(v)
}
