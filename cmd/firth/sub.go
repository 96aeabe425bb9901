package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/firthmq/firth/internal/cli/format"
	"github.com/firthmq/firth/internal/cli/output"
	"github.com/firthmq/firth/internal/kit/clock"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/mqtt/client"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/names"
)

type subFlags struct {
	*mqttFlags
	topics, without, leaves []string
	format                  string
	verbose, json, noEnd    bool
	noRetained, onlyStored  bool
	removeRetained          bool
	asPublished, noLocal    bool
	leaveSubscribed         bool
	retainHandling          int
	count                   int
	timeout                 float64
	from                    string
	where                   bool
	respond                 string
	form                    output.Form
}

func newSubCommand() *cobra.Command {
	f := &subFlags{form: output.FormTable}
	cmd := &cobra.Command{
		Use:   "sub -t FILTER...",
		Short: "Subscribe with MQTT and print what comes",
		Long: `Subscribe with MQTT and print what comes. The flags are those of mosquitto_sub, and so is the format:
%t topic, %p payload, %x payload in hexadecimal, %q QoS, %r retain, %l length, %m packet identifier,
%j and %J JSON, %I and %U time, @X strftime, %A %C %D %E %F %P %R %S the properties of MQTT 5.

With QoS 1 and 2 a message is acknowledged after it has been printed. A lost connection is made again.

A terminal gets no control characters of others: they are shown as \u001b. Elsewhere the bytes are what was sent.`,
		Example: `  firth sub -t 'sensors/#' -v
  firth sub -t 'fleet/+/position' -q 1 -C 10 -F '@H:@M:@S %t %p'
  firth sub -t '#' -J | jq .payload
  firth sub -t 'sensors/#' --from -1h --where -F '%t %p %P'
  firth sub -t plant/7/valve -q 1 --respond 'done: %p'`,
		DisableFlagsInUseLine: true,
	}
	f.mqttFlags = addMQTTFlags(cmd)
	flags := cmd.Flags()
	flags.StringArrayVarP(&f.topics, "topic", "t", nil, "topic `filter`, may be repeated")
	flags.StringArrayVarP(&f.without, "filter-out", "T", nil, "topic `filter` of messages not to print, may be repeated")
	flags.StringArrayVarP(&f.leaves, "unsubscribe", "U", nil, "topic `filter` to unsubscribe from, may be repeated")
	flags.BoolVarP(&f.leaveSubscribed, "exit-subscribed", "E", false,
		"exit when the server has confirmed the subscriptions")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "print the topic before the payload")
	flags.StringVarP(&f.format, "format", "F", "", "how to print a message, a `format` of mosquitto_sub")
	flags.BoolVarP(&f.json, "json", "J", false, "print JSON objects, the same as -F %j")
	flags.Var(&f.form, "output", "json is the same as -J")
	flags.BoolVarP(&f.noEnd, "no-eol", "N", false, "no end of line after a message")
	flags.BoolVarP(&f.noRetained, "no-retained", "R", false, "do not print retained messages")
	flags.BoolVar(&f.onlyStored, "retained-only", false, "print retained messages only, and exit after them")
	flags.BoolVar(&f.removeRetained, "remove-retained", false, "clear what is retained, once it has come")
	flags.BoolVar(&f.noLocal, "no-local", false, "not what this client publishes itself, as with --respond (MQTT 5)")
	flags.BoolVar(&f.asPublished, "retain-as-published", false, "keep the retain flag as the publisher set it (MQTT 5)")
	flags.IntVar(&f.retainHandling, "retain-handling", 0,
		"retained messages: 0 send, 1 if the subscription is new, `2` never (MQTT 5)")
	flags.StringVar(&f.from, "from", "",
		"begin in the past: `earliest`, an offset, a time as 2026-01-31T12:00:00Z, or -1h; then go on with what is new")
	flags.BoolVar(&f.where, "where", false,
		"ask where in the log each message is: user properties firth-topic, -partition, -offset and -time (MQTT 5)")
	flags.StringVar(&f.respond, "respond", "",
		"answer each request, a message with a Response Topic, with what this `format` makes of it (MQTT 5)")
	flags.IntVarP(&f.count, "count", "C", 0, "exit after `N` messages")
	flags.Float64VarP(&f.timeout, "timeout", "W", 0, "exit after `seconds`")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := f.check(args); err != nil {
			return err
		}
		return subscribe(cmd, f)
	}
	return cmd
}

