package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/seed-79636ae9/flux/internal/kind"
	"github.com/seed-79636ae9/flux/internal/manifests"
	"github.com/seed-79636ae9/flux/internal/ops"
)

// installOptions are the flags of `flux install`.
type installOptions struct {
	*Factory
	export, force                     bool
	version, registry, registryCreds  string
	imagePullSecret, clusterDomain    string
	manifestsPath                     string
	components, extra, tolerationKeys []string
	watchAll, networkPolicy           bool
	logLevel, profile                 kind.Enum
	// named says that --components was given, so that what this build lacks is an error.
	named bool
}

func newInstall(f *Factory) *cobra.Command {
	o := &installOptions{
		Factory:  f,
		logLevel: kind.Enum{Value: "info", Allowed: []string{"debug", "info", "error"}, Noun: "log level"},
		profile:  kind.Enum{Value: string(manifests.Single), Allowed: []string{string(manifests.Single), string(manifests.Split)}, Noun: "profile"},
	}
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Install or upgrade Flux",
		Long: `The install command deploys Flux in the specified namespace.
If a previous version is installed, then an in-place upgrade will be performed.

The profile 'single' runs all components in one Deployment with one identity; 'split' gives each component a
Deployment and an identity of its own.`,
		Example: `  # Install the latest version in the flux-system namespace
  flux install --namespace=flux-system

  # Install one Deployment per component
  flux install --profile=split

  # Write the manifests to a file
  flux install --export > flux-system.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.named = cmd.Flags().Changed("components")
			return f.bounded(cmd.Context(), o.run)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&o.export, "export", false, "write the install manifests to stdout and exit")
	flags.BoolVar(&o.force, "force", false, "override existing Flux installation if it's managed by a different tool such as Helm")
	flags.StringVarP(&o.version, "version", "v", "", "toolkit version; this CLI installs its own version")
	flags.StringSliceVar(&o.components, "components", manifests.DefaultNames(), "list of components, accepts comma-separated values")
	flags.StringSliceVar(&o.extra, "components-extra", nil, "list of components in addition to those supplied or defaulted, accepts values such as 'image-reflector-controller,image-automation-controller,source-watcher'")
	flags.StringVar(&o.manifestsPath, "manifests", "", "path to the manifest directory")
	flags.Lookup("manifests").Hidden = true
	flags.StringVar(&o.registry, "registry", manifests.DefaultRegistry, "container registry where the toolkit images are published")
	flags.StringVar(&o.registryCreds, "registry-creds", "", "container registry credentials in the format 'user:password', requires --image-pull-secret to be set")
	flags.StringVar(&o.imagePullSecret, "image-pull-secret", "", "Kubernetes secret name used for pulling the toolkit images from a private registry")
	flags.BoolVar(&o.watchAll, "watch-all-namespaces", true, "watch for custom resources in all namespaces, if set to false it will only watch the namespace where the toolkit is installed")
	flags.Var(&o.logLevel, "log-level", "log level, one of: debug, info, error")
	flags.BoolVar(&o.networkPolicy, "network-policy", true, "deny ingress access to the toolkit controllers from other namespaces using network policies")
	flags.StringVar(&o.clusterDomain, "cluster-domain", "cluster.local", "internal cluster domain")
	flags.StringSliceVar(&o.tolerationKeys, "toleration-keys", nil, "list of toleration keys used to schedule the components pods onto nodes with matching taints")
	flags.Var(&o.profile, "profile", "how components are spread over Deployments, one of: single, split")
	return cmd
}

// run renders the manifests, and prints or applies them (cli 45-48, 54).
func (o *installOptions) run(ctx context.Context) error {
	if err := o.validate(); err != nil {
		return &usageError{err}
	}
	if !o.export {
		o.Generatef("generating manifests")
	}
	objects, text, err := o.render()
	if err != nil {
		return err
	}
	if o.export {
		_, err := o.Streams.Out.Write(text)
		return err
	}
	if o.verbose {
		if _, err := o.Streams.Err.Write(text); err != nil {
			return err
		}
	}
	o.Successf("manifests build completed")
	client, err := o.Ops()
	if err != nil {
		return err
	}
	if err := o.mayInstall(ctx, client); err != nil {
		return err
	}
	o.Actionf("installing components in %s namespace", o.Namespace())
	if err := o.apply(ctx, client, objects); err != nil {
		return err
	}
	o.Waitf("verifying installation")
	if err := o.verify(ctx, client, objects); err != nil {
		return err
	}
	if err := o.leftovers(ctx, client, objects); err != nil {
		return err
	}
	o.Successf("install finished")
	return nil
}

func (o *installOptions) validate() error {
	if o.version != "" && o.version != "latest" && o.version != o.Version && "v"+o.version != o.Version {
		return fmt.Errorf("--version=%s: this CLI installs its own version, %s; use the CLI of the version you want", o.version, o.Version)
	}
	if o.registryCreds != "" {
		if o.imagePullSecret == "" {
			return errors.New("--registry-creds needs --image-pull-secret, the name of the Secret to create")
		}
		if user, password, ok := strings.Cut(o.registryCreds, ":"); !ok || user == "" || password == "" {
			return errors.New("--registry-creds is not of the form user:password")
		}
	}
	for _, name := range slices.Concat(o.components, o.extra) {
		if !slices.Contains(manifests.KnownNames(), name) {
			return fmt.Errorf("component '%s' is not one of: %s", name, strings.Join(manifests.KnownNames(), ", "))
		}
	}
	return nil
}

// selected are the components asked for that this build has.
func (o *installOptions) selected() ([]manifests.Component, error) {
	var out []manifests.Component
	var lacking []string
	for _, name := range slices.Concat(o.components, o.extra) {
		i := slices.IndexFunc(o.Components, func(c manifests.Component) bool { return c.Name == name })
		switch {
		case i >= 0 && !slices.ContainsFunc(out, func(c manifests.Component) bool { return c.Name == name }):
			out = append(out, o.Components[i])
		case i < 0 && (o.named || slices.Contains(o.extra, name)):
			return nil, fmt.Errorf("component '%s' is not part of this build (%s)", name, o.Version)
		case i < 0:
			lacking = append(lacking, name)
		}
	}
	if len(lacking) > 0 {
		o.Warnf("not part of this build and left out: %s", strings.Join(lacking, ", "))
	}
	return out, nil
}

func (o *installOptions) render() ([]*unstructured.Unstructured, []byte, error) {
	if o.manifestsPath != "" {
		return readManifests(o.manifestsPath)
	}
	components, err := o.selected()
	if err != nil {
		return nil, nil, err
	}
	options := manifests.Options{
		Namespace: o.Namespace(), Version: o.Version, Registry: o.registry, Profile: manifests.Profile(o.profile.Value),
		Components: components, ClusterDomain: o.clusterDomain, LogLevel: o.logLevel.Value, NetworkPolicy: o.networkPolicy,
		WatchAllNamespaces: o.watchAll, ImagePullSecret: o.imagePullSecret, TolerationKeys: o.tolerationKeys,
	}
	objects, err := manifests.Render(options)
	if err != nil {
		return nil, nil, err
	}
	text, err := manifests.YAML(options, objects)
	return objects, text, err
}

// readManifests reads the YAML files of a folder in the order of their names.
func readManifests(dir string) ([]*unstructured.Unstructured, []byte, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil || len(paths) == 0 {
		return nil, nil, fmt.Errorf("read manifests: no *.yaml files in %s", dir)
	}
	var objects []*unstructured.Unstructured
	var text []byte
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, nil, fmt.Errorf("read manifests: %w", err)
		}
		text = append(append(text, data...), '\n')
		for doc := range strings.SplitSeq(string(data), "\n---") {
			u := &unstructured.Unstructured{}
			if err := yaml.Unmarshal([]byte(doc), &u.Object); err != nil {
				return nil, nil, fmt.Errorf("read manifests: %s: %w", path, err)
			}
			if len(u.Object) > 0 {
				objects = append(objects, u)
			}
		}
	}
	return objects, text, nil
}

// mayInstall refuses a cluster that installs itself from Git, and asks about one that another tool looks after
// (cli 47).
func (o *installOptions) mayInstall(ctx context.Context, client *ops.Client) error {
	const name = "gitrepositories.source.toolkit.fluxcd.io"
	crd, err := client.Get(ctx, ops.Definition(), "", name)
	var absent *ops.NotFoundError
	if errors.As(err, &absent) {
		return nil
	}
	if err != nil {
		return err
	}
	labels := crd.GetLabels()
	if ns, ok := labels["kustomize.toolkit.fluxcd.io/namespace"]; ok {
		owner := labels["kustomize.toolkit.fluxcd.io/name"]
		return hinted(fmt.Errorf("this cluster installs Flux from its own repository (Kustomization/%s/%s): change it there", ns, owner),
			"flux trace crd %s", name)
	}
	tool := labels["app.kubernetes.io/managed-by"]
	if tool == "" || tool == "flux" || o.force {
		return nil
	}
	o.Warnf("the installation in this cluster is managed by %s", tool)
	if err := o.confirm("Are you sure you want to overwrite it?"); err != nil {
		return hinted(fmt.Errorf("nothing was installed: %w", err), "flux install --force")
	}
	return nil
}

// apply applies what others need first, waits for it, and then the rest (cli 48).
func (o *installOptions) apply(ctx context.Context, client *ops.Client, objects []*unstructured.Unstructured) error {
	first, rest := manifests.Stages(objects)
	if err := o.applyAll(ctx, client, first); err != nil {
		return err
	}
	for _, obj := range first {
		if obj.GetKind() == "CustomResourceDefinition" {
			if err := client.AwaitDefinition(ctx, obj.GetName()); err != nil {
				return err
			}
		}
	}
	if o.registryCreds != "" {
		secret, err := o.pullSecret()
		if err != nil {
			return err
		}
		if err := client.SaveSecret(ctx, secret); err != nil {
			return err
		}
	}
	return o.applyAll(ctx, client, rest)
}

func (o *installOptions) applyAll(ctx context.Context, client *ops.Client, objects []*unstructured.Unstructured) error {
	for _, obj := range objects {
		did, err := client.Apply(ctx, obj)
		if err != nil {
			return err
		}
		fmt.Fprintf(o.Streams.Err, "%s %s\n", ops.Name(obj), did)
	}
	return nil
}

// pullSecret holds the credentials of --registry-creds in the form the kubelet reads.
func (o *installOptions) pullSecret() (kind.Object, error) {
	user, password, _ := strings.Cut(o.registryCreds, ":")
	host, _, _ := strings.Cut(o.registry, "/")
	config, err := json.Marshal(map[string]any{"auths": map[string]any{host: map[string]string{"username": user, "password": password}}})
	if err != nil {
		return kind.Object{}, fmt.Errorf("render image pull secret: %w", err)
	}
	return toObject(map[string]any{
		"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
		"metadata": map[string]any{"name": o.imagePullSecret, "namespace": o.Namespace()},
		"data":     map[string]any{".dockerconfigjson": config},
	})
}

// verify waits for the Deployments, and looks for the image pull secret they need (cli 48).
func (o *installOptions) verify(ctx context.Context, client *ops.Client, objects []*unstructured.Unstructured) error {
	if o.imagePullSecret != "" && o.registryCreds == "" {
		if _, err := client.Secret(ctx, o.Namespace(), o.imagePullSecret); err != nil {
			return hinted(fmt.Errorf("the image pull secret is missing: %w", err), "kubectl create secret docker-registry %s -n %s", o.imagePullSecret, o.Namespace())
		}
	}
	for _, obj := range objects {
		if obj.GetKind() != "Deployment" {
			continue
		}
		if err := client.AwaitDeployment(ctx, obj.GetNamespace(), obj.GetName()); err != nil {
			return hinted(fmt.Errorf("%s: %w", obj.GetName(), err), "kubectl -n %s describe deployment %s", obj.GetNamespace(), obj.GetName())
		}
		o.Successf("%s: deployment ready", obj.GetName())
	}
	return nil
}

// leftovers tells of Deployments of an earlier installation that hold the leases this one waits for.
func (o *installOptions) leftovers(ctx context.Context, client *ops.Client, objects []*unstructured.Unstructured) error {
	live, _, err := client.List(ctx, ops.Deployment(), o.Namespace(), ops.ListOptions{LabelSelector: partOf})
	if err != nil {
		return err
	}
	var names []string
	for _, d := range live {
		ours := func(obj *unstructured.Unstructured) bool {
			return obj.GetKind() == "Deployment" && obj.GetName() == d.GetName()
		}
		if !slices.ContainsFunc(objects, ours) {
			names = append(names, d.GetName())
		}
	}
	if len(names) > 0 {
		o.Warnf("deployments of an earlier installation still hold the leases: remove them with 'kubectl -n %s delete deployment %s'", o.Namespace(), strings.Join(names, " "))
	}
	return nil
}
