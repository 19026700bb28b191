package artifact_test

import (
	"testing"

	"github.com/seed-79636ae9/flux/toolkit/artifact"
)

func open(t testing.TB, dir string, o artifact.StoreOptions) *artifact.Store {
	t.Helper()
	s, err := artifact.OpenStore(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func app(file string) artifact.Name {
	return artifact.Name{Kind: "GitRepository", Namespace: "apps", Object: "app", File: file}
}
