package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/secure"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	readAhead   = 1 << 10  // bytes read before it is known what comes; all an idle connection keeps
	keepBuffer  = 16 << 10 // of each buffer that is used again; what grew beyond goes
	keepRequest = 1 << 10  // of a Produce request without its records
	keepCalls   = 32
	maxUnsent   = 256 // Produce requests of one connection that may be unanswered
	writeChunk  = 4 << 20
	largeDecode = 64 << 10 // requests above it are decoded a few at a time
)

// conn is one connection of a client. Its reader goroutine owns everything but mu and what fetch says.
//
// At any time it is in one of three modes: it has requests under way that are answered later (mu.calls: Produce,
// OffsetCommit, Heartbeat, LeaveGroup), in order, by a flusher goroutine that lives while there is something to
// write; or one Fetch is under way; or neither, and then the reader alone writes to the socket.
type conn struct {
	door      *Door
	nc        net.Conn
	log       *slog.Logger
	listener  string                      // that it came by, as rules know it
	principal string                      // who it is, e.g. Anonymous
	pass      atomic.Pointer[access.Pass] // what it may; nil: nobody asks
	clientID  string                      // of the request being answered, as the client says
	software  string                      // of the client, as ApiVersions said
	release   string
	host      string // address of the client without its port, as Kafka shows it: "/10.0.0.7"
	told      address
	operator  bool // it may do everything
	draining  atomic.Bool
	watch     watchdog
	quota     limits
	login     login
	knocking  atomic.Uint32 // the tick of the watchdog in which it came, if it has to authenticate yet; 0: it has not
	changes   int           // topics and partitions made or deleted by the request that is answered
	owing     bool          // the request that is answered was refused for what is owed of such changes

	quietUntil atomic.Int64 // when the connection is heard again, as Door.now tells it; 0: it is heard

	ahead []byte // what was read before it was asked for: ahead[from:to]
	from  int
	to    int
	frame []byte      // of requests that are decoded in place; used again
	out   []byte      // response of the reader; used again
	vec   net.Buffers // what is being written, by whoever holds the mode
	fetch fetch

	sharing map[shareMember]*shareSession // the share sessions that end with the connection; the reader's
	waits   atomic.Pointer[shareWait]     // a share fetch that waits; nil: none does

	holding   holding // in the budget of the door
	body      body    // of the Produce request that is arriving
	usual     int     // bytes of the records that a partition got last
	producing wire.ProduceStream

	mu struct {
		sync.Mutex
		calls     *call // under way, oldest first
		last      *call
		free      *call
		spare     int  // calls in free
		unsent    int  // calls and those being written
		producing int  // of them, Produce requests
		flushing  bool // a flusher is at work
		fetching  bool // a fetch is under way
		closed    bool
		failed    bool // the socket is closed
	}
	calm *sync.Cond // mu.unsent, mu.flushing or mu.fetching went down
	sent []byte     // the flusher's
}

// address is a host and port that clients are told to connect to.
type address struct {
	host string
	port int32
}

func newConn(d *Door, nc net.Conn, listener string) *conn {
	c := &conn{
		door: d, nc: nc, listener: listener,
		host: "/" + hostOf(nc.RemoteAddr()), told: d.advertise(nc),
	}
	c.log = d.opt.Logger.With("client", c.host)
	if guest, is := nc.(*guestConn); is {
		c.welcome(&guest.guest)
	} else {
		c.know(Anonymous, nil)
		if p := c.pass.Load(); p != nil && p.Method() != "" {
			c.tellLogin(p.Method(), "", p.Over())
		}
	}
	c.calm = sync.NewCond(&c.mu)
	c.holding.b = d.budget
	c.fetch.c = c
	return c
}

// serve reads requests until the connection or ctx ends. A panic costs this connection.
func (c *conn) serve(ctx context.Context) {
	defer c.close()
	defer c.survive()
	c.ahead = make([]byte, readAhead)
	c.holding.ended = ctx.Done()
	for {
		err := c.next(ctx)
		if err == nil {
			continue
		}
		if c.draining.Load() || errors.Is(err, io.EOF) { // the client may still listen
			c.fetch.end()
			c.rest()
			return
		}
		if !errors.Is(err, net.ErrClosed) && fault.KindOf(err) != fault.Internal {
			c.door.metrics.bad.Inc()
			c.complain(err)
		}
		return
	}
}

