package helm

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	rcommon "helm.sh/helm/v4/pkg/release/common"
	"sigs.k8s.io/yaml"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
)

var update = flag.Bool("update", false, "write the stories as they are now told")

// TestStories (helmrelease 41, 48 and their neighbours) plays stories about a HelmRelease: what is decided, pass after pass, while actions succeed and fail and others
// meddle. Each is a txtar file: the spec, a script, and what is told.
//
//	fail <act> [times]  the next such acts fail; with "unrecorded" before the act, before anything is in storage
//	break <act>         the process dies in the next such act; "late" before the act: when it is done, but not yet told
//	pass                one pass
//	passes              passes until nothing more is to be done
//	spec <yaml>         the spec changes, which is a new generation
//	chart <version>, values <digest>, rename chart <name>
//	force               the next pass is forced
//	reset               failures are forgotten
//	helm <status> [chart version] [values digest]   somebody makes a release with helm
//	lose storage | lose target | tamper
//	drift               somebody changes an object
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/decide/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			a := txtar.Parse(data)
			w := newWorld(t, section(a, "spec"))
			for _, line := range strings.Split(strings.TrimSpace(section(a, "script")), "\n") {
				w.play(line)
			}
			got := w.told.String()
			if *update {
				for i := range a.Files {
					if a.Files[i].Name == "told" {
						a.Files[i].Data = []byte(got)
					}
				}
				if err := os.WriteFile(file, txtar.Format(a), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(section(a, "told"), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func section(a *txtar.Archive, name string) string {
	for _, f := range a.Files {
		if f.Name == name {
			return string(f.Data)
		}
	}
	return ""
}

// world is a HelmRelease and Helm's storage.
type world struct {
	t       *testing.T
	obj     *helmv2.HelmRelease
	want    desired
	storage []*sighting
	// failing counts, by act, how often it is still to fail; unrecorded says how.
	failing    map[act]int
	unrecorded map[act]bool
	breaking   act
	late       bool
	forced     bool
	targetLost bool
	drift      bool
	told       bytes.Buffer
}

func newWorld(t *testing.T, spec string) *world {
	w := &world{
		t: t, obj: &helmv2.HelmRelease{}, failing: map[act]int{}, unrecorded: map[act]bool{},
		want: desired{chartName: "demo", chartVersion: "1.0.0", config: "v0"},
	}
	w.obj.Generation, w.obj.Status.ObservedGeneration = 1, -1
	w.spec(spec)
	return w
}

func (w *world) spec(text string) {
	w.obj.Spec = helmv2.HelmReleaseSpec{}
	if err := yaml.UnmarshalStrict([]byte(text), &w.obj.Spec); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) play(line string) {
	fmt.Fprintf(&w.told, "> %s\n", line)
	words := strings.Fields(line)
	arg := func(i int) string {
		if i < len(words) {
			return words[i]
		}
		return ""
	}
	switch words[0] {
	case "fail":
		name := act(arg(1))
		if arg(1) == "unrecorded" {
			name = act(arg(2))
			w.unrecorded[name] = true
		}
		w.failing[name] = 1
		if n := words[len(words)-1]; strings.HasPrefix(n, "x") {
			_, _ = fmt.Sscanf(n, "x%d", ptr(w.failing, name))
		}
	case "break":
		w.breaking, w.late = act(words[len(words)-1]), arg(1) == "late"
	case "pass":
		w.pass()
	case "passes":
		for range 10 {
			if !w.pass() {
				return
			}
		}
		w.t.Error("it does not come to rest")
	case "spec":
		w.spec(strings.TrimPrefix(line, "spec"))
		w.obj.Generation++
	case "chart":
		w.want.chartVersion = arg(1)
	case "values":
		w.want.config = arg(1)
	case "renderers":
		w.want.renderers = arg(1)
		w.obj.Generation++
	case "force":
		w.forced = true
	case "reset":
		w.obj.Status.Failures, w.obj.Status.InstallFailures, w.obj.Status.UpgradeFailures = 0, 0, 0
	case "helm":
		w.helm(arg(1), arg(2), arg(3))
	case "lose":
		if arg(1) == "storage" {
			w.storage = nil
		} else {
			w.targetLost = true
		}
	case "tamper":
		w.newest().Digest = "tampered"
	case "drift":
		w.drift = true
	default:
		w.t.Fatalf("what is %q?", line)
	}
}

// ptr lets Sscanf write a value of a map.
func ptr(m map[act]int, name act) *intOf { return &intOf{m, name} }

type intOf struct {
	m    map[act]int
	name act
}

// Scan implements fmt.Scanner.
func (i *intOf) Scan(state fmt.ScanState, _ rune) error {
	var n int
	_, err := fmt.Fscan(state, &n)
	i.m[i.name] = n
	return err
}

func (w *world) newest() *sighting {
	if len(w.storage) == 0 {
		return nil
	}
	return w.storage[len(w.storage)-1]
}

func (w *world) add(status string) *sighting {
	version := 1
	if n := w.newest(); n != nil {
		version = n.Version + 1
	}
	s := &sighting{Snapshot: helmv2.Snapshot{
		Name: "app", Namespace: "ns", Version: version, Status: status, ChartName: w.want.chartName, ChartVersion: w.want.chartVersion,
		ConfigDigest: w.want.config, Digest: fmt.Sprintf("d%d-%s", version, status),
	}, marked: true}
	w.storage = append(w.storage, s)
	return s
}

func (w *world) helm(status, chart, values string) {
	if n := w.newest(); n != nil && n.Status == string(rcommon.StatusDeployed) {
		w.mark(n, rcommon.StatusSuperseded)
	}
	s := w.add(status)
	s.marked = false
	if chart != "" {
		s.ChartVersion = chart
	}
	if values != "" {
		s.ConfigDigest = values
	}
}

func (w *world) mark(s *sighting, status rcommon.Status) {
	s.Status, s.Digest = string(status), fmt.Sprintf("d%d-%s", s.Version, status)
}

// pass plays one pass, and reports whether another one follows by itself.
func (w *world) pass() bool {
	status := &w.obj.Status
	if status.LastAttemptedGeneration != w.obj.Generation || status.LastAttemptedRevision != w.want.chartVersion || status.LastAttemptedConfigDigest != w.want.config {
		status.Failures, status.InstallFailures, status.UpgradeFailures = 0, 0, 0
	}
	status.LastAttemptedGeneration, status.LastAttemptedRevision, status.LastAttemptedConfigDigest = w.obj.Generation, w.want.chartVersion, w.want.config
	defer func() { w.forced = false }()
	var done []act
	var compared *comparison
	for range maxSteps {
		latest := w.newest()
		s := &situation{
			obj: w.obj, want: w.want, latest: latest, forced: w.forced, targetLost: w.targetLost, compared: compared, done: done,
			known: latest != nil && len(status.History) > 0 && latest.same(&status.History[0], true),
		}
		before := fmt.Sprintf("%+v", w.obj)
		next := decide(s)
		if after := fmt.Sprintf("%+v", w.obj); after != before {
			w.t.Error("deciding has changed something")
		}
		fmt.Fprintf(&w.told, "%s: %s", next.act, next.why)
		switch {
		case next.act == actRemediate:
			fmt.Fprintf(&w.told, ", to v%d", next.target)
		case next.act == actStall:
			fmt.Fprintf(&w.told, ", %s %q", next.reason, next.message)
		case next.act == actPause:
			fmt.Fprintf(&w.told, ", for %s", next.after)
		}
		w.told.WriteString("\n")
		switch next.act {
		case actNone, actStall, actPause:
			status.ObservedGeneration = w.obj.Generation
			if next.act == actNone {
				status.History = truncated(status.History, false)
			}
			return false
		case actAgain:
			return true
		case actCompare:
			compared = &comparison{drifted: w.drift}
		case actCorrect:
			compared.corrected, w.drift = true, false
		default:
			if end, again := w.do(next, s.known); end {
				return again
			}
		}
		done = append(done, next.act)
	}
	w.t.Error("the pass does not end")
	return false
}

// do acts. It reports whether that ends the pass, and whether another one follows.
func (w *world) do(next step, known bool) (end, again bool) {
	status := &w.obj.Status
	fails := w.failing[next.act] > 0
	if fails {
		w.failing[next.act]--
		fmt.Fprintf(&w.told, "  %s fails\n", next.act)
	}
	dies := w.breaking == next.act
	if dies {
		w.breaking = ""
		fmt.Fprintf(&w.told, "  the process dies\n")
	}
	switch next.act {
	case actInstall, actUpgrade:
		return w.deploy(next.act, known, fails, dies)
	case actAdopt:
		status.History = remembered(status.History, []*sighting{w.newest()}, "")
	case actUnlock:
		w.mark(w.newest(), rcommon.StatusFailed)
		status.History = remembered(status.History, []*sighting{w.newest()}, "")
	case actTest:
		phase := "Succeeded"
		if fails {
			phase = "Failed"
			status.Failures++
			if status.LastAttemptedReleaseAction == helmv2.InstallAction {
				status.InstallFailures++
			} else {
				status.UpgradeFailures++
			}
		}
		status.History[0].TestHooks = &map[string]*helmv2.TestHookStatus{"check": {Phase: phase}}
	case actRemediate:
		if dies {
			w.add(string(rcommon.StatusPendingRollback))
			return true, true
		}
		at := slices.IndexFunc(w.storage, func(s *sighting) bool { return s.Version == next.target })
		old := w.storage[at]
		s := w.add(string(rcommon.StatusDeployed))
		s.ChartVersion, s.ConfigDigest = old.ChartVersion, old.ConfigDigest
		if fails {
			w.mark(s, rcommon.StatusFailed)
		}
		w.mark(old, rcommon.StatusSuperseded)
		status.History = remembered(status.History, []*sighting{s, old}, rollbackAction)
		return fails, fails
	case actRemove:
		w.mark(w.newest(), rcommon.StatusUninstalling)
		if dies {
			return true, true
		}
		status.History = remembered(status.History, []*sighting{w.newest()}, uninstallRemediationAction)
		if fails {
			return true, true
		}
		w.storage = nil
	}
	return false, false
}

func (w *world) deploy(name act, known, fails, dies bool) (end, again bool) {
	status := &w.obj.Status
	if name == actInstall || !known {
		status.History = nil
	}
	if dies {
		status := "pending-" + string(name)
		if old := w.newest(); w.late {
			if status = string(rcommon.StatusDeployed); old != nil {
				w.mark(old, rcommon.StatusSuperseded)
			}
		}
		w.add(status)
		return true, true
	}
	status.LastAttemptedReleaseAction = string(name)
	if fails && w.unrecorded[name] {
		status.Failures++
		return true, false
	}
	old := w.newest()
	s := w.add(string(rcommon.StatusDeployed))
	written := []*sighting{s}
	switch {
	case fails:
		w.mark(s, rcommon.StatusFailed)
		status.Failures++
		if name == actInstall {
			status.InstallFailures++
		} else {
			status.UpgradeFailures++
		}
	case old != nil:
		w.mark(old, rcommon.StatusSuperseded)
		written = append(written, old)
	}
	if !fails {
		w.want.renderersSeen = w.want.renderers
		status.Failures, status.InstallFailures, status.UpgradeFailures = 0, 0, 0
	}
	status.History = remembered(status.History, written, string(name))
	return false, false
}
