// Package replay plays recordings of what Flux 2.9 was seen to do against our own binary, and
// compares what an observer sees now with what was recorded then. The format is described beside
// the recordings, in test/compat/testdata/recordings/README.md.
package replay
