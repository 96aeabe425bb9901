package cluster

import (
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/firthmq/firth/internal/kit/clock"
	"github.com/firthmq/firth/internal/kit/fault"
)

const (
	pulse     = time.Second     // how often the cluster is asked whether it is there
	pulseWait = 3 * time.Second // for its answer
	stalled   = 5 * time.Second // how long a group may be under way before that is told
)

// health is whether the cluster answers, and takes what is sent.
type health struct {
	sync.Mutex
	away   error // the last answer to a pulse; nil: it is there
	since  time.Time
	lost   error               // another node serves the cluster
	closed bool                // by Close
	under  map[*lane]time.Time // since when groups of lanes are under way
	cause  error               // the last answer that made a lane try again
}

func (h *health) begin(l *lane) {
	h.Lock()
	defer h.Unlock()
	if h.under == nil {
		h.under = make(map[*lane]time.Time)
	}
	h.under[l] = time.Now()
}

func (h *health) end(l *lane) {
	h.Lock()
	defer h.Unlock()
	delete(h.under, l)
}

// blame notes why a lane tries again.
func (h *health) blame(err error) {
	h.Lock()
	defer h.Unlock()
	h.cause = err
}

// heard takes in the answer to a pulse, and tells whether that is news.
func (h *health) heard(err error) (news bool) {
	h.Lock()
	defer h.Unlock()
	if news = (h.away == nil) != (err == nil); news {
		h.since = time.Now()
	}
	h.away = err
	return news
}

func (h *health) close() {
	h.Lock()
	defer h.Unlock()
	h.closed = true
}

// stall is since when the oldest group is under way; 0: none is.
func (h *health) stall() (longest time.Duration) {
	h.Lock()
	defer h.Unlock()
	for _, since := range h.under {
		longest = max(longest, time.Since(since))
	}
	return longest
}

// Refused tells why the cluster takes nothing now; nil: it does, as far as is known. Errors: Closed; Fenced, another
// node serves the cluster; IO, the cluster is away or does not take what was sent.
func (c *Cluster) Refused() error {
	const op = "cluster"
	stall, gone := c.health.stall(), c.opt.Place.gone()
	h := &c.health
	h.Lock()
	defer h.Unlock()
	switch {
	case h.closed:
		return fault.New(fault.Closed, op, "the log is closed")
	case h.lost != nil:
		return h.lost
	case gone != nil:
		return gone
	case h.away != nil:
		return fault.New(fault.IO, op, "Kafka is away for %s: %w", time.Since(h.since).Round(time.Second), h.away)
	case stall >= stalled && h.cause != nil:
		return fault.New(fault.IO, op, "Kafka has not taken what was sent for %s: %w", stall.Round(time.Second), h.cause)
	case stall >= stalled:
		return fault.New(fault.IO, op, "Kafka has not taken what was sent for %s", stall.Round(time.Second))
	}
	return nil
}

// pulseLoop is the pulse: it asks whether the cluster is there.
func (c *Cluster) pulseLoop() {
	for clock.Pause(c.ctx, pulse) == nil {
		err := c.ping()
		if c.ctx.Err() != nil {
			return
		}
		switch news := c.health.heard(err); {
		case !news:
		case err != nil:
			c.log.Warn("Kafka is away: nothing is acknowledged until it is back", "error", err)
		default:
			c.log.Info("Kafka is back", "brokers", c.brokers.Load())
		}
	}
}

// ping asks any broker, and another one if that is down.
func (c *Cluster) ping() error {
	ctx, cancel := context.WithTimeout(c.ctx, pulseWait)
	defer cancel()
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = []kmsg.MetadataRequestTopic{}
	for try := 0; ; try++ {
		resp, err := req.RequestWith(ctx, c.client)
		if err == nil {
			c.learn(resp)
			return nil
		}
		if clock.Pause(ctx, lasting(try)) != nil {
			return err
		}
	}
}
