// Command bench measures how fast the system is and what it costs, against a real API server. It asserts nothing and is no
// test; `-json` prints lines for a comparison with an earlier run. It needs an otherwise idle machine.
//
//	go run ./test/bench                            the table of docs/benchmarks.md: 100, 500 and 1,000 applications, and the floor
//	go run ./test/bench -sizes 500 applications    the part of it that grows with the number of applications; or the heart of
//	                                               it, for one kind and beside nothing else: kustomizations, helmreleases
//	go run ./test/bench alone                      the part that does not; or one of it: monorepo, neighbours
//	go run ./test/bench growth                     how cost grows up to 5,000 applications, and what to give a process
//	go run ./test/bench figures                    all single figures; or by name:
//	go run ./test/bench chain many idle stuck push oci git index crowd large scale helm storm hook tags
//
// It runs the built binary (FLUX_BIN, bin/flux or the PATH) on control planes of its own.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/seed-79636ae9/flux/internal/testkit"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// figure is one measured number.
type figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	// Goal is the most that Value may be; nil for a figure that is told without a goal.
	Goal *float64 `json:"goal,omitempty"`
	Pass *bool    `json:"pass,omitempty"`
	// Note is what else belongs to it.
	Note string `json:"note,omitempty"`
}

// measure makes a figure with a goal.
func measure(name string, value, goal float64, unit, note string) figure {
	pass := value <= goal
	return figure{Name: name, Value: value, Unit: unit, Goal: &goal, Pass: &pass, Note: note}
}

// tell makes a figure without a goal.
func tell(name string, value float64, unit, note string) figure {
	return figure{Name: name, Value: value, Unit: unit, Note: note}
}

func (f figure) String() string {
	goal, verdict := "-", "-"
	if f.Goal != nil {
		goal, verdict = fmt.Sprintf("<= %g %s", *f.Goal, f.Unit), "miss"
		if *f.Pass {
			verdict = "pass"
		}
	}
	return strings.TrimSpace(fmt.Sprintf("%-34s %10.2f %-8s %-14s %-5s %s", f.Name, f.Value, f.Unit, goal, verdict, f.Note))
}

// bench is one scenario and the figures that it yields.
type bench struct {
	name string
	run  func(context.Context, *lab) ([]figure, error)
}

func benches() []bench {
	return []bench{
		{"chain", chain}, {"many", many}, {"idle", idle}, {"stuck", stuck}, {"push", push}, {"oci", oci}, {"git", largeGit}, {"index", largeIndex},
		{"crowd", crowd}, {"large", large}, {"scale", scale}, {"helm", helm}, {"storm", storm}, {"hook", hook}, {"tags", tags},
	}
}

// options are what a command line chooses.
type options struct {
	asJSON        bool
	dir, profiles string
	sizes         []int
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.BoolVar(&o.asJSON, "json", false, "print one JSON object per figure, or per row of the table with each resource's requests")
	flags.StringVar(&o.dir, "dir", "", "keep cluster, logs and data in this `directory`; default: a temporary one, removed at the end")
	flags.StringVar(&o.profiles, "profiles", "", "store profiles of the process in this `directory`, for each phase of the table")
	sizes := flags.String("sizes", "", "`numbers` of applications, separated by commas; default: 100,500,1000, with growth 10,100,1000,5000")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	log.SetLogger(logr.Discard())
	names := flags.Args()
	growing := slices.Equal(names, []string{"growth"})
	if o.sizes, err = parseSizes(*sizes, growing); err != nil {
		return err
	}
	if o.profiles != "" {
		if err := os.MkdirAll(o.profiles, 0o755); err != nil {
			return err
		}
	}
	if o.dir == "" {
		if o.dir, err = os.MkdirTemp(memory(), "flux-bench-*"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(o.dir)) }()
	}
	switch {
	case growing:
		return growth(ctx, o, out, os.Stderr)
	case len(names) == 0:
		return table(ctx, o, out, applications, unsized())
	case slices.Equal(names, []string{"applications"}):
		return table(ctx, o, out, applications, nil)
	case slices.Equal(names, []string{kustomizationsName}):
		return table(ctx, o, out, kustomizationsAlone, nil)
	case slices.Equal(names, []string{helmReleasesName}):
		return table(ctx, o, out, releasesAlone, nil)
	case slices.Equal(names, []string{"alone"}):
		return table(ctx, o, out, nil, unsized())
	case slices.Equal(names, []string{monorepoName}), slices.Equal(names, []string{neighboursName}):
		return table(ctx, o, out, nil, names)
	case slices.Equal(names, []string{"figures"}):
		return figures(ctx, o, out, benches())
	}
	chosen, err := choose(names)
	if err != nil {
		return err
	}
	return figures(ctx, o, out, chosen)
}

