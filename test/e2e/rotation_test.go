package e2e

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/testkit"
)

// rotation is a source whose server and Secret change while it is looked at every second.
type rotation struct {
	*rig
	t      *testing.T
	repo   *testkit.GitRepo
	secret *corev1.Secret
	source *unstructured.Unstructured
}

// newRotation makes the repository "app" below the root of the rig and a Secret for it.
func newRotation(t *testing.T, r *rig, name string, data map[string][]byte) *rotation {
	t.Helper()
	x := &rotation{rig: r, t: t}
	x.repo = must[*testkit.GitRepo](t)(testkit.NewGitRepo(filepath.Join(r.git.Root, name+".git")))
	x.secret = &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: r.namespace, Name: name}}
	x.give(data)
	return x
}

// give replaces the content of the Secret, and creates it where it is missing.
func (x *rotation) give(data map[string][]byte) {
	x.t.Helper()
	next := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: x.secret.Namespace, Name: x.secret.Name}, Data: data}
	err := x.client.Update(x.t.Context(), next)
	if client.IgnoreNotFound(err) == nil && err != nil {
		err = x.client.Create(x.t.Context(), next)
	}
	if err != nil {
		x.t.Fatal(err)
	}
}

// follow creates the source.
func (x *rotation) follow(url string) {
	x.t.Helper()
	x.source = object(sourcev1.GroupVersion.String(), sourcev1.GitRepositoryKind, x.namespace, x.secret.Name, map[string]any{"spec": map[string]any{
		"url": url, "interval": "1s", "timeout": "20s", "ref": map[string]any{"branch": "main"}, "secretRef": map[string]any{"name": x.secret.Name},
	}})
	x.source.SetLabels(map[string]string{shard: x.namespace})
	if err := x.client.Create(x.t.Context(), x.source); err != nil {
		x.t.Fatal(err)
	}
}

// fetches commits, and waits until the source has the commit.
func (x *rotation) fetches(what string) {
	x.t.Helper()
	hash := must[string](x.t)(x.repo.Commit(testkit.GitCommit{Branch: "main", Message: what, Files: map[string]*testkit.GitFile{"f": {Content: what}}}))
	x.await(what, func() bool {
		revision, _, _ := unstructured.NestedString(x.source.Object, "status", "artifact", "revision")
		return strings.HasSuffix(revision, hash) && ready(x.source)["status"] == string(metav1.ConditionTrue)
	})
}

// fails waits until the source says why it cannot fetch.
func (x *rotation) fails(what string, words ...string) {
	x.t.Helper()
	x.await(what, func() bool { return ready(x.source)["status"] == string(metav1.ConditionFalse) })
	contains(x.t, message(x.source), words)
}

func (x *rotation) await(what string, so func() bool) {
	x.t.Helper()
	err := poll(x.t.Context(), pickup, func() bool {
		return x.client.Get(x.t.Context(), client.ObjectKeyFromObject(x.source), x.source) == nil && so()
	})
	if err != nil {
		x.t.Fatalf("%s: %v: %v", what, err, x.source.Object["status"])
	}
}

// Credentials that are replaced on a server and in the Secret are used with the next look, without a restart.
func TestRotation(t *testing.T) {
	t.Parallel()
	r := newRig(t, "--max-retry-delay=1s")
	t.Run("062 password", func(t *testing.T) { rotatePassword(t, r) })
	t.Run("063 authority", func(t *testing.T) { rotateAuthority(t, r) })
	t.Run("064 host key", func(t *testing.T) { rotateHostKey(t, r) })
}

