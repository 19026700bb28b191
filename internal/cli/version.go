package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"github.com/seed-79636ae9/flux/internal/ops"
)

// versionOptions are the flags of `flux version`.
type versionOptions struct {
	*Factory
	client bool
	output string
}

func newVersion(f *Factory) *cobra.Command {
	o := &versionOptions{Factory: f}
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the client and server-side components version information.",
		Long:  "Print the client and server-side components version information for the current context.",
		Example: `  # Print client and server-side version
  flux version

  # Print only client version
  flux version --client`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.bounded(cmd.Context(), o.run) },
	}
	cmd.Flags().BoolVar(&o.client, "client", false, "print only client version")
	cmd.Flags().StringVarP(&o.output, "output", "o", "yaml", "the format in which the information should be printed. can be 'json' or 'yaml'")
	return cmd
}

// run prints versions by name (cli 60).
func (o *versionOptions) run(ctx context.Context) error {
	if o.output != "yaml" && o.output != "json" {
		return &usageError{fmt.Errorf("unknown output format '%s', use json or yaml", o.output)}
	}
	names, versions := []string{"flux"}, map[string]string{"flux": o.Version}
	if !o.client {
		if err := o.server(ctx, &names, versions); err != nil {
			return err
		}
	}
	if o.output == "json" {
		return printAs(o.Streams.Out, "json", versions)
	}
	for _, name := range names {
		fmt.Fprintf(o.Streams.Out, "%s: %s\n", name, versions[name])
	}
	return nil
}

// server adds the versions the cluster runs.
func (o *versionOptions) server(ctx context.Context, names *[]string, versions map[string]string) error {
	client, err := o.Ops()
	if err != nil {
		return err
	}
	definitions, _, err := client.List(ctx, ops.Definition(), "", ops.ListOptions{LabelSelector: partOf})
	if err != nil {
		return err
	}
	if len(definitions) > 0 {
		*names = append(*names, "distribution")
		versions["distribution"] = "flux-" + distributionOf(definitions)
	}
	deployments, _, err := client.List(ctx, ops.Deployment(), o.Namespace(), ops.ListOptions{LabelSelector: partOf})
	if err != nil {
		return err
	}
	if len(deployments) == 0 {
		return hinted(fmt.Errorf("no controllers found in the '%s' namespace with the label selector '%s'", o.Namespace(), partOf), "flux version --client")
	}
	var controllers []string
	for _, d := range deployments {
		for _, image := range images(d) {
			controllers = append(controllers, d.GetName())
			versions[d.GetName()] = imageTag(image)
		}
	}
	slices.Sort(controllers)
	*names = append(*names, slices.Compact(controllers)...)
	return nil
}

// imageTag is the tag of an image, else its digest.
func imageTag(image string) string {
	name, digest, pinned := strings.Cut(image, "@")
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		return name[i+1:]
	}
	if pinned {
		return digest
	}
	return "latest"
}

// unversioned prepares a connection for paths outside API groups.
func unversioned(config *rest.Config) *rest.Config {
	c := rest.CopyConfig(config)
	c.NegotiatedSerializer = serializer.NewCodecFactory(scheme.Scheme).WithoutConversion()
	return c
}
