package main

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/internal/testkit"
)

func namespace(name string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

// chain measures 20 Kustomizations of which each depends on the one before.
func (b *bench) chain() ([]figure, error) {
	const length = 20
	if err := b.start("chain"); err != nil {
		return nil, err
	}
	files := map[string]string{}
	for i := range length {
		maps.Copy(files, app(fmt.Sprintf("link-%02d", i)))
	}
	if _, err := b.source("chain", files); err != nil {
		return nil, err
	}
	start := time.Now()
	// The last first, so that every one but the first has to wait.
	for i := length - 1; i >= 0; i-- {
		k := kustomization("chain", fmt.Sprintf("link-%02d", i), fmt.Sprintf("apps/link-%02d", i))
		if i > 0 {
			k.Spec.DependsOn = []meta.DependencyReference{{Name: fmt.Sprintf("link-%02d", i-1)}}
		}
		if err := b.client.Create(b.ctx, k); err != nil {
			return nil, err
		}
	}
	if err := b.await(3*time.Minute, &kustomizev1.KustomizationList{}, "chain", ready, length); err != nil {
		return nil, err
	}
	return []figure{{"20 Kustomizations, each depends on the one before", seconds(time.Since(start)), "< 5 s"}}, nil
}

// fan measures the first apply and an interval run of 200 Kustomizations on one source.
func (b *bench) fan() ([]figure, error) {
	const count = 200
	if err := b.start("fan", "--kustomize-concurrent=20", "--interval-jitter-percentage=0"); err != nil {
		return nil, err
	}
	files := map[string]string{}
	for i := range count {
		maps.Copy(files, app(fmt.Sprintf("app-%03d", i)))
	}
	if _, err := b.source("fan", files); err != nil {
		return nil, err
	}
	server, own := b.serverCPU(), cpu(b.sut.PID())
	start := time.Now()
	for i := range count {
		name := fmt.Sprintf("app-%03d", i)
		k := kustomization("fan", name, "apps/"+name)
		k.Spec.Interval = "30s"
		if err := b.client.Create(b.ctx, k); err != nil {
			return nil, err
		}
	}
	if err := b.await(5*time.Minute, &kustomizev1.KustomizationList{}, "fan", ready, count); err != nil {
		return nil, err
	}
	took := time.Since(start)
	server, own = b.serverCPU()-server, cpu(b.sut.PID())-own
	memory := peak(b.sut.PID())
	figures := []figure{
		{"200 Kustomizations on one source, 4 objects each, 20 slots", seconds(took), "<= 15 s"},
		{"  CPU of the API server for it", seconds(server), "<= 12 s"},
		{"  CPU of flux for it", seconds(own), "2.9: 32 s"},
		{"  peak memory of flux", memory, "-"},
	}
	quiet, err := b.interval()
	return append(figures, quiet...), err
}

// interval counts the requests of two intervals in which nothing changed and nobody touched anything.
func (b *bench) interval() ([]figure, error) {
	// What the first runs left to do, events above all, is over after one interval.
	time.Sleep(35 * time.Second)
	before, err := b.requests()
	if err != nil {
		return nil, err
	}
	server, own := b.serverCPU(), cpu(b.sut.PID())
	time.Sleep(60 * time.Second)
	server, own = b.serverCPU()-server, cpu(b.sut.PID())-own
	after, err := b.requests()
	if err != nil {
		return nil, err
	}
	writes, reads := 0, 0
	var lines []string
	for key, n := range after {
		d := n - before[key]
		verb, resource, _ := strings.Cut(key, " ")
		if d <= 0 || resource == "leases" || verb == "WATCH" || verb == "CONNECT" {
			continue
		}
		switch verb {
		case "POST", "PUT", "PATCH", "APPLY", "DELETE":
			writes += d
		default:
			reads += d
		}
		lines = append(lines, fmt.Sprintf("%s: %d", key, d))
	}
	sort.Strings(lines)
	return []figure{
		{"two interval runs of 200 unchanged Kustomizations: writes", strconv.Itoa(writes), "0"},
		{"  reads (the API server's own included)", strconv.Itoa(reads) + " (" + strings.Join(lines, ", ") + ")", "none per object"},
		{"  CPU of the API server, of flux, in the minute", seconds(server) + ", " + seconds(own), "-"},
	}, nil
}

// waits measures how soon a commit is applied while a hundred Kustomizations wait for health that never comes.
func (b *bench) waits() ([]figure, error) {
	const count = 100
	if err := b.start("waits", "--kustomize-concurrent=4"); err != nil {
		return nil, err
	}
	files := map[string]string{}
	for i := range count {
		name := fmt.Sprintf("never-%03d", i)
		for path, content := range app(name) {
			files[path] = strings.Replace(content, "replicas: 0", "replicas: 1", 1)
		}
	}
	if _, err := b.source("waits", files); err != nil {
		return nil, err
	}
	for i := range count {
		name := fmt.Sprintf("never-%03d", i)
		k := kustomization("waits", name, "apps/"+name)
		k.Spec.Wait, k.Spec.Timeout = true, "30m"
		if err := b.client.Create(b.ctx, k); err != nil {
			return nil, err
		}
	}
	waiting := func(o client.Object) bool {
		for _, c := range o.(*kustomizev1.Kustomization).Status.Conditions {
			if c.Type == meta.HealthyCondition {
				return true
			}
		}
		return false
	}
	if err := b.await(3*time.Minute, &kustomizev1.KustomizationList{}, "waits", waiting, count); err != nil {
		return nil, err
	}
	repo, err := b.source("other", app("other"))
	if err != nil {
		return nil, err
	}
	if err := b.client.Create(b.ctx, kustomization("other", "other", "apps/other")); err != nil {
		return nil, err
	}
	if err := b.await(time.Minute, &kustomizev1.KustomizationList{}, "other", ready, 1); err != nil {
		return nil, err
	}
	took, _, err := b.change(repo, "other")
	return []figure{{"a commit, while 100 Kustomizations wait for health on 4 slots", seconds(took), "< 2 s"}}, err
}

// push measures a four-object change from the request to Ready.
func (b *bench) push() ([]figure, error) {
	if err := b.start("push"); err != nil {
		return nil, err
	}
	repo, err := b.source("push", app("push"))
	if err != nil {
		return nil, err
	}
	if err := b.client.Create(b.ctx, kustomization("push", "push", "apps/push")); err != nil {
		return nil, err
	}
	if err := b.await(time.Minute, &kustomizev1.KustomizationList{}, "push", ready, 1); err != nil {
		return nil, err
	}
	took, fetched, err := b.change(repo, "push")
	return []figure{
		{"flux reconcile --with-source of a four-object change", seconds(took), "-"},
		{"  of which after the fetch", seconds(took - fetched), "< 1 s"},
	}, err
}

// change commits a change of all four objects and reconciles with the command line. It returns how long the
// command took, and how long the source had its artifact after the start.
func (b *bench) change(repo *testkit.GitRepo, ns string) (took, fetched time.Duration, err error) {
	files := app(ns)
	for path, content := range files {
		files[path] = strings.ReplaceAll(content, "metadata: {name: "+ns+"}", "metadata: {name: "+ns+", annotations: {changed: \"yes\"}}")
	}
	if err := commit(repo, files); err != nil {
		return 0, 0, err
	}
	binary, err := testkit.FindFlux()
	if err != nil {
		return 0, 0, err
	}
	start := time.Now()
	source := exec.CommandContext(b.ctx, binary, "--kubeconfig", b.plane.Kubeconfig, "-n", ns, "reconcile", "source", "git", "repo")
	if out, err := source.CombinedOutput(); err != nil {
		return 0, 0, fmt.Errorf("flux reconcile source: %w: %s", err, out)
	}
	fetched = time.Since(start)
	list := &kustomizev1.KustomizationList{}
	err = b.await(time.Minute, list, ns, func(o client.Object) bool {
		k := o.(*kustomizev1.Kustomization)
		return ready(o) && len(k.Status.History) > 1
	}, 1)
	return time.Since(start), fetched, err
}

// requests returns the API server's count of requests by verb and resource.
func (b *bench) requests() (map[string]int, error) {
	set, err := kubernetes.NewForConfig(b.plane.Config)
	if err != nil {
		return nil, err
	}
	text, err := set.RESTClient().Get().AbsPath("/metrics").DoRaw(b.ctx)
	if err != nil {
		return nil, err
	}
	line := regexp.MustCompile(`^apiserver_request_total\{(.*)\} (\S+)$`)
	label := regexp.MustCompile(`(\w+)="([^"]*)"`)
	out := map[string]int{}
	scanner := bufio.NewScanner(strings.NewReader(string(text)))
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		m := line.FindStringSubmatch(scanner.Text())
		if m == nil {
			continue
		}
		labels := map[string]string{}
		for _, l := range label.FindAllStringSubmatch(m[1], -1) {
			labels[l[1]] = l[2]
		}
		n, _ := strconv.ParseFloat(m[2], 64)
		out[labels["verb"]+" "+labels["resource"]] += int(n)
	}
	return out, scanner.Err()
}

func (b *bench) serverCPU() time.Duration {
	state, err := testkit.ReadState(b.plane.Dir)
	if err != nil {
		return 0
	}
	return cpu(state.Parts["kube-apiserver"].PID)
}

// cpu returns user and system time of a process, from /proc; zero where there is none.
func cpu(pid int) time.Duration {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0
	}
	// The second field is the name in brackets and may hold spaces.
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	const ticks = 100 // USER_HZ, fixed by the kernel's ABI
	return time.Duration(user+system) * time.Second / ticks
}

// peak returns the largest resident size of a process.
func peak(pid int) string {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return "-"
	}
	if m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(data); m != nil {
		kib, _ := strconv.Atoi(string(m[1]))
		return fmt.Sprintf("%d MiB", kib/1024)
	}
	return "-"
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }
