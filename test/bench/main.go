// Command bench prints the figures of docs/benchmarks.md: how fast the system is and what it costs,
// against a real API server, one line per figure with its goal. It asserts nothing and is no test;
// `-json` prints lines for a comparison with an earlier run. It needs an otherwise idle machine.
//
//	go run ./test/bench [-json] [-dir DIR] [chain] [many] [idle] [stuck] [push] [oci] [git] [index] [crowd] [large] [scale] [helm] [storm] [hook]
//
// It runs the built binary (FLUX_BIN, bin/flux or the PATH) on a control plane of its own.
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
	"strings"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/seed-79636ae9/flux/internal/testkit"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
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
	return []bench{{"chain", chain}, {"many", many}, {"idle", idle}, {"stuck", stuck}, {"push", push}, {"oci", oci}, {"git", largeGit}, {"index", largeIndex}, {"crowd", crowd}, {"large", large}, {"scale", scale}, {"helm", helm}, {"storm", storm}, {"hook", hook}}
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	asJSON := flags.Bool("json", false, "print one JSON object per figure")
	dir := flags.String("dir", "", "keep cluster, logs and data in this `directory`; default: a temporary one, removed at the end")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	log.SetLogger(logr.Discard())
	chosen, err := choose(flags.Args())
	if err != nil {
		return err
	}
	if *dir == "" {
		if *dir, err = os.MkdirTemp("", "flux-bench-*"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(*dir)) }()
	}
	plane, err := testkit.StartControlPlane(ctx, filepath.Join(*dir, "cluster"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, plane.Stop()) }()
	if err := testkit.ApplyCRDs(ctx, plane.Config); err != nil {
		return err
	}
	for _, b := range chosen {
		l, err := newLab(ctx, plane, filepath.Join(*dir, b.name), "bench-"+b.name)
		if err != nil {
			return err
		}
		figures, err := b.run(ctx, l)
		if err = errors.Join(err, l.close()); err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		for _, f := range figures {
			if err := show(out, f, *asJSON); err != nil {
				return err
			}
		}
	}
	return nil
}

func choose(names []string) ([]bench, error) {
	all := benches()
	if len(names) == 0 {
		return all, nil
	}
	var chosen []bench
	for _, name := range names {
		i := slices.IndexFunc(all, func(b bench) bool { return b.name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no bench %q; there are chain, many, idle, stuck, push, oci, git, index, crowd, large, scale, helm, storm and hook", name)
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
