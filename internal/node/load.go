package node

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	cliformat "github.com/firthmq/firth/internal/cli/format"
	"github.com/firthmq/firth/internal/handover"
)

// maxConfigBytes is the size of the largest configuration file.
const maxConfigBytes = 256 * kib

// Sources are the places that values come from: a flag wins over the environment, the environment over
// the file, the file over the defaults.
type Sources struct {
	File  string       // name of the file, for messages
	Text  []byte       // what is in it
	Env   []string     // "NAME=value" as of os.Environ; names that do not begin with FIRTH_ are ignored
	Flags []Assignment // later ones win
}

// Assignment is one key set on the command line.
type Assignment struct {
	Flag string // as a person typed it: "--set", "--data"
	Text string // "key=value"
}

// Load reads a configuration. Its error is Problems: all that is wrong, at once.
func Load(src Sources) (*Config, error) { return load(src, (*loader).checkWhole) }

// loadParts is Load of a configuration whose parts may not go together yet.
func loadParts(src Sources) (*Config, error) { return load(src, func(*loader) {}) }

func load(src Sources, check func(*loader)) (*Config, error) {
	l := &loader{config: Default(), options: map[string]*Option{}, file: src.File, entries: map[string][]spot{}}
	for _, o := range Options() {
		l.options[o.Key] = &o
		l.keys = append(l.keys, o.Key)
	}
	l.readFile(src.Text)
	l.readEnv(src.Env)
	l.readFlags(src.Flags)
	check(l)
	if len(l.problems) > 0 {
		return nil, l.sorted()
	}
	return l.config, nil
}

// loader gathers values and problems.
type loader struct {
	config   *Config
	options  map[string]*Option
	keys     []string
	file     string
	entries  map[string][]spot // of lists: where each entry stands
	problems []found
}

// found is a problem and where it comes in the order of the message.
type found struct {
	spot
	text string
}

// spot is a place in one of the sources. Those of the file sort by line and column, before the others.
type spot struct {
	place        string
	line, column int // of the file; 0: another source
}

func (l *loader) inFile(n ast.Node) spot {
	p := n.GetToken().Position
	return l.at(p.Line, p.Column)
}

func (l *loader) at(line, column int) spot {
	return spot{fmt.Sprintf("%s:%d:%d", l.file, line, column), line, column}
}

func (l *loader) report(s spot, format string, args ...any) {
	l.problems = append(l.problems, found{s, clip(cliformat.Printable(fmt.Sprintf(format, args...)))})
}

// position is the line and the column at the end of "file:line:column".
func position(place string) (line, column int) {
	parts := strings.Split(place, ":")
	if len(parts) >= 3 {
		line, _ = strconv.Atoi(parts[len(parts)-2]) // written by at
		column, _ = strconv.Atoi(parts[len(parts)-1])
	}
	return line, column
}

// clip bounds a message, which may quote what it found.
func clip(text string) string {
	const most = 400
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most/2], "") + " ... " + strings.ToValidUTF8(text[len(text)-most/2:], "")
}

func (l *loader) sorted() Problems {
	slices.SortStableFunc(l.problems, func(a, b found) int {
		switch {
		case a.line == 0 && b.line == 0:
			return 0
		case a.line == 0:
			return 1
		case b.line == 0:
			return -1
		}
		return cmp.Or(cmp.Compare(a.line, b.line), cmp.Compare(a.column, b.column))
	})
	var ps Problems
	for _, f := range l.problems {
		if p := (Problem{f.place, f.text}); !slices.Contains(ps, p) {
			ps = append(ps, p)
		}
	}
	return ps
}

func (l *loader) readFile(text []byte) {
	text, ok := l.clean(text)
	if !ok {
		return
	}
	file, err := parseYAML(text)
	if err != nil {
		at, text := l.syntax(err)
		l.report(at, "%s", text)
		return
	}
	bodies := 0
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if _, directive := doc.Body.(*ast.DirectiveNode); directive {
			continue
		}
		if bodies++; bodies > 1 {
			l.report(l.inFile(doc.Body), "a second document; one file holds one configuration")
			return
		}
		if isNothing(doc.Body) {
			continue
		}
		l.section("", doc.Body)
	}
}

