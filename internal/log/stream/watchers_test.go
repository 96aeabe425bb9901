package stream_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// ear notes what it is told.
type ear struct{ heard []string }

func (e *ear) Advanced(p stream.PartitionID, stable record.Offset) {
	e.heard = append(e.heard, fmt.Sprintf("%d@%d", p, stable))
}

// topicsEar wants to hear of topics too.
type topicsEar struct{ ear }

func (e *topicsEar) TopicsChanged() { e.heard = append(e.heard, "topics") }

func TestWatchersTellWhoWants(t *testing.T) {
	var ws stream.Watchers
	var all topicsEar
	var some, stopped ear
	ws.Watch(&all, stream.AllPartitions).Follow(7) // which says nothing new
	w := ws.Watch(&some, stream.Followed)
	gone := ws.Watch(&stopped, stream.AllPartitions)
	w.Follow(1, 2)
	w.Unfollow(2, 9)
	gone.Stop()
	gone.Stop()
	ws.Tell(func(to stream.News) {
		to.TopicsChanged()
		for p := range stream.PartitionID(4) {
			to.Advanced(p, 10+record.Offset(p))
		}
	})
	for _, c := range []struct{ got, want []string }{
		{all.heard, []string{"topics", "0@10", "1@11", "2@12", "3@13"}},
		{some.heard, []string{"1@11"}},
		{stopped.heard, nil},
	} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("heard %s, want %s", strings.Join(c.got, " "), strings.Join(c.want, " "))
		}
	}
}

// TestWatchersSayWhatChanged holds the counts of a keeper that listens only to what somebody follows: each partition is
// counted once a watch, and nothing is left when the watches are over.
func TestWatchersSayWhatChanged(t *testing.T) {
	var all int
	count := make(map[stream.PartitionID]int)
	var ws stream.Watchers
	ws.Changed = func(of stream.Interest, ps []stream.PartitionID, by int) {
		if of == stream.AllPartitions {
			all += by
			return
		}
		if len(ps) == 0 {
			t.Error("told of a change of nothing")
		}
		for _, p := range ps {
			count[p] += by
		}
	}
	wide := ws.Watch(&ear{}, stream.AllPartitions)
	one, other := ws.Watch(&ear{}, stream.Followed), ws.Watch(&ear{}, stream.Followed)
	wide.Follow(3)
	one.Follow(1, 1, 2)
	one.Follow(2)
	other.Follow(2)
	one.Unfollow(1, 1, 8)
	if all != 1 || count[1] != 0 || count[2] != 2 || count[3] != 0 {
		t.Errorf("%d want all; followed: %v", all, count)
	}
	if !ws.Watched(2) || !ws.Watched(9) {
		t.Error("nobody is said to watch, but one wants all")
	}
	wide.Stop()
	one.Stop()
	one.Stop()
	if all != 0 || count[2] != 1 || ws.Watched(1) || !ws.Watched(2) {
		t.Errorf("with one watch left: %d want all; followed: %v", all, count)
	}
	other.Stop()
	if count[2] != 0 || ws.Watched(2) {
		t.Errorf("with none left: %v", count)
	}
}
