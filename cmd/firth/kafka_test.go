package main

import (
	"testing"
	"time"

	"github.com/firthmq/firth/internal/cli/output"
)

func TestParsePosition(t *testing.T) {
	now := time.Date(2026, 11, 21, 6, 0, 0, 0, time.UTC)
	cases := []struct {
		text string
		want position
	}{
		{"start", position{kind: atStart}},
		{"beginning", position{kind: atStart}},
		{"end", position{kind: atEnd}},
		{"stored", position{kind: atStored}},
		{"42", position{kind: atOffset, number: 42}},
		{"-5", position{kind: beforeEnd, number: 5}},
		{"@1700000000000", position{kind: atTime, number: 1700000000000}},
		{"s@1700000000000", position{kind: atTime, number: 1700000000000}},
		{"e@-1h", position{kind: untilTime, number: now.Add(-time.Hour).UnixMilli()}},
		{"@30m", position{kind: atTime, number: now.Add(-30 * time.Minute).UnixMilli()}},
		{"@2026-11-21T05:59:59Z", position{kind: atTime, number: now.Add(-time.Second).UnixMilli()}},
		{"@2026-11-20", position{kind: atTime, number: now.Add(-30 * time.Hour).UnixMilli()}},
	}
	for _, c := range cases {
		if got, err := parsePosition(c.text, now); err != nil || got != c.want {
			t.Errorf("%q: got %+v, %v", c.text, got, err)
		}
	}
	for _, text := range []string{"", "x", "@", "@x", "1.5", "q@1"} {
		if _, err := parsePosition(text, now); output.Code(err) != output.ExitUsage {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestPositionWithinAPartition(t *testing.T) {
	const low, high = 10, 20
	cases := []struct {
		p      position
		byTime int64
		want   int64
	}{
		{position{kind: atStart}, -1, 10},
		{position{kind: atEnd}, -1, 20},
		{position{kind: atOffset, number: 15}, -1, 15},
		{position{kind: atOffset, number: 5}, -1, 10},
		{position{kind: atOffset, number: 25}, -1, 20},
		{position{kind: beforeEnd, number: 3}, -1, 17},
		{position{kind: beforeEnd, number: 30}, -1, 10},
		{position{kind: atTime}, 12, 12},
		{position{kind: atTime}, -1, 20},
		{position{kind: untilTime}, 13, 13},
	}
	for _, c := range cases {
		if got := c.p.within(low, high, c.byTime); got != c.want {
			t.Errorf("%+v: got %d, want %d", c.p, got, c.want)
		}
	}
}

func TestPlanReached(t *testing.T) {
	p := &plan{ends: map[string]map[int32]int64{"a": {0: 5, 1: 3}, "b": {0: 1}}}
	p.dropFinished(map[string]map[int32]int64{"a": {0: 0, 1: 3}, "b": {0: 1}})
	if p.nothing() || len(p.ends) != 1 || len(p.ends["a"]) != 1 {
		t.Fatalf("left %v", p.ends)
	}
	if p.reached("a", 0, 4) {
		t.Error("4 is not the end")
	}
	if !p.reached("a", 0, 5) || !p.nothing() {
		t.Error("5 is the end of the last partition")
	}
	if (&plan{}).reached("a", 0, 9) {
		t.Error("without ends there is no end")
	}
}
