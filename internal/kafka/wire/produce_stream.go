package wire

import "encoding/binary"

// Source gives the bytes of a request as they arrive.
type Source interface {
	// Left is how many bytes of the request were not taken yet.
	Left() int
	// AppendTo appends the next n bytes to dst, n at most Left. Memory is taken as the bytes arrive.
	AppendTo(dst []byte, n int) ([]byte, error)
}

// ProduceStream reads a Produce request while it arrives. The reader takes the records of each partition from the
// source itself, behind Next.
type ProduceStream struct {
	ProducePartition      // its Records are empty; valid until the next Next
	NewTopic         bool // this partition is the first of its topic
	Size             int  // bytes of records that are to be taken now; -1: null

	Request ProduceRequest // all but the partitions; with them after Finish
	Header  Header

	in            Source
	err           error
	kept          []byte // the request without its records
	body          int    // where its body begins
	topics, parts int    // left
	byID          bool
	flexible      bool
}

// Begin reads a request, whose size was taken, up to its count of topics. kept is memory for what is kept of it.
// Errors: Invalid, those of the source.
func (s *ProduceStream) Begin(api *API, in Source, kept []byte) error {
	*s = ProduceStream{in: in, kept: kept}
	s.Header, _ = Head(s.take(HeadLen))
	version := s.Header.Version
	s.flexible, s.byID = api.IsFlexible(version), version >= 13
	s.Header.ClientID = s.string(false)
	s.tags()
	s.body = len(s.kept)
	s.Request.Version = version
	if version >= ProduceFloor {
		s.Request.TransactionalID = s.string(s.flexible)
	}
	if b := s.take(6); b != nil {
		s.Request.Acks = int16(binary.BigEndian.Uint16(b))
		s.Request.TimeoutMillis = int32(binary.BigEndian.Uint32(b[2:]))
	}
	s.topics = s.count(2)
	return s.err
}

// Kept is the memory that Request lies in after Finish.
func (s *ProduceStream) Kept() []byte { return s.kept }

// Next reads up to the records of the next partition; false: there is none.
func (s *ProduceStream) Next() (bool, error) {
	s.NewTopic = false
	for s.parts == 0 {
		if s.topics == 0 || s.err != nil {
			return false, s.err
		}
		s.topic()
	}
	s.parts--
	if b := s.take(4); b != nil {
		s.Index = int32(binary.BigEndian.Uint32(b))
	}
	s.records()
	return s.err == nil, s.err
}

// Rest reads what is behind the records of a partition. It follows every Next.
func (s *ProduceStream) Rest() error {
	s.tags()
	if s.parts == 0 {
		s.tags()
	}
	return s.err
}

// Finish reads the end of the request, which Request is whole with.
func (s *ProduceStream) Finish() error {
	s.tags()
	if s.err == nil {
		s.err = s.Request.Parse(s.Header.Version, s.kept[s.body:])
	}
	return s.err
}

// topic reads the head of a topic.
func (s *ProduceStream) topic() {
	s.topics--
	if s.byID {
		copy(s.TopicID[:], s.take(len(s.TopicID)))
	} else if s.Topic = s.string(s.flexible); s.Topic == nil {
		s.fail()
	}
	s.parts = s.count(5)
	s.NewTopic = true
	if s.parts == 0 {
		s.tags()
	}
}

// records reads the length of records and keeps that there are none.
func (s *ProduceStream) records() {
	at := len(s.kept)
	if s.Size = s.length(); s.Size < -1 || s.Size > s.in.Left() {
		s.fail()
	}
	if s.Size > 0 {
		s.kept = appendCount(s.kept[:at], 0, s.flexible)
	}
}

func (s *ProduceStream) fail() {
	if s.err == nil {
		s.err = invalid("wire.ProduceStream", "Produce v%d is cut short or counts more than it has", s.Header.Version)
	}
	s.topics, s.parts = 0, 0
}

// take keeps the next n bytes and gives them; nil after an error.
func (s *ProduceStream) take(n int) []byte {
	if n < 0 || n > s.in.Left() {
		s.fail()
	}
	if s.err != nil {
		return nil
	}
	at := len(s.kept)
	if s.kept, s.err = s.in.AppendTo(s.kept, n); s.err != nil {
		s.topics, s.parts = 0, 0
		return nil
	}
	return s.kept[at:]
}

func (s *ProduceStream) uvarint() uint32 {
	r := reader{}
	for i := range 5 {
		b := s.take(1)
		if b == nil {
			return 0
		}
		if b[0] < 0x80 {
			r.b = s.kept[len(s.kept)-i-1:]
			break
		}
	}
	v := r.uvarint()
	if r.bad {
		s.fail()
	}
	return v
}

// length reads a compact (n+1) or plain length; -1 is null.
func (s *ProduceStream) length() int {
	if s.flexible {
		return int(s.uvarint()) - 1
	}
	b := s.take(4)
	if b == nil {
		return 0
	}
	return int(int32(binary.BigEndian.Uint32(b)))
}

// count reads the length of an array whose elements take at least least bytes each; null is 0.
func (s *ProduceStream) count(least int) int {
	n := s.length()
	if n < -1 || n > s.in.Left()/least {
		s.fail()
	}
	if s.err != nil {
		return 0
	}
	return max(n, 0)
}

// string is nil for null.
func (s *ProduceStream) string(flexible bool) []byte {
	n := 0
	if flexible {
		n = int(s.uvarint()) - 1
	} else if b := s.take(2); b != nil {
		n = int(int16(binary.BigEndian.Uint16(b)))
	}
	if n == -1 {
		return nil
	}
	return s.take(n)
}

func (s *ProduceStream) tags() {
	if !s.flexible || s.err != nil {
		return
	}
	n := s.uvarint()
	if uint64(n) > uint64(s.in.Left()/2) {
		s.fail()
	}
	for ; n > 0 && s.err == nil; n-- {
		s.uvarint()
		s.take(int(s.uvarint()))
	}
}
