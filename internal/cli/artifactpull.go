package cli

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/seed-79636ae9/flux/internal/helm"
	"github.com/seed-79636ae9/flux/internal/kustomize"
	"github.com/seed-79636ae9/flux/toolkit/archive"
	"github.com/seed-79636ae9/flux/toolkit/oci"
)

// look finds the manifest a reference stands for.
func (r *remote) look(ctx context.Context) (name.Digest, *oci.Manifest, error) {
	repo := r.ref.Context()
	var ref oci.Reference
	switch at := r.ref.(type) {
	case name.Digest:
		ref.Digest = at.DigestStr()
	case name.Tag:
		ref.Tag = at.TagStr()
	}
	resolved, err := r.client.Resolve(ctx, repo, ref)
	if err != nil {
		return name.Digest{}, nil, err
	}
	m, err := r.client.Manifest(ctx, repo, resolved.Digest)
	return repo.Digest(resolved.Digest), m, err
}

// extract unpacks the content of an artifact into a directory.
func (r *remote) extract(ctx context.Context, m *oci.Manifest, dir string) (err error) {
	if len(m.Layers) == 0 {
		return errors.New("the artifact has no layers")
	}
	layer, err := r.client.Layer(ctx, r.ref.Context(), m.Layers[0])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, layer.Close()) }()
	// Nothing of it counts before its digest does: it is kept aside until its end was read.
	aside, err := os.CreateTemp("", "flux-artifact-*")
	if err != nil {
		return err
	}
	defer os.Remove(aside.Name())
	defer aside.Close()
	if _, err := io.Copy(aside, layer); err != nil {
		return err
	}
	return archive.Extract(ctx, section(aside), dir, archive.DefaultLimits())
}

func newPull(f *Factory) *cobra.Command {
	cmd := group("pull", nil, "Pull artifacts")
	cmd.Long = "The pull command is used to pull OCI artifacts."
	cmd.AddCommand(newPullArtifact(f))
	return cmd
}

// pullArtifactOptions are the flags of `flux pull artifact`.
type pullArtifactOptions struct {
	*Factory
	registryOptions
	output string
}

func newPullArtifact(f *Factory) *cobra.Command {
	o := &pullArtifactOptions{Factory: f}
	cmd := &cobra.Command{
		Use: "artifact [oci-url]", Short: "Pull artifact",
		Long: `The pull artifact command downloads and extracts the OCI artifact content to the given path.
The command can read the credentials from '~/.docker/config.json' but they can also be passed with --creds. It can also login to a supported provider with the --provider flag.`,
		Example: `  # Pull an OCI artifact
  flux pull artifact oci://registry.example.com/org/manifests/app:v0.0.1 --output ./path/to/local/manifests`,
		Args:        exactly("artifact URL"),
		Annotations: map[string]string{noNamespace: ""},
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.bounded(cmd.Context(), func(ctx context.Context) error { return o.run(ctx, args[0]) })
		},
	}
	cmd.Flags().StringVarP(&o.output, "output", "o", "", "path where the artifact content should be extracted.")
	o.bind(cmd.Flags())
	o.bindInsecure(cmd.Flags())
	return cmd
}

func (o *pullArtifactOptions) run(ctx context.Context, address string) error {
	if o.output == "" {
		return &usageError{errors.New("--output is required")}
	}
	if info, err := os.Stat(o.output); err != nil || !info.IsDir() {
		return &usageError{fmt.Errorf("--output '%s' is not a directory", o.output)}
	}
	remote, err := o.connect(ctx, o.Factory, address)
	if err != nil {
		return err
	}
	o.Actionf("pulling artifact from %s", address)
	digest, m, err := remote.look(ctx)
	if err != nil {
		return fmt.Errorf("pulling artifact: %w", err)
	}
	if err := remote.extract(ctx, m, o.output); err != nil {
		return fmt.Errorf("pulling artifact: %w", err)
	}
	for _, line := range [][2]string{{"source", m.Annotations[oci.SourceAnnotation]}, {"revision", m.Annotations[oci.RevisionAnnotation]}} {
		if line[1] != "" {
			o.Successf("%s %s", line[0], line[1])
		}
	}
	o.Successf("digest %s", digest.DigestStr())
	o.Successf("artifact content extracted to %s", o.output)
	return nil
}

func newList(f *Factory) *cobra.Command {
	cmd := group("list", nil, "List artifacts")
	cmd.Long = "The list command is used for printing the OCI artifacts metadata."
	cmd.AddCommand(newListArtifacts(f))
	return cmd
}

