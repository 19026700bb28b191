// Package releases reads and makes releases with Helm's own code, as `helm list`, `helm history`, `helm get` and `helm install` do. It
// shares no code with the controller that it judges.
package releases

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/cli"
	"helm.sh/helm/v4/pkg/kube"
	ri "helm.sh/helm/v4/pkg/release"
	release "helm.sh/helm/v4/pkg/release/v1"
	"helm.sh/helm/v4/pkg/storage/driver"

	"github.com/seed-79636ae9/flux/internal/testkit/charts"
)

// Release is a release as Helm shows it.
type Release struct {
	Name, Namespace string
	Version         int
	// Status is one of those of Helm, "deployed" say.
	Status      string
	Description string
	// Chart is the name of the chart and, after a dash, its version.
	Chart    string
	Manifest string
	// Hooks are the manifests of the hooks.
	Hooks  []string
	Values map[string]any
	Notes  string
}

// Helm is the Helm of one namespace.
type Helm struct{ config *action.Configuration }

// New makes a Helm that reads and writes the releases of a namespace with the rights of a kubeconfig file.
func New(kubeconfig, namespace string) (*Helm, error) {
	settings := cli.New()
	settings.KubeConfig = kubeconfig
	settings.SetNamespace(namespace)
	config := action.NewConfiguration(action.ConfigurationSetLogger(slog.DiscardHandler))
	if err := config.Init(settings.RESTClientGetter(), namespace, "secret"); err != nil {
		return nil, fmt.Errorf("starting Helm in namespace %s: %w", namespace, err)
	}
	return &Helm{config: config}, nil
}

// List is `helm list --all`: the newest version of each release.
func (h *Helm) List() ([]Release, error) {
	list := action.NewList(h.config)
	list.All, list.StateMask = true, action.ListAll
	found, err := list.Run()
	return shown(found, err)
}

// History is `helm history`: all versions of a release, the newest first; none when there is no such release.
func (h *Helm) History(name string) ([]Release, error) {
	found, err := action.NewHistory(h.config).Run(name)
	if errors.Is(err, driver.ErrReleaseNotFound) {
		return nil, nil
	}
	all, err := shown(found, err)
	slices.SortFunc(all, func(a, b Release) int { return b.Version - a.Version })
	return all, err
}

// Get is `helm get all`: the newest version of a release.
func (h *Helm) Get(name string) (Release, error) {
	found, err := action.NewGet(h.config).Run(name)
	if err != nil {
		return Release{}, err
	}
	all, err := shown([]ri.Releaser{found}, nil)
	if err != nil {
		return Release{}, err
	}
	return all[0], nil
}

// Install is `helm install`, without waiting.
func (h *Helm) Install(name, namespace string, c charts.Chart, values map[string]any) error {
	archive, err := c.Archive()
	if err != nil {
		return err
	}
	loaded, err := loader.LoadArchive(bytes.NewReader(archive))
	if err != nil {
		return fmt.Errorf("loading %s: %w", c.Name, err)
	}
	install := action.NewInstall(h.config)
	install.ReleaseName, install.Namespace, install.ServerSideApply = name, namespace, true
	install.WaitStrategy = kube.HookOnlyStrategy
	if _, err := install.Run(loaded, maps.Clone(values)); err != nil {
		return fmt.Errorf("installing %s: %w", name, err)
	}
	return nil
}

func shown(found []ri.Releaser, err error) ([]Release, error) {
	if err != nil {
		return nil, err
	}
	out := make([]Release, 0, len(found))
	for _, f := range found {
		r, ok := f.(*release.Release)
		if !ok {
			return nil, fmt.Errorf("a release is a %T", f)
		}
		one := Release{
			Name: r.Name, Namespace: r.Namespace, Version: r.Version, Status: string(r.Info.Status), Description: r.Info.Description,
			Manifest: r.Manifest, Values: r.Config, Notes: r.Info.Notes,
		}
		if r.Chart != nil && r.Chart.Metadata != nil {
			one.Chart = r.Chart.Metadata.Name + "-" + r.Chart.Metadata.Version
		}
		for _, hook := range r.Hooks {
			one.Hooks = append(one.Hooks, hook.Manifest)
		}
		out = append(out, one)
	}
	return out, nil
}
