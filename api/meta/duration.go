package meta

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// foreign starts the Go form of a Duration that was not a plain JSON string. The JSON text follows. A valid duration
// never holds a NUL, so nothing else is lost by it.
const foreign = '\x00'

// shownBytes limits how much of an unusable value an error repeats.
const shownBytes = 64

// Duration is a length of time as a user wrote it: "30s", "1h30m", "0.5h". Empty means the field is not set.
//
// It is text on purpose. One stored object with an unusable duration must not break reading all objects of its kind
// (CVE-2022-39272), so reading JSON never fails: Err tells about the value, and writing gives back exactly what was read,
// also "60s" as "60s". The schema pattern of the fields stays the first guard, but it cannot bound the magnitude.
//
// One way in remains strict: the converter from unstructured objects refuses an integer before it asks this type. It works
// on single objects, so no other object is affected.
//
// +kubebuilder:validation:Type=string
type Duration string

// DurationOf returns d as a Duration, in the notation of time.Duration.
func DurationOf(d time.Duration) Duration {
	return Duration(d.String())
}

// Value returns the length of time, and zero when it is not set or Err is not nil.
func (d Duration) Value() time.Duration {
	v, err := d.parse()
	if err != nil {
		return 0
	}
	return v
}

// Or returns the length of time, or def when it is not set or Err is not nil.
func (d Duration) Or(def time.Duration) time.Duration {
	v, err := d.parse()
	if err != nil || d == "" {
		return def
	}
	return v
}

// IsSet tells whether there is any value, usable or not.
func (d Duration) IsSet() bool {
	return d != ""
}

// Err returns nil when d is not set or is a duration that is not negative, and otherwise an error that says what is wrong
// and what is expected.
func (d Duration) Err() error {
	_, err := d.parse()
	return err
}

func (d Duration) parse() (time.Duration, error) {
	if d == "" {
		return 0, nil
	}
	v, err := time.ParseDuration(string(d))
	if err != nil || v < 0 {
		shown := d.String()
		if len(shown) > shownBytes {
			shown = shown[:shownBytes] + "..."
		}
		return 0, fmt.Errorf("%q is not a duration: want a string like \"30s\", \"10m\" or \"1h30m\", at most %s",
			shown, time.Duration(1<<63-1).Truncate(time.Hour))
	}
	return v, nil
}

// String returns the text of the duration, or the JSON that was found in its place.
func (d Duration) String() string {
	if d != "" && d[0] == foreign {
		return string(d[1:])
	}
	return string(d)
}

// UnmarshalJSON takes any JSON value and never fails on one.
func (d *Duration) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		*d = ""
		return nil
	}
	var text string
	if err := json.Unmarshal(data, &text); err == nil && text != "" && text[0] != foreign {
		*d = Duration(text)
		return nil
	}
	*d = Duration(foreign) + Duration(data)
	return nil
}

// MarshalJSON writes what UnmarshalJSON read.
func (d Duration) MarshalJSON() ([]byte, error) {
	if d != "" && d[0] == foreign && json.Valid([]byte(d[1:])) {
		return []byte(d[1:]), nil
	}
	return json.Marshal(string(d))
}

// DurationField is a duration and the path of the field that holds it, for error messages.
type DurationField struct {
	// Path of the field from the root of the object, like "spec.interval".
	Path string
	// Value of the field.
	Value Duration
}

// CheckDurations returns nil, or one error that names every unusable duration of fields.
func CheckDurations(fields ...DurationField) error {
	var errs []error
	for _, f := range fields {
		if err := f.Value.Err(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", f.Path, err))
		}
	}
	return errors.Join(errs...)
}
