package internal

import (
	"cmp"
	"fmt"
	"go/ast"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// event is a line that a room logs.
type event struct {
	message, level, room string
	fields               []string
}

// eventMakers are the methods of slog.Logger that log: the level, and the argument that is the message.
var eventMakers = map[string]struct {
	level   string
	message int
}{
	"Debug": {"debug", 0}, "Info": {"info", 0}, "Warn": {"warn", 0}, "Error": {"error", 0}, "Log": {"", 2},
	"DebugContext": {"debug", 1}, "InfoContext": {"info", 1}, "WarnContext": {"warn", 1}, "ErrorContext": {"error", 1},
	"LogAttrs": {"", 2},
}

// eventsOf finds the lines that sources log. What a message has of a variable is an ellipsis; of a function that logs
// what it is given, the lines are those of its callers.
func eventsOf(all []*source) []event {
	var found []event
	passers := map[string]passer{}
	for _, s := range all {
		if s.isTest() || s.room() == "" {
			continue
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Body == nil {
				continue
			}
			for _, c := range callsOf(f) {
				e, message := s.eventOf(c)
				switch at := paramOf(f, message); {
				case message == nil:
				case at >= 0:
					passers[s.room()+"."+f.Name.Name] = passer{at, e}
				default:
					found = append(found, e)
				}
			}
		}
	}
	for _, s := range all {
		if !s.isTest() && s.room() != "" {
			found = append(found, s.passed(passers)...)
		}
	}
	return found
}

// passer is a function that logs what it is given.
type passer struct {
	param int // the message
	event event
}

// passed are the lines of those who call passers.
func (s *source) passed(passers map[string]passer) (found []event) {
	texts := constantsOf(s)
	for _, c := range callsOf(s.file) {
		name := ""
		switch f := c.Fun.(type) {
		case *ast.Ident:
			name = f.Name
		case *ast.SelectorExpr:
			name = f.Sel.Name
		}
		p, ok := passers[s.room()+"."+name]
		if !ok || len(c.Args) <= p.param {
			continue
		}
		message := messageOf(c.Args[p.param], texts)
		if message == "…" {
			continue
		}
		e := event{message: strings.Replace(p.event.message, "…", message, 1), level: p.event.level, room: p.event.room}
		for _, arg := range c.Args[p.param+1:] { // and what the passer is told besides
			if field := textOf(arg, texts); field != "" {
				e.fields = append(e.fields, field)
			}
		}
		e.fields = append(e.fields, p.event.fields...)
		found = append(found, e)
	}
	return found
}

// callsOf are the calls in a part of a source.
func callsOf(n ast.Node) (calls []*ast.CallExpr) {
	ast.Inspect(n, func(n ast.Node) bool {
		if c, ok := n.(*ast.CallExpr); ok {
			calls = append(calls, c)
		}
		return true
	})
	return calls
}

// eventOf is the line that a call logs; its message is nil if it logs none.
func (s *source) eventOf(c *ast.CallExpr) (e event, message ast.Expr) {
	sel, ok := c.Fun.(*ast.SelectorExpr)
	if !ok || !isLogger(sel.X) {
		return e, nil
	}
	maker, ok := eventMakers[sel.Sel.Name]
	if !ok || len(c.Args) <= maker.message {
		return e, nil
	}
	texts := constantsOf(s)
	message = c.Args[maker.message]
	return event{
		message: messageOf(message, texts), level: cmp.Or(maker.level, "warn or debug"), room: s.room(),
		fields: fieldsOf(c.Args[maker.message+1:], texts),
	}, message
}

// fieldsOf are the names of fields, behind each of which stands a value. Of what a passer was given, it has none.
func fieldsOf(args []ast.Expr, texts map[string]string) (fields []string) {
	for i := 0; i < len(args); i += 2 {
		if more, ok := args[i].(*ast.CallExpr); ok && len(more.Args) > 0 { // append(args, ...)
			fields = append(fields, fieldsOf(more.Args[1:], texts)...)
			continue
		}
		if field := textOf(args[i], texts); field != "" {
			fields = append(fields, field)
		}
	}
	return fields
}

// paramOf is which parameter of a function an expression is, or begins with; below zero: none.
func paramOf(f *ast.FuncDecl, e ast.Expr) int {
	if sum, ok := e.(*ast.BinaryExpr); ok {
		e = sum.X
	}
	name, ok := e.(*ast.Ident)
	if !ok {
		return -1
	}
	at := 0
	for _, p := range f.Type.Params.List {
		for _, n := range p.Names {
			if n.Name == name.Name {
				return at
			}
			at++
		}
	}
	return -1
}

// isLogger tells by its name whether an expression is a logger.
func isLogger(e ast.Expr) bool {
	name := ""
	switch e := e.(type) {
	case *ast.Ident:
		name = e.Name
	case *ast.SelectorExpr:
		name = e.Sel.Name
	}
	return name == "log" || strings.HasSuffix(strings.ToLower(name), "logger")
}

var verb = regexp.MustCompile(`%[a-z]`)

// messageOf is a message, with an ellipsis for what is no text.
func messageOf(e ast.Expr, texts map[string]string) string {
	switch e := e.(type) {
	case *ast.BinaryExpr:
		return messageOf(e.X, texts) + messageOf(e.Y, texts)
	case *ast.CallExpr: // Sprintf
		return verb.ReplaceAllString(messageOf(e.Args[0], texts), "…")
	}
	return cmp.Or(textOf(e, texts), "…")
}

const eventsPage = "../docs/events.md"

// eventsHead has ' for `.
const eventsHead = `# Log events

Every line that a node logs, by its 'msg', with the fields that come with it. They go to standard error, one line each;
'log.format' and 'log.level' in [configuration.md](configuration.md) say how and how many. What clients can
cause is logged a few times a minute, with the number of those that were left out as 'more'. An ellipsis stands for what
differs from line to line. A field 'error' has what happened, 'hint' what to do.

| event | level | fields | who says it |
|---|---|---|---|
`

// TestEventsPage holds docs/events.md to the lines that the rooms log.
func TestEventsPage(t *testing.T) {
	found := eventsOf(loadSources(t))
	if len(found) < 100 {
		t.Fatalf("only %d events are found: the test looks in the wrong place", len(found))
	}
	slices.SortFunc(found, func(a, b event) int {
		return cmp.Or(cmp.Compare(strings.ToLower(a.message), strings.ToLower(b.message)), cmp.Compare(a.room, b.room),
			cmp.Compare(a.level, b.level), slices.Compare(a.fields, b.fields))
	})
	page := strings.ReplaceAll(eventsHead, "'", "`")
	line := ""
	for _, e := range found {
		if slices.Contains(e.fields, "err") || slices.Contains(e.fields, "held") {
			t.Errorf("%s, %q: what went wrong is the field error, what was left out is more", e.room, e.message)
		}
		fields := ""
		if len(e.fields) > 0 {
			fields = "`" + strings.Join(e.fields, "`, `") + "`"
		}
		next := fmt.Sprintf("| `%s` | %s | %s | %s |\n", strings.ReplaceAll(e.message, "|", `\|`), e.level, fields, e.room)
		if next != line {
			page += next
		}
		line = next
	}
	if *update {
		if err := os.WriteFile(eventsPage, []byte(page), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if page != readText(t, eventsPage) {
		t.Error("docs/events.md is not what the rooms log: go test ./internal -run TestEventsPage -update")
	}
}
