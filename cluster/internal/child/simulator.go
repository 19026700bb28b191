package child

import (
	"fmt"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/seed-79636ae9/flux/cluster/internal/simulator"
)

func runSimulator(args []string) error {
	var kubeconfig string
	if err := flags(args, map[string]*string{"kubeconfig": &kubeconfig}); err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return fmt.Errorf("read kubeconfig: %w", err)
	}
	ctx, cancel := untilSignal()
	defer cancel()
	return simulator.Run(ctx, config, reportReady)
}
