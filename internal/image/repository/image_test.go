package repository

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	imagev1 "github.com/seed-79636ae9/flux/api/image/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/internal/image/tags"
)

// imagerepository 3, 15, 23
func TestParse(t *testing.T) {
	for image, want := range map[string]string{
		"app":                       "index.docker.io/library/app",
		"team/app":                  "index.docker.io/team/app",
		"ghcr.io/team/app":          "ghcr.io/team/app",
		"localhost:5000/team/app":   "localhost:5000/team/app",
		"registry.example:443/a/b":  "registry.example:443/a/b",
		"https://ghcr.io/team/app":  "! image 'https://ghcr.io/team/app' should not include URL scheme; remove 'https://'",
		"oci://ghcr.io/team/app:v1": "! image 'oci://ghcr.io/team/app:v1' should not include URL scheme; remove 'oci://'",
		"ghcr.io/team/app:v1":       "! image 'ghcr.io/team/app:v1' should not include a tag; remove ':v1'",
		"ghcr.io:443/team/app:v1":   "! image 'ghcr.io:443/team/app:v1' should not include a tag; remove ':v1'",
		"ghcr.io/app@sha256:0":      "! image 'ghcr.io/app@sha256:0' should not include a digest; remove '@sha256:0'",
		"":                          "! image '' is not the address of an image, such as 'ghcr.io/example/app': ",
		"ghcr.io/Team/app":          "! image 'ghcr.io/Team/app' is not the address of an image, such as 'ghcr.io/example/app': ",
		"ghcr.io/team/app; rm":      "! image 'ghcr.io/team/app; rm' is not the address of an image, such as 'ghcr.io/example/app': ",
		"../../etc":                 "! image '../../etc' is not the address of an image, such as 'ghcr.io/example/app': ",
	} {
		repo, err := Parse(image, false)
		if text, bad := strings.CutPrefix(want, "! "); bad {
			if err == nil || !strings.HasPrefix(err.Error(), text) {
				t.Errorf("%q: error %v, want one that begins with %q", image, err, text)
			}
		} else if err != nil || repo.Name() != want {
			t.Errorf("%q is %q (error %v), want %q", image, repo.Name(), err, want)
		}
	}
	// imagerepository 3: a registry that is not on this host takes a word to be spoken to in plain text.
	for insecure, want := range map[bool]string{false: "https", true: "http"} {
		if repo, err := Parse("registry.example/app", insecure); err != nil || repo.Scheme() != want {
			t.Errorf("insecure %t: %s, error %v", insecure, repo.Scheme(), err)
		}
	}
}

