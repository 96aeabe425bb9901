package main

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// What was measured, on two cores that the generators shared. Each is a cost at one place, not a promise.
const (
	awayBytes   = 820   // memory of a session (0007: 82 MB for 100,000)
	onlineBytes = 2_250 // of an idle connection beside it (bench/RESULTS.md: 2.2 KiB)

	doorCPU    = 11.36e-6 // s for a message of QoS 1 by itself (RESULTS: 1,000 publishers × 1)
	laneCPU    = 13.6e-6  // s for a unit on a cluster, its broker included (0006: 147,000 units/s on two cores)
	tailCPU    = 0.17e-6  // s to read and match a record (RESULTS: fan-in less ingest, QoS 0)
	recordCPU  = 0.24e-6  // s of a broker for a record in a full batch (RESULTS: produce 100 B)
	batchCPU   = 209.7e-6 // s of a broker for a batch of one record (RESULTS: produce, 1,000 partitions, 10,000 keys)
	foldTime   = 2.7e-6   // s to read a session back (0007: 0.27 s for 100,000)
	oneLane    = 147_000  // units/s into one partition (0006)
	ownedUnits = 4_000    // units/s of one owner (0006: 31,000 with eight)
)

// What was not measured, and is assumed.
const (
	relayCPU    = 5e-6  // s of each node for a packet that is passed on: a read and a write
	connectCPU  = 1e-3  // s for a connection with TLS
	recordSize  = 200.0 // bytes of a message in the log, its topic name and headers included
	replicas    = 3
	fenceTime   = 10e-3 // s for a shard, until its last owner is fenced
	nodeCores   = 16
	nodeMemory  = 64e9
	nodeNetwork = 1.25e9 // bytes/s each way
)

// fleet is one case: what is asked of how many nodes.
type fleet struct {
	gateways, brokers  int
	sessions           float64 // all of them connected
	messages           float64 // a second, from devices
	commands           float64 // a second, to devices: each to one
	transacted         float64 // share of messages with QoS 2 from sessions that last
	shards, partitions int     // of the session topic, and of what devices publish
	linger             time.Duration
	direct             bool // devices are led to the gateway that has their shard
}

// issue14 is what issue 14 asks for.
func issue14(gateways int) fleet {
	return fleet{gateways: gateways, brokers: 30, sessions: 10e6, messages: 5e6, commands: 50e3, transacted: 0.01,
		shards: 1024, partitions: 256, linger: 50 * time.Millisecond}
}

// bound is a resource and how much of it is asked for: above 1 there is not enough.
type bound struct {
	name string
	used float64
}

// passed is the share of packets that come to a gateway that does not have their session.
func (f fleet) passed() float64 {
	if f.direct {
		return 0
	}
	return 1 - 1/float64(f.gateways)
}

// tailed are the bytes that a gateway reads in a second: with many sessions on each, some session needs each partition
// of commands, so all gateways read all commands.
func (f fleet) tailed() float64 { return f.commands * recordSize }

// batches are those that brokers are sent in a second: each gateway fills one for each partition in each linger, unless
// there are fewer messages.
func (f fleet) batches() float64 {
	return min(f.messages, float64(f.gateways*f.partitions)/f.linger.Seconds())
}

// bounds are all resources, what is needed most of first.
func (f fleet) bounds() []bound {
	n, b := f.even(), float64(f.brokers)
	cpu := (f.messages*(doorCPU+laneCPU+2*relayCPU*f.passed())+f.commands*(doorCPU+2*relayCPU*f.passed()))/n +
		f.commands*tailCPU
	network := (f.messages+f.commands)*recordSize*(1+f.passed())/n + f.tailed()
	perBatch := max(f.messages/f.batches(), 1)
	broker := f.batches()*(batchCPU+(perBatch-1)*recordCPU) + (replicas-1)*f.messages*recordCPU
	all := []bound{
		{"CPU of gateways", cpu / nodeCores},
		{"memory of gateways", f.sessions * (awayBytes + onlineBytes) / (n * nodeMemory)},
		{"network of gateways", network / nodeNetwork},
		{"CPU of brokers", broker / (b * nodeCores)},
		{"network of brokers", (f.messages*recordSize*replicas + float64(f.gateways)*f.tailed()) / (b * nodeNetwork)},
		{"partitions of data", f.messages / float64(f.partitions) / oneLane},
		{"shards, by QoS 2", f.messages * f.transacted / float64(f.shards) / ownedUnits},
	}
	slices.SortStableFunc(all, func(x, y bound) int { return cmp.Compare(y.used, x.used) })
	return all
}

// even is how many gateways would do as much as these if all had equal shares: shards are not cut.
func (f fleet) even() float64 {
	return float64(f.shards) / math.Ceil(float64(f.shards)/float64(f.gateways))
}

// used is how much of a resource is asked for.
func (f fleet) used(name string) float64 {
	all := f.bounds()
	return all[slices.IndexFunc(all, func(b bound) bool { return b.name == name })].used
}

// carried are the messages a second for which there is enough of everything: found by halving, because batches are not
// in proportion to messages.
func (f fleet) carried() float64 {
	low, high := 0.0, f.messages
	if f.bounds()[0].used <= 1 {
		return high
	}
	for range 60 {
		try := f
		try.messages = (low + high) / 2
		if try.bounds()[0].used <= 1 {
			low = try.messages
		} else {
			high = try.messages
		}
	}
	return low
}

// carriedAtMost are the messages a second that would be carried if devices sent as many as they can.
func (f fleet) carriedAtMost() float64 {
	f.messages = 1e9
	return f.carried()
}
