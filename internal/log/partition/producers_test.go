package partition

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/firthmq/firth/internal/kit/alloctest"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
)

// batchOf builds a sealed batch with the sequence numbers first..last of a producer.
func batchOf(t testing.TB, id int64, epoch int16, first, last int32) record.Batch {
	t.Helper()
	var bu record.Builder
	bu.Reset(nil, 1000)
	for n := first; ; n = next(n) {
		bu.Append(&record.Record{Value: []byte("v"), Timestamp: 1000})
		if n == last {
			break
		}
	}
	bu.SetProducer(id, epoch, first)
	return bu.Seal(0, 1)
}

// TestProducers plays testdata/producers.txt. A command is a line:
//
//	send ID/EPOCH FIRST LAST gGROUP     Check, and Add as pending where it is new
//	replay ID/EPOCH FIRST LAST BASE     Add as durable, as recovery does
//	settle ID/EPOCH FIRST LAST gGROUP BASE
//	offset ID/EPOCH FIRST
//	rollback gGROUP; expire TIME; checkpoint; show
//
// The time of a batch in unix milliseconds is the argument now of the block.
func TestProducers(t *testing.T) {
	var ps *Producers
	datadriven.RunTest(t, "testdata/producers.txt", func(t *testing.T, d *datadriven.TestData) string {
		if d.Cmd == "new" {
			ps = &Producers{}
			return ""
		}
		var now int64
		d.MaybeScanArgs(t, "now", &now)
		var out strings.Builder
		for line := range strings.SplitSeq(d.Input, "\n") {
			if answer := act(t, &ps, line, now); answer != "" {
				fmt.Fprintln(&out, answer)
			}
		}
		return out.String()
	})
}

// act does one line of a play.
func act(t *testing.T, ps **Producers, line string, now int64) string {
	t.Helper()
	verb, rest, _ := strings.Cut(line, " ")
	var id, until int64
	var epoch int16
	var first, last int32
	var group uint64
	var base record.Offset
	scan := func(form string, into ...any) {
		if _, err := fmt.Sscanf(rest, form, into...); err != nil {
			t.Fatalf("%q is not %q: %v", line, form, err)
		}
	}
	switch verb {
	case "send":
		scan("%d/%d %d %d g%d", &id, &epoch, &first, &last, &group)
		b := batchOf(t, id, epoch, first, last)
		duplicate, err := (*ps).Check(b)
		switch {
		case err != nil:
			return fault.KindOf(err).String()
		case duplicate:
			return "duplicate"
		}
		(*ps).Add(b, Pending, group, now)
		return "new"
	case "replay":
		scan("%d/%d %d %d %d", &id, &epoch, &first, &last, &base)
		(*ps).Add(batchOf(t, id, epoch, first, last), base, 0, now)
	case "settle":
		scan("%d/%d %d %d g%d %d", &id, &epoch, &first, &last, &group, &base)
		b := batchOf(t, id, epoch, first, last)
		b.SetBaseOffset(base)
		(*ps).Settle(b, group)
	case "offset":
		scan("%d/%d %d", &id, &epoch, &first)
		if base, ok := (*ps).Offset(id, epoch, first); ok {
			return fmt.Sprint(base)
		}
		return "unknown"
	case "rollback":
		scan("g%d", &group)
		(*ps).Rollback(group)
	case "expire":
		scan("%d", &until)
		(*ps).Expire(until)
	case "checkpoint":
		restored := &Producers{}
		for _, id := range (*ps).IDs() {
			(*ps).Of(id, func(s Sent) { restored.Restore(id, s) })
		}
		*ps = restored
	case "show":
		return show(*ps)
	default:
		t.Fatalf("%q: no such verb", line)
	}
	return ""
}

// show lists what is remembered, by producer, oldest first.
func show(ps *Producers) string {
	if ps.Len() == 0 {
		return "nobody"
	}
	ids := make([]int64, 0, ps.Len())
	for id := range ps.byID {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	var lines []string
	for _, id := range ids {
		line := fmt.Sprintf("%d:", id)
		for _, s := range ps.byID[id].sent {
			place := fmt.Sprintf("g%d", s.Group)
			if s.Base != Pending {
				place = fmt.Sprint(s.Base)
			}
			line += fmt.Sprintf(" %d/%d-%d@%s", s.Epoch, s.First, s.Last, place)
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

// TestCheckIsQuiet guards the hot path: judging and remembering a batch of a known producer allocates nothing.
func TestCheckIsQuiet(t *testing.T) {
	var ps Producers
	b := batchOf(t, 7, 0, 0, 0)
	ps.Add(b, 0, 0, 0)
	again := batchOf(t, 7, 0, 0, 0)
	if n := alloctest.PerRun(100, 0, func() {
		if duplicate, err := ps.Check(again); !duplicate || err != nil {
			t.Fatal(duplicate, err)
		}
	}); n != 0 {
		t.Errorf("Check allocates %v times", n)
	}
}
