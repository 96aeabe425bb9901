package group

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestPlays runs the plays in testdata/plays. Actors have one-letter names; each keeps what it has learned
// (member id, generation, leader) as a client does. Verbs:
//
//	group [initial-delay=ms] [max=n] [min-session=ms] [stores=held]
//	join a [instance=i] [type=t] [protos=(range:x,rr)] [session=ms] [rebalance=ms] [v=9] [id=x] [gen=n] [room=none]
//	sync a [assign=(a:p0,b:p1)] [gen=n] [proto=p] [type=t] [room=none]
//	heartbeat a [gen=n] | leave a b | commit a [gen=n] | commit outsider | gone a
//	tick ms | stored | lost | describe | delete | restart
func TestPlays(t *testing.T) {
	datadriven.Walk(t, "testdata/plays", func(t *testing.T, path string) {
		p := &play{t: t}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return p.run(d) })
	})
}

type actor struct {
	name, id, instance string
	generation         int32
}

type ask struct {
	actor *actor
	verb  string
}

type play struct {
	t      *testing.T
	g      *Group
	opts   Options
	now    int64
	held   bool // stores wait for "stored" or "lost"
	stores []*Store
	last   Snapshot
	actors map[string]*actor
	asks   map[Ticket]ask
	ticket Ticket
	out    strings.Builder
}

func (p *play) run(d *datadriven.TestData) string {
	p.out.Reset()
	arg := func(key, def string) string {
		for _, a := range d.CmdArgs {
			if a.Key == key && len(a.Vals) > 0 {
				return strings.Join(a.Vals, ",")
			}
		}
		return def
	}
	number := func(key string, def int64) int64 {
		n, err := strconv.ParseInt(arg(key, strconv.FormatInt(def, 10)), 10, 64)
		if err != nil {
			d.Fatalf(p.t, "%s: %v", key, err)
		}
		return n
	}
	if d.Cmd == "group" {
		p.opts = Options{
			InitialDelayMillis: number("initial-delay", 0), MaxMembers: int(number("max", 0)),
			MinSessionMillis: number("min-session", 0), MaxMetadata: int(number("max-metadata", 0)),
			MaxAssignment: int(number("max-assignment", 0)),
		}
		p.held = arg("stores", "") == "held"
		p.now, p.stores, p.actors, p.asks, p.last = 1, nil, map[string]*actor{}, map[Ticket]ask{}, Snapshot{}
		p.g = New("g", p.opts, p.now)
		return p.state()
	}
	var names []string
	for _, a := range d.CmdArgs {
		if len(a.Vals) == 0 {
			names = append(names, a.Key)
		}
	}
	p.act(d.Cmd, names, arg, number)
	return p.out.String() + p.state()
}

func (p *play) state() string {
	s := fmt.Sprintf("= %s gen=%d members=%d", p.g.State(), p.g.Generation(), p.g.Len())
	if next := p.g.Next(); next != 0 {
		s += fmt.Sprintf(" next=+%d", next-p.now)
	}
	return s + "\n"
}

func (p *play) actor(name string) *actor {
	a := p.actors[name]
	if a == nil {
		a = &actor{name: name, generation: -1}
		p.actors[name] = a
	}
	return a
}

func (p *play) ask(a *actor, verb string) Ticket {
	p.ticket++
	p.asks[p.ticket] = ask{a, verb}
	return p.ticket
}

func (p *play) act(verb string, names []string, arg func(string, string) string, number func(string, int64) int64) {
	name := ""
	if len(names) > 0 {
		name = names[0]
	}
	switch verb {
	case "join":
		p.join(p.actor(name), arg, number)
	case "sync":
		p.sync(p.actor(name), arg, number)
	case "heartbeat":
		a := p.actor(name)
		p.say("%s: %s", name, p.g.Heartbeat(p.now, a.who(), int32(number("gen", int64(a.generation)))))
	case "commit":
		a := p.actor(name)
		p.say("%s: %s", name, p.g.CheckCommit(p.now, a.who(), int32(number("gen", int64(a.generation)))))
	case "leave":
		p.leave(names, arg)
	case "gone":
		for t, k := range p.asks {
			if k.actor.name == name {
				delete(p.asks, t)
				p.effects(p.g.Gone(p.now, t))
			}
		}
	case "tick":
		ms, err := strconv.ParseInt(name, 10, 64)
		if err != nil {
			p.t.Fatal(err)
		}
		p.now += ms
		p.effects(p.g.Tick(p.now))
	case "stored", "lost":
		var fate error
		if verb == "lost" {
			fate = errors.New("disk on fire")
		}
		s := p.stores[0]
		p.stores = p.stores[1:]
		p.effects(p.g.Stored(p.now, s.Seq, fate))
	case "describe":
		p.describe()
	case "delete":
		p.say("%s", p.g.Delete(p.now))
	case "restart":
		p.g, p.asks = Load("g", p.opts, p.now, p.last), map[Ticket]ask{}
	default:
		p.t.Fatalf("no verb %q", verb)
	}
}

