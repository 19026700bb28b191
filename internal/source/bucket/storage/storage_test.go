package storage_test

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/seed-79636ae9/flux/internal/source/bucket/buckettest"
	"github.com/seed-79636ae9/flux/internal/source/bucket/storage"
)

// serve starts a server of the handler, which answers in place of every host, and returns how to get there.
func serve(t testing.TB, h http.Handler) (address string, transport http.RoundTripper) {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	address = strings.TrimPrefix(server.URL, "http://")
	return address, roundTripper(func(r *http.Request) (*http.Response, error) {
		there := r.Clone(r.Context())
		there.URL.Scheme, there.URL.Host = "http", address
		if there.Host == "" {
			there.Host = r.URL.Host
		}
		return http.DefaultTransport.RoundTrip(there)
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func must(t testing.TB) func(storage.Bucket, error) storage.Bucket {
	return func(b storage.Bucket, err error) storage.Bucket {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(b.Close)
		return b
	}
}

// subject completes a subject whose objects are in a store.
func subject(store *buckettest.Store, open func(t testing.TB, bucket, password string, l storage.Limits) storage.Bucket) buckettest.Subject {
	store.PageSize = 2
	return buckettest.Subject{
		Page: 5,
		Open: func(t testing.TB, l storage.Limits) storage.Bucket {
			return open(t, buckettest.Bucket, password, l)
		},
		Missing: func(t testing.TB) storage.Bucket { return open(t, "another-bucket", password, storage.Limits{}) },
		Denied: func(t testing.TB) storage.Bucket {
			return open(t, buckettest.Bucket, "d3Jv"+password, storage.Limits{})
		},
		Put:    func(_ testing.TB, key, content string) { store.Put(key, content) },
		Delete: func(_ testing.TB, key string) { store.Delete(key) },
	}
}

// password is base64, as the keys of Azure are.
const password = buckettest.Canary + "123456"

func TestS3(t *testing.T) {
	buckettest.Run(t, func(t *testing.T) buckettest.Subject {
		server := &buckettest.S3{}
		server.Protect("access", password)
		address, transport := serve(t, server)
		return subject(&server.Store, func(t testing.TB, bucket, password string, l storage.Limits) storage.Bucket {
			return must(t)(storage.S3(storage.S3Options{
				Endpoint: address, Bucket: bucket, Insecure: true, Transport: transport, Limits: l,
				Keys: &storage.S3Keys{AccessKey: "access", SecretKey: password},
			}))
		})
	})
}

func TestGCS(t *testing.T) {
	buckettest.Run(t, func(t *testing.T) buckettest.Subject {
		server := &buckettest.GCS{Token: password}
		_, transport := serve(t, server)
		return subject(&server.Store, func(t testing.TB, bucket, password string, l storage.Limits) storage.Bucket {
			return must(t)(storage.GCS(t.Context(), storage.GCSOptions{
				Endpoint: "storage.googleapis.com", Bucket: bucket, Transport: transport, Limits: l, Token: token(password),
			}))
		})
	})
}

func token(value string) storage.TokenFunc {
	return func(context.Context, ...string) (string, time.Time, error) {
		return value, time.Now().Add(time.Hour), nil
	}
}

func decode(text string) []byte {
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		panic(err)
	}
	return raw
}

const azureEndpoint = "https://account.blob.core.windows.net"

func TestAzure(t *testing.T) {
	for name, options := range map[string]func(server *buckettest.Azure, password string) storage.AzureOptions{
		"shared key": func(server *buckettest.Azure, value string) storage.AzureOptions {
			server.Account, server.Key = "account", decode(password)
			return storage.AzureOptions{Secret: map[string][]byte{"accountKey": []byte(value)}}
		},
		"SAS": func(server *buckettest.Azure, value string) storage.AzureOptions {
			server.SAS = password
			return storage.AzureOptions{Secret: map[string][]byte{"sasKey": []byte("?sv=2022-11-02&sp=rl&sig=" + value)}}
		},
		"token": func(server *buckettest.Azure, value string) storage.AzureOptions {
			server.Token = password
			return storage.AzureOptions{Token: token(value)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			buckettest.Run(t, func(t *testing.T) buckettest.Subject {
				server := &buckettest.Azure{}
				_, transport := serve(t, server)
				return subject(&server.Store, func(t testing.TB, bucket, password string, l storage.Limits) storage.Bucket {
					o := options(server, password)
					o.Endpoint, o.Bucket, o.Transport, o.Limits = azureEndpoint, bucket, transport, l
					return must(t)(storage.Azure(o))
				})
			})
		})
	}
}
