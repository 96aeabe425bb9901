package roster

import (
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// Exactly once from a client: the packet ids of QoS 2 that a session has received and not released are stored in the
// unit of the messages (MQTT 5.0, section 4.3.3).

// exact is a unit under way that says something of packet ids.
type exact struct {
	state *session.State
	ids   int // that arrived
}

// exacts are those of a seat, in the order of their Appends, which is that of their receipts.
type exacts struct {
	units []exact
	ids   []uint16
}

func (q *exacts) push(state *session.State, arrived []uint16) {
	q.units = append(q.units, exact{state, len(arrived)})
	q.ids = append(q.ids, arrived...)
}

// unpush takes the newest out again.
func (q *exacts) unpush() {
	last := len(q.units) - 1
	q.ids = q.ids[:len(q.ids)-q.units[last].ids]
	q.units[last] = exact{}
	q.units = q.units[:last]
}

// oldest is the oldest, valid until drop.
func (q *exacts) oldest() (state *session.State, arrived []uint16) {
	return q.units[0].state, q.ids[:q.units[0].ids]
}

// drop takes the oldest out.
func (q *exacts) drop() {
	q.ids = q.ids[:copy(q.ids, q.ids[q.units[0].ids:])]
	last := copy(q.units, q.units[1:])
	q.units[last] = exact{}
	q.units = q.units[:last]
}

const (
	// exactBit in a ticket tells that the unit is in exacts, and epochShift where the epoch of its holder begins.
	exactBit   = 1 << 32
	epochShift = 33
)

// AppendExact is Append for a unit that says something of packet ids of QoS 2: some that arrived, whose messages are on
// their way from here on, some that are released. If the session lasts, that is stored in the unit. With an error
// nothing is known of the ones, and the others are what they were.
func (t *Term) AppendExact(log stream.Log, u *stream.Unit, ticket uint32, arrived, released []uint16) error {
	state := t.Lock()
	if state == nil {
		return errFenced()
	}
	defer t.Unlock()
	seat, writes := t.seat, len(u.Writes)
	if state.Lasts() {
		u.Owner = seat.shard.owner
		seat.putChunks(u, state, arrived, released)
	}
	err := seat.appendExact(log, u, uint64(t.epoch)<<epochShift|uint64(ticket), state, arrived)
	if err == nil {
		for _, id := range arrived {
			state.In.Appended(id)
		}
		for _, id := range released {
			state.In.Release(id)
		}
	} else {
		for _, id := range arrived {
			state.In.Release(id)
		}
	}
	u.Writes, u.Owner = u.Writes[:writes], stream.Owner{}
	return err
}

// appendExact appends a unit that says something of packet ids. The seat is locked, so that the order of exacts is that
// of the Appends, what a chunk is last said to be is so, and nothing comes behind a takeover.
func (s *Seat) appendExact(
	log stream.Log, u *stream.Unit, ticket uint64, state *session.State, arrived []uint16,
) error {
	s.mu.exacts.push(state, arrived)
	err := log.Append(u, s, ticket|exactBit)
	if err != nil {
		s.mu.exacts.unpush()
		s.shard.heed(err)
	}
	return err
}

// putChunks adds the records of the chunks in which ids arrived or were released.
func (s *Seat) putChunks(u *stream.Unit, state *session.State, arrived, released []uint16) {
	var seen [4]uint64 // a bit for each chunk
	now := s.roster.opt.Clock().UnixMilli()
	for _, ids := range [2][]uint16{arrived, released} {
		for _, id := range ids {
			chunk := byte(id >> 8)
			if bit := uint64(1) << (chunk & 63); seen[chunk>>6]&bit == 0 {
				seen[chunk>>6] |= bit
				key, value := s.chunk(state, chunk, arrived, released)
				u.Writes = append(u.Writes, stream.Write{
					Partition: s.shard.partition, Record: &record.Record{Timestamp: now, Key: key, Value: value},
				})
			}
		}
	}
}

// restate writes what is so of all chunks that the log may have wrong, in a unit of its own: the seat stays locked
// until that is behind those that said something else, and before those to come. What the log does not take now, the
// next checkpoint writes.
func (s *Seat) restate(state *session.State) {
	u := s.shard.unit()
	for number := range state.In.Written {
		u.add(s.chunk(state, number, nil, nil))
	}
	const nobody = 0 // its ticket is of no holder
	if err := s.appendExact(s.roster.opt.Log, &u.stream, nobody, state, nil); err != nil {
		s.shard.note(s)
		return
	}
	s.mu.unsure = false
}

// chunk is the record of a chunk in a unit in which ids arrive and are released.
func (s *Seat) chunk(state *session.State, number byte, arrived, released []uint16) (key, value []byte) {
	k := session.Key{Kind: session.KindReceived, Client: s.id, Chunk: number}
	r := state.In.Record(number, arrived, released)
	if !r.Empty() {
		value = r.AppendTo(nil)
	}
	return k.AppendTo(nil), value
}

// Await has the holder told by Arrived when the message of a packet id that is pending is stored, or is not. It needs
// the lock of the session.
func (t *Term) Await(id uint16) { t.seat.mu.awaited = append(t.seat.mu.awaited, id) }

// settleExact applies the receipt of the oldest unit in exacts, and gives those of its ids that the holder awaits.
func (s *Seat) settleExact(err error) (h Holder, awaited []uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	state, arrived := s.mu.exacts.oldest()
	for _, id := range arrived {
		if err == nil {
			state.In.Stored(id)
		} else {
			state.In.Release(id)
		}
	}
	s.mu.exacts.drop()
	if err != nil && state == s.mu.state && state.Lasts() { // what was appended since may have stored them
		s.mu.unsure = true
		s.shard.note(s)
	}
	if s.mu.state != state || s.mu.holder == nil {
		return nil, nil
	}
	left := s.mu.awaited[:0]
	for _, id := range s.mu.awaited {
		if state.In.Of(id) != session.Pending {
			awaited = append(awaited, id)
		} else {
			left = append(left, id)
		}
	}
	s.mu.awaited = left
	return s.mu.holder, awaited
}
