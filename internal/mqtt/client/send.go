package client

import (
	"context"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// Publish sends a message. It sets p.PacketID, copies p into the write buffer, and blocks while the
// window of messages in flight (QoS 1 and 2) or the buffer is full. ticket comes back in OnAck. Not to
// be called from a callback. Errors: TooLarge and Unsupported where the server said that it would not
// take the message; why the connection ended.
func (c *Client) Publish(p *packet.Publish, ticket uint64) error {
	if err := c.judge(p); err != nil {
		return err
	}
	c.mu.Lock()
	for c.mu.err == nil && !c.mu.closing && !c.roomLocked(p.QoS) {
		c.startWriteLocked()
		c.waitLocked()
	}
	err := c.endedLocked()
	if err == nil {
		c.appendLocked(p, ticket)
		c.startWriteLocked()
	}
	c.mu.Unlock()
	return err
}

// Offer is Publish without waiting: it tells false when the window or the buffer is full, and leaves
// the writing to the end of the reader's turn, to Flush or to the next Publish.
func (c *Client) Offer(p *packet.Publish, ticket uint64) (bool, error) {
	if err := c.judge(p); err != nil {
		return false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.endedLocked(); err != nil || !c.roomLocked(p.QoS) {
		return false, err
	}
	c.appendLocked(p, ticket)
	return true, nil
}

// judge refuses what the server said that it does not take.
func (c *Client) judge(p *packet.Publish) error {
	const op = "mqtt publish"
	switch s := &c.server; {
	case p.QoS > s.MaximumQoS:
		return fault.New(fault.Unsupported, op, "the server takes QoS %d at most, not %d", s.MaximumQoS, p.QoS)
	case p.Retain && !s.Retain:
		return fault.New(fault.Unsupported, op, "the server keeps no retained messages")
	case int(p.Props.TopicAlias) > s.TopicAliases: // [MQTT-3.3.2-9]
		return fault.New(fault.Unsupported, op, "the server takes %d topic aliases, not %d", s.TopicAliases,
			p.Props.TopicAlias)
	case s.MaxPacketSize < packet.MaxSize || len(p.Payload) > packet.MaxSize-1<<20:
		if n := p.Size(c.o.Version); n > s.MaxPacketSize {
			return fault.New(fault.TooLarge, op, "a packet of %d bytes, the server takes at most %d", n, s.MaxPacketSize)
		}
	}
	return nil
}

func (c *Client) endedLocked() error {
	if c.mu.err == nil && c.mu.closing {
		return errClosed
	}
	return c.mu.err
}

func (c *Client) roomLocked(qos byte) bool {
	return len(c.mu.out) < c.o.WriteBuffer && (qos == 0 || c.mu.inflight < c.o.Inflight)
}

func (c *Client) appendLocked(p *packet.Publish, ticket uint64) {
	p.PacketID = 0
	if p.QoS > 0 {
		waits := packet.PUBACK
		if p.QoS == 2 {
			waits = packet.PUBREC
		}
		p.PacketID = c.takeSlotLocked(slot{ticket: ticket, waits: waits})
	}
	c.mu.out = p.AppendTo(c.mu.out, c.o.Version)
}

func (c *Client) takeSlotLocked(s slot) uint16 {
	c.mu.inflight++
	if n := len(c.mu.free); n > 0 {
		id := c.mu.free[n-1]
		c.mu.free = c.mu.free[:n-1]
		c.mu.slots[id-1] = s
		return id
	}
	c.mu.slots = append(c.mu.slots, s)
	return uint16(len(c.mu.slots))
}

// startWriteLocked sees to it that somebody writes what waits.
func (c *Client) startWriteLocked() {
	if c.mu.writing || len(c.mu.out) == 0 || c.mu.err != nil {
		return
	}
	if !c.mu.writer {
		c.mu.writer = true
		c.writer.Go(c.write)
	}
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// write is the writer.
func (c *Client) write() {
	for {
		select {
		case <-c.wake:
			c.Flush()
		case <-c.stop:
			return
		}
	}
}

// Flush writes what waits, unless somebody is writing already, who then writes this as well.
func (c *Client) Flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.writing {
		return
	}
	c.mu.writing = true
	for len(c.mu.out) > 0 && c.mu.err == nil {
		buf := c.swapLocked()
		c.mu.Unlock()
		_, err := c.conn.Write(buf)
		c.mu.Lock()
		c.mu.spare = buf[:0]
		if err != nil {
			c.failLocked(err)
		}
	}
	c.mu.writing = false
	c.changedLocked()
}

// swapLocked takes what waits and leaves the other buffer in its place.
func (c *Client) swapLocked() []byte {
	buf := c.mu.out
	c.mu.out, c.mu.spare = c.mu.spare[:0], nil
	c.wrote.Store(true)
	c.changedLocked()
	return buf
}

// endTurn writes what the reader's turn has left behind, acknowledgements and offered messages. The
// reader itself writes, which spares a wake-up, but never waits for the socket: a reader that waits for
// a server that waits for its reader would wait for ever. What the socket does not take is the writer's.
func (c *Client) endTurn() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.mu.out) == 0 || c.mu.writing || c.mu.err != nil {
		return
	}
	if c.direct == nil || len(c.mu.out) > turnBytes {
		c.startWriteLocked()
		return
	}
	c.mu.writing = true
	buf := c.swapLocked()
	c.mu.Unlock()
	n, err := c.direct.write(buf)
	c.mu.Lock()
	c.mu.writing = false
	switch {
	case err != nil:
		c.failLocked(err)
	case n < len(buf):
		c.mu.out = append(append(make([]byte, 0, len(buf)-n+len(c.mu.out)), buf[n:]...), c.mu.out...)
	}
	c.mu.spare = buf[:0]
	c.startWriteLocked()
	c.changedLocked()
}

