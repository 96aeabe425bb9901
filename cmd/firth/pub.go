package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/firthmq/firth/internal/cli/output"
	"github.com/firthmq/firth/internal/kit/clock"
	"github.com/firthmq/firth/internal/mqtt/client"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/names"
)

type pubFlags struct {
	*mqttFlags
	topic, message, file string
	lines, null, stdin   bool
	retain               bool
	inflight             int
	repeat               int
	repeatDelay          float64
}

func newPubCommand() *cobra.Command {
	f := &pubFlags{}
	cmd := &cobra.Command{
		Use:   "pub -t TOPIC {-m MESSAGE | -f FILE | -l | -n | -s}",
		Short: "Publish with MQTT",
		Long: `Publish with MQTT. The flags are those of mosquitto_pub. With QoS 1 and 2 it ends when the server
has acknowledged, which Firth does once the message is on the disk.`,
		Example: `  firth pub -t sensors/room1/temp -m 21.5 -q 1
  firth pub -t fleet/truck-7/position -f position.json -r
  seq 1000 | firth pub -t sensors/room1/count -l -q 1 -D publish user-property unit none`,
		DisableFlagsInUseLine: true,
	}
	f.mqttFlags = addMQTTFlags(cmd)
	flags := cmd.Flags()
	flags.StringVarP(&f.topic, "topic", "t", "", "`topic` name to publish to")
	flags.StringVarP(&f.message, "message", "m", "", "the `message`")
	flags.StringVarP(&f.file, "file", "f", "", "the contents of `file` as one message")
	flags.BoolVarP(&f.lines, "stdin-line", "l", false, "each line of standard input as a message")
	flags.BoolVarP(&f.stdin, "stdin-file", "s", false, "all of standard input as one message")
	flags.BoolVarP(&f.null, "null-message", "n", false, "an empty message; with -r it clears what is retained")
	flags.BoolVarP(&f.retain, "retain", "r", false, "retain the message")
	flags.IntVarP(&f.inflight, "max-inflight", "M", 0, "messages in flight at QoS 1 and 2 (default 1024)")
	flags.IntVar(&f.repeat, "repeat", 1, "send the message `N` times")
	flags.Float64Var(&f.repeatDelay, "repeat-delay", 0, "`seconds` between them")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := f.check(cmd, args); err != nil {
			return err
		}
		return publish(cmd, f)
	}
	return cmd
}

func (f *pubFlags) check(cmd *cobra.Command, args []string) error {
	fromURL, err := f.settle(args)
	if err != nil {
		return err
	}
	if f.topic == "" {
		f.topic = fromURL
	}
	sources := 0
	for _, given := range []bool{cmd.Flags().Changed("message"), f.file != "", f.lines, f.null, f.stdin} {
		if given {
			sources++
		}
	}
	switch {
	case f.topic == "":
		return output.Usage("-t is missing: which topic?")
	case names.CheckName([]byte(f.topic)) != nil:
		return output.Usage("%q is no topic name: %w", f.topic, names.CheckName([]byte(f.topic)))
	case sources != 1:
		return output.Usage("give the message by exactly one of -m, -f, -l, -n, -s")
	case f.repeat < 1 || f.repeatDelay < 0 || f.repeatDelay > math.MaxInt32:
		return output.Usage("--repeat and --repeat-delay do not make sense")
	}
	return nil
}

// pending collects what the server answered.
type pending struct {
	refused chan struct{} // gets a token when something was refused; nil: nobody waits

	mu    sync.Mutex
	first error
}

func (p *pending) ack(_ uint64, reason packet.ReasonCode, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.first != nil {
		return
	}
	if err != nil {
		p.first = err
	} else if reason.Failed() {
		p.first = fails("publish", reason)
	}
	if p.first == nil {
		return
	}
	select {
	case p.refused <- struct{}{}:
	default: // a token is there, or nobody waits
	}
}

func (p *pending) failed() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.first
}

func (p *pending) isRefused() bool { return p.failed() != nil }

func publish(cmd *cobra.Command, f *pubFlags) error {
	o, err := f.options()
	if err != nil {
		return err
	}
	var answers pending
	o.OnAck, o.Inflight = answers.ack, f.inflight
	payload, err := f.payload(cmd)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	c, err := f.connect(ctx, o)
	if err != nil {
		return err
	}
	f.connected(cmd, c.Server())
	if f.lines {
		sent := make(chan error, 1)
		go func() { sent <- f.sendLines(ctx, cmd, c, &answers) }() // a read from a terminal cannot be interrupted
		select {
		case err = <-sent:
		case <-ctx.Done():
		}
	} else {
		err = f.sendRepeated(ctx, c, payload, &answers)
	}
	if ctx.Err() != nil { // interrupted: what is under way may still arrive
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
	}
	drained := c.Drain(ctx)
	closed := c.Close()
	f.note(cmd, "disconnected")
	for _, err := range []error{answers.failed(), err, drained, closed} {
		if err != nil {
			return err
		}
	}
	return nil
}

// payload reads the message, except for -l.
func (f *pubFlags) payload(cmd *cobra.Command) ([]byte, error) {
	switch {
	case f.file != "":
		b, err := os.ReadFile(f.file)
		if err != nil {
			return nil, output.Usage("%w", err)
		}
		return b, nil
	case f.stdin:
		return io.ReadAll(io.LimitReader(cmd.InOrStdin(), packet.MaxSize))
	}
	return []byte(f.message), nil
}

func (f *pubFlags) packet(payload []byte) *packet.Publish {
	return &packet.Publish{Topic: []byte(f.topic), Payload: payload, QoS: byte(f.qos), Retain: f.retain,
		Props: *f.propertiesOf("publish")}
}

// byAlias leaves out the topic of further messages where the first has set an alias for it.
func byAlias(p *packet.Publish) {
	if p.Props.Has(packet.PropTopicAlias) {
		p.Topic = nil
	}
}

func (f *pubFlags) sendRepeated(ctx context.Context, c *client.Client, payload []byte, answers *pending) error {
	p := f.packet(payload)
	for i := range f.repeat {
		if i > 0 && f.repeatDelay > 0 && clock.Pause(ctx, time.Duration(f.repeatDelay*float64(time.Second))) != nil {
			return nil //nolint:nilerr // an interruption is how a command is ended
		}
		if err := c.Publish(p, uint64(i)); err != nil || answers.isRefused() || ctx.Err() != nil {
			return err
		}
		byAlias(p)
	}
	return nil
}

func (f *pubFlags) sendLines(ctx context.Context, cmd *cobra.Command, c *client.Client, answers *pending) error {
	in := bufio.NewReaderSize(cmd.InOrStdin(), 1<<16)
	p := f.packet(nil)
	for n := uint64(0); ctx.Err() == nil && !answers.isRefused(); n++ {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 {
			p.Payload = bytes.TrimSuffix(line, []byte("\n"))
			if err := c.Publish(p, n); err != nil {
				return err
			}
			byAlias(p)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}
