package cli

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/spf13/cobra"

	"github.com/seed-79636ae9/flux/toolkit/oci"
)

func newPush(f *Factory) *cobra.Command {
	cmd := group("push", nil, "Push artifacts")
	cmd.Long = "The push command is used to push OCI artifacts."
	cmd.AddCommand(newPushArtifact(f))
	return cmd
}

// pushArtifactOptions are the flags of `flux push artifact`.
type pushArtifactOptions struct {
	*Factory
	packing
	registryOptions
	source, revision string
	annotations      []string
	output           string
	reproducible     bool
	debug            bool
}

func newPushArtifact(f *Factory) *cobra.Command {
	o := &pushArtifactOptions{Factory: f}
	cmd := &cobra.Command{
		Use: "artifact [oci-url]", Short: "Push artifact",
		Long: `The push artifact command creates a tarball from the given directory or a single file and uploads the artifact to an OCI repository.
The command can read the credentials from '~/.docker/config.json' but they can also be passed with --creds. It can also login to a supported provider with the --provider flag.`,
		Example: `  # Push manifests to a registry using the short Git SHA as the OCI artifact tag
  flux push artifact oci://registry.example.com/org/config/app:$(git rev-parse --short HEAD) \
    --path="./path/to/local/manifests" \
    --source="$(git config --get remote.origin.url)" \
    --revision="$(git branch --show-current)@sha1:$(git rev-parse HEAD)"

  # Push and sign the artifact with cosign
  digest_url=$(flux push artifact oci://registry.example.com/org/config/app:latest \
    --path="./path/to/local/manifests" \
    --source="$(git config --get remote.origin.url)" \
    --revision="$(git branch --show-current)@sha1:$(git rev-parse HEAD)" \
    --output json | jq -r '. | .repository + "@" + .digest')
  cosign sign $digest_url

  # Push manifests passed into stdin, with custom OCI annotations
  kustomize build . | flux push artifact oci://registry.example.com/org/config/app:latest -f - \
    --source="$(git config --get remote.origin.url)" \
    --revision="$(git branch --show-current)@sha1:$(git rev-parse HEAD)" \
    --annotations='org.opencontainers.image.licenses=Apache-2.0'

  # Push an artifact whose digest depends on its content alone
  flux push artifact oci://registry.example.com/org/config/app:latest \
    --path="./manifests" --source=local --revision=none --reproducible`,
		Args:        exactly("artifact URL"),
		Annotations: map[string]string{noNamespace: ""},
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.bounded(cmd.Context(), func(ctx context.Context) error { return o.run(ctx, args[0]) })
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&o.path, "path", "f", "", "path to the directory or file where the Kubernetes manifests are located, or - for standard input")
	flags.StringVar(&o.source, "source", "", "the source address, e.g. the Git URL")
	flags.StringVar(&o.revision, "revision", "", "the source revision in the format '<branch|tag>@sha1:<commit-sha>'")
	flags.StringArrayVarP(&o.annotations, "annotations", "a", nil, "set custom OCI annotations in the format '<key>=<value>'")
	flags.StringVarP(&o.output, "output", "o", "", "the format in which the artifact digest should be printed, can be 'json' or 'yaml'")
	flags.BoolVar(&o.debug, "debug", false, "display logs from underlying library")
	flags.BoolVar(&o.reproducible, "reproducible", false, "ensure reproducible image digests by setting the created timestamp to '1970-01-01T00:00:00Z'")
	o.bindIgnore(flags)
	o.bindResolve(flags)
	o.registryOptions.bind(flags)
	o.bindInsecure(flags)
	return cmd
}

// pushed is what `flux push artifact --output` prints (cli 35).
type pushed struct {
	URL        string `json:"url"`
	Repository string `json:"repository"`
	Tag        string `json:"tag"`
	Digest     string `json:"digest"`
}

func (o *pushArtifactOptions) run(ctx context.Context, address string) error {
	annotations, err := o.describeContent()
	if err != nil {
		return &usageError{err}
	}
	remote, err := o.connect(ctx, o.Factory, address)
	if err != nil {
		return err
	}
	tag, ok := remote.ref.(name.Tag)
	if !ok {
		return &usageError{errors.New("push needs a tag, not a digest")}
	}
	quiet := o.output != ""
	if !quiet {
		o.Actionf("pushing artifact to %s", artifactURL(tag))
	}
	packed, size, err := o.packed(ctx)
	if err != nil {
		return err
	}
	defer os.Remove(packed.Name())
	defer packed.Close()
	if o.debug {
		o.Actionf("uploading %d bytes", size)
	}
	var digest string
	err = retry(ctx, func() error {
		digest, err = remote.client.Push(ctx, tag, oci.Content{MediaType: oci.ContentLayer, Open: func() (io.ReadCloser, error) {
			return io.NopCloser(io.NewSectionReader(packed, 0, size)), nil
		}}, annotations)
		return err
	})
	if err != nil {
		return fmt.Errorf("pushing artifact: %w", err)
	}
	at := tag.Context().Digest(digest)
	if quiet {
		return printAs(o.Streams.Out, o.output, pushed{
			URL: artifactURL(at), Repository: tag.Context().Name(), Tag: tag.TagStr(), Digest: digest,
		})
	}
	o.Successf("artifact successfully pushed to %s", artifactURL(at))
	return nil
}

