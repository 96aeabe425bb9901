package catchup

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/mqtt/fanout"
)

// TestLane runs testdata: which cursors go along in which pass.
//
//	add            places of cursors that are ready; with back, their members came back
//	pass to=N      the cursors of the next pass; it comes to N, and those that it came to are ready again there;
//	               with near=M, those above M are near the head
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
					l.add(&fanout.Cursor{At: record.Offset(at), Willing: d.HasArg("back")})
				}
				l.merge()
				return places(l.ready)
			case "pass":
				to, near := 0, math.MaxInt
				d.ScanArgs(t, "to", &to)
				d.MaybeScanArgs(t, "near", &near)
				pass := l.begin(record.Offset(near))
				out := "pass: " + places(pass)
				for _, c := range pass {
					c.At = max(c.At, record.Offset(to))
				}
				for _, c := range l.ended(record.Offset(to), nil) {
					l.add(c)
				}
				l.merge()
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

// TestQueue holds a queue to what a slice would do.
func TestQueue(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var q queue[int]
	var model []int
	for n := range 100_000 {
		if rng.IntN(100) < 50+10*(n/20_000%2) {
			q.push(n)
			model = append(model, n)
		} else if len(model) > 0 {
			if got := q.pop(); got != model[0] {
				t.Fatalf("%d came out, not %d", got, model[0])
			}
			model = model[1:]
		}
		if q.len() != len(model) {
			t.Fatalf("%d are in it, not %d", q.len(), len(model))
		}
	}
}

// BenchmarkLane passes over a partition where many cursors stand at random places: what a pass costs must not grow with
// how many it does not come to.
func BenchmarkLane(b *testing.B) {
	for _, n := range []int{100, 10_000, 100_000} {
		b.Run(fmt.Sprintf("cursors=%d", n), func(b *testing.B) {
			rng := rand.New(rand.NewPCG(1, 2))
			const end = 1 << 30
			var l lane
			for range n {
				l.add(&fanout.Cursor{At: record.Offset(rng.IntN(end))})
			}
			var came []*fanout.Cursor
			for b.Loop() {
				to := l.begin(math.MaxInt64)[0].At + 1000
				came = l.ended(to, came[:0])
				for _, c := range came {
					c.At = record.Offset(rng.IntN(end))
					l.add(c)
				}
			}
		})
	}
}
