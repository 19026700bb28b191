package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

// dockerRegistry is the registry that Debian packages, with a login: another implementation than the one unit tests use.
type dockerRegistry struct {
	t    *testing.T
	dir  string
	host string
	cmd  *exec.Cmd
}

func startDockerRegistry(t *testing.T, user, password string) *dockerRegistry {
	t.Helper()
	host, err := testkit.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	r := &dockerRegistry{t: t, dir: t.TempDir(), host: host}
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"htpasswd": user + ":" + string(hash) + "\n",
		"config.yml": fmt.Sprintf(`version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: %s/data}}
http: {addr: %s}
auth: {htpasswd: {realm: test, path: %s/htpasswd}}
`, r.dir, host, r.dir),
	} {
		if err := os.WriteFile(filepath.Join(r.dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r.start()
	t.Cleanup(r.stop)
	return r
}

func (r *dockerRegistry) start() {
	r.t.Helper()
	program, err := testkit.FindProgram("docker-registry", "DOCKER_REGISTRY", "apt-get install docker-registry")
	if err != nil {
		r.t.Fatal(err)
	}
	r.cmd = exec.Command(program, "serve", filepath.Join(r.dir, "config.yml"))
	r.cmd.Stderr = os.Stderr
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		if answer, err := http.Get("http://" + r.host + "/v2/"); err == nil {
			answer.Body.Close()
			tick.Stop()
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			r.t.Fatal("the registry does not answer")
		}
	}
}

func (r *dockerRegistry) stop() {
	if r.cmd == nil {
		return
	}
	_ = r.cmd.Process.Kill()
	_ = r.cmd.Wait()
	r.cmd = nil
}

// command runs the flux binary and returns what it printed on standard output.
func command(t *testing.T, args ...string) string {
	t.Helper()
	program, err := testkit.FindFlux()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+t.TempDir())
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("flux %s: %v\n%s", strings.Join(args, " "), err, &complaints)
	}
	return string(out)
}

// From a push to the cluster through a registry with a login: a new version, a login that was changed, an outage.
// ocirepository 14, 20, 21, 50; _common 33
func TestDockerRegistry(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	registry := startDockerRegistry(t, "robot", "first-password")
	src := t.TempDir()
	url := "oci://" + registry.host + "/org/app"
	push := func(value string) string {
		t.Helper()
		manifest := fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: from-registry, namespace: %s}\ndata: {value: %q}\n", r.namespace, value)
		if err := os.WriteFile(filepath.Join(src, "app.yaml"), []byte(manifest), 0o600); err != nil {
			t.Fatal(err)
		}
		command(t, "push", "artifact", url+":latest", "--path", src, "--source", "https://example.com/app.git", "--revision", "main@sha1:"+value,
			"--creds", "robot:first-password", "--insecure-registry")
		return value
	}
	login := func(password string) {
		t.Helper()
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: r.namespace, Name: "login"}, Type: corev1.SecretTypeDockerConfigJson,
			Data: map[string][]byte{corev1.DockerConfigJsonKey: fmt.Appendf(nil, `{"auths":{%q:{"username":"robot","password":%q}}}`, registry.host, password)}}
		err := r.client.Create(t.Context(), secret)
		if err != nil {
			err = r.client.Update(t.Context(), secret)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	labels := map[string]string{shard: r.namespace}
	source := &sourcev1.OCIRepository{
		ObjectMeta: metav1.ObjectMeta{Namespace: r.namespace, Name: "app", Labels: labels},
		Spec: sourcev1.OCIRepositorySpec{
			URL: url, Insecure: true, Interval: "1s", Timeout: "10s", SecretRef: &meta.LocalObjectReference{Name: "login"},
		},
	}
	ready := func(want metav1.ConditionStatus, reason string) {
		t.Helper()
		awaitSource(t, r, source, func(o *sourcev1.OCIRepository) bool {
			c := status.Find(o.Status.Conditions, meta.ReadyCondition)
			return c != nil && c.Status == want && (reason == "" || c.Reason == reason)
		})
	}
	applied := func(value string) {
		t.Helper()
		key := client.ObjectKey{Namespace: r.namespace, Name: "from-registry"}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		var found corev1.ConfigMap
		for tick := time.NewTicker(50 * time.Millisecond); ; {
			if err := r.client.Get(ctx, key, &found); err == nil && found.Data["value"] == value {
				tick.Stop()
				return
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				t.Fatalf("%s was not applied: %v", value, found.Data)
			}
		}
	}

	login("first-password")
	one := push("one")
	if err := r.client.Create(t.Context(), source); err != nil {
		t.Fatal(err)
	}
	if err := r.client.Create(t.Context(), &kustomizev1.Kustomization{
		ObjectMeta: metav1.ObjectMeta{Namespace: r.namespace, Name: "app", Labels: labels},
		Spec: kustomizev1.KustomizationSpec{
			SourceRef: kustomizev1.SourceReference{Kind: sourcev1.OCIRepositoryKind, Name: "app"}, Interval: "1h", Timeout: "1m", Prune: true,
		},
	}); err != nil {
		t.Fatal(err)
	}
	applied(one)
	applied(push("two"))

	login("wrong-password")
	ready(metav1.ConditionFalse, "")
	login("first-password")
	ready(metav1.ConditionTrue, meta.SucceededReason)

	registry.stop()
	ready(metav1.ConditionFalse, "")
	registry.start()
	ready(metav1.ConditionTrue, meta.SucceededReason)
	applied(push("three"))
}

// awaitSource waits until an OCIRepository is as told.
func awaitSource(t *testing.T, r *rig, of *sourcev1.OCIRepository, holds func(*sourcev1.OCIRepository) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var now sourcev1.OCIRepository
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		if err := r.client.Get(ctx, client.ObjectKeyFromObject(of), &now); err == nil && holds(&now) {
			tick.Stop()
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within %s; the conditions are %v", patience, now.Status.Conditions)
		}
	}
}
