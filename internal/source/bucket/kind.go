package bucket

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seed-79636ae9/flux/api/meta"
	v1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/kind"
	"github.com/seed-79636ae9/flux/toolkit/auth"
)

// Kind describes Bucket to the generic verbs.
func Kind() kind.Kind {
	return kind.Kind{
		GroupVersionKind: v1.GroupVersion.WithKind(v1.BucketKind), Resource: "buckets",
		Words: []string{"source", "bucket"}, ListWords: []string{"sources", "bucket"}, Noun: "Bucket source",
		Verbs: kind.AllVerbs, ShortenHashes: true, Artifact: true,
		Columns: []kind.Column{
			kind.RevisionColumn(kind.Object.Revision), kind.SuspendedColumn(), kind.WideField("ENDPOINT", "spec", "endpoint"),
		},
		Secrets: kind.SecretRefs("secretRef", "certSecretRef", "proxySecretRef"),
		Done:    kind.FetchedRevision,
		Describe: func(o kind.Object) []kind.Line {
			return append([]kind.Line{
				{Title: "Endpoint", Value: o.Field("spec", "endpoint")}, {Title: "Bucket", Value: o.Field("spec", "bucketName")},
			}, kind.DescribeArtifact(o)...)
		},
		Create: &kind.Create{
			Short: "Create or update a Bucket source",
			Long: `The create source bucket command generates a Bucket resource and waits for it to be downloaded.
For buckets with static keys, the keys are stored in a Kubernetes secret.`,
			Example: `  # Create a source from a bucket of an S3-compatible server with static keys
  flux create source bucket podinfo \
    --bucket-name=podinfo \
    --endpoint=minio.example.com:9000 \
    --insecure=true \
    --access-key=myaccesskey \
    --secret-key=mysecretkey \
    --interval=10m

  # Create a source from a bucket of Amazon S3 with the identity of the controller
  flux create source bucket podinfo \
    --bucket-name=podinfo \
    --provider=aws \
    --endpoint=s3.amazonaws.com \
    --region=us-east-1 \
    --interval=10m

  # Create a source from a container of Azure Blob Storage with credentials from an existing Secret
  flux create source bucket podinfo \
    --bucket-name=podinfo \
    --provider=azure \
    --endpoint=https://account.blob.core.windows.net \
    --secret-ref=podinfo-credentials \
    --interval=10m`,
			Bind: bindCreate,
			Done: func(kind.Object) string { return "Bucket source reconciliation completed" },
		},
	}
}

// createOptions are the flags of `flux create source bucket`.
type createOptions struct {
	name, endpoint, region    string
	accessKey, secretKey      string
	secretRef, proxySecretRef string
	provider                  kind.Enum
	insecure                  bool
	ignore                    []string
}

func bindCreate(flags *pflag.FlagSet) kind.Build {
	o := &createOptions{
		provider: kind.Enum{Value: auth.Generic, Allowed: []string{auth.Generic, auth.AWS, auth.Azure, auth.GCP}, Noun: "source bucket provider"},
	}
	flags.Var(&o.provider, "provider", "the object storage provider, one of: generic, aws, azure, gcp")
	flags.StringVar(&o.name, "bucket-name", "", "the name of the bucket, or of the container")
	flags.StringVar(&o.endpoint, "endpoint", "", "the address of the object storage, as host or host:port; a URL with --provider=azure")
	flags.StringVar(&o.accessKey, "access-key", "", "the access key of the bucket")
	flags.StringVar(&o.secretKey, "secret-key", "", "the secret key of the bucket")
	flags.StringVar(&o.region, "region", "", "the region of the bucket")
	flags.BoolVar(&o.insecure, "insecure", false, "talk plain HTTP to the endpoint")
	flags.StringVar(&o.secretRef, "secret-ref", "", "the name of an existing secret containing the credentials of the bucket")
	flags.StringVar(&o.proxySecretRef, "proxy-secret-ref", "", "the name of an existing secret containing the proxy address and credentials")
	flags.StringSliceVar(&o.ignore, "ignore-paths", nil, "set paths to ignore in bucket resource (can specify multiple paths with commas: path1,path2)")
	return o.build
}

// validate checks what can be checked without a cluster.
func (o *createOptions) validate() error {
	switch {
	case o.name == "":
		return errors.New("--bucket-name is required")
	case o.endpoint == "":
		return errors.New("--endpoint is required")
	case (o.accessKey == "") != (o.secretKey == ""):
		return errors.New("--access-key and --secret-key belong together")
	case o.accessKey != "" && o.secretRef != "":
		return errors.New("--access-key and --secret-ref exclude each other: the keys go into a secret of their own")
	case o.accessKey != "" && o.provider.Value != auth.Generic && o.provider.Value != auth.AWS:
		return fmt.Errorf("--access-key is for --provider=generic and aws: with '%s' name a secret with --secret-ref", o.provider.Value)
	}
	return nil
}

func (o *createOptions) build(_ context.Context, in kind.CreateInput) (*kind.Created, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	bucket := &v1.Bucket{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1.GroupVersion.String(), Kind: v1.BucketKind},
		ObjectMeta: metav1.ObjectMeta{Name: in.Name, Namespace: in.Namespace, Labels: in.Labels},
		Spec: v1.BucketSpec{
			BucketName: o.name, Provider: o.provider.Value, Insecure: o.insecure, Endpoint: o.endpoint, Region: o.region,
			Interval: meta.DurationOf(in.Interval),
		},
	}
	if in.Timeout > 0 {
		bucket.Spec.Timeout = meta.DurationOf(in.Timeout)
	}
	if len(o.ignore) > 0 {
		patterns := strings.Join(o.ignore, "\n")
		bucket.Spec.Ignore = &patterns
	}
	if o.proxySecretRef != "" {
		bucket.Spec.ProxySecretRef = &meta.LocalObjectReference{Name: o.proxySecretRef}
	}
	if o.secretRef != "" {
		bucket.Spec.SecretRef = &meta.LocalObjectReference{Name: o.secretRef}
	}
	if o.accessKey == "" || in.Export {
		return &kind.Created{Object: bucket}, nil
	}
	bucket.Spec.SecretRef = &meta.LocalObjectReference{Name: in.Name}
	return &kind.Created{Object: bucket, Secret: &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Name: in.Name, Namespace: in.Namespace, Labels: in.Labels},
		Data:       map[string][]byte{accessKey: []byte(o.accessKey), secretKey: []byte(o.secretKey)},
	}}, nil
}
