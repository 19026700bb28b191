package app

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/rest"

	"github.com/seed-79636ae9/flux/internal/component"
	"github.com/seed-79636ae9/flux/toolkit/auth"
	"github.com/seed-79636ae9/flux/toolkit/loop"
)

// colliding are the flags of single components that more than one upstream controller has with a meaning of its
// own. In a process of several components they carry the component's short name: --kustomize-concurrent.
func colliding() []string {
	return []string{"concurrent", "storage-path", "storage-addr", "storage-adv-addr", "events-addr"}
}

// Options is a process to run.
type Options struct {
	// Version of the build, for the user agent.
	Version string
	// Config reaches the API server; nil: as the flags and the environment say.
	Config *rest.Config
	// LogTo is where log lines go; nil: standard error.
	LogTo io.Writer
	// Started is called once every component works; may be nil.
	Started func()

	chosen []chosen
	shared shared
	flags  *pflag.FlagSet
}

// chosen is a component of this process with its flags.
type chosen struct {
	component.Component
	instance   component.Instance
	concurrent *int
}

// shared are the flags that all components of a process have in common (wire.md 14).
type shared struct {
	kubeconfig              string
	logLevel, logEncoding   string
	metricsAddr, healthAddr string
	eventsAddr              string
	leaderElection          bool
	leaseDuration           time.Duration
	renewDeadline           time.Duration
	retryPeriod             time.Duration
	releaseOnCancel         bool
	watchAllNamespaces      bool
	watchLabelSelector      string
	watchConfigsSelector    string
	featureGates            string
	minRetryDelay           time.Duration
	maxRetryDelay           time.Duration
	jitter                  int
	requeueDependency       time.Duration
	httpRetry               int
	maxParked               int
	noCrossNamespaceRefs    bool
	defaultServiceAccount   string
	gracefulShutdown        time.Duration
	treeCacheBytes          int64
	qps                     float32
	burst                   int
	tokenCacheSize          int
	tokenCacheDuration      time.Duration
}

// New prepares the options of a process of the named components, none meaning all, and binds their flags. With
// plain, the one component's flags have their upstream names.
func New(names []string, plain bool, fs *pflag.FlagSet) (*Options, error) {
	o := &Options{flags: fs}
	known := Components()
	for _, name := range names {
		if !slices.ContainsFunc(known, func(c component.Component) bool { return c.Name == name }) {
			return nil, fmt.Errorf("unknown component '%s': this version has %s", name, strings.Join(Names(), ", "))
		}
	}
	o.shared.bind(fs)
	for _, c := range known {
		if len(names) > 0 && !slices.Contains(names, c.Name) {
			continue
		}
		own := pflag.NewFlagSet(c.Name, pflag.ContinueOnError)
		chosen := chosen{Component: c, instance: c.New(), concurrent: own.Int("concurrent", c.Concurrent, "The number of objects of a kind reconciled at once.")}
		chosen.instance.BindFlags(own)
		own.VisitAll(func(f *pflag.Flag) {
			if !plain && slices.Contains(colliding(), f.Name) {
				f.Name = c.Short + "-" + f.Name
			}
			if other := fs.Lookup(f.Name); other != nil && slices.Contains(colliding(), f.Name) {
				// Upstream's program has no flag of the other meaning.
				*other = *f
				return
			} else if other != nil {
				// Components that mean the same by a flag hear of it together.
				other.Value = both{other.Value, f.Value}
				return
			}
			fs.AddFlag(f)
		})
		if plain && c.RequeueDependency > 0 {
			fs.Lookup("requeue-dependency").DefValue = c.RequeueDependency.String()
		}
		// Components stop together, so the one that needs longest decides.
		if c.GracefulShutdown > o.shared.gracefulShutdown {
			o.shared.gracefulShutdown = c.GracefulShutdown
			fs.Lookup("graceful-shutdown-timeout").DefValue = c.GracefulShutdown.String()
		}
		o.chosen = append(o.chosen, chosen)
	}
	return o, nil
}

// both are the values of one flag in two components; they start with the same default.
type both struct {
	pflag.Value
	other pflag.Value
}

