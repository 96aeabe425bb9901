package webhook

import "time"

// State is what is known of a message when it comes.
type State uint8

// The states of a message.
const (
	New    State = iota // it is to be stored
	Under               // it came before, and is not stored yet
	Stored              // it came before, and is stored
	Full                // as many as can be remembered came of late
)

// Seen remembers which messages came, for a time. It is not safe for concurrent use.
type Seen struct {
	keep time.Duration
	most int
	next uint64
	of   map[Key]*came
	line []came // the oldest first
}

type came struct {
	key    Key
	number uint64
	until  time.Time
	stored bool
}

// NewSeen makes one that remembers each for a time, and so many of them.
func NewSeen(keep time.Duration, most int) *Seen {
	return &Seen{keep: keep, most: most, of: map[Key]*came{}}
}

// Begin tells what is known of a message; New: it is under way from now on, until Done.
func (s *Seen) Begin(key Key, now time.Time) State {
	for len(s.line) > 0 && !s.line[0].until.After(now) {
		if c := s.of[s.line[0].key]; c != nil && c.number == s.line[0].number {
			delete(s.of, c.key)
		}
		s.line = s.line[1:]
	}
	switch c := s.of[key]; {
	case c != nil && c.stored:
		return Stored
	case c != nil:
		return Under
	case len(s.line) >= s.most:
		return Full
	}
	s.next++
	c := came{key: key, number: s.next, until: now.Add(s.keep)}
	s.line = append(s.line, c)
	s.of[key] = &c
	return New
}

// Done tells what became of a message that was under way: what is not stored may come again.
func (s *Seen) Done(key Key, stored bool) {
	switch c := s.of[key]; {
	case c == nil:
	case stored:
		c.stored = true
	default:
		delete(s.of, key)
	}
}
