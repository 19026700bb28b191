package component

import (
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/seed-79636ae9/flux/toolkit/auth"
	"github.com/seed-79636ae9/flux/toolkit/cluster/clustertest"
	"github.com/seed-79636ae9/flux/toolkit/kube"
)

// wire.md 14, kustomization 96-98, helmrelease 88: what the flags say reaches the clusters of every kind.
func TestRemoteFlags(t *testing.T) {
	authenticator, err := auth.New(auth.Options{})
	if err != nil {
		t.Fatal(err)
	}
	host := &Host{
		Clusters: clustertest.NewServer(t, "home").Clients(t), Auth: authenticator, Log: logr.Discard(),
		Common: Common{DefaultServiceAccount: "default"},
	}
	type said struct {
		Account, KubeConfigAccount string
		Kubeconfig                 kube.KubeconfigOptions
		Timeout                    time.Duration
		AnswerBytes                int64
		UserAgent                  string
	}
	for name, test := range map[string]struct {
		args []string
		want said
	}{
		"nothing": {nil, said{
			Account: "default", Kubeconfig: kube.KubeconfigOptions{MaxBytes: kube.DefaultKubeconfigBytes},
			Timeout: kube.DefaultRemoteTimeout, AnswerBytes: kube.DefaultRemoteAnswerBytes, UserAgent: "test",
		}},
		"everything": {[]string{
			"--default-kubeconfig-service-account=fleet", "--insecure-kubeconfig-exec", "--insecure-kubeconfig-tls",
			"--kubeconfig-limit-size=10", "--remote-limit-time=2s", "--remote-limit-answer-size=30",
		}, said{
			Account: "default", KubeConfigAccount: "fleet", Kubeconfig: kube.KubeconfigOptions{MaxBytes: 10, Exec: true, InsecureTLS: true},
			Timeout: 2 * time.Second, AnswerBytes: 30, UserAgent: "test",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var f RemoteFlags
			fs := pflag.NewFlagSet("", pflag.ContinueOnError)
			f.BindFlags(fs)
			if err := fs.Parse(test.args); err != nil {
				t.Fatal(err)
			}
			o := f.Clusters(host, "Thing")
			if o.Kind != "Thing" || o.Own != host.Clusters || o.Auth != authenticator {
				t.Errorf("options: %+v", o)
			}
			got := said{o.DefaultServiceAccount, o.KubeConfigServiceAccount, o.Kubeconfig, o.Remote.Timeout, o.Remote.AnswerBytes, o.Remote.UserAgent}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
