package mqtt_test

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// BenchmarkFanOut publishes with QoS 0 to 100 subscribers over TCP and counts what they got.
func BenchmarkFanOut(b *testing.B) {
	const subscribers = 100
	set := telemetry.New()
	h := open(b, func(o *mqtt.Options) { o.Metrics = set })
	var got atomic.Int64
	var wg sync.WaitGroup
	one := (&packet.Publish{Topic: []byte("fan/1"), Payload: make([]byte, 100)}).AppendTo(nil, packet.V311)
	for i := range subscribers {
		c := h.connect(b, packet.V311, string(rune('A'+i)), nil)
		c.subscribe(0, "fan/#")
		wg.Go(func() {
			buf := make([]byte, 64<<10)
			c.net.SetReadDeadline(time.Time{})
			for {
				n, err := c.net.Read(buf)
				got.Add(int64(n))
				if err != nil {
					return
				}
			}
		})
		b.Cleanup(func() { c.net.Close() })
	}
	pub := h.connect(b, packet.V311, "publisher", nil)
	var chunk []byte
	for range 100 {
		chunk = append(chunk, one...)
	}
	b.ResetTimer()
	sent := 0
	for sent < b.N {
		if _, err := pub.net.Write(chunk); err != nil {
			b.Fatal(err)
		}
		sent += 100
		// Not more than 2,000 messages ahead, so that nothing need be dropped.
		for int64(sent-2000)*subscribers > got.Load()/int64(len(one)) {
			runtime.Gosched()
		}
	}
	eventually(b, "all delivered", func() bool {
		return got.Load()/int64(len(one)) >= int64(sent)*subscribers
	})
	b.StopTimer()
	b.ReportMetric(float64(got.Load())/float64(len(one))/b.Elapsed().Seconds(), "deliveries/s")
	if n := sample(set, droppedFull); n != 0 {
		b.Errorf("%.0f dropped", n)
	}
}
