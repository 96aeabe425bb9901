package node

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

func TestLastLines(t *testing.T) {
	var out bytes.Buffer
	l := &lastLines{out: &out}
	for n := range mostLines + 7 {
		fmt.Fprintf(l, "line %d\n", n)
	}
	got := strings.Split(strings.TrimSpace(string(l.text())), "\n")
	if len(got) != mostLines || got[0] != "line 7" || got[mostLines-1] != fmt.Sprintf("line %d", mostLines+6) {
		t.Errorf("%d lines, from %q to %q", len(got), got[0], got[len(got)-1])
	}
	if n := strings.Count(out.String(), "\n"); n != mostLines+7 {
		t.Errorf("%d lines were passed on", n)
	}
	if n, err := l.Write(bytes.Repeat([]byte("x"), 3*longLine)); n != 3*longLine || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if text := l.text(); !bytes.HasSuffix(text, append([]byte("\n"), bytes.Repeat([]byte("x"), longLine)...)) {
		t.Error("a long line is not cut")
	}
}
