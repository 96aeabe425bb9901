// Package rest says when work that can wait has to rest, so that what cannot wait finds a processor: by measure, not by
// share. A rest that ends late has waited for a processor, as everything else that was due then has. So late rests make
// the work between two of them less, and timely ones more: where the processors have room all of it is used, and where
// they have none little is asked of them.
//
//	p := rest.New(8)
//	...                                                              // work
//	if began := now(); p.Due(began) { sleep(rest.Length); p.Rested(began, now()) }
package rest

import "time"

const (
	// Length is how long a rest is meant to be. A timer of the runtime may well take this long for less.
	Length = time.Millisecond
	// Late is by how much more a rest may take before it was late.
	Late = 300 * time.Microsecond

	// First is the work before the first rest.
	First = time.Millisecond / 2
	// Most is the most work between two rests.
	Most = 2 * time.Millisecond
	// more is by how much it grows with a timely rest. A late one takes a quarter of it.
	more = 20 * time.Microsecond
)

// Pacer is the pace of one piece of work. It is pure: times are those of a clock that never goes back, since any
// moment. It is not safe for concurrent use.
type Pacer struct {
	rests time.Duration // so many parts of the time may be rests while one is work
	work  time.Duration // between two rests
	owed  time.Duration // that a long rest is made up for by
	since time.Duration // the end of the last rest
}

// New is the pace of work that has one part in so many of the time at least, 2 to 100, however late its rests are: so
// it never starves.
func New(parts int) *Pacer {
	p := &Pacer{rests: time.Duration(parts - 1)}
	p.work = max(First, p.least())
	return p
}

func (p *Pacer) least() time.Duration { return Length / p.rests }

// Began says that there was nothing to do for a while, until now: that was a rest.
func (p *Pacer) Began(now time.Duration) { p.since, p.owed = now, 0 }

// Due tells whether a rest is due: there was work enough since the last one.
func (p *Pacer) Due(now time.Duration) bool { return now-p.since >= p.Work() }

// Work is how long is worked until the next rest.
func (p *Pacer) Work() time.Duration { return max(p.work, p.owed) }

// Rested takes note of a rest: from when to when.
func (p *Pacer) Rested(began, ended time.Duration) {
	took := ended - began
	if took > Length+Late {
		p.work = max(p.work-p.work/4, p.least())
	} else {
		p.work = min(p.work+more, Most)
	}
	p.since, p.owed = ended, took/p.rests
}
