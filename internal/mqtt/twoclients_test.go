package mqtt_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// FuzzTwoClients plays a script: two clients connect, leave, subscribe, publish and acknowledge as it says, and the
// power is cut where it says. At the end both come back and take all that waits for them. The model (two players and
// what they are owed) says what must have come and what must not.
//
// An op of the script is a byte, its low bit the client, and the bytes that the op takes.
func FuzzTwoClients(f *testing.F) {
	f.Fuzz(func(t *testing.T, script []byte) { newTheatre(t, script).play() })
}

// theatre is a door, two players and the script.
type theatre struct {
	t        *testing.T
	h        *house
	script   []byte
	players  [2]*player
	messages map[string]*message // by payload
	all      []*message
	retained map[string][]*candidate
	clock    int // counts what is sent
	crashes  int
	stops    int
}

const (
	maxOps   = 80 // of a script: it has seconds
	maxStops = 4  // restarts and crashes of a script
)

func newTheatre(t *testing.T, script []byte) *theatre {
	s := &theatre{t: t, script: script, messages: map[string]*message{}, retained: map[string][]*candidate{}}
	for i := range s.players {
		s.players[i] = &player{theatre: s, id: string(rune('a' + i)), received: map[uint16]string{}}
	}
	for _, topic := range topics {
		s.retained[topic] = []*candidate{{}}
	}
	return s
}

// byte is the next of the script; 0 behind its end.
func (s *theatre) byte() byte {
	if len(s.script) == 0 {
		return 0
	}
	b := s.script[0]
	s.script = s.script[1:]
	return b
}

func (s *theatre) play() {
	s.h = openOn(s.t, vfs.NewMemory(), nil)
	defer func() {
		for _, c := range s.players {
			c.lose()
		}
		s.h.stop()
	}()
	for op := 0; len(s.script) > 0 && op < maxOps; op++ {
		b := s.byte()
		s.step(s.players[b&1], b>>1)
	}
	s.end()
}

func (s *theatre) step(c *player, op byte) {
	switch op % 16 {
	case 0, 1:
		c.connect(s.byte())
	case 2:
		c.disconnect()
	case 3:
		c.drop()
	case 4, 5:
		c.subscribe(s.byte(), s.byte())
	case 6:
		c.unsubscribe(s.byte())
	case 7, 8:
		c.publish(s.byte(), true)
	case 9, 10:
		c.publish(s.byte(), false)
	case 11:
		c.withhold(s.byte())
	case 12:
		c.holdReleases(s.byte())
	case 13:
		s.crash(s.byte())
	case 14:
		s.restart()
	case 15:
		if b := s.byte(); b&1 == 0 {
			s.h.door.Checkpoint()
		}
		c.listen()
	}
}

// crash cuts the power: what nobody has read yet was not said.
func (s *theatre) crash(seed byte) {
	if s.stops++; s.stops > maxStops {
		return
	}
	s.t.Log("crash")
	clone := onFiles(s.h.t, s.h.fs.(*vfs.Memory)).CrashClone(rand.New(rand.NewPCG(uint64(seed), 1)))
	s.crashes++
	s.reopen(clone)
	for _, c := range s.players {
		c.unsure = c.unsure || c.ended
		if c.life != nil && c.expires {
			c.unsure = c.unsure || c.life.lasted
			c.endLife()
		}
	}
}

// restart ends the server as an operator does.
func (s *theatre) restart() {
	if s.stops++; s.stops > maxStops {
		return
	}
	s.t.Log("restart")
	s.reopen(s.h.fs)
	for _, c := range s.players {
		if c.life != nil && c.expires {
			c.endLife()
		}
	}
}

func (s *theatre) reopen(fs vfs.FS) {
	for _, c := range s.players {
		c.lose()
	}
	s.h.stop()
	s.h = openOn(s.t, fs, nil)
}

// settled waits until the server has done with connections that are gone.
func (s *theatre) settled() {
	connected := 0
	for _, c := range s.players {
		if c.conn != nil {
			connected++
		}
	}
	eventually(s.t, "lost connections are noticed", func() bool { return s.h.door.Stats().Connections == connected })
}

