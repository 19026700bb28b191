package sourcetest

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/source/frame"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

func one() map[string]string { return map[string]string{"app.yaml": "one: 1\n"} }

func two() map[string]string {
	return map[string]string{"app.yaml": "two: 2\n", "dir/more.yaml": "more: 1\n"}
}

// noOp: an interval without news costs few requests and no write, and tells nothing.
func noOp[O frame.Object](l *lab[O]) {
	l.upstream.Publish(l.t, one())
	l.create()
	first := l.good()
	l.Events()
	l.front.seen()
	version := l.get().GetResourceVersion()
	l.clock.Step(10 * time.Minute)
	if again := l.good(); again.Digest != first.Digest || !again.LastUpdateTime.Equal(&first.LastUpdateTime) {
		l.t.Errorf("artifact = %+v, was %+v", again, first)
	}
	if is := l.get().GetResourceVersion(); is != version {
		l.t.Errorf("an interval without news wrote the object: resourceVersion %s, was %s", is, version)
	}
	if n := l.front.seen(); n > l.subject.Unchanged {
		l.t.Errorf("an interval without news cost %d requests, want at most %d", n, l.subject.Unchanged)
	}
	if events := l.Lines(); len(events) > 0 {
		l.t.Errorf("an interval without news tells %q", events)
	}
	l.leftovers()
}

// newRevision: what is new is stored and told, and what was there stays for those who still read it.
func newRevision[O frame.Object](l *lab[O]) {
	l.upstream.Publish(l.t, one())
	l.create()
	was := l.good()
	l.Events()
	l.upstream.Publish(l.t, two())
	is := l.good()
	if is.Revision == was.Revision || is.Digest == was.Digest || is.Path == was.Path {
		l.t.Errorf("artifact = %+v, was %+v", is, was)
	}
	if events := l.Lines(); len(events) != 1 || !strings.HasPrefix(events[0], "info ") {
		l.t.Errorf("events = %q, want one about the new artifact", events)
	}
	for _, path := range []string{was.Path, is.Path} {
		if _, err := os.Stat(filepath.Join(l.storage, filepath.FromSlash(path))); err != nil {
			l.t.Error(err)
		}
	}
	if status.IsTrue(l.get().GetConditions(), sourcev1.ArtifactOutdatedCondition) {
		l.t.Error("outdated after the new artifact was stored")
	}
	l.leftovers()
}

// authenticationFails: without credentials and with wrong ones nothing is stored, and the password is told to nobody.
func authenticationFails[O frame.Object](l *lab[O]) {
	l.upstream.Publish(l.t, one())
	l.protect("user", canary)
	l.create()
	l.bad()
	if !status.IsTrue(l.get().GetConditions(), sourcev1.FetchFailedCondition) {
		l.t.Errorf("want FetchFailed:\n%s", describe(l.get().GetConditions()))
	}
	l.protect("user", "another")
	l.keep("user", canary, nil)
	l.reconfigure()
	l.bad()
	l.leftovers()
}

// secretRotated: new credentials in the Secret are used in the next run.
func secretRotated[O frame.Object](l *lab[O]) {
	l.upstream.Publish(l.t, one())
	l.protect("user", "first-password")
	l.keep("user", "first-password", nil)
	l.create()
	l.good()
	l.protect("user", canary)
	l.bad()
	l.keep("user", canary, nil)
	l.good()
	for _, line := range l.Lines() {
		if strings.Contains(line, canary) {
			l.t.Errorf("the password is in an event: %s", line)
		}
	}
}

// tlsFails: a certificate of an unknown authority is refused, nothing falls back to plain HTTP, and the authority of the
// Secret mends it (reliability 071).
func tlsFails[O frame.Object](l *lab[O]) {
	ca, err := testkit.NewCA()
	if err != nil {
		l.t.Fatal(err)
	}
	l.upstream.Publish(l.t, one())
	l.serve(l.upstream, ca)
	l.create()
	if ready := l.bad(); !strings.Contains(ready.Message, "certificate") {
		l.t.Errorf("the message does not name the certificate: %s", ready.Message)
	}
	if n := l.front.seen(); n > 0 {
		l.t.Errorf("%d requests reached a server whose certificate is not trusted", n)
	}
	l.keep("", "", ca.PEM)
	l.reconfigure()
	l.good()
}

