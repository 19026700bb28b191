package manifests

import (
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

// groupID owns the volumes, so that the unprivileged process can write them.
const groupID = 1337

func (r *renderer) deployments() []*appsv1.Deployment {
	var out []*appsv1.Deployment
	for _, u := range r.units() {
		out = append(out, r.deployment(u))
	}
	return out
}

func (r *renderer) deployment(u unit) *appsv1.Deployment {
	selector := map[string]string{"app": u.name}
	podLabels := r.labels(u.name)
	delete(podLabels, "control-plane")
	podLabels["app"] = u.name
	d := &appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: r.meta(u.name, u.name),
		Spec: appsv1.DeploymentSpec{
			Replicas: ptr.To[int32](1),
			Selector: &metav1.LabelSelector{MatchLabels: selector},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: podLabels, Annotations: map[string]string{
					"prometheus.io/port": fmt.Sprint(portMetrics), "prometheus.io/scrape": "true",
				}},
				Spec: r.pod(u),
			},
		},
	}
	if u.any(func(c Component) bool { return c.Artifacts }) {
		// Two writers of one artifact store, even for a moment, are one too many.
		d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
	}
	return d
}

func (r *renderer) pod(u unit) corev1.PodSpec {
	var grace int64 = 10
	for _, c := range u.components {
		grace = max(grace, c.GraceSeconds)
	}
	pod := corev1.PodSpec{
		ServiceAccountName:            u.name,
		NodeSelector:                  map[string]string{"kubernetes.io/os": "linux"},
		TerminationGracePeriodSeconds: &grace,
		SecurityContext:               &corev1.PodSecurityContext{FSGroup: ptr.To[int64](groupID)},
		Containers:                    []corev1.Container{r.container(u)},
		Volumes: []corev1.Volume{
			{Name: "temp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		},
	}
	if u.any(keepsData) {
		pod.Volumes = append(pod.Volumes, corev1.Volume{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
	}
	if u.any(func(c Component) bool { return c.Critical }) {
		pod.PriorityClassName = "system-cluster-critical"
	}
	if r.ImagePullSecret != "" {
		pod.ImagePullSecrets = []corev1.LocalObjectReference{{Name: r.ImagePullSecret}}
	}
	for _, key := range r.TolerationKeys {
		pod.Tolerations = append(pod.Tolerations, corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists})
	}
	return pod
}

// keepsData tells of components that write to /data, which is read-only without a volume.
func keepsData(c Component) bool { return c.Artifacts || c.Data }

func (r *renderer) container(u unit) corev1.Container {
	c := corev1.Container{
		Name: "manager", Image: r.Image(), ImagePullPolicy: corev1.PullIfNotPresent,
		Args:      r.args(u),
		Env:       r.env(u),
		Resources: r.resources(u),
		Ports: []corev1.ContainerPort{
			{Name: "http-prom", ContainerPort: portMetrics, Protocol: corev1.ProtocolTCP},
			{Name: "healthz", ContainerPort: portHealth, Protocol: corev1.ProtocolTCP},
		},
		LivenessProbe:  probe("/healthz"),
		ReadinessProbe: probe("/readyz"),
		VolumeMounts:   []corev1.VolumeMount{{Name: "temp", MountPath: "/tmp"}},
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: ptr.To(false), ReadOnlyRootFilesystem: ptr.To(true), RunAsNonRoot: ptr.To(true),
			Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
	}
	if u.any(keepsData) {
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "data", MountPath: "/data"})
	}
	if u.any(func(c Component) bool { return c.Artifacts || c.Events }) {
		c.Ports = append(c.Ports, corev1.ContainerPort{Name: "http", ContainerPort: portHTTP, Protocol: corev1.ProtocolTCP})
	}
	if u.any(func(c Component) bool { return c.Events }) {
		c.Ports = append(c.Ports, corev1.ContainerPort{Name: "http-webhook", ContainerPort: portWebhooks, Protocol: corev1.ProtocolTCP})
	}
	return c
}

// args start the components of the unit with the flags of wire 19.
func (r *renderer) args(u unit) []string {
	args := []string{"run"}
	for _, c := range u.components {
		args = append(args, c.Name)
	}
	args = append(args,
		fmt.Sprintf("--watch-all-namespaces=%t", r.WatchAllNamespaces),
		"--log-level="+r.LogLevel, "--log-encoding=json", "--enable-leader-election")
	receives := u.any(func(c Component) bool { return c.Events })
	if slices.ContainsFunc(r.Components, func(c Component) bool { return c.Events }) && !receives {
		args = append(args, fmt.Sprintf("--events-addr=http://notification-controller.%s.svc.%s./", r.Namespace, r.domain()))
	}
	var gates []string
	for _, c := range r.Components {
		for to, gate := range c.Gates {
			if u.any(func(c Component) bool { return c.Name == to }) && !slices.Contains(gates, gate+"=true") {
				gates = append(gates, gate+"=true")
			}
		}
	}
	if len(gates) > 0 {
		slices.Sort(gates)
		args = append(args, "--feature-gates="+strings.Join(gates, ","))
	}
	return args
}

// domain is the cluster's domain without the dot at its end, which URLs here add themselves.
func (r *renderer) domain() string { return strings.TrimSuffix(r.ClusterDomain, ".") }

// env tells the process where it runs. The artifact store is told by environment, so that one spelling serves both
// profiles: as flags the two stores of a single process would need prefixes.
func (r *renderer) env(u unit) []corev1.EnvVar {
	env := []corev1.EnvVar{
		{Name: "RUNTIME_NAMESPACE", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"}}},
		{Name: "GOMEMLIMIT", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{ContainerName: "manager", Resource: "limits.memory"}}},
		{Name: "TUF_ROOT", Value: "/tmp/.sigstore"},
	}
	for _, c := range u.components {
		if c.Artifacts {
			env = append(env,
				corev1.EnvVar{Name: "STORAGE_PATH", Value: "/data"},
				corev1.EnvVar{Name: "STORAGE_ADV_ADDR", Value: fmt.Sprintf("%s.$(RUNTIME_NAMESPACE).svc.%s.", c.Name, r.domain())})
			break
		}
	}
	return env
}

// resources are 2.9's per component; one process for all of them gets twice the ceiling.
func (r *renderer) resources(u unit) corev1.ResourceRequirements {
	cpuRequest, cpu, memory := "100m", "1000m", "1Gi"
	if len(u.components) == 1 && u.components[0].CPURequest != "" {
		cpuRequest = u.components[0].CPURequest
	}
	if len(u.components) > 1 {
		cpu, memory = "2000m", "2Gi"
	}
	return corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpuRequest), corev1.ResourceMemory: resource.MustParse("64Mi")},
		Limits:   corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)},
	}
}

func probe(path string) *corev1.Probe {
	return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromString("healthz")}}}
}
