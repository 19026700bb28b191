package main

import (
	"bufio"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"strings"
	"unicode/utf8"
)

// row is one measured phase.
type row struct {
	Scenario     string `json:"scenario"`
	Applications int    `json:"applications"`
	Phase        string `json:"phase"`
	// Wall, and the processor times of API server, etcd and process, in seconds.
	Wall   float64 `json:"wall"`
	Server float64 `json:"apiserverCPU"`
	Etcd   float64 `json:"etcdCPU"`
	Own    float64 `json:"ownCPU"`
	// WallTimes and ServerTimes are multiples of the floor; nil where there is none.
	WallTimes   *float64 `json:"wallTimes,omitempty"`
	ServerTimes *float64 `json:"apiserverTimes,omitempty"`
	// Peak is the most resident memory of the process in the phase, Idle what it has when the API server is at rest again, in MiB. Both
	// hold the parts of the program's file that were used; Private is Idle without files.
	Peak    float64 `json:"peakMiB,omitempty"`
	Idle    float64 `json:"idleMiB,omitempty"`
	Private float64 `json:"privateMiB,omitempty"`
	// Requests are those at the API server, of all clients; Sent those of the process.
	Requests counts `json:"requests,omitempty"`
	Sent     counts `json:"sent,omitempty"`
	// Others is the part of the machine that programs which have nothing to do with the benchmark have used.
	Others float64 `json:"others"`
	Goals  []goal  `json:"goals,omitempty"`
	// Note is what else was seen.
	Note string `json:"note,omitempty"`
}

// goal is a figure of a row that must not exceed a limit.
type goal struct {
	What  string  `json:"what"`
	Value float64 `json:"value"`
	Limit float64 `json:"limit"`
	Unit  string  `json:"unit,omitempty"`
	Met   bool    `json:"met"`
	// Why says why it is not met, as far as that is known.
	Why string `json:"why,omitempty"`
}

// over tells how many times the floor the row is.
func (r *row) over(floor *row) *row {
	wall, server := r.Wall/floor.Wall, r.Server/floor.Server
	// A floor of a few requests costs the API server less than the kernel counts.
	if r.WallTimes = &wall; floor.Server > 0 {
		r.ServerTimes = &server
	}
	return r
}

// goal gives the row a goal.
func (r *row) goal(what string, value, limit float64, unit string) {
	r.Goals = append(r.Goals, goal{What: what, Value: value, Limit: limit, Unit: unit, Met: value <= limit, Why: because(r.Scenario, r.Phase, what)})
}

// times gives the row goals for the multiples of the floor.
func (r *row) times(limit float64) *row {
	r.goal("wall", *r.WallTimes, limit, "x")
	if r.ServerTimes != nil {
		r.goal("API CPU", *r.ServerTimes, limit, "x")
	}
	return r
}

// memory gives the row the goal for the peak of memory.
func (r *row) memory() *row {
	if r.Applications <= goalCrowd {
		r.goal("peak", r.Peak, 250, "MiB")
	}
	return r
}

// reasons has a line "scenario/phase/what: text" for each goal that is known to be missed.
//
//go:embed reasons.txt
var reasons string

