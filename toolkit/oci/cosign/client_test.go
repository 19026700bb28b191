package cosign_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/seed-79636ae9/flux/toolkit/oci"
	"github.com/seed-79636ae9/flux/toolkit/oci/cosign"
	"github.com/seed-79636ae9/flux/toolkit/oci/signtest"
)

// ocirepository 58, 61: signatures are looked up the way of the registry client,
// with its credentials and limits.
func TestOverTheClient(t *testing.T) {
	key := signtest.NewKey(t, "ecdsa")
	host := signtest.NewRegistry(t, true)
	ref := signtest.Push(t, host+"/app")
	signtest.SignBundle(t, ref, key)
	guarded := through(t, ref, proxy(t, host, func(w http.ResponseWriter, r *http.Request) bool {
		if user, password, _ := r.BasicAuth(); user == "dev" && password == "hunter2" {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}))
	keychain, err := oci.Keychain(fmt.Appendf(nil, `{"auths":{%q:{"username":"dev","password":"hunter2"}}}`, guarded.Context().RegistryStr()))
	if err != nil {
		t.Fatal(err)
	}
	verifier := func(o oci.Options) *cosign.Verifier {
		client, err := oci.New(o)
		if err != nil {
			t.Fatal(err)
		}
		return newVerifier(t, cosign.Options{Keys: map[string][]byte{"a.pub": key.PEM}, Remote: client.RemoteOptions(t.Context())})
	}
	expect(t, verifier(oci.Options{Insecure: true, Keychain: keychain}), guarded, "")
	if err := expect(t, verifier(oci.Options{Insecure: true}), guarded, "401"); err != nil && strings.Contains(err.Error(), "hunter2") {
		t.Errorf("error %v shows a password", err)
	}
	tight := oci.Options{Insecure: true, Keychain: keychain, Limits: oci.Limits{ManifestBytes: 10}}
	if err := expect(t, verifier(tight), guarded, "limit exceeded"); !errors.Is(err, oci.ErrLimit) {
		t.Errorf("error %v has not the property of a limit", err)
	}
}
