package kafka

import (
	"context"
	"sync"
	"time"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/alarm"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/limit"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/share"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
)

// ShareOptions bound the share groups. The zero value of each field is its default.
type ShareOptions struct {
	// MaxSessions is how many members may fetch at a time, over all share groups. Default 2,000.
	MaxSessions int
	// MaxPartitions is how many partitions may be shared, counted for each group. Default 100,000.
	MaxPartitions int
}

func (o ShareOptions) withDefaults() ShareOptions {
	if o.MaxSessions <= 0 {
		o.MaxSessions = 2000
	}
	if o.MaxPartitions <= 0 {
		o.MaxPartitions = 100_000
	}
	return o
}

// shares keeps what became of the records of partitions that groups share (KIP-932), a fold of __share_group_state.
// Who is in a group is the coordinator's.
//
// A share partition belongs to whoever holds its lock: he asks the pure value (log/share) what comes of a request. One
// write of a partition is under way at a time; what changes meanwhile is in the next one. Who acknowledges is answered
// when a write is durable that has it (share_state.go).
//
// Goroutines: run's, which lets locks end, and the writer.
type shares struct {
	opt    Options
	limits ShareOptions
	log    *store.Store
	groups *coordinator
	news   *purgatory
	now    func() int64 // milliseconds, without steps
	alarms *alarm.Alarms[*sharePart]
	writer *shareWriter
	lines  *limit.Lines // of the log that clients cause
	// damaged is why the states cannot be read; nil: they can. Then no share group is served, for to guess could have
	// records be processed again that were acknowledged.
	damaged error

	metrics shareMetrics

	mu struct {
		sync.Mutex
		parts    map[shareKey]*sharePart
		sessions map[shareMember]*shareSession
	}
}

// shareKey names a partition as a group shares it.
type shareKey struct {
	group string
	topic record.UUID
	index int32
}

// sharePart is one partition of one share group.
type sharePart struct {
	shareKey
	id   stream.PartitionID
	turn chan struct{} // holds a token: who has it reads the log for the next members
	each int           // bytes that a record took when the log was read last; of who has the turn

	mu struct {
		sync.Mutex
		q       *share.Queue
		counted int64  // what q takes, in the budget
		epoch   uint32 // of the state
		written written
		waiting []func(error)           // told the fate of the next write; they do not block
		parked  map[*shareWait]struct{} // fetches that wait for records to be released, or for room
		set     bool                    // the log has it
		gone    bool                    // it is being removed, or was
	}
}

// shareMetrics are taken out of the hot path once.
type shareMetrics struct {
	acquired telemetry.Counter
	acks     telemetry.Counters
	expired  telemetry.Counter
	letters  telemetry.Counters
	writes   telemetry.Counter
}

// openShares reads the states of share partitions from the log. Errors: IO.
func openShares(ctx context.Context, opt Options, groups *coordinator, news *purgatory) (*shares, error) {
	s := &shares{
		opt: opt, limits: opt.Shares.withDefaults(), log: opt.Store, groups: groups, news: news, now: groups.now,
		alarms: alarm.New[*sharePart](), lines: limit.NewLines(time.Minute, 100),
	}
	s.writer = newShareWriter(s)
	s.mu.parts, s.mu.sessions = map[shareKey]*sharePart{}, map[shareMember]*shareSession{}
	s.measure(opt.Metrics)
	err := groups.damaged
	if err == nil {
		err = s.fold(ctx)
	}
	if fault.Is(err, fault.Corrupt) {
		s.damaged = err
		opt.Logger.Error("share groups are not served: their state is damaged", "error", err, "hint", fault.HintOf(err))
		return s, nil
	}
	return s, err
}

// available tells whether share groups are served at all; wire.None: they are.
func (s *shares) available() wire.Code {
	if s.damaged != nil {
		return wire.CoordinatorNotAvailable
	}
	return wire.None
}

// register adds the APIs of share groups.
func (s *shares) register(t table) {
	t.addLater(wire.ShareGroupHeartbeat, later(s.groups.shareGroupHeartbeat), true)
	t.add(wire.ShareGroupDescribe, handle(s.groups.shareGroupDescribe))
	t.add(wire.ShareFetch, handle(s.shareFetch))
	t.add(wire.ShareAcknowledge, handle(s.shareAcknowledge))
	t.add(wire.DescribeShareGroupOffsets, handle(s.describeShareGroupOffsets))
	t.add(wire.AlterShareGroupOffsets, handle(s.alterShareGroupOffsets))
	t.add(wire.DeleteShareGroupOffsets, handle(s.deleteShareGroupOffsets))
}

