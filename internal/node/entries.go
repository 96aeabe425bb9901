package node

import (
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// entries is a list of objects of one kind: each has the values that fields describes.
type entries[T any] struct {
	key    string // of the list
	one    string // what an entry is, for messages: "listener"
	list   func(c *Config) *[]T
	fields func() []OptionOf[T]
	needed []string                       // fields that must be there
	check  func(entry *T) (string, error) // what no field can tell alone, and the field it is about; nil: nothing
	page   string                         // what the manual says besides the table of fields
}

func (e entries[T]) names() []string {
	var names []string
	for _, f := range e.fields() {
		names = append(names, f.Key)
	}
	return names
}

// blank is an entry of which nothing is said.
func (e entries[T]) blank() T {
	var entry T
	for _, f := range e.fields() {
		if err := f.parse(&entry, f.Default); err != nil && !slices.Contains(e.needed, f.Key) {
			panic("default of " + f.Key + ": " + err.Error()) // a fault of the table; TestDefaults walks it
		}
	}
	return entry
}

// entryPlace is where something of an entry stands: its name in messages, and the places of its pieces.
type entryPlace struct {
	name string
	at   func(ast.Node) spot
}

// items is a list of objects within an entry of a list.
type items[C any] interface {
	// read reads the list. False: something is wrong with it, and was reported.
	read(c *C, l *loader, n ast.Node, in entryPlace) bool
	// manual says what an item looks like.
	manual() string
}

// sublist is a list of objects of one kind in each C.
type sublist[C, T any] struct {
	entries[T]
	field func(c *C) *[]T
}

// itemsOf completes an option that is a list of objects.
func itemsOf[C, T any](o OptionOf[C], w sublist[C, T]) OptionOf[C] {
	o.Default, o.bare, o.items = "[]", true, w
	o.parse = func(c *C, s string) error {
		*w.field(c) = nil
		if s != "[]" {
			return fmt.Errorf("want %s", o.Type)
		}
		return nil
	}
	o.show = func(c *C) string { return "[" + strings.Join(w.rowsOf(*w.field(c)), ",") + "]" }
	return o
}

func (w sublist[C, T]) read(c *C, l *loader, n ast.Node, in entryPlace) bool {
	list, ok := n.(*ast.SequenceNode)
	if !ok || len(list.Values) == 0 {
		l.report(in.at(n), "%s: want a list, each a %s, found %s", in.name, w.one, kindOf(n))
		return false
	}
	good := true
	for i, item := range list.Values {
		r := entryReader[T]{entries: w.entries, loader: l, name: fmt.Sprintf("%s: %s %d", in.name, w.one, i+1), at: in.at,
			entry: w.blank(), spots: map[string]spot{}}
		if r.read(item); r.bad {
			good = false
		}
		*w.field(c) = append(*w.field(c), r.entry)
	}
	return good
}

func (e entries[T]) read(l *loader, n ast.Node, at func(ast.Node) spot) {
	list := e.list(l.config)
	*list, l.entries[e.key] = nil, nil
	if n == nil || isNothing(n) {
		return
	}
	items, ok := n.(*ast.SequenceNode)
	if !ok {
		l.report(at(n), "%s: want a list, each a %s, found %s", e.key, e.one, kindOf(n))
		return
	}
	for i, item := range items.Values {
		name := fmt.Sprintf("%s: %s %d", e.key, e.one, i+1)
		r := entryReader[T]{entries: e, loader: l, name: name, at: at, entry: e.blank(), spots: map[string]spot{}}
		if r.read(item); !r.bad {
			*list = append(*list, r.entry)
			l.entries[e.key] = append(l.entries[e.key], at(item))
		}
	}
}

// entryReader reads one entry.
type entryReader[T any] struct {
	entries[T]
	*loader
	entry T
	name  string
	at    func(ast.Node) spot
	spots map[string]spot // where the value of each field stands
	bad   bool
}

func (r *entryReader[T]) read(n ast.Node) {
	pairs, ok := n.(ast.MapNode)
	if !ok {
		r.bad = true
		r.report(r.at(n), "%s: want keys (%s), found %s", r.name, strings.Join(r.names(), ", "), kindOf(n))
		return
	}
	lines := map[string]int{}
	for it := pairs.MapRange(); it.Next(); {
		if key, ok := r.keyOf(it.Key(), lines); ok {
			r.field(key, it.Key(), it.Value())
		}
	}
	for _, need := range r.needed {
		if _, given := lines[need]; !given {
			r.bad = true
			r.report(r.at(n), "%s: has no key %q", r.name, need)
		}
	}
	if r.check == nil || r.bad {
		return
	}
	if field, err := r.check(&r.entry); err != nil {
		r.bad = true
		at, ok := r.spots[field]
		if !ok {
			at = r.at(n)
		}
		r.report(at, "%s: %s: %v", r.name, field, err)
	}
}

func (r *entryReader[T]) field(key string, k, v ast.Node) {
	fields := r.fields()
	i := slices.IndexFunc(fields, func(f OptionOf[T]) bool { return f.Key == key })
	if i < 0 {
		r.bad = true
		r.report(r.at(k), "%s: unknown key %q%s", r.name, key, didYouMean(key, r.names()))
		return
	}
	f := fields[i]
	r.spots[key] = r.at(v)
	text, ok := scalar(v)
	var err error
	switch what := oddity(v); {
	case f.items != nil:
		r.bad = !f.items.read(&r.entry, r.loader, v, entryPlace{r.name + ": " + key, r.at}) || r.bad
	case what != "":
		err = fmt.Errorf("%s", what)
	case !ok:
		err = fmt.Errorf("want %s, found %s", f.Type, kindOf(v))
	default:
		if err = checkSeen(text); err == nil {
			err = f.parse(&r.entry, text)
		}
	}
	if err != nil {
		r.bad = true
		r.report(r.at(v), "%s: %s: %v", r.name, key, err)
	}
}

// rows is the list as JSON; it leaves out what has its default.
func (e entries[T]) rows(c *Config) []string { return e.rowsOf(*e.list(c)) }

func (e entries[T]) rowsOf(list []T) []string {
	blank := e.blank()
	var rows []string
	for _, entry := range list {
		var parts []string
		for _, f := range e.fields() {
			text := f.show(&entry)
			if text == f.show(&blank) && !slices.Contains(e.needed, f.Key) {
				continue
			}
			parts = append(parts, quote(f.Key)+":"+f.asJSON(text))
		}
		rows = append(rows, "{"+strings.Join(parts, ",")+"}")
	}
	return rows
}

func (e entries[T]) manual() string {
	var b strings.Builder
	fmt.Fprintf(&b, "A %s has these keys:\n\n| key | value | default | meaning |\n|---|---|---|---|\n", e.one)
	for _, f := range e.fields() {
		value := strings.ReplaceAll(f.Type, "|", "\\|")
		if f.Bounds != "" {
			value += ": " + f.Bounds
		}
		standard := "`" + f.Default + "`"
		switch {
		case slices.Contains(e.needed, f.Key):
			standard = "must be there"
		case f.Default == "":
			standard = "empty"
		}
		doc := f.Doc
		if f.Shows != "" {
			doc += " At the limit: " + f.Shows + "."
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.Key, value, standard, doc)
	}
	for _, f := range e.fields() {
		if f.items != nil {
			b.WriteString("\n" + strings.TrimRight(f.items.manual(), "\n") + "\n")
		}
	}
	b.WriteString("\n" + e.page)
	return b.String()
}
