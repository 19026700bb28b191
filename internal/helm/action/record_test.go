package action

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/chart/common"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	release "helm.sh/helm/v4/pkg/release/v1"
	"k8s.io/utils/clock"
)

func sample() *release.Release {
	return &release.Release{
		Name: "app", Namespace: "apps", Version: 3, Info: &release.Info{Status: "deployed", Description: "done"}, Manifest: "---\nkind: X\n",
		Config: map[string]any{"a": 1.0},
		Chart: &chart.Chart{
			Metadata:  &chart.Metadata{Name: "demo", Version: "1.0.0"},
			Templates: []*common.File{{Name: "templates/a.yaml", Data: []byte("kind: X")}},
		},
	}
}

// A record has all of the release, for whoever reads it as one stream; we read no more of the chart than its metadata.
func TestRecord(t *testing.T) {
	rel := sample()
	c, err := compressChart(rel.Chart)
	if err != nil {
		t.Fatal(err)
	}
	data, seen, err := encodeRecord(rel, c)
	if err != nil {
		t.Fatal(err)
	}
	rec, err := decodeRecord(data)
	if err != nil {
		t.Fatal(err)
	}
	if rec.release.Chart.Templates != nil || rec.release.Chart.Metadata.Name != "demo" {
		t.Errorf("chart: %+v", rec.release.Chart)
	}
	seen.Chart = rec.release.Chart
	if jsonText(t, seen) != jsonText(t, rec.release) {
		t.Errorf("told %s, read %s", jsonText(t, seen), jsonText(t, rec.release))
	}
	whole, err := rec.whole()
	if err != nil || len(whole.Templates) != 1 {
		t.Errorf("whole chart %+v: %v", whole, err)
	}
	again, err := rec.stored()
	if err != nil || !bytes.Equal(again, c) {
		t.Errorf("the stored chart is not copied: %v", err)
	}
}

func zipped(text string) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(text))
	_ = z.Close()
	return []byte(base64.StdEncoding.EncodeToString(b.Bytes()))
}

// Records of others: one member, several, none.
func TestForeignRecords(t *testing.T) {
	text := jsonText(t, sample())
	half := len(text) / 2
	var two bytes.Buffer
	for _, part := range []string{text[:half], text[half:]} {
		z := gzip.NewWriter(&two)
		_, _ = z.Write([]byte(part))
		_ = z.Close()
	}
	for name, data := range map[string][]byte{
		"one member":  zipped(text),
		"two members": []byte(base64.StdEncoding.EncodeToString(two.Bytes())),
		"plain":       []byte(base64.StdEncoding.EncodeToString([]byte(text))),
	} {
		rec, err := decodeRecord(data)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		c, err := rec.stored()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		again, _, err := encodeRecord(rec.release, c)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if rec, err = decodeRecord(again); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		whole, err := rec.whole()
		if err != nil || len(whole.Templates) != 1 || rec.release.Manifest != sample().Manifest {
			t.Errorf("%s: chart %+v: %v", name, whole, err)
		}
	}
}

// A record that grows when it is decompressed is refused.
func TestRecordBomb(t *testing.T) {
	if _, err := decodeRecord(zipped(`{"name":"` + strings.Repeat("x", maxDecoded) + `"}`)); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("error: %v", err)
	}
}

func FuzzRecord(f *testing.F) {
	c, _ := compressChart(sample().Chart)
	data, _, _ := encodeRecord(sample(), c)
	f.Add(data)
	f.Add(zipped("{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		rec, err := decodeRecord(data)
		if err != nil {
			return
		}
		_ = cloned(rec.release)
		_, _ = rec.stored()
	})
}

// The cache holds no more than it may, and the newest of what was used.
func TestRecordCache(t *testing.T) {
	rel := sample()
	c := newRecordCache(3 * sizeOf(rel))
	for _, name := range []string{"a", "b", "c"} {
		c.put("ns", name, "1", rel)
	}
	if c.get("ns", "a", "1") == nil {
		t.Fatal("a is not there")
	}
	c.put("ns", "d", "1", rel)
	for name, want := range map[string]bool{"a": true, "b": false, "c": true, "d": true} {
		if got := c.get("ns", name, "1") != nil; got != want {
			t.Errorf("%s is there: %t", name, got)
		}
	}
	if c.get("ns", "a", "2") != nil || c.get("other", "a", "1") != nil {
		t.Error("another version, object or namespace is taken for it")
	}
}

// helmrelease 78: the last lines, bounded, without credentials of URLs.
func TestLog(t *testing.T) {
	l := newLogTail(clock.RealClock{})
	a := &Actions{log: l}
	_, s := idle(method{})
	s.config.SetLogger(l)
	for i := range 30 {
		s.config.Logger().With("run", i).Debug("fetched", "url", "https://user:hunter2@example.com", "more", strings.Repeat("x", 1000))
	}
	got := a.Log()
	if lines := strings.Count(got, "\n") + 1; lines != logLines || len(got) > logLines*(logLine+1) || strings.Contains(got, "hunter2") || !strings.Contains(got, "fetched run=29") {
		t.Errorf("%d bytes:\n%s", len(got), got)
	}
}
