// Command micro runs the Go benchmarks of the hot paths and compares them with a recorded baseline. It asserts nothing.
//
//	go run ./test/bench/micro            compare with test/bench/baseline.txt
//	go run ./test/bench/micro -update    record the baseline anew, on an idle machine
//
// The baseline is output of `go test -bench`, so that benchstat reads it too. Times compare on the same machine alone; bytes and
// allocations on any.
package main

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "micro:", err)
		os.Exit(1)
	}
}

// suite is the benchmarks of one package that count as hot.
type suite struct{ pkg, pattern string }

func suites() []suite {
	return []suite{
		{"./toolkit/archive", "^Benchmark(Write|Unpack|Extract)$"},
		{"./toolkit/artifact", "^Benchmark(Put|Verify|OpenHit|OpenMiss)$"},
		{"./toolkit/kube", "^Benchmark(Object|Digest)$"},
		{"./toolkit/git", "^Benchmark(Archive)$"},
		{"./toolkit/render", "^BenchmarkBuild$/^(objects=4|objects=500)$"},
		// With a second level in the pattern, benchmarks without one are left out.
		{"./toolkit/render", "^Benchmark(Expand|Fingerprint)$"},
		{"./toolkit/ssa", "^Benchmark(Normalise|Content|Inventory|Differences)$"},
		{"./toolkit/status", "^BenchmarkCompute$"},
		{"./toolkit/loop", "^BenchmarkStatusPatch$"},
		{"./internal/helm/drift", "^BenchmarkPatch$"},
		{"./internal/helm/charts", "^BenchmarkLoad$"},
		{"./internal/helm/action", "^BenchmarkTemplate$"},
	}
}

func run(ctx context.Context, out, progress io.Writer) error {
	baseline := flag.String("baseline", "test/bench/baseline.txt", "`file` with the baseline")
	update := flag.Bool("update", false, "write the baseline instead of comparing with it")
	count := flag.Int("count", 5, "how often each benchmark runs; the median counts")
	benchtime := flag.String("benchtime", "200ms", "how long each run takes, or how many rounds it has, as in 20x")
	flag.Parse()

	// Not the model of the processor: how many there are is what the figures depend on most, and says nothing about the owner.
	now := fmt.Appendf(nil, "goos: %s\ngoarch: %s\ncores: %d\n", runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	for _, s := range suites() {
		fmt.Fprintln(progress, s.pkg)
		output, err := measure(ctx, s, *count, *benchtime)
		if err != nil {
			return err
		}
		now = append(now, output...)
	}
	if *update {
		return os.WriteFile(*baseline, now, 0o644)
	}
	recorded, err := os.ReadFile(*baseline)
	if err != nil {
		return fmt.Errorf("reading the baseline: %w: record one with -update", err)
	}
	before, err := parse(bytes.NewReader(recorded))
	if err != nil {
		return fmt.Errorf("reading the baseline: %w", err)
	}
	after, err := parse(bytes.NewReader(now))
	if err != nil {
		return err
	}
	return compare(out, before, after)
}

// measure runs a suite and returns its lines of results, with the package above them.
func measure(ctx context.Context, s suite, count int, benchtime string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-short", "-run", "^$", "-bench", s.pattern, "-benchmem",
		"-count", strconv.Itoa(count), "-benchtime", benchtime, s.pkg)
	output, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, output)
	}
	var kept bytes.Buffer
	for line := range bytes.Lines(output) {
		if bytes.HasPrefix(line, []byte("pkg: ")) || bytes.HasPrefix(line, []byte("Benchmark")) {
			kept.Write(line)
		}
	}
	return kept.Bytes(), nil
}

// results are the values of each benchmark by unit.
type results struct {
	cores string
	names []string // in order
	of    map[string]map[string][]float64
}

func parse(r io.Reader) (results, error) {
	all := results{of: map[string]map[string][]float64{}}
	pkg := ""
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Text()
		if rest, ok := strings.CutPrefix(line, "cores: "); ok {
			all.cores = rest
		}
		if rest, ok := strings.CutPrefix(line, "pkg: "); ok {
			pkg = rest[strings.LastIndex(rest, "/flux/")+len("/flux/"):]
		}
		fields := strings.Fields(line)
		if !strings.HasPrefix(line, "Benchmark") || len(fields) < 4 {
			continue
		}
		// Behind the name stands the number of processors.
		name := fields[0]
		if i := strings.LastIndexByte(name, '-'); i > 0 {
			name = name[:i]
		}
		name = pkg + " " + strings.TrimPrefix(name, "Benchmark")
		if all.of[name] == nil {
			all.of[name], all.names = map[string][]float64{}, append(all.names, name)
		}
		for i := 2; i+1 < len(fields); i += 2 {
			value, err := strconv.ParseFloat(fields[i], 64)
			if err != nil {
				return all, fmt.Errorf("line %q: %w", line, err)
			}
			all.of[name][fields[i+1]] = append(all.of[name][fields[i+1]], value)
		}
	}
	return all, lines.Err()
}

// units are those that are compared, with the change in percent from which on it is pointed at.
func units() []struct {
	name  string
	worse float64
} {
	return []struct {
		name  string
		worse float64
	}{{"ns/op", 20}, {"B/op", 5}, {"allocs/op", 5}}
}

func compare(out io.Writer, before, after results) error {
	if before.cores != after.cores {
		fmt.Fprintf(out, "The baseline is of a machine with %s cores: compare bytes and allocations, not times.\n\n", before.cores)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "benchmark\t")
	for _, unit := range units() {
		fmt.Fprintf(w, "%s\tbefore\tchange\t", unit.name)
	}
	fmt.Fprintln(w)
	for _, name := range after.names {
		fmt.Fprint(w, name, "\t")
		mark := ""
		for _, unit := range units() {
			now, was := median(after.of[name][unit.name]), median(before.of[name][unit.name])
			change := "new"
			switch {
			case was > 0:
				percent := 100 * (now - was) / was
				if change = fmt.Sprintf("%+.0f%%", percent); percent > unit.worse {
					mark = " worse"
				}
			case before.of[name] != nil && now > 0:
				change, mark = "from 0", " worse"
			case before.of[name] != nil:
				change = "+0%"
			}
			fmt.Fprintf(w, "%.0f\t%.0f\t%s\t", now, was, change)
		}
		fmt.Fprintln(w, mark)
	}
	for _, name := range before.names {
		if after.of[name] == nil {
			fmt.Fprintf(w, "%s\tgone\t\n", name)
		}
	}
	return w.Flush()
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