// survive turns a panic into the end of one connection.
func (c *conn) survive() {
	if v := recover(); v != nil {
		c.door.metrics.panics.Inc()
		c.log.Error("kafka: a request broke its handler", "panic", v, "stack", string(debug.Stack()))
		c.fail()
	}
}

// fail ends the connection from any goroutine: its reader sees the closed socket, and who waits for
// answers to be written waits no more.
func (c *conn) fail() {
	_ = c.nc.Close() // the reader reports what there is to report
	c.mu.Lock()
	c.mu.failed = true
	c.calm.Broadcast()
	c.mu.Unlock()
}

// close waits for those that write for this connection. Receipts that still come find it closed.
func (c *conn) close() {
	c.fail()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.closed = true
	for c.mu.flushing || c.mu.fetching {
		c.mu.Unlock()
		c.fetch.end()
		c.mu.Lock()
		if c.mu.flushing || c.mu.fetching {
			c.calm.Wait()
		}
	}
}

// rest waits until everything that was asked is answered.
func (c *conn) rest() {
	c.mu.Lock()
	for (c.mu.unsent > 0 || c.mu.fetching) && !c.mu.failed {
		c.calm.Wait()
	}
	c.mu.Unlock()
}

// next reads one request and answers it or, if it is a Produce or a Fetch, has it under way.
func (c *conn) next(ctx context.Context) error {
	switch {
	case c.login.over:
		return errRefused
	case c.login.unframed:
		return c.nextToken(ctx)
	}
	size, head, err := c.peek()
	if err != nil {
		return err
	}
	c.watch.set(working)
	start := time.Now()
	api := c.door.apis[head.Key]
	if err := c.admit(api, head, size); err != nil {
		return err
	}
	c.door.bytesIn.Add(uint64(size + wire.SizeLen))
	if head.Key == wire.Produce {
		if err := c.turn(func() bool { return c.mu.fetching || c.mu.unsent >= maxUnsent }); err != nil {
			return err
		}
		return c.produce(ctx, api, size, start)
	}
	if api.later != nil {
		return c.answerLater(ctx, api, size, start)
	}
	if err := c.turn(func() bool { return c.mu.fetching || c.mu.unsent > 0 }); err != nil {
		return err
	}
	return c.answer(ctx, api, head, size, start)
}

// answerLater begins to answer a request whose answer may come later, and reads on. Those that keep a session alive
// or end one are heard whatever waits before them, and answered in their turn.
func (c *conn) answerLater(ctx context.Context, api *served, size int, start time.Time) error {
	if !api.prompt { // a commit counts behind the records that came before it
		busy := func() bool { return c.mu.fetching || c.mu.producing > 0 || c.mu.unsent >= maxUnsent }
		if err := c.turn(busy); err != nil {
			return err
		}
	}
	if err := c.holding.take(size); err != nil {
		return err
	}
	p := c.newCall()
	p.api, p.size, p.start = api, size, start
	req, err := c.decode(ctx, api, p, size)
	if err != nil {
		c.holding.give(size)
		return err
	}
	work := c.starts()
	p.throttle = c.chargeTime()
	p.left.Store(1)
	if api.prompt {
		p.left.Store(2) // its answer, and its turn
	} else {
		c.enqueue(p)
	}
	api.later(ctx, c, req, func(resp kmsg.Response) {
		p.resp = resp
		p.settle()
	})
	c.ends(work)
	if api.prompt {
		if err := c.await(func() bool { return c.mu.fetching || c.mu.unsent >= maxUnsent }); err != nil {
			return err
		}
		c.enqueue(p)
		p.settle()
	}
	return ctx.Err()
}

