package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/seed-79636ae9/flux/internal/testkit"
)

const (
	// calm is the processor time, in seconds of a second, below which the API server counts as at rest.
	calm = 0.1
	// settling is the longest that a meter waits for that, far above what any row should need.
	settling = time.Minute
)

// counts are numbers of requests: at the API server by "VERB resource[/subresource]", dry runs with " (dry run)" behind it;
// from the process by HTTP method.
type counts map[string]float64

func (c counts) since(before counts) counts {
	diff := counts{}
	for key, value := range c {
		if n := value - before[key]; n != 0 {
			diff[key] = n
		}
	}
	return diff
}

func (c counts) sum(keep func(key string) bool) (total float64) {
	for key, n := range c {
		if keep(key) {
			total += n
		}
	}
	return total
}

// verbs adds the resources of each verb up.
func (c counts) verbs() counts {
	by := counts{}
	for key, n := range c {
		verb, _, _ := strings.Cut(key, " ")
		if strings.HasSuffix(key, dryRun) {
			verb += dryRun
		}
		by[verb] += n
	}
	return by
}

func (c counts) String() string {
	if len(c) == 0 {
		return "none"
	}
	var out []string
	for _, key := range slices.Sorted(maps.Keys(c)) {
		out = append(out, fmt.Sprintf("%s %.0f", key, c[key]))
	}
	return strings.Join(out, ", ")
}

const dryRun = " (dry run)"

// isWrite reports whether requests of a key change something.
func isWrite(key string) bool {
	verb, _, _ := strings.Cut(key, " ")
	return slices.Contains([]string{"POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"}, verb) && !strings.HasSuffix(key, dryRun)
}

// meter measures phases: what they cost the API server, etcd and the process, which need not run.
type meter struct {
	plane *testkit.ControlPlane
	kube  kubernetes.Interface
	// process is what is measured; nil while nothing but clients is.
	process *testkit.SUT
	// profiles is the folder that takes a profile of each phase; empty for none.
	profiles string
}

func newMeter(plane *testkit.ControlPlane, profiles string) (*meter, error) {
	kube, err := kubernetes.NewForConfig(plane.Config)
	return &meter{plane: plane, kube: kube, profiles: profiles}, err
}

// reading is what has been used so far.
type reading struct {
	at                time.Time
	server, etcd, own float64 // seconds of processor time
	// busy is the processor time of everything on the machine, ours that of the benchmark and of the control plane.
	busy, ours     float64
	requests, sent counts
}

// span is a phase under measurement.
type span struct {
	*meter
	row      row
	before   reading
	profiled func() error
}

// begin waits until the API server is at rest, forgets the peak of memory, and reads.
func (m *meter) begin(ctx context.Context, scenario string, n int, phase string) (*span, error) {
	if err := m.rest(ctx); err != nil {
		return nil, err
	}
	s := &span{meter: m, row: row{Scenario: scenario, Applications: n, Phase: phase}, profiled: func() error { return nil }}
	var err error
	if s.before.requests, err = m.served(ctx); err != nil {
		return nil, err
	}
	if s.before.sent, err = m.sent(ctx); err != nil {
		return nil, err
	}
	if m.process != nil {
		if err := forgetPeak(m.process.PID()); err != nil {
			return nil, err
		}
		s.profiled = m.profile(ctx, fmt.Sprintf("%s-%d-%s", scenario, n, phase))
	}
	if err := m.times(&s.before); err != nil {
		return nil, err
	}
	s.before.at = time.Now()
	return s, nil
}

