package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/rest"

	"github.com/seed-79636ae9/flux/internal/kind"
	"github.com/seed-79636ae9/flux/internal/manifests"
	"github.com/seed-79636ae9/flux/internal/ops"
)

// minKubernetes is the oldest supported API server (cli 59).
const minKubernetes = ">=1.33.0-0"

// checkOptions are the flags of `flux check`.
type checkOptions struct {
	*Factory
	pre          bool
	components   []string
	extra        []string
	pollInterval time.Duration
	// named says that components were asked for, so that each must be there.
	named bool
}

// errCheck is the error of a check whose findings have been printed.
var errCheck = errors.New("checks failed")

func newCheck(f *Factory) *cobra.Command {
	o := &checkOptions{Factory: f}
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check requirements and installation",
		Long: `The check command will perform a series of checks to validate that
the local environment is configured correctly and if the installed components are healthy.`,
		Example: `  # Run pre-installation checks
  flux check --pre

  # Run installation checks
  flux check`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.named = cmd.Flags().Changed("components") || cmd.Flags().Changed("components-extra")
			return f.bounded(cmd.Context(), o.run)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&o.pre, "pre", false, "only run pre-installation checks")
	flags.StringSliceVar(&o.components, "components", manifests.DefaultNames(), "list of components, accepts comma-separated values")
	flags.StringSliceVar(&o.extra, "components-extra", nil, "list of components in addition to those supplied or defaulted, accepts values such as 'image-reflector-controller,image-automation-controller'")
	flags.DurationVar(&o.pollInterval, "poll-interval", 5*time.Second, "how often the health checker should poll the cluster for the latest state of the resources")
	return cmd
}

// run prints what it finds, and fails when any check does (cli 2, 59).
func (o *checkOptions) run(ctx context.Context) error {
	config, err := o.RESTConfig()
	if err != nil {
		return err
	}
	o.Actionf("checking prerequisites")
	ok, err := o.kubernetes(ctx, config)
	if err != nil {
		return err
	}
	if o.pre {
		if !ok {
			return errCheck
		}
		o.Successf("prerequisites checks passed")
		return nil
	}
	client, err := o.Ops()
	if err != nil {
		return err
	}
	o.Actionf("checking version in cluster")
	definitions, _, err := client.List(ctx, ops.Definition(), "", ops.ListOptions{LabelSelector: partOf})
	if err != nil {
		return err
	}
	o.distribution(definitions)
	o.Actionf("checking controllers")
	healthy, err := o.controllers(ctx, client)
	if err != nil {
		return err
	}
	o.Actionf("checking crds")
	served := o.definitions(definitions)
	if !ok || !healthy || !served {
		return hinted(errCheck, "flux install")
	}
	o.Successf("all checks passed")
	return nil
}

// kubernetes asks the server for its version.
func (o *checkOptions) kubernetes(ctx context.Context, config *rest.Config) (bool, error) {
	v, err := serverVersion(ctx, config)
	if err != nil {
		return false, err
	}
	have, err := semver.NewVersion(v.GitVersion)
	if err != nil {
		o.Failf("Kubernetes version '%s' cannot be read", v.GitVersion)
		return false, nil
	}
	constraint, err := semver.NewConstraint(minKubernetes)
	if err != nil {
		return false, fmt.Errorf("read the supported Kubernetes versions: %w", err)
	}
	if !constraint.Check(have) {
		o.Failf("Kubernetes version %s does not match %s", v.GitVersion, minKubernetes)
		return false, nil
	}
	o.Successf("Kubernetes %s %s", have, minKubernetes)
	return true, nil
}

// serverVersion reads /version.
func serverVersion(ctx context.Context, config *rest.Config) (*version.Info, error) {
	client, err := rest.UnversionedRESTClientFor(unversioned(config))
	if err != nil {
		return nil, &connectError{err}
	}
	data, err := client.Get().AbsPath("/version").Do(ctx).Raw()
	if err != nil {
		return nil, fmt.Errorf("read the version of the cluster: %w", err)
	}
	info := &version.Info{}
	if err := json.Unmarshal(data, info); err != nil {
		return nil, fmt.Errorf("read the version of the cluster: %w", err)
	}
	return info, nil
}