func (f *subFlags) check(args []string) error {
	fromURL, err := f.settle(args)
	if err != nil {
		return err
	}
	if fromURL != "" {
		f.topics = append(f.topics, fromURL)
	}
	if len(f.topics)+len(f.leaves) == 0 {
		return output.Usage("-t is missing: which topics?")
	}
	for _, filter := range slices.Concat(f.topics, f.leaves, f.without) {
		if err := names.CheckFilter([]byte(filter)); err != nil {
			return output.Usage("%q is no topic filter: %w", filter, err)
		}
	}
	if f.retainHandling < 0 || f.retainHandling > 2 || f.count < 0 || f.timeout < 0 {
		return output.Usage("a number is out of its range")
	}
	if f.respond != "" && parseVersion(f.version) != packet.V5 {
		return output.Usage("--respond: only MQTT 5 has requests and responses")
	}
	if f.resume && f.id == "" {
		return output.Usage("-c needs a client identifier: -i")
	}
	return nil
}

// beginning says where the subscriptions begin: in properties or, where there are none, before each filter.
func (f *subFlags) beginning(props *packet.Properties) (prefix string) {
	if f.where {
		props.AddUser("firth-where", "yes")
	}
	switch {
	case f.from == "":
	case parseVersion(f.version) == packet.V5:
		props.AddUser("firth-from", f.from)
	default:
		return "$replay/" + f.from + "/"
	}
	return ""
}

// spec is the format string in force.
func (f *subFlags) spec() string {
	switch {
	case f.json || f.form == output.FormJSON:
		return "%j"
	case f.format != "":
		return f.format
	case f.verbose:
		return "%t %p"
	}
	return "%p"
}

// listener prints what comes. The client's reader calls message; the command's own goroutine flushes
// and then acknowledges, so that what was acknowledged has been printed.
type listener struct {
	f      *subFlags
	format *format.MQTT
	answer *format.MQTT  // to requests; nil: none
	bell   chan struct{} // one place: there is something to flush, or it is over

	mu    sync.Mutex
	out   *bufio.Writer
	buf   []byte
	acks  []packet.Publish // packet id and QoS of what was printed
	sends []packet.Publish // responses
	count int
	over  bool
	err   error
}

func subscribe(cmd *cobra.Command, f *subFlags) error {
	spec, err := format.ParseMQTT(f.spec())
	if err != nil {
		return output.WithCode(output.ExitUsage, err)
	}
	o, err := f.options()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	timed := ctx
	if f.timeout > 0 {
		var cancel context.CancelFunc
		timed, cancel = context.WithTimeout(ctx, time.Duration(f.timeout*float64(time.Second)))
		defer cancel()
	}
	out, terminal := unscreened(cmd.OutOrStdout())
	spec.Terminal = terminal
	l := &listener{f: f, format: spec, bell: make(chan struct{}, 1), out: bufio.NewWriterSize(out, 1<<16)}
	if f.respond != "" {
		if l.answer, err = format.ParseMQTT(f.respond); err != nil {
			return output.WithCode(output.ExitUsage, err)
		}
	}
	o.ManualAck, o.OnMessage = true, l.message
	err = l.connections(timed, cmd, o)
	if err != nil || l.err != nil {
		return errors.Join(err, l.err)
	}
	if ctx.Err() == nil && timed.Err() != nil && f.count > 0 {
		return fault.New(fault.Timeout, "subscribe", "%d of %d messages came within %g s", l.count, f.count, f.timeout)
	}
	return nil
}

