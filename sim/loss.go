package main

import "math"

// What is assumed of a loss.
const (
	noticed   = 6.0   // s until the group forgets a member: log.kafka.takeover
	rebalance = 1.0   // s for one round of the group
	retry     = 5.0   // s after which a device tries again, on the average
	step      = 0.05  // s of the simulation
	longest   = 300.0 // s that are played
)

// moment is how things stand at a time after a loss.
type moment struct {
	at      float64 // s
	shards  float64 // share of shards that have an owner
	served  float64 // share of devices that are connected to what has their session
	made    float64 // messages of devices, since the loss
	logged  float64 // of these, in the log
	waiting float64 // of these, not acknowledged: devices keep them
}

// lose plays the loss of some gateways. A device publishes on while it is not served, and keeps what is not
// acknowledged. CPUs connect devices first; with what is left of them messages pass.
func lose(f fleet, lost int) []moment {
	left := f
	left.gateways -= lost
	capacity := left.carriedAtMost()
	cores := float64(left.gateways) * nodeCores
	gone := float64(lost) / float64(f.gateways)
	// Each gateway that is left reads its part of the shards back, one after the other.
	folds := math.Ceil(float64(f.shards)*gone/float64(left.gateways)) *
		(fenceTime + f.sessions/float64(f.shards)*foldTime)

	m := moment{shards: 1 - gone, served: 1 - gone}
	all := []moment{m}
	kept, due := 0.0, 0.0 // messages of devices that are not served, and of those that are
	for m.at < longest {
		m.at += step
		m.shards = max(m.shards, 1-gone*(1-min(max((m.at-noticed-rebalance)/folds, 0), 1)))
		come := min((m.shards-m.served)*step/retry, cores*step/connectCPU/f.sessions)
		busy := come * f.sessions * connectCPU / (cores * step)
		if away := 1 - m.served; away > 0 {
			moved := kept * min(come/away, 1)
			kept, due = kept-moved, due+moved
		}
		m.served = min(m.served+come, 1)
		fresh := f.messages * step
		m.made += fresh
		kept += fresh * (1 - m.served)
		due += fresh * m.served
		passed := min(due, capacity*step*(1-busy))
		due -= passed
		m.logged += passed
		m.waiting = kept + due
		all = append(all, m)
	}
	return all
}

// recovery is when 999 of 1,000 devices are served after a loss, and when no more waits than a second's worth of
// messages; +Inf: not within what was played.
func recovery(f fleet, all []moment) (served, drained float64) {
	served, drained = math.Inf(1), math.Inf(1)
	for _, m := range all {
		if m.served >= 0.999 {
			served = min(served, m.at)
			if m.waiting <= f.messages {
				drained = min(drained, m.at)
			}
		}
	}
	return served, drained
}