// clean makes text plain UTF-8 with \n, or says why it cannot.
func (l *loader) clean(text []byte) ([]byte, bool) {
	start := l.at(1, 1)
	switch {
	case len(text) > maxConfigBytes:
		l.report(start, "the file is larger than %s; a configuration is text of a few lines", formatSize(maxConfigBytes))
		return nil, false
	case bytes.HasPrefix(text, []byte("\xff\xfe")), bytes.HasPrefix(text, []byte("\xfe\xff")):
		l.report(start, "the file is UTF-16; save it as UTF-8")
		return nil, false
	}
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	text = bytes.ReplaceAll(text, []byte("\r"), []byte("\n"))
	line, rest := 0, text
	for len(rest) > 0 {
		var one []byte
		line++
		one, rest, _ = bytes.Cut(rest, []byte("\n"))
		if i := bytes.IndexByte(one, 0); i >= 0 {
			l.report(l.at(line, i+1), "a NUL character; this is no text file")
			return nil, false
		}
		if i := badUTF8(one); i >= 0 {
			l.report(l.at(line, i+1), "a character that is not UTF-8")
			return nil, false
		}
	}
	return text, true
}

// badUTF8 is where text stops being UTF-8, or -1.
func badUTF8(text []byte) int {
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

// parseYAML gives the syntax tree. Duplicate keys are left in: the loader says where both are.
func parseYAML(text []byte) (*ast.File, error) {
	return parser.ParseBytes(text, 0, parser.AllowDuplicateMapKey())
}

// syntax is the place and the words of a syntax error.
func (l *loader) syntax(err error) (at spot, text string) {
	text, at = strings.TrimSpace(err.Error()), l.at(1, 1)
	if bad, ok := errors.AsType[*yaml.SyntaxError](err); ok {
		text = bad.Message
		if bad.Token != nil && bad.Token.Position != nil {
			at = l.at(bad.Token.Position.Line, bad.Token.Position.Column)
		}
	}
	if strings.Contains(text, "'\t'") {
		return at, "a tab in the indentation; YAML takes spaces only"
	}
	return at, "not YAML: " + text
}

// section reads the keys of one level. name is "" for the whole file.
func (l *loader) section(name string, n ast.Node) {
	pairs, ok := n.(ast.MapNode)
	if !ok {
		if what := oddity(n); what != "" {
			l.report(l.inFile(n), "%s", what)
			return
		}
		if name == "" {
			l.report(l.inFile(n), "want keys (such as data: PATH), found %s", kindOf(n))
			return
		}
		l.report(l.inFile(n), "%s: want keys below it (%s), found %s",
			name, strings.Join(l.children(name), ", "), kindOf(n))
		return
	}
	lines := map[string]int{}
	for it := pairs.MapRange(); it.Next(); {
		l.pair(name, it.Key(), it.Value(), lines)
	}
}

func (l *loader) pair(section string, k, v ast.Node, lines map[string]int) {
	key, ok := l.keyOf(k, lines)
	if !ok {
		return
	}
	full := key
	if section != "" {
		full = section + "." + key
	}
	plain := !strings.Contains(key, ".")
	switch o := l.options[full]; {
	case o != nil && plain:
		l.value(o, v)
	case plain && len(l.children(full)) > 0:
		if !isNothing(v) {
			l.section(full, v)
		}
	default:
		l.report(l.inFile(k), "unknown key %q%s%s", key, under(section), l.guess(section, key))
	}
}

// keyOf reads a key and sees that it is there once.
func (l *loader) keyOf(k ast.Node, lines map[string]int) (string, bool) {
	at := l.inFile(k)
	if _, merge := k.(*ast.MergeKeyNode); merge {
		l.report(at, "merge keys (<<) are not supported")
		return "", false
	}
	key, ok := scalar(k)
	if !ok {
		l.report(at, "a key must be a plain word")
		return "", false
	}
	if first, twice := lines[key]; twice {
		l.report(at, "duplicate key %q (first in line %d)", key, first)
		return "", false
	}
	lines[key] = at.line
	return key, true
}

func under(section string) string {
	if section == "" {
		return ""
	}
	return " under " + section
}

// children are the names directly below a section.
func (l *loader) children(section string) []string {
	var names []string
	for _, key := range l.keys {
		rest, below := key, true
		if section != "" {
			rest, below = strings.CutPrefix(key, section+".")
		}
		if name, _, _ := strings.Cut(rest, "."); below && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// guess says what a person may have meant by an unknown key: one of the section, the same name in
// another section, or a key with dots that belongs on several lines.
func (l *loader) guess(section, key string) string {
	if parts := strings.Split(key, "."); section == "" && l.options[key] != nil {
		return fmt.Sprintf(" (write it as %s)", strings.Join(parts, ": { ")+": ..."+strings.Repeat(" }", len(parts)-1))
	}
	if text := didYouMean(key, l.children(section)); text != "" {
		return text
	}
	for _, known := range l.keys {
		if strings.HasSuffix(known, "."+key) {
			return fmt.Sprintf(" (did you mean %q?)", known)
		}
	}
	return ""
}

// value reads the value of one option in the file.
func (l *loader) value(o *Option, v ast.Node) {
	at := l.inFile(v)
	if o.listing != nil {
		o.listing.read(l, v, l.inFile)
		l.config.origins[o.Key] = Origin{"file", at.place}
		return
	}
	if what := oddity(v); what != "" {
		l.report(at, "%s: %s", o.Key, what)
		return
	}
	if list, ok := v.(*ast.SequenceNode); ok && o.list {
		l.list(o, list)
		return
	}
	text, ok := scalar(v)
	switch {
	case isNothing(v):
		l.report(at, "%s: has no value; leave the key out for the default (%s)", o.Key, o.Default)
	case !ok:
		l.report(at, "%s: want %s, found %s", o.Key, o.Type, kindOf(v))
	default:
		l.set(o, text, at, "file")
	}
}

// list reads a list of words.
func (l *loader) list(o *Option, list *ast.SequenceNode) {
	var words []string
	for _, n := range list.Values {
		word, ok := scalar(n)
		if !ok || strings.Contains(word, ",") {
			l.report(l.inFile(n), "%s: want a list of words without commas, found %s", o.Key, kindOf(n))
			return
		}
		if err := checkSeen(word); err != nil {
			l.report(l.inFile(n), "%s: %v", o.Key, err)
			return
		}
		words = append(words, word)
	}
	l.set(o, strings.Join(words, ","), l.inFile(list), "file")
}

func (l *loader) set(o *Option, text string, at spot, source string) {
	err := checkSeen(text)
	if err == nil {
		err = o.parse(l.config, text)
	}
	if err != nil {
		l.report(at, "%s: %v", o.Key, err)
		return
	}
	l.config.origins[o.Key] = Origin{source, at.place}
}

// setText reads a value that is not in the file.
func (l *loader) setText(o *Option, text string, at spot, source string) {
	if o.listing == nil {
		l.set(o, text, at, source)
		return
	}
	file, err := parseYAML([]byte(text))
	if err != nil {
		_, text := l.syntax(err)
		l.report(at, "%s: %s", o.Key, text)
		return
	}
	l.config.origins[o.Key] = Origin{source, at.place}
	for _, doc := range file.Docs {
		o.listing.read(l, doc.Body, func(ast.Node) spot { return at })
	}
}

// serviceLinks are variables that Kubernetes and Docker set in every container for each service they
// know; one that is called firth must not keep Firth from starting.
func serviceLinks() *regexp.Regexp {
	return regexp.MustCompile(`^FIRTH(_[A-Z0-9_]+)?_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|NAME|` +
		`PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)
}

func (l *loader) readEnv(env []string) {
	byName, names := map[string]*Option{}, []string(nil)
	for _, key := range l.keys {
		name := l.options[key].Env()
		byName[name] = l.options[key]
		names = append(names, name)
	}
	given := map[string]string{}
	for _, pair := range env {
		if name, value, _ := strings.Cut(pair, "="); strings.HasPrefix(name, envPrefix) &&
			name != handover.Variable {
			given[name] = value
		}
	}
	links := serviceLinks()
	for _, name := range slices.Sorted(maps.Keys(given)) {
		at := spot{place: name}
		if o := byName[name]; o != nil {
			l.setText(o, given[name], at, "env")
		} else if !links.MatchString(name) {
			l.report(at, "unknown variable%s", didYouMean(name, names))
		}
	}
}

func (l *loader) readFlags(flags []Assignment) {
	for _, f := range flags {
		at := spot{place: f.Flag}
		key, value, ok := strings.Cut(f.Text, "=")
		o := l.options[key]
		switch {
		case !ok:
			l.report(at, "%q is not key=value", f.Text)
		case o != nil:
			l.setText(o, value, at, "flag")
		case len(l.children(key)) > 0:
			l.report(at, "%q is a section; set a key below it (%s)", key, strings.Join(l.children(key), ", "))
		default:
			l.report(at, "unknown key %q%s", key, didYouMean(key, l.keys))
		}
	}
}