// rotatePassword is reliability 062: once the Secret has another password, the old one is not tried again.
func rotatePassword(t *testing.T, r *rig) {
	var mu sync.Mutex
	valid, tried := "one", []string(nil)
	git := must[http.Handler](t)(testkit.GitHandler(r.git.Root))
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		mu.Lock()
		_, password, given := req.BasicAuth()
		if given {
			tried = append(tried, password)
		}
		welcome := password == valid
		mu.Unlock()
		if !welcome {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		git.ServeHTTP(w, req)
	}))
	login := func(password string) map[string][]byte {
		return map[string][]byte{"username": []byte("robot"), "password": []byte(password)}
	}
	x := newRotation(t, r, "password", login("one"))
	x.follow(url + "/password.git")
	x.fetches("the first password")
	mu.Lock()
	valid = "two"
	mu.Unlock()
	x.fails("a password that is refused", "authentication")
	x.give(login("two"))
	x.fetches("the new password")
	mu.Lock()
	if first := slices.Index(tried, "two"); first < 0 || slices.Contains(tried[first:], "one") {
		t.Errorf("after the new password the old one was tried again: %q", tried)
	}
	mu.Unlock()

	if err := x.client.Delete(t.Context(), x.secret); err != nil {
		t.Fatal(err)
	}
	x.fails("no Secret", "password", "not found")
	x.give(login("two"))
	x.fetches("the Secret that came back")
}

// rotateAuthority is reliability 063: another authority of the server is refused until the Secret has it, also on connections
// that are open; while both are trusted, nothing is noticed of the change.
func rotateAuthority(t *testing.T, r *rig) {
	old, next := must[*testkit.CA](t)(testkit.NewCA()), must[*testkit.CA](t)(testkit.NewCA())
	var mu sync.Mutex
	var config *tls.Config
	server := httptest.NewUnstartedServer(must[http.Handler](t)(testkit.GitHandler(r.git.Root)))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		mu.Lock()
		defer mu.Unlock()
		return config, nil
	}}
	present := func(ca *testkit.CA) {
		t.Helper()
		mu.Lock()
		config = must[*tls.Config](t)(ca.ServerTLS())
		mu.Unlock()
		server.CloseClientConnections()
	}
	config = must[*tls.Config](t)(old.ServerTLS())
	server.StartTLS()
	t.Cleanup(server.Close)
	trust := func(authorities ...*testkit.CA) map[string][]byte {
		var bundle []byte
		for _, ca := range authorities {
			bundle = append(bundle, ca.PEM...)
		}
		return map[string][]byte{"ca.crt": bundle}
	}
	x := newRotation(t, r, "authority", trust(old))
	x.follow(server.URL + "/authority.git")
	x.fetches("the first authority")
	present(next)
	x.fails("an authority that is not trusted", "unknown authority")
	x.give(trust(next))
	x.fetches("the new authority")
	x.give(trust(next, old))
	x.fetches("both authorities")
	present(old)
	x.fetches("the other one of two authorities")
	// A connection that is open was made with a trust that is gone.
	x.give(trust(next))
	x.fails("an authority that is trusted no longer", "unknown authority")
}

// rotateHostKey is reliability 064: a host key that nobody knows is refused, also by a source that has fetched before.
func rotateHostKey(t *testing.T, r *rig) {
	server := must[*testkit.GitSSHServer](t)(testkit.NewGitSSHServer(r.git.Root, testkit.SSHServerOptions{}))
	t.Cleanup(server.Close)
	known := func(hosts []byte) map[string][]byte {
		return map[string][]byte{"identity": server.Identity, "known_hosts": hosts}
	}
	first := server.KnownHosts
	x := newRotation(t, r, "hostkey", known(first))
	x.follow(server.URL + "/hostkey.git")
	x.fetches("the first host key")
	key, _, err := testkit.NewSSHKey()
	if err != nil {
		t.Fatal(err)
	}
	server.SetHostKeys(key)
	x.fails("a host key that is not known", "knownhosts: key mismatch")
	x.give(known(slices.Concat(first, server.KnownHosts)))
	x.fetches("a host key among others")
}

// reliability 060: a crash of a controller leaves no image of its memory behind.
func TestNoCoreDumps(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	limits := must[[]byte](t)(os.ReadFile(fmt.Sprintf("/proc/%d/limits", r.sut.PID())))
	if !regexp.MustCompile(`(?m)^Max core file size +0 +0 `).Match(limits) {
		t.Errorf("core dumps are on:\n%s", limits)
	}
}