// memory is a directory in memory where the system has one: creating a file on a disk costs processor time that differs between
// directories of one disk by a factor of ten, in the process and in etcd. Elsewhere it is the usual place of temporary files.
func memory() string {
	const shared = "/dev/shm"
	if info, err := os.Stat(shared); err == nil && info.IsDir() {
		return shared
	}
	return ""
}

func parseSizes(text string, growing bool) ([]int, error) {
	switch {
	case text == "" && growing:
		return []int{10, 100, 1000, 5000}, nil
	case text == "":
		return []int{100, 500, 1000}, nil
	}
	var sizes []int
	for part := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(part)
		if err != nil || n < 1 || n > 9999 {
			return nil, fmt.Errorf("-sizes has %q, want numbers from 1 to 9999", part)
		}
		sizes = append(sizes, n)
	}
	return sizes, nil
}

// onPlane runs do with a control plane of its own.
func onPlane(ctx context.Context, dir string, do func(*testkit.ControlPlane) error) (err error) {
	plane, err := testkit.StartControlPlane(ctx, filepath.Join(dir, "cluster"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, plane.Stop()) }()
	if err := testkit.ApplyCRDs(ctx, plane.Config); err != nil {
		return err
	}
	return do(plane)
}

// table measures each number of applications on a control plane of its own, so that none pays for the objects of another; then what
// does not grow with them.
func table(ctx context.Context, o options, out io.Writer, sized func(context.Context, *fleet, *sheet) error, others []string) error {
	s := &sheet{out: out, progress: os.Stderr, asJSON: o.asJSON}
	measure := func(name string, n int, scenarios func(context.Context, *fleet, *sheet) error) error {
		dir := filepath.Join(o.dir, name)
		return onPlane(ctx, dir, func(plane *testkit.ControlPlane) error {
			l, err := newLab(ctx, plane, filepath.Join(dir, "lab"), "bench")
			if err != nil {
				return err
			}
			f, err := newFleet(ctx, l, n, o.profiles)
			if err != nil {
				return errors.Join(err, l.close())
			}
			return errors.Join(scenarios(ctx, f, s), f.close())
		})
	}
	err := func() error {
		for _, n := range o.sizes {
			if sized == nil {
				break
			}
			if err := measure(fmt.Sprint("applications-", n), n, sized); err != nil {
				return err
			}
		}
		if len(others) == 0 {
			return nil
		}
		return measure("alone", monorepoApps, func(ctx context.Context, f *fleet, s *sheet) error { return alone(ctx, f, s, others) })
	}()
	// What was measured before a failure is worth reading.
	return errors.Join(err, s.print())
}

// figures runs scenarios of single figures, all on one control plane.
func figures(ctx context.Context, o options, out io.Writer, chosen []bench) error {
	return onPlane(ctx, o.dir, func(plane *testkit.ControlPlane) error {
		for _, b := range chosen {
			l, err := newLab(ctx, plane, filepath.Join(o.dir, b.name), "bench-"+b.name)
			if err != nil {
				return err
			}
			figures, err := b.run(ctx, l)
			if err = errors.Join(err, l.close()); err != nil {
				return fmt.Errorf("%s: %w", b.name, err)
			}
			for _, f := range figures {
				if err := show(out, f, o.asJSON); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func choose(names []string) ([]bench, error) {
	all := benches()
	var known []string
	for _, b := range all {
		known = append(known, b.name)
	}
	var chosen []bench
	for _, name := range names {
		i := slices.Index(known, name)
		if i < 0 {
			return nil, fmt.Errorf("there is no bench %q; there are applications, kustomizations, helmreleases, alone, monorepo, neighbours, growth, figures, or some of %s",
				name, strings.Join(known, ", "))
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

func show(out io.Writer, f figure, asJSON bool) error {
	if !asJSON {
		_, err := fmt.Fprintln(out, f)
		return err
	}
	return json.NewEncoder(out).Encode(f)
}
