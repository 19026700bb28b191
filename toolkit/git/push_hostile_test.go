package git

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
)

const (
	pushCaps  = "report-status side-band-64k push-options ofs-delta"
	someHash  = "1111111111111111111111111111111111111111"
	otherHash = "2222222222222222222222222222222222222222"
)

func pushAdvertisement(caps string, refs ...string) string {
	return strings.Replace(advertise(caps, refs...), pkt("# service=git-upload-pack\n"), pkt("# service=git-receive-pack\n"), 1)
}

func band(channel byte, text string) string { return pkt("%c%s", channel, text) }

// What a server answers to a push is believed only if it speaks of this push, and costs no more than it may (reliability 006).
func TestPushAnswers(t *testing.T) {
	ok := pkt("unpack ok\n") + pkt("ok refs/heads/main\n") + "0000"
	for name, test := range map[string]struct {
		caps, answer string
		want         error  // property; nil: success, unless text is set
		text         string // part of the message
	}{
		"success":                  {pushCaps, band(1, ok) + "0000", nil, ""},
		"in pieces":                {pushCaps, band(1, ok[:7]) + band(2, "hello\n") + band(1, ok[7:]) + "0000", nil, ""},
		"without a side-band":      {"report-status", ok, nil, ""},
		"refused":                  {pushCaps, band(2, "ask\x1b first\n") + band(1, pkt("unpack ok\n")+pkt("ng refs/heads/main protected branch hook declined\n")+"0000") + "0000", ErrRejected, "protected branch hook declined: ask\x1b first"},
		"race":                     {pushCaps, band(1, pkt("unpack ok\n")+pkt("ng refs/heads/main failed to update ref\n")+"0000") + "0000", ErrMoved, ""},
		"another race":             {pushCaps, band(1, pkt("unpack ok\n")+pkt("ng refs/heads/main fetch first\n")+"0000") + "0000", ErrMoved, ""},
		"unpack fails":             {pushCaps, band(1, pkt("unpack index-pack abnormal exit\n")+"0000") + "0000", ErrRejected, "index-pack abnormal exit"},
		"ok without unpack":        {pushCaps, band(1, pkt("ok refs/heads/main\n")+"0000") + "0000", io.ErrUnexpectedEOF, ""},
		"ok of another reference":  {pushCaps, band(1, pkt("unpack ok\n")+pkt("ok refs/heads/other\n")+"0000") + "0000", io.ErrUnexpectedEOF, ""},
		"nothing":                  {pushCaps, "", io.ErrUnexpectedEOF, ""},
		"cut":                      {pushCaps, band(1, ok[:9]), io.ErrUnexpectedEOF, ""},
		"fatal":                    {pushCaps, band(3, "disk full"), nil, "the server said: disk full"},
		"no packets":               {pushCaps, "<html>", ErrMalformed, ""},
		"endless":                  {pushCaps, strings.Repeat(band(2, strings.Repeat("x", 60000)), 80), ErrLimit, ""},
		"endless after the report": {pushCaps, band(1, ok) + strings.Repeat(band(2, strings.Repeat("x", 60000)), 80), nil, ""},
		"cut after the report":     {pushCaps, band(1, ok) + "00ff\x02x", nil, ""},
		"endless lines":            {"report-status", strings.Repeat(pkt("ok refs/heads/other\n"), 200000), ErrLimit, ""},
		"no report":                {"side-band-64k", ok, ErrUnsupported, ""},
		"long reason":              {pushCaps, band(1, pkt("unpack ok\n")+pkt("ng refs/heads/main %s\n", strings.Repeat("y", 3000))+"0000") + "0000", ErrRejected, "yyy..."},
		"long talk":                {pushCaps, band(2, strings.Repeat("z", 3000)) + band(1, pkt("unpack ok\n")+pkt("ng refs/heads/main no\n")+"0000") + "0000", ErrRejected, "zzz"},
	} {
		t.Run(name, func(t *testing.T) {
			c := hostile(t, pushAdvertisement(test.caps, someHash+" refs/heads/main"), test.answer)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			d := &Draft{Hash: otherHash, Parent: someHash}
			err := c.Push(ctx, d, Update{Ref: "refs/heads/main"}, t.TempDir())
			if (err == nil) != (test.want == nil && test.text == "") || test.want != nil && !errors.Is(err, test.want) {
				t.Fatalf("push: %v, want %v", err, test.want)
			}
			if err != nil && (!strings.Contains(err.Error(), test.text) || len(err.Error()) > 2000) {
				t.Errorf("push: %v, want %q in it", err, test.text)
			}
		})
	}
}

// A push is asked for as git asks, and its pack is one that others can read.
func TestPushRequest(t *testing.T) {
	refs, err := readAdvertisement(strings.NewReader(pushAdvertisement(pushCaps, someHash+" refs/heads/main")), 0, []string{"refs/heads/main"})
	if err != nil {
		t.Fatal(err)
	}
	d := &Draft{Hash: otherHash, Parent: someHash}
	sizes := []int{0, 1, 15, 16, 2047, 2048, 300_000}
	for _, n := range sizes {
		d.put(plumbing.BlobObject, bytes.Repeat([]byte("x"), n))
	}
	u := Update{Ref: "refs/heads/main", To: otherHash, Options: []string{"a=b"}}
	request, err := u.encode(refs, plumbing.NewHash(someHash), d)
	if err != nil {
		t.Fatal(err)
	}
	head := pkt("%s %s refs/heads/main\x00report-status side-band-64k push-options", someHash, otherHash) + "0000" + pkt("a=b") + "0000"
	body, ok := bytes.CutPrefix(request, []byte(head))
	if !ok {
		t.Fatalf("request: %.200q", request)
	}
	scanner := packfile.NewScanner(bytes.NewReader(body))
	if _, n, err := scanner.Header(); err != nil || int(n) != len(sizes) {
		t.Fatalf("%d objects, %v", n, err)
	}
	for _, size := range sizes {
		h, err := scanner.NextObjectHeader()
		if err != nil || int(h.Length) != size || h.Type != plumbing.BlobObject {
			t.Fatalf("object of %d bytes: %+v, %v", size, h, err)
		}
		var content bytes.Buffer
		if _, _, err := scanner.NextObject(&content); err != nil || content.Len() != size {
			t.Fatalf("object of %d bytes has %d, %v", size, content.Len(), err)
		}
	}
	if _, err := scanner.Checksum(); err != nil {
		t.Error(err)
	}
}

// FuzzPushAnswer feeds answers of servers.
func FuzzPushAnswer(f *testing.F) {
	for _, caps := range []string{pushCaps, "report-status"} {
		f.Add(caps == pushCaps, band(1, pkt("unpack ok\n")+pkt("ok refs/heads/main\n")+"0000")+"0000")
		f.Add(caps == pushCaps, pkt("unpack ok\n")+pkt("ng refs/heads/main no\n")+"0000")
	}
	f.Fuzz(func(t *testing.T, banded bool, answer string) {
		caps := "report-status"
		if banded {
			caps = pushCaps
		}
		refs, err := readAdvertisement(strings.NewReader(pushAdvertisement(caps, someHash+" refs/heads/main")), 0, []string{"refs/heads/main"})
		if err != nil {
			t.Fatal(err)
		}
		err = report(strings.NewReader(answer), refs, "refs/heads/main")
		if err == nil && (!strings.Contains(answer, "unpack") || len(answer) > maxReport) {
			t.Errorf("%q is a success", answer)
		}
	})
}