// measure makes the metrics of share groups.
func (s *shares) measure(set *telemetry.Set) {
	s.metrics = shareMetrics{
		acquired: set.Counter("firth_kafka_share_acquired_total", "Records that members of share groups were given.").With(),
		acks: set.Counter("firth_kafka_share_acknowledged_total", "Offsets that members of share groups acknowledged, "+
			"by how: gap, accept, release, reject, renew.", "kind"),
		expired: set.Counter("firth_kafka_share_locks_expired_total",
			"Records that members of share groups had for longer than they may.").With(),
		letters: set.Counter("firth_kafka_share_dead_letters_total",
			"Records that went to a dead-letter topic, by fate: written, dropped (the topic cannot be written to).", "fate"),
		writes: set.Counter("firth_kafka_share_state_writes_total", "Writes of the state of a share partition.").With(),
	}
	set.GaugeFunc("firth_kafka_share_sessions", "Share sessions: members of share groups that fetch.", func() float64 {
		s.mu.Lock()
		defer s.mu.Unlock()
		return float64(len(s.mu.sessions))
	})
	set.GaugeFunc("firth_kafka_share_partitions", "Partitions that are shared, counted for each group.", func() float64 {
		s.mu.Lock()
		defer s.mu.Unlock()
		return float64(len(s.mu.parts))
	})
	set.GaugeFunc("firth_kafka_share_locked_records", "Records that members of share groups have now.", func() float64 {
		n := 0
		for _, p := range s.all(func(*sharePart) bool { return true }) {
			p.mu.Lock()
			n += p.mu.q.Acquired()
			p.mu.Unlock()
		}
		return float64(n)
	})
}

// all lists the share partitions that are so.
func (s *shares) all(so func(*sharePart) bool) []*sharePart {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*sharePart
	for _, p := range s.mu.parts {
		if so(p) {
			all = append(all, p)
		}
	}
	return all
}

// find is a share partition, or nil.
func (s *shares) find(key shareKey) *sharePart {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.parts[key]
}

func newSharePart(key shareKey, id stream.PartitionID, q *share.Queue) *sharePart {
	p := &sharePart{shareKey: key, id: id, turn: make(chan struct{}, 1)}
	p.mu.q, p.mu.parked = q, map[*shareWait]struct{}{}
	p.turn <- struct{}{}
	return p
}

// part is a share partition, which is made if it is not there: it begins where the group says, and that is durable when
// it comes back. Errors: Limited, with too many; those of the log; Closed.
func (s *shares) part(ctx context.Context, key shareKey, id stream.PartitionID) (*sharePart, error) {
	if p := s.find(key); p != nil {
		return p, p.settled(ctx, s)
	}
	at, err := s.begin(ctx, id, s.groups.configs.of(key.group).reset)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	p := s.mu.parts[key]
	if p == nil && len(s.mu.parts) >= s.limits.MaxPartitions {
		s.mu.Unlock()
		return nil, fault.New(fault.Limited, "kafka.shares", "there are too many share partitions")
	}
	if p == nil {
		p = newSharePart(key, id, share.NewQueue(at))
		if !s.reserveLocked(p, p.mu.q.Bytes()) { // nobody else has it yet
			s.mu.Unlock()
			return nil, fault.New(fault.Limited, "kafka.shares", "share partitions take all the memory that groups may have")
		}
		s.mu.parts[key] = p
	}
	s.mu.Unlock()
	return p, p.settled(ctx, s)
}

// reserveLocked makes room for what a share partition may become larger by, until countLocked counts what it did. It
// tells whether there was room.
func (s *shares) reserveLocked(p *sharePart, n int64) bool {
	if n > 0 && !s.groups.budget.reserve(p.mu.counted, n) {
		s.groups.short.With("share_refused").Inc()
		if held, ok := s.lines.Pass("full"); ok {
			s.opt.Logger.Warn("kafka: share groups take all the memory that groups may have", "group", p.group, "more", held,
				"hint", "raise limits.kafka_bytes, a quarter of which is for groups")
		}
		return false
	}
	p.mu.counted += n
	return true
}

// countLocked counts what a share partition takes now.
func (s *shares) countLocked(p *sharePart) {
	grown := p.mu.q.Bytes() - p.mu.counted
	p.mu.counted += grown
	s.groups.budget.keep(grown)
}