// end brings both back, and waits until they have all that they are owed.
func (s *theatre) end() {
	s.t.Log("the end")
	for _, c := range s.players {
		if c.life != nil && c.conn == nil {
			c.connect(connectV5 | connectLasts)
		}
		if c.conn != nil {
			c.holdReleases(0)
			c.withhold(0)
		}
	}
	deadline := time.Now().Add(patience)
	for missing := s.missing(); missing != ""; missing = s.missing() {
		if time.Now().After(deadline) {
			s.t.Fatalf("did not come: %s", missing)
		}
		for _, c := range s.players {
			c.takeSome()
		}
	}
	for _, c := range s.players {
		c.listen()
	}
	s.checkRetained()
}

// missing names something that somebody is owed.
func (s *theatre) missing() string {
	for _, c := range s.players {
		if c.conn != nil && len(c.flights) > 0 {
			return fmt.Sprintf("the acknowledgement of %s to %s", c.flights[0].message.payload, c.id)
		}
		if c.life == nil {
			continue
		}
		for m, due := range c.life.due {
			if due.owed && m.acknowledged && !due.seen {
				return fmt.Sprintf("%s to %s", m.payload, c.id)
			}
		}
	}
	for _, m := range s.all {
		if m.shared && m.acknowledged && !m.taken {
			return m.payload + " to a member of the group"
		}
	}
	return ""
}

// checkRetained compares what is retained with what may be, and what a new subscriber gets.
func (s *theatre) checkRetained() {
	wanted := map[string]string{} // what is certain
	for topic, candidates := range s.retained {
		got := ""
		m, err := s.h.door.RetainedMessage(s.t.Context(), topic)
		if err == nil {
			got = string(m.Payload)
		} else if !fault.Is(err, fault.NotFound) {
			s.t.Fatal(err)
		}
		var may []string
		for _, c := range candidates {
			may = append(may, c.payload())
		}
		found := false
		for _, payload := range may {
			found = found || payload == got
		}
		if !found {
			s.t.Fatalf("retained for %s is %q, want one of %q", topic, got, may)
		}
		if len(candidates) == 1 && got != "" {
			wanted[topic] = got
		}
	}
	late := s.h.connect(s.t, packet.V5, "late", nil)
	defer late.net.Close()
	late.subscribe(0, "#")
	for len(wanted) > 0 {
		p := want[*packet.Publish](late)
		if topic := string(p.Topic); p.Retain && string(p.Payload) == wanted[topic] {
			delete(wanted, topic)
		}
	}
}

// candidate is a message that may be the retained one of its topic; none for no message.
type candidate struct {
	message *message
	settled int // when it was certain that nothing of it is under way any more; 0: it may be, but for none
}

func (c *candidate) payload() string {
	if c.message == nil || c.message.clears {
		return ""
	}
	return c.message.payload
}

// sentRetained notes that a message may be retained from now on.
func (s *theatre) sentRetained(m *message) {
	s.retained[m.topic] = append(s.retained[m.topic], &candidate{message: m})
}

// storedRetained notes that a message is stored: what was stored before it is not retained any more. One that was sent
// twice may have been stored at either time.
func (s *theatre) storedRetained(m *message) {
	if m.sends > 1 {
		return
	}
	for _, candidates := range s.retained {
		for _, c := range candidates {
			if o := c.message; o != nil && o.from == m.from && o.sent <= m.sent && c.settled == 0 {
				c.settled = s.clock
			}
		}
	}
	if !m.retain {
		return
	}
	var left []*candidate
	for _, c := range s.retained[m.topic] {
		o := c.message
		older := o == nil || c.settled > 0 && c.settled < m.sent || o.from == m.from && o.sent < m.sent
		if !older {
			left = append(left, c)
		}
	}
	s.retained[m.topic] = left
}

// nothingUnderWay notes that what a publisher sent was stored by now, or never will be.
func (s *theatre) nothingUnderWay(from *player) {
	for _, candidates := range s.retained {
		for _, c := range candidates {
			if c.message != nil && c.message.from == from && c.settled == 0 {
				c.settled = s.clock
			}
		}
	}
}
