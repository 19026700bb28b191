package child

import (
	"fmt"
	"net/url"
	"os"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/storage/wal"
)

const (
	// quotaBytes bounds the database; a cluster for one person's manifests holds a few MiB.
	quotaBytes = 1 << 30
	// segmentBytes is the size of the log files that etcd allocates ahead, two of them.
	segmentBytes = 8 << 20
	// snapshotCount is after how many writes etcd drops its in-memory log. Its default of 10000 holds tens of MiB of old objects.
	snapshotCount = 1000
	catchUpCount  = 100
)

func runEtcd(args []string) error {
	var dir, socket, peerSocket, durable string
	if err := flags(args, map[string]*string{"data-dir": &dir, "socket": &socket, "peer-socket": &peerSocket, "durable": &durable}); err != nil {
		return err
	}
	// A killed etcd leaves its sockets, and a socket file in the way fails the listener.
	for _, path := range []string{socket, peerSocket} {
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	wal.SegmentSizeBytes = segmentBytes

	config := embed.NewConfig()
	config.Name = "flux-cluster"
	config.Dir = dir
	config.ListenClientUrls = []url.URL{{Scheme: "unix", Host: socket}}
	config.ListenPeerUrls = []url.URL{{Scheme: "unix", Host: peerSocket}}
	// For members and clients elsewhere, of which there are none; etcd insists on something like a port in them.
	config.AdvertiseClientUrls = []url.URL{{Scheme: "unix", Host: socket + ":0"}}
	config.AdvertisePeerUrls = []url.URL{{Scheme: "unix", Host: peerSocket + ":0"}}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	config.UnsafeNoFsync = durable != "true"
	config.QuotaBackendBytes = quotaBytes
	config.SnapshotCount = snapshotCount
	config.SnapshotCatchUpEntries = catchUpCount
	config.EnableGRPCGateway = false
	// The zero of a new configuration would log every request.
	config.WarningUnaryRequestDuration = embed.DefaultWarningUnaryRequestDuration
	config.LogLevel = "warn"
	config.LogOutputs = []string{"stderr"}

	etcd, err := embed.StartEtcd(config)
	if err != nil {
		return fmt.Errorf("start etcd: %w", err)
	}
	ctx, cancel := untilSignal()
	defer cancel()
	select {
	case <-etcd.Server.ReadyNotify():
		if err := reportReady(); err != nil {
			return err
		}
	case err := <-etcd.Err():
		return fmt.Errorf("start etcd: %w", err)
	case <-ctx.Done():
	}
	select {
	case err := <-etcd.Err():
		return fmt.Errorf("serve etcd: %w", err)
	case <-etcd.Server.StopNotify():
		return fmt.Errorf("etcd stopped by itself")
	case <-ctx.Done():
	}
	etcd.Close()
	return nil
}
