package mqtt

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/replica"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/ban"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/roster"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// BansTopic is the internal topic of which the bans are a fold. It is made with the first ban, or at the start where
// they are shared.
const BansTopic = "__firth_bans"

// Flapping bans clients whose connections come and go too often. The zero value bans nobody.
type Flapping struct {
	// Disconnects is how often a client may lose its connection, or end it, within Window. 0: as often as it likes.
	Disconnects int
	// Window is how long disconnects count together. Default one minute.
	Window time.Duration
	// Ban is for how long such a client is kept out. Default five minutes.
	Ban time.Duration
}

// SharedBans is of a door whose bans other nodes change, too. Run follows them: they are in force here moments later.
type SharedBans struct {
	// AcceptDamage goes on with what can be read of damaged bans. Otherwise nobody new is let in: what is missing keeps
	// somebody out.
	AcceptDamage bool
	// Passed is the time that has passed, since whenever. Default: that of the machine.
	Passed func() time.Duration
}

// maxBans bounds the bans; flapping leaves a half of them to operators.
const maxBans = 100_000

// bans are who is kept out. A ban is stored before it is in force, but for those that flapping makes.
type bans struct {
	door    *Door
	some    atomic.Bool      // there may be bans
	replica *replica.Replica // of bans that are shared; nil: nobody else changes them

	changing sync.Mutex // held over a change, the log included: one at a time

	mu struct {
		sync.Mutex
		table    ban.Table
		flapping *ban.Flapping
		watchers []func()
	}
}

// openBans reads the bans. What cannot be read, or is not understood, is as if it had not been set, unless they are
// shared.
func (d *Door) openBans(ctx context.Context) (err error) {
	b := &d.bans
	b.door, b.mu.flapping = d, ban.NewFlapping(d.opt.Flapping.Disconnects, d.opt.Flapping.Window)
	var folded stream.Folded
	if shared := d.opt.SharedBans; shared != nil {
		b.replica, folded, err = replica.Open(ctx, replica.Options{Log: d.opt.Log, Topic: BansTopic, Take: b.take,
			AcceptDamage: shared.AcceptDamage, Logger: d.opt.Logger, Passed: shared.Passed})
	} else {
		folded, err = stream.FoldState(ctx, d.opt.Log, BansTopic, func(key string, value []byte) error {
			_, err := b.apply(key, value)
			return err
		})
		b.some.Store(b.mu.table.Len() > 0)
	}
	if err != nil {
		return err
	}
	if !folded.Complete() {
		d.opt.Logger.Warn("some bans could not be read and are not in force", "lost", folded.Lost,
			"strange", folded.Strange, "error", folded.First)
	}
	return nil
}

// apply takes a record in, and tells whether it bans somebody. It needs the lock of mu, or nobody else to be there.
func (b *bans) apply(key string, value []byte) (bans bool, err error) {
	one, err := ban.Parse([]byte(key), value)
	switch {
	case err != nil:
		return false, err
	case value == nil:
		b.mu.table.Remove(one.Kind, one.Who)
		return false, nil
	default:
		return true, b.mu.table.Add(one)
	}
}

// take takes records in that are stored, and puts them in force. Anew, what was there before is not any more.
func (b *bans) take(anew bool, feed func(apply func(key string, value []byte) error)) {
	some := false
	b.mu.Lock()
	if anew {
		b.mu.table = ban.Table{}
	}
	feed(func(key string, value []byte) error {
		bans, err := b.apply(key, value)
		some = some || bans
		return err
	})
	b.some.Store(b.mu.table.Len() > 0)
	watchers := slices.Clone(b.mu.watchers)
	b.mu.Unlock()
	if !some || b.door.seats == nil { // nobody is here before there are seats
		return
	}
	b.door.evict()
	for _, f := range watchers {
		f()
	}
}

// WatchBans has f told when somebody was banned, by whichever node.
func (d *Door) WatchBans(f func()) {
	d.bans.mu.Lock()
	defer d.bans.mu.Unlock()
	d.bans.mu.watchers = append(d.bans.mu.watchers, f)
}

