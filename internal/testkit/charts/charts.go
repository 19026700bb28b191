// Package charts holds charts of Helm to test with, as the files of their source, and packs and serves them.
package charts

import (
	"embed"
	"fmt"
	"io/fs"
	"maps"
	"path"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"sigs.k8s.io/yaml"

	"github.com/seed-79636ae9/flux/internal/testkit"
)

//go:embed all:trees
var trees embed.FS

// Versions of Webapp. 1.1.0 changes objects of 1.0.0; 2.0.0 has one object under another name.
const (
	First  = "1.0.0"
	Second = "1.1.0"
	Third  = "2.0.0"
)

// Chart is the source of a chart: its files by their path in the chart's folder.
type Chart struct {
	// Name and Version are those of Chart.yaml.
	Name, Version string
	Files         map[string]string
}

// Webapp is an application with all that charts have: a Deployment with a Service, an Ingress, a ServiceAccount and an
// autoscaler, hooks, tests, a CRD, a subchart by condition, a library chart, a schema and notes. An unknown version panics.
func Webapp(version string) Chart {
	files := tree("webapp")
	if version != First {
		maps.Copy(files, tree("webapp-"+version))
	}
	return Chart{Name: "webapp", Version: version, Files: files}
}

// Many is a chart of as many objects as its value "count" says; the default is 100.
func Many() Chart { return Chart{Name: "many", Version: First, Files: tree("many")} }

// Hooks is a chart with a hook for each event. Its values say which of them fail or hang and how they are deleted.
func Hooks() Chart { return Chart{Name: "hooks", Version: First, Files: tree("hooks")} }

// tree reads the files of an embedded chart.
func tree(name string) map[string]string {
	root := path.Join("trees", name)
	files := map[string]string{}
	err := fs.WalkDir(trees, root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := trees.ReadFile(file)
		if err != nil {
			return err
		}
		files[file[len(root)+1:]] = string(content)
		return nil
	})
	if err != nil {
		// The trees are part of the program.
		panic(err)
	}
	return files
}

// At is the same chart with another version in its Chart.yaml.
func (c Chart) At(version string) (Chart, error) {
	metadata, err := c.metadata()
	if err != nil {
		return c, err
	}
	metadata["version"] = version
	content, err := yaml.Marshal(metadata)
	if err != nil {
		return c, fmt.Errorf("writing Chart.yaml of %s: %w", c.Name, err)
	}
	files := maps.Clone(c.Files)
	files[metadataFile] = string(content)
	return Chart{Name: c.Name, Version: version, Files: files}, nil
}

const metadataFile = "Chart.yaml"

func (c Chart) metadata() (map[string]any, error) {
	var metadata map[string]any
	if err := yaml.Unmarshal([]byte(c.Files[metadataFile]), &metadata); err != nil {
		return nil, fmt.Errorf("reading Chart.yaml of %s: %w", c.Name, err)
	}
	return metadata, nil
}

// Below returns the files with their paths below a folder, as for a commit.
func (c Chart) Below(folder string) map[string]string {
	files := make(map[string]string, len(c.Files))
	for file, content := range c.Files {
		files[path.Join(folder, file)] = content
	}
	return files
}

// Archive packs the chart. Equal charts give equal bytes.
func (c Chart) Archive() ([]byte, error) { return testkit.TarGzip(c.Below(c.Name)) }

// FileName is how the archive is called in a repository.
func (c Chart) FileName() string { return c.Name + "-" + c.Version + ".tgz" }

// Image packs the chart as registries keep charts.
func (c Chart) Image() (v1.Image, error) {
	return testkit.BuildImage("application/vnd.cncf.helm.config.v1+json", nil, []testkit.Layer{{
		MediaType: "application/vnd.cncf.helm.chart.content.v1.tar+gzip", Files: c.Below(c.Name),
	}})
}

// Serve puts the charts and an index of them, and of nothing else, below a folder of a file server.
func Serve(files *testkit.Files, folder string, all ...Chart) error {
	entries := map[string][]any{}
	for _, c := range all {
		metadata, err := c.metadata()
		if err != nil {
			return err
		}
		archive, err := c.Archive()
		if err != nil {
			return err
		}
		files.Put(path.Join(folder, c.FileName()), archive)
		metadata["urls"], metadata["created"] = []string{c.FileName()}, created
		entries[c.Name] = append(entries[c.Name], metadata)
	}
	index, err := yaml.Marshal(map[string]any{"apiVersion": "v1", "generated": created, "entries": entries})
	if err != nil {
		return fmt.Errorf("writing the index of %s: %w", folder, err)
	}
	files.Put(path.Join(folder, "index.yaml"), index)
	return nil
}

// created is the time in indexes; that of a clock would make a new revision of the same charts.
const created = "2026-01-01T00:00:00Z"

// Push uploads the chart as folder/name:version, and under each further tag.
func Push(registry *testkit.Registry, folder string, c Chart, tags ...string) error {
	image, err := c.Image()
	if err != nil {
		return err
	}
	return registry.Push(path.Join(folder, c.Name)+":"+c.Version, image, tags...)
}
