package mqtt

import (
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/groups"
	"github.com/firthmq/firth/internal/names"
)

// ShareLine is the group of a shared subscription in a list.
type ShareLine struct {
	Name     string `json:"name"`     // $share/{share}/{filter}
	State    string `json:"state"`    // as a consumer group's: Stable, or Empty when no member is connected
	Members  int    `json:"members"`  // connected
	Sessions int    `json:"sessions"` // subscribed, connected or not; where nodes share sessions, those that are connected
	Open     int    `json:"open"`     // messages that were given out and are not acknowledged
	Lag      int64  `json:"lag"`      // records that it has not done with: open, or not given out yet
}

// Shares are the groups of shared subscriptions here, by their names. Errors: those of the log.
func (d *Door) Shares() ([]ShareLine, error) {
	lines := []ShareLine{}
	for _, l := range d.groups.Load().Look() {
		lag, err := d.shareLag(&l)
		if err != nil {
			return nil, err
		}
		line := ShareLine{Name: names.Share(l.Share, l.Filter), State: "Stable", Members: l.Connected,
			Sessions: l.Sessions, Open: l.Open, Lag: lag}
		if l.Connected == 0 {
			line.State = "Empty"
		}
		lines = append(lines, line)
	}
	return lines, nil
}

// shareLag is how many records a group has not done with, whether they are for it or not. Errors: those of the log.
func (d *Door) shareLag(l *groups.Look) (lag int64, err error) {
	lag = int64(l.Open)
	if !l.Behind {
		return lag, nil
	}
	for _, p := range d.fanout.Partitions(l.Filter) {
		bounds, err := d.opt.Log.Bounds(p)
		switch {
		case fault.Is(err, fault.NotFound): // it was deleted just now
		case err != nil:
			return 0, err
		default:
			lag += lagOf(bounds, l.At(p))
		}
	}
	return lag, nil
}

func lagOf(b stream.Bounds, next int64) int64 {
	return max(int64(b.Stable-max(record.Offset(next), b.Start)), 0)
}

// sharedLag is how many records all groups have not done with, as far as the log tells.
func (d *Door) sharedLag() (lag float64) {
	for _, l := range d.groups.Load().Look() {
		if n, err := d.shareLag(&l); err == nil {
			lag += float64(n)
		}
	}
	return lag
}
