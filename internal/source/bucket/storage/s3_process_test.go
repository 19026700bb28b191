package storage_test

import (
	"testing"

	"github.com/seed-79636ae9/flux/internal/source/bucket/buckettest"
	"github.com/seed-79636ae9/flux/internal/source/bucket/storage"
)

// bucket 25, 46: an S3 server of another make judges our signatures, conditions and listings.
func TestS3Process(t *testing.T) {
	server := buckettest.StartProcess(t)
	open := func(t testing.TB, bucket, secret string, l storage.Limits) storage.Bucket {
		return must(t)(storage.S3(storage.S3Options{
			Endpoint: server.Endpoint, Bucket: bucket, Insecure: true, Transport: server.Transport, Limits: l,
			Keys: &storage.S3Keys{AccessKey: server.Access, SecretKey: secret},
		}))
	}
	buckettest.Run(t, func(t *testing.T) buckettest.Subject {
		server.Clear(t)
		return buckettest.Subject{
			Page: 1005, Put: server.Put, Delete: server.Delete,
			Open: func(t testing.TB, l storage.Limits) storage.Bucket {
				return open(t, buckettest.Bucket, server.Secret, l)
			},
			Missing: func(t testing.TB) storage.Bucket {
				return open(t, "another-bucket", server.Secret, storage.Limits{})
			},
			Denied: func(t testing.TB) storage.Bucket {
				return open(t, buckettest.Bucket, "wrong-"+server.Secret, storage.Limits{})
			},
		}
	})
}
