// Package compat proves that the project is a drop-in replacement of Flux 2.9: it compares what we generate and do with
// what 2.9 ships and was seen to do, from data checked in below testdata. It holds tests only.
package compat
