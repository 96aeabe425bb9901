package main

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
)

// small is a case that plays in no time.
func small(gateways int) fleet {
	f := issue14(gateways)
	f.sessions, f.messages, f.commands, f.shards, f.partitions, f.brokers = 100_000, 50_000, 500, 64, 32, 3
	return f
}

// TestLose keeps what must be so at each moment of a loss: no message is lost or made up, none leaves the log again,
// and who is served stays so.
func TestLose(t *testing.T) {
	for _, c := range []loss{{3, 1}, {3, 2}, {20, 1}, {100, 34}} {
		f := small(c.gateways)
		all := lose(f, c.lost)
		for i, m := range all[1:] {
			was := all[i] // the one before
			if lost := m.made - m.logged - m.waiting; math.Abs(lost) > 1e-6*m.made {
				t.Fatalf("%v: at %.2f s %g messages are neither in the log nor kept", c, m.at, lost)
			}
			if m.logged < was.logged || m.served < was.served || m.shards < was.shards || m.waiting < 0 ||
				m.served > m.shards+1e-9 || m.shards > 1 {
				t.Fatalf("%v: %+v follows %+v", c, m, was)
			}
		}
		served, drained := recovery(f, all)
		if served < noticed || served > drained || math.IsInf(drained, 1) {
			t.Errorf("%v: served after %g s, drained after %g s", c, served, drained)
		}
	}
}

// TestLoseTooMany has messages wait longer and longer where what is left cannot carry them, and still loses none.
func TestLoseTooMany(t *testing.T) {
	f := small(2)
	f.messages = 1.2 * f.carriedAtMost() / 2
	all := lose(f, 1)
	if _, drained := recovery(f, all); !math.IsInf(drained, 1) {
		t.Errorf("half of the gateways took all messages after %g s", drained)
	}
	if m := all[len(all)-1]; math.Abs(m.made-m.logged-m.waiting) > 1e-6*m.made {
		t.Errorf("%+v", m)
	}
}

// TestBounds: more gateways never use more memory each, batches never outnumber messages, and what is carried fits.
func TestBounds(t *testing.T) {
	was := issue14(1)
	for g := 2; g <= 100; g++ {
		f := issue14(g)
		if f.used("memory of gateways") > was.used("memory of gateways") {
			t.Errorf("%d gateways use more memory than %d", g, g-1)
		}
		if f.batches() > f.messages {
			t.Errorf("%d gateways: %g batches for %g messages", g, f.batches(), f.messages)
		}
		carried := f
		carried.messages = f.carried()
		if used := carried.bounds()[0].used; used > 1+1e-9 {
			t.Errorf("%d gateways carry %g messages/s with %g of what there is", g, carried.messages, used)
		}
		was = f
	}
}

// TestPrints draws plots that are XML, and tables without what is no number.
func TestPrints(t *testing.T) {
	var text strings.Builder
	tables(&text)
	if strings.Contains(text.String(), "NaN") || strings.Contains(text.String(), "Inf") {
		t.Error(text.String())
	}
	for _, svg := range []string{boundsPlot(), lossPlot()} {
		d := xml.NewDecoder(strings.NewReader(svg))
		for {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
		if strings.Contains(svg, "NaN") {
			t.Error("a plot has what is no number")
		}
	}
}
