package app

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/go-logr/logr"
)

// Levels of logr's V as slog knows them: info is 0, and every step of verbosity one below.
const (
	levelDebug = slog.Level(-1)
	levelTrace = slog.Level(-2)
)

// timeFormat is ISO 8601 with milliseconds and zone, as in 2.9's log lines (wire.md 18b).
const timeFormat = "2006-01-02T15:04:05.000Z07:00"

// newLogger returns a logger that writes the lines `flux logs` reads: level, ts, msg, logger, error and the keys
// of the object (wire.md 18b).
func newLogger(w io.Writer, level, encoding string) (logr.Logger, error) {
	levels := map[string]slog.Level{"trace": levelTrace, "debug": levelDebug, "info": slog.LevelInfo, "error": slog.LevelError}
	l, ok := levels[level]
	if !ok {
		return logr.Discard(), fmt.Errorf("--log-level=%s: want trace, debug, info or error", level)
	}
	options := &slog.HandlerOptions{Level: l, ReplaceAttr: rename}
	switch encoding {
	case "json":
		return logr.FromSlogHandler(slog.NewJSONHandler(w, options)), nil
	case "console":
		return logr.FromSlogHandler(slog.NewTextHandler(w, options)), nil
	}
	return logr.Discard(), fmt.Errorf("--log-encoding=%s: want json or console", encoding)
}

func rename(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return a
	}
	switch a.Key {
	case slog.TimeKey:
		return slog.String("ts", a.Value.Time().Format(timeFormat))
	case slog.LevelKey:
		return slog.String("level", levelName(a.Value.Any().(slog.Level)))
	case "err":
		a.Key = "error"
	}
	return a
}

func levelName(l slog.Level) string {
	switch {
	case l >= slog.LevelError:
		return "error"
	case l >= slog.LevelInfo:
		return "info"
	case l >= levelDebug:
		return "debug"
	}
	return "trace"
}
