package members

import (
	"bufio"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/mqtt/handout"
)

// silence is how long a link may say nothing.
const silence = 30 * time.Second

// line is a link to the node with the groups. What is not of the connection is guarded by the lock of Members.
type line struct {
	conn    net.Conn
	wake    chan struct{} // holds a token: there is something to write
	ended   chan struct{} // closed at the end
	out     []byte
	answers map[uint64]chan<- error // by request
	idle    int                     // times one after the other that there was nothing for it
}

// put has a frame be written. It needs the lock.
func (l *line) put(f handout.Frame) {
	l.out = handout.Append(l.out, f)
	select {
	case l.wake <- struct{}{}:
	default: // a token is there
	}
}

// keep uses a link until it ends, or ctx does, and closes it. Idle tells that it ends because there is nothing for it.
func (m *Members) keep(ctx context.Context, c net.Conn) (idle bool) {
	l := &line{conn: c, wake: make(chan struct{}, 1), ended: make(chan struct{}), answers: make(map[uint64]chan<- error)}
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	m.begin(l)
	var writing sync.WaitGroup
	writing.Go(func() { m.write(l) })
	err := m.read(l)
	if ctx.Err() == nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		m.opt.Logger.Debug("a link to the node with the groups of shared subscriptions ends", "error", err)
	}
	_ = c.Close()
	m.over(l)
	writing.Wait()
	return l.idle > idleBeats
}

// begin makes a link that of all members, and tells all of them.
func (m *Members) begin(l *line) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.line = l
	m.mu.links++
	l.put(&handout.Hello{Version: handout.Version})
	for _, number := range slices.Sorted(maps.Keys(m.mu.shards)) {
		if s := m.mu.shards[number]; s.serves {
			l.put(s.claims(number))
		}
	}
	for _, number := range slices.Sorted(maps.Keys(m.mu.members)) {
		if one := m.mu.members[number]; !one.unsubscribed {
			l.put(one.join())
		}
	}
	m.changeLocked()
}

func (m *Members) changeLocked() {
	close(m.mu.changed)
	m.mu.changed = make(signals)
}

// over ends a link: what members have not been handed goes to others.
func (m *Members) over(l *line) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.line = nil
	m.mu.links++ // nothing of it means anything from here on
	for _, one := range m.mu.members {
		one.waits = nil
	}
	close(l.ended)
	m.changeLocked()
}

// read takes what the other node says, until the link ends. Errors: always why.
func (m *Members) read(l *line) error {
	r := bufio.NewReaderSize(l.conn, 64<<10)
	for {
		if err := l.conn.SetReadDeadline(time.Now().Add(silence)); err != nil {
			return err
		}
		f, err := handout.Read(r)
		if err != nil {
			return err
		}
		switch f := f.(type) {
		case *handout.Message:
			m.take(f)
		case *handout.Answer:
			m.answer(l, f)
		}
	}
}

// take has a message wait for its member to be served.
func (m *Members) take(f *handout.Message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if one := m.mu.members[f.Member]; one != nil { // else it has left just now
		one.waits = append(one.waits, f)
		m.listLocked(one)
	}
}

func (m *Members) answer(l *line, f *handout.Answer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	to := l.answers[f.Request]
	delete(l.answers, f.Request)
	switch {
	case to == nil:
	case f.Error == "":
		to <- nil // it has room for one
	default:
		to <- fault.New(fault.Unavailable, "members.Settle", "%s", f.Error)
	}
}

// write writes what is put, until the link ends.
func (m *Members) write(l *line) {
	again := time.NewTicker(m.opt.Beat)
	defer again.Stop()
	for {
		select {
		case <-l.wake:
		case <-again.C:
			if m.beat(l) {
				_ = l.conn.Close()
				return
			}
		case <-l.ended:
			return
		}
		if _, err := l.conn.Write(m.takeOut(l)); err != nil {
			_ = l.conn.Close() // the reader sees it
			return
		}
	}
}

// idleBeats is for how many beats a link stays for which there is nothing: until what it said last is stored.
const idleBeats = 2

// beat says that the link is there, or that it need not be any more.
func (m *Members) beat(l *line) (end bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.mu.at) > 0 || len(m.mu.members) > 0 {
		l.idle = 0
	} else if l.idle++; l.idle > idleBeats {
		return true
	}
	l.put(&handout.Ping{})
	return false
}

func (m *Members) takeOut(l *line) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := l.out
	l.out = nil
	return b
}
