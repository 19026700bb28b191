package image

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	imagev1 "github.com/seed-79636ae9/flux/api/image/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/internal/image/repository"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/auth"
	"github.com/seed-79636ae9/flux/toolkit/auth/authtest"
	"github.com/seed-79636ae9/flux/toolkit/oci"
)

// imagerepository 1, 13, 15-17, 24, 37-39: scans, from the first to one that nobody needs.
func TestScanStory(t *testing.T) {
	l := newReflectorLab(t)
	l.push("1.0.0", "1.1.0", "1.0.0.sig")
	l.repository()

	ready, again := l.scanAgain()
	const two = "successful scan: found 2 tags with checksum 495453000"
	expectText(t, "Ready", ready, "True Succeeded: "+two)
	expectLines(t, "events", l.lines(l.scans), "info Succeeded: "+two)
	obj := l.getRepository()
	scanTime := metav1.NewTime(l.clock.Now())
	want := imagev1.ImageRepositoryStatus{
		ObservedGeneration: 1, Conditions: obj.Status.Conditions, CanonicalImageName: l.host() + "/app", ObservedExclusionList: []string{`^.*\.sig$`},
		LastScanResult: &imagev1.ScanResult{Revision: "495453000", TagCount: 2, ScanTime: &scanTime, LatestTags: []string{"1.1.0", "1.0.0"}},
	}
	if diff := cmp.Diff(want, obj.Status, cmp.Comparer(func(a, b metav1.Time) bool { return a.Unix() == b.Unix() })); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
	if !slices.Contains(obj.Finalizers, meta.Finalizer) {
		t.Errorf("finalizers: %q", obj.Finalizers)
	}
	if again != 10*time.Minute {
		t.Errorf("imagerepository 9: looked at again after %s, want the interval without jitter", again)
	}

	l.seen()
	l.clock.Step(4 * time.Minute)
	ready, again = l.scanAgain()
	expectText(t, "imagerepository 39: Ready of a run without a scan", ready, "True Succeeded: "+two)
	expectLines(t, "events of a run nobody asked for", l.lines(l.scans))
	if n := l.listed(); n > 0 || again != 6*time.Minute {
		t.Errorf("a run before its time listed the tags %d times and is to be repeated after %s", n, again)
	}

	l.edit(func(obj *imagev1.ImageRepository) { obj.Spec.Interval = "1h" })
	if ready, again = l.scanAgain(); !strings.HasPrefix(ready, "True ") || again != 56*time.Minute || l.listed() > 0 {
		t.Errorf("imagerepository 37: with another interval: Ready = %s, again after %s", ready, again)
	}
	expectLines(t, "events of a change without consequence", l.lines(l.scans),
		"trace Succeeded: no change in repository configuration since last scan, next scan in 56m0s (local)")

	l.request(&imagev1.ImageRepository{}, "token")
	l.scan()
	expectLines(t, "events of a scan that was asked for", l.lines(l.scans), "trace Succeeded: tags did not change, next scan in 1h0m0s (local)")
	if n := l.listed(); n != 1 {
		t.Errorf("imagerepository 38: the request led to %d scans", n)
	}
	l.scan()
	if n := l.listed(); n != 0 || l.getRepository().Status.LastHandledReconcileAt != "token" {
		t.Errorf("imagerepository 38: the request led to another scan")
	}

	l.push("1.2.0")
	l.clock.Step(time.Hour)
	l.scan()
	if lines := l.lines(l.scans); len(lines) != 1 || !strings.HasPrefix(lines[0], "info Succeeded: successful scan: found 3 tags") {
		t.Errorf("events of a new tag: %q", lines)
	}
}

