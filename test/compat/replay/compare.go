package replay

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"sort"
	"strings"
)

// absent stands for a missing value in a difference.
const absent = "<absent>"

// Diff is one difference between what was recorded and what we saw.
type Diff struct {
	// Path says where, such as end.objects[Kustomization/app].status.conditions[Ready].message.
	Path string
	// Want is the recorded value, Ours the one seen now; "<absent>" stands for a missing one.
	Want, Ours any
}

// String renders the difference on three lines.
func (d Diff) String() string {
	return fmt.Sprintf("%s\n    recorded: %s\n    ours:     %s", d.Path, render(d.Want), render(d.Ours))
}

func render(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // placeholders such as <time> are for people to read
	if err := e.Encode(v); err != nil {
		return fmt.Sprint(v)
	}
	return strings.TrimSpace(b.String())
}

// Compare lists the differences between two snapshots by the rules of the recordings' README
// ("Comparing"): objects and conditions strictly, library texts by prefix, events as sets, and
// what only timing decides not at all.
func Compare(want, ours map[string]any) []Diff {
	c := &comparer{}
	c.keyed("objects", want["objects"], ours["objects"], objectKey)
	c.keyed("artifacts", want["artifacts"], withFilesAs(want["artifacts"], ours["artifacts"]), artifactKey)
	c.keyed("cluster", want["cluster"], ours["cluster"], objectKey)
	c.events(want, ours)
	c.set("posted", withoutRepeats(want["posted"]), withoutRepeats(ours["posted"]), postedKey, "message", nil)
	c.set("requests", alike(want["requests"]), alike(ours["requests"]), func(o map[string]any) string { return fmt.Sprint(o["method"], " ", o["path"]) }, "json", nil)
	for _, key := range sortedKeys(want) {
		switch key {
		case "objects", "artifacts", "cluster", "events", "posted", "requests":
		default:
			c.add(key, want[key], "this replayer does not take this part of a snapshot")
		}
	}
	return c.diffs
}

// alike lists requests with the canonical names of headers, which one library of 2.9 does without. The host name inside a request for
// GitHub is recorded as it was.
func alike(requests any) []map[string]any {
	var out []map[string]any
	for _, r := range asList(requests) {
		r = maps.Clone(r)
		if given, ok := r["headers"].(map[string]any); ok {
			headers := map[string]any{}
			for name, value := range given {
				headers[http.CanonicalHeaderKey(name)] = value
			}
			r["headers"] = headers
		}
		if body, ok := r["json"].(map[string]any); ok {
			if payload, ok := body["client_payload"].(map[string]any); ok {
				body, payload = maps.Clone(body), maps.Clone(payload)
				payload["reportingInstance"] = "<instance>"
				body["client_payload"] = payload
				r["json"] = body
			}
		}
		out = append(out, r)
	}
	return out
}

type comparer struct{ diffs []Diff }

func (c *comparer) add(path string, want, ours any) {
	c.diffs = append(c.diffs, Diff{Path: path, Want: orAbsent(want), Ours: orAbsent(ours)})
}

func orAbsent(v any) any {
	if v == nil {
		return absent
	}
	return v
}

func artifactKey(o map[string]any) string { return fmt.Sprint(o["of"]) }

// withFilesAs drops the files of our artifacts where none were recorded: only some recordings look into archives.
func withFilesAs(want, ours any) any {
	recorded := map[string]bool{}
	for _, o := range asList(want) {
		_, recorded[artifactKey(o)] = o["files"]
	}
	out := []any{}
	for _, o := range asList(ours) {
		shown := maps.Clone(o)
		if !recorded[artifactKey(o)] {
			delete(shown, "files")
		}
		out = append(out, shown)
	}
	return out
}

func objectKey(o map[string]any) string {
	key := fmt.Sprint(o["kind"], "/", o["name"])
	if ns, ok := o["namespace"].(string); ok {
		key += "/" + ns
	}
	return key
}

func postedKey(o map[string]any) string {
	object, _ := o["involvedObject"].(map[string]any)
	return fmt.Sprint(object["kind"], "/", object["name"], " ", o["severity"], " ", o["reason"])
}

func eventKey(o map[string]any) string {
	return fmt.Sprint(o["object"], " ", o["type"], " ", o["reason"])
}

