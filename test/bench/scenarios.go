package main

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/internal/testkit/apiproxy"
)

// Sizes of the scenarios, as in the goals.
const (
	chainLength = 20
	manyCount   = 200
	stuckCount  = 100
)

// seconds is a duration as a figure has it.
func seconds(d time.Duration) float64 { return d.Seconds() }

// chain: each Kustomization depends on the one before. The last is created first, so that all but one must wait.
func chain(ctx context.Context, l *lab) ([]figure, error) {
	if err := l.start(ctx, l.plane.Kubeconfig); err != nil {
		return nil, err
	}
	files := map[string]*testkit.GitFile{}
	for i := range chainLength {
		name := fmt.Sprintf("link-%02d", i)
		files[name+"/all.yaml"] = &testkit.GitFile{Content: fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, namespace: %s}\n", name, l.namespace)}
	}
	repo, err := l.source(ctx, "chain", files)
	if err != nil {
		return nil, err
	}
	if _, err := repo.fetched(ctx); err != nil {
		return nil, err
	}
	start := time.Now()
	for i := chainLength - 1; i >= 0; i-- {
		name := fmt.Sprintf("link-%02d", i)
		k := repo.kustomization(name, "./"+name)
		if i > 0 {
			k.Spec.DependsOn = []meta.DependencyReference{{Name: fmt.Sprintf("link-%02d", i-1)}}
		}
		if err := l.create(ctx, k); err != nil {
			return nil, err
		}
	}
	if err := repo.applied(ctx, chainLength); err != nil {
		return nil, err
	}
	note := fmt.Sprintf("%d Kustomizations by dependsOn, created to last one Ready", chainLength)
	return []figure{measure("chain", seconds(time.Since(start)), 5, "s", note)}, nil
}

// manyApplications creates manyCount Kustomizations on one source and waits until all are Ready.
func manyApplications(ctx context.Context, l *lab, interval time.Duration) (*repository, error) {
	files := map[string]*testkit.GitFile{}
	for i := range manyCount {
		name := fmt.Sprintf("app-%03d", i)
		files[name+"/all.yaml"] = fourObjects(l.namespace, name, "one")
	}
	repo, err := l.source(ctx, "many", files)
	if err != nil {
		return nil, err
	}
	for i := range manyCount {
		name := fmt.Sprintf("app-%03d", i)
		k := repo.kustomization(name, "./"+name)
		k.Spec.Interval = meta.DurationOf(interval)
		if err := l.create(ctx, k); err != nil {
			return nil, err
		}
	}
	return repo, repo.applied(ctx, manyCount)
}

// many: the first apply of two hundred Kustomizations of four objects each.
func many(ctx context.Context, l *lab) ([]figure, error) {
	if err := l.start(ctx, l.plane.Kubeconfig, "--kustomize-concurrent=20"); err != nil {
		return nil, err
	}
	before, err := l.cost()
	if err != nil {
		return nil, err
	}
	start := time.Now()
	if _, err := manyApplications(ctx, l, time.Hour); err != nil {
		return nil, err
	}
	took := time.Since(start)
	after, err := l.cost()
	if err != nil {
		return nil, err
	}
	memory, err := peak(l.sut.PID())
	if err != nil {
		return nil, err
	}
	used := after.since(before)
	note := fmt.Sprintf("%d Kustomizations, 4 objects each, 20 slots", manyCount)
	return []figure{
		measure("many/wall", seconds(took), 15, "s", note),
		measure("many/apiserver-cpu", used.server, 12, "s", "of the same, the creation of the Kustomizations included"),
		tell("many/own-cpu", used.own, "s", "of the same"),
		tell("many/own-peak-rss", memory, "MiB", "of the same"),
	}, nil
}

// idleInterval is the interval of the idle scenario; its one run of each object must fit into it.
const idleInterval = 30 * time.Second

