// Package plan decides with which arguments and limits each part of the cluster runs.
package plan

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/seed-79636ae9/flux/cluster/internal/home"
	"github.com/seed-79636ae9/flux/cluster/internal/trust"
)

// Names of the parts, in the order of their start.
const (
	Etcd        = "etcd"
	APIServer   = "kube-apiserver"
	Controllers = "kube-controller-manager"
	Simulator   = "pod-simulator"
)

const (
	serviceRange = "10.96.0.0/16"
	issuer       = "https://kubernetes.default.svc"
)

// ServerNames are the names besides the loopback addresses by which clients may know the API server.
func ServerNames() []string {
	return []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "10.96.0.1"}
}

// Options are the choices of the user that reach the parts' arguments.
type Options struct {
	// Home is the absolute data directory.
	Home string
	// Port is the port of the API server on the loopback address.
	Port int
	// Durable makes etcd wait for the disk. Without it, a crash of the machine loses data.
	Durable bool
	// AuditPolicy and AuditLog are the API server's audit policy file and log file, both empty for none.
	AuditPolicy, AuditLog string
}

// Command is what a part is run with: arguments after its name, and environment on top of the supervisor's.
type Command struct {
	Args []string
	Env  []string
}

// limits returns the environment that bounds the heap of a part. A low GOGC trades a little CPU for memory, which idle parts hardly
// notice; the memory limit only makes the collector work harder near it, so that a large cluster grows slower rather than failing. It
// has to be well above what a few thousand objects need: close to it the heap is collected all the time.
func limits(gogc, mebibytes int) []string {
	return []string{"GOGC=" + strconv.Itoa(gogc), fmt.Sprintf("GOMEMLIMIT=%dMiB", mebibytes)}
}

// EtcdCommand runs the store. It listens on a Unix socket in the data directory: no port to be taken, and no other user of the machine
// gets at the data.
func EtcdCommand(o Options) Command {
	return Command{
		Args: []string{
			"--data-dir=" + home.EtcdDir,
			"--socket=" + home.EtcdSocket,
			"--peer-socket=" + home.PeerSocket,
			"--durable=" + strconv.FormatBool(o.Durable),
		},
		Env: limits(50, 1024),
	}
}

// APIServerCommand runs the API server.
func APIServerCommand(o Options) Command {
	pki := func(name string) string { return o.Home + "/" + home.TrustDir + "/" + name }
	args := []string{
		"--etcd-servers=unix://" + home.EtcdSocket,
		"--bind-address=127.0.0.1",
		// Without it the API server looks for another interface, and a machine without a network has none.
		"--advertise-address=127.0.0.1",
		"--secure-port=" + strconv.Itoa(o.Port),
		"--tls-cert-file=" + pki(trust.ServerCertFile),
		"--tls-private-key-file=" + pki(trust.ServerKeyFile),
		"--token-auth-file=" + pki(trust.TokensFile),
		"--anonymous-auth=false",
		"--authorization-mode=RBAC",
		"--service-account-issuer=" + issuer,
		"--service-account-key-file=" + pki(trust.ServiceAccountFile),
		"--service-account-signing-key-file=" + pki(trust.ServiceAccountFile),
		"--service-cluster-ip-range=" + serviceRange,
		"--allow-privileged=true",
		// A loopback address cannot be the endpoint of the service "kubernetes", and one server needs no lease among its peers.
		"--endpoint-reconciler-type=none",
		"--enable-priority-and-fairness=false",
		// No controller takes the taint off again that this one puts on a new node.
		"--disable-admission-plugins=TaintNodesByCondition",
		"--default-watch-cache-size=20",
		"--delete-collection-workers=4",
		"--event-ttl=1h",
		"--etcd-count-metric-poll-period=0",
		"--etcd-db-metric-poll-interval=0",
		"--profiling=false",
		"--shutdown-delay-duration=0",
	}
	if o.AuditPolicy != "" {
		args = append(args, "--audit-policy-file="+o.AuditPolicy, "--audit-log-path="+o.AuditLog)
	}
	return Command{Args: args, Env: limits(100, 2048)}
}

// controllerNames are the controllers that a cluster without kubelets, volumes, cloud and certificates has work for.
func controllerNames() []string {
	return []string{
		"clusterrole-aggregation-controller",
		"cronjob-controller",
		"daemonset-controller",
		"deployment-controller",
		"disruption-controller",
		"endpoints-controller",
		"endpointslice-controller",
		"endpointslice-mirroring-controller",
		"garbage-collector-controller",
		"job-controller",
		"namespace-controller",
		"pod-garbage-collector-controller",
		"replicaset-controller",
		"replicationcontroller-controller",
		"resourcequota-controller",
		"root-ca-certificate-publisher-controller",
		"serviceaccount-controller",
		"serviceaccount-token-controller",
		"statefulset-controller",
		"ttl-after-finished-controller",
		"validatingadmissionpolicy-status-controller",
	}
}

// ControllersCommand runs the controller manager with the given kubeconfig.
func ControllersCommand(o Options, kubeconfig string) Command {
	pki := o.Home + "/" + home.TrustDir + "/"
	args := []string{
		"--kubeconfig=" + kubeconfig,
		"--controllers=" + strings.Join(controllerNames(), ","),
		"--leader-elect=false",
		// Nobody scrapes or probes it, and serving would cost an authenticator and an authorizer.
		"--secure-port=0",
		"--service-account-private-key-file=" + pki + trust.ServiceAccountFile,
		"--root-ca-file=" + pki + trust.CAFile,
		// A rollout takes a controller a handful of requests. With few of them a second, whoever waits for hundreds of rollouts would
		// wait for this limit alone.
		"--kube-api-qps=2000",
		"--kube-api-burst=4000",
		"--min-resync-period=24h",
		"--profiling=false",
		"--concurrent-gc-syncs=10",
	}
	for _, name := range []string{"deployment", "endpoint", "service-endpoint", "replicaset", "statefulset", "job", "cron-job", "resource-quota", "serviceaccount-token"} {
		args = append(args, "--concurrent-"+name+"-syncs=2")
	}
	return Command{Args: args, Env: limits(40, 1024)}
}

// SimulatorCommand runs the pod simulator with the given kubeconfig.
func SimulatorCommand(kubeconfig string) Command {
	return Command{Args: []string{"--kubeconfig=" + kubeconfig}, Env: limits(40, 120)}
}
