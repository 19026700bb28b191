package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/seed-79636ae9/flux/internal/cli"
	"github.com/seed-79636ae9/flux/internal/manifests"
	"github.com/seed-79636ae9/flux/internal/testkit"
)

// TestRoles is reliability 050: what the roles of the installation add to view, edit and admin, for each kind, and that the role of
// docs/tenancy.md does the work of a tenant without writing a status.
func TestRoles(t *testing.T) {
	t.Parallel()
	config := testkit.Cluster(t)
	set, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	namespace := testkit.Namespace(t, config)
	installRoles(t, set, namespace)
	narrow := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "flux-tenant"}, Rules: []rbacv1.PolicyRule{{
		APIGroups: []string{"kustomize.toolkit.fluxcd.io", "helm.toolkit.fluxcd.io", "source.toolkit.fluxcd.io"},
		Resources: []string{"kustomizations", "helmreleases", "gitrepositories", "ocirepositories", "buckets", "helmrepositories", "helmcharts"},
		Verbs:     []string{"get", "list", "watch", "create", "update", "patch", "delete"},
	}}}
	if _, err := set.RbacV1().Roles(namespace).Create(t.Context(), narrow, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, role := range []string{"admin", "edit", "view"} {
		bind(t, set, namespace, role, "ClusterRole")
	}
	bind(t, set, namespace, "flux-tenant", "Role")
	kinds := tenantKinds()
	if len(kinds) < 7 {
		t.Fatalf("found only the kinds %v", kinds)
	}
	for _, kind := range kinds {
		for _, check := range []struct {
			role, verb, part string
			want             bool
		}{
			{"admin", "create", "", true}, {"admin", "patch", "status", true}, {"edit", "delete", "", true}, {"edit", "patch", "status", true},
			{"view", "get", "", true}, {"view", "watch", "", true}, {"view", "create", "", false}, {"view", "patch", "status", false},
			{"flux-tenant", "patch", "", true}, {"flux-tenant", "delete", "", true}, {"flux-tenant", "patch", "status", false}, {"flux-tenant", "update", "status", false},
		} {
			resource := authorizationv1.ResourceAttributes{Namespace: namespace, Verb: check.verb, Group: kind.group, Resource: kind.resource, Subresource: check.part}
			// The roles are joined by a controller, a moment after they were made.
			err := poll(t.Context(), patience, func() bool { return may(t, set, check.role, resource) == check.want })
			if err != nil {
				t.Errorf("%s may %s %s/%s: want %t: %v", check.role, check.verb, kind.resource, check.part, check.want, err)
			}
		}
	}
	// Rights on objects of flux are no rights on what they make.
	for _, role := range []string{"view", "flux-tenant"} {
		if may(t, set, role, authorizationv1.ResourceAttributes{Namespace: namespace, Verb: "create", Resource: "configmaps"}) {
			t.Errorf("%s may create ConfigMaps", role)
		}
	}
}

type tenantKind struct{ group, resource string }

// tenantKinds are the kinds of this build that tenants write.
func tenantKinds() []tenantKind {
	var out []tenantKind
	for _, c := range cli.Components() {
		for _, name := range c.CRDs {
			resource, group, _ := strings.Cut(name, ".")
			if group == "kustomize.toolkit.fluxcd.io" || group == "helm.toolkit.fluxcd.io" || group == "source.toolkit.fluxcd.io" && resource != "externalartifacts" {
				out = append(out, tenantKind{group, resource})
			}
		}
	}
	return out
}

// installRoles creates the roles that an installation in the namespace brings.
func installRoles(t *testing.T, set *kubernetes.Clientset, namespace string) {
	t.Helper()
	objects, err := manifests.Render(manifests.Options{
		Namespace: namespace, Version: "v2.9.0", Registry: manifests.DefaultRegistry, Profile: manifests.Split, Components: cli.Components(), ClusterDomain: "cluster.local", LogLevel: "info",
	})
	if err != nil {
		t.Fatal(err)
	}
	installed := 0
	for _, o := range objects {
		if o.GetKind() != "ClusterRole" {
			continue
		}
		installed++
		body, err := o.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		roles := set.RbacV1().ClusterRoles()
		if _, err := roles.Patch(t.Context(), o.GetName(), "application/apply-patch+yaml", body, metav1.PatchOptions{FieldManager: "test"}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := roles.Delete(context.Background(), o.GetName(), metav1.DeleteOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	if installed < 3 {
		t.Fatalf("the installation brings only %d roles", installed)
	}
}

// bind gives the user of the role's name the role.
func bind(t *testing.T, set *kubernetes.Clientset, namespace, role, kind string) {
	t.Helper()
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: role},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: kind, Name: role},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: role}},
	}
	if _, err := set.RbacV1().RoleBindings(namespace).Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(fmt.Errorf("binding %s: %w", role, err))
	}
}

func may(t *testing.T, set *kubernetes.Clientset, user string, what authorizationv1.ResourceAttributes) bool {
	t.Helper()
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{User: user, ResourceAttributes: &what}}
	answer, err := set.AuthorizationV1().SubjectAccessReviews().Create(t.Context(), review, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return answer.Status.Allowed
}
