package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"strconv"
	"time"

	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/internal/testkit/charts"
)

// fullLimit is the most applications that a growth run gives real sources and objects: more would measure the API server.
const fullLimit = 1000

// restFor is what the process gets to give memory back before it counts as idle.
const restFor = 20 * time.Second

// grown is what n applications of a series cost.
type grown struct {
	series string
	n      int
	*row
	empty     float64 // memory of the process before, in MiB
	perObject float64 // requests of the process
}

// growth installs more and more applications, and says what a process needs for them.
func growth(ctx context.Context, o options, out, progress io.Writer) error {
	var all []grown
	measured := func() error {
		for _, n := range o.sizes {
			for _, name := range []string{kustomizationsName, helmReleasesName, "trivial"} {
				if n > fullLimit && name != "trivial" {
					continue
				}
				g, err := grow(ctx, o, n, name)
				if err != nil {
					return fmt.Errorf("%s, %d: %w", name, n, err)
				}
				all = append(all, g)
				fmt.Fprintf(progress, "%s, %d: %.1f s\n", name, n, g.Wall)
			}
		}
		return nil
	}()
	// What was measured before a failure is worth reading.
	return errors.Join(measured, printGrowth(out, all))
}

func printGrowth(out io.Writer, all []grown) error {
	cells := [][]string{{
		"Series", "n", "Phase", "Wall s", "ms each", "API CPU s", "etcd CPU s", "flux CPU s", "Peak MiB", "Idle MiB", "of it private", "KiB each, idle",
		"Requests of flux per object", "Requests at the API server",
	}}
	for _, g := range all {
		cells = append(cells, []string{
			g.series, strconv.Itoa(g.n), "install", fmt.Sprintf("%.2f", g.Wall), fmt.Sprintf("%.1f", 1000*g.Wall/float64(g.n)),
			fmt.Sprintf("%.2f", g.Server), fmt.Sprintf("%.2f", g.Etcd), fmt.Sprintf("%.2f", g.Own), fmt.Sprintf("%.0f", g.Peak),
			fmt.Sprintf("%.0f", g.Idle), fmt.Sprintf("%.0f", g.Private),
			fmt.Sprintf("%.1f", (g.Idle-g.empty)*1024/float64(g.n)), fmt.Sprintf("%.2f", g.perObject), g.Requests.verbs().String(),
		})
	}
	if err := printTable(out, cells); err != nil {
		return err
	}
	return sizing(out, all)
}

// grow measures n applications of a series, on a control plane and in a process of their own.
func grow(ctx context.Context, o options, n int, name string) (g grown, err error) {
	dir := filepath.Join(o.dir, fmt.Sprintf("%s-%d", name, n))
	err = onPlane(ctx, dir, func(plane *testkit.ControlPlane) error {
		l, err := newLab(ctx, plane, filepath.Join(dir, "lab"), "bench")
		if err != nil {
			return err
		}
		f, err := newFleet(ctx, l, n, o.profiles)
		if err != nil {
			return errors.Join(err, l.close())
		}
		g, err = f.grow(ctx, name)
		return errors.Join(err, f.close())
	})
	return g, err
}

func (f *fleet) grow(ctx context.Context, name string) (grown, error) {
	g := grown{series: name, n: f.n}
	var part string
	var objects int
	var install func() error
	switch name {
	case kustomizationsName:
		part, objects = "k", 4
		if err := f.push(part, firstTag); err != nil {
			return g, err
		}
		install = func() error { return f.installKustomizations(ctx) }
	case helmReleasesName:
		part, objects = "h", 4
		files := testkit.NewFiles()
		defer files.Close()
		if err := charts.Serve(files, "charts", charts.Webapp(charts.First)); err != nil {
			return g, err
		}
		install = func() error { return f.installReleases(ctx, files.URL+"/charts") }
	default:
		part, objects = "s", 1
		manifests := map[string]string{}
		for i := range f.n {
			manifests[app(i)+"/all.yaml"] = manyConfigMaps(f.team(part, i), app(i), 1).Content
		}
		if err := f.pushFiles("shared:"+firstTag, manifests); err != nil {
			return g, err
		}
		install = func() error { return f.installShared(ctx) }
	}
	if err := f.teams(ctx, part); err != nil {
		return g, err
	}
	if err := f.run(ctx); err != nil {
		return g, err
	}
	before, err := f.phase(ctx, name, "empty", func() error { return pause(ctx, restFor) })
	if err != nil {
		return g, err
	}
	if g.row, err = f.phase(ctx, name, "install", install); err != nil {
		return g, err
	}
	after, err := f.phase(ctx, name, "rest", func() error { return pause(ctx, restFor) })
	if err != nil {
		return g, err
	}
	g.empty, g.Idle, g.Private = before.Idle, after.Idle, after.Private
	g.perObject = g.Sent.sum(func(string) bool { return true }) / float64(objects*f.n)
	return g, nil
}

// sizing says what to give a process: the memory that it had, with some room, and the processors to install everything anew within
// five minutes.
func sizing(out io.Writer, all []grown) error {
	if _, err := fmt.Fprintln(out); err != nil {
		return err
	}
	cells := [][]string{{"Series", "n, up to", "Memory request", "Memory limit", "CPU request", "All anew in"}}
	for _, g := range all {
		cells = append(cells, []string{
			g.series, strconv.Itoa(g.n),
			fmt.Sprintf("%.0fMi", roundUp(1.25*g.Idle, 32)), fmt.Sprintf("%.0fMi", roundUp(1.5*g.Peak, 64)),
			fmt.Sprintf("%.0fm", max(50, roundUp(1000*g.Own/seconds(5*time.Minute), 50))), fmt.Sprintf("%.0f s", math.Ceil(g.Wall)),
		})
	}
	return printTable(out, cells)
}

func roundUp(value, step float64) float64 { return math.Ceil(value/step) * step }
