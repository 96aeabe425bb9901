package mqtt_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// askedLog says where a log is asked for bounds.
type askedLog struct {
	stream.Keeper
	asked atomic.Pointer[func(stream.PartitionID)]
}

func (l *askedLog) Bounds(p stream.PartitionID) (stream.Bounds, error) {
	if asked := l.asked.Load(); asked != nil {
		(*asked)(p)
	}
	return l.Keeper.Bounds(p)
}

// TestRetainedAskedBeforeSuback: what is retained already is looked up before the SUBACK, however long the log takes.
// After it, a message that its publisher retains would come live and as one that was there.
func TestRetainedAskedBeforeSuback(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		var log *askedLog
		h := open(t, func(o *mqtt.Options) {
			log = &askedLog{Keeper: o.Log}
			o.Log = log
		})
		h.connect(t, v, "other", nil).published("there/already", "old", true)
		c := h.connect(t, v, "c", nil)
		retained := h.log.Topics().ByName(hinge.RetainedTopic).Partitions[0]
		begun, goOn := make(chan struct{}), make(chan struct{})
		var once atomic.Bool
		wait := func(p stream.PartitionID) {
			if p == retained && once.CompareAndSwap(false, true) {
				close(begun)
				<-goOn
			}
		}
		log.asked.Store(&wait)
		c.send(&packet.Subscribe{PacketID: 1, Subscriptions: []packet.Subscription{{Filter: []byte("there/#"), QoS: 1}}})
		<-begun
		if p, err := c.next(50 * time.Millisecond); err == nil {
			t.Errorf("%T came before it was known what is retained", p)
		}
		close(goOn)
		want[*packet.Suback](c)
		if m := want[*packet.Publish](c); string(m.Payload) != "old" || !m.Retain {
			t.Errorf("got %q, retained: %v", m.Payload, m.Retain)
		}
		c.quiet()
	})
}