// begin is the offset at which a group begins.
func (s *shares) begin(ctx context.Context, id stream.PartitionID, reset resetTo) (int64, error) {
	bounds, err := s.log.Bounds(id)
	switch {
	case err != nil:
		return 0, err
	case reset.earliest:
		return int64(bounds.Start), nil
	case reset.age > 0:
		at, _, err := s.log.OffsetForTime(ctx, id, wallMillis()-reset.age.Milliseconds())
		if err != nil || at >= 0 {
			return int64(at), err
		}
	}
	return int64(bounds.High), nil
}

// settled waits until the log has the start of a share partition. Errors: those of the log; Closed.
func (p *sharePart) settled(ctx context.Context, s *shares) error {
	p.mu.Lock()
	if p.mu.set || p.mu.gone {
		gone := p.mu.gone
		p.mu.Unlock()
		if gone {
			return fault.New(fault.NotFound, "kafka.shares", "the offsets of the group are being deleted")
		}
		return nil
	}
	landed := p.landingLocked()
	s.changedLocked(p)
	p.mu.Unlock()
	return landed(ctx)
}

// rules are what a group decides about its records now.
func (s *shares) rules(c *groupConfig) share.Rules {
	return share.Rules{
		Limit: c.deliveries, Letters: c.letters != "", Renews: c.renews, Until: s.now() + c.lock.Milliseconds(),
	}
}

// run lets locks end, and writes what changes, until ctx ends.
func (s *shares) run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { s.writer.run(ctx) })
	defer wg.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	look := time.NewTicker(time.Second)
	defer look.Stop()
	var seen *stream.Topics
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.alarms.Sooner():
		case <-look.C:
			if topics := s.log.Topics(); topics != seen {
				seen = topics
				s.groups.guarded("sweep of the share partitions", func() { s.sweep(topics) })
			}
		}
		if next, waits := s.tick(); waits {
			timer.Reset(time.Duration(next-s.now()) * time.Millisecond)
		}
	}
}

// tick tells every share partition that waits for it the time, and returns when the next one wants to know.
func (s *shares) tick() (next int64, waits bool) {
	for {
		p, due, next, waits := s.alarms.Due(s.now())
		if !due {
			return next, waits
		}
		s.groups.guarded("time of a share partition", func() { s.expire(p) })
	}
}

// expire gives back what members had for too long.
func (s *shares) expire(p *sharePart) {
	rules := s.rules(s.groups.configs.of(p.group))
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.gone {
		if p.mu.written.failed {
			s.changedLocked(p)
		}
		return
	}
	n := p.mu.q.Expire(s.now(), rules)
	s.metrics.expired.Add(float64(n))
	if n > 0 || p.mu.written.failed {
		s.changedLocked(p)
	}
	if n > 0 {
		p.wakeLocked()
	}
	s.watchLocked(p)
}

// watchLocked sets the alarm for the next lock that ends.
func (s *shares) watchLocked(p *sharePart) {
	if at := p.mu.q.Deadline(); at != 0 {
		s.alarms.Set(p, at)
	}
}

// wakeLocked has those look again that wait for records of a share partition.
func (p *sharePart) wakeLocked() {
	for w := range p.mu.parked {
		w.wake()
	}
}

// left gives back what a member of a group had, whose session ends with it.
func (s *shares) left(group, member string) {
	s.mu.Lock()
	delete(s.mu.sessions, shareMember{group, member})
	s.mu.Unlock()
	for _, p := range s.all(func(p *sharePart) bool { return p.group == group }) {
		s.giveBack(p, member)
	}
}

// giveBack releases all that a member has of a share partition.
func (s *shares) giveBack(p *sharePart, member string) {
	rules := s.rules(s.groups.configs.of(p.group))
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.q.Leave(member, rules) > 0 && !p.mu.gone {
		s.changedLocked(p)
		p.wakeLocked()
	}
}

// sweep removes the states of topics that are gone.
func (s *shares) sweep(topics *stream.Topics) {
	for _, p := range s.all(func(p *sharePart) bool { return topics.ByID(p.topic) == nil }) {
		s.end(p)
	}
}

// forget removes the states of a group that are so, and waits until they are gone. Errors: those of the log; Closed.
func (s *shares) forget(ctx context.Context, group string, so func(*sharePart) bool) error {
	var landings []func(context.Context) error
	for _, p := range s.all(func(p *sharePart) bool { return p.group == group && so(p) }) {
		p.mu.Lock()
		landings = append(landings, p.landingLocked())
		p.mu.Unlock()
		s.end(p)
	}
	for _, landed := range landings {
		if err := landed(ctx); err != nil {
			return err
		}
	}
	return nil
}

// end has a state removed.
func (s *shares) end(p *sharePart) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.gone = true
	p.wakeLocked()
	s.changedLocked(p)
}