// distribution tells which version the cluster runs and whether it installs itself from Git.
func (o *checkOptions) distribution(definitions []kind.Object) {
	if len(definitions) == 0 {
		o.Failf("flux is not installed: no CRDs labelled %s", partOf)
		return
	}
	installed := distributionOf(definitions)
	o.Successf("distribution: flux-%s", installed)
	bootstrapped := slices.ContainsFunc(definitions, func(d kind.Object) bool {
		return d.GetLabels()["kustomize.toolkit.fluxcd.io/namespace"] != ""
	})
	o.Successf("bootstrapped: %t", bootstrapped)
	have, err := semver.NewVersion(installed)
	mine, err2 := semver.NewVersion(o.Version)
	if err == nil && err2 == nil && mine.LessThan(have) {
		o.Warnf("flux %s <%s (the cluster runs a newer version than this CLI)", o.Version, installed)
	}
}

// distributionOf is the version the installed CRDs are labelled with.
func distributionOf(definitions []kind.Object) string {
	for _, d := range definitions {
		if v := d.GetLabels()["app.kubernetes.io/version"]; v != "" {
			return v
		}
	}
	return "unknown"
}

// controllers waits for each Deployment of the installation and lists its images.
func (o *checkOptions) controllers(ctx context.Context, client *ops.Client) (bool, error) {
	deployments, _, err := client.List(ctx, ops.Deployment(), o.Namespace(), ops.ListOptions{LabelSelector: partOf})
	if err != nil {
		return false, err
	}
	if len(deployments) == 0 {
		o.Failf("no controllers found in the '%s' namespace with the label selector '%s'", o.Namespace(), partOf)
		return false, nil
	}
	healthy := true
	var running []string
	for _, d := range deployments {
		running = append(running, d.GetName())
		running = append(running, runArgs(d)...)
		missing, err := o.rollout(ctx, client, d)
		if missing != "" {
			o.Failf("%s: %s", d.GetName(), missing)
			healthy = false
		} else if err != nil {
			return false, err
		} else {
			o.Successf("%s: deployment ready", d.GetName())
		}
		for _, image := range images(d) {
			o.Actionf("%s", image)
		}
	}
	if o.named {
		for _, name := range slices.Concat(o.components, o.extra) {
			if !slices.Contains(running, name) {
				o.Failf("%s: not installed", name)
				healthy = false
			}
		}
	}
	return healthy, nil
}

// rollout looks at a Deployment every poll interval until it is complete or the time is up; then it tells what is
// missing.
func (o *checkOptions) rollout(ctx context.Context, client *ops.Client, d kind.Object) (string, error) {
	ticker := o.Clock.NewTicker(max(o.pollInterval, 100*time.Millisecond))
	defer ticker.Stop()
	for {
		done, missing, err := ops.Rollout(d)
		var failed *ops.FailedError
		if errors.As(err, &failed) {
			return failed.Message, nil
		}
		if done || err != nil {
			return "", err
		}
		select {
		case <-ctx.Done():
			return "deployment not ready: " + missing, nil
		case <-ticker.C():
		}
		next, err := client.Get(ctx, ops.Deployment(), d.GetNamespace(), d.GetName())
		if err == nil {
			d = next
		} else if ctx.Err() == nil {
			return "", err
		}
	}
}

func containers(d kind.Object) []map[string]any {
	list, _, _ := unstructured.NestedSlice(d.Object, "spec", "template", "spec", "containers")
	var out []map[string]any
	for _, c := range list {
		if m, ok := c.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

func images(d kind.Object) []string {
	var out []string
	for _, c := range containers(d) {
		if image, ok := c["image"].(string); ok {
			out = append(out, image)
		}
	}
	return out
}

// runArgs are the components that the one Deployment of the profile `single` runs.
func runArgs(d kind.Object) []string {
	var out []string
	for _, c := range containers(d) {
		args, _, _ := unstructured.NestedStringSlice(c, "args")
		for _, a := range args {
			if !strings.HasPrefix(a, "-") {
				out = append(out, a)
			}
		}
	}
	return out
}

// definitions lists the CRDs with their last stored version.
func (o *checkOptions) definitions(definitions []kind.Object) bool {
	ok := len(definitions) > 0
	if !ok {
		o.Failf("no crds found with the label selector '%s'", partOf)
	}
	for _, d := range definitions {
		versions, _, _ := unstructured.NestedStringSlice(d.Object, "status", "storedVersions")
		if len(versions) == 0 {
			o.Failf("no stored versions for %s", d.GetName())
			ok = false
			continue
		}
		o.Successf("%s", d.GetName()+"/"+versions[len(versions)-1])
	}
	return ok
}
