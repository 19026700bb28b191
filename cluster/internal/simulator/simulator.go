// Package simulator stands in for a scheduler and a kubelet: it offers one node, binds every pod to it, and walks the pods through the
// states that their images, restart policies and annotations ask for. No container ever runs.
package simulator

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
	"k8s.io/utils/clock"
	"sigs.k8s.io/kwok/pkg/kwok/controllers"
)

const (
	// NodeName is the name of the one node.
	NodeName = "simulated"
	// Label is on the node and on every pod that was bound to it, with the value "true".
	Label = "flux-cluster/simulated"
	// ReadyAfter is the annotation of a pod that says how long its containers take to start, as a Go duration.
	ReadyAfter = "flux-cluster/ready-after"
	// CompleteAfter is the annotation of a pod with restart policy Never or OnFailure that says how long it runs, as a Go duration.
	CompleteAfter = "flux-cluster/complete-after"

	nodeIP  = "10.244.0.1"
	podCIDR = "10.244.0.0/16"

	workers = 4
)

// Run simulates until ctx ends. It calls ready once, when the node is Ready and pods are being bound.
func Run(ctx context.Context, config *rest.Config, ready func() error) error {
	config = rest.CopyConfig(config)
	config.QPS, config.Burst = 400, 800
	// Pods and nodes travel as protobuf: several times cheaper to read and write than JSON, on both ends.
	config.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	config.ContentType = "application/vnd.kubernetes.protobuf"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	if err := ensureNode(ctx, client); err != nil {
		return err
	}
	stages, err := localStages()
	if err != nil {
		return err
	}
	kubelet, err := controllers.NewController(controllers.Config{
		Clock:                     clock.RealClock{},
		TypedClient:               client,
		RESTClient:                client.CoreV1().RESTClient(),
		ManageSingleNode:          NodeName,
		NodeIP:                    nodeIP,
		CIDR:                      podCIDR,
		LocalStages:               stages,
		PodPlayStageParallelism:   workers,
		NodePlayStageParallelism:  1,
		PodsOnNodeSyncParallelism: 1,
		ID:                        "flux-cluster",
	})
	if err != nil {
		return fmt.Errorf("make kubelet: %w", err)
	}
	if err := kubelet.Start(ctx); err != nil {
		return fmt.Errorf("start kubelet: %w", err)
	}
	binder := newBinder(client)
	bound := make(chan error, 1)
	go func() { bound <- binder.run(ctx) }()
	if err := untilNodeReady(ctx, client); err != nil {
		return err
	}
	if err := ready(); err != nil {
		return err
	}
	return <-bound
}

func ensureNode(ctx context.Context, client kubernetes.Interface) error {
	capacity := corev1.ResourceList{
		corev1.ResourceCPU:              resource.MustParse("1k"),
		corev1.ResourceMemory:           resource.MustParse("1Ti"),
		corev1.ResourceEphemeralStorage: resource.MustParse("1Ti"),
		corev1.ResourcePods:             resource.MustParse("10k"),
	}
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: NodeName,
			Labels: map[string]string{
				Label:                           "true",
				"type":                          "kwok",
				corev1.LabelHostname:            NodeName,
				corev1.LabelOSStable:            "linux",
				corev1.LabelArchStable:          "amd64",
				"node-role.kubernetes.io/agent": "",
			},
			Annotations: map[string]string{"kwok.x-k8s.io/node": "fake"},
		},
		Status: corev1.NodeStatus{Allocatable: capacity, Capacity: capacity},
	}
	_, err := client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create node %s: %w", NodeName, err)
	}
	return nil
}

func untilNodeReady(ctx context.Context, client kubernetes.Interface) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	selector := fields.OneTermEqualSelector("metadata.name", NodeName).String()
	nodes := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = selector
			return client.CoreV1().Nodes().List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = selector
			return client.CoreV1().Nodes().Watch(ctx, o)
		},
	}
	_, err := watchtools.UntilWithSync(ctx, nodes, &corev1.Node{}, nil, func(e watch.Event) (bool, error) {
		node, ok := e.Object.(*corev1.Node)
		return ok && isReady(node), nil
	})
	if err != nil {
		return fmt.Errorf("wait for node %s: %w", NodeName, err)
	}
	return nil
}

func isReady(node *corev1.Node) bool {
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}
