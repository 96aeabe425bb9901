package node

import (
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// WriteYAML writes the whole configuration as a file that Load reads back; with origins, each value has
// a comment that says where it came from.
func (c *Config) WriteYAML(w io.Writer, origins bool) error {
	var b strings.Builder
	var open []string // the sections that the last key was in
	plain := plainText()
	for _, o := range Options() {
		parts := strings.Split(o.Key, ".")
		last := len(parts) - 1
		for depth, section := range parts[:last] {
			if depth < len(open) && open[depth] == section {
				continue
			}
			open = open[:depth]
			fmt.Fprintf(&b, "%s%s:\n", strings.Repeat("  ", depth), section)
			open = append(open, section)
		}
		open = open[:last]
		line := strings.Repeat("  ", last) + parts[last] + ":"
		rows := []string(nil)
		switch {
		case o.listing != nil && len(o.listing.rows(c)) > 0:
			rows = o.listing.rows(c)
		case o.bare || plain.MatchString(o.show(c)) && o.show(c) != "null":
			line += " " + o.show(c)
		default:
			line += " " + quote(o.show(c))
		}
		if origins {
			line = fmt.Sprintf("%-44s # %s", line, c.Origin(o.Key))
		}
		b.WriteString(line + "\n")
		for _, row := range rows {
			b.WriteString("  - " + row + "\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// plainText matches the texts that YAML takes as they are.
func plainText() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9./][A-Za-z0-9./_:@+-]*$`) }

func quote(s string) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string always has a JSON form
	return strings.TrimSpace(b.String())
}

// asJSON is a value as JSON: numbers, lists and the like without quotes.
func (o *OptionOf[C]) asJSON(text string) string {
	if o.bare && json.Valid([]byte(text)) {
		return text
	}
	return quote(text)
}

// WriteJSON writes the whole configuration as one JSON object, nested like the file; with origins, each
// value is an object with its value and its origin.
func (c *Config) WriteJSON(w io.Writer, origins bool) error {
	tree := map[string]any{}
	for _, o := range Options() {
		value := json.RawMessage(o.asJSON(o.show(c)))
		parts := strings.Split(o.Key, ".")
		last := len(parts) - 1
		at := tree
		for _, section := range parts[:last] {
			below, ok := at[section].(map[string]any)
			if !ok {
				below = map[string]any{}
				at[section] = below
			}
			at = below
		}
		at[parts[last]] = value
		if origins {
			at[parts[last]] = map[string]any{"value": value, "origin": c.Origin(o.Key).String()}
		}
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(tree)
}