// Set implements pflag.Value.
func (b both) Set(text string) error { return errors.Join(b.Value.Set(text), b.other.Set(text)) }

// requeueDependency is --requeue-dependency, or the default of the component where it was not given.
func (o *Options) requeueDependency(c chosen) time.Duration {
	if c.RequeueDependency > 0 && !o.flags.Changed("requeue-dependency") {
		return c.RequeueDependency
	}
	return o.shared.requeueDependency
}

// Names returns the names of all components.
func Names() []string {
	var names []string
	for _, c := range Components() {
		names = append(names, c.Name)
	}
	return names
}

func (s *shared) bind(fs *pflag.FlagSet) {
	fs.StringVar(&s.kubeconfig, "kubeconfig", "", "The kubeconfig file; default: $KUBECONFIG, the cluster the process runs in, or ~/.kube/config.")
	fs.StringVar(&s.logLevel, "log-level", "info", "Log verbosity: trace, debug, info or error.")
	fs.StringVar(&s.logEncoding, "log-encoding", "json", "Log format: json or console.")
	fs.StringVar(&s.metricsAddr, "metrics-addr", fromEnv("METRICS_ADDR", ":8080"), "The address of the metrics endpoint; 0 turns it off.")
	fs.StringVar(&s.healthAddr, "health-addr", ":9440", "The address of the health endpoints; 0 turns them off.")
	fs.StringVar(&s.eventsAddr, "events-addr", os.Getenv("EVENTS_ADDR"), "The address events are posted to.")
	fs.BoolVar(&s.leaderElection, "enable-leader-election", false, "Hold the lease of each component, so that only one process works.")
	fs.BoolVar(&s.releaseOnCancel, "leader-election-release-on-cancel", true, "Give the leases back at shutdown.")
	fs.DurationVar(&s.leaseDuration, "leader-election-lease-duration", 35*time.Second, "How long a lease is valid without renewal.")
	fs.DurationVar(&s.renewDeadline, "leader-election-renew-deadline", 30*time.Second, "How long a holder tries to renew before it gives up.")
	fs.DurationVar(&s.retryPeriod, "leader-election-retry-period", 5*time.Second, "How often leases are renewed or asked for.")
	fs.BoolVar(&s.watchAllNamespaces, "watch-all-namespaces", true, "Watch all namespaces; false: only the one the process runs in.")
	fs.StringVar(&s.watchLabelSelector, "watch-label-selector", "", "Reconcile only objects with these labels.")
	fs.StringVar(&s.watchConfigsSelector, "watch-configs-label-selector", "reconcile.fluxcd.io/watch=Enabled", "ConfigMaps and Secrets with these labels wake what refers to them.")
	fs.StringVar(&s.featureGates, "feature-gates", "", "Comma separated gate=true|false.")
	fs.DurationVar(&s.minRetryDelay, "min-retry-delay", loop.DefaultMinRetryDelay, "The first pause after a failure.")
	fs.DurationVar(&s.maxRetryDelay, "max-retry-delay", loop.DefaultMaxRetryDelay, "The longest pause after a failure.")
	fs.IntVar(&s.jitter, "interval-jitter-percentage", loop.DefaultJitterPercent, "How far intervals are spread, in percent; 0 turns it off.")
	fs.DurationVar(&s.requeueDependency, "requeue-dependency", 30*time.Second, "How often an unmet dependency is looked at, should its event get lost.")
	fs.IntVar(&s.httpRetry, "http-retry", 9, "How often the download of an artifact is retried.")
	fs.IntVar(&s.maxParked, "max-parked", loop.DefaultMaxParked, "How many waits for health may be parked besides the work.")
	fs.BoolVar(&s.noCrossNamespaceRefs, "no-cross-namespace-refs", false, "Refuse references to other namespaces.")
	fs.StringVar(&s.defaultServiceAccount, "default-service-account", "", "The service account of objects that name none.")
	fs.DurationVar(&s.gracefulShutdown, "graceful-shutdown-timeout", 30*time.Second, "How long running work may take at shutdown.")
	fs.Int64Var(&s.treeCacheBytes, "artifact-cache-size", 256<<20, "How many bytes of unpacked artifacts are kept though nobody reads them.")
	fs.Float32Var(&s.qps, "kube-api-qps", 50, "Accepted; the API server's priority and fairness limits requests.")
	fs.IntVar(&s.burst, "kube-api-burst", 300, "Accepted; the API server's priority and fairness limits requests.")
	fs.IntVar(&s.tokenCacheSize, "token-cache-max-size", auth.DefaultCacheSize, "How many credentials of clouds and Git hosts are kept; 0: none.")
	fs.DurationVar(&s.tokenCacheDuration, "token-cache-max-duration", auth.DefaultCacheDuration, "How long a credential is kept at most; more than an hour means an hour.")
}