// imagerepository 2-4, 25, 26, 41: what keeps an image from being scanned, and what is said about it.
func TestScanRefusals(t *testing.T) {
	tests := map[string]struct {
		change func(*imagev1.ImageRepository)
		ready  string
		stalls bool
	}{
		"imagerepository 3: a scheme": {
			func(obj *imagev1.ImageRepository) { obj.Spec.Image = "https://example.com/app" },
			"False ImageURLInvalid: image 'https://example.com/app' should not include URL scheme; remove 'https://'", true,
		},
		"imagerepository 2: an identity that is not allowed": {
			func(obj *imagev1.ImageRepository) {
				obj.Spec.Provider, obj.Spec.ServiceAccountName = imagev1.AWSProvider, "account"
			},
			"False FeatureGateDisabled: use the service account 'apps/account' with provider 'aws': the feature gate ObjectLevelWorkloadIdentity is off: switch it on, or remove serviceAccountName", true,
		},
		"imagerepository 4: no such Secret": {
			func(obj *imagev1.ImageRepository) { obj.Spec.SecretRef = &meta.LocalObjectReference{Name: "absent"} },
			`False AuthenticationFailed: failed to configure authentication options: secrets "absent" not found`, false,
		},
		"imagerepository 25: a Secret of another kind": {
			func(obj *imagev1.ImageRepository) { obj.Spec.SecretRef = &meta.LocalObjectReference{Name: "basic"} },
			"False AuthenticationFailed: failed to configure authentication options: invalid secret 'apps/basic': key '.dockerconfigjson': key is required: only Secrets of type kubernetes.io/dockerconfigjson hold credentials of registries", false,
		},
		"a Secret that cannot be read": {
			func(obj *imagev1.ImageRepository) { obj.Spec.SecretRef = &meta.LocalObjectReference{Name: "torn"} },
			"False AuthenticationFailed: failed to configure authentication options: invalid secret 'apps/torn': key '.dockerconfigjson': not a Docker configuration in JSON", false,
		},
		"no such service account": {
			func(obj *imagev1.ImageRepository) { obj.Spec.ServiceAccountName = "absent" },
			`False AuthenticationFailed: failed to configure authentication options: serviceaccounts "absent" not found`, false,
		},
		"imagerepository 26: no TLS material": {
			func(obj *imagev1.ImageRepository) { obj.Spec.CertSecretRef = &meta.LocalObjectReference{Name: "basic"} },
			"False AuthenticationFailed: failed to configure authentication options: invalid secret 'apps/basic': key 'ca.crt': key is required, or 'tls.crt' and 'tls.key'", false,
		},
		"no proxy": {
			func(obj *imagev1.ImageRepository) {
				obj.Spec.ProxySecretRef = &meta.LocalObjectReference{Name: "basic"}
			},
			"False AuthenticationFailed: failed to configure authentication options: invalid secret 'apps/basic': key 'address': key is required", false,
		},
		"a cloud that nobody knows": {
			func(obj *imagev1.ImageRepository) { obj.Spec.Provider = imagev1.GCPProvider },
			"False AuthenticationFailed: failed to configure authentication options: not supported: this process obtains no credentials from clouds or Git hosts", false,
		},
		"imagerepository 11: no regular expression": {
			func(obj *imagev1.ImageRepository) { obj.Spec.ExclusionList = []string{"(["} },
			"False ReadOperationFailed: scan failed: spec.exclusionList[0] is not a regular expression: error parsing regexp: missing closing ]: `[`", false,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			l := newReflectorLab(t)
			l.push("1.0.0")
			l.create(secretOf("basic", map[string]string{"username": "canary", "password": "canary"}), secretOf("torn", map[string]string{".dockerconfigjson": "canary"}))
			l.repository(tt.change)
			ready, again := l.scanAgain()
			expectText(t, "Ready", ready, tt.ready)
			if stalled := l.condition(&imagev1.ImageRepository{}, meta.StalledCondition); (stalled != "-") != tt.stalls || (again == 0) != tt.stalls {
				t.Errorf("Stalled = %s, looked at again after %s", stalled, again)
			}
			reason, _, _ := strings.Cut(strings.TrimPrefix(ready, "False "), ":")
			expectLines(t, "events", l.lines(l.scans), "error "+reason+": "+strings.TrimPrefix(tt.ready, "False "+reason+": "))
		})
	}
	t.Run("imagerepository 41: a disk that fails", func(t *testing.T) {
		l := newReflectorLab(t)
		dir := t.TempDir()
		l.openDatabase(dir)
		l.scanner.Tags = l.database
		l.push("1.0.0")
		l.repository()
		l.scan()
		file := filepath.Join(dir, "imagerepository", "apps", "app", "tags.txt")
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(file, 0o700); err != nil {
			t.Fatal(err)
		}
		if ready, again := l.scanAgain(); !strings.HasPrefix(ready, "False Failure: read the stored tags: ") || again >= 0 {
			t.Errorf("Ready = %s, again after %s", ready, again)
		}
	})
}

