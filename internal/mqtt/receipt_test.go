package mqtt_test

import (
	"sync"
	"testing"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// heldLog is a log that keeps back receipts while it is told to, and lets a test say what they tell.
type heldLog struct {
	stream.Keeper
	mu   sync.Mutex
	held []heldReceipt
	hold bool
}

type heldReceipt struct {
	to     stream.Receipt
	ticket uint64
}

func (l *heldLog) Append(u *stream.Unit, to stream.Receipt, ticket uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.hold || to == nil {
		return l.Keeper.Append(u, to, ticket)
	}
	l.held = append(l.held, heldReceipt{to, ticket})
	return nil
}

func (l *heldLog) waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.held)
}

// tell gives the receipts that were kept back, one result for each, from one goroutine as the log does.
func (l *heldLog) tell(results ...error) {
	l.mu.Lock()
	held := l.held
	l.held, l.hold = nil, false
	l.mu.Unlock()
	for i, err := range results {
		if err != nil {
			held[i].to.Appended(held[i].ticket, nil, err)
			continue
		}
		held[i].to.Appended(held[i].ticket, place(i), nil)
	}
}

// place is where a unit lies, according to a test.
type place record.Offset

func (p place) Offset(write int) record.Offset { return record.Offset(p) + record.Offset(write) }

// TestLostMessageIsNeverAcknowledged is E4: a message that was not stored gets no PUBACK in MQTT 3, and neither does
// any that came after it, although the log takes messages again before the connection has ended.
func TestLostMessageIsNeverAcknowledged(t *testing.T) {
	lost(t, fault.New(fault.Full, "test", "the disk is full"), packet.QuotaExceeded)
}

// TestMovedMessageIsNeverAnswered: a message that was not stored because another node has the session by then gets no
// answer in MQTT 5 either, for one that says no ends it: the connection ends, and it is sent again there.
func TestMovedMessageIsNeverAnswered(t *testing.T) {
	lost(t, fault.New(fault.Fenced, "test", "another node has the shard"), packet.Success)
	lost(t, fault.New(fault.Closed, "test", "the log is closed"), packet.Success)
}

// lost has the second of three messages not be stored. Reason is what MQTT 5 says of it; Success: it says nothing.
func lost(t *testing.T, cause error, reason packet.ReasonCode) {
	t.Helper()
	both(t, func(t *testing.T, v packet.Version) {
		var log *heldLog
		h := open(t, func(o *mqtt.Options) {
			log = &heldLog{Keeper: o.Log}
			o.Log = log
		})
		c := h.connect(t, v, "c", nil)
		c.published("e4/1", "makes the topic", false)
		log.mu.Lock()
		log.hold = true
		log.mu.Unlock()
		for id := range 3 {
			c.publish(1, uint16(id+1), "e4/1", "x")
			eventually(t, "the message is on its way", func() bool { return log.waiting() == id+1 })
		}
		log.tell(nil, cause, nil)
		if ack := want[*packet.Puback](c); ack.PacketID != 1 {
			t.Errorf("PUBACK %d, want 1", ack.PacketID)
		}
		switch {
		case v != packet.V5:
			c.closed()
			return
		case reason == packet.Success:
			want[*packet.Disconnect](c)
			c.closed()
			return
		}
		for id, reason := range []packet.ReasonCode{reason, packet.Success} {
			if ack := want[*packet.Puback](c); int(ack.PacketID) != id+2 || ack.Reason != reason {
				t.Errorf("PUBACK %d %s, want %d %s", ack.PacketID, ack.Reason, id+2, reason)
			}
		}
	})
}
