package store

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/firthmq/firth/internal/log/journal"
)

// TestPlan plays testdata/plan: the plan of recovery for what is found. A line of a block is one of
//
//	checkpoint FILE POS            its place
//	ended FILE POS                 it knows where a journal ended
//	file NAME                      in the log folder
//	journal NUMBER PREVIOUS END    a journal with a good header, and what that says
//	blank NUMBER; damaged NUMBER   a journal without one
func TestPlan(t *testing.T) {
	datadriven.RunTest(t, "testdata/plan.txt", func(t *testing.T, d *datadriven.TestData) string {
		f := found{heads: make(map[uint64]head)}
		for line := range strings.SplitSeq(d.Input, "\n") {
			if line != "" {
				f.add(t, line)
			}
		}
		p := planOf(&f)
		return p.String()
	})
}

func (f *found) add(t *testing.T, line string) {
	t.Helper()
	verb, rest, _ := strings.Cut(line, " ")
	var number uint64
	var err error
	switch verb {
	case "checkpoint":
		_, err = fmt.Sscan(rest, &f.place.File, &f.place.Pos)
	case "ended":
		var at place
		_, err = fmt.Sscan(rest, &at.File, &at.Pos)
		f.ends = append(f.ends, at)
	case "file":
		f.names = append(f.names, rest)
	case "journal":
		var h journal.Header
		_, err = fmt.Sscan(rest, &h.Number, &h.Previous, &h.PrevEnd)
		h.Nonce = 100 + h.Number
		f.names = append(f.names, journal.Name(h.Number))
		f.heads[h.Number] = head{Header: h}
	case "blank", "damaged":
		_, err = fmt.Sscan(rest, &number)
		state := headBlank
		if verb == "damaged" {
			state = headDamaged
		}
		f.names = append(f.names, journal.Name(number))
		f.heads[number] = head{state: state}
	default:
		t.Fatalf("%q: no such verb", line)
	}
	if err != nil {
		t.Fatalf("%q: %v", line, err)
	}
}

// String is the plan for people.
func (p *plan) String() string {
	var b strings.Builder
	for _, s := range p.steps {
		fmt.Fprintf(&b, "%s %s", strings.TrimPrefix(s.name, logDir+"/"), [...]string{"segment", "journal", "headless"}[s.how])
		if s.how != asSegment {
			switch s.limits.Trust {
			case 0:
			case math.MaxInt64:
				b.WriteString(", trusted")
			default:
				fmt.Fprintf(&b, ", trusted to %d", s.limits.Trust)
			}
			if s.limits.End > 0 {
				fmt.Fprintf(&b, ", ends at %d", s.limits.End)
			}
			if s.limits.Nonce > 0 {
				fmt.Fprintf(&b, ", nonce %d", s.limits.Nonce)
			}
			if s.fresh {
				b.WriteString(", to sync")
			}
			if s.blank {
				b.WriteString(", maybe of an earlier life")
			}
		}
		b.WriteString("\n")
	}
	for _, name := range p.extras {
		fmt.Fprintf(&b, "%s goes\n", strings.TrimPrefix(name, logDir+"/"))
	}
	for _, f := range p.findings {
		fmt.Fprintf(&b, "%s %s\n", strings.TrimPrefix(f.File, logDir+"/"), f.What)
	}
	fmt.Fprintf(&b, "next is %d\n", p.next)
	return b.String()
}
