package cluster

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/firthmq/firth/internal/kit/fault"
)

// member is how this node speaks to the group of gateways: a client for nothing else. The client keeps in mind which
// broker has the group, also when that one says nothing any more and another one has it; so one that got no answer is
// replaced, while there is time for another sign of life. It is a kmsg.Requestor.
type member struct {
	opt Options

	mu      sync.Mutex
	client  *kgo.Client
	renewed int
}

func newMember(opt Options) (*member, error) {
	client, err := opt.client()
	if err != nil {
		return nil, err
	}
	return &member{opt: opt, client: client}, nil
}

// signs is how many signs of life go unanswered in Options.Takeover before the place is lost.
const signs = 3

// patience is how long an answer is waited for. The group holds back those to who joins until all others have.
func (m *member) patience(req kmsg.Request) time.Duration {
	switch req.(type) {
	case *kmsg.HeartbeatRequest:
		return m.opt.Takeover / signs
	case *kmsg.JoinGroupRequest, *kmsg.SyncGroupRequest:
		return m.opt.Takeover + m.opt.answerWait(false)
	}
	return m.opt.Patience
}

// Request implements kmsg.Requestor.
func (m *member) Request(ctx context.Context, req kmsg.Request) (kmsg.Response, error) {
	m.mu.Lock()
	client := m.client
	m.mu.Unlock()
	waits, cancel := context.WithTimeout(ctx, m.patience(req))
	defer cancel()
	began := time.Now()
	resp, err := client.Request(waits, req)
	m.opt.Logger.Debug("the group of gateways was asked", "request", kmsg.NameForKey(req.Key()), "took", time.Since(began),
		"error", err)
	if err != nil && ctx.Err() == nil {
		m.renew(client)
	}
	return resp, err
}

// join asks for a place in the group. Errors: Invalid, for a session that the brokers do not allow; what they answer.
func (m *member) join(ctx context.Context, req *kmsg.JoinGroupRequest) (*kmsg.JoinGroupResponse, error) {
	resp, err := req.RequestWith(ctx, m)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if errors.Is(err, kerr.InvalidSessionTimeout) {
		const bounds = "their group.min.session.timeout.ms and group.max.session.timeout.ms bound log.kafka.takeover"
		err = fault.New(fault.Invalid, "cluster", "the brokers do not take a session of %s in group %s: %w",
			m.opt.Takeover, LeaseGroup, err).WithHint(bounds)
	}
	return resp, err
}

// renew replaces a client, unless that was done meanwhile, by one that begins with a single broker: each in turn, so
// that one that is mute or down is in the way of one of them at most.
func (m *member) renew(old *kgo.Client) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.client != old {
		return
	}
	opt := m.opt
	opt.Seeds = opt.Seeds[m.renewed%len(opt.Seeds):][:1]
	m.renewed++
	if fresh, err := opt.client(); err == nil { // as it was the first time
		m.client = fresh
		old.Close()
	}
}

func (m *member) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.client.Close()
}
