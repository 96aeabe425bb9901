// Package output is how the commands speak: tables and JSON for data, one shape for errors, and the
// exit codes that scripts may rely on.
//
// Data goes to standard output and nothing else does; errors and hints go to standard error. The
// package writes to the writers it is given and knows neither the log nor the network protocols.
//
//	output.Table(w, []string{"TOPIC", "PARTITIONS"}, rows)
//	os.Exit(output.Report(os.Stderr, err, output.FormJSON))
package output

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"unicode/utf8"

	"github.com/firthmq/firth/internal/cli/format"
	"github.com/firthmq/firth/internal/kit/fault"
)

// Form is the form in which a command prints its data and errors.
type Form string

// The forms that -o takes.
const (
	FormTable Form = "table"
	FormJSON  Form = "json"
)

// String is the form as it is written on the command line.
func (f *Form) String() string { return string(*f) }

// Set takes the form from the command line. Errors: a form that does not exist.
func (f *Form) Set(s string) error {
	switch Form(s) {
	case FormTable, FormJSON:
		*f = Form(s)
		return nil
	}
	return fmt.Errorf("%q is not one of table, json", s)
}

// Type is the name of the flag's type in help texts.
func (f *Form) Type() string { return "table|json" }

// The exit codes. They are part of what scripts may rely on and never change their meaning.
const (
	ExitOK       = 0 // done
	ExitFailed   = 1 // the server or the log refused, or something else went wrong
	ExitUsage    = 2 // the command line does not make sense
	ExitConnect  = 3 // nothing answers at the address
	ExitAuth     = 4 // the credentials or the permissions do not suffice
	ExitNotFound = 5 // the named thing does not exist
	ExitCheck    = 6 // a check ran and found a fault
)

// codeNames are the codes in the words that JSON errors carry.
var codeNames = [...]string{"ok", "failed", "usage", "connect", "auth", "not_found", "check_failed"}

// Coded is an error that has chosen its exit code.
type Coded struct {
	Code int // one of the Exit constants
	Err  error
}

// Error is the text of the cause.
func (c *Coded) Error() string { return c.Err.Error() }

// Unwrap gives the cause.
func (c *Coded) Unwrap() error { return c.Err }

// Usage is an error of the command line (exit code 2).
func Usage(format string, args ...any) error {
	return &Coded{Code: ExitUsage, Err: fault.New(fault.Invalid, "command line", format, args...)}
}

// WithCode gives err an exit code. A nil err stays nil.
func WithCode(code int, err error) error {
	if err == nil {
		return nil
	}
	return &Coded{Code: code, Err: err}
}

// Code is the exit code for err: the one it has chosen, or the one of its kind.
func Code(err error) int {
	if err == nil {
		return ExitOK
	}
	if c, ok := errors.AsType[*Coded](err); ok {
		return c.Code
	}
	if fault.Is(err, fault.NotFound) {
		return ExitNotFound
	}
	if fault.Is(err, fault.Denied) {
		return ExitAuth
	}
	if dial, ok := errors.AsType[*net.OpError](err); ok && dial.Op == "dial" {
		return ExitConnect
	}
	return ExitFailed
}

type jsonError struct {
	Error string `json:"error"`
	Code  string `json:"code"`
	Exit  int    `json:"exit"`
	Hint  string `json:"hint,omitempty"`
}

// Report writes err to w, as a line and a hint or as one JSON object, and returns the exit code.
// A nil err writes nothing.
func Report(w io.Writer, err error, form Form) int {
	code := Code(err)
	if err == nil {
		return code
	}
	text, hint := plain(err), fault.HintOf(err)
	if form != FormJSON {
		text = string(format.AppendPrintable(nil, text, true)) // problems of a configuration are a line each
	}
	if form == FormJSON {
		_ = JSON(w, jsonError{Error: text, Code: codeNames[code], Exit: code, Hint: hint})
		return code
	}
	_, _ = fmt.Fprintf(w, "firth: %s\n", text)
	if hint != "" {
		_, _ = fmt.Fprintf(w, "hint: %s\n", hint)
	}
	return code
}

// plain leaves out the operation "command line": a person sees it anyway.
func plain(err error) string {
	return strings.TrimPrefix(err.Error(), "command line: ")
}

// JSON writes v as one line of JSON. HTML characters stay as they are.
func JSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// Table writes rows under a header, columns aligned by their widest cell and two spaces apart.
// Columns of numbers align to the right. Without rows only the header is written. Cells are made printable
// (format.Printable): others may have chosen the names in them.
func Table(w io.Writer, header []string, rows [][]string) error {
	rows = printable(rows)
	width := make([]int, len(header))
	right := make([]bool, len(header))
	for i, h := range header {
		width[i] = utf8.RuneCountInString(h)
		right[i] = len(rows) > 0
	}
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
			right[i] = right[i] && numeric(cell)
		}
	}
	var b strings.Builder
	for _, row := range append([][]string{header}, rows...) {
		writeRow(&b, row, width, right)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func printable(rows [][]string) [][]string {
	clean := make([][]string, len(rows))
	for i, row := range rows {
		clean[i] = make([]string, len(row))
		for j, cell := range row {
			clean[i][j] = format.Printable(cell)
		}
	}
	return clean
}

func writeRow(b *strings.Builder, row []string, width []int, right []bool) {
	var line strings.Builder
	for i, cell := range row {
		if i > 0 {
			line.WriteString("  ")
		}
		pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
		if right[i] {
			line.WriteString(pad + cell)
		} else {
			line.WriteString(cell + pad)
		}
	}
	b.WriteString(strings.TrimRight(line.String(), " "))
	b.WriteByte('\n')
}

func numeric(s string) bool {
	if s == "-" {
		return true
	}
	for i, c := range s {
		if (c < '0' || c > '9') && !(i == 0 && c == '-') {
			return false
		}
	}
	return s != ""
}
