package storage_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/seed-79636ae9/flux/internal/source/bucket/buckettest"
	"github.com/seed-79636ae9/flux/internal/source/bucket/storage"
	"github.com/seed-79636ae9/flux/toolkit/throttle"
)

// opened are buckets of all kinds at the server of a handler.
func opened(t testing.TB, h http.Handler) map[string]storage.Bucket {
	t.Helper()
	address, transport := serve(t, h)
	return map[string]storage.Bucket{
		"s3": must(t)(storage.S3(storage.S3Options{Endpoint: address, Bucket: buckettest.Bucket, Region: "us-east-1", Insecure: true, Transport: transport,
			Keys: &storage.S3Keys{AccessKey: "access", SecretKey: password}})),
		"gcs": must(t)(storage.GCS(t.Context(), storage.GCSOptions{Bucket: buckettest.Bucket, Transport: transport, Token: token(password)})),
		"azure": must(t)(storage.Azure(storage.AzureOptions{Endpoint: azureEndpoint, Bucket: buckettest.Bucket, Transport: transport,
			Secret: map[string][]byte{"sasKey": []byte("sig=" + password)}})),
	}
}

// each runs a case with buckets of all kinds, and counts what the server is asked.
func each(t *testing.T, h http.HandlerFunc, run func(t *testing.T, b storage.Bucket, requests *atomic.Int32)) {
	var requests atomic.Int32
	for name, b := range opened(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		h(w, r)
	})) {
		t.Run(name, func(t *testing.T) {
			requests.Store(0)
			run(t, b, &requests)
		})
	}
}

func get(b storage.Bucket, t testing.TB) error {
	_, err := b.Get(t.Context(), storage.Object{Key: "app.yaml", ETag: "x", Generation: 1}, &bytes.Buffer{})
	return err
}

// shy checks that an error shows neither credentials nor queries (bucket 27).
func shy(t testing.TB, err error) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	if text := err.Error(); strings.Contains(text, buckettest.Canary) || strings.Contains(text, "?") || strings.Contains(text, "\n") || len(text) > 1100 {
		t.Errorf("error = %q", text)
	}
}

// A server that says when to come back is left alone at once, whatever the library thinks.
func TestThrottled(t *testing.T) {
	each(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "77")
		w.WriteHeader(http.StatusTooManyRequests)
	}, func(t *testing.T, b storage.Bucket, requests *atomic.Int32) {
		for _, call := range []func(storage.Bucket, testing.TB) error{list, get} {
			requests.Store(0)
			err := call(b, t)
			shy(t, err)
			if d := throttle.Delay(err); d != 77*time.Second {
				t.Errorf("delay = %s of %v", d, err)
			}
			if n := requests.Load(); n != 1 {
				t.Errorf("%d requests, want 1", n)
			}
		}
	})
}

// Credentials stay with the server they were given for: nobody follows a redirect.
func TestRedirect(t *testing.T) {
	var elsewhere atomic.Int32
	address, _ := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	each(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://"+address+"/?sig="+password, http.StatusFound)
	}, func(t *testing.T, b storage.Bucket, _ *atomic.Int32) {
		shy(t, list(b, t))
		shy(t, get(b, t))
	})
	if n := elsewhere.Load(); n > 0 {
		t.Errorf("%d requests went elsewhere", n)
	}
}

// bucket 49: a failing server is asked again, but not for ever.
func TestServerError(t *testing.T) {
	each(t, func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, strings.Repeat("out of order ", 1000), http.StatusInternalServerError)
	}, func(t *testing.T, b storage.Bucket, requests *atomic.Int32) {
		shy(t, list(b, t))
		if n := requests.Load(); n > 3 {
			t.Errorf("%d requests, want at most 3", n)
		}
	})
}

// What is no listing is an error; so is one that ends early, and one that never ends.
func TestMalformed(t *testing.T) {
	for name, body := range map[string]string{
		"text": "hello", "empty": "", "html": "<html><body>Sign in</body></html>", "null": `{"items":[null]}`,
		"cut":      `<?xml version="1.0"?><ListBucketResult><Contents><Key>a</Key>`,
		"blob":     `<EnumerationResults><Blobs><Blob><Name>a</Name></Blob></Blobs></EnumerationResults>`,
		"no blobs": `<EnumerationResults></EnumerationResults>`,
		"large":    strings.Repeat(" ", 9<<20),
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) }, func(t *testing.T, b storage.Bucket, _ *atomic.Int32) {
				n := 0
				err := b.List(t.Context(), "", func(storage.Object) error { n++; return nil })
				if err == nil && n > 0 {
					t.Errorf("%d objects of nonsense", n)
				}
				if err != nil {
					shy(t, err)
				}
				if name == "large" && !errors.Is(err, storage.ErrLimit) {
					t.Errorf("error = %v, want ErrLimit", err)
				}
			})
		})
	}
}

// reliability 075: a server that leads in circles is left.
func TestCircles(t *testing.T) {
	each(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/storage/"):
			_, _ = w.Write([]byte(`{"nextPageToken":"again"}`))
		case r.URL.Query().Has("comp"):
			_, _ = w.Write([]byte(`<EnumerationResults><Blobs></Blobs><NextMarker>again</NextMarker></EnumerationResults>`))
		default:
			_, _ = w.Write([]byte(`<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>again</NextContinuationToken></ListBucketResult>`))
		}
	}, func(t *testing.T, b storage.Bucket, requests *atomic.Int32) {
		err := list(b, t)
		shy(t, err)
		if !errors.Is(err, storage.ErrMalformed) || requests.Load() > 20 {
			t.Errorf("error = %v after %d requests", err, requests.Load())
		}
	})
}

