package action

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// Bounds of what is kept of Helm's log: it ends in an event.
const (
	logLines = 10
	logLine  = 400 // bytes
)

// logTail keeps the last lines of a log.
type logTail struct {
	clock clock.PassiveClock
	with  string // attributes of all lines, as text

	*logBuffer
}

type logBuffer struct {
	mu    sync.Mutex // guards lines
	lines []string
}

func newLogTail(c clock.PassiveClock) *logTail { return &logTail{clock: c, logBuffer: &logBuffer{}} }

// Enabled implements slog.Handler.
func (l *logTail) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler.
func (l *logTail) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(l.clock.Now().UTC().Format(time.RFC3339Nano) + ": " + r.Message + l.with)
	r.Attrs(func(a slog.Attr) bool {
		b.WriteString(" " + a.String())
		return b.Len() < logLine
	})
	line := tidy(b.String(), logLine)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lines) == logLines {
		copy(l.lines, l.lines[1:])
		l.lines = l.lines[:logLines-1]
	}
	l.lines = append(l.lines, line)
	return nil
}

// WithAttrs implements slog.Handler.
func (l *logTail) WithAttrs(attrs []slog.Attr) slog.Handler {
	other := *l
	for _, a := range attrs {
		other.with += " " + a.String()
	}
	return &other
}

// WithGroup implements slog.Handler. Helm makes no groups.
func (l *logTail) WithGroup(string) slog.Handler { return l }

// String is the kept lines.
func (l *logTail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}