// end stops the clock, waits until the API server has done what the phase has set in motion, and reads again: processor times
// and requests include that, the wall time does not.
func (s *span) end(ctx context.Context) (*row, error) {
	r := &s.row
	r.Wall = seconds(time.Since(s.before.at))
	if s.process != nil {
		memory, err := peak(s.process.PID())
		if err != nil {
			return nil, err
		}
		r.Peak = memory
	}
	if err := s.rest(ctx); err != nil {
		return nil, err
	}
	var after reading
	if err := s.times(&after); err != nil {
		return nil, err
	}
	elapsed := time.Since(s.before.at)
	if s.process != nil {
		var err error
		if r.Idle, err = resident(s.process.PID(), "VmRSS:"); err != nil {
			return nil, err
		}
		if r.Private, err = resident(s.process.PID(), "RssAnon:"); err != nil {
			return nil, err
		}
	}
	var err error
	if after.requests, err = s.served(ctx); err != nil {
		return nil, err
	}
	if after.sent, err = s.sent(ctx); err != nil {
		return nil, err
	}
	r.Server, r.Etcd, r.Own = after.server-s.before.server, after.etcd-s.before.etcd, after.own-s.before.own
	r.Requests, r.Sent = after.requests.since(s.before.requests), after.sent.since(s.before.sent)
	others := after.busy - s.before.busy - (after.ours - s.before.ours) - r.Own
	r.Others = max(0, others/seconds(elapsed)/float64(runtime.NumCPU()))
	return r, s.profiled()
}

// rest waits until the API server has used hardly any processor time for a second.
func (m *meter) rest(ctx context.Context) error {
	deadline := time.Now().Add(settling)
	for {
		before, err := m.serverTime()
		if err != nil {
			return err
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
		after, err := m.serverTime()
		if err != nil {
			return err
		}
		if after-before < calm || time.Now().After(deadline) {
			return nil
		}
	}
}

func (m *meter) serverTime() (float64, error) {
	state, err := testkit.ReadState(m.plane.Dir)
	if err != nil {
		return 0, err
	}
	return cpu(state.Parts["kube-apiserver"].PID)
}

// times reads the processor times.
func (m *meter) times(r *reading) error {
	state, err := testkit.ReadState(m.plane.Dir)
	if err != nil {
		return err
	}
	for name, part := range state.Parts {
		used, err := cpu(part.PID)
		if err != nil {
			return err
		}
		r.ours += used
		switch name {
		case "kube-apiserver":
			r.server = used
		case "etcd":
			r.etcd = used
		}
	}
	self, err := cpu(os.Getpid())
	if err != nil {
		return err
	}
	r.ours += self
	if m.process != nil {
		if r.own, err = cpu(m.process.PID()); err != nil {
			return err
		}
	}
	r.busy, err = machine()
	return err
}

// served reads how many requests the API server has answered, those of this meter aside. It costs the API server some milliseconds
// of processor time, which is read before or after.
func (m *meter) served(ctx context.Context) (counts, error) {
	stream, err := m.kube.Discovery().RESTClient().Get().AbsPath("/metrics").Stream(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the metrics of the API server: %w", err)
	}
	defer stream.Close()
	served := counts{}
	err = scan(stream, "apiserver_request_total{", func(labels map[string]string, value float64) {
		if labels["resource"] == "" {
			return
		}
		key := labels["verb"] + " " + labels["resource"]
		if labels["subresource"] != "" {
			key += "/" + labels["subresource"]
		}
		if labels["dry_run"] != "" {
			key += dryRun
		}
		served[key] += value
	})
	return served, err
}

// sent reads how many requests the process has sent, by HTTP method: its watches are among those of GET, its dry runs among those of
// PATCH.
func (m *meter) sent(ctx context.Context) (counts, error) {
	sent := counts{}
	if m.process == nil {
		return sent, nil
	}
	body, err := ask(ctx, m.process, "/metrics")
	if err != nil {
		return nil, err
	}
	defer body.Close()
	err = scan(body, "rest_client_requests_total{", func(labels map[string]string, value float64) {
		// Requests to another host than the API server's are downloads of artifacts.
		if "https://"+labels["host"] == strings.TrimSuffix(m.plane.Config.Host, "/") {
			sent[labels["method"]] += value
		}
	})
	return sent, err
}

// ask sends a request to the address of the process that serves metrics and profiles.
func ask(ctx context.Context, sut *testkit.SUT, path string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+sut.MetricsAddr+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking the process for %s: %w", path, err)
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("asking the process for %s: it answers %s", path, resp.Status)
	}
	return resp.Body, nil
}

