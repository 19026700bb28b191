package app

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	extensionsv1beta1 "github.com/seed-79636ae9/flux/api/extensions/v1beta1"
	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	imagev1 "github.com/seed-79636ae9/flux/api/image/v1"
	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/component"
)

// parse parses a command line as `flux run` does, or the program under an upstream name.
func parse(t *testing.T, plain bool, names []string, args ...string) (*Options, *pflag.FlagSet, error) {
	t.Helper()
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	o, err := New(names, plain, fs)
	if err != nil {
		t.Fatal(err)
	}
	err = fs.Parse(args)
	if err == nil {
		err = o.validate()
	}
	return o, fs, err
}

// commonFlags are those of every controller of 2.9, with their defaults (wire.md 14).
func commonFlags() map[string]string {
	return map[string]string{
		"kube-api-qps": "50", "kube-api-burst": "300", "log-encoding": "json", "log-level": "info", "enable-leader-election": "false",
		"leader-election-release-on-cancel": "true", "leader-election-lease-duration": "35s", "leader-election-renew-deadline": "30s",
		"leader-election-retry-period": "5s", "min-retry-delay": "750ms", "max-retry-delay": "15m0s", "feature-gates": "",
		"watch-all-namespaces": "true", "watch-label-selector": "", "metrics-addr": ":8080", "health-addr": ":9440", "events-addr": "",
		"interval-jitter-percentage": "5", "default-service-account": "", "token-cache-max-size": "100", "token-cache-max-duration": "1h0m0s",
		"watch-configs-label-selector": "reconcile.fluxcd.io/watch=Enabled", "requeue-dependency": "30s",
	}
}

// A Deployment of 2.9 starts our binary with the flags it had: each is there under the upstream name, with the upstream
// default (wire.md 14). _common 8, 9, 11-13.
func TestUpstreamFlags(t *testing.T) {
	for name, own := range map[string]map[string]string{
		"source-controller": {
			"concurrent": "2", "ssh-kex-algos": "[]", "ssh-hostkey-algos": "[]", "storage-path": "/data", "storage-addr": ":9090",
			"storage-adv-addr": "", "artifact-retention-ttl": "1m0s", "artifact-retention-records": "2", "artifact-digest-algo": "sha256",
			"helm-index-max-size": "52428800", "helm-chart-max-size": "10485760", "helm-chart-file-max-size": "5242880",
			"helm-cache-max-size": "0", "helm-cache-ttl": "15m0s", "helm-cache-purge-interval": "1m0s",
		},
		"kustomize-controller": {
			"concurrent": "4", "no-cross-namespace-refs": "false", "http-retry": "9", "override-manager": "[]",
			"default-kubeconfig-service-account": "", "insecure-kubeconfig-exec": "false", "insecure-kubeconfig-tls": "false",
			"concurrent-ssa": "4", "no-remote-bases": "false", "default-decryption-service-account": "", "sops-age-secret": "",
			"sops-vault-configmap": "", "custom-apply-stage-kinds": "",
		},
		"helm-controller": {
			"concurrent": "4", "no-cross-namespace-refs": "false", "http-retry": "9", "override-manager": "[]",
			"default-kubeconfig-service-account": "", "insecure-kubeconfig-exec": "false", "insecure-kubeconfig-tls": "false",
			"http-timeout": "30s", "graceful-shutdown-timeout": "10m0s", "snapshot-digest-algo": "sha256",
			"oom-watch-memory-threshold": "95", "oom-watch-interval": "500ms", "oom-watch-max-memory-path": "", "oom-watch-current-memory-path": "",
		},
		"notification-controller": {
			"concurrent": "4", "no-cross-namespace-refs": "false", "events-addr": ":9090", "receiverAddr": ":9292", "rate-limit-interval": "5m0s",
			"export-http-path-metrics": "false",
		},
		"image-reflector-controller": {
			"concurrent": "4", "no-cross-namespace-refs": "false", "storage-path": "/data", "storage-value-log-file-size": "268435456",
			"storage-compression-threshold": "64", "gc-interval": "10",
		},
		"image-automation-controller": {"concurrent": "4", "no-cross-namespace-refs": "false", "ssh-kex-algos": "[]", "ssh-hostkey-algos": "[]"},
		// artifactgenerator 65: the time of a run, and ten at once.
		"source-watcher": {
			"concurrent": "10", "no-cross-namespace-refs": "false", "http-retry": "9", "requeue-dependency": "5s",
			"reconciliation-timeout": "10m0s", "storage-path": "/data", "storage-addr": ":9090", "storage-adv-addr": "",
			"artifact-retention-ttl": "1m0s", "artifact-retention-records": "2", "artifact-digest-algo": "sha256",
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, variable := range []string{"STORAGE_PATH", "STORAGE_ADDRESS", "STORAGE_ADV_ADDR", "METRICS_ADDR", "EVENTS_ADDR"} {
				t.Setenv(variable, "")
			}
			_, fs, err := parse(t, true, []string{name})
			if err != nil {
				t.Fatal(err)
			}
			flags := commonFlags()
			maps.Copy(flags, own)
			for flag, want := range flags {
				f := fs.Lookup(flag)
				if f == nil {
					t.Errorf("--%s is missing", flag)
				} else if f.DefValue != want {
					t.Errorf("--%s defaults to %q, want %q", flag, f.DefValue, want)
				}
			}
		})
	}
}

// Where two controllers give a flag a meaning of their own, `flux run` tells them apart by a prefix.
func TestPrefixedFlags(t *testing.T) {
	o, fs, err := parse(t, false, nil, "--kustomize-concurrent=20", "--source-storage-path=/x", "--requeue-dependency=5s")
	if err != nil {
		t.Fatal(err)
	}
	for _, gone := range []string{"concurrent", "storage-path"} {
		if fs.Lookup(gone) != nil {
			t.Errorf("--%s does not say whose it is", gone)
		}
	}
	var got []int
	for _, c := range o.chosen {
		got = append(got, *c.concurrent)
	}
	if diff := cmp.Diff([]int{2, 20, 4, 4, 10, 4, 4}, got); diff != "" {
		t.Errorf("concurrency of %v (_common 11; -want +got):\n%s", Names(), diff)
	}
}

// A process stops when its slowest component has, unless a flag says otherwise (wire.md 14).
func TestGracefulShutdown(t *testing.T) {
	for name, tc := range map[string]struct {
		components, args []string
		want             time.Duration
	}{
		"most components":   {components: []string{"source-controller", "kustomize-controller"}, want: 30 * time.Second},
		"one that is slow":  {components: []string{"source-controller", "helm-controller", "kustomize-controller"}, want: 10 * time.Minute},
		"the flag is given": {components: []string{"helm-controller"}, args: []string{"--graceful-shutdown-timeout=5s"}, want: 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			o, _, err := parse(t, false, tc.components, tc.args...)
			if err != nil {
				t.Fatal(err)
			}
			if o.shared.gracefulShutdown != tc.want {
				t.Errorf("the process may take %s to stop, want %s", o.shared.gracefulShutdown, tc.want)
			}
		})
	}
}

