package session

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/firthmq/firth/internal/mqtt/packet"
)

// Where a subscription begins, as its client says: by a user property of SUBSCRIBE or, where there are none, in the
// filter itself (docs/replay.md).

// FromKind is how a From is counted. Records have these numbers.
type FromKind uint8

// The kinds.
const (
	FromNews     FromKind = iota // what is news after the SUBSCRIBE
	FromEarliest                 // all that is there
	FromOffset                   // an offset in each partition
	FromTime                     // the first record of each partition that is stamped then or later
	fromKinds
)

// From is where in the log a subscription begins. The zero value: at what is news.
type From struct {
	Kind FromKind
	At   int64 // an offset, or milliseconds since 1970
}

// String is what ParseFrom reads.
func (f From) String() string {
	switch f.Kind {
	case FromEarliest:
		return "earliest"
	case FromOffset:
		return strconv.FormatInt(f.At, 10)
	case FromTime:
		return time.UnixMilli(f.At).UTC().Format("2006-01-02T15:04:05.999Z07:00")
	case FromNews, fromKinds:
	}
	return ""
}

const (
	// PropertyFrom is the user property of SUBSCRIBE that says where its subscriptions begin.
	PropertyFrom = "firth-from"
	// PropertyWhere is the one that asks where in the log deliveries are: yes or no.
	PropertyWhere = "firth-where"
	// ReplayPrefix begins a filter that says where it begins.
	ReplayPrefix = "$replay/"
)

// ParseFrom reads earliest, an offset, a time of RFC 3339, or how long ago, as -1h30m or -7d, at now (milliseconds
// since 1970). The error says what would be understood.
func ParseFrom(text []byte, now int64) (From, error) {
	s := string(text)
	switch {
	case s == "earliest":
		return From{Kind: FromEarliest}, nil
	case len(s) > 1 && s[0] == '-':
		if ago, ok := parseAgo(s[1:]); ok {
			return From{FromTime, max(now-ago, 0)}, nil
		}
	default:
		if offset, err := strconv.ParseUint(s, 10, 63); err == nil {
			return From{FromOffset, int64(offset)}, nil
		}
		if at, err := time.Parse(time.RFC3339, s); err == nil {
			return From{FromTime, max(at.UnixMilli(), 0)}, nil
		}
	}
	return From{}, fmt.Errorf("%.40q is not earliest, an offset, a time as 2026-01-31T12:00:00Z or -1h", s)
}

// units are those of parseAgo, in milliseconds.
var units = map[byte]int64{'s': 1000, 'm': 60_000, 'h': 3_600_000, 'd': 86_400_000}

// parseAgo reads numbers with their units, in milliseconds.
func parseAgo(s string) (ago int64, ok bool) {
	const longest = 1 << 50
	var n int64
	digits := false
	for i := range len(s) {
		switch unit := units[s[i]]; {
		case s[i] >= '0' && s[i] <= '9':
			n, digits = 10*n+int64(s[i]-'0'), true
		case unit > 0 && digits && n <= longest/unit:
			ago, n, digits = ago+n*unit, 0, false
		default:
			return 0, false
		}
		if n > longest || ago > longest {
			return 0, false
		}
	}
	return ago, !digits
}

// Served is the filter by which a subscription is served: without the beginning that says where it begins, or who
// shares it.
func Served(filter []byte) []byte {
	if _, rest, is := splitReplay(filter); is {
		return rest
	}
	if shared, is := bytes.CutPrefix(filter, []byte("$share/")); is {
		_, filter, _ = bytes.Cut(shared, []byte("/"))
	}
	return filter
}

// splitReplay takes $replay/<from>/<filter> apart.
func splitReplay(filter []byte) (from, rest []byte, is bool) {
	said, is := bytes.CutPrefix(filter, []byte(ReplayPrefix))
	if !is {
		return nil, nil, false
	}
	from, rest, _ = bytes.Cut(said, []byte("/"))
	return from, rest, true
}

// asked is what the user properties of a SUBSCRIBE ask for all of its filters.
type asked struct {
	from  From
	where bool
	err   error
}

func readAsked(props *packet.Properties, now int64) (a asked) {
	if len(props.User) == 0 {
		return a
	}
	for name, value := range props.User.All() {
		switch string(name) {
		case PropertyFrom:
			if a.from.Kind != FromNews {
				a.err = fmt.Errorf("%s comes twice", PropertyFrom)
			}
			if from, err := ParseFrom(value, now); err == nil {
				a.from = from
			} else if a.err == nil {
				a.err = fmt.Errorf("%s: %w", PropertyFrom, err)
			}
		case PropertyWhere:
			switch string(value) {
			case "yes":
				a.where = true
			case "no":
				a.where = false
			default:
				a.err = fmt.Errorf("%s: %.40q is not yes or no", PropertyWhere, value)
			}
		}
	}
	return a
}

var errNoLocal = errors.New("no history with No Local: not all of it says who published")

// of is where a filter begins. What is refused has a reason, and an error that says why.
func (a *asked) of(one *packet.Subscription, now int64) (from From, reason packet.ReasonCode, err error) {
	if a.err != nil {
		return From{}, packet.ImplementationError, a.err
	}
	from, rest := a.from, one.Filter
	if said, inside, is := splitReplay(one.Filter); is {
		if rest = inside; len(rest) == 0 {
			return From{}, packet.TopicFilterInvalid, fmt.Errorf("%s: no filter behind where it begins", ReplayPrefix)
		}
		if from, err = ParseFrom(said, now); err != nil {
			return From{}, packet.TopicFilterInvalid, fmt.Errorf("%s: %w", ReplayPrefix, err)
		}
	}
	switch {
	case from.Kind == FromNews:
	case rest[0] == '$':
		return From{}, packet.TopicFilterInvalid, fmt.Errorf("%.40q: what begins with $ has no history", rest)
	case one.NoLocal:
		return From{}, packet.ImplementationError, errNoLocal
	}
	return from, packet.Success, nil
}
