package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/helm"
	"github.com/seed-79636ae9/flux/internal/kind"
	"github.com/seed-79636ae9/flux/internal/ops"
	"github.com/seed-79636ae9/flux/internal/preview"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
	"github.com/seed-79636ae9/flux/toolkit/kube"
)

// maxHelmReleaseFile bounds what --helmrelease-file names, in bytes.
const maxHelmReleaseFile = 4 << 20

// helmPreviewOptions are the flags that build and diff of HelmReleases have in common.
type helmPreviewOptions struct {
	*Factory
	file, chart string
}

func (o *helmPreviewOptions) bind(flags *pflag.FlagSet) {
	flags.StringVar(&o.file, "helmrelease-file", "", "path to the HelmRelease YAML file")
	flags.StringVar(&o.chart, "chart", "", "path to the directory or archive of a chart, in place of the one of the source")
}

// subject is what to preview: the spec is that of the file if one is given, the status that of the cluster.
func (o *helmPreviewOptions) subject(ctx context.Context, k kind.Kind, name string, absent bool) (*helmv2.HelmRelease, error) {
	if o.file == "" {
		return o.helmRelease(ctx, k, name)
	}
	described, err := o.described(k, name)
	if err != nil {
		return nil, err
	}
	live, err := o.helmRelease(ctx, k, name)
	var missing *ops.NotFoundError
	switch {
	case err == nil:
		described.Status = live.Status
	case !errors.As(err, &missing) || !absent:
		return nil, err
	}
	return described, nil
}

// helmRelease reads a HelmRelease from the cluster.
func (f *Factory) helmRelease(ctx context.Context, k kind.Kind, name string) (*helmv2.HelmRelease, error) {
	client, err := f.Ops()
	if err != nil {
		return nil, err
	}
	obj, err := client.Get(ctx, k, f.Namespace(), name)
	if err != nil {
		return nil, err
	}
	return decodeHelmRelease(obj.Unstructured)
}

func decodeHelmRelease(u *unstructured.Unstructured) (*helmv2.HelmRelease, error) {
	out := &helmv2.HelmRelease{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, out); err != nil {
		return nil, fmt.Errorf("%s/%s/%s: %w", u.GetKind(), u.GetNamespace(), u.GetName(), err)
	}
	return out, nil
}

// described is the HelmRelease of the file, whose name must match, and its namespace if the file has one.
func (o *helmPreviewOptions) described(k kind.Kind, name string) (*helmv2.HelmRelease, error) {
	f, err := os.Open(o.file)
	if err != nil {
		return nil, fmt.Errorf("--helmrelease-file: %w", err)
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxHelmReleaseFile+1))
	if err != nil {
		return nil, fmt.Errorf("--helmrelease-file: %w", err)
	}
	if len(content) > maxHelmReleaseFile {
		return nil, fmt.Errorf("--helmrelease-file: '%s' has more than the limit of %d bytes", o.file, maxHelmReleaseFile)
	}
	documents := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(content), 4096)
	for {
		u := &unstructured.Unstructured{}
		err := documents.Decode(&u.Object)
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("--helmrelease-file: '%s' holds no %s %s/%s", o.file, k.Kind, o.Namespace(), name)
		}
		if err != nil {
			return nil, fmt.Errorf("--helmrelease-file: '%s': %w", o.file, err)
		}
		gvk := u.GroupVersionKind()
		if gvk.Group != helmv2.GroupVersion.Group || gvk.Kind != k.Kind || u.GetName() != name ||
			u.GetNamespace() != "" && u.GetNamespace() != o.Namespace() {
			continue
		}
		u.SetNamespace(o.Namespace())
		return decodeHelmRelease(u)
	}
}

// connected is a preview that reads the cluster, and how to end it.
func (o *helmPreviewOptions) connected() (*helm.Preview, func(), error) {
	config, err := o.RESTConfig()
	if err != nil {
		return nil, nil, err
	}
	clients, err := kube.NewClients(kube.ClientsOptions{Config: config, Clock: o.Clock})
	if err != nil {
		return nil, nil, &connectError{err}
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, sourcev1.AddToScheme, helmv2.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, nil, err
		}
	}
	reader, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, nil, &connectError{err}
	}
	dir, err := os.MkdirTemp("", "flux-charts-")
	if err != nil {
		return nil, nil, fmt.Errorf("making a directory for charts: %w", err)
	}
	opener, err := artifact.NewOpener(nil, dir, artifact.OpenerOptions{Transport: throughCluster{api: config.Host, client: clients.Own().HTTP()}})
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	end := func() {
		_ = opener.Close()
		_ = os.RemoveAll(dir)
	}
	return &helm.Preview{Client: clients.Own(), Reader: reader, Artifacts: opener, Chart: o.chart, ExternalArtifact: true}, end, nil
}

// throughCluster fetches what services of a cluster offer through its API server, and all else directly.
type throughCluster struct {
	api    string
	client *http.Client
}

