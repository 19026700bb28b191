package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/seed-79636ae9/flux/internal/helm"
	"github.com/seed-79636ae9/flux/internal/kustomize"
	"github.com/seed-79636ae9/flux/toolkit/archive"
)

// defaultIgnorePaths is what an artifact leaves out unless told otherwise (cli 36).
func defaultIgnorePaths() []string {
	return []string{
		".git/", ".gitignore", ".gitmodules", ".gitattributes",
		"*.jpg", "*.jpeg", "*.gif", "*.png", "*.wmv", "*.flv", "*.tar.gz", "*.zip",
	}
}

// packing is what `build`, `push` and `diff artifact` have in common: which files to pack, and how.
type packing struct {
	path    string
	ignore  []string
	resolve bool
}

func (p *packing) bindIgnore(flags *pflag.FlagSet) {
	flags.StringSliceVar(&p.ignore, "ignore-paths", defaultIgnorePaths(), "set paths to ignore in .gitignore format")
}

func (p *packing) bindResolve(flags *pflag.FlagSet) {
	flags.BoolVar(&p.resolve, "resolve-symlinks", false, "resolve symlinks by copying their targets into the artifact")
}

// stdinName is the name of the file in an artifact made of standard input.
const stdinName = "manifests.yaml"

// maxStdin bounds what is read from standard input, in bytes.
const maxStdin = 256 << 20

// source returns the files to pack: a directory, one file, or standard input for "-" (cli 35).
func (p *packing) source(stdin io.Reader) (archive.Source, error) {
	if p.path == "" {
		return nil, errors.New("--path is required")
	}
	if p.path == "-" {
		content, err := io.ReadAll(io.LimitReader(stdin, maxStdin+1))
		if err != nil {
			return nil, fmt.Errorf("read standard input: %w", err)
		}
		if len(content) > maxStdin {
			return nil, fmt.Errorf("standard input has more than the limit of %d bytes", maxStdin)
		}
		return archive.Bytes(stdinName, content), nil
	}
	info, err := os.Stat(p.path)
	switch {
	case err != nil:
		return nil, fmt.Errorf("--path: %w", err)
	case !info.IsDir():
		return archive.File(p.path), nil
	case p.resolve:
		return archive.Linked(p.path), nil
	}
	return archive.Dir(p.path), nil
}

// pack writes the archive; equal files give equal bytes.
func (p *packing) pack(ctx context.Context, stdin io.Reader, w io.Writer) error {
	src, err := p.source(stdin)
	if err != nil {
		return err
	}
	patterns, err := archive.ParsePatterns(strings.NewReader(strings.Join(p.ignore, "\n")), "")
	if err != nil {
		return fmt.Errorf("--ignore-paths: %w", err)
	}
	if err := archive.Write(ctx, w, src, archive.NewMatcher(patterns...)); err != nil {
		return fmt.Errorf("pack '%s': %w", p.path, err)
	}
	return nil
}

// newBuild makes `flux build`.
func newBuild(f *Factory) *cobra.Command {
	cmd := group("build", nil, "Build a flux resource")
	cmd.Long = "The build command is used to build flux resources."
	cmd.AddCommand(newBuildArtifact(f), newBuildKustomization(f, kustomize.Kind()), newBuildHelmRelease(f, helm.Kind()))
	return cmd
}

// buildArtifactOptions are the flags of `flux build artifact`.
type buildArtifactOptions struct {
	*Factory
	packing
	output string
}

func newBuildArtifact(f *Factory) *cobra.Command {
	o := &buildArtifactOptions{Factory: f}
	cmd := &cobra.Command{
		Use: "artifact", Short: "Build artifact",
		Long: "The build artifact command creates a tgz file with the manifests from the given directory or a single manifest file.",
		Example: `  # Build the given manifests directory into an artifact
  flux build artifact --path ./path/to/local/manifests --output ./path/to/artifact.tgz

  # Build manifests read from stdin into an artifact
  kustomize build . | flux build artifact --path - --output artifact.tgz

  # Build a directory whose links lead elsewhere
  flux build artifact --path ./manifests --resolve-symlinks`,
		Args:        exactly(),
		Annotations: map[string]string{noNamespace: ""},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.bounded(cmd.Context(), o.run)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&o.output, "output", "o", "artifact.tgz", "path to where the artifact tgz file should be written")
	flags.StringVarP(&o.path, "path", "p", "", "path to the directory or file where the Kubernetes manifests are located, or - for standard input")
	o.bindIgnore(flags)
	o.bindResolve(flags)
	return cmd
}

func (o *buildArtifactOptions) run(ctx context.Context) error {
	if _, err := o.source(strings.NewReader("")); err != nil {
		return &usageError{err}
	}
	if o.output == "" {
		return &usageError{errors.New("--output is required")}
	}
	o.Actionf("building artifact from %s", o.path)
	// The archive must not pack what an earlier build left, nor itself.
	if rel, ok := inside(o.path, o.output); ok {
		o.ignore = append(o.ignore, "/"+filepath.ToSlash(rel))
	}
	packed, err := os.CreateTemp("", "flux-artifact-*")
	if err != nil {
		return fmt.Errorf("pack '%s': %w", o.path, err)
	}
	defer os.Remove(packed.Name())
	defer packed.Close()
	if err := o.pack(ctx, o.Streams.In, packed); err != nil {
		return err
	}
	if err := writeFile(o.output, func(w io.Writer) error {
		_, err := io.Copy(w, section(packed))
		return err
	}); err != nil {
		return err
	}
	o.Successf("artifact created at %s", o.output)
	return nil
}

// inside returns the path of a file relative to a directory that it is in.
func inside(dir, file string) (string, bool) {
	absDir, err := filepath.Abs(dir)
	if err != nil {
		return "", false
	}
	absFile, err := filepath.Abs(file)
	if err != nil {
		return "", false
	}
	rel, err := filepath.Rel(absDir, absFile)
	return rel, err == nil && filepath.IsLocal(rel)
}

// writeFile writes a file whole or not at all: a reader never sees half of it, and a failure leaves what was there.
func writeFile(name string, write func(io.Writer) error) (err error) {
	aside, err := os.CreateTemp(filepath.Dir(name), ".artifact-*")
	if err != nil {
		var path *fs.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		return fmt.Errorf("create '%s': %w", name, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(aside.Name())
		}
	}()
	if err := errors.Join(write(aside), aside.Chmod(0o644), aside.Close()); err != nil {
		return err
	}
	if err := os.Rename(aside.Name(), name); err != nil {
		return fmt.Errorf("create '%s': %w", name, err)
	}
	return nil
}