// UnsureOfBans tells why it is not known who is banned: other nodes may have changed bans that are shared, and that
// cannot be read. nil: it is known. Errors: Unavailable, Corrupt.
func (d *Door) UnsureOfBans() error {
	if d.bans.replica == nil {
		return nil
	}
	return d.bans.replica.Unsure()
}

// BanLine is a ban as people see it.
type BanLine struct {
	Kind   string     `json:"kind"` // client, user or address
	Who    string     `json:"who"`
	Since  time.Time  `json:"since"`
	Until  *time.Time `json:"until,omitempty"` // none: for ever
	By     string     `json:"by,omitempty"`
	Reason string     `json:"reason,omitempty"`
}

func banLine(b *ban.Ban) BanLine {
	line := BanLine{Kind: string(b.Kind), Who: b.Who, Since: time.UnixMilli(b.Since).UTC(), By: b.By, Reason: b.Reason}
	if b.Until > 0 {
		until := time.UnixMilli(b.Until).UTC()
		line.Until = &until
	}
	return line
}

// Bans lists the bans that are not over, by kind and whom they are about.
func (d *Door) Bans() []BanLine {
	now := d.opt.Clock().UnixMilli()
	d.bans.mu.Lock()
	all := d.bans.mu.table.All(now)
	d.bans.mu.Unlock()
	lines := make([]BanLine, len(all))
	for i := range all {
		lines[i] = banLine(&all[i])
	}
	return lines
}

// Ban keeps somebody out from now on, and ends the connections that are there with reason 0x98. A ban for the same is
// replaced. Since is now. It returns when the ban is stored. Errors: Invalid; Limited; those of the log.
func (d *Door) Ban(ctx context.Context, line BanLine) (*BanLine, error) {
	one := ban.Ban{Kind: ban.Kind(line.Kind), Who: line.Who, Since: d.opt.Clock().UnixMilli(), By: line.By,
		Reason: line.Reason}
	if line.Until != nil {
		if one.Until = line.Until.UnixMilli(); one.Over(one.Since) || one.Until <= 0 {
			return nil, fault.New(fault.Invalid, "ban", "%s has passed", line.Until.Format(time.RFC3339))
		}
	}
	if err := one.Check(); err != nil {
		return nil, err
	}
	if err := d.bans.add(ctx, &one); err != nil {
		return nil, err
	}
	made := banLine(&one)
	return &made, nil
}

// Unban removes a ban. It returns when that is stored. Errors: Invalid, NotFound, those of the log.
func (d *Door) Unban(ctx context.Context, kind, who string) (*BanLine, error) {
	one := ban.Ban{Kind: ban.Kind(kind), Who: who}
	if err := one.Check(); err != nil {
		return nil, err
	}
	var gone BanLine
	err := d.bans.change(ctx, func() ([]record.Record, error) {
		was := d.bans.lookup(one.Kind, one.Who)
		if was == nil {
			return nil, fault.New(fault.NotFound, "ban", "%s %s is not banned", kind, fault.Text(who)).
				WithHint("firth ban list shows who is")
		}
		gone = banLine(was)
		return d.bans.records(nil, *was)
	})
	if err != nil {
		return nil, err
	}
	return &gone, nil
}

func (b *bans) lookup(kind ban.Kind, who string) *ban.Ban {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.table.Get(kind, who)
}

// add stores a ban and puts it in force. What is over is removed with it.
func (b *bans) add(ctx context.Context, one *ban.Ban) error {
	return b.change(ctx, func() ([]record.Record, error) {
		over, full := b.ended(one.Since)
		if full {
			return nil, fault.New(fault.Limited, "ban", "there are %d bans", maxBans)
		}
		return b.records(one, over...)
	})
}

func (b *bans) ended(now int64) (over []ban.Ban, full bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	over = b.mu.table.Ended(now)
	return over, b.mu.table.Len()-len(over) >= maxBans
}

func (b *bans) enforce(one *ban.Ban) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.some.Store(true)
	return b.mu.table.Add(*one)
}