// imagerepository 12, 38, 43, 44: a registry that fails in one of many ways costs nothing but the scan: what the last one has
// found stays, and the list is never shorter than it is.
func TestScanFaults(t *testing.T) {
	tests := map[string]struct {
		fault testkit.RegistryFault
		want  string
		again time.Duration
	}{
		"a page fails":     {testkit.TagsBrokenPage, "scan failed: GET http://HOST/v2/app/tags/list", -1},
		"a torn answer":    {testkit.TagsTorn, "scan failed: ", -1},
		"too many":         {testkit.TagsThrottled, "scan failed: ", 2 * time.Second},
		"no answer":        {testkit.TagsHang, "scan failed: ", -1},
		"an outage":        {testkit.RegistryDown, "scan failed: ", -1},
		"reset connection": {testkit.RegistryResets, "scan failed: ", -1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			l := newReflectorLab(t)
			l.push("1.0.0", "1.1.0", "1.2.0", "1.3.0")
			l.repository(func(obj *imagev1.ImageRepository) { obj.Spec.Timeout = "1s" })
			l.scan()
			before := l.getRepository().Status.LastScanResult
			l.lines(l.scans)

			l.registry.Fail(tt.fault)
			l.request(&imagev1.ImageRepository{}, "token")
			for range 2 {
				l.clock.Step(10 * time.Minute)
				ready, again := l.scanAgain()
				if !strings.HasPrefix(ready, "False ReadOperationFailed: "+tt.want) || again != tt.again {
					t.Errorf("Ready = %s, again after %s", ready, again)
				}
				if lines := l.lines(l.scans); len(lines) != 1 || !strings.HasPrefix(lines[0], "error ReadOperationFailed: "+tt.want) {
					t.Errorf("imagerepository 44: events %q", lines)
				}
			}
			obj := l.getRepository()
			if diff := cmp.Diff(before, obj.Status.LastScanResult); diff != "" || obj.Status.LastHandledReconcileAt != "token" {
				t.Errorf("the last result (-want +got):\n%s", diff)
			}
			if list, err := l.database.Get(appKey); err != nil || len(list.Tags) != 4 {
				t.Errorf("the database has %q, error %v", list.Tags, err)
			}
			l.registry.Fail(testkit.RegistryWorks)
			l.scan()
			if lines := l.lines(l.scans); len(lines) != 1 || !strings.HasPrefix(lines[0], "info Succeeded: ") {
				t.Errorf("imagerepository 17: events of the recovery: %q", lines)
			}
		})
	}
}

// imagerepository 7, 24: a registry that hangs is given up after the timeout, which the message names.
func TestScanTimeout(t *testing.T) {
	l := newReflectorLab(t)
	l.push("1.0.0")
	l.registry.Fail(testkit.TagsHang)
	l.repository(func(obj *imagev1.ImageRepository) { obj.Spec.Timeout = "10ms" })
	if ready := l.scan(); !strings.HasSuffix(ready, "(spec.timeout)") {
		t.Errorf("Ready = %s", ready)
	}
}

