package helm

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/kind"
)

// createOptions are the flags of `flux create helmrelease`.
type createOptions struct {
	source, chart, version, chartRef               string
	chartInterval                                  time.Duration
	strategy                                       string
	values, valuesFrom, dependsOn                  []string
	releaseName, targetNamespace, storageNamespace string
	createNamespace                                bool
	crds                                           kind.Enum
	serviceAccount, kubeConfig                     string
}

func chartSourceKinds() []string {
	return []string{sourcev1.HelmRepositoryKind, sourcev1.GitRepositoryKind, sourcev1.BucketKind}
}

func chartRefKinds() []string {
	return []string{sourcev1.OCIRepositoryKind, sourcev1.HelmChartKind, sourcev1.ExternalArtifactKind}
}

func valuesKinds() []string { return []string{"Secret", "ConfigMap"} }

func bindCreate(flags *pflag.FlagSet) kind.Build {
	o := &createOptions{
		crds: kind.Enum{Allowed: []string{helmv2.CRDsSkip, helmv2.CRDsCreate, helmv2.CRDsCreateReplace}, Noun: "CRDs policy"},
	}
	flags.StringVar(&o.source, "source", "", "source that contains the chart in the format '[<kind>/]<name>.<namespace>', where kind must be one of: ("+strings.Join(chartSourceKinds(), ", ")+"), if kind is not specified it defaults to HelmRepository")
	flags.StringVar(&o.chart, "chart", "", "name of the chart in a HelmRepository, or its path in a GitRepository or Bucket")
	flags.StringVar(&o.version, "chart-version", "", "version of the chart, or a range of versions; without effect for a GitRepository or Bucket")
	flags.DurationVar(&o.chartInterval, "chart-interval", 0, "how often to look for new versions of the chart, --interval if it is not set")
	flags.StringVar(&o.chartRef, "chart-ref", "", "source that holds the chart itself, in the format '<kind>/<name>.<namespace>', where kind must be one of: ("+strings.Join(chartRefKinds(), ", ")+")")
	flags.StringVar(&o.strategy, "reconcile-strategy", sourcev1.ReconcileStrategyChartVersion, "what makes a new chart, one of: ChartVersion, Revision")
	flags.StringSliceVar(&o.values, "values", nil, "local YAML files with values, later ones win, also accepts comma-separated paths")
	flags.StringSliceVar(&o.valuesFrom, "values-from", nil, "objects of the cluster with values in the format '<kind>/<name>', where kind must be one of: ("+strings.Join(valuesKinds(), ", ")+"), later ones win")
	flags.Var(&o.crds, "crds", "what an upgrade does with the CRDs of the chart, one of: ("+strings.Join(o.crds.Allowed, ", ")+")")
	flags.StringVar(&o.releaseName, "release-name", "", "name of the Helm release, defaults to '[<target namespace>-]<name>'")
	flags.StringVar(&o.targetNamespace, "target-namespace", "", "namespace to release into, defaults to that of the HelmRelease")
	flags.BoolVar(&o.createNamespace, "create-target-namespace", false, "create the target namespace if it does not exist")
	flags.StringVar(&o.storageNamespace, "storage-namespace", "", "namespace where Helm keeps its records of the release, defaults to the target namespace")
	flags.StringSliceVar(&o.dependsOn, "depends-on", nil, "HelmReleases that must be ready before this one is installed, supported formats '<name>' and '<namespace>/<name>', also supports comma-separated values")
	flags.StringVar(&o.serviceAccount, "service-account", "", "the name of the service account to impersonate when reconciling this HelmRelease")
	flags.StringVar(&o.kubeConfig, "kubeconfig-secret-ref", "", "the name of the Kubernetes Secret that contains a key with the kubeconfig file for connecting to a remote cluster")
	return o.build
}

// build makes the HelmRelease (cli 26).
func (o *createOptions) build(_ context.Context, in kind.CreateInput) (*kind.Created, error) {
	hr := &helmv2.HelmRelease{
		TypeMeta:   metav1.TypeMeta{APIVersion: helmv2.GroupVersion.String(), Kind: helmv2.HelmReleaseKind},
		ObjectMeta: metav1.ObjectMeta{Name: in.Name, Namespace: in.Namespace, Labels: in.Labels},
		Spec: helmv2.HelmReleaseSpec{
			Interval: meta.DurationOf(in.Interval), ReleaseName: o.releaseName, ServiceAccountName: o.serviceAccount,
			TargetNamespace: o.targetNamespace, StorageNamespace: o.storageNamespace,
		},
	}
	if o.storageNamespace == "" {
		hr.Spec.StorageNamespace = o.targetNamespace
	}
	if o.kubeConfig != "" {
		hr.Spec.KubeConfig = &meta.KubeConfigReference{SecretRef: &meta.SecretKeyReference{Name: o.kubeConfig}}
	}
	if o.createNamespace {
		if o.targetNamespace == "" {
			return nil, errors.New("--create-target-namespace needs --target-namespace")
		}
		hr.Spec.Install = &helmv2.Install{CreateNamespace: true}
	}
	if o.crds.Value != "" {
		// An install has nothing to replace: what is asked for is a matter of upgrades.
		if hr.Spec.Install == nil {
			hr.Spec.Install = &helmv2.Install{}
		}
		hr.Spec.Install.CRDs = helmv2.CRDsCreate
		hr.Spec.Upgrade = &helmv2.Upgrade{CRDs: o.crds.Value}
	}
	for _, set := range []func(*helmv2.HelmReleaseSpec) error{o.setChart, o.setValues, o.setDependencies} {
		if err := set(&hr.Spec); err != nil {
			return nil, err
		}
	}
	return &kind.Created{Object: hr}, nil
}

