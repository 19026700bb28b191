package status

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func table() Table {
	return Table{Failures: []string{"FetchFailed"}, Sticky: []string{"ArtifactInStorage", "Healthy"}, ReadyReason: "Succeeded"}
}

func cond(conditionType string, s metav1.ConditionStatus, reason, message string, generation int64, at time.Time) metav1.Condition {
	return metav1.Condition{
		Type: conditionType, Status: s, Reason: reason, Message: message, ObservedGeneration: generation, LastTransitionTime: metav1.NewTime(at),
	}
}

// One run after another over the same list.
func TestCompute(t *testing.T) {
	first := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	// _common 17: the clock is read with second precision, in UTC.
	now := first.Add(time.Hour + 123*time.Millisecond).In(time.FixedZone("east", 7200))
	second := first.Add(time.Hour)
	foreign := cond("Example", metav1.ConditionTrue, "Other", "someone else's", 1, first)
	stored := cond("ArtifactInStorage", metav1.ConditionTrue, "Succeeded", "stored", 1, first)
	for name, test := range map[string]struct {
		previous []metav1.Condition
		change   Change
		want     []metav1.Condition
	}{
		"_common 16, 17: only the generation moves with an equal condition": {
			previous: []metav1.Condition{cond("Ready", metav1.ConditionTrue, "Succeeded", "ok", 1, first)},
			change:   Change{Set: []metav1.Condition{{Type: "Ready", Status: metav1.ConditionTrue, Reason: "Succeeded", Message: "ok"}}},
			want:     []metav1.Condition{cond("Ready", metav1.ConditionTrue, "Succeeded", "ok", 2, first)},
		},
		"_common 17: another message is a transition": {
			previous: []metav1.Condition{cond("Ready", metav1.ConditionTrue, "Succeeded", "ok", 1, first)},
			change:   Change{Set: []metav1.Condition{{Type: "Ready", Status: metav1.ConditionTrue, Reason: "Succeeded", Message: "better"}}},
			want:     []metav1.Condition{cond("Ready", metav1.ConditionTrue, "Succeeded", "better", 2, second)},
		},
		"_common 17: another reason is a transition": {
			previous: []metav1.Condition{cond("Ready", metav1.ConditionFalse, "A", "no", 1, first)},
			change:   Change{Set: []metav1.Condition{{Type: "Ready", Status: metav1.ConditionFalse, Reason: "B", Message: "no"}}},
			want:     []metav1.Condition{cond("Ready", metav1.ConditionFalse, "B", "no", 2, second)},
		},
		"_common 15: what others own stays; _common 29, 31: failures nobody set are gone; sticky ones stay": {
			previous: []metav1.Condition{foreign, stored, cond("FetchFailed", metav1.ConditionTrue, "Broken", "no", 1, first)},
			change:   Change{Set: []metav1.Condition{{Type: "Ready", Status: metav1.ConditionTrue, Reason: "Succeeded", Message: "ok"}}},
			want:     []metav1.Condition{cond("Ready", metav1.ConditionTrue, "Succeeded", "ok", 2, second), stored, foreign},
		},
		"_common 20: Reconciling takes Stalled away": {
			previous: []metav1.Condition{cond("Stalled", metav1.ConditionTrue, "Bad", "no", 1, first)},
			change:   Change{Set: []metav1.Condition{{Type: "Reconciling", Status: metav1.ConditionTrue, Reason: "Progressing", Message: "at work"}}},
			want:     []metav1.Condition{cond("Reconciling", metav1.ConditionTrue, "Progressing", "at work", 2, second)},
		},
		"_common 20: Stalled takes Reconciling away": {
			previous: []metav1.Condition{cond("Reconciling", metav1.ConditionTrue, "Progressing", "at work", 1, first)},
			change:   Change{Set: []metav1.Condition{{Type: "Stalled", Status: metav1.ConditionTrue, Reason: "Bad", Message: "no"}}},
			want:     []metav1.Condition{cond("Stalled", metav1.ConditionTrue, "Bad", "no", 2, second)},
		},
		"_common 20: neither is there when nothing says so": {
			previous: []metav1.Condition{
				cond("Reconciling", metav1.ConditionTrue, "Progressing", "at work", 1, first), cond("Stalled", metav1.ConditionTrue, "Bad", "no", 1, first),
			},
			want: []metav1.Condition{},
		},
		"a sticky condition can be removed": {
			previous: []metav1.Condition{stored},
			change:   Change{Removed: []string{"ArtifactInStorage"}},
			want:     []metav1.Condition{},
		},
		"_common 19: Stalled, Reconciling, Ready, then the newest generation, then the name": {
			previous: []metav1.Condition{foreign, stored},
			change: Change{Set: []metav1.Condition{
				{Type: "Zeta", Status: metav1.ConditionTrue, Reason: "R", Message: "m"},
				{Type: "Healthy", Status: metav1.ConditionTrue, Reason: "R", Message: "m"},
				{Type: "Ready", Status: metav1.ConditionFalse, Reason: "R", Message: "m"},
				{Type: "Reconciling", Status: metav1.ConditionTrue, Reason: "R", Message: "m"},
				{Type: "Stalled", Status: metav1.ConditionTrue, Reason: "R", Message: "m"},
			}},
			want: []metav1.Condition{
				cond("Stalled", metav1.ConditionTrue, "R", "m", 2, second), cond("Reconciling", metav1.ConditionTrue, "R", "m", 2, second),
				cond("Ready", metav1.ConditionFalse, "R", "m", 2, second), cond("Healthy", metav1.ConditionTrue, "R", "m", 2, second),
				cond("Zeta", metav1.ConditionTrue, "R", "m", 2, second), stored, foreign,
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := table().Compute(test.previous, test.change, 2, now)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("conditions (-want +got):\n%s", diff)
			}
			for _, c := range got {
				if _, offset := c.LastTransitionTime.Zone(); offset != 0 || c.LastTransitionTime.Nanosecond() != 0 {
					t.Errorf("%s moved at %s: want whole seconds of UTC", c.Type, c.LastTransitionTime)
				}
			}
		})
	}
}

