package bucket

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	"k8s.io/utils/ptr"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/kind"
)

func build(t *testing.T, in kind.CreateInput, args ...string) (*kind.Created, error) {
	t.Helper()
	flags := pflag.NewFlagSet("bucket", pflag.ContinueOnError)
	create := Kind().Create.Bind(flags)
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	in.Name, in.Namespace, in.Interval = "app", "apps", time.Minute
	return create(t.Context(), in)
}

func TestCreate(t *testing.T) {
	required := []string{"--bucket-name=b", "--endpoint=minio:9000"}
	spec := sourcev1.BucketSpec{Provider: "generic", BucketName: "b", Endpoint: "minio:9000", Interval: meta.DurationOf(time.Minute)}
	for name, test := range map[string]struct {
		in     kind.CreateInput
		args   []string
		change func(*sourcev1.BucketSpec)
		secret map[string][]byte
	}{
		"least": {args: required, change: func(*sourcev1.BucketSpec) {}},
		"everything": {
			in:   kind.CreateInput{Timeout: time.Second},
			args: append(required, "--provider=azure", "--insecure", "--region=r", "--secret-ref=s", "--proxy-secret-ref=p", "--ignore-paths=x,y"),
			change: func(s *sourcev1.BucketSpec) {
				s.Provider, s.Insecure, s.Region, s.Ignore, s.Timeout = "azure", true, "r", ptr.To("x\ny"), meta.DurationOf(time.Second)
				s.SecretRef, s.ProxySecretRef = named("s"), named("p")
			},
		},
		"keys": {
			args: append(required, "--access-key=a", "--secret-key=k"), change: func(s *sourcev1.BucketSpec) { s.SecretRef = named("app") },
			secret: map[string][]byte{"accesskey": []byte("a"), "secretkey": []byte("k")},
		},
		// Nothing is generated where nothing is applied.
		"export": {in: kind.CreateInput{Export: true}, args: append(required, "--access-key=a", "--secret-key=k"), change: func(*sourcev1.BucketSpec) {}},
	} {
		t.Run(name, func(t *testing.T) {
			created, err := build(t, test.in, test.args...)
			if err != nil {
				t.Fatal(err)
			}
			want := spec
			test.change(&want)
			expect(t, "spec", want, created.Object.(*sourcev1.Bucket).Spec)
			var data map[string][]byte
			if created.Secret != nil {
				data = created.Secret.Data
			}
			if diff := cmp.Diff(test.secret, data); diff != "" {
				t.Errorf("Secret (-want +got):\n%s", diff)
			}
		})
	}
	for args, want := range map[string]string{
		"--endpoint=x":    "--bucket-name is required",
		"--bucket-name=x": "--endpoint is required",
		"--bucket-name=b --endpoint=e --access-key=a":                               "belong together",
		"--bucket-name=b --endpoint=e --secret-key=a":                               "belong together",
		"--bucket-name=b --endpoint=e --access-key=a --secret-key=k --secret-ref=s": "exclude each other",
		"--bucket-name=b --endpoint=e --access-key=a --secret-key=k --provider=gcp": "--secret-ref",
		"--bucket-name=b --endpoint=e --provider=minio":                             "provider",
	} {
		if _, err := build(t, kind.CreateInput{}, strings.Fields(args)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error = %v, want %q", args, err, want)
		}
	}
}