func fromEnv(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

// validate refuses what would only fail, or silently do nothing, later (wire.md 14, 15; _common 8).
func (o *Options) validate() error {
	if o.shared.jitter < 0 || o.shared.jitter >= 100 {
		return fmt.Errorf("--interval-jitter-percentage=%d: want 0 to 99", o.shared.jitter)
	}
	if _, err := labels.Parse(o.shared.watchLabelSelector); err != nil {
		return fmt.Errorf("--watch-label-selector: %w", err)
	}
	for _, c := range o.chosen {
		if *c.concurrent < 1 {
			return fmt.Errorf("the concurrency of %s is %d: want at least 1", c.Name, *c.concurrent)
		}
	}
	if o.shared.tokenCacheSize < 0 {
		return fmt.Errorf("--token-cache-max-size=%d: want at least 0", o.shared.tokenCacheSize)
	}
	gates, err := o.gates()
	if err != nil {
		return err
	}
	return o.validateIdentities(gates)
}

// objectLevelGate lets objects act as ServiceAccounts towards clouds (wire.md 15).
const objectLevelGate = "ObjectLevelWorkloadIdentity"

func objectLevel(gates map[string]map[string]bool) bool {
	for _, ofComponent := range gates {
		if ofComponent[objectLevelGate] {
			return true
		}
	}
	return false
}

// validateIdentities refuses default accounts that would have no effect (_common 48). For components that apply what users hand them,
// --default-service-account is somebody to impersonate, which takes no gate.
func (o *Options) validateIdentities(gates map[string]map[string]bool) (err error) {
	if objectLevel(gates) {
		return nil
	}
	impersonates := slices.ContainsFunc(o.chosen, func(c chosen) bool { return c.Applies })
	o.flags.VisitAll(func(f *pflag.Flag) {
		account := strings.HasPrefix(f.Name, "default-") && strings.HasSuffix(f.Name, "service-account")
		if account && f.Value.String() != "" && !(f.Name == "default-service-account" && impersonates) {
			err = fmt.Errorf("--%s=%s has no effect without a feature gate: set --feature-gates=%s=true too", f.Name, f.Value, objectLevelGate)
		}
	})
	return err
}

// gates returns the feature gates of each component. A gate none of them knows is an error.
func (o *Options) gates() (map[string]map[string]bool, error) {
	set := map[string]bool{}
	for _, entry := range strings.FieldsFunc(o.shared.featureGates, func(r rune) bool { return r == ',' }) {
		name, value, _ := strings.Cut(strings.TrimSpace(entry), "=")
		on, err := strconv.ParseBool(value)
		if err != nil {
			return nil, fmt.Errorf("--feature-gates: '%s': want %s=true or %s=false", entry, name, name)
		}
		set[name] = on
	}
	for _, c := range o.chosen {
		for to, gate := range c.Gates {
			present := slices.ContainsFunc(o.chosen, func(other chosen) bool { return other.Name == to })
			if _, given := set[gate]; present && !given {
				set[gate] = true
			}
		}
	}
	out := map[string]map[string]bool{}
	known := map[string]bool{}
	for _, c := range o.chosen {
		gates := map[string]bool{}
		for name, on := range c.FeatureGates {
			known[name] = true
			gates[name] = on
			if v, ok := set[name]; ok {
				gates[name] = v
			}
		}
		out[c.Name] = gates
	}
	for name := range set {
		if !known[name] {
			return nil, fmt.Errorf("--feature-gates: unknown gate '%s'", name)
		}
	}
	return out, nil
}
