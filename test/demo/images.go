package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// registryAddress is the host and port of the environment's registry.
func (d *demo) registryAddress(ctx context.Context) (string, error) {
	status, err := d.runFlux(ctx, "status")
	if err != nil {
		return "", err
	}
	found := regexp.MustCompile(`(?m)^Registry\s+(\S+)`).FindStringSubmatch(status)
	if found == nil {
		return "", errors.New("flux status does not tell the address of the registry")
	}
	return found[1], nil
}

// notify has a webhook told of a change.
func (d *demo) notify(ctx context.Context) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	told := make(chan string, 100)
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var event struct {
			Object  struct{ Kind, Name string } `json:"involvedObject"`
			Message string                      `json:"message"`
		}
		if body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20)); err == nil && json.Unmarshal(body, &event) == nil {
			told <- fmt.Sprintf("%s/%s: %s", event.Object.Kind, event.Object.Name, event.Message)
		}
	})}
	go func() { _ = server.Serve(listener) }()
	defer server.Close()
	if _, err := d.runFlux(ctx, "create", "alert-provider", "hook", "--type", "generic", "--address", "http://"+listener.Addr().String()); err != nil {
		return err
	}
	if _, err := d.runFlux(ctx, "create", "alert", "hook", "--provider-ref", "hook", "--event-source", "Kustomization/*"); err != nil {
		return err
	}
	manifest := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: morning, namespace: demo}\ndata: {text: Good morning}\n"
	if err := os.WriteFile(filepath.Join(d.clone, "apps", "morning.yaml"), []byte(manifest), 0o644); err != nil {
		return err
	}
	if err := d.push(ctx, "Greet in the morning"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		select {
		case line := <-told:
			d.say("# the webhook was told: %s", strings.ReplaceAll(line, "\n", "; "))
			if strings.HasPrefix(line, "Kustomization/flux-system: ") && strings.Contains(line, "ConfigMap/demo/morning created") {
				return nil
			}
		case <-ctx.Done():
			return errors.New("the webhook was told nothing of the change")
		}
	}
}

// images has a tag that is pushed to a registry become a commit, and the commit a rollout.
func (d *demo) images(ctx context.Context) error {
	host, err := d.registryAddress(ctx)
	if err != nil {
		return err
	}
	image := host + "/demo/web"
	offer := func(tag string) error {
		// Whatever has a tag will do: the environment does not run images.
		_, err := d.runFlux(ctx, "push", "artifact", "oci://"+image+":"+tag, "--path", filepath.Join(d.clone, "apps"), "--source", "demo", "--revision", tag)
		return err
	}
	if err := offer("1.0.0"); err != nil {
		return err
	}
	if err := d.edit(deploymentFile, "image: nginx:1.29", `image: `+image+`:1.0.0 # {"$imagepolicy": "flux-system:web"}`); err != nil {
		return err
	}
	if err := d.push(ctx, "Run the image that the policy chooses"); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"create", "image", "repository", "web", "--image", image, "--interval", "1h"},
		{"create", "image", "policy", "web", "--image-ref", "web", "--select-semver", ">=1.0.0"},
		{"create", "image", "update", "web", "--git-repo-ref", "flux-system", "--author-name", "flux", "--author-email", "flux@example.com", "--interval", "1h"},
	} {
		if _, err := d.runFlux(ctx, args...); err != nil {
			return err
		}
	}
	if err := offer("1.1.0"); err != nil {
		return err
	}
	if _, err := d.runFlux(ctx, "reconcile", "image", "repository", "web"); err != nil {
		return err
	}
	policy := object{schema.GroupVersionResource{Group: "image.toolkit.fluxcd.io", Version: "v1", Resource: "imagepolicies"}, "flux-system", "web"}
	if err := d.until(ctx, policy, "the policy chooses the new tag", func(u *unstructured.Unstructured) bool {
		if u == nil {
			return false
		}
		tag, _, _ := unstructured.NestedString(u.Object, "status", "latestRef", "tag")
		return tag == "1.1.0"
	}); err != nil {
		return err
	}
	if err := d.until(ctx, deployment(), "the Deployment runs the new tag", runsImage(image+":1.1.0")); err != nil {
		return err
	}
	if err := d.runGit(ctx, "pull", "--quiet", "--ff-only"); err != nil {
		return err
	}
	if err := d.runGit(ctx, "--no-pager", "log", "-1", "--stat"); err != nil {
		return err
	}
	content, err := os.ReadFile(filepath.Join(d.clone, filepath.FromSlash(deploymentFile)))
	if err != nil {
		return err
	}
	if want := `image: ` + image + `:1.1.0 # {"$imagepolicy": "flux-system:web"}`; !strings.Contains(string(content), want) {
		return fmt.Errorf("%s does not hold %s", deploymentFile, want)
	}
	_, err = d.runFlux(ctx, "get", "images", "all")
	return err
}

// runsImage reports whether a Deployment has rolled out an image.
func runsImage(image string) func(*unstructured.Unstructured) bool {
	return func(u *unstructured.Unstructured) bool {
		if u == nil {
			return false
		}
		containers, _, _ := unstructured.NestedSlice(u.Object, "spec", "template", "spec", "containers")
		if len(containers) == 0 {
			return false
		}
		container, _ := containers[0].(map[string]any)
		want := number(u, "spec", "replicas")
		return container["image"] == image && number(u, "status", "observedGeneration") == u.GetGeneration() &&
			number(u, "status", "updatedReplicas") == want && number(u, "status", "availableReplicas") == want
	}
}