// connections keeps one connection after the other until the end. Only the first must succeed.
func (l *listener) connections(ctx context.Context, cmd *cobra.Command, o client.Options) error {
	const longest = 30 * time.Second
	pause := time.Second
	for first := true; ; first = false {
		c, err := l.f.connect(ctx, o)
		if err == nil {
			l.f.connected(cmd, c.Server())
			if err = l.subscribeTo(ctx, cmd, c); err == nil && !l.f.leaveSubscribed {
				pause, first = time.Second, false
				err = l.follow(ctx, c)
			}
			_ = c.Close()
		}
		if l.finished(ctx, err) {
			return nil
		}
		if first || fault.Is(err, fault.Denied) || fault.Is(err, fault.Invalid) {
			return err
		}
		if !l.f.quiet {
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "firth: %v; connecting again in %v\n", err, pause)
		}
		if clock.Pause(ctx, pause) != nil {
			return nil //nolint:nilerr // an interruption is how a command is ended
		}
		pause = min(2*pause, longest)
	}
}

// finished tells whether the end of a connection is the end of the command.
func (l *listener) finished(ctx context.Context, err error) bool {
	return err == nil || ctx.Err() != nil || l.ended()
}

// subscribeTo subscribes to all filters and unsubscribes from those of -U. It fails if all subscriptions are refused,
// and warns of each that is.
func (l *listener) subscribeTo(ctx context.Context, cmd *cobra.Command, c *client.Client) error {
	if len(l.f.topics) > 0 {
		if err := l.enter(ctx, cmd, c); err != nil {
			return err
		}
	}
	if len(l.f.leaves) == 0 {
		return nil
	}
	filters := make([][]byte, len(l.f.leaves))
	for i, filter := range l.f.leaves {
		filters[i] = []byte(filter)
	}
	reasons, err := c.Unsubscribe(ctx, *l.f.propertiesOf("unsubscribe"), filters...)
	for i, reason := range reasons { // none in MQTT 3
		if reason.Failed() && err == nil {
			err = fails("unsubscribe from "+l.f.leaves[i], reason)
		}
		l.f.note(cmd, "unsubscribed from %s: %s", l.f.leaves[i], reason)
	}
	return err
}

// enter subscribes.
func (l *listener) enter(ctx context.Context, cmd *cobra.Command, c *client.Client) error {
	var subs []packet.Subscription
	props := *l.f.propertiesOf("subscribe")
	prefix := l.f.beginning(&props)
	for _, filter := range l.f.topics {
		one := packet.Subscription{Filter: []byte(prefix + filter), QoS: byte(l.f.qos),
			NoLocal: l.f.noLocal, RetainAsPublished: l.f.asPublished, RetainHandling: byte(l.f.retainHandling)}
		if l.f.noRetained && !l.f.asPublished {
			one.RetainHandling = 2
		}
		subs = append(subs, one)
	}
	reasons, err := c.Subscribe(ctx, props, subs...)
	if err != nil {
		return err
	}
	refused := 0
	for i, reason := range reasons {
		if !reason.Failed() {
			l.f.note(cmd, "subscribed to %s at QoS %d", l.f.topics[i], reason)
			continue
		}
		refused++
		if err = fails("subscribe to "+l.f.topics[i], reason); refused < len(reasons) && !l.f.quiet {
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "firth: %v\n", err)
		}
	}
	if refused == len(reasons) {
		return err
	}
	return nil
}

// follow flushes and acknowledges until the connection or the command ends.
func (l *listener) follow(ctx context.Context, c *client.Client) error {
	for {
		select {
		case <-l.bell:
		case <-c.Done():
			return errors.Join(l.settle(c), c.Err())
		case <-ctx.Done():
			return l.settle(c)
		}
		if err := l.settle(c); err != nil || l.ended() {
			return err
		}
	}
}

