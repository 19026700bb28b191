package compat

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/test/compat/replay"
)

// replayed are the kinds whose recordings are played. A new kind adds its folder's name, and its
// component to replayedComponents.
func replayed() []string {
	return []string{
		"artifactgenerator", "gitrepository", "helmchart", "helmrelease", "helmrepository", "imagepolicy", "imagerepository",
		"imageupdateautomation", "kustomization",
		"notification", "ocirepository", "receiver",
	}
}

func replayedComponents() []string {
	return []string{
		"source-controller", "kustomize-controller", "helm-controller", "notification-controller", "image-reflector-controller",
		"image-automation-controller", "source-watcher",
	}
}

// replayedFlags are those the recorder gave, and the one that makes drift a matter of the
// interval, as it was in 2.9: recordings edit objects by hand and look before the next interval.
func replayedFlags() []string {
	return []string{"--requeue-dependency=5s", "--feature-gates=ExternalArtifact=true", "--correct-drift=interval"}
}

// maxWait is for work on a controller: why wait a minute and a half for what will not come.
var maxWait = flag.Duration("replay-wait", 0, "cut every wait of a recording to this `duration`")

const (
	// concurrentRecordings play at once. They mostly wait, so there may be far more than processors.
	concurrentRecordings = "16"
	// pendingWait cuts the waits of recordings that are known not to end well.
	pendingWait = 10 * time.Second
	// drain bounds the wait for finalizers after the last recording.
	drain = time.Minute
)

func TestMain(m *testing.M) {
	flag.Parse()
	if err := widen(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	os.Exit(m.Run())
}

// widen raises the number of parallel subtests unless -parallel was given.
func widen() error {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if given {
		return nil
	}
	return flag.Set("test.parallel", concurrentRecordings)
}

// TestReplay plays the recordings of 2.9 against the flux binary. Equal means equal by the rules of
// testdata/recordings/README.md; differences.yaml lists what differs on purpose, pending.yaml what
// later issues bring.
func TestReplay(t *testing.T) {
	config := testkit.Cluster(t)
	testkit.InstallCRDs(t, config)
	exceptions, err := replay.ReadExceptions("differences.yaml", "pending.yaml")
	if err != nil {
		t.Fatal(err)
	}
	lab, err := replay.NewLab(config, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(lab.Close)
	ctx, stopPods := context.WithCancel(context.Background())
	t.Cleanup(stopPods)
	go func() {
		if err := testkit.RunPods(ctx, config); err != nil {
			t.Error(err)
		}
	}()
	sut := startForReplay(t, lab)

	var all []*replay.Recording
	byKind := map[string][]*replay.Recording{}
	for _, kind := range replayed() {
		byKind[kind], err = replay.ReadDir(filepath.Join("testdata/recordings", kind))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, byKind[kind]...)
	}
	// Cleanups run when the last parallel subtest has ended.
	t.Cleanup(func() {
		drainAll(t, lab, all)
		reportStale(t, exceptions, all)
	})
	for _, kind := range replayed() {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			for _, r := range byKind[kind] {
				t.Run(strings.TrimPrefix(r.Name, kind+"/"), func(t *testing.T) {
					t.Parallel()
					playOne(t, lab, r, exceptions, sut)
				})
			}
		})
	}
}

func reportStale(t *testing.T, exceptions *replay.Exceptions, all []*replay.Recording) {
	names := make([]string, len(all))
	for i, r := range all {
		names[i] = r.Name
	}
	for _, stale := range exceptions.Stale(names) {
		t.Error(stale)
	}
}

func startForReplay(t *testing.T, lab *replay.Lab) *testkit.SUT {
	t.Helper()
	dir := t.TempDir()
	sut, err := testkit.StartSUT(t.Context(), testkit.SUTOptions{
		Components: replayedComponents(),
		Kubeconfig: testkit.Kubeconfig(t),
		Dir:        dir,
		EventsAddr: lab.EventsURL(),
		Flags:      replayedFlags(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sut.Stop(); err != nil {
			t.Error(err)
		}
	})
	lab.Use(replay.System{
		StorageAddr: sut.StorageAddr, WatcherAddr: sut.WatcherAddr, HookAddr: sut.HookAddr, EventsAddr: sut.TakesEventsAddr,
		TempDir: sut.TempDir, StorageDir: filepath.Join(dir, "storage"),
	})
	return sut
}

func playOne(t *testing.T, lab *replay.Lab, r *replay.Recording, exceptions *replay.Exceptions, sut *testkit.SUT) {
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := lab.Clean(ctx, r); err != nil {
			t.Errorf("cleaning up: %v", err)
		}
	})
	pending := exceptions.PendingFor(r.Name)
	options := replay.Options{MaxWait: *maxWait}
	if pending != nil {
		options.MaxWait = pendingWait
	}
	ctx, cancel := whileRunning(t.Context(), sut)
	defer cancel()
	diffs, err := lab.Play(ctx, r, options)
	if err != nil && context.Cause(ctx) != nil {
		err = context.Cause(ctx)
	}
	left := exceptions.Unexpected(r.Name, diffs)
	switch {
	case pending != nil && err == nil && len(left) == 0:
		t.Errorf("it is equal to the recording now: remove its entry from pending.yaml (%s: %s)", pending.Issue, pending.Reason)
	case pending != nil:
		t.Logf("pending: %s: %s (%d differences)", pending.Issue, pending.Reason, len(left))
	case err != nil:
		t.Errorf("playing the recording: %v", err)
	case len(left) > 0:
		t.Errorf("differs from the recording (rules %s) in %d places:\n\n%s\n\nlog of flux:\n%s", r.Rules, len(left), list(left), logOf(sut, r))
	}
}

// whileRunning is a context that ends with the binary: nothing comes of waiting for a dead one.
func whileRunning(parent context.Context, sut *testkit.SUT) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	go func() {
		select {
		case <-sut.Ended():
			cancel(fmt.Errorf("flux ended; the end of its log: %s", sut.LogTail()))
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

func list(diffs []replay.Diff) string {
	lines := make([]string, len(diffs))
	for i, d := range diffs {
		lines[i] = "  " + d.String()
	}
	return strings.Join(lines, "\n")
}

// logOf returns the last lines of the log that name the recording's namespace.
func logOf(sut *testkit.SUT, r *replay.Recording) string {
	const keep = 15
	b, err := os.ReadFile(sut.LogPath)
	if err != nil {
		return err.Error()
	}
	var lines []string
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, r.Namespace) {
			lines = append(lines, "  "+strings.TrimSpace(line))
		}
	}
	return strings.Join(lines[max(0, len(lines)-keep):], "\n")
}

// drainAll waits until no recording has objects left: after that nobody works through finalizers.
func drainAll(t *testing.T, lab *replay.Lab, all []*replay.Recording) {
	ctx, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	if err := lab.Drain(ctx, all); err != nil {
		t.Errorf("waiting for the end of all recordings: %v", err)
	}
}