// imagerepository 11, 35
func TestExclusion(t *testing.T) {
	all := []string{"1.0.0", "1.0.0.sig", "sha256-0.sig", "dev-1", "not a tag", "a\nb", strings.Repeat("x", 129), "-x", ""}
	for name, test := range map[string]struct {
		list []string
		want []string
	}{
		"the default leaves signatures out": {nil, []string{"1.0.0", "dev-1"}},
		"an empty list leaves nothing out":  {[]string{}, []string{"1.0.0", "1.0.0.sig", "sha256-0.sig", "dev-1"}},
		"a list replaces the default":       {[]string{"^dev-", "^1"}, []string{"sha256-0.sig"}},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := NewExclusion(&imagev1.ImageRepository{Spec: imagev1.ImageRepositorySpec{ExclusionList: test.list}})
			if err != nil {
				t.Fatal(err)
			}
			got, err := e.usable(t.Context(), slices.Clone(all))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	over, cancel := context.WithCancelCause(t.Context())
	cancel(errTooSlow)
	if _, err := (Exclusion{}).usable(over, all); !errors.Is(err, errTooSlow) {
		t.Errorf("when the time is over: error %v", err)
	}
	_, err := NewExclusion(&imagev1.ImageRepository{Spec: imagev1.ImageRepositorySpec{ExclusionList: []string{"a", "(["}}})
	if err == nil || !strings.HasPrefix(err.Error(), "spec.exclusionList[1] is not a regular expression: ") {
		t.Errorf("error %v", err)
	}
}

// imagerepository 8, 10, 30, 36, 37, 40: why there is a scan, in this order, and when the next one is due.
func TestDue(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	const image = "ghcr.io/team/app"
	tests := map[string]struct {
		change func(obj *imagev1.ImageRepository, stored *tags.List)
		why    string
		next   time.Duration
	}{
		"nothing":       {func(*imagev1.ImageRepository, *tags.List) {}, "", 6 * time.Minute},
		"never scanned": {func(obj *imagev1.ImageRepository, _ *tags.List) { obj.Status.LastScanResult = nil }, "first scan", 0},
		"asked for": {func(obj *imagev1.ImageRepository, _ *tags.List) {
			obj.Annotations[meta.ReconcileRequestAnnotation] = "two"
		}, "reconcile requested", 0},
		"asked for already":      {func(obj *imagev1.ImageRepository, _ *tags.List) { obj.Status.LastHandledReconcileAt = "one" }, "", 6 * time.Minute},
		"another image":          {func(obj *imagev1.ImageRepository, _ *tags.List) { obj.Status.CanonicalImageName = "ghcr.io/team/old" }, "new image name", 0},
		"another exclusion list": {func(obj *imagev1.ImageRepository, _ *tags.List) { obj.Spec.ExclusionList = []string{"a"} }, "updated exclusion list", 0},
		"no exclusion list":      {func(obj *imagev1.ImageRepository, _ *tags.List) { obj.Spec.ExclusionList = []string{} }, "updated exclusion list", 0},
		"another order of it": {func(obj *imagev1.ImageRepository, _ *tags.List) {
			obj.Spec.ExclusionList = []string{"b", "a"}
			obj.Status.ObservedExclusionList = []string{"a", "b"}
		}, "", 6 * time.Minute},
		"repeated entries": {func(obj *imagev1.ImageRepository, _ *tags.List) {
			obj.Spec.ExclusionList = []string{"a", "a", "b"}
			obj.Status.ObservedExclusionList = []string{"a", "b"}
		}, "updated exclusion list", 0},
		"as many repeated entries": {func(obj *imagev1.ImageRepository, _ *tags.List) {
			obj.Spec.ExclusionList = []string{"a", "a", "b"}
			obj.Status.ObservedExclusionList = []string{"a", "b", "b"}
		}, "", 6 * time.Minute},
		"no tags":               {func(_ *imagev1.ImageRepository, stored *tags.List) { *stored = tags.List{} }, "no tags in database", 0},
		"tags of another image": {func(_ *imagev1.ImageRepository, stored *tags.List) { stored.Image = "ghcr.io/team/old" }, "tags in database are not those of the last scan", 0},
		"tags of another scan":  {func(_ *imagev1.ImageRepository, stored *tags.List) { stored.Revision = "7" }, "tags in database are not those of the last scan", 0},
		"the interval is over":  {func(obj *imagev1.ImageRepository, _ *tags.List) { obj.Spec.Interval = "4m" }, "triggered by interval", 0},
		"but for less than a second": {func(obj *imagev1.ImageRepository, _ *tags.List) {
			obj.Spec.Interval = "4m0.9s"
		}, "triggered by interval", 0},
		"a longer interval":                 {func(obj *imagev1.ImageRepository, _ *tags.List) { obj.Spec.Interval = "1h" }, "", 56 * time.Minute},
		"a scan in the future":              {func(obj *imagev1.ImageRepository, _ *tags.List) { at(obj, now.Add(5*time.Minute)) }, "", 15 * time.Minute},
		"a scan in the very distant future": {func(obj *imagev1.ImageRepository, _ *tags.List) { at(obj, now.Add(24*time.Hour)) }, "triggered by interval", 0},
		"the first reason counts": {func(obj *imagev1.ImageRepository, stored *tags.List) {
			obj.Status.LastScanResult = nil
			*stored = tags.List{}
		}, "first scan", 0},
		"a name counts for more than no tags": {func(obj *imagev1.ImageRepository, stored *tags.List) {
			obj.Status.CanonicalImageName = ""
			*stored = tags.List{}
		}, "new image name", 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			obj := &imagev1.ImageRepository{
				ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{meta.ReconcileRequestAnnotation: "one"}},
				Spec:       imagev1.ImageRepositorySpec{Interval: "10m"},
				Status: imagev1.ImageRepositoryStatus{
					CanonicalImageName: image, ObservedExclusionList: []string{imagev1.SignatureTags},
					LastScanResult: &imagev1.ScanResult{Revision: "5"},
				},
			}
			obj.Status.LastHandledReconcileAt = "one"
			at(obj, now.Add(-4*time.Minute))
			stored := tags.List{Image: image, Tags: []string{"b", "a"}, Revision: "5"}
			tt.change(obj, &stored)
			why, next := due(obj, image, stored, now)
			if why != tt.why || next != tt.next {
				t.Errorf("due because %q, next scan in %s; want %q, %s", why, next, tt.why, tt.next)
			}
		})
	}
}

func at(obj *imagev1.ImageRepository, when time.Time) {
	obj.Status.LastScanResult.ScanTime = &metav1.Time{Time: when}
}

func BenchmarkUsable9000(b *testing.B) {
	all := make([]string, 9000)
	for i := range all {
		all[i] = fmt.Sprintf("1.%d.%d", i/100, i%100)
	}
	e, err := NewExclusion(&imagev1.ImageRepository{})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if got, err := e.usable(b.Context(), slices.Clone(all)); err != nil || len(got) != len(all) {
			b.Fatal(len(got), err)
		}
	}
}