func (o *createOptions) setChart(spec *helmv2.HelmReleaseSpec) error {
	switch {
	case (o.chart == "") == (o.chartRef == ""):
		return errors.New("exactly one of --chart and --chart-ref is required")
	case o.chartRef != "":
		return o.setChartRef(spec)
	case o.source == "":
		return errors.New("--chart needs --source")
	case o.strategy != sourcev1.ReconcileStrategyChartVersion && o.strategy != sourcev1.ReconcileStrategyRevision:
		return fmt.Errorf("--reconcile-strategy '%s' is not supported, must be one of: ChartVersion, Revision", o.strategy)
	}
	source, err := kind.ParseSource("source", o.source, sourcev1.HelmRepositoryKind, chartSourceKinds())
	if err != nil {
		return err
	}
	spec.Chart = &helmv2.HelmChartTemplate{Spec: helmv2.HelmChartTemplateSpec{
		Chart: o.chart, Version: o.version, ReconcileStrategy: o.strategy,
		SourceRef: helmv2.ChartSourceReference{Kind: source.Kind, Name: source.Name, Namespace: source.Namespace},
	}}
	if o.chartInterval > 0 {
		spec.Chart.Spec.Interval = meta.DurationOf(o.chartInterval)
	}
	return nil
}

func (o *createOptions) setChartRef(spec *helmv2.HelmReleaseSpec) error {
	if o.source != "" || o.version != "" || o.chartInterval != 0 {
		return errors.New("--source, --chart-version and --chart-interval belong to --chart: with --chart-ref the source says which chart it is")
	}
	ref, err := kind.ParseSource("chart-ref", o.chartRef, "", chartRefKinds())
	if err != nil {
		return err
	}
	spec.ChartRef = &helmv2.ChartReference{Kind: ref.Kind, Name: ref.Name, Namespace: ref.Namespace}
	return nil
}

func (o *createOptions) setValues(spec *helmv2.HelmReleaseSpec) error {
	merged := map[string]any{}
	for _, path := range o.values {
		data, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read --values: %w", err)
		}
		values, err := readValues(data)
		if err != nil {
			return fmt.Errorf("--values '%s' holds no YAML map: %w", path, err)
		}
		merged = loader.MergeMaps(merged, values)
	}
	if len(o.values) > 0 {
		data, err := json.Marshal(merged)
		if err != nil {
			return fmt.Errorf("render --values: %w", err)
		}
		spec.Values = &apiextensionsv1.JSON{Raw: data}
	}
	for _, s := range o.valuesFrom {
		word, name, ok := strings.Cut(s, "/")
		i := slices.IndexFunc(valuesKinds(), func(known string) bool { return strings.EqualFold(known, word) })
		switch {
		case !ok || name == "" || strings.Contains(name, "/"):
			return fmt.Errorf("--values-from '%s' is not of the form <kind>/<name>", s)
		case i < 0:
			return fmt.Errorf("--values-from '%s' has kind '%s', use one of: %s", s, word, strings.Join(valuesKinds(), ", "))
		}
		spec.ValuesFrom = append(spec.ValuesFrom, helmv2.ValuesReference{Kind: valuesKinds()[i], Name: name})
	}
	return nil
}

// readValues reads a file of values as Helm does, documents one after the other, but keeps all digits of whole numbers.
func readValues(data []byte) (map[string]any, error) {
	merged := map[string]any{}
	// The reader may lose a last line that does not end.
	documents := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(append(data, '\n'))))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return merged, nil
		}
		if err != nil {
			return nil, err
		}
		text, err := yaml.YAMLToJSON(document)
		if err != nil {
			return nil, err
		}
		var values map[string]any
		if err := utiljson.Unmarshal(text, &values); err != nil {
			return nil, err
		}
		merged = loader.MergeMaps(merged, values)
	}
}

func (o *createOptions) setDependencies(spec *helmv2.HelmReleaseSpec) (err error) {
	spec.DependsOn, err = kind.ParseDependencies(o.dependsOn)
	return err
}
