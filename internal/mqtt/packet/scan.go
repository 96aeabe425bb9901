package packet

// scan reads the fields of a packet's body in turn. The first fault is kept and ends everything:
// later reads give zero values.
type scan struct {
	b   []byte // what is left
	err error
}

func (s *scan) fail(err error) {
	if s.err == nil {
		s.err = err
	}
	s.b = nil
}

func (s *scan) short() { s.fail(errShort()) }

func errShort() *Error { return malformed("the packet ends within a field") }

func (s *scan) uint8() byte {
	if len(s.b) < 1 {
		s.short()
		return 0
	}
	v := s.b[0]
	s.b = s.b[1:]
	return v
}

func (s *scan) uint16() uint16 {
	if len(s.b) < 2 {
		s.short()
		return 0
	}
	v := uint16(s.b[0])<<8 | uint16(s.b[1])
	s.b = s.b[2:]
	return v
}

func (s *scan) uint32() uint32 {
	high := s.uint16()
	return uint32(high)<<16 | uint32(s.uint16())
}

func (s *scan) varint() int {
	v, width, state := varint(s.b)
	switch state {
	case varintShort:
		s.short()
		return 0
	case varintBad:
		s.fail(malformed("a variable byte integer is not a minimal number of at most four bytes"))
		return 0
	}
	s.b = s.b[width:]
	return v
}

// take gives the next n bytes.
func (s *scan) take(n int) []byte {
	if len(s.b) < n {
		s.short()
		return nil
	}
	v := s.b[:n:n]
	s.b = s.b[n:]
	return v
}

// binary reads binary data (section 1.5.6).
func (s *scan) binary() []byte { return s.take(int(s.uint16())) }

// string reads a string and applies its rules (section 1.5.4).
func (s *scan) string() []byte {
	v := s.binary()
	if err := checkString(v); err != nil {
		s.fail(err)
	}
	return v
}

// topicName reads a string that is a topic name; it may be empty.
func (s *scan) topicName() []byte {
	v := s.binary()
	if err := checkTopicName(v); err != nil {
		s.fail(err)
	}
	return v
}

// filter reads a string that is a topic filter.
func (s *scan) filter() []byte {
	f := s.string()
	if s.err == nil {
		if err := checkFilter(f); err != nil {
			s.fail(err)
		}
	}
	return f
}

// packetID reads a packet identifier, which is never 0 [MQTT-2.2.1-3].
func (s *scan) packetID() uint16 {
	id := s.uint16()
	if id == 0 && s.err == nil {
		s.fail(protocolError("packet identifier 0"))
	}
	return id
}

// end is the fault of the body, if any: what was found, or bytes left over.
func (s *scan) end() error {
	if s.err == nil && len(s.b) > 0 {
		return malformed("%d bytes follow the last field", len(s.b))
	}
	return s.err
}
