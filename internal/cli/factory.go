// Package cli is the command line: it crosses the generic verbs with the kinds once, and turns results into 2.9's
// words, tables and exit codes.
package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"

	"github.com/seed-79636ae9/flux/internal/app"
	"github.com/seed-79636ae9/flux/internal/kind"
	"github.com/seed-79636ae9/flux/internal/manifests"
	"github.com/seed-79636ae9/flux/internal/ops"
	"github.com/seed-79636ae9/flux/toolkit/auth"
)

// DefaultNamespace is where the controllers live unless told otherwise.
const DefaultNamespace = "flux-system"

// Config is what a program puts into its command line.
type Config struct {
	// Program is the name the user typed, "flux" or "kubectl-flux".
	Program string
	// Version is the version of this build.
	Version string
	Streams Streams
	// Kinds in the order of `flux get all`.
	Kinds kind.Set
	// Components that this build can install.
	Components []manifests.Component
	Clock      clock.WithTicker
	// Getenv reads the environment.
	Getenv func(string) string
	// LogSources are asked in turn for a source of controller logs before the pods of the cluster are read.
	LogSources []LogSourceFunc
	// Extra commands, such as run and up.
	Extra []func(*Factory) *cobra.Command
}

// Factory gives commands what they need, built when first asked for: `flux version --client` must not pay for a
// connection.
type Factory struct {
	Config
	kube *genericclioptions.ConfigFlags

	timeout       time.Duration
	verbose       bool
	followContext bool
	qps           float32
	burst         int
	namespace     string
	// home is where the controllers live unless told otherwise.
	home string
}

func newFactory(c Config) *Factory {
	f := &Factory{Config: c}
	f.home = f.defaultNamespace()
	f.kube = genericclioptions.NewConfigFlags(true)
	f.kube.Timeout, f.kube.ProxyURL, f.kube.Namespace = nil, nil, nil
	f.kube.WithWrapConfigFn(func(c *rest.Config) *rest.Config {
		c.QPS, c.Burst = f.qps, f.burst
		c.UserAgent = "flux/" + f.Version
		return c
	})
	return f
}

// addFlags binds the flags every command has.
func (f *Factory) addFlags(root *pflag.FlagSet) {
	kube := pflag.NewFlagSet("kube", pflag.ContinueOnError)
	f.kube.AddFlags(kube)
	// 2.9 gives -s to --silent.
	kube.Lookup("server").Shorthand = ""
	// Written as a variable, so that help and the reference read the same on every machine.
	kube.Lookup("cache-dir").DefValue = "$HOME/.kube/cache"
	root.AddFlagSet(kube)

	root.StringVarP(&f.namespace, "namespace", "n", f.home, "If present, the namespace scope for this CLI request")
	root.BoolVar(&f.followContext, "ns-follows-kube-context", false,
		"When true, default namespace will match the kubeconfig context namespace. Overrides FLUX_SYSTEM_NAMESPACE. Defaults to the value of FLUX_NS_FOLLOWS_KUBE_CONTEXT")
	root.DurationVar(&f.timeout, "timeout", 5*time.Minute, "timeout for this operation")
	root.BoolVar(&f.verbose, "verbose", false, "print generated objects")
	root.Float32Var(&f.qps, "kube-api-qps", 50, "The maximum queries-per-second of requests sent to the Kubernetes API.")
	root.IntVar(&f.burst, "kube-api-burst", 300, "The maximum burst queries-per-second of requests sent to the Kubernetes API.")
}

// defaultNamespace is FLUX_SYSTEM_NAMESPACE where that is a namespace name, else flux-system (cli 3, wire 16).
func (f *Factory) defaultNamespace() string {
	ns := f.Getenv("FLUX_SYSTEM_NAMESPACE")
	if ns == "" {
		return DefaultNamespace
	}
	if errs := validation.IsDNS1123Label(ns); len(errs) > 0 {
		f.Warnf("ignoring FLUX_SYSTEM_NAMESPACE: '%s' is not a namespace name", ns)
		return DefaultNamespace
	}
	return ns
}

// resolve settles the namespace once the flags are known (cli 3).
func (f *Factory) resolve(flags *pflag.FlagSet) error {
	f.useEnvironment()
	follow := f.followContext
	if !flags.Changed("ns-follows-kube-context") && strings.EqualFold(f.Getenv("FLUX_NS_FOLLOWS_KUBE_CONTEXT"), "true") {
		follow = true
	}
	if follow && !flags.Changed("namespace") {
		ns, _, err := f.kube.ToRawKubeConfigLoader().Namespace()
		if err != nil {
			return fmt.Errorf("read the namespace of the kubeconfig context: %w", err)
		}
		f.namespace = ns
	}
	if errs := validation.IsDNS1123Label(f.namespace); len(errs) > 0 {
		return &usageError{fmt.Errorf("namespace '%s' is not valid: use up to 63 lower-case letters, digits and '-'", f.namespace)}
	}
	if f.timeout <= 0 {
		return &usageError{errors.New("--timeout must be greater than zero")}
	}
	return nil
}

// Namespace is the namespace the command acts in.
func (f *Factory) Namespace() string { return f.namespace }

// Timeout bounds the command.
func (f *Factory) Timeout() time.Duration { return f.timeout }

// RESTConfig is the connection of the kubeconfig flags.
func (f *Factory) RESTConfig() (*rest.Config, error) {
	c, err := f.kube.ToRESTConfig()
	if err != nil {
		return nil, &connectError{err}
	}
	return c, nil
}

// cluster names the cluster the way its people do: by the context of the kubeconfig, and by its address.
func (f *Factory) cluster() (string, error) {
	c, err := f.RESTConfig()
	if err != nil {
		return "", err
	}
	raw, err := f.kube.ToRawKubeConfigLoader().RawConfig()
	if err != nil {
		return "", &connectError{err}
	}
	name := raw.CurrentContext
	if *f.kube.Context != "" {
		name = *f.kube.Context
	}
	// These flags lead to another cluster than that of the context.
	if name == "" || *f.kube.APIServer != "" || *f.kube.ClusterName != "" {
		return c.Host, nil
	}
	return fmt.Sprintf("%s (%s)", name, c.Host), nil
}

// Ops is a client for objects.
func (f *Factory) Ops() (*ops.Client, error) {
	c, err := f.RESTConfig()
	if err != nil {
		return nil, err
	}
	d, err := dynamic.NewForConfig(c)
	if err != nil {
		return nil, &connectError{err}
	}
	return &ops.Client{Dynamic: d, Clock: f.Clock}, nil
}

// authenticator signs in to clouds with the identity of whoever runs the command.
func (f *Factory) authenticator() (*auth.Authenticator, error) {
	return auth.New(auth.Options{Clouds: app.Clouds()})
}

// Mapper maps kinds of all API groups to resources, by discovery.
func (f *Factory) Mapper() (meta.RESTMapper, error) {
	m, err := f.kube.ToRESTMapper()
	if err != nil {
		return nil, &connectError{err}
	}
	return m, nil
}

// bounded runs a command's work within --timeout (cli 4).
func (f *Factory) bounded(ctx context.Context, run func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	return run(ctx)
}

// System is the Config of a real process, without kinds and components.
func System(args0 string) Config {
	return Config{
		Program: program(args0),
		Version: BuildVersion(),
		Streams: systemStreams(),
		Clock:   clock.RealClock{},
		Getenv:  os.Getenv,
	}
}
