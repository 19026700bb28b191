package component

import (
	"github.com/spf13/pflag"

	"github.com/seed-79636ae9/flux/toolkit/cluster"
	"github.com/seed-79636ae9/flux/toolkit/kube"
)

// RemoteFlags are the flags about other clusters (wire.md 14), of every component whose objects may have a spec.kubeConfig. Those of one
// process share them.
type RemoteFlags struct {
	// ServiceAccount signs in to other clusters where the ConfigMap of spec.kubeConfig names none.
	ServiceAccount string
	// Kubeconfig says what kubeconfigs of Secrets may ask for.
	Kubeconfig kube.KubeconfigOptions
	// Limits bound what another cluster may cost.
	Limits kube.RemoteOptions
}

// BindFlags declares the flags.
func (f *RemoteFlags) BindFlags(fs *pflag.FlagSet) {
	fs.StringVar(&f.ServiceAccount, "default-kubeconfig-service-account", "", "The service account that signs in to other clusters where spec.kubeConfig names none.")
	fs.BoolVar(&f.Kubeconfig.Exec, "insecure-kubeconfig-exec", false, "Let kubeconfigs of Secrets start programs of the controller to get credentials.")
	fs.BoolVar(&f.Kubeconfig.InsecureTLS, "insecure-kubeconfig-tls", false, "Let kubeconfigs leave the API server unverified, or use HTTP without TLS.")
	fs.IntVar(&f.Kubeconfig.MaxBytes, "kubeconfig-limit-size", kube.DefaultKubeconfigBytes, "The most bytes of a kubeconfig.")
	fs.DurationVar(&f.Limits.Timeout, "remote-limit-time", kube.DefaultRemoteTimeout, "How long the API server of another cluster may take for an answer.")
	fs.Int64Var(&f.Limits.AnswerBytes, "remote-limit-answer-size", kube.DefaultRemoteAnswerBytes, "The most bytes of an answer of the API server of another cluster.")
}

// Clusters are the options of the clusters that the objects of a kind act on, as the flags say.
func (f *RemoteFlags) Clusters(host *Host, kind string) cluster.Options {
	limits := f.Limits
	limits.UserAgent = host.Clusters.Own().Config().UserAgent
	return cluster.Options{
		Kind: kind, Own: host.Clusters, Reader: host.Reader, Auth: host.Auth,
		DefaultServiceAccount: host.Common.DefaultServiceAccount, KubeConfigServiceAccount: f.ServiceAccount,
		Kubeconfig: f.Kubeconfig, Remote: limits, Log: host.Log.WithName("managed"),
	}
}
