package build

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"helm.sh/helm/v4/pkg/chart/common"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"sigs.k8s.io/yaml"

	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
)

const (
	chartFile  = "Chart.yaml"
	valuesFile = "values.yaml"
)

// merge reads the values files, later ones over earlier ones, and returns those that were found. Maps are merged, lists
// replaced (helmchart 29-31, 67). A file that is not there has the property fs.ErrNotExist.
func (v Values) merge(read func(name string) ([]byte, error)) (merged map[string]any, found []string, err error) {
	for _, name := range v.Files {
		data, err := read(name)
		switch {
		case errors.Is(err, fs.ErrNotExist) && v.IgnoreMissing:
			continue
		case errors.Is(err, fs.ErrNotExist):
			return nil, nil, fmt.Errorf("no values file found at path '%s'", name)
		case err != nil:
			return nil, nil, fmt.Errorf("failed to read values file '%s': %w", name, err)
		}
		var values map[string]any
		// Numbers stay as they are written: a float cannot hold all of them.
		if err := yaml.Unmarshal(data, &values, func(d *json.Decoder) *json.Decoder { d.UseNumber(); return d }); err != nil {
			return nil, nil, fmt.Errorf("values file '%s' is not a YAML map: %w", name, err)
		}
		merged = loader.MergeMaps(merged, values)
		found = append(found, name)
	}
	return merged, found, nil
}

// replaceValues makes the merged values those of the chart (helmchart 32, 68).
func replaceValues(c *chart.Chart, merged map[string]any) error {
	at := slices.IndexFunc(c.Raw, func(f *common.File) bool { return f.Name == valuesFile })
	if at < 0 {
		return errors.New("the chart has no values.yaml that could be replaced: add one, or remove spec.valuesFiles")
	}
	data, err := yaml.Marshal(merged)
	if err != nil {
		return fmt.Errorf("writing the merged values: %w", err)
	}
	c.Raw[at] = &common.File{Name: valuesFile, Data: data}
	c.Values = merged
	return nil
}

// mergeInto merges the values files into the chart and returns those that were found. Where none is, the chart keeps the
// values it has (helmchart 31, 65).
func (v Values) mergeInto(c *chart.Chart, read func(name string) ([]byte, error)) ([]string, error) {
	if !v.merges() {
		return nil, nil
	}
	merged, found, err := v.merge(read)
	if err == nil && len(found) > 0 {
		err = replaceValues(c, merged)
	}
	if err != nil {
		return nil, &Error{Reason: sourcev1.ValuesFilesErrorReason, Err: err}
	}
	return found, nil
}

// fromChart reads values files of the chart itself (helmchart 30).
func fromChart(c *chart.Chart) func(name string) ([]byte, error) {
	return func(name string) ([]byte, error) {
		clean := path.Clean(name)
		files := c.Files
		if clean == valuesFile {
			files = c.Raw
		}
		for _, f := range files {
			if f.Name == clean {
				return f.Data, nil
			}
		}
		return nil, fs.ErrNotExist
	}
}
