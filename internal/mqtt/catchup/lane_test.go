package catchup

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/mqtt/fanout"
)

// TestLane runs testdata: which cursors go along in which pass.
//
//	add            places of cursors that are ready
//	pass to=N      the cursors of the next pass; it comes to N, and those that it came to are ready again there
func TestLane(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		var l lane
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "add":
				for place := range strings.FieldsSeq(d.Input) {
					at, err := strconv.Atoi(place)
					if err != nil {
						return err.Error()
					}
					l.add(&fanout.Cursor{At: record.Offset(at)})
				}
				return places(l.ready)
			case "pass":
				var to int
				d.ScanArgs(t, "to", &to)
				pass := l.next(nil)
				out := "pass: " + places(pass)
				for _, c := range pass {
					c.At = max(c.At, record.Offset(to))
					l.add(c)
				}
				l.passed = record.Offset(to)
				return out + "\nready: " + places(l.ready)
			}
			d.Fatalf(t, "unknown command %q", d.Cmd)
			return ""
		})
	})
}

func places(cs []*fanout.Cursor) string {
	var at []record.Offset
	for _, c := range cs {
		at = append(at, c.At)
	}
	return fmt.Sprint(at)
}
