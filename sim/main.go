// Command sim calculates what many gateways before one Kafka cluster would do, from costs that were measured: what
// bounds them first, what each node reads, and how long devices wait when a gateway or a zone is lost.
//
//	go run ./sim                  # prints the tables
//	go run ./sim bounds > a.svg   # or one of the plots: bounds, loss
package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"time"
)

func main() {
	what := "tables"
	if len(os.Args) > 1 {
		what = os.Args[1]
	}
	switch what {
	case "tables":
		tables(os.Stdout)
	case "bounds":
		fmt.Fprint(os.Stdout, boundsPlot())
	case "loss":
		fmt.Fprint(os.Stdout, lossPlot())
	default:
		fmt.Fprintln(os.Stderr, "usage: sim [tables | bounds | loss]")
		os.Exit(2)
	}
}

// tables prints what docs/design/0017-beyond-one-cluster.md shows.
func tables(out io.Writer) {
	fmt.Fprint(out, "| gateways | a batch waits for | bound first | used of it | then | used of it | carried |\n"+
		"|---|---|---|---|---|---|---|\n")
	for _, gateways := range []int{1, 10, 20, 100} {
		for _, linger := range []time.Duration{5 * time.Millisecond, 50 * time.Millisecond, 500 * time.Millisecond} {
			f := issue14(gateways)
			f.linger = linger
			all := f.bounds()
			fmt.Fprintf(out, "| %d | %v | %s | %.2f | %s | %.2f | %.2f million/s |\n", gateways, linger, all[0].name,
				all[0].used, all[1].name, all[1].used, f.carried()/1e6)
		}
	}
	fmt.Fprint(out, "\n| commands/s, of all | tailed a node | all 100 nodes, of the network of brokers |\n|---|---|---|\n")
	for _, commands := range []float64{5e3, 50e3, 500e3, 5e6} {
		f := issue14(100)
		f.commands = commands
		fmt.Fprintf(out, "| %.0f | %.0f MB/s | %.2f |\n", commands, f.tailed()/1e6, f.used("network of brokers"))
	}
	f := issue14(10)
	f.direct = true
	fmt.Fprintf(out, "\n10 gateways, devices led to the right one: %s %.2f\n", f.bounds()[0].name, f.bounds()[0].used)
	fmt.Fprint(out, "\n| shards | 10 gateways: CPU | 100 gateways: CPU | QoS 2, 1 % | 10 % | all |\n"+
		"|---|---|---|---|---|---|\n")
	for _, shards := range []int{64, 256, 1024, 4096} {
		fmt.Fprintf(out, "| %d |", shards)
		for _, gateways := range []int{10, 100} {
			f := issue14(gateways)
			f.shards = shards
			fmt.Fprintf(out, " %.2f |", f.used("CPU of gateways"))
		}
		for _, share := range []float64{0.01, 0.1, 1} {
			f := issue14(100)
			f.shards, f.transacted = shards, share
			fmt.Fprintf(out, " %.2f |", f.used("shards, by QoS 2"))
		}
		fmt.Fprintln(out)
	}
	losts(out)
}

// losts prints how long a loss is felt.
func losts(out io.Writer) {
	fmt.Fprint(out, "\n| lost | 64 shards | 256 | 1024 | 4096 | nothing waits, 1024 shards |\n|---|---|---|---|---|---|\n")
	for _, c := range losses {
		fmt.Fprintf(out, "| %s |", c.name())
		for _, shards := range []int{64, 256, 1024, 4096} {
			f := issue14(c.gateways)
			f.shards = shards
			served, _ := recovery(f, lose(f, c.lost))
			fmt.Fprintf(out, " %s |", seconds(served))
		}
		f := issue14(c.gateways)
		_, drained := recovery(f, lose(f, c.lost))
		fmt.Fprintf(out, " %s |\n", seconds(drained))
	}
}

func seconds(s float64) string {
	if math.IsInf(s, 1) {
		return "never"
	}
	return fmt.Sprintf("%.1f s", s)
}

// loss is one of the cases that are played.
type loss struct{ gateways, lost int }

func (l loss) name() string {
	if l.lost == 1 {
		return fmt.Sprintf("1 of %d gateways", l.gateways)
	}
	return fmt.Sprintf("a zone of %d of %d", l.lost, l.gateways)
}

var losses = [...]loss{{20, 1}, {20, 7}, {100, 1}, {100, 34}}
