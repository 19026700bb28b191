package throttle

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"
)

func TestWrap(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		name   string
		status int
		header string
		want   time.Duration
	}{
		{"seconds", 429, "77", 77 * time.Second},
		{"a date", 429, "Thu, 01 Jan 2026 12:01:00 GMT", time.Minute},
		{"503", 503, "5", 5 * time.Second},
		{"other statuses mean something else by it", 301, "5", 0},
		{"a date in the past", 429, "Thu, 01 Jan 2026 11:00:00 GMT", 0},
		{"negative", 429, "-5", 0},
		{"nothing", 429, "", 0},
		{"nonsense", 429, "soon", 0},
		{"for ever", 429, "9223372036854775807", Max},
		{"until the end of time", 429, "Fri, 31 Dec 9999 23:59:59 GMT", Max},
	} {
		t.Run(test.name, func(t *testing.T) {
			refusal := errors.New("refused")
			err := Wrap(refusal, test.status, http.Header{"Retry-After": {test.header}}, now)
			if got := Delay(fmt.Errorf("fetching: %w", err)); got != test.want {
				t.Errorf("delay = %s, want %s", got, test.want)
			}
			if !errors.Is(err, refusal) || err.Error() != "refused" {
				t.Errorf("error = %v, want the refusal", err)
			}
		})
	}
	if err := Wrap(nil, 429, http.Header{"Retry-After": {"1"}}, now); err != nil {
		t.Errorf("no error became %v", err)
	}
}
