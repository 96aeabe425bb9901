package demo

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// busy is the state of a demo that runs well.
func busy(t *testing.T) *stats {
	t.Helper()
	start := time.Date(2026, 11, 21, 6, 0, 0, 0, time.UTC)
	s := newStats(start)
	s.connected(50)
	for i := range 30 * 4 {
		for d := range 18 {
			key, topic, value := fmt.Sprintf("building/floor-%d/room-%d/temperature", d/10+1, d%10+1), "building", "21.47 °C"
			if d >= 12 {
				key, topic, value = fmt.Sprintf("fleet/truck-%d/position", d), "fleet", "56.012 -3.188  62 km/h"
			}
			s.publish()
			s.acknowledged(time.Duration(400+d) * time.Microsecond)
			s.consumed(reading{topic: topic, partition: int32(d % 3), offset: int64(i), key: key, value: value,
				at: start.Add(time.Duration(i) * refresh)}, time.Duration(800+10*d)*time.Microsecond)
		}
		s.sample(start.Add(time.Duration(i+1) * refresh))
	}
	for i := range 3 {
		s.commanded(command{key: fmt.Sprintf("commands/truck-%d", i+1), value: "limit 60 km/h",
			at: start.Add(time.Duration(i) * time.Second), took: 1200 * time.Microsecond})
	}
	return s
}

func TestScreenFitsTheTerminal(t *testing.T) {
	n := busy(t).snapshot(time.Date(2026, 11, 21, 6, 0, 30, 0, time.UTC))
	for _, size := range [][2]int{{80, 24}, {120, 40}, {60, 16}, {40, 10}, {10, 3}, {200, 100}} {
		width, height := size[0], size[1]
		var b strings.Builder
		s := newScreen(Options{MQTT: "127.0.0.1:1883", Kafka: "127.0.0.1:9092", Data: "/tmp/firth-demo-1", Out: &b,
			Size: func() (int, int) { return width, height }})
		s.draw(n)
		text := strings.NewReplacer(enter, "", home, "", lineEnd, "", below, "").Replace(b.String())
		lines := strings.Split(text, "\r\n")
		if len(lines) > height {
			t.Errorf("%d × %d: %d lines", width, height, len(lines))
		}
		for _, l := range lines {
			if c := utf8.RuneCountInString(l); c > width {
				t.Errorf("%d × %d: %d columns: %q", width, height, c, l)
			}
			if strings.Contains(l, "\x1b") {
				t.Errorf("a style without Color: %q", l)
			}
		}
		if testing.Verbose() {
			t.Logf("%d × %d\n%s", width, height, text)
		}
	}
}

func TestScreenShowsWhatFlows(t *testing.T) {
	n := busy(t).snapshot(time.Date(2026, 11, 21, 6, 0, 30, 0, time.UTC))
	var b strings.Builder
	s := newScreen(Options{MQTT: "127.0.0.1:1883", Kafka: "127.0.0.1:9092", Out: &b, Size: func() (int,
		int) {
		return 80, 24
	}})
	s.draw(n)
	s.close()
	for _, want := range []string{
		"50 devices", "     72 msg/s", "     72 rec/s", "2,160 acknowledged", "2,160 read",
		"to Kafka p50 0.89 ms p99 0.97 ms",
		"fleet/truck-12/position", "building/floor-1/room-1/temperature", "21.47 °C", "56.012 -3.188  62 km/h",
		"commands/truck-3", "limit 60 km/h", "1.20 ms", "mosquitto_sub -p 1883", "kcat -b 127.0.0.1:9092", leave,
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not on the screen:\n%s", want, b.String())
		}
	}
}

func TestPlainLine(t *testing.T) {
	n := busy(t).snapshot(time.Date(2026, 11, 21, 6, 0, 30, 0, time.UTC))
	want := "  30s  in 72/s (2160 acknowledged)  out 72/s (2160 read)  to Kafka p50 0.89 ms p99 0.97 ms  " +
		"back 3 p50 1.20 ms"
	if got := plainLine(&n); !strings.HasPrefix(got, want) || strings.Count(got, "\n") != 1 {
		t.Errorf("got %q", got)
	}
	empty := newStats(time.Now()).snapshot(time.Now())
	if got := plainLine(&empty); !strings.Contains(got, "p50 - p99 -") {
		t.Errorf("got %q", got)
	}
}

func TestSpark(t *testing.T) {
	if got := spark([]float64{9, 0, 4, 8}, 3); got != "▁▅█" {
		t.Errorf("got %q", got)
	}
	if got := spark([]float64{1}, 3); got != "  █" {
		t.Errorf("got %q", got)
	}
	if got := spark(nil, 0); got != "" {
		t.Errorf("got %q", got)
	}
}

func TestWindowKeepsTheNewest(t *testing.T) {
	var w window
	for range windowSize {
		w.add(time.Hour)
	}
	for range windowSize {
		w.add(time.Millisecond)
	}
	if p := w.percentiles(); p.p50 != time.Millisecond || p.p99 != time.Millisecond {
		t.Errorf("got %+v", p)
	}
}

func TestPickIsFairAndStable(t *testing.T) {
	var all []reading
	for i := range 20 {
		all = append(all, reading{topic: "a", key: fmt.Sprintf("a/%d", 20-i)}, reading{topic: "b",
			key: fmt.Sprintf("b/%d", i)})
	}
	got := pick(all, 5)
	var keys []string
	for _, r := range got {
		keys = append(keys, r.key)
	}
	if want := "a/1 a/2 b/0 b/1 b/2"; strings.Join(keys, " ") != want {
		t.Errorf("got %v, want %s", keys, want)
	}
	if len(pick(all, 0)) != 0 || len(pick(nil, 5)) != 0 {
		t.Error("something out of nothing")
	}
}

func TestOptionsRefuse(t *testing.T) {
	for _, o := range []Options{{Devices: -1}, {Devices: mostDevices + 1}, {Interval: time.Microsecond}} {
		if err := Run(t.Context(), o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
}