// Ack acknowledges a message that OnMessage was given under ManualAck. It only appends the packet:
// like an Offer it leaves with the next write.
func (c *Client) Ack(id uint16, qos byte, reason packet.ReasonCode) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.closing { // nothing may follow DISCONNECT [MQTT-3.14.4-2]
		return
	}
	switch qos {
	case 1:
		c.mu.out = packet.AppendPuback(c.mu.out, c.o.Version, id, reason)
	case 2:
		c.mu.out = packet.AppendPubrec(c.mu.out, c.o.Version, id, reason)
	}
}

// Subscribe subscribes and waits for the answer: one reason code for each subscription. Not to be
// called from a callback. Errors: why the connection ended; those of ctx.
func (c *Client) Subscribe(ctx context.Context, props packet.Properties,
	subs ...packet.Subscription) ([]packet.ReasonCode, error) {
	return c.call(ctx, func(id uint16) packet.Packet {
		return &packet.Subscribe{PacketID: id, Props: props, Subscriptions: subs}
	})
}

// Unsubscribe takes filters back and waits for the answer: one reason code for each of them, none in
// MQTT 3. Not to be called from a callback. Errors: why the connection ended; those of ctx.
func (c *Client) Unsubscribe(ctx context.Context, props packet.Properties,
	filters ...[]byte) ([]packet.ReasonCode, error) {
	return c.call(ctx, func(id uint16) packet.Packet {
		return &packet.Unsubscribe{PacketID: id, Props: props, Filters: filters}
	})
}

// call sends a packet that has an answer of its own, and waits for it.
func (c *Client) call(ctx context.Context, build func(id uint16) packet.Packet) ([]packet.ReasonCode, error) {
	answer, id, err := c.beginCall(build)
	if err != nil {
		return nil, err
	}
	c.Flush()
	select {
	case reasons := <-answer:
		return reasons, nil
	case <-c.done:
		c.mu.Lock()
		defer c.mu.Unlock()
		return nil, c.mu.err
	case <-ctx.Done():
		c.mu.Lock()
		delete(c.mu.calls, id)
		c.mu.Unlock()
		return nil, ctx.Err()
	}
}

func (c *Client) beginCall(build func(id uint16) packet.Packet) (chan []packet.ReasonCode, uint16, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.endedLocked(); err != nil {
		return nil, 0, err
	}
	if c.mu.calls == nil {
		c.mu.calls = make(map[uint16]chan []packet.ReasonCode)
	}
	const callIDs = 1<<16 - 1 - maxInflight
	if len(c.mu.calls) == callIDs {
		return nil, 0, fault.New(fault.Limited, "mqtt subscribe", "%d subscriptions wait for an answer", callIDs)
	}
	id := uint16(0)
	for used := true; used; _, used = c.mu.calls[id] {
		id = maxInflight + 1 + c.mu.nextCall
		c.mu.nextCall = (c.mu.nextCall + 1) % callIDs
	}
	answer := make(chan []packet.ReasonCode, 1)
	c.mu.calls[id] = answer
	c.mu.out = build(id).AppendTo(c.mu.out, c.o.Version)
	return answer, id, nil
}
