package cluster

import (
	"context"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// muted has brokers say nothing: their connections are there, and what they send is never read.
type muted struct {
	down bool // and they take no new ones

	mu sync.Mutex
	at map[string]chan struct{} // closed: the broker at this address is mute
}

func (m *muted) broker(address string) chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.at == nil {
		m.at = make(map[string]chan struct{})
	}
	if m.at[address] == nil {
		m.at[address] = make(chan struct{})
	}
	return m.at[address]
}

func (m *muted) dial(ctx context.Context, network, address string) (net.Conn, error) {
	mute := m.broker(address)
	select {
	case <-mute:
		if m.down {
			return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
		}
	default:
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	ours, far := net.Pipe() // which has deadlines, and no memory
	go func() {
		defer c.Close()
		b := make([]byte, 64<<10)
		for {
			n, err := far.Read(b)
			if err != nil {
				return
			}
			if _, err := c.Write(b[:n]); err != nil {
				return
			}
		}
	}()
	go func() {
		defer far.Close()
		b := make([]byte, 64<<10)
		for {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			select {
			case <-mute:
				continue
			default:
			}
			if _, err := far.Write(b[:n]); err != nil {
				return
			}
		}
	}()
	return ours, nil
}

// TestSignOfLifePastAMuteBroker: a broker that had the group says nothing, and ends no connection; the group is with
// another one meanwhile, which gets the next sign of life.
func TestSignOfLifePastAMuteBroker(t *testing.T) { signOfLifePast(t, &muted{}) }

// TestSignOfLifePastADeadBroker: the same of a broker whose machine has died, and refuses connections: it is also the
// first one that is asked anew.
func TestSignOfLifePastADeadBroker(t *testing.T) { signOfLifePast(t, &muted{down: true}) }

func signOfLifePast(t *testing.T, brokers *muted) {
	t.Helper()
	t.Parallel() // it waits
	f, err := kfake.NewCluster(kfake.NumBrokers(3))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	opt := Options{
		Seeds: f.ListenAddrs(), Client: []kgo.Opt{kgo.Dialer(brokers.dial)}, Takeover: 3 * time.Second,
		Patience: 20 * time.Minute, // of a client by itself
	}
	m, err := newMember(opt.withDefaults())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.close)
	answered := func() bool {
		req := kmsg.NewPtrHeartbeatRequest()
		req.Group, req.MemberID = LeaseGroup, "nobody"
		resp, err := req.RequestWith(t.Context(), m)
		return err == nil && resp.ErrorCode != kerr.NotCoordinator.Code
	}
	until := func(what string) {
		t.Helper()
		for deadline := time.Now().Add(2 * time.Minute); !answered(); {
			if time.Now().After(deadline) {
				t.Fatal("no answer: ", what)
			}
		}
	}
	until("at first")
	before := f.CoordinatorFor(LeaseGroup)
	for f.CoordinatorFor(LeaseGroup) == before {
		f.RehashCoordinators()
	}
	at := f.ListenAddrs()[before]
	m.mu.Lock()
	first := slices.Index(m.opt.Seeds, at)
	m.opt.Seeds = slices.Concat(m.opt.Seeds[first:], m.opt.Seeds[:first])
	m.mu.Unlock()
	close(brokers.broker(at))
	until("by another broker")
}