// RoundTrip implements http.RoundTripper.
func (t throughCluster) RoundTrip(req *http.Request) (*http.Response, error) {
	service, namespace, ok := clusterService(req.URL)
	if !ok {
		return http.DefaultTransport.RoundTrip(req)
	}
	base, _, err := rest.DefaultServerURL(t.api, "", corev1.SchemeGroupVersion, true)
	if err != nil {
		return nil, err
	}
	out := req.Clone(req.Context())
	port := req.URL.Port()
	if port == "" {
		port = "80"
	}
	out.URL = base.JoinPath("api/v1/namespaces", namespace, "services", req.URL.Scheme+":"+service+":"+port, "proxy", req.URL.Path)
	out.Host = ""
	return t.client.Do(withoutRequestURI(out))
}

func withoutRequestURI(req *http.Request) *http.Request {
	req.RequestURI = ""
	return req
}

// clusterService reads the name of a service from a host like source-controller.flux-system.svc.cluster.local.
func clusterService(u *url.URL) (service, namespace string, ok bool) {
	parts := strings.Split(strings.TrimSuffix(u.Hostname(), "."), ".")
	if len(parts) < 3 || parts[2] != "svc" {
		return "", "", false
	}
	return path.Base(parts[0]), path.Base(parts[1]), true
}

// withoutChart tells the remedy when a chart cannot be had.
func withoutChart(err error) error {
	if errors.Is(err, helm.ErrNoChart) {
		return fmt.Errorf("%w: name a directory or archive with --chart", err)
	}
	return err
}

func newBuildHelmRelease(f *Factory, k kind.Kind) *cobra.Command {
	o := &buildHelmReleaseOptions{helmPreviewOptions: helmPreviewOptions{Factory: f}}
	cmd := &cobra.Command{
		Use: k.Label() + nameArg, Aliases: k.Aliases, Short: "Build " + k.Kind,
		Long: `The build command renders a chart as the controller would render it, with the values and post-renderers of the HelmRelease,
and prints the objects: CustomResourceDefinitions first, hooks last, which are known by their annotation helm.sh/hook.
The spec is that of the object in the cluster, or in a file. The chart is that of its source, or one of this machine.
Secrets are printed as they are.`,
		Example: `  # Render a release as the controller would make it now
  flux build helmrelease my-app

  # Render a local HelmRelease with a local chart
  flux build helmrelease my-app --helmrelease-file ./my-app.yaml --chart ./charts/my-app

  # Render without a cluster; values from ConfigMaps and Secrets are left out
  flux build helmrelease my-app --helmrelease-file ./my-app.yaml --chart ./charts/my-app --dry-run`,
		Args:              exactly(k.Label() + " name"),
		ValidArgsFunction: f.completeNames(k),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.bounded(cmd.Context(), func(ctx context.Context) error { return o.run(ctx, k, args[0]) })
		},
	}
	o.bind(cmd.Flags())
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "do not read from the cluster; requires --helmrelease-file and --chart")
	return cmd
}

// buildHelmReleaseOptions are the flags of `flux build helmrelease`.
type buildHelmReleaseOptions struct {
	helmPreviewOptions
	dryRun bool
}

// run prints the objects.
func (o *buildHelmReleaseOptions) run(ctx context.Context, k kind.Kind, name string) error {
	if o.dryRun && (o.file == "" || o.chart == "") {
		return &usageError{errors.New("--dry-run needs --helmrelease-file and --chart: there is no cluster to read from")}
	}
	p := &helm.Preview{Chart: o.chart}
	if !o.dryRun {
		connected, end, err := o.connected()
		if err != nil {
			return err
		}
		defer end()
		p = connected
	}
	obj, err := o.spec(ctx, k, name)
	if err != nil {
		return err
	}
	rendered, err := p.Render(ctx, obj)
	if err != nil {
		return withoutChart(err)
	}
	return preview.WriteObjects(o.Streams.Out, append(rendered.Objects, rendered.Hooks...))
}

// spec is that of the file, or of the cluster without one.
func (o *buildHelmReleaseOptions) spec(ctx context.Context, k kind.Kind, name string) (*helmv2.HelmRelease, error) {
	if o.file != "" {
		return o.described(k, name)
	}
	return o.helmRelease(ctx, k, name)
}

// diffHelmReleaseOptions are the flags of `flux diff helmrelease`.
type diffHelmReleaseOptions struct {
	helmPreviewOptions
	progress, ignoreNotFound bool
}

