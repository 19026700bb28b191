package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func settings() object {
	return object{schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}, "demo", "settings"}
}

func source(resource, name string) object {
	return object{schema.GroupVersionResource{Group: "source.toolkit.fluxcd.io", Version: "v1", Resource: resource}, "flux-system", name}
}

// registry packs files into the registry of the environment and has the cluster follow them there.
func (d *demo) registry(ctx context.Context) error {
	host, err := d.registryAddress(ctx)
	if err != nil {
		return err
	}
	url := "oci://" + host + "/demo/settings"
	push := func(greeting string) error {
		dir := filepath.Join(d.dir, "settings")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		manifest := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings, namespace: demo}\ndata: {greeting: " + greeting + "}\n"
		if err := os.WriteFile(filepath.Join(dir, "settings.yaml"), []byte(manifest), 0o644); err != nil {
			return err
		}
		_, err := d.runFlux(ctx, "push", "artifact", url+":latest", "--path", dir, "--source", "demo", "--revision", greeting)
		return err
	}
	says := func(greeting string) func(*unstructured.Unstructured) bool {
		return func(u *unstructured.Unstructured) bool {
			if u == nil {
				return false
			}
			is, _, _ := unstructured.NestedString(u.Object, "data", "greeting")
			return is == greeting
		}
	}
	if err := push("hello"); err != nil {
		return err
	}
	if _, err := d.runFlux(ctx, "create", "source", "oci", "settings", "--url", url, "--tag", "latest", "--insecure"); err != nil {
		return err
	}
	if _, err := d.runFlux(ctx, "create", "kustomization", "settings", "--source", "OCIRepository/settings", "--path", "./", "--prune"); err != nil {
		return err
	}
	if err := d.until(ctx, settings(), "the ConfigMap is there", says("hello")); err != nil {
		return err
	}
	if err := push("goodbye"); err != nil {
		return err
	}
	return d.until(ctx, settings(), "the new artifact is applied", says("goodbye"))
}

// charts has a chart built from the repository, and another one followed in a Helm repository.
func (d *demo) charts(ctx context.Context) error {
	chart := filepath.Join(d.clone, "charts", "hello")
	for file, content := range helloChart("0.1.0") {
		file = filepath.Join(chart, filepath.FromSlash(file))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			return err
		}
	}
	if err := d.push(ctx, "Add a chart"); err != nil {
		return err
	}
	if _, err := d.runFlux(ctx, "create", "source", "chart", "hello", "--source", "GitRepository/flux-system", "--chart", "./charts/hello"); err != nil {
		return err
	}
	if err := d.until(ctx, source("helmcharts", "hello"), "the chart is packaged", revisionIs("0.1.0")); err != nil {
		return err
	}

	repo, err := serveCharts()
	if err != nil {
		return err
	}
	defer repo.Close()
	if err := repo.offer("1.0.0"); err != nil {
		return err
	}
	if _, err := d.runFlux(ctx, "create", "source", "helm", "charts", "--url", repo.url); err != nil {
		return err
	}
	if _, err := d.runFlux(ctx, "create", "source", "chart", "remote", "--source", "HelmRepository/charts", "--chart", "hello", "--chart-version", "1.x"); err != nil {
		return err
	}
	if err := d.until(ctx, source("helmcharts", "remote"), "the chart is pulled", revisionIs("1.0.0")); err != nil {
		return err
	}
	if err := repo.offer("1.0.0", "1.1.0"); err != nil {
		return err
	}
	if _, err := d.runFlux(ctx, "reconcile", "source", "helm", "charts"); err != nil {
		return err
	}
	if err := d.until(ctx, source("helmcharts", "remote"), "a new version of it is pulled", revisionIs("1.1.0")); err != nil {
		return err
	}
	_, err = d.runFlux(ctx, "get", "sources", "all")
	return err
}

func revisionIs(want string) func(*unstructured.Unstructured) bool {
	return func(u *unstructured.Unstructured) bool {
		if u == nil {
			return false
		}
		revision, _, _ := unstructured.NestedString(u.Object, "status", "artifact", "revision")
		return revision == want
	}
}

// helloChart is a chart of one ConfigMap.
func helloChart(version string) map[string]string {
	return map[string]string{
		"Chart.yaml":               "apiVersion: v2\nname: hello\nversion: " + version + "\n",
		"values.yaml":              "greeting: hello\n",
		"templates/configmap.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Release.Name }}}\ndata: {greeting: {{ .Values.greeting | quote }}}\n",
	}
}

// helmRepository is a Helm repository on this machine.
type helmRepository struct {
	url    string
	server *http.Server
	dir    string
}

func serveCharts() (*helmRepository, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "flux-demo-charts-")
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	r := &helmRepository{
		url: "http://" + listener.Addr().String(), dir: dir,
		server: &http.Server{Handler: http.FileServer(http.Dir(dir)), ReadHeaderTimeout: 10 * time.Second},
	}
	go func() { _ = r.server.Serve(listener) }()
	return r, nil
}

// Close ends the server.
func (r *helmRepository) Close() { _ = errors.Join(r.server.Close(), os.RemoveAll(r.dir)) }

// offer writes the charts of these versions and the index that lists them.
func (r *helmRepository) offer(versions ...string) error {
	var index strings.Builder
	index.WriteString("apiVersion: v1\nentries:\n  hello:\n")
	for _, version := range versions {
		packed, err := pack("hello", helloChart(version))
		if err != nil {
			return err
		}
		file := "hello-" + version + ".tgz"
		if err := os.WriteFile(filepath.Join(r.dir, file), packed, 0o644); err != nil {
			return err
		}
		fmt.Fprintf(&index, "  - {apiVersion: v2, name: hello, version: %s, urls: [%s]}\n", version, file)
	}
	return os.WriteFile(filepath.Join(r.dir, "index.yaml"), []byte(index.String()), 0o644)
}

// pack makes the archive of a chart.
func pack(name string, files map[string]string) ([]byte, error) {
	var b bytes.Buffer
	zw := gzip.NewWriter(&b)
	tw := tar.NewWriter(zw)
	for file, content := range files {
		if err := tw.WriteHeader(&tar.Header{Name: name + "/" + file, Mode: 0o644, Size: int64(len(content))}); err != nil {
			return nil, err
		}
		if _, err := tw.Write([]byte(content)); err != nil {
			return nil, err
		}
	}
	err := errors.Join(tw.Close(), zw.Close())
	return b.Bytes(), err
}