func asList(v any) []map[string]any {
	list, _ := v.([]any)
	out := make([]map[string]any, 0, len(list))
	for _, item := range list {
		if m, ok := item.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

// keyed compares two lists whose items have an identity.
func (c *comparer) keyed(path string, want, ours any, key func(map[string]any) string) {
	index := func(list []map[string]any) map[string]any {
		out := map[string]any{}
		for _, o := range list {
			out[key(o)] = o
		}
		return out
	}
	w, o := index(asList(want)), index(asList(ours))
	for _, k := range union(w, o) {
		at := path + "[" + k + "]"
		if w[k] == nil || o[k] == nil {
			c.add(at, w[k], o[k])
			continue
		}
		c.value(at, w[k], o[k])
	}
}

// value compares two trees strictly, but for texts and what timing decides.
func (c *comparer) value(path string, want, ours any) {
	switch want := want.(type) {
	case map[string]any:
		if ours, ok := ours.(map[string]any); ok {
			c.fields(path, want, ours)
			return
		}
	case []any:
		if ours, ok := ours.([]any); ok {
			if strings.HasSuffix(path, ".conditions") {
				c.conditions(path, want, ours)
				return
			}
			if !allTexts(want) || !allTexts(ours) {
				c.list(path, want, ours)
				return
			}
		}
	case string:
		text, ok := ours.(string)
		if ok && SameText(want, text) || anyOf(want, ours) {
			return
		}
	}
	if render(want) != render(ours) {
		c.add(path, want, ours)
	}
}

// anyOf tells a value of the sort that the placeholder stands for: what depends on the time, or, in 2.9, on the time that a
// chart was packaged. Whether digest and size are those of the archive is compared apart.
func anyOf(want string, ours any) bool {
	switch want {
	case "<digest of the packaged chart>", "<digest of the release record>":
		return strings.HasPrefix(fmt.Sprint(ours), "sha256:")
	case "<size>":
		_, isText := ours.(string)
		return ours != nil && !isText
	}
	return false
}

func (c *comparer) fields(path string, want, ours map[string]any) {
	for _, k := range union(want, ours) {
		// How often a failing object was tried is a matter of time; how often it succeeded is not.
		if k == "totalReconciliations" && want["lastReconciledStatus"] != "ReconciliationSucceeded" {
			continue
		}
		w, hasW := want[k]
		o, hasO := ours[k]
		if k == "failures" && hasW && hasO && willRetry(want) {
			continue
		}
		at := path + "." + k
		if strings.ContainsAny(k, "./") {
			at = path + "[" + k + "]"
		}
		if !hasW || !hasO {
			c.add(at, w, o)
			continue
		}
		c.value(at, w, o)
	}
}

// willRetry tells the status of an object that failed and is tried again without being asked: how often is a matter of time.
func willRetry(status map[string]any) bool {
	conditions, _ := status["conditions"].([]any)
	for _, c := range asList(conditions) {
		if c["type"] == "Reconciling" {
			return c["status"] == "True"
		}
	}
	return false
}

// allTexts tells lists such as finalizers and managers, which read best as a whole.
func allTexts(list []any) bool {
	for _, v := range list {
		if _, ok := v.(string); !ok {
			return false
		}
	}
	return true
}

func (c *comparer) list(path string, want, ours []any) {
	for i := 0; i < max(len(want), len(ours)); i++ {
		at := fmt.Sprintf("%s[%d]", path, i)
		switch {
		case i >= len(want):
			c.add(at, nil, ours[i])
		case i >= len(ours):
			c.add(at, want[i], nil)
		default:
			c.value(at, want[i], ours[i])
		}
	}
}

// conditions compares two condition lists by type, and the order of the types they share.
func (c *comparer) conditions(path string, want, ours []any) {
	conditionType := func(o map[string]any) string { return fmt.Sprint(o["type"]) }
	index := func(list []any) (map[string]map[string]any, []string) {
		byType, order := map[string]map[string]any{}, []string{}
		for _, o := range asList(list) {
			byType[conditionType(o)] = o
			order = append(order, conditionType(o))
		}
		return byType, order
	}
	w, wantOrder := index(want)
	o, ourOrder := index(ours)
	for _, t := range union(w, o) {
		at := path + "[" + t + "]"
		switch {
		case w[t] == nil:
			c.add(at, nil, o[t])
		case o[t] == nil:
			c.add(at, w[t], nil)
		case t == "Reconciling" && retryInFlight(w[t], o[t]):
		default:
			c.value(at, w[t], o[t])
		}
	}
	if len(w) == len(o) && strings.Join(wantOrder, " ") != strings.Join(ourOrder, " ") && len(union(w, o)) == len(w) {
		c.add(path+" (order)", strings.Join(wantOrder, " "), strings.Join(ourOrder, " "))
	}
}

// retryInFlight tells two looks at the same failing object, one of them in the middle of a try.
func retryInFlight(want, ours map[string]any) bool {
	a, b := want["reason"], ours["reason"]
	return want["status"] == ours["status"] && a != b &&
		(a == "Progressing" || a == "ProgressingWithRetry") && (b == "Progressing" || b == "ProgressingWithRetry")
}

// events compares the Kubernetes Events. An event that was not posted is of the Trace type; more
// of those than recorded are polling, not behaviour.
func (c *comparer) events(want, ours map[string]any) {
	posted := map[string]bool{}
	for _, p := range asList(ours["posted"]) {
		object, _ := p["involvedObject"].(map[string]any)
		posted[fmt.Sprint(object["kind"], "/", object["name"], " ", p["reason"], " ", p["message"])] = true
	}
	// What failed before the last snapshot may be tried once more before its cause goes away: when is a matter of timing.
	retried := map[string]bool{}
	for _, e := range asList(ours["events"]) {
		if e["repeated"] == true && e["type"] == "Warning" {
			retried[fmt.Sprint(e["object"], " ", e["reason"], " ", e["message"])] = true
		}
	}
	tolerated := func(e map[string]any) bool {
		message, _ := e["message"].(string)
		if retried[fmt.Sprint(e["object"], " ", e["reason"], " ", message)] {
			return true
		}
		poll := strings.HasPrefix(message, "no changes since last reconcil") || strings.HasPrefix(message, "No drift detected, ") ||
			strings.HasPrefix(message, "no artifact available for ") // a HelmChart that is made before its source is there
		return poll && !posted[fmt.Sprint(e["object"], " ", e["reason"], " ", message)]
	}
	c.set("events", withoutRepeats(want["events"]), withoutRepeats(ours["events"]), eventKey, "message", tolerated)
}

// withoutRepeats drops what counts repetitions, and the answers after the first.
func withoutRepeats(v any) []map[string]any {
	var out []map[string]any
	for _, o := range asList(v) {
		shown := map[string]any{}
		for k, value := range o {
			shown[k] = value
		}
		delete(shown, "repeated")
		if answers, ok := shown["answers"].([]any); ok && len(answers) > 1 {
			shown["answers"] = answers[:1]
		}
		out = append(out, shown)
	}
	return out
}

// set compares two lists without order. Items are paired by key and text first, then by key
// alone, so that a changed text shows as one difference and not as two.
func (c *comparer) set(path string, want, ours []map[string]any, key func(map[string]any) string, text string, tolerated func(map[string]any) bool) {
	want, ours = distinct(want), distinct(ours)
	taken := make([]bool, len(ours))
	pair := func(w map[string]any, same func(o map[string]any) bool) int {
		for i, o := range ours {
			if !taken[i] && key(o) == key(w) && same(o) {
				taken[i] = true
				return i
			}
		}
		return -1
	}
	matches := make([]int, len(want))
	for i, w := range want {
		matches[i] = pair(w, func(o map[string]any) bool { return len(difference(w, o)) == 0 })
	}
	for i, w := range want {
		if matches[i] < 0 {
			matches[i] = pair(w, func(o map[string]any) bool { return sameValue(w[text], o[text]) })
		}
	}
	for i, w := range want {
		if matches[i] < 0 {
			matches[i] = pair(w, func(map[string]any) bool { return true })
		}
		at := path + "[" + key(w) + "]"
		if matches[i] < 0 {
			c.add(at, w[text], nil)
			continue
		}
		c.value(at, w, ours[matches[i]])
	}
	for i, o := range ours {
		if !taken[i] && (tolerated == nil || !tolerated(o)) {
			c.add(path+"["+key(o)+"]", nil, o[text])
		}
	}
}

func distinct(list []map[string]any) []map[string]any {
	seen := map[string]bool{}
	var out []map[string]any
	for _, o := range list {
		if k := render(o); !seen[k] {
			seen[k] = true
			out = append(out, o)
		}
	}
	return out
}

func difference(want, ours any) []Diff {
	c := &comparer{}
	c.value("", want, ours)
	return c.diffs
}

func sameValue(want, ours any) bool { return len(difference(want, ours)) == 0 }

// libraryTexts end where the words of a library or of the network begin: what follows differs
// between versions of kustomize, sops, the Git client and the CEL parser.
func libraryTexts() []*regexp.Regexp {
	exprs := []string{
		`kustomize build failed: `,
		`failed to decode Kubernetes YAML from [^:]+: `,
		`unable to clone '[^']*': `,
		`failed to parse the CEL expression '[^']*': `,
		`cannot get sops data key: `,
		`semver parse error: `,
		// A TLS server answers plain HTTP and resets the connection; which of both a client sees is luck.
		`x509: certificate signed by unknown authority; `,
	}
	out := make([]*regexp.Regexp, len(exprs))
	for i, e := range exprs {
		out[i] = regexp.MustCompile(e)
	}
	return out
}

// SameText compares two messages: equal, or equal up to where a library begins to speak.
func SameText(want, ours string) bool {
	if want == ours {
		return true
	}
	for _, lib := range libraryTexts() {
		if at := lib.FindStringIndex(want); at != nil {
			return len(ours) > at[1] && strings.HasPrefix(ours, want[:at[1]])
		}
	}
	return false
}

func union[V any](a, b map[string]V) []string {
	keys := map[string]bool{}
	for k := range a {
		keys[k] = true
	}
	for k := range b {
		keys[k] = true
	}
	out := make([]string, 0, len(keys))
	for k := range keys {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}
