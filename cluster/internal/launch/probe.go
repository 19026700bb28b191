package launch

import (
	"context"
	"fmt"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/seed-79636ae9/flux/cluster/internal/trust"
)

const (
	probeEvery   = 50 * time.Millisecond
	probeTimeout = 5 * time.Second

	rootCAMap = "kube-root-ca.crt"
)

// until calls done until it says true, or ctx ends.
func until(ctx context.Context, done func(ctx context.Context) bool) error {
	ticker := time.NewTicker(probeEvery)
	defer ticker.Stop()
	for {
		attempt, cancel := context.WithTimeout(ctx, probeTimeout)
		ok := done(attempt)
		cancel()
		if ok {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// serverProbe returns a probe that waits for the API server's own word.
func (c *Cluster) serverProbe(server string) (func(context.Context) error, error) {
	client, err := rest.HTTPClientFor(c.trust.Client(server, trust.Admin))
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	return func(ctx context.Context) error {
		return until(ctx, func(ctx context.Context) bool {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, server+"/readyz", nil)
			if err != nil {
				return false
			}
			response, err := client.Do(request)
			if err != nil {
				return false
			}
			defer response.Body.Close()
			return response.StatusCode == http.StatusOK
		})
	}, nil
}

// controllersProbe returns a probe that waits for what controllers do: the controller manager serves no health of its own here, and
// would call itself healthy before its controllers run.
func (c *Cluster) controllersProbe(server string) (func(context.Context) error, error) {
	client, err := c.client(server)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		return until(ctx, func(ctx context.Context) bool {
			_, err := client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
			if err != nil {
				return false
			}
			_, err = client.CoreV1().ConfigMaps(corev1.NamespaceNodeLease).Get(ctx, rootCAMap, metav1.GetOptions{})
			return err == nil
		})
	}, nil
}

func (c *Cluster) client(server string) (*kubernetes.Clientset, error) {
	client, err := kubernetes.NewForConfig(c.trust.Client(server, trust.Admin))
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	return client, nil
}

// prepare puts into the cluster what its parts need: the rights of those users that are no administrators.
func (c *Cluster) prepare(ctx context.Context, server string) error {
	client, err := c.client(server)
	if err != nil {
		return err
	}
	if err := grant(ctx, client, trust.Simulator, simulatorRules()); err != nil {
		return fmt.Errorf("grant rights to the simulator: %w", err)
	}
	if err := bind(ctx, client, "flux-cluster:viewer", "view", trust.Viewer); err != nil {
		return fmt.Errorf("grant rights to the viewer: %w", err)
	}
	if !c.home.Continued {
		return nil
	}
	// In kept data the works of the controllers are there before they run. One that nobody misses is taken away for them to redo.
	err = client.CoreV1().ConfigMaps(corev1.NamespaceNodeLease).Delete(ctx, rootCAMap, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("prepare the controllers' probe: %w", err)
	}
	return nil
}

func simulatorRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: []string{"create", "get", "list", "watch", "patch"}},
		{APIGroups: []string{""}, Resources: []string{"nodes/status", "pods/status"}, Verbs: []string{"patch"}},
		{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get", "list", "watch", "delete"}},
		{APIGroups: []string{""}, Resources: []string{"pods/binding"}, Verbs: []string{"create"}},
		{APIGroups: []string{"", "events.k8s.io"}, Resources: []string{"events"}, Verbs: []string{"create", "patch"}},
	}
}

// grant gives user a cluster role of its own name.
func grant(ctx context.Context, client kubernetes.Interface, user string, rules []rbacv1.PolicyRule) error {
	roles := client.RbacV1().ClusterRoles()
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: user}, Rules: rules}
	_, err := roles.Create(ctx, role, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		_, err = roles.Update(ctx, role, metav1.UpdateOptions{})
	}
	if err != nil {
		return err
	}
	return bind(ctx, client, user, user, user)
}

func bind(ctx context.Context, client kubernetes.Interface, name, role, user string) error {
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: user}},
	}
	_, err := client.RbacV1().ClusterRoleBindings().Create(ctx, binding, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}
