// Package cluster finds the API server that an object acts on: the controller's own, or another one that spec.kubeConfig leads to.
//
// A controller makes one Set for its kind and asks it in each run for the Cluster of the object at hand:
//
//	c, err := set.Reach(ctx, request, run.Park)               // parks while it connects
//	move := c.Since(recorded, observed)                       // is the status one of this cluster?
//	ctx, done := c.Yielding(ctx, run.Park)                    // slow requests give the work slot back
//	client, err := c.Clients.For(ctx, set.Identity(request))  // whom the object acts as
//
// A Cluster holds the warm clients of one API server and what the kind watches there, its Watcher. Other clusters are shared by all
// objects with equal credentials, and closed with the last of them. When an object goes, Forget lets go of all it used.
//
// Who runs another cluster is trusted with nothing: connecting holds no work slot, answers have an end, a request that takes long gives
// the slot back, and a kubeconfig reads no file of the controller and starts no program, unless the options allow it.
package cluster