// imagerepository 11, 32-36: what counts as a tag, in which order, and what a change of the exclusion list does.
func TestScannedTags(t *testing.T) {
	l := newReflectorLab(t)
	tags := []string{"latest"}
	for i := range 12 {
		tags = append(tags, fmt.Sprintf("1.%d.0", i))
	}
	l.push(tags...)
	l.registry.Pages(5)
	l.registry.Fail(testkit.TagsReordered)
	l.repository()
	l.scan()
	first := *l.getRepository().Status.LastScanResult
	if want := []string{"latest", "1.9.0", "1.8.0", "1.7.0", "1.6.0", "1.5.0", "1.4.0", "1.3.0", "1.2.0", "1.11.0"}; !slices.Equal(first.LatestTags, want) || first.TagCount != 13 {
		t.Errorf("imagerepository 33: %d tags, the latest are %q", first.TagCount, first.LatestTags)
	}
	l.registry.Fail(testkit.RegistryWorks)
	l.rescan()
	if got := l.getRepository().Status.LastScanResult.Revision; got != first.Revision {
		t.Errorf("imagerepository 32, 43: in pages and in another order the checksum is %s, want %s", got, first.Revision)
	}

	l.seen()
	l.edit(func(obj *imagev1.ImageRepository) { obj.Spec.ExclusionList = []string{"latest", `^1\.1\.`} })
	l.scan()
	if obj := l.getRepository(); obj.Status.LastScanResult.TagCount != 11 || l.listed() == 0 || !slices.Equal(obj.Status.ObservedExclusionList, obj.Spec.ExclusionList) {
		t.Errorf("with another exclusion list: %+v", obj.Status)
	}
	l.edit(func(obj *imagev1.ImageRepository) { slices.Reverse(obj.Spec.ExclusionList) })
	if l.scan(); l.listed() > 0 {
		t.Error("imagerepository 36: another order of the exclusion list led to a scan")
	}

	l.edit(func(obj *imagev1.ImageRepository) { obj.Spec.ExclusionList = []string{"."} })
	for range 2 {
		if ready := l.scan(); !strings.HasPrefix(ready, "True Succeeded: successful scan: found 0 tags") || l.listed() == 0 {
			t.Errorf("imagerepository 34: without tags: Ready = %s", ready)
		}
	}
	if got := l.getRepository().Status.LastScanResult.LatestTags; got != nil {
		t.Errorf("imagerepository 33: the latest of no tags are %q", got)
	}
	l.edit(func(obj *imagev1.ImageRepository) { obj.Spec.ExclusionList = nil })
	l.scan()
	if got := l.getRepository().Status; got.LastScanResult.Revision != first.Revision || !slices.Equal(got.ObservedExclusionList, []string{imagev1.SignatureTags}) {
		t.Errorf("imagerepository 35: without a list: %+v", got)
	}
}

// imagerepository 18, 21, 42: a new process without its disk scans, a suspended object is not scanned, a deleted one leaves
// nothing behind.
func TestScanLife(t *testing.T) {
	l := newReflectorLab(t)
	l.push("1.0.0")
	l.repository()
	l.scan()
	l.seen()
	l.openDatabase(t.TempDir())
	l.scanner.Tags = l.database
	if l.scan(); l.listed() != 1 {
		t.Error("imagerepository 21: an empty database led to no scan")
	}
	l.edit(func(obj *imagev1.ImageRepository) { obj.Spec.Suspend = true })
	l.clock.Step(time.Hour)
	if _, again := l.scanAgain(); l.listed() > 0 || again != 0 {
		t.Errorf("imagerepository 42: a suspended object was scanned, or will be after %s", again)
	}
	if list, err := l.database.Get(appKey); err != nil || len(list.Tags) != 1 {
		t.Errorf("imagerepository 42: the tags are %q, error %v", list.Tags, err)
	}
	if err := l.client.Delete(t.Context(), l.getRepository()); err != nil {
		t.Fatal(err)
	}
	if _, err := l.scans.Run(t.Context(), appKey); err != nil {
		t.Fatal(err)
	}
	if list, err := l.database.Get(appKey); err != nil || len(list.Tags) > 0 {
		t.Errorf("imagerepository 18: the tags are %q, error %v", list.Tags, err)
	}
	if err := l.client.Get(t.Context(), appKey, &imagev1.ImageRepository{}); err == nil {
		t.Error("the object is still there")
	}
}