// change puts what decide finds by what is there on stable storage, in one unit, and in force. Where bans are shared,
// decide is asked again when another node has changed something.
func (b *bans) change(ctx context.Context, decide func() ([]record.Record, error)) error {
	b.changing.Lock()
	defer b.changing.Unlock()
	if b.replica != nil {
		return b.replica.Edit(ctx, decide)
	}
	records, err := decide()
	if err != nil {
		return err
	}
	return replica.StoreAlone(ctx, b.door.opt.Log, BansTopic, records, b.take)
}

// records are the end of bans, and one that is set, also in the place of one of them.
func (b *bans) records(one *ban.Ban, over ...ban.Ban) (records []record.Record, err error) {
	now := b.door.opt.Clock().UnixMilli()
	for i := range over {
		records = append(records, record.Record{Timestamp: now, Key: over[i].Key()})
	}
	if one != nil {
		value, err := one.Value()
		if err != nil {
			return nil, err
		}
		records = append(records, record.Record{Timestamp: now, Key: one.Key(), Value: value})
	}
	return records, nil
}

// find is the ban of a client, or nil.
func (b *bans) find(who *Principal, remote string) *ban.Ban {
	if !b.some.Load() {
		return nil
	}
	now := b.door.opt.Clock().UnixMilli()
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		at = netip.AddrPort{} // a Unix socket has none
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.table.Find(who.ClientID, who.UserName, at.Addr(), now)
}

// Banned tells whether a user, or who comes from an address, is banned. No address (a Unix socket has none) is
// nobody's.
func (d *Door) Banned(user string, address netip.Addr) bool {
	remote := ""
	if address.IsValid() {
		remote = netip.AddrPortFrom(address, 0).String()
	}
	return d.bans.find(&Principal{UserName: user}, remote) != nil
}

// isBanned tells whether the client of the connection is banned.
func (c *conn) isBanned() bool { return c.door.bans.find(&c.link.principal, c.wire.remote()) != nil }

// evict ends the connections of those who are banned, with reason 0x98.
func (d *Door) evict() {
	for holder := range d.holders {
		if holder.isBanned() {
			holder.disconnect(packet.AdministrativeAction)
		}
	}
	d.followers.look()
}

// holders visits the connections that have a session.
func (d *Door) holders(visit func(*conn) bool) {
	for _, id := range d.seats.IDs("", "") {
		var holder *conn
		d.seats.Look(id, func(_ *session.State, h roster.Holder) { holder, _ = h.(*conn) })
		if holder != nil && !visit(holder) {
			return
		}
	}
}

// refuseBanned refuses a client that is banned: 0x8A, Banned; return code 5 in MQTT 3. While it is not known who is,
// nobody is let in: 0x88, Server unavailable.
func (c *conn) refuseBanned() error {
	if err := c.door.Unsure(); err != nil {
		return &packet.Error{Reason: packet.ServerUnavailable, Detail: err.Error()}
	}
	b := c.door.bans.find(&c.link.principal, c.wire.remote())
	if b == nil {
		return nil
	}
	c.door.metrics.banned.Inc()
	detail := "banned"
	if b.Reason != "" {
		detail += ": " + b.Reason
	}
	return &packet.Error{Reason: packet.Banned, Detail: detail}
}

// left counts that the connection of a client ended, and bans the client if that was once too often.
func (b *bans) left(ctx context.Context, who *Principal) {
	d := b.door
	if d.opt.Flapping.Disconnects == 0 {
		return
	}
	now := d.opt.Clock().UnixMilli()
	if !b.flaps(who.ClientID, now) {
		return
	}
	one := ban.Ban{Kind: ban.Client, Who: who.ClientID, Since: now, Until: now + d.opt.Flapping.Ban.Milliseconds(),
		By: "flapping", Reason: "it connects and disconnects too often"}
	d.metrics.flapped.Inc()
	d.tell("a client connects and disconnects too often and is banned", who.ClientID, packet.Banned,
		"for", d.opt.Flapping.Ban)
	d.tellFlapping(who, &one)
	err := b.enforce(&one)
	if err == nil {
		err = b.add(ctx, &one)
	}
	if err != nil {
		d.opt.Logger.Warn("a ban is in force but not stored", "client", fault.Text(who.ClientID), "error", err)
	}
}

func (b *bans) flaps(client string, now int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.flapping.Left(client, now) && b.mu.table.Len() < maxBans/2
}
