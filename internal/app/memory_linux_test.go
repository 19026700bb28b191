package app

import "testing"

func TestReadOnlyMapping(t *testing.T) {
	const program = "/usr/bin/flux"
	for line, want := range map[string]uintptr{
		"00400000-00401000 r-xp 00000000 fd:00 123                        /usr/bin/flux":  0x1000,
		"00401000-00403000 r--p 00001000 fd:00 123                        /usr/bin/flux":  0x2000,
		"00403000-00404000 rw-p 00003000 fd:00 123                        /usr/bin/flux":  0,
		"00400000-00401000 r-xp 00000000 fd:00 124                        /usr/lib/other": 0,
		"c000000000-c000400000 rw-p 00000000 00:00 0":                                     0,
		"00401000-00400000 r-xp 00000000 fd:00 123                        /usr/bin/flux":  0,
		"nonsense": 0, "": 0,
		"x-y r-xp 00000000 fd:00 123 /usr/bin/flux": 0,
	} {
		if _, length, ok := readOnlyMapping(line, program); length != want || ok != (want > 0) {
			t.Errorf("%q: %d bytes, %t", line, length, ok)
		}
	}
	// The program goes on.
	releaseMemory()
}