// imagerepository 5, 22: whose credentials are used.
func TestScanCredentials(t *testing.T) {
	aws := &authtest.Cloud{Provider: auth.AWS}
	authenticator, err := auth.New(auth.Options{Clouds: []auth.Cloud{aws}})
	if err != nil {
		t.Fatal(err)
	}
	l := newReflectorLab(t, func(o *repository.Options) { o.Auth = authenticator })
	l.push("1.0.0")
	l.create(
		l.loginOf("secret", "secret"), l.loginOf("pull", "pull"),
		&corev1.ServiceAccount{
			ObjectMeta:       metav1.ObjectMeta{Namespace: appKey.Namespace, Name: "account"},
			ImagePullSecrets: []corev1.LocalObjectReference{{Name: "pull"}},
		},
	)
	l.repository()
	good := func(what string) {
		t.Helper()
		l.rescanned(t, what, true)
	}
	bad := func(what string) {
		t.Helper()
		l.rescanned(t, what, false)
	}
	good("everybody is let in")
	l.protect("secret")
	bad("without credentials")
	l.edit(func(obj *imagev1.ImageRepository) { obj.Spec.SecretRef = &meta.LocalObjectReference{Name: "secret"} })
	good("with those of the Secret")
	l.protect("pull")
	bad("with those of another user")
	l.edit(func(obj *imagev1.ImageRepository) { obj.Spec.SecretRef, obj.Spec.ServiceAccountName = nil, "account" })
	good("with those of the service account")
	l.protect("aws")
	l.edit(func(obj *imagev1.ImageRepository) {
		obj.Spec.SecretRef, obj.Spec.ServiceAccountName, obj.Spec.Provider = &meta.LocalObjectReference{Name: "secret"}, "", imagev1.AWSProvider
	})
	good("a cloud is asked, whatever Secrets say")
	if calls := aws.Calls(); len(calls) == 0 || calls[0] != "process registry "+l.host() {
		t.Errorf("imagerepository 22: the cloud was asked %q", calls)
	}
}

// rescanned scans on request, and expects it to end well or with a refusal of the registry.
func (l *reflectorLab) rescanned(t *testing.T, what string, good bool) {
	t.Helper()
	l.clock.Step(time.Second)
	l.request(&imagev1.ImageRepository{}, l.clock.Now().String())
	ready := l.scan()
	if good && !strings.HasPrefix(ready, "True ") || !good && !strings.HasPrefix(ready, "False ReadOperationFailed: scan failed: ") {
		t.Errorf("%s: Ready = %s", what, ready)
	}
	if strings.Contains(ready, "canary") {
		t.Errorf("%s: the message holds a secret: %s", what, ready)
	}
}

// imagerepository 6: authorities and proxies come from Secrets.
func TestScanConnection(t *testing.T) {
	l := newReflectorLab(t)
	l.push("1.0.0")
	target, err := url.Parse(l.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	forward, through := httputil.NewSingleHostReverseProxy(target), make(chan string, 100)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		through <- r.Method + " " + r.URL.Host
		if r.Method == http.MethodConnect {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		forward.ServeHTTP(w, r)
	}))
	defer proxy.Close()
	l.create(secretOf("proxy", map[string]string{"address": proxy.URL}))
	l.repository(func(obj *imagev1.ImageRepository) {
		// A name that only the proxy knows.
		obj.Spec.Image, obj.Spec.ProxySecretRef = "registry.invalid/app", &meta.LocalObjectReference{Name: "proxy"}
	})
	if ready := l.scan(); !strings.HasPrefix(ready, "True ") || len(through) == 0 {
		t.Errorf("through a proxy: Ready = %s", ready)
	}

	l.create(secretOf("ca", map[string]string{"ca.crt": string(l.serveTLS())}))
	l.edit(func(obj *imagev1.ImageRepository) {
		obj.Spec.Image, obj.Spec.Insecure, obj.Spec.ProxySecretRef = l.host()+"/app", false, nil
	})
	if ready := l.scan(); !strings.HasPrefix(ready, "False ReadOperationFailed: ") {
		t.Errorf("with an unknown authority: Ready = %s", ready)
	}
	l.edit(func(obj *imagev1.ImageRepository) { obj.Spec.CertSecretRef = &meta.LocalObjectReference{Name: "ca"} })
	if ready := l.scan(); !strings.HasPrefix(ready, "True ") {
		t.Errorf("with the authority of the Secret: Ready = %s", ready)
	}
}

