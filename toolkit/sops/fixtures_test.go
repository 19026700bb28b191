package sops_test

import (
	"strings"
	"testing"

	"github.com/seed-79636ae9/flux/toolkit/sops"
	"github.com/seed-79636ae9/flux/toolkit/sops/sopstest"
)

// material is the data of a Secret.
func material(pairs ...string) map[string][]byte {
	m := map[string][]byte{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = []byte(pairs[i+1])
	}
	return m
}

func parse(t testing.TB, pairs ...string) *sops.Keys {
	t.Helper()
	k, err := sops.ParseKeys(material(pairs...))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// decrypter has one age identity.
func decrypter(t testing.TB, i sopstest.Identity) *sops.Decrypter {
	t.Helper()
	return sops.New(sops.Options{Keys: parse(t, "id.agekey", i.Private)})
}

// failsWith checks that an error has the words, and none of the secrets.
func failsWith(t testing.TB, err error, want string, secrets ...string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want one with %q", err, want)
		return
	}
	for _, s := range secrets {
		if strings.Contains(err.Error(), s) {
			t.Errorf("the error shows %q: %v", s, err)
		}
	}
}
