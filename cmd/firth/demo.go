package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/firthmq/firth/internal/apps/demo"
	"github.com/firthmq/firth/internal/cli/output"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/node"
)

type demoFlags struct {
	devices            int
	interval, duration time.Duration
	plain              bool
}

func newDemoCommand() *cobra.Command {
	var f demoFlags
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See it at work: a simulated fleet, and what a Kafka consumer group reads of it",
		Long: `See it at work. A node starts on a temporary directory; simulated thermostats and trucks connect to
it with MQTT and publish at QoS 1; a Kafka consumer group reads the same records, and a Kafka producer
sends commands back to the trucks. Everything goes over real connections, which other clients may join.
Ctrl-C ends it and removes the directory.`,
		Example: `  firth demo
  firth demo --devices 500 --interval 200ms
  firth demo --plain --duration 10s`,
		Args: cobra.NoArgs,
	}
	flags := cmd.Flags()
	flags.IntVar(&f.devices, "devices", 50, "how many devices to simulate")
	flags.DurationVar(&f.interval, "interval", time.Second,
		"time between two messages of a thermostat; trucks send twice as often")
	flags.DurationVar(&f.duration, "duration", 0, "end after this time; 0: at Ctrl-C")
	flags.BoolVar(&f.plain, "plain", false, "print a line a second instead of drawing; the default without a terminal")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return runDemo(cmd, f) }
	return cmd
}

// runDemo starts a node in this process, plays the demo against it, and takes both down again.
func runDemo(cmd *cobra.Command, f demoFlags) (err error) {
	if f.devices < 1 {
		return output.Usage("--devices is at least 1")
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "firth-demo-")
	if err != nil {
		return fault.Wrap(fault.IO, "demo", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	n, err := startDemoNode(ctx, dir)
	if err != nil {
		return err
	}
	a := n.Addresses()
	o := demo.Options{MQTT: a.MQTT, Kafka: a.Kafka, Devices: f.devices, Interval: f.interval, Duration: f.duration,
		Out: cmd.OutOrStdout(), Data: dir}
	terminal(&o, cmd.OutOrStdout(), f.plain)
	err = demo.Run(ctx, o)
	return errors.Join(err, n.Close())
}

// startDemoNode starts a node on the ports that people know, or on free ones if those are taken.
func startDemoNode(ctx context.Context, dir string) (*node.Node, error) {
	begin := func(mqtt, kafka string) (*node.Node, error) {
		c := node.Default()
		c.Data, c.Logger = dir, slog.New(slog.DiscardHandler)
		c.Listen.MQTT, c.Listen.Kafka, c.Listen.WS, c.Listen.HTTP = mqtt, kafka, "", ""
		return node.Start(ctx, c)
	}
	const mqttPort, kafkaPort, free = "localhost:1883", "localhost:9092", "localhost:0"
	var n *node.Node
	var err error
	for _, try := range [][2]string{{mqttPort, kafkaPort}, {free, kafkaPort}, {mqttPort, free}, {free, free}} {
		if n, err = begin(try[0], try[1]); !fault.Is(err, fault.Exists) {
			break
		}
	}
	return n, err
}

// terminal has the demo drawn in place where out is a terminal.
func terminal(o *demo.Options, out io.Writer, plain bool) {
	raw, ok := unscreened(out)
	f, isFile := raw.(*os.File)
	if !ok || !isFile || plain || os.Getenv("TERM") == "dumb" {
		return
	}
	o.Out = raw // it moves the cursor; what it shows is its own
	o.Live, o.Color = true, os.Getenv("NO_COLOR") == ""
	o.Size = func() (width, height int) {
		width, height, err := term.GetSize(int(f.Fd()))
		if err != nil || width < 1 || height < 1 {
			return 80, 24
		}
		return width, height
	}
}
