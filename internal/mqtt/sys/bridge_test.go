package sys

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestIsBridge(t *testing.T) {
	const topic = "$SYS/broker/connection/edge.firth/state"
	for _, payload := range []string{"0", "1"} {
		if !IsBridge([]byte(topic), []byte(payload)) {
			t.Errorf("%s %s is none", topic, payload)
		}
	}
	for _, other := range []string{"", "$SYS", "$SYS/broker/connection/state", "$SYS/broker/connection//state",
		"$SYS/broker/connection/a/b/state", topic + "/", "x" + topic, "$SYS/broker/uptime",
		"$SYS/broker/connection/" + strings.Repeat("x", maxBridgeTopic) + "/state"} {
		if IsBridge([]byte(other), []byte("1")) {
			t.Errorf("%s is one", other)
		}
	}
	for _, payload := range []string{"", "2", "01", "1 "} {
		if IsBridge([]byte(topic), []byte(payload)) {
			t.Errorf("%q is a state", payload)
		}
	}
}

// TestBridges: what bridges said stays, by name, is news once, and is bounded; what else is there is no news by it.
func TestBridges(t *testing.T) {
	var tree Tree
	at := func(name, payload string) Value { return Value{bridgePrefix + name + bridgeSuffix, payload} }
	if !tree.Bridge(at("b", "1")) || tree.Bridge(at("b", "1")) || !tree.Bridge(at("a", "1")) ||
		!tree.Bridge(at("b", "0")) {
		t.Error("news, or not")
	}
	tree.Update(Counts{}, time.Minute)
	held := tree.Values()
	if !tree.Bridge(at("c", "1")) || len(held)+1 != len(tree.Values()) {
		t.Error("c is missing")
	}
	if changed := tree.Update(Counts{}, time.Minute); len(changed) != 0 {
		t.Errorf("changed: %v", changed)
	}
	for _, want := range []Value{at("a", "1"), at("b", "0"), at("c", "1")} {
		if !slices.Contains(tree.Values(), want) {
			t.Errorf("%v is missing", want)
		}
	}
	if !slices.IsSortedFunc(tree.Values(), byTopic) {
		t.Error("not in order")
	}
	for i := range 2 * MaxBridges {
		tree.Bridge(at(fmt.Sprint("x", i), "1"))
	}
	if n := len(tree.bridges); n != MaxBridges {
		t.Errorf("%d bridges", n)
	}
	if !tree.Bridge(at("a", "0")) {
		t.Error("one that is known is not told any more")
	}
}
