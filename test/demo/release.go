package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

const (
	releaseFile = "apps/shop.yaml"
	chartFile   = "charts/shop/Chart.yaml"
	valuesFile  = "charts/shop/values.yaml"
)

// shopChart is a chart of one Deployment, which says after five seconds that its pods do not start.
func shopChart() map[string]string {
	return map[string]string{
		chartFile:  "apiVersion: v2\nname: shop\nversion: 1.0.0\n",
		valuesFile: "image: shop:1.0\n",
		"charts/shop/templates/deployment.yaml": `apiVersion: apps/v1
kind: Deployment
metadata:
  name: shop
spec:
  progressDeadlineSeconds: 5
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec:
      containers:
        - name: shop
          image: {{ .Values.image }}
`,
	}
}

func release() object {
	return object{schema.GroupVersionResource{Group: "helm.toolkit.fluxcd.io", Version: "v2", Resource: "helmreleases"}, "flux-system", "shop"}
}

func shop() object {
	return object{schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}, "demo", "shop"}
}

// releases releases a chart of the repository, upgrades it, and has an upgrade fail.
func (d *demo) releases(ctx context.Context) error {
	for file, content := range shopChart() {
		if err := d.write(file, content); err != nil {
			return err
		}
	}
	manifest, err := d.runFlux(ctx, "create", "helmrelease", "shop", "--source", "GitRepository/flux-system", "--chart", "./charts/shop",
		"--release-name", "shop", "--target-namespace", "demo", "--export")
	if err != nil {
		return err
	}
	d.say("# %s is that, and: what fails is rolled back", releaseFile)
	if err := d.write(releaseFile, manifest+"  upgrade: {remediation: {remediateLastFailure: true}}\n"); err != nil {
		return err
	}
	if err := d.push(ctx, "Release the shop"); err != nil {
		return err
	}
	if err := d.until(ctx, release(), "version 1.0.0 is installed", released("1.0.0")); err != nil {
		return err
	}
	if err := d.bump(ctx, "1.0.0", "1.1.0", "shop:1.0", "shop:1.1", "Upgrade the shop"); err != nil {
		return err
	}
	if err := d.until(ctx, release(), "version 1.1.0 has replaced it", released("1.1.0")); err != nil {
		return err
	}
	if _, err := d.runFlux(ctx, "get", "helmreleases"); err != nil {
		return err
	}
	return d.failedRelease(ctx)
}

// failedRelease upgrades to what does not start: the release says why, and is what it was before.
func (d *demo) failedRelease(ctx context.Context) error {
	if err := d.bump(ctx, "1.1.0", "1.2.0", "shop:1.1", "shop:1.2-fails", "Upgrade the shop to what does not start"); err != nil {
		return err
	}
	if err := d.until(ctx, release(), "the failed upgrade is rolled back", rolledBack("Deployment/demo/shop")); err != nil {
		return err
	}
	if err := d.until(ctx, shop(), "the Deployment runs what it ran before", runs("shop:1.1")); err != nil {
		return err
	}
	if _, err := d.runFlux(ctx, "get", "helmreleases"); err != nil {
		return err
	}
	events, err := d.runFlux(ctx, "events", "--for", "HelmRelease/shop")
	if err != nil {
		return err
	}
	for _, want := range []string{"InstallSucceeded", "UpgradeSucceeded", "UpgradeFailed", "RollbackSucceeded"} {
		if !strings.Contains(events, want) {
			return fmt.Errorf("flux events does not tell of %s", want)
		}
	}
	if strings.Contains(events, "RollbackFailed") {
		return errors.New("flux events tells that a rollback failed")
	}
	tree, err := d.runFlux(ctx, "tree", "helmrelease", "shop")
	if err != nil {
		return err
	}
	if !strings.Contains(tree, "Deployment/demo/shop") {
		return errors.New("flux tree does not show Deployment/demo/shop")
	}
	if err := d.runGit(ctx, "revert", "--no-edit", "HEAD"); err != nil {
		return err
	}
	if err := d.runGit(ctx, "push", "--quiet"); err != nil {
		return err
	}
	return d.until(ctx, release(), "the release is ready again", released("1.1.0"))
}

// bump pushes another version of the chart, with another image.
func (d *demo) bump(ctx context.Context, version, next, image, nextImage, message string) error {
	if err := d.edit(chartFile, version, next); err != nil {
		return err
	}
	if err := d.edit(valuesFile, image, nextImage); err != nil {
		return err
	}
	return d.push(ctx, message)
}

// write makes a file of the clone.
func (d *demo) write(file, content string) error {
	path := filepath.Join(d.clone, filepath.FromSlash(file))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(content), 0o644)
}

// released holds when the HelmRelease is ready with this version of the chart.
func released(version string) func(*unstructured.Unstructured) bool {
	return func(u *unstructured.Unstructured) bool { return ready(u) && newestVersion(u) == version }
}

// rolledBack holds when an upgrade has failed because of the object, which the HelmRelease says, and was undone.
func rolledBack(cause string) func(*unstructured.Unstructured) bool {
	return func(u *unstructured.Unstructured) bool {
		if u == nil {
			return false
		}
		status, message := readiness(u)
		remediated, _ := condition(u, "Remediated")
		return status == "False" && strings.Contains(message, cause) && remediated == "True"
	}
}

func newestVersion(u *unstructured.Unstructured) string {
	history, _, _ := unstructured.NestedSlice(u.Object, "status", "history")
	if len(history) == 0 {
		return ""
	}
	newest, _ := history[0].(map[string]any)
	version, _ := newest["chartVersion"].(string)
	return version
}

// runs holds when a Deployment runs this image, and is done with it.
func runs(image string) func(*unstructured.Unstructured) bool {
	return func(u *unstructured.Unstructured) bool {
		if !replicas(1)(u) {
			return false
		}
		containers, _, _ := unstructured.NestedSlice(u.Object, "spec", "template", "spec", "containers")
		for _, c := range containers {
			if c, ok := c.(map[string]any); ok && c["image"] == image {
				return true
			}
		}
		return false
	}
}
