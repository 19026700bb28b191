package replay

import (
	"regexp"
	"sort"
	"strings"
)

// normaliser replaces what differs from run to run by the placeholders of the recordings.
type normaliser struct {
	addresses *strings.Replacer
	commits   []string // pairs for a replacer: what the system has committed, by branch
	patterns  []pattern
}

type pattern struct {
	find *regexp.Regexp
	with string
}

func newNormaliser(vars Vars, system System) *normaliser {
	// A longer value goes first: an address is part of the URLs that start with it.
	type pair struct{ value, placeholder string }
	var pairs []pair
	for key, value := range vars {
		if key == "NS" || value == "" {
			continue // recordings hold their namespace as it is
		}
		pairs = append(pairs, pair{value, "${" + key + "}"})
	}
	sort.Slice(pairs, func(i, j int) bool {
		a, b := pairs[i], pairs[j]
		if len(a.value) != len(b.value) {
			return len(a.value) > len(b.value)
		}
		return a.placeholder < b.placeholder
	})
	var flat []string
	for _, p := range pairs {
		flat = append(flat, p.value, p.placeholder)
	}
	n := &normaliser{addresses: strings.NewReplacer(flat...)}
	const duration = `(?:\d+(?:\.\d+)?(?:h|ms|m|s|µs|us|ns))+`
	add := func(expr, with string) { n.patterns = append(n.patterns, pattern{regexp.MustCompile(expr), with}) }
	if system.StorageDir != "" {
		add(regexp.QuoteMeta(system.StorageDir), "<storage>")
	}
	if system.TempDir != "" {
		add(regexp.QuoteMeta(system.TempDir)+`/[^/\s'":)]+`, "<dir>")
	}
	add(`/tmp/[^/\s'":)]+`, "<dir>")
	// Builds name the unpacked artifact by a fixed root, which does not change from run to run.
	add(`(^|[\s'"])/tree\b`, "$1<dir>")
	add(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)`, "<time>")
	add(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)? [+-]\d{4} [A-Z]+(?: m=[+-][\d.]+)?`, "<time>")
	add(`(finished in|passed in|failed after|next scan in) `+duration, "$1 <duration>")
	add(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`, "<uid>")
	add(`%2Ftree%2F`, "<dir>%2F") // the same in a form
	add(`(/send/m\.room\.message/)[0-9a-f]{40}`, "$1<sha1 of the event>")
	add(`^([a-z]+/[a-z0-9.-]+/)[0-9a-f]{8}$`, "$1<uid-8>") // the id of a commit status
	add(`(Pod/[^/\s]+/[a-z0-9.-]+?)-[a-z0-9]+-[a-z0-9]{5}\b`, "$1-<pod>")
	add(`(?s)(Last Helm logs:\n\n).+`, "$1<log lines>")
	add(`tcp 127\.0\.0\.1:\d+->`, "tcp <conn>->")
	return n
}

// commit shows a commit of the system by the branch it was seen on.
func (n *normaliser) commit(hash, branch string) {
	n.commits = append(n.commits, hash, "<commit:"+branch+">", hash[:7], "<commit7:"+branch+">")
}

// zeroTime is the only time that says something.
const zeroTime = "0001-01-01"

// text normalises one string.
func (n *normaliser) text(s string) string {
	s = n.addresses.Replace(s)
	if len(n.commits) > 0 {
		s = strings.NewReplacer(n.commits...).Replace(s)
	}
	for _, p := range n.patterns {
		if p.with != "<time>" {
			s = p.find.ReplaceAllString(s, p.with)
			continue
		}
		s = p.find.ReplaceAllStringFunc(s, func(m string) string {
			if strings.HasPrefix(m, zeroTime) {
				return m
			}
			return p.with
		})
	}
	return s
}

// fixed are fields whose whole value is a measurement or an identity.
func fixed() map[string]string {
	return map[string]string{
		"uid": "<uid>", "resourceVersion": "<rv>", "reportingInstance": "<instance>",
		"createdAt": "<unix-time>", "modifiedAt": "<unix-time>",
		"lastReconciledDuration": "<duration>", "lastAttemptedReleaseActionDuration": "<duration>",
		"observedSourcesDigest": "<digest of sources>", "alias": "<alias>",
	}
}

// tree normalises every string of a tree of JSON values.
func (n *normaliser) tree(v any) any {
	known := fixed()
	var walk func(v any) any
	walk = func(v any) any {
		switch v := v.(type) {
		case string:
			return n.text(v)
		case []any:
			out := make([]any, len(v))
			for i := range v {
				out[i] = walk(v[i])
			}
			return out
		case map[string]any:
			out := make(map[string]any, len(v))
			for key, value := range v {
				if with, ok := known[key]; ok {
					if text, isText := value.(string); isText && text != "" {
						out[key] = with
						continue
					}
				}
				out[key] = walk(value)
			}
			return out
		case map[string]string:
			out := make(map[string]any, len(v))
			for key, value := range v {
				if with, ok := known[key]; ok && value != "" {
					out[key] = with
					continue
				}
				out[key] = n.text(value)
			}
			return out
		default:
			return v
		}
	}
	return walk(v)
}
