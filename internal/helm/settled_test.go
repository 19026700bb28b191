package helm

import (
	"testing"

	"github.com/seed-79636ae9/flux/toolkit/kube"
)

// That objects were found as they should be is remembered for the very release, and until they are compared anew.
func TestSettledReleases(t *testing.T) {
	o := kube.Owner{Namespace: "apps", Name: "app"}
	first := settled{generation: 1, record: "10", digest: "d"}
	for name, tt := range map[string]struct {
		then func(*settledReleases)
		want bool
	}{
		"nothing":          {func(*settledReleases) {}, true},
		"seen again":       {func(s *settledReleases) { s.put(o, first) }, true},
		"another spec":     {func(s *settledReleases) { s.put(o, settled{generation: 2, record: "10", digest: "d"}) }, false},
		"another record":   {func(s *settledReleases) { s.put(o, settled{generation: 1, record: "11", digest: "d"}) }, false},
		"another digest":   {func(s *settledReleases) { s.put(o, settled{generation: 1, record: "10", digest: "e"}) }, false},
		"a comparison":     {func(s *settledReleases) { s.compared(o, false, 0) }, false},
		"the object's end": {func(s *settledReleases) { s.forget(o) }, false},
		"and a new one":    {func(s *settledReleases) { s.forget(o); s.put(o, first) }, false},
		"none is known":    {func(s *settledReleases) { s.forget(o); s.compared(o, true, 2) }, false},
	} {
		var s settledReleases
		s.put(o, first)
		s.compared(o, true, 2)
		tt.then(&s)
		if found, _ := s.get(o); found.compared != tt.want || tt.want && found.objects != 2 {
			t.Errorf("%s: compared: %t with %d objects, want %t with 2", name, found.compared, found.objects, tt.want)
		}
	}
}
