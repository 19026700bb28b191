package hostile

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
)

// GitScript is what a Git server over smart HTTP says. A writer whose client has gone returns errors.
type GitScript struct {
	// Advertise answers the request for the references.
	Advertise func(w io.Writer)
	// Answer answers the request for a pack; may be nil.
	Answer func(w io.Writer)
	// Hang keeps the client waiting after what comes last: Answer or, without one, Advertise.
	Hang bool
}

// ServeHTTP plays the script for every repository.
func (s GitScript) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/info/refs"):
		w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
		s.Advertise(w)
		if s.Hang && s.Answer == nil {
			Hang(w, r)
		}
	case r.Method == http.MethodPost && s.Answer != nil:
		w.Header().Set("Content-Type", "application/x-git-upload-pack-result")
		s.Answer(w)
		if s.Hang {
			Hang(w, r)
		}
	default:
		http.NotFound(w, r)
	}
}

// GitCapabilities are what a modest server offers.
const GitCapabilities = "shallow side-band-64k ofs-delta"

// Packet is a pkt-line.
func Packet(format string, args ...any) string {
	line := fmt.Sprintf(format, args...)
	return fmt.Sprintf("%04x%s", len(line)+4, line)
}

// References advertises lines of "<hash> <name>".
func References(capabilities string, lines ...string) func(io.Writer) {
	return func(w io.Writer) {
		out := Packet("# service=git-upload-pack\n") + "0000"
		for i, line := range lines {
			if i == 0 {
				line += "\x00" + capabilities
			}
			out += Packet("%s\n", line)
		}
		_, _ = io.WriteString(w, out+"0000")
	}
}

// ManyReferences advertises n references, or forever when n is negative.
func ManyReferences(n int) func(io.Writer) {
	return func(w io.Writer) {
		UnfinishedReferences(n)(w)
		_, _ = io.WriteString(w, "0000")
	}
}

// UnfinishedReferences is ManyReferences without an end.
func UnfinishedReferences(n int) func(io.Writer) {
	return func(w io.Writer) {
		line := strings.Repeat("1", 40) + " refs/heads/"
		_, err := io.WriteString(w, Packet("# service=git-upload-pack\n")+"0000"+Packet("%s%08d\x00%s\n", line, 0, GitCapabilities))
		for i := 1; i != n && err == nil; i++ {
			_, err = io.WriteString(w, Packet("%s%08d\n", line, i))
		}
	}
}

// Branch is a script that serves the pack as the branch main.
func Branch(tip fmt.Stringer, pack []byte) GitScript {
	return GitScript{
		Advertise: References(GitCapabilities, tip.String()+" refs/heads/main"),
		Answer:    SendPack(pack),
	}
}

// SendPack answers with the pack.
func SendPack(pack []byte) func(io.Writer) {
	return func(w io.Writer) {
		_, err := io.WriteString(w, "0000"+Packet("NAK\n"))
		for chunk := range slices.Chunk(pack, 60000) {
			if err != nil {
				return
			}
			_, err = io.WriteString(w, Packet("\x01%s", chunk))
		}
		_, _ = io.WriteString(w, "0000")
	}
}

// EndlessProgress answers with progress messages until the client goes.
func EndlessProgress(w io.Writer) {
	_, err := io.WriteString(w, "0000"+Packet("NAK\n"))
	for line := Packet("\x02%s\n", strings.Repeat("x", 60000)); err == nil; {
		_, err = io.WriteString(w, line)
	}
}
