package helm

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	rcommon "helm.sh/helm/v4/pkg/release/common"
	release "helm.sh/helm/v4/pkg/release/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	"github.com/seed-79636ae9/flux/internal/helm/values"
)

const (
	// snapshotVersion is the apiVersion of history entries (helmrelease 80).
	snapshotVersion = "v2"
	// maxHistory bounds the entries of the history (helmrelease 81).
	maxHistory = 5
)

// sighting is a release as Helm's storage has it. It holds nothing of the chart's content.
type sighting struct {
	helmv2.Snapshot
	// marked: its manifest carries the labels that only a HelmRelease's own releases have.
	marked bool
}

// observation is what the digest of a release covers. Results of tests come and go without making it another release
// (helmrelease 80).
type observation struct {
	Name      string          `json:"name"`
	Namespace string          `json:"namespace"`
	Version   int             `json:"version"`
	Info      observedInfo    `json:"info"`
	Chart     *chart.Metadata `json:"chart"`
	Config    map[string]any  `json:"config"`
	Manifest  string          `json:"manifest"`
	Hooks     []observedHook  `json:"hooks"`
	OCIDigest string          `json:"ociDigest,omitempty"`
}

type observedInfo struct {
	FirstDeployed time.Time `json:"firstDeployed"`
	LastDeployed  time.Time `json:"lastDeployed"`
	Deleted       time.Time `json:"deleted"`
	Status        string    `json:"status"`
}

type observedHook struct {
	Name     string `json:"name"`
	Kind     string `json:"kind"`
	Manifest string `json:"manifest"`
}

// observe makes a sighting of a record of Helm's storage.
func observe(rel *release.Release, ociDigest, algorithm string) (*sighting, error) {
	if rel.Info == nil || rel.Chart == nil || rel.Chart.Metadata == nil {
		return nil, fmt.Errorf("the record of release %s/%s.v%d is incomplete", rel.Namespace, rel.Name, rel.Version)
	}
	config, err := values.Digest(algorithm, rel.Config)
	if err != nil {
		return nil, err
	}
	o := observation{
		Name: rel.Name, Namespace: rel.Namespace, Version: rel.Version, Chart: rel.Chart.Metadata, Config: rel.Config, Manifest: rel.Manifest,
		Info: observedInfo{
			FirstDeployed: rel.Info.FirstDeployed.UTC(), LastDeployed: rel.Info.LastDeployed.UTC(), Deleted: rel.Info.Deleted.UTC(), Status: string(rel.Info.Status),
		},
		OCIDigest: ociDigest,
	}
	for _, h := range rel.Hooks {
		if !slices.Contains(h.Events, release.HookTest) {
			o.Hooks = append(o.Hooks, observedHook{Name: h.Name, Kind: h.Kind, Manifest: h.Manifest})
		}
	}
	sum, err := digestOf(algorithm, o)
	if err != nil {
		return nil, err
	}
	return &sighting{
		Snapshot: helmv2.Snapshot{
			APIVersion: snapshotVersion, Digest: sum, Name: rel.Name, Namespace: rel.Namespace, Version: rel.Version, Status: string(rel.Info.Status),
			ChartName: rel.Chart.Metadata.Name, ChartVersion: rel.Chart.Metadata.Version, AppVersion: rel.Chart.Metadata.AppVersion,
			ConfigDigest: config, FirstDeployed: metav1.NewTime(rel.Info.FirstDeployed), LastDeployed: metav1.NewTime(rel.Info.LastDeployed),
			Deleted: metav1.NewTime(rel.Info.Deleted), OCIDigest: ociDigest, TestHooks: testResults(rel),
		},
		marked: strings.Contains(rel.Manifest, helmv2.OwnerNameLabel+": "),
	}, nil
}

// testResults are those of the tests that have run; nil when none has.
func testResults(rel *release.Release) *map[string]*helmv2.TestHookStatus {
	results := map[string]*helmv2.TestHookStatus{}
	for _, h := range rel.Hooks {
		if !slices.Contains(h.Events, release.HookTest) || h.LastRun.StartedAt.IsZero() {
			continue
		}
		results[h.Name] = &helmv2.TestHookStatus{
			LastStarted: metav1.NewTime(h.LastRun.StartedAt), LastCompleted: metav1.NewTime(h.LastRun.CompletedAt), Phase: string(h.LastRun.Phase),
		}
	}
	if len(results) == 0 {
		return nil
	}
	return &results
}

