// Package throttle carries what an overloaded server said about when to come back, from the client that heard it to the
// controller that can wait.
package throttle

import (
	"errors"
	"net/http"
	"strconv"
	"time"
)

// Max is the longest delay that is believed: a server must not stop a source for good.
const Max = time.Hour

// Error is the refusal of a server that wants to be left alone for a while.
type Error struct {
	// Delay until the server may be asked again; never negative, at most Max.
	Delay time.Duration
	// Err is the refusal itself.
	Err error
}

// Error implements error.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the refusal.
func (e *Error) Unwrap() error { return e.Err }

// Wrap adds to the error of a request the delay that the answer asks for, if its status is 429 or 503 and its header
// Retry-After holds seconds or a date (RFC 9110, 10.2.3). Any other error is returned as it is.
func Wrap(err error, status int, header http.Header, now time.Time) error {
	if err == nil || status != http.StatusTooManyRequests && status != http.StatusServiceUnavailable {
		return err
	}
	value := header.Get("Retry-After")
	var delay time.Duration
	if seconds, parseErr := strconv.ParseInt(value, 10, 64); parseErr == nil {
		delay = time.Duration(min(seconds, int64(Max/time.Second))) * time.Second
	} else if date, parseErr := http.ParseTime(value); parseErr == nil {
		delay = date.Sub(now)
	}
	if delay <= 0 {
		return err
	}
	return &Error{Delay: min(delay, Max), Err: err}
}

// Delay returns how long a server wants to be left alone, zero when the error tells of no such wish.
func Delay(err error) time.Duration {
	var e *Error
	if errors.As(err, &e) {
		return e.Delay
	}
	return 0
}
