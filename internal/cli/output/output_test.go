package output

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/kit/fault"
)

func TestTable(t *testing.T) {
	var b strings.Builder
	rows := [][]string{{"sensors", "1", "-"}, {"a", "12", "-1"}}
	if err := Table(&b, []string{"TOPIC", "N", "LAG"}, rows); err != nil {
		t.Fatal(err)
	}
	want := "TOPIC     N  LAG\nsensors   1    -\na        12   -1\n"
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}

func TestTableOfNothingIsItsHeader(t *testing.T) {
	var b strings.Builder
	if err := Table(&b, []string{"TOPIC", "N"}, nil); err != nil {
		t.Fatal(err)
	}
	if b.String() != "TOPIC  N\n" {
		t.Errorf("got %q", b.String())
	}
}

func TestCode(t *testing.T) {
	_, dialErr := net.Dial("tcp", "127.0.0.1:1")
	cases := []struct {
		err  error
		want int
	}{
		{nil, ExitOK},
		{errors.New("x"), ExitFailed},
		{Usage("no topic"), ExitUsage},
		{dialErr, ExitConnect},
		{fmt.Errorf("deep: %w", fault.New(fault.Denied, "x", "no")), ExitAuth},
		{fault.New(fault.NotFound, "x", "no topic"), ExitNotFound},
		{WithCode(ExitCheck, fault.New(fault.NotFound, "x", "no topic")), ExitCheck},
	}
	for _, c := range cases {
		if got := Code(c.err); got != c.want {
			t.Errorf("Code(%v) = %d, want %d", c.err, got, c.want)
		}
	}
	if WithCode(ExitCheck, nil) != nil {
		t.Error("a nil error must stay nil")
	}
}

func TestReport(t *testing.T) {
	err := fault.New(fault.NotFound, "topic", "no topic %q", "x<y").WithHint("firth topic list")
	var b strings.Builder
	if code := Report(&b, err, FormTable); code != ExitNotFound {
		t.Errorf("code %d", code)
	}
	if want := "firth: topic: no topic \"x<y\"\nhint: firth topic list\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
	b.Reset()
	Report(&b, err, FormJSON)
	var got map[string]any
	if e := json.Unmarshal([]byte(b.String()), &got); e != nil {
		t.Fatal(e)
	}
	if got["code"] != "not_found" || got["exit"] != 5.0 || got["hint"] != "firth topic list" ||
		got["error"] != `topic: no topic "x<y"` {
		t.Errorf("got %v", got)
	}
	b.Reset()
	if Report(&b, nil, FormTable) != ExitOK || b.Len() != 0 {
		t.Errorf("a nil error wrote %q", b.String())
	}
}

func TestFormRefusesTheUnknown(t *testing.T) {
	var f Form
	if err := f.Set("yaml"); err == nil {
		t.Error("yaml was taken")
	}
	if err := f.Set("json"); err != nil || f != FormJSON {
		t.Errorf("got %v, %v", f, err)
	}
}

// TestScreen: no control character gets through, whoever cuts the text wherever.
func TestScreen(t *testing.T) {
	const text = "a\x1b[2Jb\n\tgrün €🌊 \u009b \xff \xe2\x82"
	const want = "a\\u001b[2Jb\n\tgrün €🌊 \\u009b \\xff \\xe2\\x82"
	for step := 1; step <= len(text); step++ {
		var b strings.Builder
		s := &Screen{Raw: &b}
		for rest := text; rest != ""; {
			n, err := s.Write([]byte(rest[:min(step, len(rest))]))
			if err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
		if b.String() != want {
			t.Fatalf("in steps of %d: %q, want %q", step, b.String(), want)
		}
	}
}

// TestForeignNamesInTablesAndErrors (F38, F44): a name with control characters forges no line, terminal or not.
func TestForeignNamesInTablesAndErrors(t *testing.T) {
	var b strings.Builder
	rows := [][]string{{"a\nb", "1"}, {"\x1b[2J", "22"}}
	if err := Table(&b, []string{"GROUP", "N"}, rows); err != nil {
		t.Fatal(err)
	}
	if want := "GROUP       N\na\\u000ab    1\n\\u001b[2J  22\n"; b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
	if rows[0][0] != "a\nb" {
		t.Error("the caller's rows were changed")
	}
	b.Reset()
	Report(&b, fault.New(fault.NotFound, "topic x\r\x1b[2K", "no such topic"), FormTable)
	if want := "firth: topic x\\u000d\\u001b[2K: no such topic\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}