// decode reads a request that is decoded by kmsg.
func (c *conn) decode(ctx context.Context, api *served, p *call, size int) (kmsg.Request, error) {
	frame, err := c.readFrame(size, nil) // the handler may keep it
	if err != nil {
		return nil, err
	}
	head, body, err := wire.ParseHeader(api.API, frame)
	if err != nil {
		return nil, err
	}
	c.setClientID(head.ClientID)
	p.correlationID = head.CorrelationID
	if len(body) > largeDecode {
		select {
		case c.door.large <- struct{}{}:
			defer func() { <-c.door.large }()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return wire.Decode(api.API, head.Version, body)
}

// await blocks the reader while busy, which is asked under the lock. Errors: net.ErrClosed, when the connection failed:
// what it waited for may still be at work then.
func (c *conn) await(busy func() bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for busy() && !c.mu.failed {
		c.calm.Wait()
	}
	if c.mu.failed {
		return net.ErrClosed
	}
	return nil
}

// turn is await, and for as long as the connection is throttled.
func (c *conn) turn(busy func() bool) error {
	if err := c.await(busy); err != nil {
		return err
	}
	return c.keepQuiet()
}

// admit refuses what is not a request, or not one that is served, before anything is allocated for it.
func (c *conn) admit(api *served, head wire.Header, size int) error {
	const op = "kafka.read"
	if err := c.login.admits(head.Key, c.door.now); err != nil {
		return err
	}
	if err := c.isOver(); err != nil && !c.login.knocks(head.Key) {
		return err
	}
	switch {
	case api == nil:
		return fault.New(fault.Unsupported, op, "API key %d is not served", head.Key).WithHint("%s", stranger(size))
	case head.Key == wire.ApiVersions && size <= api.MaxBytes:
		return nil // of any version
	case !api.Has(head.Version):
		c.outdated(api.API, head.Version, c.peekClientID())
		return errOutdated
	}
	limit := api.MaxBytes
	if limit == 0 || limit > c.door.opt.MaxRequestBytes {
		limit = c.door.opt.MaxRequestBytes
	}
	if size > limit {
		return fault.New(fault.TooLarge, op, "%s of %d bytes, %d are allowed", api.Name, size, limit)
	}
	return nil
}

// errOutdated ends a connection that asked for a version that is not served; who it was is logged already.
var errOutdated = fault.New(fault.Unsupported, "kafka.read", "a version that is not served")

// outdated counts a request of a version that is not served and tells, once a minute for each client, who sends it.
func (c *conn) outdated(api *wire.API, version int16, clientID string) {
	label := "other"
	if version >= 0 && version <= maxVersionLabel {
		label = strconv.Itoa(int(version))
	}
	c.door.metrics.outdated.With(api.Name, label).Inc()
	if held, ok := c.door.lines.Pass(fmt.Sprint("version ", api.Key, version, c.host, clientID)); ok {
		lowest := api.Min
		if api.Key == wire.Produce {
			lowest = wire.ProduceFloor
		}
		c.log.Warn(fmt.Sprintf("kafka: %s v%d is not served, v%d to v%d are", api.Name, version, lowest, api.Max),
			"client_id", brief(clientID), "more", held, "hint", "use a client of Kafka 2.1 or newer")
	}
}

// maxVersionLabel bounds the values of a label: versions come from clients.
const maxVersionLabel = 20

// complain logs why a connection was closed, once a minute for each client and kind of error.
func (c *conn) complain(err error) {
	if errors.Is(err, errOutdated) || errors.Is(err, errRefused) {
		return
	}
	if held, ok := c.door.lines.Pass(fmt.Sprint("closed ", fault.KindOf(err), c.host, c.clientID)); ok {
		c.log.Warn("kafka: connection closed", "client_id", brief(c.clientID), "error", err, "more", held,
			"hint", fault.HintOf(err))
	}
}

// brief cuts what a client says of itself to what a line can bear.
func brief(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return s[:most] + "... (" + strconv.Itoa(len(s)) + " bytes)"
}

// peekClientID is the client id of the request that peek saw, as far as it was read along with its head.
func (c *conn) peekClientID() string {
	b := c.ahead[c.from+wire.SizeLen+wire.HeadLen : c.to]
	if len(b) < 2 {
		return ""
	}
	n := int(int16(binary.BigEndian.Uint16(b)))
	return string(b[2 : 2+max(0, min(n, len(b)-2))])
}

// stranger guesses from the first bytes who came to the wrong door.
func stranger(size int) string {
	switch b := uint32(size); {
	case b>>16 == 0x1603:
		return "this looks like TLS; this listener speaks plain Kafka, listen.kafkas speaks TLS"
	case b == 'G'<<24|'E'<<16|'T'<<8|' ' || b == 'P'<<24|'O'<<16|'S'<<8|'T' || b == 'H'<<24|'E'<<16|'A'<<8|'D':
		return "this looks like HTTP; the listener speaks Kafka"
	}
	return "is this a Kafka client?"
}

// answer reads a request that the reader answers itself, and answers it.
func (c *conn) answer(ctx context.Context, api *served, head wire.Header, size int, start time.Time) error {
	if err := c.holding.take(size); err != nil { // an answer would need the request
		return err
	}
	defer func() {
		c.holding.give(size)
		if cap(c.frame) > keepBuffer {
			c.frame = nil
		}
	}()
	var frame []byte
	var err error
	if api.handle != nil {
		frame, err = c.readFrame(size, nil) // the handler may keep it
	} else {
		frame, err = c.readFrame(size, c.frame)
		c.frame = frame
	}
	if err != nil {
		return err
	}
	if api.Key == wire.ApiVersions && !api.Has(head.Version) {
		c.out = wire.AppendApiVersions(c.out[:0], head, wire.UnsupportedVersion, c.door.versions)
		return c.writeOut()
	}
	head, body, err := wire.ParseHeader(api.API, frame)
	if err != nil {
		return err
	}
	c.setClientID(head.ClientID)
	if api.Key == wire.Fetch {
		return c.startFetch(ctx, head, body, start)
	}
	defer api.seconds.observe(start)
	if api.raw != nil {
		work := c.starts()
		c.out, err = api.raw(ctx, c, head, body, c.out[:0])
		c.ends(work)
		if millis := c.chargeTime(); millis > 0 && err == nil {
			wire.PutThrottle(c.out, api.API, head.Version, millis)
		}
	} else {
		err = c.call(ctx, api, head, body)
	}
	if err != nil {
		return err
	}
	return c.writeOut()
}

// call decodes a request by kmsg and runs its handler. Large ones are decoded a few at a time: what
// they cost in memory is a multiple of their size.
func (c *conn) call(ctx context.Context, api *served, head wire.Header, body []byte) error {
	if len(body) > largeDecode {
		select {
		case c.door.large <- struct{}{}:
			defer func() { <-c.door.large }()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	work := c.starts()
	req, err := wire.Decode(api.API, head.Version, body)
	if err != nil {
		return err
	}
	resp, err := api.handle(ctx, c, req)
	if err != nil {
		return err
	}
	if api.Key != wire.JoinGroup && api.Key != wire.SyncGroup && api.Key != wire.ShareFetch { // which wait for others
		c.ends(work)
	}
	throttle(resp, max(c.chargeTime(), c.chargeChanges()))
	c.out = wire.AppendResponse(c.out[:0], api.API, head.CorrelationID, resp)
	return nil
}

// writeOut writes the reader's response, which is counted meanwhile, and lets go of a buffer that grew.
func (c *conn) writeOut() error {
	if err := c.holding.take(len(c.out)); err != nil {
		return err
	}
	defer c.holding.give(len(c.out))
	err := c.write(c.out)
	if cap(c.out) > keepBuffer {
		c.out = nil
	}
	return err
}

func (c *conn) setClientID(id []byte) {
	if string(id) != c.clientID { // compares without allocating
		c.clientID = string(id)
	}
}

// write writes b. Only the one who holds the mode of the connection may call it.
func (c *conn) write(b []byte) error {
	for len(b) > 0 {
		c.watch.set(writing)
		n, err := c.nc.Write(b[:min(len(b), writeChunk)])
		c.door.bytesOut.Add(uint64(n))
		if err != nil {
			return err
		}
		b = b[n:]
	}
	c.watch.set(idle)
	return nil
}

// writeVec writes what is in vec.
func (c *conn) writeVec() (int64, error) {
	if s, ok := c.nc.(*secure.Conn); ok {
		return s.WriteBuffers(c.vec)
	}
	return c.vec.WriteTo(c.nc)
}

// writeAll writes pieces in order without joining them. It consumes them.
func (c *conn) writeAll(pieces net.Buffers) error {
	for len(pieces) > 0 {
		n, size := 0, 0
		for n < len(pieces) && (n == 0 || size < writeChunk) {
			size += len(pieces[n])
			n++
		}
		c.vec = pieces[:n]
		pieces = pieces[n:]
		c.watch.set(writing)
		written, err := c.writeVec()
		c.door.bytesOut.Add(uint64(written))
		if err != nil {
			return err
		}
	}
	c.watch.set(idle)
	return nil
}