func (a *actor) who() Who { return Who{MemberID: a.id, InstanceID: a.instance} }

func (p *play) say(format string, args ...any) { fmt.Fprintf(&p.out, format+"\n", args...) }

func (p *play) join(a *actor, arg func(string, string) string, number func(string, int64) int64) {
	a.instance = arg("instance", a.instance)
	version := number("v", 9)
	id := arg("id", a.id)
	if id == "none" {
		id = ""
	}
	j := Join{
		Ticket: p.ask(a, "join"), Who: Who{MemberID: id, InstanceID: a.instance},
		NewID:    fmt.Sprintf("%s-%d", a.name, p.ticket),
		ClientID: "client-" + a.name, ClientHost: "/127.0.0.1",
		ProtocolType: arg("type", "consumer"), Session: number("session", 10_000), Rebalance: number("rebalance", 60_000),
		Reason: arg("reason", ""), RequireID: version >= 4 && a.instance == "", CanSkip: version >= 9,
		Full: arg("room", "") == "none",
	}
	if j.ProtocolType == "none" {
		j.ProtocolType = ""
	}
	for proto := range strings.SplitSeq(arg("protos", "range"), ",") {
		if name, metadata, _ := strings.Cut(proto, ":"); name != "none" {
			j.Protocols = append(j.Protocols, Protocol{name, []byte(metadata)})
		}
	}
	p.effects(p.g.Join(p.now, j))
}

func (p *play) sync(a *actor, arg func(string, string) string, number func(string, int64) int64) {
	s := Sync{
		Ticket: p.ask(a, "sync"), Who: a.who(), Generation: int32(number("gen", int64(a.generation))),
		ProtocolType: arg("type", ""), Protocol: arg("proto", ""), Full: arg("room", "") == "none",
	}
	if as := arg("assign", ""); as != "" {
		for one := range strings.SplitSeq(as, ",") {
			name, data, _ := strings.Cut(one, ":")
			s.Assignments = append(s.Assignments, Assignment{p.actor(name).id, []byte(data)})
		}
	}
	p.effects(p.g.Sync(p.now, s))
}

func (p *play) leave(names []string, arg func(string, string) string) {
	whos := make([]Who, 0, len(names))
	for _, n := range names {
		whos = append(whos, p.actor(n).who())
	}
	if i := arg("instance", ""); i != "" {
		whos = append(whos, Who{InstanceID: i})
		names = append(names, i)
	}
	codes, effects := p.g.Leave(p.now, whos, arg("reason", ""))
	for i, c := range codes {
		p.say("%s: %s", names[i], c)
	}
	p.effects(effects)
}

func (p *play) describe() {
	d := p.g.Describe()
	p.say("type=%s protocol=%s reason=%q", d.ProtocolType, d.Protocol, d.Reason)
	for _, m := range d.Members {
		p.say("  %s instance=%q metadata=%q assignment=%q", m.ID, m.InstanceID, m.Metadata, m.Assignment)
	}
}

// effects shows what came out, checks that each request is answered once, and stores at once unless
// the play holds the stores.
func (p *play) effects(es []Effect) {
	for len(es) > 0 {
		e := es[0]
		es = es[1:]
		if e.Store != nil {
			p.last = *e.Store.Snapshot
			ids := []string{}
			for _, m := range p.last.Members {
				ids = append(ids, m.ID)
			}
			p.say("store #%d gen=%d leader=%q protocol=%q members=%v",
				e.Store.Seq, p.last.Generation, p.last.Leader, p.last.Protocol, ids)
			if p.held {
				p.stores = append(p.stores, e.Store)
			} else {
				es = append(slices.Clone(p.g.Stored(p.now, e.Store.Seq, nil)), es...)
			}
			continue
		}
		who, ok := p.asks[e.To]
		if !ok {
			p.t.Fatalf("an answer for ticket %d, which asks nothing (any more)", e.To)
		}
		delete(p.asks, e.To)
		if e.Join != nil {
			p.joined(who.actor, e.Join)
		} else {
			p.say("%s <- sync %s protocol=%q assignment=%q", who.actor.name, e.Sync.Code, e.Sync.Protocol, e.Sync.Assignment)
		}
	}
}

func (p *play) joined(a *actor, j *JoinAnswer) {
	switch j.Code {
	case MemberIDRequired:
		a.id = j.MemberID
	case UnknownMemberID:
		a.id = ""
	}
	if j.Code != None {
		p.say("%s <- join %s id=%q", a.name, j.Code, j.MemberID)
		return
	}
	a.id, a.generation = j.MemberID, j.Generation
	s := fmt.Sprintf("%s <- join gen=%d id=%s leader=%s protocol=%s",
		a.name, j.Generation, j.MemberID, j.Leader, j.Protocol)
	if j.SkipAssignment {
		s += " skip"
	}
	for _, m := range j.Members {
		s += fmt.Sprintf(" [%s %s %q]", m.ID, m.InstanceID, m.Metadata)
	}
	p.say("%s", s)
}
