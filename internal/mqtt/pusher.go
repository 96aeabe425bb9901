package mqtt

import (
	"context"
	"sync"
)

// pusher writes the acknowledgements that receipts put into outboxes, so that the log's goroutine, which
// brings the receipts of a whole commit group, does not: one wake-up for a group, and several pushers share
// the writes of a large one.
type pusher struct {
	wake chan struct{} // holds a token when there is work

	mu struct {
		sync.Mutex
		conns []*conn
	}
}

func newPusher() *pusher { return &pusher{wake: make(chan struct{}, 1)} }

// add puts a connection on the list. The caller has seen to it that it is there once.
func (p *pusher) add(c *conn) {
	p.mu.Lock()
	p.mu.conns = append(p.mu.conns, c)
	first := len(p.mu.conns) == 1
	p.mu.Unlock()
	if !first {
		return
	}
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// run pushes until ctx ends.
func (p *pusher) run(ctx context.Context) error {
	var batch []*conn
	for {
		select {
		case <-p.wake:
		case <-ctx.Done():
			return nil
		}
		p.mu.Lock()
		batch, p.mu.conns = p.mu.conns, batch[:0]
		p.mu.Unlock()
		for _, c := range batch {
			c.pushQueued()
		}
		clear(batch)
	}
}