// _common 18: a long message is cut, at a character, and says so.
func TestLongMessage(t *testing.T) {
	for name, text := range map[string]string{
		"fits": strings.Repeat("x", MaxMessage), "one too many": strings.Repeat("x", MaxMessage+1),
		"characters of three bytes": strings.Repeat("界", MaxMessage),
	} {
		t.Run(name, func(t *testing.T) {
			change := Change{Set: []metav1.Condition{{Type: "Ready", Status: metav1.ConditionFalse, Reason: "R", Message: text}}}
			got := table().Compute(nil, change, 1, time.Now())[0].Message
			switch {
			case len(text) <= MaxMessage:
				if got != text {
					t.Error("a message that fits was changed")
				}
			case len(got) > 32768 || len(got) < 32768-utf8.UTFMax || !strings.HasSuffix(got, "...") || !utf8.ValidString(got):
				t.Errorf("cut to %d bytes ending in %q", len(got), got[len(got)-6:])
			case !strings.HasPrefix(text, strings.TrimSuffix(got, "...")):
				t.Error("the cut message does not begin like the whole one")
			}
		})
	}
}

// _common 15: after a lost race, ours win where we own the type, and theirs stay where we do not.
func TestMerge(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	live := []metav1.Condition{
		cond("Ready", metav1.ConditionFalse, "Theirs", "", 1, at), cond("Example", metav1.ConditionTrue, "New", "", 1, at),
		cond("FetchFailed", metav1.ConditionTrue, "Theirs", "", 1, at),
	}
	ours := []metav1.Condition{cond("Ready", metav1.ConditionTrue, "Ours", "", 1, at), cond("Example", metav1.ConditionTrue, "Old", "", 1, at)}
	want := []metav1.Condition{cond("Ready", metav1.ConditionTrue, "Ours", "", 1, at), cond("Example", metav1.ConditionTrue, "New", "", 1, at)}
	if diff := cmp.Diff(want, table().Merge(live, ours)); diff != "" {
		t.Errorf("merged (-want +got):\n%s", diff)
	}
}
