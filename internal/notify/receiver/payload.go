package receiver

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
)

// Limits of JSON that anybody may send. Decoded values take many times the memory of their text, and deep ones the stack of whoever walks
// them; real payloads stay far below.
const (
	maxDepth  = 200
	maxValues = 250_000
)

// mediaType returns the media type of a call, empty when there is none or it cannot be read.
func mediaType(h http.Header) string {
	t, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return t
}

const (
	mediaJSON = "application/json"
	mediaForm = "application/x-www-form-urlencoded"
)

// decodeJSON decodes JSON of a caller. The error repeats nothing of it.
func decodeJSON(data []byte, into any) error {
	if err := checkSize(data); err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) {
			return fmt.Errorf("a field of the JSON has the wrong type: %s", wrong.Type)
		}
		return errors.New("not valid JSON")
	}
	return nil
}

// checkSize counts brackets and commas before anything is decoded.
func checkSize(data []byte) error {
	depth, values, quoted := 0, 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			values++
			if depth++; depth > maxDepth {
				return fmt.Errorf("JSON is nested deeper than %d levels", maxDepth)
			}
		case c == '}' || c == ']':
			depth--
		case c == ',':
			values++
		}
		if values > maxValues {
			return fmt.Errorf("JSON has more than %d values", maxValues)
		}
	}
	return nil
}

// decodeObject decodes a JSON object into fields of the given names; other members are of no interest, and absent ones stay as they are.
// A member that is null or of another type than its field is an error: no sender sends that.
func decodeObject(data []byte, fields map[string]any) error {
	var members map[string]json.RawMessage
	if err := decodeJSON(data, &members); err != nil {
		return err
	}
	if members == nil {
		return errors.New("the JSON is not an object")
	}
	for name, into := range fields {
		member, ok := members[name]
		if !ok {
			continue
		}
		if bytes.Equal(member, []byte("null")) {
			return fmt.Errorf("%s is null", name)
		}
		if nested, ok := into.(map[string]any); ok {
			if err := decodeObject(member, nested); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			continue
		}
		if err := decodeJSON(member, into); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}
