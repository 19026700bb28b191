package kind

import (
	"strings"
	"testing"
)

func TestRelativePath(t *testing.T) {
	for in, want := range map[string]string{
		"./": "./", ".": "./", "/": "./", "apps": "./apps", "./apps/": "./apps", "a/../b": "./b", "../../etc": "./etc",
		`a\b`: "./a/b", " ./a ": "./a", "/abs": "./abs",
	} {
		var p RelativePath
		if err := p.Set(in); err != nil || p.String() != want { // cli 25
			t.Errorf("Set(%q) = %q, %v, want %q", in, p, err, want)
		}
	}
	var p RelativePath
	if p.Set("") == nil {
		t.Error("an empty path is accepted")
	}
}

func FuzzRelativePath(f *testing.F) {
	f.Add("../../etc")
	f.Add(`..\..\etc`)
	f.Fuzz(func(t *testing.T, s string) {
		var p RelativePath
		if p.Set(s) != nil {
			return
		}
		if !strings.HasPrefix(string(p), "./") || strings.Contains("/"+string(p)+"/", "/../") {
			t.Errorf("Set(%q) = %q leaves the repository", s, p)
		}
	})
}

func TestRSABits(t *testing.T) {
	for in, ok := range map[string]bool{"2048": true, "4096": true, "16384": true, "1024": false, "2049": false, "32768": false, "x": false} {
		var b RSABits
		if err := b.Set(in); (err == nil) != ok {
			t.Errorf("Set(%q) = %v", in, err)
		}
	}
}

func TestValidateName(t *testing.T) {
	// cli 21
	for name, ok := range map[string]bool{
		"ab": true, "a-b": true, "0a": true, strings.Repeat("a", 63): true,
		"": false, "a": false, "A-b": false, "a_b": false, "a.b": false, "-a": false, "a-": false, strings.Repeat("a", 64): false,
	} {
		if err := ValidateName(name); (err == nil) != ok {
			t.Errorf("ValidateName(%q) = %v", name, err)
		}
	}
}
