package setters

import (
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// plainText is what may stand without quotes wherever a scalar may stand, and looks like a text to every parser.
var plainText = regexp.MustCompile(`^[A-Za-z0-9_./][A-Za-z0-9_./@:+-]*$`)

// otherType is what parsers of YAML 1.1 or 1.2 take for something other than a text: numbers in all bases and notations, those
// to the base 60 and with underscores among them, dates, and words. The parser at hand knows 1.2, and those of users 1.1.
var otherType = regexp.MustCompile(`(?i)^(` +
	`[-+]?[0-9][0-9_,]*(:[0-5]?[0-9])*(\.[0-9_]*)?(e[-+]?[0-9]*)?` +
	`|[-+]?\.[0-9_]+(e[-+]?[0-9]*)?` +
	`|[-+]?0[xob][0-9a-f_]+` +
	`|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([t ].*)?` +
	`|[-+]?\.(inf|nan)` +
	`|y|n|yes|no|on|off|true|false|null|~` +
	`)$`)

// render writes a value in the style of the scalar whose place it takes. Without quotes it gets them where it would be no
// text otherwise (imageupdateautomation 52).
func render(s scalar, value string) (string, bool) {
	style := s.node.Style
	switch {
	case style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		return value, plainText.MatchString(value)
	case style&yaml.SingleQuotedStyle != 0 && printable(value):
		return "'" + strings.ReplaceAll(value, "'", "''") + "'", true
	case style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0, quotes(value):
		return doubleQuoted(value), printable(value)
	}
	return value, true
}

func quotes(value string) bool {
	if !plainText.MatchString(value) || strings.HasSuffix(value, ":") || otherType.MatchString(value) {
		return true
	}
	var n yaml.Node
	return yaml.Unmarshal([]byte(value), &n) != nil || len(n.Content) != 1 || n.Content[0].ShortTag() != "!!str"
}

func doubleQuoted(value string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value) + `"`
}

// printable admits what needs no escape but those of quotes: no name, tag or digest of an image holds anything else.
func printable(value string) bool {
	for _, r := range value {
		if r < ' ' || r > '~' {
			return false
		}
	}
	return true
}