// Flags that several components understand alike reach all of them. The default of --requeue-dependency is a matter of the component
// (artifactgenerator 13), the flag is not.
func TestSharedFlags(t *testing.T) {
	requeue := func(args ...string) map[string]string {
		o, _, err := parse(t, false, nil, args...)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, c := range o.chosen {
			got[c.Name] = o.requeueDependency(c).String()
		}
		return got
	}
	if diff := cmp.Diff(map[string]string{"source-controller": "30s", "kustomize-controller": "30s", "helm-controller": "30s", "notification-controller": "30s", "source-watcher": "5s", "image-reflector-controller": "30s",
		"image-automation-controller": "30s"}, requeue()); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
	if got := requeue("--requeue-dependency=7s"); got["source-controller"] != "7s" || got["source-watcher"] != "7s" {
		t.Errorf("with a flag: %v", got)
	}
	_, fs, err := parse(t, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	for flag, shown := range map[string]string{"artifact-retention-records": "2", "source-storage-path": "/data", "watcher-storage-path": "/data"} {
		if f := fs.Lookup(flag); f == nil || f.DefValue != shown {
			t.Errorf("--%s: %v", flag, f)
		}
	}
	var a, b int
	one, other := pflag.NewFlagSet("", pflag.ContinueOnError), pflag.NewFlagSet("", pflag.ContinueOnError)
	one.IntVar(&a, "n", 0, "")
	other.IntVar(&b, "n", 0, "")
	f := one.Lookup("n")
	f.Value = both{f.Value, other.Lookup("n").Value}
	if err := one.Parse([]string{"--n=3"}); err != nil || a != 3 || b != 3 {
		t.Errorf("a shared flag sets %d and %d: %v", a, b, err)
	}
	if err := one.Parse([]string{"--n=x"}); err == nil {
		t.Error("a shared flag takes nonsense")
	}
}

// Artifacts and events share an address, told apart by the method; two endpoints of one sort do not.
func TestShare(t *testing.T) {
	answer := func(word string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, word) })
	}
	artifacts := component.Endpoint{Flag: "storage-addr", Addr: ":9090", Handler: answer("artifacts")}
	events := component.Endpoint{Flag: "events-addr", Addr: ":9090", Handler: answer("events"), Posts: true}
	hooks := component.Endpoint{Flag: "receiverAddr", Addr: ":9292", Handler: answer("hooks")}
	for _, order := range [][]component.Endpoint{{artifacts, events, hooks}, {events, hooks, artifacts}} {
		got, err := share(order)
		if err != nil || len(got) != 2 {
			t.Fatalf("%v, %v", got, err)
		}
		i := slices.IndexFunc(got, func(e component.Endpoint) bool { return e.Addr == ":9090" })
		for method, want := range map[string]string{"GET": "artifacts", "HEAD": "artifacts", "POST": "events", "PUT": "events"} {
			w := httptest.NewRecorder()
			got[i].Handler.ServeHTTP(w, httptest.NewRequest(method, "/", nil))
			if w.Body.String() != want {
				t.Errorf("%s is answered by %q, want %q", method, w.Body, want)
			}
		}
	}
	hooks.Addr = ":9090"
	if _, err := share([]component.Endpoint{artifacts, hooks}); err == nil || !strings.Contains(err.Error(), "--receiverAddr") {
		t.Errorf("error = %v", err)
	}
}

// A component switches gates on in the others of its process, unless somebody said otherwise; alone it has nobody to tell.
func TestGatesOfNeighbours(t *testing.T) {
	for _, test := range []struct {
		names []string
		args  []string
		want  bool
	}{
		{nil, nil, true},
		{nil, []string{"--feature-gates=ExternalArtifact=false"}, false},
		{[]string{"source-controller", "kustomize-controller"}, nil, false},
	} {
		o, _, err := parse(t, false, test.names, test.args...)
		if err != nil {
			t.Fatal(err)
		}
		gates, err := o.gates()
		if err != nil {
			t.Fatal(err)
		}
		if got := gates["kustomize-controller"]["ExternalArtifact"]; got != test.want {
			t.Errorf("%v %v: ExternalArtifact is %t (externalartifact 5)", test.names, test.args, got)
		}
	}
	if _, _, err := parse(t, true, []string{"source-watcher"}); err != nil {
		t.Errorf("source-watcher alone: %v", err)
	}
}

// externalartifact 1: source-controller installs the kind, nobody reconciles it.
func TestExternalArtifactHasNoController(t *testing.T) {
	installed := ""
	for _, c := range Components() {
		if slices.Contains(c.CRDs, "externalartifacts.source.toolkit.fluxcd.io") {
			installed += c.Name
		}
		for _, k := range c.Kinds {
			if k.Kind == sourcev1.ExternalArtifactKind {
				t.Errorf("%s reconciles it", c.Name)
			}
		}
	}
	if installed != "source-controller" {
		t.Errorf("installed by %q", installed)
	}
}