// settle flushes what was printed, sends what is to be answered, and then acknowledges it.
func (l *listener) settle(c *client.Client) error {
	l.mu.Lock()
	acks, sends, err := l.acks, l.sends, l.out.Flush()
	l.acks, l.sends = nil, nil
	l.mu.Unlock()
	for i := range sends {
		if err == nil {
			err = c.Publish(&sends[i], 0)
		}
	}
	if err != nil {
		return err
	}
	for _, a := range acks {
		c.Ack(a.PacketID, a.QoS, packet.Success)
	}
	c.Flush()
	return nil
}

// message prints one message.
func (l *listener) message(p *packet.Publish) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return // not printed, not acknowledged: a session gets it again
	}
	switch {
	case l.f.onlyStored && !p.Retain:
		l.end(nil)
		return
	case l.f.noRetained && p.Retain && !l.f.asPublished, l.filtered(p.Topic):
	default:
		if err := l.print(p); err != nil {
			l.end(err)
			return
		}
		if l.answer != nil && len(p.Props.ResponseTopic) > 0 {
			l.respond(p)
		}
		if l.f.removeRetained && p.Retain && len(p.Payload) > 0 {
			l.sends = append(l.sends, packet.Publish{Topic: bytes.Clone(p.Topic), QoS: 1, Retain: true})
		}
	}
	if p.QoS > 0 {
		l.acks = append(l.acks, packet.Publish{PacketID: p.PacketID, QoS: p.QoS})
	}
	l.ring()
}

func (l *listener) print(p *packet.Publish) error {
	var err error
	if l.buf, err = l.format.AppendTo(l.buf[:0], message(p, time.Now())); err != nil {
		return err
	}
	if !l.f.noEnd {
		l.buf = append(l.buf, '\n')
	}
	_, _ = l.out.Write(l.buf)
	if l.count++; l.f.count > 0 && l.count == l.f.count {
		l.end(nil)
	}
	return nil
}

// respond has a request answered: to its response topic, with its correlation data and its QoS.
func (l *listener) respond(p *packet.Publish) {
	payload, err := l.answer.AppendTo(nil, message(p, time.Now()))
	if err != nil {
		l.end(err)
		return
	}
	r := packet.Publish{Topic: bytes.Clone(p.Props.ResponseTopic), Payload: payload, QoS: p.QoS}
	if p.Props.Has(packet.PropCorrelationData) {
		r.Props.SetCorrelationData(bytes.Clone(p.Props.CorrelationData))
	}
	l.sends = append(l.sends, r)
}

func (l *listener) ended() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.over
}

func (l *listener) end(err error) {
	l.over, l.err = true, err
	l.ring()
}

func (l *listener) ring() {
	select {
	case l.bell <- struct{}{}:
	default:
	}
}

func (l *listener) filtered(name []byte) bool {
	for _, filter := range l.f.without {
		if names.Match([]byte(filter), name) {
			return true
		}
	}
	return false
}

// message is p as the formats see it.
func message(p *packet.Publish, now time.Time) *format.Message {
	m := &format.Message{Time: now, Topic: string(p.Topic), Payload: p.Payload, QoS: p.QoS, Retain: p.Retain,
		PacketID: p.PacketID}
	props := &p.Props
	if props.Empty() {
		return m
	}
	m.ContentType, m.ResponseTopic = string(props.ContentType), string(props.ResponseTopic)
	m.Correlation, m.SubIDs, m.Alias = props.CorrelationData, props.SubscriptionIDs, props.TopicAlias
	if props.Has(packet.PropMessageExpiry) {
		m.Expiry = &props.MessageExpiry
	}
	if props.Has(packet.PropPayloadFormat) {
		m.PayloadFormat = &props.PayloadFormat
	}
	for name, value := range props.User.All() {
		m.User = append(m.User, format.Property{Key: string(name), Value: string(value)})
	}
	return m
}