func newDiffHelmRelease(f *Factory, k kind.Kind) *cobra.Command {
	o := &diffHelmReleaseOptions{helmPreviewOptions: helmPreviewOptions{Factory: f}}
	cmd := &cobra.Command{
		Use: k.Label() + nameArg, Aliases: k.Aliases, Short: "Diff " + k.Kind,
		Long: `The diff command renders a chart as the controller would render it, asks the API server what the release would change, and
prints that. It writes nothing. Values of Secrets are masked. Hooks are not compared: they are made anew for each release.

It exits with 0 if nothing would change, with 1 if something would, and with 2 after an error.`,
		Example: `  # Show what the release in the cluster differs in from what the controller would make now
  flux diff helmrelease my-app

  # Show what another version of the chart would change
  flux diff helmrelease my-app --chart ./charts/my-app

  # Show what a local HelmRelease would change, also if it is not in the cluster yet
  flux diff helmrelease my-app --helmrelease-file ./my-app.yaml --ignore-not-found`,
		Args:              exactly(k.Label() + " name"),
		ValidArgsFunction: f.completeNames(k),
		Annotations:       map[string]string{exitOnError: "2"},
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.bounded(cmd.Context(), func(ctx context.Context) error { return o.run(ctx, k, args[0]) })
		},
	}
	o.bind(cmd.Flags())
	cmd.Flags().BoolVar(&o.progress, "progress-bar", true, "show what is being done, on a terminal")
	cmd.Flags().BoolVar(&o.ignoreNotFound, "ignore-not-found", false, "take a HelmRelease that is not in the cluster for one that has released nothing; requires --helmrelease-file")
	return cmd
}

// run prints what would change.
func (o *diffHelmReleaseOptions) run(ctx context.Context, k kind.Kind, name string) error {
	if o.ignoreNotFound && o.file == "" {
		return &usageError{errors.New("--ignore-not-found needs --helmrelease-file: without it there is nothing to render")}
	}
	p, end, err := o.connected()
	if err != nil {
		return err
	}
	defer end()
	obj, err := o.subject(ctx, k, name, o.ignoreNotFound)
	if err != nil {
		return err
	}
	subject := fmt.Sprintf("%s/%s/%s", k.Kind, obj.Namespace, obj.Name)
	if obj.Spec.KubeConfig != nil {
		o.Warnf("%s releases to another cluster (spec.kubeConfig): it is compared with the one of the current context", subject)
	}
	line := o.live()
	defer line.clear()
	tell := func(doing string) {
		if o.progress {
			line.text(doing + " " + subject)
		}
	}
	tell("rendering")
	rendered, err := p.Render(ctx, obj)
	if err != nil {
		return withoutChart(err)
	}
	tell("comparing")
	found, err := p.Compare(ctx, obj, rendered)
	if err != nil {
		return err
	}
	line.clear()
	changed, err := preview.WriteChanges(o.Streams.Out, preview.Changes(found))
	switch {
	case err != nil:
		return fmt.Errorf("print the changes: %w", err)
	case changed:
		return errChanges
	}
	return nil
}

// debugHelmReleaseOptions are the flags of `flux debug helmrelease`.
type debugHelmReleaseOptions struct {
	*Factory
	status, values, history bool
}

func newDebugHelmRelease(f *Factory, k kind.Kind) *cobra.Command {
	o := &debugHelmReleaseOptions{Factory: f}
	cmd := &cobra.Command{
		Use: k.Label() + nameArg, Aliases: k.Aliases, Short: "Debug a " + k.Kind,
		Long: `The debug command prints what helps to understand why a HelmRelease does what it does.
WARNING: with --show-values the values from Secrets are printed in plain text.`,
		Example: `  # Print the status of a HelmRelease
  flux debug helmrelease podinfo --show-status

  # Print its values, from spec.values and what spec.valuesFrom refers to
  flux debug helmrelease podinfo --show-values

  # Print the history of its releases
  flux debug helmrelease podinfo --show-history`,
		Args:              exactly(k.Label() + " name"),
		ValidArgsFunction: f.completeNames(k),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.bounded(cmd.Context(), func(ctx context.Context) error { return o.run(ctx, k, args[0]) })
		},
	}
	cmd.Flags().BoolVar(&o.status, "show-status", false, "print the status of the HelmRelease")
	cmd.Flags().BoolVar(&o.values, "show-values", false, "print the final values in YAML format, those from Secrets too")
	cmd.Flags().BoolVar(&o.history, "show-history", false, "print the history of the HelmRelease in YAML format")
	return cmd
}

// run prints one of the three (cli 67).
func (o *debugHelmReleaseOptions) run(ctx context.Context, k kind.Kind, name string) error {
	asked := 0
	for _, flag := range []bool{o.status, o.values, o.history} {
		if flag {
			asked++
		}
	}
	if asked != 1 {
		return &usageError{errors.New("exactly one of --show-status, --show-values and --show-history is required")}
	}
	obj, err := o.helmRelease(ctx, k, name)
	switch {
	case err != nil:
		return err
	case o.values:
		return o.printValues(ctx, obj)
	case o.history:
		return printAs(o.Streams.Out, "yaml", map[string]any{"history": obj.Status.History})
	}
	return printAs(o.Streams.Out, "yaml", map[string]any{"status": obj.Status})
}

func (o *debugHelmReleaseOptions) printValues(ctx context.Context, obj *helmv2.HelmRelease) error {
	p, end, err := (&helmPreviewOptions{Factory: o.Factory}).connected()
	if err != nil {
		return err
	}
	defer end()
	values, err := p.Values(ctx, obj)
	if err != nil {
		return err
	}
	return printAs(o.Streams.Out, "yaml", values)
}