// scan calls see for each series whose line begins with prefix.
func scan(r io.Reader, prefix string, see func(labels map[string]string, value float64)) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		rest, ok := strings.CutPrefix(lines.Text(), prefix)
		if !ok {
			continue
		}
		end := strings.LastIndex(rest, "} ")
		if end < 0 {
			return fmt.Errorf("reading metrics: unexpected line %q", lines.Text())
		}
		value, err := strconv.ParseFloat(rest[end+2:], 64)
		if err != nil {
			return fmt.Errorf("reading metrics: %w", err)
		}
		labels := map[string]string{}
		// No label that is looked at has a value with a quotation mark in it.
		for pair := range strings.SplitSeq(rest[:end], `",`) {
			name, quoted, _ := strings.Cut(pair, `="`)
			labels[name] = strings.TrimSuffix(quoted, `"`)
		}
		see(labels, value)
	}
	return lines.Err()
}

// profiled is for how long the processor time of a phase is sampled, from its begin.
const profiled = 10 * time.Second

// profile samples the begin of a phase, and at its end stores what the process holds and has allocated. What it returns waits for that.
func (m *meter) profile(ctx context.Context, name string) func() error {
	if m.profiles == "" {
		return func() error { return nil }
	}
	var sampling sync.WaitGroup
	var failed error
	store := func(kind, query string) error {
		body, err := ask(ctx, m.process, "/debug/pprof/"+query)
		if err != nil {
			return err
		}
		defer body.Close()
		file, err := os.Create(filepath.Join(m.profiles, strings.ReplaceAll(name, " ", "-")+"."+kind))
		if err != nil {
			return err
		}
		_, err = io.Copy(file, body)
		return errors.Join(err, file.Close())
	}
	sampling.Go(func() { failed = store("cpu", fmt.Sprintf("profile?seconds=%.0f", seconds(profiled))) })
	return func() error {
		sampling.Wait()
		return errors.Join(failed, store("heap", "heap"), store("allocs", "allocs"))
	}
}

// cpu is the processor time of a process, user and system, in seconds.
func cpu(pid int) (float64, error) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, fmt.Errorf("reading the processor time: %w", err)
	}
	// The name of the program, in parentheses, may hold anything; the fields after it are numbers from the third on.
	_, rest, ok := strings.Cut(string(b), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 13 {
		return 0, fmt.Errorf("reading the processor time of process %d: unexpected %q", pid, b)
	}
	user, err := strconv.ParseFloat(fields[11], 64)
	if err != nil {
		return 0, fmt.Errorf("reading the processor time of process %d: %w", pid, err)
	}
	system, err := strconv.ParseFloat(fields[12], 64)
	if err != nil {
		return 0, fmt.Errorf("reading the processor time of process %d: %w", pid, err)
	}
	return (user + system) / ticks, nil
}

// machine is the processor time that all processes have used, in seconds.
func machine() (float64, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, fmt.Errorf("reading the processor time of the machine: %w", err)
	}
	line, _, _ := strings.Cut(string(b), "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 {
		return 0, fmt.Errorf("reading the processor time of the machine: unexpected %q", line)
	}
	var busy float64
	for i, field := range fields[1:9] {
		// The fourth and fifth are idle times; the ninth and tenth, of guests, are part of the first two.
		if i == 3 || i == 4 {
			continue
		}
		value, err := strconv.ParseFloat(field, 64)
		if err != nil {
			return 0, fmt.Errorf("reading the processor time of the machine: %w", err)
		}
		busy += value
	}
	return busy / ticks, nil
}

// peak is the most resident memory that a process has had since forgetPeak, in MiB.
func peak(pid int) (float64, error) { return resident(pid, "VmHWM:") }

// resident reads a line of a process's status that tells an amount of memory, in MiB.
func resident(pid int, what string) (float64, error) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0, fmt.Errorf("reading the memory: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, what); ok {
			kib, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64)
			if err != nil {
				return 0, fmt.Errorf("reading the memory of process %d: %w", pid, err)
			}
			return kib / 1024, nil
		}
	}
	return 0, fmt.Errorf("reading the memory of process %d: its status has no %s", pid, strings.TrimSuffix(what, ":"))
}

// forgetPeak makes the kernel count the peak of a process's memory from what it has now.
func forgetPeak(pid int) error {
	if err := os.WriteFile(filepath.Join("/proc", strconv.Itoa(pid), "clear_refs"), []byte("5"), 0); err != nil {
		return fmt.Errorf("forgetting the peak of memory: %w", err)
	}
	return nil
}
