package group

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestConsumerPlays runs the plays in testdata/consumers. Actors have one-letter names; each keeps what it has learned
// (epoch, partitions) as a client does, and gives up at once what it is told to. A partition is a letter, its topic,
// and a number. Verbs:
//
//	group [max=n] [session=ms] [stores=held] | topics t=3 u=2
//	beat a [topics=(t,u)] [regex=x] [instance=i] [id=x] [epoch=n] [owned=(t0,t1)|none|unsaid] [assignor=range] [full]
//	leave a [for-now] | tick ms | stored | lost | describe | delete | restart
//	commit a [epoch=n] | commit outsider | fetch a [epoch=n]
//
// and of the classic protocol:
//
//	join a [topics=(t)] [instance=i] [proto=range] [type=t] [v=3] | sync a [gen=n] | heartbeat a [gen=n] | quit a
func TestConsumerPlays(t *testing.T) {
	datadriven.Walk(t, "testdata/consumers", func(t *testing.T, path string) {
		p := &consumerPlay{t: t}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return p.run(d) })
	})
}

// machine is what both kinds of group are, as far as the plays go.
type machine interface {
	See(Topics)
	Join(int64, Join) []Effect
	Sync(int64, Sync) []Effect
	Heartbeat(int64, Who, int32) Code
	Leave(int64, []Who, string) ([]Code, []Effect)
	CheckCommit(int64, Who, int32) Code
	CheckFetch(string, int32) Code
	Stored(int64, uint64, error) []Effect
	Tick(int64) []Effect
	Next() int64
	Delete(int64) Code
	StateName() string
	Len() int
}

// topicMap is topics by name: how many partitions each has.
type topicMap struct{ counts map[string]int32 }

func topicID(name string) (id TopicID) {
	copy(id[:], name)
	return id
}

func (m *topicMap) ByName(name string) (Topic, bool) {
	n, is := m.counts[name]
	return Topic{ID: topicID(name), Name: name, Partitions: n}, is
}

func (m *topicMap) ByID(id TopicID) (Topic, bool) {
	return m.ByName(strings.TrimRight(string(id[:]), "\x00"))
}

func (m *topicMap) Each(f func(Topic) bool) {
	for _, name := range slices.Sorted(maps.Keys(m.counts)) {
		if t, _ := m.ByName(name); !f(t) {
			return
		}
	}
}

// client is what a member knows.
type client struct {
	name, id, instance string
	epoch              int32
	assigned           Partitions
}

type consumerPlay struct {
	t       *testing.T
	g       machine
	opts    Options
	topics  *topicMap
	now     int64
	held    bool
	stores  []*Store
	records map[Key][]byte // what a restart reads
	clients map[string]*client
	asks    map[Ticket]*client
	ticket  Ticket
	out     strings.Builder
}

// args are the arguments of one line.
type args struct {
	d     *datadriven.TestData
	names []string
}

func (a args) text(key, def string) string {
	for _, arg := range a.d.CmdArgs {
		if arg.Key == key && len(arg.Vals) > 0 {
			return strings.Join(arg.Vals, ",")
		}
	}
	return def
}

func (a args) has(key string) bool { return a.d.HasArg(key) }

func (a args) list(key string) (all []string) {
	for _, arg := range a.d.CmdArgs {
		if arg.Key == key {
			all = append([]string{}, arg.Vals...)
		}
	}
	return slices.DeleteFunc(all, func(s string) bool { return s == "" })
}

