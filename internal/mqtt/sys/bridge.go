package sys

import (
	"slices"
	"strings"
)

const (
	bridgePrefix, bridgeSuffix = Prefix + "connection/", "/state"
	// MaxBridges is how many bridges have their state shown, the first ones.
	MaxBridges = 1000
	// maxBridgeTopic is how long the topic of a state is that is shown, in bytes.
	maxBridgeTopic = 256
)

// IsBridge tells whether a message is what a bridge of another server says of itself: to the topic
// $SYS/broker/connection/NAME/state, where NAME is one level, 1 while it is connected and 0 when it is not. It is the
// one topic below $SYS that Mosquitto lets clients publish to.
func IsBridge(topic, payload []byte) bool {
	if len(topic) > maxBridgeTopic || string(payload) != "0" && string(payload) != "1" {
		return false
	}
	rest, ok := strings.CutPrefix(string(topic), bridgePrefix)
	name, ends := strings.CutSuffix(rest, bridgeSuffix)
	return ok && ends && name != "" && !strings.Contains(name, "/")
}

// Bridge takes what a bridge says of itself, for good. False: it is no news, or there are too many.
func (t *Tree) Bridge(v Value) bool {
	i, known := slices.BinarySearchFunc(t.bridges, v, byTopic)
	switch {
	case known && t.bridges[i] == v, !known && len(t.bridges) == MaxBridges:
		return false
	case known:
		t.bridges[i] = v
	default:
		t.bridges = slices.Insert(t.bridges, i, v)
	}
	before := t.values
	t.values = slices.Clone(before) // those who have them read them
	if i, known = slices.BinarySearchFunc(before, v, byTopic); known {
		t.values[i] = v
	} else {
		t.values = slices.Insert(t.values, i, v)
	}
	return true
}

func byTopic(a, b Value) int { return strings.Compare(a.Topic, b.Topic) }