// bucket 26: Google's server for clients of S3 is asked in the first version of the protocol.
func TestInteroperability(t *testing.T) {
	server := &buckettest.S3{}
	server.PageSize = 2
	var want []string
	for _, key := range []string{"a", "b c", "d"} {
		server.Put(key, key)
		want = append(want, key)
	}
	_, transport := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Google's addresses have the bucket in the host.
		if bucket, ok := strings.CutSuffix(r.Host, ".storage.googleapis.com"); ok {
			r.URL.Path = "/" + bucket + r.URL.Path
		}
		server.ServeHTTP(w, r)
	}))
	b := must(t)(storage.S3(storage.S3Options{Endpoint: "storage.googleapis.com", Bucket: buckettest.Bucket, Transport: transport}))
	var got []string
	if err := b.List(t.Context(), "", func(o storage.Object) error {
		got = append(got, o.Key)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if strings.Join(got, ",") != strings.Join(want, ",") {
		t.Errorf("keys = %q", got)
	}
	for _, version := range server.Listings() {
		if version != "1" {
			t.Errorf("listed in version %s", version)
		}
	}
}

func TestHost(t *testing.T) {
	for want, b := range opened(t, http.NotFoundHandler()) {
		is := b.Host()
		expected := map[string]string{"gcs": "storage.googleapis.com:443", "azure": "account.blob.core.windows.net:443"}[want]
		if expected != "" && is != expected || !strings.Contains(is, ":") {
			t.Errorf("host of %s = %s", want, is)
		}
	}
}

// googleKey is the key of a service account, as its Secret holds it.
func googleKey(t testing.TB, change map[string]string) ([]byte, *rsa.PrivateKey) {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	data := map[string]string{
		"type": "service_account", "client_email": "reader@project.iam.gserviceaccount.com", "private_key_id": "1",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), "token_uri": "https://oauth2.googleapis.com/token",
	}
	for k, v := range change {
		data[k] = v
	}
	key, err := json.Marshal(data)
	if err != nil {
		t.Fatal(err)
	}
	return key, private
}

// bucket 10
func TestGoogleKey(t *testing.T) {
	key, private := googleKey(t, nil)
	issued := 0
	server := &buckettest.GCS{Token: password, Issue: func(assertion string) bool {
		issued++
		claims := jwt.MapClaims{}
		_, err := jwt.ParseWithClaims(assertion, claims, func(*jwt.Token) (any, error) { return &private.PublicKey, nil })
		return err == nil && claims["scope"] == storage.GCSScope && claims["iss"] == "reader@project.iam.gserviceaccount.com"
	}}
	server.Put("app.yaml", "a")
	_, transport := serve(t, server)
	b := must(t)(storage.GCS(t.Context(), storage.GCSOptions{Bucket: buckettest.Bucket, Key: key, Transport: transport}))
	if err := list(b, t); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Get(t.Context(), storage.Object{Key: "app.yaml"}, &bytes.Buffer{}); err != nil {
		t.Fatal(err)
	}
	if issued != 1 {
		t.Errorf("%d tokens were asked for, want 1", issued)
	}

	server.Issue = func(string) bool { return false }
	refused := must(t)(storage.GCS(t.Context(), storage.GCSOptions{Bucket: buckettest.Bucket, Key: key, Transport: transport}))
	err := list(refused, t)
	shy(t, err)
	if !errors.Is(err, storage.ErrDenied) || !strings.Contains(err.Error(), "invalid_grant") {
		t.Errorf("error = %v", err)
	}
}

// Who asks for tokens waits no longer than the call may take.
func TestGoogleKeyHangs(t *testing.T) {
	key, _ := googleKey(t, nil)
	hang := make(chan struct{})
	_, transport := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(func() { close(hang) })
	b := must(t)(storage.GCS(t.Context(), storage.GCSOptions{Bucket: buckettest.Bucket, Key: key, Transport: transport}))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := b.List(ctx, "", func(storage.Object) error { return nil }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error = %v", err)
	}
}

// Other credentials of Google would have the process read files, run programs and ask addresses.
func TestGoogleKeyRefused(t *testing.T) {
	file, _ := googleKey(t, map[string]string{"type": "external_account", "credential_source": "/etc/passwd"})
	for _, key := range []string{"{", "[]", "{}", `{"type":"authorized_user","refresh_token":"` + buckettest.Canary + `"}`, string(file)} {
		_, err := storage.GCS(t.Context(), storage.GCSOptions{Bucket: buckettest.Bucket, Key: []byte(key), Transport: http.DefaultTransport})
		if !errors.Is(err, storage.ErrCredentials) || strings.Contains(err.Error(), buckettest.Canary) {
			t.Errorf("error of %.30s = %v", key, err)
		}
	}
}

// Tokens of the process go to Google's hosts only, whatever the spec says.
func TestGoogleHost(t *testing.T) {
	for endpoint, want := range map[string]string{
		"": "storage.googleapis.com", "storage.googleapis.com": "storage.googleapis.com", "https://storage.googleapis.com": "storage.googleapis.com",
		"storage-x.p.googleapis.com": "storage-x.p.googleapis.com", "minio.example.com": "storage.googleapis.com", "https://evil.example/x.googleapis.com": "storage.googleapis.com",
		"evil.example/.googleapis.com": "storage.googleapis.com", "x@evil.example?.googleapis.com": "storage.googleapis.com", "evilgoogleapis.com": "storage.googleapis.com",
	} {
		b := must(t)(storage.GCS(t.Context(), storage.GCSOptions{Endpoint: endpoint, Bucket: "x", Transport: http.DefaultTransport, Token: token("x")}))
		if is := b.Host(); is != want+":443" {
			t.Errorf("host of %q = %s, want %s", endpoint, is, want)
		}
	}
}