// What would only fail, or silently do nothing, later is refused at the start, with the flag's name.
func TestBadFlags(t *testing.T) {
	for name, test := range map[string]struct{ arg, want string }{
		"_common 8: jitter of 100 percent":           {"--interval-jitter-percentage=100", "--interval-jitter-percentage=100"},
		"_common 8: negative jitter":                 {"--interval-jitter-percentage=-1", "--interval-jitter-percentage=-1"},
		"_common 11: no slot":                        {"--concurrent=0", "concurrency of kustomize-controller is 0"},
		"_common 50: a cache of less than nothing":   {"--token-cache-max-size=-1", "--token-cache-max-size=-1"},
		"_common 12: no selector":                    {"--watch-label-selector=a in", "--watch-label-selector"},
		"wire.md 15: a gate that nobody knows":       {"--feature-gates=Nonsense=true", "unknown gate 'Nonsense'"},
		"wire.md 15: a gate of another controller":   {"--feature-gates=OOMWatch=true", "unknown gate 'OOMWatch'"},
		"wire.md 15: a gate that is neither or both": {"--feature-gates=ExternalArtifact=maybe", "ExternalArtifact=true or ExternalArtifact=false"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := parse(t, true, []string{"kustomize-controller"}, test.arg); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error = %v, want %q in it", err, test.want)
			}
		})
	}
	for _, fine := range []string{"--interval-jitter-percentage=0", "--interval-jitter-percentage=99"} {
		if _, _, err := parse(t, true, []string{"kustomize-controller"}, fine); err != nil {
			t.Errorf("%s: %v (_common 8)", fine, err)
		}
	}
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	if _, err := New([]string{"other-controller"}, false, fs); err == nil || !strings.Contains(err.Error(), "source-controller, kustomize-controller") {
		t.Errorf("an unknown component: error = %v, want the known ones in it", err)
	}
}

// _common 48: a default account that would have no effect is refused at the start. The one that a controller impersonates needs no gate.
func TestDefaultAccounts(t *testing.T) {
	for name, test := range map[string]struct {
		components []string
		args       string
		refused    string
	}{
		"sources":                 {[]string{"source-controller"}, "--default-service-account=x", "--default-service-account=x"},
		"sources, with the gate":  {[]string{"source-controller"}, "--default-service-account=x --feature-gates=ObjectLevelWorkloadIdentity=true", ""},
		"sources, gate off":       {[]string{"source-controller"}, "--default-service-account=x --feature-gates=ObjectLevelWorkloadIdentity=false", "ObjectLevelWorkloadIdentity=true"},
		"impersonation":           {[]string{"kustomize-controller"}, "--default-service-account=x", ""},
		"both in one process":     {nil, "--default-service-account=x", ""},
		"decryption":              {[]string{"kustomize-controller"}, "--default-decryption-service-account=x", "--default-decryption-service-account=x"},
		"decryption, with a gate": {[]string{"kustomize-controller"}, "--default-decryption-service-account=x --feature-gates=ObjectLevelWorkloadIdentity=true", ""},
		"remote clusters":         {nil, "--default-kubeconfig-service-account=x", "--default-kubeconfig-service-account=x"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := parse(t, test.components != nil, test.components, strings.Fields(test.args)...)
			switch {
			case test.refused == "" && err != nil:
				t.Error(err)
			case test.refused != "" && (err == nil || !strings.Contains(err.Error(), test.refused)):
				t.Errorf("error = %v, want %q in it", err, test.refused)
			}
		})
	}
}

