package replay

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// clone makes a deep copy of a snapshot.
func clone(t *testing.T, snapshot map[string]any) map[string]any {
	t.Helper()
	out, err := asJSON(snapshot)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestCompareWithItself(t *testing.T) {
	for _, r := range readKinds(t, "gitrepository", "helmrelease", "kustomization") {
		for label, snapshot := range r.Observed {
			if diffs := Compare(snapshot, clone(t, snapshot)); len(diffs) > 0 {
				t.Errorf("%s %s differs from itself: %v", r.Name, label, diffs)
			}
		}
	}
}

// leaf is one value of a snapshot that a mutation can reach.
type leaf struct {
	path string
	set  func(v any)
	get  any
}

func leaves(path string, v any, set func(any)) []leaf {
	switch v := v.(type) {
	case map[string]any:
		var out []leaf
		for _, k := range sortedKeys(v) {
			out = append(out, leaves(path+"."+k, v[k], func(x any) { v[k] = x })...)
		}
		return out
	case []any:
		var out []leaf
		for i := range v {
			out = append(out, leaves(fmt.Sprintf("%s[%d]", path, i), v[i], func(x any) { v[i] = x })...)
		}
		return out
	default:
		return []leaf{{path, set, v}}
	}
}

// TestCompareSeesEveryMutation changes each value of a set of snapshots in turn and wants every
// change reported, but for those the README says to ignore.
func TestCompareSeesEveryMutation(t *testing.T) {
	checked := 0
	for _, name := range []string{
		"gitrepository/new-revision", "gitrepository/deletion", "gitrepository/auth-wrong", "kustomization/drift-corrected",
		"kustomization/wait-healthy-deployment", "kustomization/bad-yaml", "kustomization/rbac-name-with-colon", "kustomization/suspended",
		"helmrelease/hooks-succeed", "helmrelease/test-fails", "helmrelease/crds-create", "helmrelease/install-retries-exhausted", "helmrelease/delete-keep-history",
	} {
		r, err := Read(recordings + "/" + name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		for label, snapshot := range r.Observed {
			count := len(leaves("", clone(t, snapshot), nil))
			for i := range count {
				mutated := clone(t, snapshot)
				l := leaves("", mutated, nil)[i]
				if ignored(l.path) {
					continue
				}
				switch v := l.get.(type) {
				case string:
					l.set("x" + v)
				case float64:
					l.set(v + 1)
				case bool:
					l.set(!v)
				}
				checked++
				if len(Compare(snapshot, mutated)) == 0 {
					t.Errorf("%s %s: a change of %s (%v) went unseen", r.Name, label, l.path, l.get)
				}
			}
		}
	}
	if checked < 500 {
		t.Errorf("changed %d values only: the test looks at too little", checked)
	}
}

func ignored(path string) bool {
	return strings.HasSuffix(path, ".repeated") || strings.Contains(path, ".answers[1]")
}

func TestCompareReports(t *testing.T) {
	parse := func(s string) map[string]any {
		var v map[string]any
		if err := json.Unmarshal([]byte(s), &v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, tt := range []struct{ name, want, ours, paths string }{
		{"an object that is missing", `{"objects":[{"kind":"A","name":"x"}]}`, `{}`, "objects[A/x]"},
		{"an object too many", `{}`, `{"cluster":[{"kind":"A","name":"x","namespace":"n"}]}`, "cluster[A/x/n]"},
		{"conditions by type", `{"objects":[{"kind":"A","name":"x","conditions":[{"type":"Ready","status":"True"}]}]}`,
			`{"objects":[{"kind":"A","name":"x","conditions":[{"type":"Healthy"},{"type":"Ready","status":"False"}]}]}`,
			"objects[A/x].conditions[Healthy] objects[A/x].conditions[Ready].status"},
		{"conditions in another order", `{"objects":[{"kind":"A","name":"x","conditions":[{"type":"Ready"},{"type":"Healthy"}]}]}`,
			`{"objects":[{"kind":"A","name":"x","conditions":[{"type":"Healthy"},{"type":"Ready"}]}]}`, "objects[A/x].conditions (order)"},
		{"events in another order", `{"events":[{"object":"A/x","reason":"R","message":"1"},{"object":"A/x","reason":"R","message":"2"}]}`,
			`{"events":[{"object":"A/x","reason":"R","message":"2"},{"object":"A/x","reason":"R","message":"1","repeated":true}]}`, ""},
		{"an event with another text", `{"events":[{"object":"A/x","type":"Normal","reason":"R","message":"1"}]}`,
			`{"events":[{"object":"A/x","type":"Normal","reason":"R","message":"2"}]}`, "events[A/x Normal R].message"},
		{"an event too many", `{}`, `{"events":[{"object":"A/x","type":"Normal","reason":"R","message":"2"}]}`, "events[A/x Normal R]"},
		{"polling", `{}`, `{"events":[{"object":"A/x","type":"Normal","reason":"R","message":"no changes since last reconciliation: observed revision 'x'"}]}`, ""},
		{"a chart before its source", `{}`, `{"events":[{"object":"A/x","type":"Normal","reason":"R","message":"no artifact available for HelmRepository source 'x'"}]}`, ""},
		{"a posted poll is no trace event", `{}`, `{"events":[{"object":"A/x","type":"Normal","reason":"R","message":"no changes since last reconciliation: x"}],
			"posted":[{"involvedObject":{"kind":"A","name":"x"},"severity":"info","reason":"R","message":"no changes since last reconciliation: x"}]}`,
			"events[A/x Normal R] posted[A/x info R]"},
		{"a retry in flight", `{"objects":[{"kind":"A","name":"x","conditions":[{"type":"Reconciling","status":"True","reason":"ProgressingWithRetry","message":"a"}]}]}`,
			`{"objects":[{"kind":"A","name":"x","conditions":[{"type":"Reconciling","status":"True","reason":"Progressing","message":"b"}]}]}`, ""},
		{"tries of a failure", `{"objects":[{"kind":"A","name":"x","history":[{"lastReconciledStatus":"BuildFailed","totalReconciliations":1}]}]}`,
			`{"objects":[{"kind":"A","name":"x","history":[{"lastReconciledStatus":"BuildFailed","totalReconciliations":4}]}]}`, ""},
		{"failures of a retry", `{"objects":[{"kind":"A","name":"x","status":{"failures":2,"conditions":[{"type":"Reconciling","status":"True"}]}}]}`,
			`{"objects":[{"kind":"A","name":"x","status":{"failures":4,"conditions":[{"type":"Reconciling","status":"True"}]}}]}`, ""},
		{"no failures of a retry", `{"objects":[{"kind":"A","name":"x","status":{"failures":2,"conditions":[{"type":"Reconciling","status":"True"}]}}]}`,
			`{"objects":[{"kind":"A","name":"x","status":{"conditions":[{"type":"Reconciling","status":"True"}]}}]}`, "objects[A/x].status.failures"},
		{"failures that ended", `{"objects":[{"kind":"A","name":"x","status":{"failures":2,"conditions":[{"type":"Stalled","status":"True"}]}}]}`,
			`{"objects":[{"kind":"A","name":"x","status":{"failures":4,"conditions":[{"type":"Stalled","status":"True"}]}}]}`, "objects[A/x].status.failures"},
		{"tries of a success", `{"objects":[{"kind":"A","name":"x","history":[{"lastReconciledStatus":"ReconciliationSucceeded","totalReconciliations":1}]}]}`,
			`{"objects":[{"kind":"A","name":"x","history":[{"lastReconciledStatus":"ReconciliationSucceeded","totalReconciliations":4}]}]}`, "objects[A/x].history[0].totalReconciliations"},
		{"a part nobody takes", `{"timeline":[]}`, `{}`, "timeline"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var paths []string
			for _, d := range Compare(parse(tt.want), parse(tt.ours)) {
				paths = append(paths, d.Path)
			}
			if got := strings.Join(paths, " "); got != tt.paths {
				t.Errorf("reported %q, want %q", got, tt.paths)
			}
		})
	}
}

func TestSameText(t *testing.T) {
	for _, tt := range []struct {
		name, want, ours string
		same             bool
	}{
		{"equal", "a", "a", true},
		{"different", "a", "b", false},
		{"kustomize speaks", "kustomize build failed: accumulating x", "kustomize build failed: something else", true},
		{"kustomize says nothing", "kustomize build failed: accumulating x", "kustomize build failed: ", false},
		{"another object before the library text", "failed to decode Kubernetes YAML from <dir>/a.yaml: yaml: x", "failed to decode Kubernetes YAML from <dir>/b.yaml: yaml: x", false},
		{"git speaks", "failed to checkout and determine revision: unable to clone '${GIT}/x.git': a", "failed to checkout and determine revision: unable to clone '${GIT}/x.git': b", true},
		{"another repository", "unable to clone '${GIT}/x.git': a", "unable to clone '${GIT}/y.git': a", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := SameText(tt.want, tt.ours); got != tt.same {
				t.Errorf("SameText(%q, %q) = %v", tt.want, tt.ours, got)
			}
		})
	}
}

// What depends on the time has another value than the recorded one; it must be there, and of the same sort.
func TestPlaceholders(t *testing.T) {
	const digest, size, record = "<digest of the packaged chart>", "<size>", "<digest of the release record>"
	for _, tt := range []struct {
		want, ours any
		same       bool
	}{
		{digest, "sha256:0123", true}, {digest, "", false}, {digest, nil, false},
		{record, "sha256:0123", true}, {record, "", false}, {record, nil, false},
		{size, int64(591), true}, {size, "591", false}, {size, nil, false}, {"591", int64(592), false},
	} {
		if got := sameValue(tt.want, tt.ours); got != tt.same {
			t.Errorf("%v and %v are the same: %t", tt.want, tt.ours, got)
		}
	}
}