func (a args) number(t *testing.T, key string, def int64) int64 {
	n, err := strconv.ParseInt(a.text(key, strconv.FormatInt(def, 10)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (p *consumerPlay) run(d *datadriven.TestData) string {
	p.out.Reset()
	a := args{d: d}
	for _, arg := range d.CmdArgs {
		if len(arg.Vals) == 0 {
			a.names = append(a.names, arg.Key)
		}
	}
	if d.Cmd == "group" {
		p.opts = Options{MaxMembers: int(a.number(p.t, "max", 0)), ConsumerSessionMillis: a.number(p.t, "session", 0)}
		p.held, p.now, p.stores, p.records = a.text("stores", "") == "held", 1, nil, map[Key][]byte{}
		p.clients, p.asks, p.topics = map[string]*client{}, map[Ticket]*client{}, &topicMap{}
		p.g = New("g", p.opts, p.now)
		return ""
	}
	p.act(d.Cmd, a)
	if left, is := p.g.(*Consumer); is && left.Len() > 0 {
		if g := left.Downgrade(p.now); g != nil {
			p.say("the group is classic")
			p.g = g
			p.effects(g.Effects())
		}
	}
	p.check()
	return p.out.String() + p.state()
}

func (p *consumerPlay) state() string {
	kind, epochs := "classic", ""
	switch g := p.g.(type) {
	case *Consumer:
		kind, epochs = "consumer", fmt.Sprintf("epoch=%d/%d", g.targetEpoch, g.epoch)
	case *Group:
		epochs = fmt.Sprintf("gen=%d", g.generation)
	}
	s := fmt.Sprintf("= %s %s %s members=%d", kind, p.g.StateName(), epochs, p.g.Len())
	if next := p.g.Next(); next != 0 {
		s += fmt.Sprintf(" next=+%d", next-p.now)
	}
	return s + "\n"
}

func (p *consumerPlay) say(format string, args ...any) { fmt.Fprintf(&p.out, format+"\n", args...) }

func (p *consumerPlay) client(name string) *client {
	c := p.clients[name]
	if c == nil {
		c = &client{name: name, id: name}
		p.clients[name] = c
	}
	return c
}

func (c *client) who() Who { return Who{c.id, c.instance} }

func (p *consumerPlay) act(verb string, a args) {
	c := &client{}
	if len(a.names) > 0 {
		c = p.client(a.names[0])
	}
	switch verb {
	case "topics":
		p.topics = &topicMap{counts: map[string]int32{}}
		for _, arg := range a.d.CmdArgs {
			p.topics.counts[arg.Key] = int32(a.number(p.t, arg.Key, 0))
		}
	case "beat":
		p.beat(c, a)
	case "leave":
		b := Beat{Epoch: LeaveEpoch, Ticket: p.ask(c), Who: c.who(), Rebalance: -1}
		if a.has("for-now") {
			b.Epoch = StaticLeaveEpoch
		}
		c.epoch, c.assigned = 0, nil
		p.deliver(b)
	case "tick":
		ms, err := strconv.ParseInt(a.names[0], 10, 64)
		if err != nil {
			p.t.Fatal(err)
		}
		p.now += ms
		p.effects(p.g.Tick(p.now))
	case "stored", "lost":
		s := p.stores[0]
		p.stores = p.stores[1:]
		p.settle(s, map[string]error{"lost": errors.New("disk on fire")}[verb])
	case "commit":
		if c.name == "outsider" {
			p.say("outsider: %s", p.g.CheckCommit(p.now, Who{}, -1))
			return
		}
		p.say("%s: %s", c.name, p.g.CheckCommit(p.now, c.who(), int32(a.number(p.t, "epoch", int64(c.epoch)))))
	case "fetch":
		p.say("%s: %s", c.name, p.g.CheckFetch(c.id, int32(a.number(p.t, "epoch", int64(c.epoch)))))
	case "delete":
		p.say("%s", p.g.Delete(p.now))
	case "describe":
		p.describe()
	case "restart":
		p.restart()
	default:
		p.classic(verb, c, a)
	}
}

func (p *consumerPlay) ask(c *client) Ticket {
	p.ticket++
	p.asks[p.ticket] = c
	return p.ticket
}

func (p *consumerPlay) beat(c *client, a args) {
	c.instance = a.text("instance", c.instance)
	c.id = a.text("id", c.id)
	b := Beat{
		Ticket: p.ask(c), Who: c.who(), Epoch: int32(a.number(p.t, "epoch", int64(c.epoch))), ClientID: "client",
		ClientHost: "/127.0.0.1", Rebalance: -1, Topics: a.list("topics"), Full: a.has("full"),
	}
	if b.Epoch == 0 {
		b.Rebalance, c.assigned = 60_000, nil
	}
	if a.has("regex") {
		b.Regex = new(a.text("regex", ""))
	}
	if a.has("assignor") {
		b.Assignor = new(a.text("assignor", ""))
	}
	owned := c.assigned
	if a.has("owned") && a.text("owned", "") != "unsaid" {
		owned = parsePartitions(a.list("owned"))
	}
	if a.text("owned", "") != "unsaid" {
		b.Owned = &owned
	}
	p.deliver(b)
}

func parsePartitions(names []string) Partitions {
	all := Partitions{}
	for _, name := range names {
		if n, err := strconv.Atoi(name[1:]); err == nil {
			all = append(all, Partition{topicID(name[:1]), int32(n)})
		}
	}
	return NewPartitions(all)
}

func (s Partitions) text() string {
	var all []string
	for _, p := range s {
		all = append(all, strings.TrimRight(string(p.Topic[:]), "\x00")+strconv.Itoa(int(p.Index)))
	}
	return "[" + strings.Join(all, " ") + "]"
}

// deliver hands a heartbeat to the group, as its owner does.
func (p *consumerPlay) deliver(b Beat) {
	p.g.See(p.topics)
	switch g := p.g.(type) {
	case *Consumer:
		p.effects(g.Beat(p.now, b))
	case *Group:
		c, effects := g.Upgrade(p.now, p.topics, b)
		if c != nil {
			p.say("the group is one of consumers")
			p.g = c
		}
		p.effects(effects)
	}
}

func (p *consumerPlay) classic(verb string, c *client, a args) {
	p.g.See(p.topics)
	switch verb {
	case "join":
		p.join(c, a)
	case "sync":
		p.effects(p.g.Sync(p.now, Sync{
			Ticket: p.ask(c), Who: c.who(), Generation: int32(a.number(p.t, "gen", int64(c.epoch))),
			Assignments: p.led(c, a),
		}))
	case "heartbeat":
		p.say("%s: %s", c.name, p.g.Heartbeat(p.now, c.who(), int32(a.number(p.t, "gen", int64(c.epoch)))))
	case "quit":
		who := c.who()
		if a.has("by-hand") {
			who.MemberID = ""
		}
		codes, effects := p.g.Leave(p.now, []Who{who}, "")
		p.say("%s: %s", c.name, codes[0])
		if codes[0] == None {
			c.id, c.epoch, c.assigned = c.name, 0, nil
		}
		p.effects(effects)
	default:
		p.t.Fatalf("no verb %q", verb)
	}
}

func (p *consumerPlay) join(c *client, a args) {
	c.instance = a.text("instance", c.instance)
	version := a.number(p.t, "v", 9)
	said := kmsg.NewConsumerMemberMetadata()
	said.Version, said.Topics, said.Generation = 3, a.list("topics"), -1
	if c.epoch > 0 {
		said.Generation = c.epoch
	}
	owned := c.assigned
	if a.has("owned") {
		owned = parsePartitions(a.list("owned"))
	}
	owned.ByTopic(func(id TopicID, indexes []int32) {
		t, _ := p.topics.ByID(id)
		said.OwnedPartitions = append(said.OwnedPartitions,
			kmsg.ConsumerMemberMetadataOwnedPartition{Topic: t.Name, Partitions: indexes})
	})
	who := c.who()
	if c.epoch == 0 && !a.has("known") {
		who.MemberID = ""
	}
	j := Join{
		Ticket: p.ask(c), Who: who, NewID: fmt.Sprintf("%s-%d", c.name, p.ticket), ClientID: "client",
		ClientHost: "/127.0.0.1", ProtocolType: a.text("type", "consumer"), Session: a.number(p.t, "session", 10_000),
		Rebalance: 60_000, RequireID: version >= 4 && c.instance == "", CanSkip: version >= 9,
		Protocols: []Protocol{{a.text("proto", "range"), said.AppendTo(nil)}},
	}
	if empty, is := p.g.(*Consumer); is && empty.IsEmpty() {
		g := empty.Downgrade(p.now)
		effects := g.Join(p.now, j)
		if !g.Vacant() {
			p.say("the group is classic")
			p.g = g
		}
		p.effects(effects)
		return
	}
	p.effects(p.g.Join(p.now, j))
}

// led is what the leader of a classic generation gives: each argument a=t0 is a partition of a member.
func (p *consumerPlay) led(_ *client, a args) (all []Assignment) {
	for _, arg := range a.d.CmdArgs {
		if len(arg.Key) != 1 || len(arg.Vals) == 0 {
			continue
		}
		c := Consumer{gathering: gathering[*consumer]{topics: p.topics}}
		data := c.classicAssignment(&consumer{assigned: parsePartitions(arg.Vals)})
		all = append(all, Assignment{p.client(arg.Key).id, data})
	}
	return all
}

func (p *consumerPlay) describe() {
	g, is := p.g.(*Consumer)
	if !is {
		return
	}
	d := g.Describe()
	p.say("assignor=%s", d.Assignor)
	for _, m := range d.Members {
		s := fmt.Sprintf("  %s epoch=%d %s of %s topics=%v", m.ID, m.Epoch, m.Assigned.text(), m.Target.text(), m.Topics)
		if m.InstanceID != "" {
			s += " instance=" + m.InstanceID
		}
		if m.Regex != "" {
			s += " regex=" + m.Regex
		}
		if m.Classic {
			s += " classic"
		}
		p.say("%s", s)
	}
}

// restart opens the group anew from what is stored.
func (p *consumerPlay) restart() {
	p.asks, p.stores = map[Ticket]*client{}, nil
	if value, is := p.records[Key{Kind: KindClassic, Group: "g"}]; is {
		s, err := DecodeGroup(value)
		if err != nil {
			p.t.Fatal(err)
		}
		p.g = Load("g", p.opts, p.now, s)
		return
	}
	g, strange, err := LoadConsumer("g", p.opts, p.now, 0, p.records)
	if err != nil || strange > 0 {
		p.t.Fatalf("%d strange records, %v", strange, err)
	}
	p.g = g
}

// settle ends a store.
func (p *consumerPlay) settle(s *Store, lost error) {
	if lost == nil {
		for _, ch := range s.Changes {
			if ch.Value == nil {
				delete(p.records, ch.Key)
			} else {
				p.records[ch.Key] = ch.Value
			}
		}
		if s.Snapshot != nil {
			p.records[Key{Kind: KindClassic, Group: "g"}] = GroupValue(s.Snapshot)
		}
	}
	p.effects(p.g.Stored(p.now, s.Seq, lost))
}

var kindNames = map[Kind]string{
	KindClassic: "classic", KindConsumer: "epoch", KindMember: "member", KindTargetEpoch: "target-epoch",
	KindTarget: "target", KindCurrent: "current", KindRegex: "regex",
}

func (p *consumerPlay) effects(es []Effect) {
	for _, e := range es {
		if e.Store != nil {
			p.store(e.Store)
			continue
		}
		c := p.asks[e.To]
		if c == nil {
			p.t.Fatalf("an answer for ticket %d, which asks nothing (any more)", e.To)
		}
		delete(p.asks, e.To)
		p.answer(c, &e)
	}
}

func (p *consumerPlay) store(s *Store) {
	var words []string
	for _, ch := range s.Changes {
		word := kindNames[ch.Key.Kind]
		if ch.Key.Name != "" {
			word += ":" + ch.Key.Name
		}
		if ch.Value == nil {
			word = "-" + word
		}
		words = append(words, word)
	}
	if s.Snapshot != nil {
		words = append(words, "classic")
	}
	p.say("store %s", strings.Join(words, " "))
	if p.held {
		p.stores = append(p.stores, s)
		return
	}
	p.settle(s, nil)
}

func (p *consumerPlay) answer(c *client, e *Effect) {
	switch {
	case e.Join != nil:
		if e.Join.Code == MemberIDRequired {
			c.id = e.Join.MemberID
		}
		if e.Join.Code != None {
			p.say("%s <- join %s", c.name, e.Join.Code)
			return
		}
		c.id, c.epoch = e.Join.MemberID, e.Join.Generation
		p.say("%s <- join gen=%d id=%s leader=%q", c.name, c.epoch, c.id, e.Join.Leader)
	case e.Sync != nil:
		if e.Sync.Code == None {
			g := Consumer{gathering: gathering[*consumer]{topics: p.topics}}
			c.assigned = g.readAssignment(e.Sync.Assignment)
		}
		p.say("%s <- sync %s %s", c.name, e.Sync.Code, c.assigned.text())
	case e.Beat.Code != None:
		p.say("%s <- %s", c.name, e.Beat.Code)
	default:
		s := fmt.Sprintf("%s <- epoch=%d", c.name, e.Beat.Epoch)
		c.epoch = max(e.Beat.Epoch, 0)
		if e.Beat.Assigned {
			c.assigned = e.Beat.Assignment
			s += " " + c.assigned.text()
		}
		p.say("%s", s)
	}
}

// check holds the invariants.
func (p *consumerPlay) check() {
	if g, is := p.g.(*Consumer); is {
		if err := g.verify(); err != nil {
			p.t.Fatal(err)
		}
	}
}

func TestCheckRegex(t *testing.T) {
	for text, good := range map[string]bool{
		"a.*": true, "": true, "^a$": true, `\pL{3}`: true, "(?i)x": true,
		"(": false, "a)|(b": false, "(?=a)": false, `(a)\1`: false,
		"(" + strings.Repeat("[a-z]{1000}", 20) + ")": false, strings.Repeat("a", maxRegex+1): false,
	} {
		if err := checkRegex(text); (err == nil) != good {
			t.Errorf("%.40q: %v", text, err)
		}
	}
}

// verify holds a group to its invariants.
func (g *Consumer) verify() error {
	held, bytes := map[Partition]string{}, int64(0)
	for _, m := range g.members {
		for _, s := range []Partitions{m.assigned, m.revoked} {
			for _, part := range s {
				if held[part] != "" || g.holders[part] != m {
					return fmt.Errorf("%v is with %s and %s", part, held[part], m.id)
				}
				held[part] = m.id
			}
		}
		if g.byID[m.id] != m || m.instance != "" && g.static[m.instance] != m.id {
			return fmt.Errorf("member %s is not found", m.id)
		}
		bytes += m.size()
	}
	switch {
	case len(held) != len(g.holders) || len(g.byID) != len(g.members):
		return fmt.Errorf("%d partitions are held, %d have a holder", len(held), len(g.holders))
	case g.targetEpoch > g.epoch:
		return fmt.Errorf("a target for epoch %d in epoch %d", g.targetEpoch, g.epoch)
	case bytes != g.bytes:
		return fmt.Errorf("members take %d bytes, %d are counted", bytes, g.bytes)
	}
	return nil
}

// TestHashOfTopics: topics that grow at once do not make up for each other.
func TestHashOfTopics(t *testing.T) {
	seen := map[int64]map[string]int32{}
	for a := range int32(12) {
		for b := range int32(12) {
			counts := map[string]int32{"a": a + 1, "b": b + 1}
			h := hashOf(&topicMap{counts: counts}, []string{"a", "b", "nowhere"})
			if was, is := seen[h]; is {
				t.Errorf("%v hash to the same as %v", counts, was)
			}
			seen[h] = counts
		}
	}
}
