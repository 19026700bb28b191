package cli

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/seed-79636ae9/flux/internal/kind"
	"github.com/seed-79636ae9/flux/internal/ops"
)

// Streams are the ends of a command. Data goes to Out, everything else to Err (cli 1).
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	// Interactive says that a person can answer on In.
	Interactive bool
	// Live says that Err is a terminal that can redraw a line.
	Live bool
}

func systemStreams() Streams {
	return Streams{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		Interactive: term.IsTerminal(int(os.Stdin.Fd())),
		Live:        term.IsTerminal(int(os.Stderr.Fd())) && os.Getenv("TERM") != "dumb",
	}
}

func (f *Factory) line(symbol, format string, args []any) {
	fmt.Fprintf(f.Streams.Err, "%s %s\n", symbol, strings.TrimRight(fmt.Sprintf(format, args...), "\n"))
}

// Actionf tells what is about to be done.
func (f *Factory) Actionf(format string, args ...any) { f.line("►", format, args) }

// Generatef tells that something is being generated.
func (f *Factory) Generatef(format string, args ...any) { f.line("✚", format, args) }

// Waitf tells what is being waited for.
func (f *Factory) Waitf(format string, args ...any) { f.line("◎", format, args) }

// Successf tells what went well.
func (f *Factory) Successf(format string, args ...any) { f.line("✔", format, args) }

// Failf tells what failed.
func (f *Factory) Failf(format string, args ...any) { f.line("✗", format, args) }

// Warnf tells what deserves a look.
func (f *Factory) Warnf(format string, args ...any) { f.line("⚠️", format, args) }

// ui is what create descriptors talk through.
func (f *Factory) ui() kind.UI {
	return kind.UI{
		Actionf: f.Actionf, Generatef: f.Generatef, Waitf: f.Waitf, Successf: f.Successf,
		Confirm: f.confirm, Progress: f.Streams.Err,
	}
}

// confirm asks a yes/no question. Anything but yes is a no, and so is an input without an answer.
func (f *Factory) confirm(question string) error {
	fmt.Fprintf(f.Streams.Err, "%s [y/N] ", question)
	answer, err := bufio.NewReader(f.Streams.In).ReadString('\n')
	if !f.Streams.Interactive {
		fmt.Fprintln(f.Streams.Err)
	}
	answer = strings.ToLower(strings.TrimSpace(answer))
	if answer == "y" || answer == "yes" {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: no answer on standard input", ops.ErrRefused)
	}
	return ops.ErrRefused
}

// liveLine redraws one line on a terminal; elsewhere it is silent.
type liveLine struct {
	f *Factory
	// mu guards shown, since objects resumed together report together.
	mu    sync.Mutex
	shown string
}

func (f *Factory) live() *liveLine { return &liveLine{f: f} }

// show replaces the line by the state of an object.
func (l *liveLine) show(o kind.Object) {
	_, message := o.State()
	l.text(o.Ref().String() + ": " + oneLine(message))
}

// text replaces the line.
func (l *liveLine) text(text string) {
	if !l.f.Streams.Live {
		return
	}
	text = "◎ " + text
	if utf8.RuneCountInString(text) > 100 {
		text = string([]rune(text)[:99]) + "…"
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if text == l.shown {
		return
	}
	l.shown = text
	fmt.Fprintf(l.f.Streams.Err, "\r\x1b[K%s", text)
}

// clear removes the line.
func (l *liveLine) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shown != "" {
		fmt.Fprint(l.f.Streams.Err, "\r\x1b[K")
		l.shown = ""
	}
}

// oneLine keeps table rows and progress lines whole: messages of controllers hold line breaks.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' || r == '\t' }), " ")
}