// listArtifactsOptions are the flags of `flux list artifacts`.
type listArtifactsOptions struct {
	*Factory
	registryOptions
	semver, regex string
}

func newListArtifacts(f *Factory) *cobra.Command {
	o := &listArtifactsOptions{Factory: f}
	cmd := &cobra.Command{
		Use: "artifacts [oci-url]", Short: "list artifacts",
		Long: `The list command fetches the tags and their metadata from a remote OCI repository.
The command can read the credentials from '~/.docker/config.json' but they can also be passed with --creds. It can also login to a supported provider with the --provider flag.`,
		Example: `  # List the artifacts stored in an OCI repository
  flux list artifacts oci://registry.example.com/org/config/app

  # List those with a version in a range
  flux list artifacts oci://registry.example.com/org/config/app --filter-semver=">=1.0.0"`,
		Args:        exactly("repository URL"),
		Annotations: map[string]string{noNamespace: ""},
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.bounded(cmd.Context(), func(ctx context.Context) error { return o.run(ctx, args[0]) })
		},
	}
	cmd.Flags().StringVar(&o.semver, "filter-semver", "", "filter tags returned from the oci repository using semver")
	cmd.Flags().StringVar(&o.regex, "filter-regex", "", "filter tags returned from the oci repository using regex")
	o.bind(cmd.Flags())
	o.bindInsecure(cmd.Flags())
	return cmd
}

// listLookups is how many manifests are read at once.
const listLookups = 8

func (o *listArtifactsOptions) run(ctx context.Context, address string) error {
	keep, err := o.filter()
	if err != nil {
		return &usageError{err}
	}
	remote, err := o.connect(ctx, o.Factory, address)
	if err != nil {
		return err
	}
	if remote.tagged {
		return &usageError{errors.New("list needs the address of a repository, without a tag or digest")}
	}
	tags, err := remote.client.Tags(ctx, remote.ref.Context())
	if err != nil {
		return fmt.Errorf("listing artifacts: %w", err)
	}
	attached := attachment()
	tags = slices.DeleteFunc(tags, func(tag string) bool { return attached.MatchString(tag) || !keep(tag) })
	slices.SortFunc(tags, newestFirst)
	rows := make([][]string, len(tags))
	lookups, ctx := errgroup.WithContext(ctx)
	lookups.SetLimit(listLookups)
	for i, tag := range tags {
		lookups.Go(func() error {
			at := *remote
			at.ref = remote.ref.Context().Tag(tag)
			digest, m, err := at.look(ctx)
			if err != nil {
				return fmt.Errorf("tag '%s': %w", tag, err)
			}
			rows[i] = []string{artifactURL(at.ref), digest.DigestStr(), m.Annotations[oci.SourceAnnotation], m.Annotations[oci.RevisionAnnotation]}
			return nil
		})
	}
	if err := lookups.Wait(); err != nil {
		return fmt.Errorf("listing artifacts: %w", err)
	}
	t := newTable("ARTIFACT", "DIGEST", "SOURCE", "REVISION")
	for _, row := range rows {
		t.add(row...)
	}
	return t.print(o.Streams.Out, true)
}

// filter returns which tags to list (cli 37).
func (o *listArtifactsOptions) filter() (func(tag string) bool, error) {
	if o.semver != "" && o.regex != "" {
		return nil, errors.New("--filter-semver and --filter-regex exclude each other")
	}
	if o.semver != "" {
		within, err := semver.NewConstraint(o.semver)
		if err != nil {
			return nil, fmt.Errorf("--filter-semver: %w", err)
		}
		return func(tag string) bool {
			v, err := semver.NewVersion(tag)
			return err == nil && within.Check(v)
		}, nil
	}
	matches, err := regexp.Compile(o.regex)
	if err != nil {
		return nil, fmt.Errorf("--filter-regex: %w", err)
	}
	return matches.MatchString, nil
}

// newestFirst orders tags: versions before other tags, the highest first.
func newestFirst(a, b string) int {
	va, errA := semver.NewVersion(a)
	vb, errB := semver.NewVersion(b)
	switch {
	case errA == nil && errB == nil:
		return cmp.Or(vb.Compare(va), strings.Compare(a, b))
	case errA == nil:
		return -1
	case errB == nil:
		return 1
	}
	return strings.Compare(a, b)
}