// timesOut: a server that never answers ends the run when the time is over, and the source comes back with it.
func timesOut[O frame.Object](l *lab[O]) {
	l.upstream.Publish(l.t, one())
	l.create()
	l.good()
	l.front.set(hangs)
	l.subject.SetTimeout = orNothing(l.subject.SetTimeout)
	l.edit(func(obj O) { l.subject.SetTimeout(obj, 200*time.Millisecond) })
	l.bad()
	l.front.set(well)
	l.edit(func(obj O) { l.subject.SetTimeout(obj, time.Minute) })
	l.good()
	l.leftovers()
}

func orNothing[O frame.Object](set func(O, time.Duration)) func(O, time.Duration) {
	if set == nil {
		return func(O, time.Duration) {}
	}
	return set
}

// halfResponse: what ends early is an error, never a smaller artifact (reliability 072-074).
func halfResponse[O frame.Object](l *lab[O]) {
	l.upstream.Publish(l.t, one())
	l.create()
	l.good()
	l.upstream.Publish(l.t, two())
	l.front.set(halves)
	l.bad()
	l.front.set(well)
	l.Events()
	l.good()
	if events := l.Lines(); len(events) != 1 {
		l.t.Errorf("events after the recovery = %q, want one", events)
	}
	l.leftovers()
}

// throttled: a server that says when to come back is left alone until then.
func throttled[O frame.Object](l *lab[O]) {
	l.upstream.Publish(l.t, one())
	l.create()
	l.good()
	l.upstream.Publish(l.t, two())
	l.front.set(throttles)
	result, err := l.step()
	if err != nil || result.RequeueAfter < retryAfter*time.Second {
		l.t.Errorf("the next try is after %s (error %v), want at least the %d s the server asks for", result.RequeueAfter, err, retryAfter)
	}
	if !status.IsTrue(l.get().GetConditions(), sourcev1.FetchFailedCondition) {
		l.t.Errorf("want FetchFailed:\n%s", describe(l.get().GetConditions()))
	}
}

// serverError: 500 fails the run, and the source recovers without news when the content is as it was.
func serverError[O frame.Object](l *lab[O]) {
	l.upstream.Publish(l.t, one())
	l.create()
	was := l.good()
	l.front.set(breaks)
	l.bad()
	l.front.set(well)
	l.Events()
	if is := l.good(); is.Digest != was.Digest {
		l.t.Errorf("artifact = %+v, was %+v", is, was)
	}
	// _common 33
	if events := l.Lines(); len(events) != 1 || !strings.HasPrefix(events[0], "info ") || !strings.Contains(events[0], "Succeeded: ") {
		l.t.Errorf("events = %q, want one that tells the recovery", events)
	}
}

// serverGone: a refused connection fails the run.
func serverGone[O frame.Object](l *lab[O]) {
	l.config.Host = refused(l.t)
	l.create()
	l.bad()
	if !status.IsTrue(l.get().GetConditions(), sourcev1.FetchFailedCondition) {
		l.t.Errorf("want FetchFailed:\n%s", describe(l.get().GetConditions()))
	}
	l.leftovers()
}

// suspended: no work while suspended (_common 4).
func suspended[O frame.Object](l *lab[O]) {
	l.upstream.Publish(l.t, one())
	l.create()
	was := l.good()
	l.upstream.Publish(l.t, two())
	l.front.seen()
	l.edit(func(obj O) { l.subject.Suspend(obj, true) })
	if is := l.good(); is.Digest != was.Digest {
		l.t.Errorf("a suspended source has a new artifact: %+v", is)
	}
	if n := l.front.seen(); n > 0 {
		l.t.Errorf("a suspended source sent %d requests", n)
	}
	l.edit(func(obj O) { l.subject.Suspend(obj, false) })
	if is := l.good(); is.Digest == was.Digest {
		l.t.Error("a resumed source did not catch up")
	}
}

// deleted: the artifacts go with the object, also with a suspended one, and no server is asked.
func deleted[O frame.Object](l *lab[O]) {
	l.upstream.Publish(l.t, one())
	l.create()
	a := l.good()
	l.edit(func(obj O) { l.subject.Suspend(obj, true) })
	l.front.close()
	if err := l.client.Delete(l.t.Context(), l.get()); err != nil {
		l.t.Fatal(err)
	}
	if _, err := l.step(); err != nil {
		l.t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(l.storage, filepath.Dir(filepath.FromSlash(a.Path)))); !os.IsNotExist(err) {
		l.t.Errorf("the artifacts are still there: %v", err)
	}
	if err := l.client.Get(l.t.Context(), key(), l.subject.New()); !apierrors.IsNotFound(err) {
		l.t.Errorf("the object is still there: %v", err)
	}
}