// The gates of 2.9, with their defaults (wire.md 15). kustomization 95: the cache of health polls stays off.
func TestGates(t *testing.T) {
	o, _, err := parse(t, false, nil, "--feature-gates=ExternalArtifact=true,StrictPostBuildSubstitutions=false")
	if err != nil {
		t.Fatal(err)
	}
	got, err := o.gates()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]map[string]bool{
		"source-controller": {"ObjectLevelWorkloadIdentity": false, "CacheSecretsAndConfigMaps": false},
		"kustomize-controller": {
			"ObjectLevelWorkloadIdentity": false, "CacheSecretsAndConfigMaps": false, "DisableConfigWatchers": false,
			"AdditiveCELDependencyCheck": false, "ExternalArtifact": true, "DirectSourceFetch": false, "CancelHealthCheckOnNewRevision": false,
			"DisableStatusPollerCache": true, "StrictPostBuildSubstitutions": false, "DisableFailFastBehavior": false,
			"GroupChangeLog": false, "MigrateAPIVersion": false,
		},
		"helm-controller": {
			"ObjectLevelWorkloadIdentity": false, "CacheSecretsAndConfigMaps": false, "DisableConfigWatchers": false,
			"AdditiveCELDependencyCheck": false, "ExternalArtifact": true, "DirectSourceFetch": false, "CancelHealthCheckOnNewRevision": false,
			"DetectDrift": false, "CorrectDrift": false, "AllowDNSLookups": false, "OOMWatch": false, "AdoptLegacyReleases": false,
			"DisableChartDigestTracking": false, "UseHelm3Defaults": false, "DefaultToRetryOnFailure": false,
		},
		"notification-controller":    {"ObjectLevelWorkloadIdentity": false, "CacheSecretsAndConfigMaps": false, "DisableConfigWatchers": false},
		"source-watcher":             {"DirectSourceFetch": false},
		"image-reflector-controller": {"FluxStorage": false, "ObjectLevelWorkloadIdentity": false, "CacheSecretsAndConfigMaps": false},
		"image-automation-controller": {
			"ObjectLevelWorkloadIdentity": false, "CacheSecretsAndConfigMaps": false, "GitForcePushBranch": true, "GitShallowClone": true,
			"GitAllBranchReferences": true, "GitSparseCheckout": false,
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("gates (-want +got):\n%s", diff)
	}
}

// _common 12: a shard has a lease of its own, whose name 2.9 would give it too.
func TestLeaseName(t *testing.T) {
	// The first eight digits of what sha256sum prints for the selector.
	for selector, want := range map[string]string{
		"":                              "kustomize-controller-leader-election",
		"sharding.fluxcd.io/key=shard1": "kustomize-controller-leader-election-73fdc1be",
		"!sharding.fluxcd.io/key":       "kustomize-controller-leader-election-42da7484",
	} {
		if got := leaseName("kustomize-controller", selector); got != want {
			t.Errorf("lease of selector %q = %s, want %s", selector, got, want)
		}
	}
}

