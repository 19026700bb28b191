package meta

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
)

func TestDurationJSON(t *testing.T) {
	tests := map[string]struct {
		json  string
		value time.Duration
		bad   string // part of the error; empty: usable
	}{
		"seconds":           {`"60s"`, time.Minute, ""},
		"several units":     {`"1h30m"`, 90 * time.Minute, ""},
		"fraction":          {`"0.5h"`, 30 * time.Minute, ""},
		"milliseconds":      {`"1500ms"`, 1500 * time.Millisecond, ""},
		"zero":              {`"0s"`, 0, ""},
		"large and usable":  {`"99999h"`, 99999 * time.Hour, ""},
		"reliability 016 a": {`"1d"`, 0, `"1d" is not a duration`},
		"reliability 016 b": {`"-5s"`, 0, `"-5s" is not a duration`},
		"reliability 016 c": {`"1e99h"`, 0, `"1e99h" is not a duration`},
		"reliability 016 d": {`10`, 0, `"10" is not a duration`},
		// The schema pattern lets this pass.
		"too large":         {`"99999999999h"`, 0, `at most 2562047h`},
		"text of a number":  {`"10"`, 0, `"10" is not a duration`},
		"empty text":        {`""`, 0, "is not a duration"},
		"object":            {`{"a":[1,null]}`, 0, "is not a duration"},
		"list":              {`["1m"]`, 0, "is not a duration"},
		"boolean":           {`false`, 0, `"false" is not a duration`},
		"text with a NUL":   {`"\u000010m"`, 0, "is not a duration"},
		"text like foreign": {`"\u000010"`, 0, "is not a duration"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var d Duration
			if err := json.Unmarshal([]byte(tt.json), &d); err != nil {
				t.Fatalf("reading must never fail: %v", err)
			}
			if got := d.Value(); got != tt.value {
				t.Errorf("Value() = %s, want %s", got, tt.value)
			}
			switch err := d.Err(); {
			case tt.bad == "" && err != nil:
				t.Errorf("Err() = %v", err)
			case tt.bad != "" && (err == nil || !strings.Contains(err.Error(), tt.bad)):
				t.Errorf("Err() = %v, want an error with %q", err, tt.bad)
			}
			if !d.IsSet() {
				t.Error("IsSet() = false")
			}
			back, err := json.Marshal(d)
			if err != nil {
				t.Fatal(err)
			}
			if string(back) != tt.json {
				t.Errorf("written as %s, was read as %s", back, tt.json)
			}
		})
	}
}

func TestDurationIsReadAnew(t *testing.T) {
	d := Duration("1m")
	if err := json.Unmarshal([]byte("null"), &d); err != nil || d.IsSet() {
		t.Errorf("after null: %q, %v; want it unset", d, err)
	}
}

func TestDurationOr(t *testing.T) {
	tests := map[Duration]time.Duration{
		"":           time.Hour,
		"5m":         5 * time.Minute,
		"0s":         0,
		"1d":         time.Hour,
		"\x00[true]": time.Hour,
	}
	for d, want := range tests {
		if got := d.Or(time.Hour); got != want {
			t.Errorf("Duration(%q).Or(1h) = %s, want %s", string(d), got, want)
		}
	}
}

func TestDurationOf(t *testing.T) {
	for _, v := range []time.Duration{0, time.Millisecond, 90 * time.Second, 1<<63 - 1} {
		if got := DurationOf(v); got.Value() != v || got.Err() != nil {
			t.Errorf("DurationOf(%s) = %q", v, got)
		}
	}
}

func TestDurationWorksWithKubernetesEquality(t *testing.T) {
	type spec struct{ Interval Duration }
	if !equality.Semantic.DeepEqual(spec{"1m"}, spec{"1m"}) || equality.Semantic.DeepEqual(spec{"1m"}, spec{"2m"}) {
		t.Error("Semantic.DeepEqual does not compare durations")
	}
}

func TestErrorShowsLittleOfAHugeValue(t *testing.T) {
	d := Duration(strings.Repeat("x", 1<<20))
	if n := len(d.Err().Error()); n > 300 {
		t.Errorf("the error has %d bytes", n)
	}
}

func TestCheckDurations(t *testing.T) {
	if err := CheckDurations(DurationField{"spec.a", "1m"}, DurationField{"spec.b", ""}); err != nil {
		t.Errorf("usable durations: %v", err)
	}
	err := CheckDurations(DurationField{"spec.a", "1d"}, DurationField{"spec.b", "1m"}, DurationField{"spec.c", "-1s"})
	if err == nil {
		t.Fatal("unusable durations: no error")
	}
	for field, want := range map[string]bool{"spec.a": true, "spec.b": false, "spec.c": true} {
		if got := strings.Contains(err.Error(), field); got != want {
			t.Errorf("the error names %s: %t, want %t: %v", field, got, want, err)
		}
	}
}

func FuzzDuration(f *testing.F) {
	for _, seed := range []string{`"1m"`, `10`, `null`, `""`, `"\u0000"`, `{"a":1}`, `[1, 2]`, `-1.5e99`, `"\ud800"`, `"<&>"`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var want any
		if json.Unmarshal(data, &want) != nil {
			t.Skip("not JSON: the decoder does not hand it over")
		}
		var d Duration
		if err := json.Unmarshal(data, &d); err != nil {
			t.Fatalf("read %q: %v", data, err)
		}
		if v := d.Value(); v < 0 || (d.Err() != nil && v != 0) {
			t.Errorf("Value() = %s with Err() = %v", v, d.Err())
		}
		back, err := json.Marshal(d)
		if err != nil {
			t.Fatalf("write %q: %v", data, err)
		}
		if want == nil {
			want = ""
		}
		var got any
		if err := json.Unmarshal(back, &got); err != nil || !reflect.DeepEqual(want, got) {
			t.Errorf("read %q, wrote %q", data, back)
		}
	})
}

func BenchmarkDurationValue(b *testing.B) {
	d := Duration("1h30m")
	for b.Loop() {
		_ = d.Value()
	}
}