func newDiff(f *Factory) *cobra.Command {
	cmd := group("diff", nil, "Diff a flux resource")
	cmd.Long = "The diff command is used to do a server-side dry-run on flux resources, then prints the diff."
	cmd.AddCommand(newDiffArtifact(f), newDiffKustomization(f, kustomize.Kind()), newDiffHelmRelease(f, helm.Kind()))
	return cmd
}

// diffArtifactOptions are the flags of `flux diff artifact`.
type diffArtifactOptions struct {
	*Factory
	packing
	registryOptions
}

func newDiffArtifact(f *Factory) *cobra.Command {
	o := &diffArtifactOptions{Factory: f}
	cmd := &cobra.Command{
		Use: "artifact [oci-url]", Short: "Diff Artifact",
		Long: `The diff artifact command computes the difference between the remote OCI artifact and a local directory or file.
It lists the files that differ and exits with 1 when there are any.`,
		Example: `  # Check if local files differ from remote
  flux diff artifact oci://registry.example.com/org/manifests/app:v0.0.1 --path=./kustomize`,
		Args:        exactly("artifact URL"),
		Annotations: map[string]string{noNamespace: ""},
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.bounded(cmd.Context(), func(ctx context.Context) error { return o.run(ctx, args[0]) })
		},
	}
	cmd.Flags().StringVar(&o.path, "path", "", "path to the directory or file where the Kubernetes manifests are located")
	o.bindIgnore(cmd.Flags())
	o.bind(cmd.Flags())
	o.bindInsecure(cmd.Flags())
	return cmd
}

func (o *diffArtifactOptions) run(ctx context.Context, address string) error {
	if _, err := o.source(strings.NewReader("")); err != nil {
		return &usageError{err}
	}
	remote, err := o.connect(ctx, o.Factory, address)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "flux-diff-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	local, there := filepath.Join(dir, "local"), filepath.Join(dir, "remote")
	if err := errors.Join(os.Mkdir(local, 0o700), os.Mkdir(there, 0o700)); err != nil {
		return err
	}
	// Packed and unpacked, local files go through the same rules as those that were pushed.
	packed, err := os.CreateTemp(dir, "packed")
	if err != nil {
		return err
	}
	defer packed.Close()
	if err := o.pack(ctx, o.Streams.In, packed); err != nil {
		return err
	}
	if err := archive.Extract(ctx, section(packed), local, archive.Limits{}); err != nil {
		return fmt.Errorf("pack '%s': %w", o.path, err)
	}
	_, m, err := remote.look(ctx)
	if err != nil {
		return fmt.Errorf("pulling artifact: %w", err)
	}
	if err := remote.extract(ctx, m, there); err != nil {
		return fmt.Errorf("pulling artifact: %w", err)
	}
	differ, err := o.compare(ctx, there, local)
	if err != nil {
		return err
	}
	if differ > 0 {
		return fmt.Errorf("%s and '%s' differ in %d files", address, o.path, differ)
	}
	o.Successf("no changes detected")
	return nil
}

// compare lists the files that differ, with "-" for those only in the artifact, "+" for those only here and "~" for those
// with other content, and returns their number.
func (o *diffArtifactOptions) compare(ctx context.Context, there, local string) (int, error) {
	old, err := fingerprints(ctx, there)
	if err != nil {
		return 0, err
	}
	now, err := fingerprints(ctx, local)
	if err != nil {
		return 0, err
	}
	lines := map[string]string{}
	for file, print := range now {
		was, found := old[file]
		switch {
		case !found:
			lines[file] = "+ " + file
		case was != print:
			lines[file] = "~ " + file
		}
	}
	for file := range old {
		if _, found := now[file]; !found {
			lines[file] = "- " + file
		}
	}
	for _, file := range slices.Sorted(maps.Keys(lines)) {
		if _, err := fmt.Fprintln(o.Streams.Out, lines[file]); err != nil {
			return 0, err
		}
	}
	return len(lines), nil
}

// fingerprints returns what identifies the content of each file below a directory.
func fingerprints(ctx context.Context, dir string) (map[string]string, error) {
	prints := map[string]string{}
	err := archive.Dir(dir).Walk(ctx, func(e archive.Entry) error {
		if e.Open == nil {
			return nil
		}
		r, err := e.Open()
		if err != nil {
			return err
		}
		h := sha256.New()
		_, err = io.Copy(h, r)
		prints[e.Path] = fmt.Sprintf("%x %t", h.Sum(nil), e.Mode&0o100 != 0)
		return errors.Join(err, r.Close())
	})
	if err != nil {
		return nil, fmt.Errorf("compare files: %w", err)
	}
	return prints, nil
}