// storageLost: a file that is gone is built again in the next run.
func storageLost[O frame.Object](l *lab[O]) {
	l.upstream.Publish(l.t, one())
	l.create()
	was := l.good()
	if err := os.Remove(filepath.Join(l.storage, filepath.FromSlash(was.Path))); err != nil {
		l.t.Fatal(err)
	}
	if is := l.good(); is.Digest != was.Digest {
		l.t.Errorf("artifact = %+v, was %+v", is, was)
	}
	if _, err := os.Stat(filepath.Join(l.storage, filepath.FromSlash(was.Path))); err != nil {
		l.t.Error(err)
	}
}

// storageCorrupted: a file with other content is removed, told, and built again.
func storageCorrupted[O frame.Object](l *lab[O]) {
	l.upstream.Publish(l.t, one())
	l.create()
	was := l.good()
	l.Events()
	file := filepath.Join(l.storage, filepath.FromSlash(was.Path))
	if err := os.Remove(file); err != nil {
		l.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("something else"), 0o600); err != nil {
		l.t.Fatal(err)
	}
	if is := l.good(); is.Digest != was.Digest {
		l.t.Errorf("artifact = %+v, was %+v", is, was)
	}
	told := false
	for _, line := range l.Lines() {
		told = told || strings.HasPrefix(line, "error ArtifactVerificationFailed: ")
	}
	if !told {
		l.t.Error("nobody was told of the corrupted artifact")
	}
}

// hostile: malicious content harms nobody: the run ends, nothing is written where nothing belongs, and no artifact is
// offered but a harmless one.
func hostile[O frame.Object](l *lab[O], server http.Handler) {
	l.serve(server, nil)
	l.create(func(obj O) { orNothing(l.subject.SetTimeout)(obj, 20*time.Second) })
	if _, err := l.step(); err != nil && strings.Contains(err.Error(), "panic") {
		l.t.Errorf("the run panicked: %v", err)
	}
	l.leftovers()
}

// smallDisk names, for the process that runs inside of it, a directory on a file system that is soon full.
const smallDisk = "SOURCETEST_SMALL_DISK"

// diskFull: a full disk fails the run with the path and the cause, keeps what was stored, and leaves no half files. The
// case runs again as a process of its own in a mount namespace, where it may mount a small file system.
func diskFull[O frame.Object](t *testing.T, s Subject[O]) {
	if disk := os.Getenv(smallDisk); disk != "" {
		fillDisk(newLabIn(t, s, t.TempDir(), disk))
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	mount := t.TempDir()
	script := `mount -t tmpfs -o size=256k none "$1" && exec "$2" -test.run="$3" -test.count=1`
	cmd := exec.CommandContext(t.Context(), "unshare", "-Urm", "sh", "-c", script, "sh", mount, self, "^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$")
	cmd.Env = append(os.Environ(), smallDisk+"="+mount)
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "PASS") {
		t.Errorf("on a small disk: %v\n%s", err, out)
	}
}

func fillDisk[O frame.Object](l *lab[O]) {
	l.upstream.Publish(l.t, one())
	l.create()
	was := l.good()
	l.upstream.Publish(l.t, map[string]string{"large.yaml": noise(1 << 20)})
	ready := l.bad()
	if !strings.Contains(ready.Message, "no space left on device") {
		l.t.Errorf("the message does not name the cause: %s", ready.Message)
	}
	if !status.IsTrue(l.get().GetConditions(), sourcev1.StorageOperationFailedCondition) {
		l.t.Errorf("want StorageOperationFailed:\n%s", describe(l.get().GetConditions()))
	}
	l.upstream.Publish(l.t, one())
	if is := l.good(); is.Digest != was.Digest {
		l.t.Errorf("artifact = %+v, was %+v", is, was)
	}
}

// noise is text that does not compress to nothing.
func noise(size int) string {
	var b strings.Builder
	for x := uint64(88172645463325252); b.Len() < size; {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b.WriteByte('a' + byte(x%26))
		if x%61 == 0 {
			b.WriteByte('\n')
		}
	}
	return b.String()
}
