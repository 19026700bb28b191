// Package storage reads buckets of object storages: S3 and its like, Google Cloud Storage, Azure Blob Storage. It lists keys
// and gets objects, bounded and without showing credentials; what becomes of them is not its matter.
package storage

import (
	"context"
	"io"
	"time"
)

// Bucket is a bucket, called container with Azure, as one run sees it. It is safe for concurrent use.
type Bucket interface {
	// List calls fn for each object whose key begins with the prefix, in the order of the server, and stops at the first
	// error of fn. A bucket that does not exist is ErrNoBucket.
	List(ctx context.Context, prefix string, fn func(Object) error) error
	// Get writes the content of an object to w and returns the object as it was read. If o has an ETag or a Generation and
	// the object has changed since, the error is ErrChanged, and nothing was written. An object that is gone is ErrNoObject.
	// After any other error w holds a part at most.
	Get(ctx context.Context, o Object, w io.Writer) (Object, error)
	// Host is host:port of the server.
	Host() string
	// Close ends the connections.
	Close()
}

// Object is an object of a bucket.
type Object struct {
	Key string
	// ETag changes with the content. Its form is that of 2.9's stored revisions: without quotes for S3, as the JSON API has
	// it for Google, with quotes for Azure (bucket 24).
	ETag string
	// Size in bytes, as the server says; nothing relies on it.
	Size int64
	// Generation numbers the content with Google Cloud Storage; else zero.
	Generation int64
}

// TokenFunc returns a bearer token for the scopes, and when it expires.
type TokenFunc func(ctx context.Context, scopes ...string) (string, time.Time, error)

// Limits bound what a server may send. A limit of zero or less means the default.
type Limits struct {
	// Keys is how many objects a listing may hold, also those that are left out later.
	Keys int64
	// KeyBytes is the length of a key.
	KeyBytes int64
	// Bytes is the size of all objects of an artifact together.
	Bytes int64
	// ObjectBytes is the size of one object.
	ObjectBytes int64
	// Pages is how many requests a listing may take.
	Pages int64
	// PageBytes is the size of the answer to one of them, and of any answer that is not an object.
	PageBytes int64
}

// DefaultLimits admit every bucket that can sensibly be reconciled.
func DefaultLimits() Limits {
	return Limits{Keys: 250_000, KeyBytes: 1024, Bytes: 2 << 30, ObjectBytes: 512 << 20, Pages: 10_000, PageBytes: 8 << 20}
}

// OrDefault returns the limits with the defaults in place of what is not set.
func (l Limits) OrDefault() Limits {
	d := DefaultLimits()
	for _, field := range []struct{ is, otherwise *int64 }{
		{&l.Keys, &d.Keys}, {&l.KeyBytes, &d.KeyBytes}, {&l.Bytes, &d.Bytes}, {&l.ObjectBytes, &d.ObjectBytes},
		{&l.Pages, &d.Pages}, {&l.PageBytes, &d.PageBytes},
	} {
		if *field.is <= 0 {
			*field.is = *field.otherwise
		}
	}
	return l
}
