package helm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/seed-79636ae9/flux/internal/component"
)

// Files in which Linux tells the memory of a container, by control group versions 2 and 1.
const (
	memoryMaxV2     = "/sys/fs/cgroup/memory.max"
	memoryCurrentV2 = "/sys/fs/cgroup/memory.current"
	memoryMaxV1     = "/sys/fs/cgroup/memory/memory.limit_in_bytes"
	memoryCurrentV1 = "/sys/fs/cgroup/memory/memory.usage_in_bytes"
)

// errMemory ends the process before the kernel does, so that running actions end in order (helmrelease 97).
var errMemory = errors.New("the memory is nearly used up")

// oomOptions are the flags of the feature gate OOMWatch.
type oomOptions struct {
	threshold        uint8
	interval         time.Duration
	maxPath, nowPath string
}

func (o *oomOptions) bind(flags *pflag.FlagSet) {
	flags.Uint8Var(&o.threshold, "oom-watch-memory-threshold", 95, "With the feature gate OOMWatch: the percentage of the memory limit at which the process shuts down.")
	flags.DurationVar(&o.interval, "oom-watch-interval", 500*time.Millisecond, "With the feature gate OOMWatch: how often the memory is looked at.")
	flags.StringVar(&o.maxPath, "oom-watch-max-memory-path", "", "With the feature gate OOMWatch: the file with the memory limit; empty: that of the control group.")
	flags.StringVar(&o.nowPath, "oom-watch-current-memory-path", "", "With the feature gate OOMWatch: the file with the used memory; empty: that of the control group.")
}

// watch shuts the process down in order when its memory is nearly used up, if the gate is on. Without a limit there is
// nothing to watch.
func (o *oomOptions) watch(host *component.Host) error {
	if !host.Common.Gates["OOMWatch"] {
		return nil
	}
	if o.threshold < 1 || o.threshold > 100 {
		return fmt.Errorf("--oom-watch-memory-threshold=%d: want 1 to 100", o.threshold)
	}
	if o.interval <= 0 {
		return fmt.Errorf("--oom-watch-interval=%s: want more than 0", o.interval)
	}
	maxPath, err := existing(o.maxPath, memoryMaxV2, memoryMaxV1)
	if err != nil {
		return fmt.Errorf("--oom-watch-max-memory-path: %w", err)
	}
	nowPath, err := existing(o.nowPath, memoryCurrentV2, memoryCurrentV1)
	if err != nil {
		return fmt.Errorf("--oom-watch-current-memory-path: %w", err)
	}
	limit, limited, err := readMemory(maxPath)
	if err != nil {
		return fmt.Errorf("--oom-watch-max-memory-path: %w", err)
	}
	if !limited {
		host.Log.Info("the memory is not watched: it has no limit", "file", maxPath)
		return nil
	}
	w := &oomWatch{path: nowPath, threshold: limit / 100 * uint64(o.threshold), interval: o.interval, clock: clock.RealClock{}}
	return host.Manager.Add(manager.RunnableFunc(w.run))
}

// existing returns the named file, or the first of the others that is there.
func existing(named string, others ...string) (string, error) {
	if named != "" {
		return named, nil
	}
	for _, path := range others {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("none of %s is there: %w", strings.Join(others, ", "), fs.ErrNotExist)
}

// readMemory reads a number of bytes; false for "max".
func readMemory(path string) (uint64, bool, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, false, err
	}
	text := strings.TrimSpace(string(data))
	if text == "max" {
		return 0, false, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, false, fmt.Errorf("reading %s: %w", path, err)
	}
	return n, true, nil
}

type oomWatch struct {
	path      string
	threshold uint64
	interval  time.Duration
	clock     clock.WithTicker
}

// run returns errMemory when the threshold is reached, which ends the manager, and nil when ctx ends.
func (w *oomWatch) run(ctx context.Context) error {
	ticker := w.clock.NewTicker(w.interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
		}
		used, ok, err := readMemory(w.path)
		if err != nil {
			return fmt.Errorf("watching the memory: %w", err)
		}
		if ok && used >= w.threshold {
			return fmt.Errorf("%w: %d bytes of the limit's share of %d", errMemory, used, w.threshold)
		}
	}
}