// idle: one interval run of objects that nobody has changed.
func idle(ctx context.Context, l *lab) ([]figure, error) {
	proxy, err := apiproxy.New(l.plane.Config, apiproxy.Options{HTTP2: true})
	if err != nil {
		return nil, err
	}
	defer proxy.Close()
	kubeconfig := filepath.Join(l.dir, "kubeconfig")
	if err := proxy.WriteKubeconfig(kubeconfig); err != nil {
		return nil, err
	}
	if err := l.start(ctx, kubeconfig, "--kustomize-concurrent=20", "--interval-jitter-percentage=0"); err != nil {
		return nil, err
	}
	if _, err := manyApplications(ctx, l, idleInterval); err != nil {
		return nil, err
	}
	// What the first apply has set in motion, watches and Deployments, is over after one interval.
	if err := l.runs(ctx, manyCount); err != nil {
		return nil, err
	}
	before, err := l.cost()
	if err != nil {
		return nil, err
	}
	seq := proxy.Seq()
	if err := l.runs(ctx, manyCount); err != nil {
		return nil, err
	}
	after, err := l.cost()
	if err != nil {
		return nil, err
	}
	var writes, perObject float64
	var counted []apiproxy.Request
	for _, r := range proxy.Requests(seq) {
		if r.Resource == "leases" || r.Verb == "watch" {
			continue
		}
		counted = append(counted, r)
		if r.IsWrite() || r.Resource == "events" {
			writes++
		}
		if r.Name != "" {
			perObject++
		}
	}
	used := after.since(before)
	note := fmt.Sprintf("one interval run of %d unchanged Kustomizations: %s", manyCount, tally(counted))
	return []figure{
		measure("idle/writes", writes, 0, "requests", note),
		measure("idle/per-object-calls", perObject, 0, "requests", "of the same, reads and dry-runs included"),
		tell("idle/apiserver-cpu", used.server, "s", "of the same, whatever else it did included"),
		tell("idle/own-cpu", used.own, "s", "of the same"),
	}, nil
}

func tally(requests []apiproxy.Request) string {
	counts := apiproxy.Count(requests)
	if len(counts) == 0 {
		return "no requests"
	}
	var out []string
	for _, key := range slices.Sorted(maps.Keys(counts)) {
		out = append(out, fmt.Sprintf("%d %s", counts[key], key))
	}
	return strings.Join(out, ", ")
}

// runs waits until the process has ended so many more runs of the counted kind, by its own metrics.
func (l *lab) runs(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	first, err := l.reconciles(ctx)
	if err != nil {
		return err
	}
	for {
		now, err := l.reconciles(ctx)
		if err != nil {
			return err
		}
		if now >= first+float64(n) {
			return nil
		}
		select {
		case <-time.After(time.Second): // more often, and the answers cost more than the runs
		case <-ctx.Done():
			return fmt.Errorf("%g of %d runs after %s", now-first, n, patience)
		}
	}
}

// reconciles reads how many runs of the counted kind there were.
func (l *lab) reconciles(ctx context.Context) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+l.sut.MetricsAddr+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, fmt.Errorf("reading the metrics: %w", err)
	}
	defer resp.Body.Close()
	var sum float64
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		rest, ok := strings.CutPrefix(lines.Text(), `controller_runtime_reconcile_total{controller="`+l.counted+`"`)
		if !ok {
			continue
		}
		value, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		if err != nil {
			return 0, fmt.Errorf("reading the metrics: %w", err)
		}
		sum += value
	}
	return sum, lines.Err()
}