// A million tags are refused, in bounded memory, with a word about the remedy (reliability 020).
func TestTooManyTags(t *testing.T) {
	l := newReflectorLab(t, func(o *repository.Options) { o.Limits = oci.Limits{Tags: 1000} })
	tags := make([]string, 1001)
	for i := range tags {
		tags[i] = fmt.Sprintf("t%d", i)
	}
	l.registry.Show("app", tags...)
	l.registry.Pages(100)
	l.repository()
	if ready := l.scan(); !strings.Contains(ready, "more than 1000 tags (see --oci-limit-tags and --oci-limit-tags-size)") {
		t.Errorf("Ready = %s", ready)
	}
	l.registry.Show("app", tags[:1000]...)
	if ready := l.scan(); !strings.HasPrefix(ready, "True Succeeded: successful scan: found 1000 tags") {
		t.Errorf("as many as are allowed: Ready = %s", ready)
	}
}

// hanging begins a scan at a registry that does not answer, and returns when the scan is under way. Stop ends it.
func (l *reflectorLab) hanging(t *testing.T) (stop func()) {
	t.Helper()
	asked := make(chan struct{})
	dead := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/tags/list") {
			close(asked)
			<-r.Context().Done()
		}
	}))
	t.Cleanup(dead.Close)
	key := types.NamespacedName{Namespace: appKey.Namespace, Name: "hanging"}
	l.repository(func(obj *imagev1.ImageRepository) {
		obj.Name, obj.UID, obj.Spec.Image = key.Name, "hanging", dead.Listener.Addr().String()+"/app"
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		// How it ends is of no interest.
		_, _ = l.scans.Run(ctx, key)
	}()
	select {
	case <-asked:
	case <-done:
		t.Fatal("the registry was not asked")
	}
	return func() {
		cancel()
		<-done
	}
}

// A registry that hangs holds no work slot, of which there is only one (reliability 069).
func TestScanBesideOneThatHangs(t *testing.T) {
	l := newReflectorLab(t)
	stop := l.hanging(t)
	defer stop()
	l.push("1.0.0")
	l.repository()
	if ready := l.scan(); !strings.HasPrefix(ready, "True ") {
		t.Errorf("Ready = %s", ready)
	}
}

// Many images of one registry are scanned at once, over few connections, and no more than that.
func TestScansAtOnce(t *testing.T) {
	const images, atOnce = 40, 16
	l := newReflectorLab(t)
	l.push("1.0.0")
	var mu sync.Mutex
	now, most := 0, 0
	full := make(chan struct{})
	l.mu.Lock()
	l.hook = func(r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/tags/list") {
			return
		}
		mu.Lock()
		now++
		if most = max(most, now); now == atOnce && most == atOnce {
			select {
			case <-full:
			default:
				close(full)
			}
		}
		mu.Unlock()
		// The first ones wait for each other.
		<-full
		mu.Lock()
		now--
		mu.Unlock()
	}
	l.mu.Unlock()
	var wg sync.WaitGroup
	for i := range images {
		key := types.NamespacedName{Namespace: appKey.Namespace, Name: fmt.Sprintf("image-%d", i)}
		l.repository(func(obj *imagev1.ImageRepository) { obj.Name, obj.UID = key.Name, types.UID(key.Name) })
		wg.Go(func() {
			if _, err := l.scans.Run(t.Context(), key); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if most != atOnce {
		t.Errorf("at most %d images were scanned at once, want %d", most, atOnce)
	}
}

// A scan of nine thousand tags takes a small part of the 50 MiB it may take, the registry's share included.
func TestScanMemory(t *testing.T) {
	const limit = 50 << 20
	if raceDetector {
		t.Skip("the race detector allocates more than the scan")
	}
	l := newReflectorLab(t)
	showMany(l, 9000)
	l.repository()
	l.scan()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	l.rescan()
	runtime.ReadMemStats(&after)
	if spent := after.TotalAlloc - before.TotalAlloc; spent > limit {
		t.Errorf("a scan allocates %d MiB", spent>>20)
	}
	if got := l.getRepository().Status.LastScanResult.TagCount; got != 9000 {
		t.Errorf("found %d tags", got)
	}
}

func showMany(l *reflectorLab, count int) {
	tags := make([]string, count)
	for i := range tags {
		tags[i] = fmt.Sprintf("1.%d.%d", i/100, i%100)
	}
	l.registry.Show("app", tags...)
	l.registry.Pages(1000)
}

func BenchmarkScan9000(b *testing.B) {
	l := newReflectorLab(b)
	showMany(l, 9000)
	l.repository()
	for b.Loop() {
		l.rescan()
	}
}
