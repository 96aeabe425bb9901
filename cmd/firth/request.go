package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"io"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/firthmq/firth/internal/cli/format"
	"github.com/firthmq/firth/internal/cli/output"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/mqtt/client"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/names"
)

type requestFlags struct {
	*mqttFlags
	topic, message, response, format string
	count                            int
	timeout                          float64
}

func newRequestCommand() *cobra.Command {
	f := &requestFlags{}
	cmd := &cobra.Command{
		Use:   "request -t TOPIC -m MESSAGE",
		Short: "Publish a request with MQTT 5, and print the response",
		Long: `Publish a request with MQTT 5, and print the response. The message says where the response is to go, its
Response Topic, and by what it is known, its Correlation Data. Who responds may be a device,
firth sub --respond, or a Kafka consumer that produces a record with the same correlation-data header
(docs/requests.md).

The flags are those of mosquitto_rr, and the format is that of firth sub. Without a response within the time it fails.`,
		Example: `  firth request -t plant/7/valve -m open
  firth request -t plant/7/valve -m open -e answers/me -W 5 -F '%t %p'
  firth request -t plant/all/ping -m . -C 3 -W 2`,
		DisableFlagsInUseLine: true,
	}
	f.mqttFlags = addMQTTFlags(cmd)
	flags := cmd.Flags()
	flags.StringVarP(&f.topic, "topic", "t", "", "`topic` name to publish the request to")
	flags.StringVarP(&f.message, "message", "m", "", "the `message`")
	flags.StringVarP(&f.response, "response-topic", "e", "",
		"`topic` name for the response (default responses/ and a name of its own)")
	flags.StringVarP(&f.format, "format", "F", "%p", "how to print a response, a `format` of firth sub")
	flags.IntVarP(&f.count, "count", "C", 1, "wait for `N` responses")
	flags.Float64VarP(&f.timeout, "timeout", "W", 10, "wait for so many `seconds`")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := f.check(args); err != nil {
			return err
		}
		return f.request(cmd)
	}
	return cmd
}

func (f *requestFlags) check(args []string) error {
	fromURL, err := f.settle(args)
	if err != nil {
		return err
	}
	if f.topic == "" {
		f.topic = fromURL
	}
	if f.response == "" {
		f.response = "responses/" + random()
	}
	for flag, topic := range map[string]string{"-t": f.topic, "-e": f.response} {
		if err := names.CheckName([]byte(topic)); err != nil {
			return output.Usage("%s: %q is no topic name: %w", flag, topic, err)
		}
	}
	switch {
	case parseVersion(f.version) != packet.V5:
		return output.Usage("only MQTT 5 has requests and responses")
	case f.count < 1 || f.timeout <= 0:
		return output.Usage("a number is out of its range")
	}
	return nil
}

func random() string {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// request subscribes, publishes, and prints what comes with the same correlation data.
func (f *requestFlags) request(cmd *cobra.Command) error {
	spec, err := format.ParseMQTT(f.format)
	if err != nil {
		return output.WithCode(output.ExitUsage, err)
	}
	o, err := f.options()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	timed, cancel := context.WithTimeout(ctx, time.Duration(f.timeout*float64(time.Second)))
	defer cancel()
	p := packet.Publish{Topic: []byte(f.topic), Payload: []byte(f.message), QoS: byte(f.qos),
		Props: *f.propertiesOf("publish")}
	p.Props.SetResponseTopic([]byte(f.response))
	if !p.Props.Has(packet.PropCorrelationData) {
		p.Props.SetCorrelationData([]byte(random()))
	}
	answers := pending{refused: make(chan struct{}, 1)}
	responses := make(chan []byte, 1024)
	o.OnAck = answers.ack
	o.OnMessage = func(r *packet.Publish) {
		if !bytes.Equal(r.Props.CorrelationData, p.Props.CorrelationData) {
			return // of another request
		}
		line, err := spec.AppendTo(nil, message(r, time.Now()))
		if err != nil {
			return
		}
		select {
		case responses <- append(line, '\n'):
		default: // nobody asked for so many
		}
	}
	c, err := f.connect(timed, o)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // all was said
	if err := f.send(timed, c, &p); err != nil {
		return err
	}
	for n := range f.count {
		err := f.await(timed, c, &answers, responses, cmd.OutOrStdout())
		if ctx.Err() == nil && timed.Err() != nil {
			return fault.New(fault.Timeout, "request", "%d of %d responses came within %g s", n, f.count, f.timeout).
				WithHint("does anybody respond? firth sub -t %s --respond '%%p' does", f.topic)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// await prints the next response.
func (f *requestFlags) await(
	ctx context.Context, c *client.Client, answers *pending, responses <-chan []byte, out io.Writer,
) error {
	select {
	case line := <-responses:
		_, err := out.Write(line)
		return err
	case <-c.Done():
		return c.Err()
	case <-answers.refused:
		return answers.failed()
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *requestFlags) send(ctx context.Context, c *client.Client, p *packet.Publish) error {
	reasons, err := c.Subscribe(ctx, *f.propertiesOf("subscribe"),
		packet.Subscription{Filter: []byte(f.response), QoS: byte(f.qos)})
	switch {
	case err != nil:
		return err
	case reasons[0].Failed():
		return fails("subscribe to "+f.response, reasons[0])
	}
	return c.Publish(p, 0)
}