// cacheOf returns the cache options of a process with these flags.
func cacheOf(t *testing.T, namespace string, args ...string) (cache.Options, error) {
	t.Helper()
	o, _, err := parse(t, false, nil, args...)
	if err != nil {
		t.Fatal(err)
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, sourcev1.AddToScheme, kustomizev1.AddToScheme, helmv2.AddToScheme, extensionsv1beta1.AddToScheme, imagev1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	p := &process{Options: o, namespace: namespace}
	if p.selector, err = labels.Parse(o.shared.watchConfigsSelector); err != nil {
		t.Fatal(err)
	}
	return p.cacheOptions(scheme)
}

// selectorOf returns the labels that the cache asks of objects of a type; empty: none.
func selectorOf(o cache.Options, like client.Object) string {
	for obj, by := range o.ByObject {
		if typeName(obj) == typeName(like) && by.Label != nil {
			return by.Label.String()
		}
	}
	return ""
}

func typeName(obj client.Object) string { return fmt.Sprintf("%T", obj) }

// What the cache holds: _common 12 the shard's objects of our own kinds, _common 13 those of one namespace, _common 46 and 51 only
// the ConfigMaps and Secrets that are labelled to be watched.
func TestCache(t *testing.T) {
	o, err := cacheOf(t, "flux-system", "--watch-label-selector=sharding.fluxcd.io/key=shard1", "--watch-all-namespaces=false")
	if err != nil {
		t.Fatal(err)
	}
	for _, own := range []client.Object{&sourcev1.GitRepository{}, &kustomizev1.Kustomization{}, &helmv2.HelmRelease{}} {
		if got := selectorOf(o, own); got != "sharding.fluxcd.io/key=shard1" {
			t.Errorf("%s: selector %q (_common 12)", typeName(own), got)
		}
	}
	for _, config := range []client.Object{&corev1.ConfigMap{}, &corev1.Secret{}} {
		if got := selectorOf(o, config); got != "reconcile.fluxcd.io/watch=Enabled" {
			t.Errorf("%s: selector %q (_common 46, 51)", typeName(config), got)
		}
	}
	var namespaces []string
	for name := range o.DefaultNamespaces {
		namespaces = append(namespaces, name)
	}
	if !slices.Equal(namespaces, []string{"flux-system"}) {
		t.Errorf("namespaces = %v (_common 13)", namespaces)
	}
	if o, err = cacheOf(t, ""); err != nil || len(o.DefaultNamespaces) != 0 || selectorOf(o, &kustomizev1.Kustomization{}) != "" {
		t.Errorf("without flags the cache is restricted: %+v (%v)", o, err)
	}
	if _, err := cacheOf(t, "", "--watch-all-namespaces=false"); err == nil || !strings.Contains(err.Error(), "RUNTIME_NAMESPACE") {
		t.Errorf("one namespace without a name: error = %v (_common 13)", err)
	}
}

// wire.md 18b: the lines that `flux logs` reads.
func TestLogLines(t *testing.T) {
	var out bytes.Buffer
	log, err := newLogger(&out, "debug", "json")
	if err != nil {
		t.Fatal(err)
	}
	named := log.WithName("kustomize-controller").WithValues("controller", "kustomization", "namespace", "apps", "name", "app")
	named.Info("hello", "revision", "main@sha1:1")
	named.V(1).Info("details")
	named.V(2).Info("too much")
	named.Error(errors.New("boom"), "Reconciliation failed")
	var got []map[string]any
	for line := range strings.Lines(out.String()) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		if ts, _ := entry["ts"].(string); !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}(Z|[+-]\d\d:\d\d)$`).MatchString(ts) {
			t.Errorf("ts = %q", ts)
		}
		delete(entry, "ts")
		got = append(got, entry)
	}
	line := func(level, msg string, more ...string) map[string]any {
		entry := map[string]any{
			"level": level, "msg": msg, "logger": "kustomize-controller", "controller": "kustomization", "namespace": "apps", "name": "app",
		}
		for i := 0; i < len(more); i += 2 {
			entry[more[i]] = more[i+1]
		}
		return entry
	}
	want := []map[string]any{
		line("info", "hello", "revision", "main@sha1:1"), line("debug", "details"), line("error", "Reconciliation failed", "error", "boom"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	for _, bad := range [][2]string{{"loud", "json"}, {"info", "xml"}} {
		if _, err := newLogger(&out, bad[0], bad[1]); err == nil {
			t.Errorf("level %s, encoding %s: no error", bad[0], bad[1])
		}
	}
}

// reliability 061: profiles show memory, so they answer on this machine only (wire.md 11 has them open to the cluster).
func TestProfilesOnLoopbackOnly(t *testing.T) {
	handlers := debugHandlers()
	if len(handlers) != 5 {
		t.Errorf("%d profile handlers, want the 5 of wire.md 11", len(handlers))
	}
	h := handlers["/debug/pprof/cmdline"]
	for from, want := range map[string]int{
		"127.0.0.1:1234": http.StatusOK, "[::1]:1234": http.StatusOK, "[::ffff:127.0.0.1]:1": http.StatusOK,
		"10.0.0.7:1234": http.StatusNotFound, "[fd00::7]:1234": http.StatusNotFound, "nonsense": http.StatusNotFound,
	} {
		r := httptest.NewRequest(http.MethodGet, "/debug/pprof/cmdline", nil)
		r.RemoteAddr = from
		// Who asks is told by the connection, never by what the request claims.
		r.Header.Set("X-Forwarded-For", "127.0.0.1")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("from %s: %d, want %d", from, w.Code, want)
		}
	}
}

// A process that only waits for its lease is ready; one whose kinds are not installed is not, and says so.
func TestReadiness(t *testing.T) {
	o, _, err := parse(t, false, []string{"source-controller", "kustomize-controller"})
	if err != nil {
		t.Fatal(err)
	}
	r := newReadiness(o.chosen)
	if err := r.check(nil); err == nil {
		t.Error("ready before anything has started")
	}
	if all := r.set("source-controller", ""); all {
		t.Error("one of two is not all")
	}
	r.set("kustomize-controller", "no such kind")
	if err := r.check(nil); err == nil || !strings.Contains(err.Error(), "kustomize-controller: no such kind") {
		t.Errorf("error = %v", err)
	}
	r.set("kustomize-controller", "waiting for the lease")
	if err := r.check(nil); err != nil {
		t.Error(err)
	}
	if all := r.set("kustomize-controller", ""); !all {
		t.Error("all work, and it says no")
	}
}