// digestOf is the digest of a value's JSON and a line feed, as 2.9 computes those of the spec (helmrelease 41, 83).
func digestOf(algorithm string, v any) (string, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("encoding for a digest: %w", err)
	}
	a := digest.Algorithm(algorithm)
	if !a.Available() {
		return "", fmt.Errorf("digest algorithm %q is not known", algorithm)
	}
	return a.FromBytes(append(data, '\n')).String(), nil
}

// same reports whether an entry of the history is about this very record. Where the digests differ, the entry may have been
// written by Flux 2.9, whose digests cover other things: then all that both know decides.
func (s *sighting) same(entry *helmv2.Snapshot, ours bool) bool {
	if entry.Name != s.Name || entry.Namespace != s.Namespace || entry.Version != s.Version {
		return false
	}
	if entry.Digest == s.Digest {
		return true
	}
	return !ours && entry.Status == s.Status && entry.ChartName == s.ChartName && entry.ChartVersion == s.ChartVersion &&
		entry.AppVersion == s.AppVersion && entry.ConfigDigest == s.ConfigDigest &&
		entry.FirstDeployed.Unix() == s.FirstDeployed.Unix() && entry.LastDeployed.Unix() == s.LastDeployed.Unix()
}

// continues reports whether the record is what became of that of an entry: a newer release makes it superseded, and changes nothing else.
func (s *sighting) continues(entry *helmv2.Snapshot) bool {
	return s.Name == entry.Name && s.Namespace == entry.Namespace && s.Version == entry.Version && s.ChartName == entry.ChartName &&
		s.ChartVersion == entry.ChartVersion && s.ConfigDigest == entry.ConfigDigest &&
		s.FirstDeployed.Unix() == entry.FirstDeployed.Unix() && s.LastDeployed.Unix() == entry.LastDeployed.Unix()
}

// fullName names a release and its version as messages do (helmrelease 95).
func fullName(s *helmv2.Snapshot) string {
	return fmt.Sprintf("%s/%s.v%d", s.Namespace, s.Name, s.Version)
}

// chartOf names the chart of a release as messages do.
func chartOf(s *helmv2.Snapshot) string { return s.ChartName + "@" + s.ChartVersion }

func good(status string) bool {
	return status == string(rcommon.StatusDeployed) || status == string(rcommon.StatusSuperseded)
}

// tested reports whether a release has results of tests, and whether one of them is a failure.
func tested(s *helmv2.Snapshot) (run, failed bool) {
	if s.TestHooks == nil {
		return false, false
	}
	for _, h := range *s.TestHooks {
		if h != nil && h.Phase == string(release.HookPhaseFailed) {
			failed = true
		}
	}
	return true, failed
}

// previous returns the newest release of the history, after the first, to go back to (helmrelease 49); nil when there is none.
func previous(history []helmv2.Snapshot, ignoreTests bool) *helmv2.Snapshot {
	for i := 1; i < len(history); i++ {
		s := &history[i]
		if !good(s.Status) {
			continue
		}
		if _, failed := tested(s); failed && !ignoreTests {
			continue
		}
		return s
	}
	return nil
}

// remembered returns the history with records that an action has written: new ones first, under the action's name; others in
// their place, where only some keep the name of an action (helmrelease 80, 81).
func remembered(history []helmv2.Snapshot, written []*sighting, action string) []helmv2.Snapshot {
	out := slices.Clone(history)
	newest := slices.SortedFunc(slices.Values(written), func(a, b *sighting) int { return b.Version - a.Version })
	for _, w := range newest {
		entry := w.Snapshot
		at := slices.IndexFunc(out, func(s helmv2.Snapshot) bool {
			return s.Name == entry.Name && s.Namespace == entry.Namespace && s.Version == entry.Version
		})
		if at < 0 {
			if len(out) > 0 && entry.Version < out[0].Version {
				// Not one of ours: an action has superseded it.
				continue
			}
			entry.Action = action
			out = append([]helmv2.Snapshot{entry}, out...)
			continue
		}
		entry.OCIDigest = out[at].OCIDigest
		if entry.TestHooks == nil {
			entry.TestHooks = out[at].TestHooks
		}
		switch {
		case at == 0 && action != rollbackAction:
			entry.Action = out[at].Action
			if action == uninstallRemediationAction {
				entry.Action = action
			}
		case action == rollbackAction || action == uninstallRemediationAction:
			entry.Action = action
		}
		out[at] = entry
	}
	return out[:min(len(out), maxHistory)]
}

// truncated keeps of a history what a release in order needs: the newest entry and the good one before it (helmrelease 81).
func truncated(history []helmv2.Snapshot, ignoreTests bool) []helmv2.Snapshot {
	if len(history) < 2 {
		return history
	}
	out := history[:1:1]
	if p := previous(history, ignoreTests); p != nil {
		out = append(out, *p)
	}
	return out
}