// describeContent checks the flags and returns the annotations of the artifact.
func (o *pushArtifactOptions) describeContent() (map[string]string, error) {
	switch {
	case o.source == "":
		return nil, errors.New("--source is required")
	case o.revision == "":
		return nil, errors.New("--revision is required")
	case o.output != "" && o.output != "json" && o.output != "yaml":
		return nil, fmt.Errorf("--output is '%s', use json or yaml", o.output)
	}
	if o.path != "-" {
		if _, err := o.packing.source(nil); err != nil {
			return nil, err
		}
	}
	created := o.Clock.Now().UTC()
	if o.reproducible {
		created = time.Unix(0, 0).UTC()
	}
	annotations := map[string]string{
		oci.CreatedAnnotation: created.Format(time.RFC3339), oci.SourceAnnotation: o.source, oci.RevisionAnnotation: o.revision,
	}
	for _, pair := range o.annotations {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("--annotations '%s' is not of the form <key>=<value>", pair)
		}
		annotations[key] = value
	}
	return annotations, nil
}

// packed returns a file with the archive. One that was built before is taken as it is.
func (o *pushArtifactOptions) packed(ctx context.Context) (_ *os.File, size int64, err error) {
	packed, err := os.CreateTemp("", "flux-artifact-*")
	if err != nil {
		return nil, 0, fmt.Errorf("pack '%s': %w", o.path, err)
	}
	defer func() {
		if err != nil {
			packed.Close()
			os.Remove(packed.Name())
		}
	}()
	if built, err := openBuilt(o.path); err != nil {
		return nil, 0, err
	} else if built != nil {
		defer built.Close()
		_, err = io.Copy(packed, built)
		if err != nil {
			return nil, 0, fmt.Errorf("read '%s': %w", o.path, err)
		}
	} else if err := o.pack(ctx, o.Streams.In, packed); err != nil {
		return nil, 0, err
	}
	size, err = packed.Seek(0, io.SeekCurrent)
	return packed, size, err
}

// openBuilt opens what `flux build artifact` has written, and returns nil for anything else.
func openBuilt(path string) (*os.File, error) {
	if !strings.HasSuffix(path, ".tgz") && !strings.HasSuffix(path, ".tar.gz") {
		return nil, nil
	}
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return nil, err
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	head := make([]byte, 512)
	n, err := io.ReadFull(file, head)
	if err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
		if _, err = gzip.NewReader(bytes.NewReader(head[:n])); err == nil {
			_, err = file.Seek(0, io.SeekStart)
		}
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("'%s' is not a gzipped archive: %w", path, err)
	}
	return file, nil
}

// section reads a file from its beginning, whoever else reads it.
func section(f *os.File) io.Reader { return io.NewSectionReader(f, 0, math.MaxInt64) }

func newTag(f *Factory) *cobra.Command {
	cmd := group("tag", nil, "Tag artifacts")
	cmd.Long = "The tag command is used to tag OCI artifacts."
	cmd.AddCommand(newTagArtifact(f))
	return cmd
}

// tagArtifactOptions are the flags of `flux tag artifact`.
type tagArtifactOptions struct {
	*Factory
	registryOptions
	tags []string
}

func newTagArtifact(f *Factory) *cobra.Command {
	o := &tagArtifactOptions{Factory: f}
	cmd := &cobra.Command{
		Use: "artifact [oci-url]", Short: "Tag artifact",
		Long: `The tag artifact command creates tags for the given OCI artifact.
The command can read the credentials from '~/.docker/config.json' but they can also be passed with --creds. It can also login to a supported provider with the --provider flag.`,
		Example: `  # Tag an artifact as latest
  flux tag artifact oci://registry.example.com/org/config/app:v0.0.1 --tag latest`,
		Args:        exactly("artifact URL"),
		Annotations: map[string]string{noNamespace: ""},
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.bounded(cmd.Context(), func(ctx context.Context) error { return o.run(ctx, args[0]) })
		},
	}
	cmd.Flags().StringSliceVar(&o.tags, "tag", nil, "tag name")
	o.bind(cmd.Flags())
	return cmd
}

func (o *tagArtifactOptions) run(ctx context.Context, address string) error {
	if len(o.tags) == 0 {
		return &usageError{errors.New("--tag is required")}
	}
	// 2.9 has no --insecure-registry here; on loopback plain HTTP is what registries speak.
	remote, err := o.connect(ctx, o.Factory, address)
	if err != nil {
		return err
	}
	for _, tag := range o.tags {
		if _, err := name.NewTag(remote.ref.Context().Name() + ":" + tag); err != nil {
			return &usageError{fmt.Errorf("--tag '%s': %w", tag, err)}
		}
	}
	o.Actionf("tagging artifact")
	if err := retry(ctx, func() error { return remote.client.Tag(ctx, remote.ref, o.tags...) }); err != nil {
		return fmt.Errorf("tagging artifact: %w", err)
	}
	for _, tag := range o.tags {
		o.Successf("artifact tagged as %s", artifactURL(remote.ref.Context().Tag(tag)))
	}
	return nil
}