// because finds the reason why a goal is missed.
func because(scenario, phase, what string) string {
	for line := range strings.Lines(reasons) {
		if rest, ok := strings.CutPrefix(line, scenario+"/"+phase+"/"+what+":"); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

// writes are the requests of the process that change something: what it has sent by a method that can, its dry runs aside, which
// only the API server tells apart.
func (r *row) writes() float64 {
	dry := r.Requests.sum(func(key string) bool { return strings.HasSuffix(key, dryRun) })
	return max(0, r.Sent.sum(isWrite)-dry)
}

// sheet is the table: its rows are told as they come, and printed at the end.
type sheet struct {
	out, progress io.Writer
	asJSON        bool
	rows          []*row
}

func (s *sheet) add(r *row) error {
	s.rows = append(s.rows, r)
	if s.asJSON {
		return json.NewEncoder(s.out).Encode(r)
	}
	fmt.Fprintf(s.progress, "%s, %d, %s: %.1f s\n", r.Scenario, r.Applications, r.Phase, r.Wall)
	return nil
}

func (s *sheet) addAll(rows ...*row) error {
	for _, r := range rows {
		if err := s.add(r); err != nil {
			return err
		}
	}
	return nil
}

// print prints the table, as Markdown that is readable as it is, and says whether the machine was idle.
func (s *sheet) print() error {
	if s.asJSON || len(s.rows) == 0 {
		return nil
	}
	cells := [][]string{{
		"Scenario", "n", "Phase", "Wall s", "x floor", "API CPU s", "x floor", "etcd CPU s", "flux CPU s", "Peak MiB", "Idle MiB", "of it private",
		"Goals", "Requests of flux", "Requests at the API server", "Note",
	}}
	var missed, goals int
	var others float64
	for _, r := range s.rows {
		verdicts := make([]string, len(r.Goals))
		for i, g := range r.Goals {
			if verdicts[i] = g.String(); !g.Met {
				missed++
			}
		}
		goals += len(r.Goals)
		others = max(others, r.Others)
		sent := "-"
		if r.Peak > 0 {
			sent = r.Sent.String()
		}
		cells = append(cells, []string{
			r.Scenario, strconv.Itoa(r.Applications), r.Phase, fmt.Sprintf("%.2f", r.Wall), multiple(r.WallTimes), fmt.Sprintf("%.2f", r.Server),
			multiple(r.ServerTimes), fmt.Sprintf("%.2f", r.Etcd), unless(r.Peak, "%.2f", r.Own), unless(r.Peak, "%.0f", r.Peak),
			unless(r.Peak, "%.0f", r.Idle), unless(r.Peak, "%.0f", r.Private),
			orDash(strings.Join(verdicts, "; ")), sent, r.Requests.verbs().String(), orDash(r.Note),
		})
	}
	if err := printTable(s.out, cells); err != nil {
		return err
	}
	_, err := fmt.Fprintf(s.out, "\n%d cores. %d of %d goals met. Other programs used up to %.0f %% of the machine during a row.\n",
		runtime.NumCPU(), goals-missed, goals, 100*others)
	return err
}

func (g goal) String() string {
	verdict := "met"
	if !g.Met {
		if verdict = "NOT MET"; g.Why != "" {
			verdict += " (" + g.Why + ")"
		}
	}
	unit := g.Unit
	// A space, but not in 3x and 1/s.
	if unit != "" && unit != "x" && unit[0] != '/' {
		unit = " " + unit
	}
	return fmt.Sprintf("%s %.4g <= %g%s: %s", g.What, g.Value, g.Limit, unit, verdict)
}

func multiple(times *float64) string {
	if times == nil {
		return "-"
	}
	return fmt.Sprintf("%.1f", *times)
}

// unless formats the value; it is a dash where no process was measured, which then has no memory.
func unless(process float64, format string, value float64) string {
	if process == 0 {
		return "-"
	}
	return fmt.Sprintf(format, value)
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// wide is the number of columns behind which nothing is aligned: long texts would push them apart.
const wide = 12

func printTable(out io.Writer, cells [][]string) error {
	widths := map[int]int{}
	for _, line := range cells {
		for i, cell := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	w := bufio.NewWriter(out)
	print := func(line []string, rule bool) {
		for i, cell := range line {
			pad := ""
			if i < wide {
				pad = strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			}
			if rule {
				pad, cell = "", "---"
				if i < wide {
					cell = strings.Repeat("-", widths[i])
				}
			}
			// Numbers stand at the right, words at the left.
			if i == 0 || i == 2 || i >= wide {
				fmt.Fprintf(w, "| %s%s ", cell, pad)
			} else {
				fmt.Fprintf(w, "| %s%s ", pad, cell)
			}
		}
		fmt.Fprintln(w, "|")
	}
	for i, line := range cells {
		if print(line, false); i == 0 {
			print(line, true)
		}
	}
	return w.Flush()
}