// stuck: a hundred Kustomizations wait for what never becomes ready; another one gets a commit.
func stuck(ctx context.Context, l *lab) ([]figure, error) {
	if err := l.start(ctx, l.plane.Kubeconfig, "--kustomize-concurrent=4"); err != nil {
		return nil, err
	}
	files := map[string]*testkit.GitFile{}
	for i := range stuckCount {
		name := fmt.Sprintf("stuck-%03d", i)
		files[name+"/all.yaml"] = unready(l.namespace, name)
	}
	broken, err := l.source(ctx, "stuck", files)
	if err != nil {
		return nil, err
	}
	for i := range stuckCount {
		name := fmt.Sprintf("stuck-%03d", i)
		k := broken.kustomization(name, "./"+name)
		k.Spec.Wait, k.Spec.Timeout = true, "30m"
		if err := l.create(ctx, k); err != nil {
			return nil, err
		}
	}
	other, err := l.source(ctx, "other", map[string]*testkit.GitFile{"all.yaml": fourObjects(l.namespace, "other", "one")})
	if err != nil {
		return nil, err
	}
	if err := l.create(ctx, other.kustomization("other", "./")); err != nil {
		return nil, err
	}
	if err := other.applied(ctx, 1, "other"); err != nil {
		return nil, err
	}
	waiting := func(o client.Object) bool {
		k := o.(*kustomizev1.Kustomization)
		return status(k.Status.Conditions, meta.HealthyCondition) == metav1.ConditionUnknown
	}
	if err := l.await(ctx, &kustomizev1.KustomizationList{}, stuckCount, waiting); err != nil {
		return nil, err
	}
	took, fetch, err := other.change(ctx, "other")
	if err != nil {
		return nil, err
	}
	note := fmt.Sprintf("%d never-ready Kustomizations with wait on 4 slots; a commit to another, from the request to Ready (fetch %.2f s)", stuckCount, seconds(fetch))
	return []figure{measure("stuck", seconds(took), 2, "s", note)}, nil
}

// change commits a change of four objects and asks for it. It returns the time until Ready and the part of it
// that the fetch took.
func (r *repository) change(ctx context.Context, name string) (took, fetch time.Duration, err error) {
	if err := r.commit(map[string]*testkit.GitFile{"all.yaml": fourObjects(r.lab.namespace, name, "two")}); err != nil {
		return 0, 0, err
	}
	start := time.Now()
	if err := r.request(ctx); err != nil {
		return 0, 0, err
	}
	fetched, err := r.fetched(ctx)
	if err != nil {
		return 0, 0, err
	}
	if err := r.applied(ctx, 1, name); err != nil {
		return 0, 0, err
	}
	return time.Since(start), fetched.Sub(start), nil
}

// push: from the fetch of a four-object change to Ready, with the command that a user types.
func push(ctx context.Context, l *lab) ([]figure, error) {
	if err := l.start(ctx, l.plane.Kubeconfig); err != nil {
		return nil, err
	}
	repo, err := l.source(ctx, "push", map[string]*testkit.GitFile{"all.yaml": fourObjects(l.namespace, "app", "one")})
	if err != nil {
		return nil, err
	}
	if err := l.create(ctx, repo.kustomization("push", "./")); err != nil {
		return nil, err
	}
	if err := repo.applied(ctx, 1); err != nil {
		return nil, err
	}
	if err := repo.commit(map[string]*testkit.GitFile{"all.yaml": fourObjects(l.namespace, "app", "two")}); err != nil {
		return nil, err
	}
	binary, err := testkit.FindFlux()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, binary, "reconcile", "kustomization", "push", "--with-source", "-n", l.namespace)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+l.plane.Kubeconfig)
	start := time.Now()
	type result struct {
		out []byte
		err error
	}
	ended := make(chan result, 1)
	go func() {
		out, err := cmd.CombinedOutput()
		ended <- result{out, err}
	}()
	fetched, err := repo.fetched(ctx)
	if err != nil {
		return nil, err
	}
	if err := repo.applied(ctx, 1); err != nil {
		return nil, err
	}
	ready := time.Now()
	if r := <-ended; r.err != nil {
		return nil, fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), r.err, r.out)
	}
	return []figure{
		measure("push/fetched-to-ready", seconds(ready.Sub(fetched)), 1, "s", "a four-object change with `flux reconcile kustomization --with-source`"),
		tell("push/command", seconds(time.Since(start)), "s", "of the whole command"),
	}, nil
}
