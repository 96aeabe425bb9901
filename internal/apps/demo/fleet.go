package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/mqtt/client"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// fleet is all simulated devices.
type fleet struct{ devices []*device }

// device is one simulated device with an MQTT connection of its own. Its goroutine owns it, except for
// what a command changes.
type device struct {
	id       string // client identifier
	topic    string // where it publishes
	commands string // where it listens; empty: it does not
	interval time.Duration
	o        *Options
	st       *stats
	rnd      *rand.Rand
	c        *client.Client
	pub      packet.Publish

	celsius      float64
	lat, lon     float64
	heading, kmh float64
	mu           sync.Mutex
	limit        float64 // km/h, set by a command
}

// order is a command, as it travels.
type order struct {
	Limit float64 `json:"kmh"`
	At    int64   `json:"ts_us"`
}

// openFleet makes the devices and connects them all: an error here means that the door is not there.
func openFleet(ctx context.Context, o Options, st *stats) (*fleet, error) {
	f := &fleet{}
	for i := range o.Devices {
		d := &device{o: &o, st: st, rnd: rand.New(rand.NewPCG(uint64(i), 42))}
		if i%5 < 3 {
			d.thermostat(i - i/5*2)
		} else {
			d.truck(i/5*2 + i%5 - 2)
		}
		f.devices = append(f.devices, d)
	}
	for _, d := range f.devices {
		if err := d.connect(ctx); err != nil {
			f.close()
			return nil, fault.Wrap(fault.KindOf(err), "demo: connect "+d.id, err)
		}
	}
	return f, nil
}

// thermostat makes d the n-th thermostat, from 0: ten rooms to a floor.
func (d *device) thermostat(n int) {
	d.id = fmt.Sprintf("thermostat-%d", n+1)
	d.topic = fmt.Sprintf("%s/floor-%d/room-%d/temperature", buildingTopic, n/10+1, n%10+1)
	d.interval, d.celsius = d.o.Interval, 19+4*d.rnd.Float64()
}

// truck makes d the n-th truck, from 1, somewhere around the Firth of Forth.
func (d *device) truck(n int) {
	d.id = fmt.Sprintf("truck-%d", n)
	d.topic = fmt.Sprintf("%s/%s/position", fleetTopic, d.id)
	d.commands = commandTopic + "/" + d.id
	d.interval = d.o.Interval / 2
	d.lat, d.lon = 56+0.1*d.rnd.NormFloat64(), -3.2+0.2*d.rnd.NormFloat64()
	d.heading, d.kmh, d.limit = 2*math.Pi*d.rnd.Float64(), 60, 80
}

// trucks are the topics on which commands are listened to.
func (f *fleet) trucks() []string {
	var all []string
	for _, d := range f.devices {
		if d.commands != "" {
			all = append(all, d.commands)
		}
	}
	return all
}

func (f *fleet) close() {
	for _, d := range f.devices {
		if d.c != nil {
			_ = d.c.Close()
		}
	}
}

// run lets every device live until ctx ends.
func (f *fleet) run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, d := range f.devices {
		wg.Go(func() { d.live(ctx) })
	}
	wg.Wait()
}

// connect dials, and subscribes a truck to its commands.
func (d *device) connect(ctx context.Context) error {
	dial, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c, err := client.Dial(dial, d.o.MQTT, client.Options{ClientID: d.id, Inflight: 16, OnAck: d.acked,
		OnMessage: d.commanded, WriteBuffer: 4 << 10, ReadBuffer: 1 << 10})
	if err != nil {
		return err
	}
	if d.commands != "" {
		reasons, err := c.Subscribe(dial, packet.Properties{}, packet.Subscription{Filter: []byte(d.commands), QoS: 1})
		if err == nil && reasons[0].Failed() {
			err = fault.New(fault.Denied, "demo", "subscribe to %s: %s", d.commands, reasons[0])
		}
		if err != nil {
			_ = c.Close()
			return err
		}
	}
	d.c = c
	d.st.connected(1)
	return nil
}

// live publishes at the device's pace until ctx ends, over as many connections as it takes.
func (d *device) live(ctx context.Context) {
	timer := time.NewTimer(time.Duration(d.rnd.Float64() * float64(d.interval)))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			d.disconnect()
			return
		case <-timer.C:
			timer.Reset(d.interval)
		}
		if d.c == nil {
			if err := d.connect(ctx); err != nil {
				d.lost(ctx, err)
				continue
			}
		}
		if err := d.publish(time.Now()); err != nil {
			d.lost(ctx, err)
			d.disconnect()
		}
	}
}

func (d *device) lost(ctx context.Context, err error) {
	if ctx.Err() == nil {
		d.st.failed(err)
	}
}

func (d *device) disconnect() {
	if d.c != nil {
		last, cancel := context.WithTimeout(context.Background(), d.o.lastWait)
		defer cancel()
		_ = d.c.Drain(last) // what is not acknowledged then is not counted as such
		_ = d.c.Close()
		d.c = nil
		d.st.connected(-1)
	}
}

// publish sends the next message. Its ticket is the time at which it was sent, in microseconds.
func (d *device) publish(now time.Time) error {
	d.pub = packet.Publish{Topic: []byte(d.topic), QoS: 1, Payload: d.next(d.pub.Payload[:0], now)}
	err := d.c.Publish(&d.pub, uint64(now.UnixMicro()))
	if err == nil {
		d.st.publish()
	}
	return err
}

// next moves the simulation on and appends the message.
func (d *device) next(dst []byte, now time.Time) []byte {
	if d.commands == "" {
		d.celsius += 0.05*d.rnd.NormFloat64() + 0.01*(21-d.celsius)
		return fmt.Appendf(dst, `{"celsius":%.2f,"ts_us":%d}`, d.celsius, now.UnixMicro())
	}
	d.mu.Lock()
	limit := d.limit
	d.mu.Unlock()
	d.heading += 0.1 * d.rnd.NormFloat64()
	d.kmh = min(max(d.kmh+3*d.rnd.NormFloat64(), 20), limit)
	km := d.kmh * d.interval.Hours()
	d.lat += km / 111 * math.Cos(d.heading)
	d.lon += km / 62 * math.Sin(d.heading)
	return fmt.Appendf(dst, `{"lat":%.5f,"lon":%.5f,"kmh":%.0f,"ts_us":%d}`, d.lat, d.lon, d.kmh, now.UnixMicro())
}

// acked is told that a message is on the disk.
func (d *device) acked(ticket uint64, reason packet.ReasonCode, err error) {
	switch {
	case err != nil: // the connection ended: live connects again
	case reason.Failed():
		d.st.failed(fault.New(fault.Invalid, "demo", "publish to %s: %s", d.topic, reason))
	default:
		d.st.acknowledged(since(int64(ticket)))
	}
}

// since is the time that has passed since a moment in microseconds.
func since(micros int64) time.Duration { return max(time.Since(time.UnixMicro(micros)), 0) }

// commanded obeys a command that came over MQTT.
func (d *device) commanded(p *packet.Publish) {
	var got order
	if err := json.Unmarshal(p.Payload, &got); err != nil || got.Limit < 1 {
		d.st.failed(fault.New(fault.Invalid, "demo", "%s does not understand %.40q", d.id, p.Payload))
		return
	}
	d.mu.Lock()
	d.limit = got.Limit
	d.mu.Unlock()
	c := command{key: string(p.Topic), value: fmt.Sprintf("limit %.0f km/h", got.Limit), at: time.Now()}
	if got.At > 0 {
		c.took = since(got.At)
	}
	d.st.commanded(c)
}
