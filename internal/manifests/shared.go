package manifests

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Ports of the components (wire 11).
const (
	portMetrics  = 8080
	portHealth   = 9440
	portHTTP     = 9090
	portWebhooks = 9292
)

func (r *renderer) meta(name, component string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: r.Namespace, Labels: r.labels(component)}
}

func (r *renderer) clusterMeta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name + "-" + r.Namespace, Labels: r.labels("")}
}

func (r *renderer) namespace() *corev1.Namespace {
	ns := &corev1.Namespace{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
		ObjectMeta: metav1.ObjectMeta{Name: r.Namespace, Labels: r.labels("")},
	}
	ns.Labels["pod-security.kubernetes.io/warn"] = "restricted"
	ns.Labels["pod-security.kubernetes.io/warn-version"] = "latest"
	return ns
}

// quota lets pods of the critical priority classes run outside kube-system.
func (r *renderer) quota() *corev1.ResourceQuota {
	return &corev1.ResourceQuota{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ResourceQuota"},
		ObjectMeta: r.meta("critical-pods-"+r.Namespace, ""),
		Spec: corev1.ResourceQuotaSpec{
			Hard: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("1000")},
			ScopeSelector: &corev1.ScopeSelector{MatchExpressions: []corev1.ScopedResourceSelectorRequirement{{
				ScopeName: corev1.ResourceQuotaScopePriorityClass, Operator: corev1.ScopeSelectorOpIn,
				Values: []string{"system-node-critical", "system-cluster-critical"},
			}}},
		},
	}
}

func (r *renderer) networkPolicies() []*networkingv1.NetworkPolicy {
	policy := func(name string, pods metav1.LabelSelector, ingress networkingv1.NetworkPolicyIngressRule) *networkingv1.NetworkPolicy {
		return &networkingv1.NetworkPolicy{
			TypeMeta:   metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"},
			ObjectMeta: r.meta(name, ""),
			Spec: networkingv1.NetworkPolicySpec{
				PodSelector: pods, Ingress: []networkingv1.NetworkPolicyIngressRule{ingress},
				PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
			},
		}
	}
	port := func(n int) []networkingv1.NetworkPolicyPort {
		tcp, at := corev1.ProtocolTCP, intstr.FromInt32(int32(n))
		return []networkingv1.NetworkPolicyPort{{Protocol: &tcp, Port: &at}}
	}
	anywhere := []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{}}}
	egress := policy("allow-egress", metav1.LabelSelector{}, networkingv1.NetworkPolicyIngressRule{
		From: []networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{}}},
	})
	egress.Spec.Egress = []networkingv1.NetworkPolicyEgressRule{{}}
	egress.Spec.PolicyTypes = append(egress.Spec.PolicyTypes, networkingv1.PolicyTypeEgress)
	out := []*networkingv1.NetworkPolicy{
		egress,
		policy("allow-scraping", metav1.LabelSelector{}, networkingv1.NetworkPolicyIngressRule{From: anywhere, Ports: port(portMetrics)}),
	}
	for _, c := range r.Components {
		if c.Events {
			pods := metav1.LabelSelector{MatchLabels: map[string]string{"app": r.unitOf(c)}}
			out = append(out, policy("allow-webhooks", pods, networkingv1.NetworkPolicyIngressRule{From: anywhere, Ports: port(portWebhooks)}))
		}
	}
	return out
}

// access adds the identities and what they may do (wire 19).
func (r *renderer) access() {
	var all, appliers []rbacv1.Subject
	for _, u := range r.units() {
		sa := &corev1.ServiceAccount{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"},
			ObjectMeta: r.meta(u.name, u.name),
		}
		if r.ImagePullSecret != "" {
			sa.ImagePullSecrets = []corev1.LocalObjectReference{{Name: r.ImagePullSecret}}
		}
		r.add(sa)
		subject := rbacv1.Subject{Kind: "ServiceAccount", Name: u.name, Namespace: r.Namespace}
		all = append(all, subject)
		if u.any(func(c Component) bool { return c.Applies }) {
			appliers = append(appliers, subject)
		}
	}
	rules := []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"namespaces", "secrets", "configmaps", "serviceaccounts"}, Verbs: []string{"get", "list", "watch"}},
		{APIGroups: []string{""}, Resources: []string{"events"}, Verbs: []string{"create", "patch"}},
		{APIGroups: []string{""}, Resources: []string{"serviceaccounts/token"}, Verbs: []string{"create"}},
		{APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Verbs: []string{"get", "list", "watch", "create", "update", "patch", "delete"}},
		{APIGroups: []string{"apiextensions.k8s.io"}, Resources: []string{"customresourcedefinitions"}, Verbs: []string{"get", "list", "watch"}},
	}
	var groups []string
	for _, c := range r.Components {
		rules = append(rules, c.Rules...)
		if c.Group != "" && !slices.Contains(groups, c.Group) {
			groups = append(groups, c.Group)
		}
	}
	r.add(r.role("crd-controller", nil, rules...))
	r.add(r.role("flux-edit", []string{"admin", "edit"}, rbacv1.PolicyRule{
		APIGroups: groups, Resources: []string{"*"}, Verbs: []string{"create", "delete", "deletecollection", "patch", "update"},
	}))
	r.add(r.role("flux-view", []string{"admin", "edit", "view"}, rbacv1.PolicyRule{
		APIGroups: groups, Resources: []string{"*"}, Verbs: []string{"get", "list", "watch"},
	}))
	r.add(r.binding("crd-controller", "crd-controller-"+r.Namespace, all))
	if len(appliers) > 0 {
		r.add(r.binding("cluster-reconciler", "cluster-admin", appliers))
	}
}

// role is a ClusterRole whose rules the named built-in roles take over.
func (r *renderer) role(name string, aggregateTo []string, rules ...rbacv1.PolicyRule) *rbacv1.ClusterRole {
	role := &rbacv1.ClusterRole{
		TypeMeta: metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "ClusterRole"}, ObjectMeta: r.clusterMeta(name), Rules: rules,
	}
	for _, to := range aggregateTo {
		role.Labels["rbac.authorization.k8s.io/aggregate-to-"+to] = "true"
	}
	return role
}

func (r *renderer) binding(name, role string, to []rbacv1.Subject) *rbacv1.ClusterRoleBinding {
	return &rbacv1.ClusterRoleBinding{
		TypeMeta:   metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "ClusterRoleBinding"},
		ObjectMeta: r.clusterMeta(name),
		RoleRef:    rbacv1.RoleRef{APIGroup: "rbac.authorization.k8s.io", Kind: "ClusterRole", Name: role},
		Subjects:   to,
	}
}

// services are reached under upstream's names in both profiles: artifact URLs and alerts hold them.
func (r *renderer) services() []*corev1.Service {
	service := func(name string, c Component, target string) *corev1.Service {
		return &corev1.Service{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
			ObjectMeta: r.meta(name, c.Name),
			Spec: corev1.ServiceSpec{
				Type:     corev1.ServiceTypeClusterIP,
				Selector: map[string]string{"app": r.unitOf(c)},
				Ports:    []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromString(target)}},
			},
		}
	}
	var out []*corev1.Service
	for _, c := range r.Components {
		if c.Artifacts || c.Events {
			out = append(out, service(c.Name, c, "http"))
		}
		if c.Events {
			out = append(out, service("webhook-receiver", c, "http-webhook"))
		}
	}
	return out
}
