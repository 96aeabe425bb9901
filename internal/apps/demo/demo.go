// Package demo shows the main job of Firth: a simulated fleet publishes over real MQTT connections, a
// Kafka consumer group reads the very same records, and a Kafka producer sends commands back to the
// devices. It draws what happens on a terminal, or prints a line a second.
//
// It is an ordinary client of both doors and knows nothing of the node that it talks to.
//
//	err := demo.Run(ctx, demo.Options{MQTT: "127.0.0.1:1883", Kafka: "127.0.0.1:9092", Out: os.Stdout})
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
)

// Options say where the doors are and how to show what happens.
type Options struct {
	MQTT  string // host:port of the device door
	Kafka string // host:port of the back-end door

	Devices  int           // devices to simulate, 1 to 10,000; 0: 50
	Interval time.Duration // between two messages of a thermostat; trucks send twice as often; 0: 1 s
	Duration time.Duration // how long; 0: until ctx ends

	Out   io.Writer
	Live  bool                       // draw in place on a terminal, instead of a line a second
	Color bool                       // with Live: bold and dim text
	Size  func() (width, height int) // of the terminal, asked at each drawing; nil: 80 × 24
	Data  string                     // where the log lies, to be shown; may be empty

	lastWait time.Duration // for what is under way at the end; 0: 2 s
}

// Group is the consumer group that reads the demo's topics.
const Group = "demo"

const (
	buildingTopic = "building"
	fleetTopic    = "fleet"
	commandTopic  = "commands"

	mostDevices = 10_000
	refresh     = 250 * time.Millisecond
)

func (o Options) withDefaults() (Options, error) {
	if o.Devices == 0 {
		o.Devices = 50
	}
	if o.Interval == 0 {
		o.Interval = time.Second
	}
	if o.lastWait == 0 {
		o.lastWait = 2 * time.Second
	}
	if o.Size == nil {
		o.Size = func() (int, int) { return 80, 24 }
	}
	if o.Devices < 1 || o.Devices > mostDevices {
		return o, fault.New(fault.Invalid, "demo", "%d devices, from 1 to %d are possible", o.Devices, mostDevices)
	}
	if o.Interval < time.Millisecond {
		return o, fault.New(fault.Invalid, "demo", "an interval of %v, at least 1ms is possible", o.Interval)
	}
	return o, nil
}

// Run plays the demo until ctx ends or the duration is over, and then prints what flowed. The end of
// ctx is an ordinary end. Errors: Invalid options, a door that refuses at the start, Internal when
// nothing flowed.
func Run(ctx context.Context, o Options) error {
	o, err := o.withDefaults()
	if err != nil {
		return err
	}
	st := newStats(time.Now())
	back, err := openBackEnd(ctx, o.Kafka, st)
	if err != nil {
		return err
	}
	defer back.close()
	fl, err := openFleet(ctx, o, st)
	if err != nil {
		return err
	}
	play(ctx, o, fl, back)
	sum := st.snapshot(time.Now())
	_, err = fmt.Fprint(o.Out, summary(&sum))
	if sum.read == 0 {
		none := fault.New(fault.Internal, "demo", "no message came through; last error: %s", orNone(sum.fault))
		err = errors.Join(err, none)
	}
	return err
}

// play lets both sides live until the end: first the fleet ends, then those who read what it has sent.
func play(ctx context.Context, o Options, fl *fleet, back *backEnd) {
	reading, stopReading := context.WithCancel(context.WithoutCancel(ctx))
	defer stopReading()
	publishing, stopPublishing := context.WithCancel(ctx)
	defer stopPublishing()
	var readers, publishers sync.WaitGroup
	readers.Go(func() { back.consume(reading) })
	publishers.Go(func() {
		back.awaitGroup(publishing) // a record that waits for the group to form says nothing about latency
		fl.run(publishing)
	})
	publishers.Go(func() { back.command(publishing, fl.trucks()) })
	show(ctx, o, back.st)
	stopPublishing()
	publishers.Wait()
	back.st.awaitRead(o.lastWait)
	stopReading()
	readers.Wait()
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// show draws or prints until the end.
func show(ctx context.Context, o Options, st *stats) {
	var end <-chan time.Time
	if o.Duration > 0 {
		timer := time.NewTimer(o.Duration)
		defer timer.Stop()
		end = timer.C
	}
	tick := time.NewTicker(refresh)
	defer tick.Stop()
	scr := newScreen(o)
	defer scr.close()
	for n := 0; ; n++ {
		select {
		case now := <-tick.C:
			st.sample(now)
			if o.Live {
				scr.draw(st.snapshot(now))
			} else if n%int(time.Second/refresh) == int(time.Second/refresh)-1 {
				scr.line(st.snapshot(now))
			}
		case <-end:
			return
		case <-ctx.Done():
			return
		}
	}
}
