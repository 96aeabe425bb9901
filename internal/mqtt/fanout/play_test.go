package fanout

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/log/record"
)

// TestPlays runs testdata: what the pure parts do, step by step.
//
//	rules             mapping rules, "filter -> log topic"; interest begins anew
//	add, remove       filters, one a line: whether one is the first that begins so, or the last
//	wanted            log topics, one a line
//	news              "from epoch" a line: records from an offset on became news; the epochs that are kept
//	epoch             offsets, one a line
//	forget at=N       what is not needed for records from an offset on
func TestPlays(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		p := &play{t: t}
		p.rules("")
		datadriven.RunTest(t, path, p.run)
	})
}

type play struct {
	t        *testing.T
	table    *hinge.Table
	interest interest
	epochs   epochs
}

func (p *play) run(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	switch d.Cmd {
	case "rules":
		p.rules(d.Input)
		return "ok"
	case "add":
		return lines(d, func(line string) string { return fmt.Sprint(line, ": first ", p.interest.add(line)) })
	case "remove":
		return lines(d, func(line string) string { return fmt.Sprint(line, ": last ", p.interest.remove(line)) })
	case "wanted":
		return lines(d, func(line string) string { return fmt.Sprint(line, ": ", p.interest.in(p.table, line)) })
	case "news":
		lines(d, func(line string) string {
			var from, epoch int
			p.scan(line, "%d %d", &from, &epoch)
			p.epochs = p.epochs.add(record.Offset(from), uint64(epoch))
			return ""
		})
		return fmt.Sprint(p.epochs)
	case "epoch":
		return lines(d, func(line string) string {
			var offset int
			p.scan(line, "%d", &offset)
			if epoch := p.epochs.at(record.Offset(offset)); epoch != unheard {
				return fmt.Sprintf("%d: %d", offset, epoch)
			}
			return fmt.Sprintf("%d: from before", offset)
		})
	case "forget":
		var at int
		d.ScanArgs(t, "at", &at)
		p.epochs = p.epochs.forget(record.Offset(at))
		return fmt.Sprintf("%d are kept, the first is %v", len(p.epochs), p.epochs[0])
	}
	d.Fatalf(t, "unknown command %q", d.Cmd)
	return ""
}

func (p *play) rules(input string) {
	p.t.Helper()
	var rules []hinge.Rule
	for line := range strings.SplitSeq(input, "\n") {
		if filter, topic, ok := strings.Cut(line, " -> "); ok {
			rules = append(rules, hinge.Rule{MQTT: filter, Topic: topic})
		}
	}
	var err error
	if p.table, err = hinge.New(rules, hinge.Options{}); err != nil {
		p.t.Fatal(err)
	}
	p.interest = interest{}
}

func (p *play) scan(line, format string, into ...any) {
	p.t.Helper()
	if _, err := fmt.Sscanf(line, format, into...); err != nil {
		p.t.Fatalf("%q: %v", line, err)
	}
}

func lines(d *datadriven.TestData, one func(line string) string) string {
	var out []string
	for line := range strings.SplitSeq(d.Input, "\n") {
		out = append(out, one(line))
	}
	return strings.Join(out, "\n")
}
