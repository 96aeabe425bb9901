package relay

import (
	"errors"
	"fmt"
	"strings"

	"github.com/firthmq/firth/internal/names"
)

// Direction is which way messages go.
type Direction byte

// The directions: from the remote server into ours, from ours out, or both.
const (
	In Direction = 1 << iota
	Out
	Both = In | Out
)

// String is the word of Mosquitto.
func (d Direction) String() string {
	switch d {
	case In:
		return "in"
	case Out:
		return "out"
	}
	return "both"
}

// ParseDirection reads a word of Mosquitto.
func ParseDirection(s string) (Direction, error) {
	for _, d := range []Direction{In, Out, Both} {
		if d.String() == s {
			return d, nil
		}
	}
	return 0, fmt.Errorf("%q is not in, out or both", s)
}

// Topic says which topics are bridged, as the directive topic of a mosquitto.conf does. A name is LocalPrefix and what
// Filter matches on our side, RemotePrefix and the same on the other.
type Topic struct {
	Filter       string // may be empty: then the prefixes are whole names
	Direction    Direction
	QoS          byte // the highest
	LocalPrefix  string
	RemotePrefix string
}

// String is the topic as a mosquitto.conf has it, as far as it says more than the defaults.
func (t Topic) String() string {
	words := []string{word(t.Filter), t.Direction.String(), fmt.Sprint(t.QoS)}
	if t.LocalPrefix != "" || t.RemotePrefix != "" {
		words = append(words, word(t.LocalPrefix))
	}
	if t.RemotePrefix != "" {
		words = append(words, word(t.RemotePrefix))
	}
	return strings.Join(words, " ")
}

func word(s string) string {
	if s == "" {
		return `""`
	}
	return s
}

// ParseTopic reads a topic as a mosquitto.conf has it: pattern [direction [qos [local-prefix [remote-prefix]]]], with
// "" for a word that is empty.
func ParseTopic(s string) (t Topic, err error) {
	t = Topic{Direction: Out}
	words := strings.Fields(s)
	if len(words) < 1 || len(words) > 5 {
		return t, errors.New("want a filter, and behind it a direction, a QoS and two prefixes if they are needed")
	}
	for i, w := range words {
		if w == `""` {
			w = ""
		}
		switch i {
		case 0:
			t.Filter = w
		case 1:
			if t.Direction, err = ParseDirection(w); err != nil {
				return t, err
			}
		case 2:
			if len(w) != 1 || w[0] < '0' || w[0] > '2' {
				return t, fmt.Errorf("the QoS %q is not 0, 1 or 2", w)
			}
			t.QoS = w[0] - '0'
		case 3:
			t.LocalPrefix = w
		case 4:
			t.RemotePrefix = w
		}
	}
	return t, t.Check()
}

// Check judges a topic. Errors are plain.
func (t *Topic) Check() error {
	for _, prefix := range []string{t.LocalPrefix, t.RemotePrefix} {
		if strings.ContainsAny(prefix, "+#") {
			return fmt.Errorf("the prefix %q has a wildcard", prefix)
		}
	}
	for _, filter := range []string{t.Local(), t.Remote()} {
		if filter == "" {
			return errors.New("without a filter both prefixes must be there: they are the names")
		}
		if err := names.CheckFilter(filter); err != nil {
			return fmt.Errorf("%q is no topic filter", filter)
		}
	}
	if _, _, shared := names.SplitShare(t.Remote()); shared && (t.Direction != In || t.RemotePrefix != "") {
		return errors.New("a shared subscription is for what comes in, without a remote prefix")
	}
	if _, _, shared := names.SplitShare(t.Local()); shared && t.Direction != In {
		return errors.New("what is here is not shared: messages would come back")
	}
	return nil
}

// Local is the filter on our side.
func (t *Topic) Local() string { return t.LocalPrefix + t.Filter }

// Remote is the filter on the other side.
func (t *Topic) Remote() string { return t.RemotePrefix + t.Filter }

// cross is the name that a message of one side has on the other, appended to dst. False: it is not for it.
func (t *Topic) cross(from Side, name, dst []byte) ([]byte, bool) {
	filter, prefix, other := t.Local(), t.LocalPrefix, t.RemotePrefix
	if from == Remote {
		filter, prefix, other = names.Topics(t.Remote()), t.RemotePrefix, t.LocalPrefix
	}
	if !names.Match(filter, name) {
		return dst, false
	}
	return append(append(dst, other...), name[len(prefix):]...), true
}

func (t *Topic) goes(from Side) bool {
	if from == Local {
		return t.Direction&Out != 0
	}
	return t.Direction&In != 0
}
