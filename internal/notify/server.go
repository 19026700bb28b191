package notify

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/seed-79636ae9/flux/toolkit/event"
)

// maxEvent is how large an event may be, in bytes (alert 2, wire contract 7).
const maxEvent = 3 << 20

// EventHandler takes events that are posted as JSON to "/" and answers 202, 400, 413 or 429 (alert 2, 4, 6).
func EventHandler(d *Dispatcher) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			http.NotFound(w, r)
			return
		}
		code := accept(d, w, r)
		if code == http.StatusTooManyRequests {
			http.Error(w, http.StatusText(code), code)
			return
		}
		w.WriteHeader(code)
	})
}

func accept(d *Dispatcher, w http.ResponseWriter, r *http.Request) int {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxEvent))
	if err != nil {
		if _, large := errors.AsType[*http.MaxBytesError](err); large {
			return http.StatusRequestEntityTooLarge
		}
		return http.StatusBadRequest
	}
	var p event.Payload
	if err := json.Unmarshal(body, &p); err != nil {
		return http.StatusBadRequest
	}
	if errors.Is(d.Dispatch(r.Context(), p), ErrDuplicate) {
		return http.StatusTooManyRequests
	}
	return http.StatusAccepted
}
