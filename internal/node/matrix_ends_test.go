package node

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/firthmq/firth/internal/mqtt/client"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// What becomes of what is under way for somebody whose login ends: whose token is over or revoked, or who is removed.

// bearer is somebody whose login ends, and what is under way for it.
type bearer struct {
	how    string
	who    *person
	secret string // a password, or a token
	bearer bool   // by HTTP it is shown as one
	end    func() // nil: time does it
	still  bool   // what it has left behind is published all the same

	live, held *visitor
	wills      []will
	later      []attempt
	backEnd    *backEnd
	waits      []waiting
	begun      open
	written    string // in its transaction
	streams    []*followed
}

// endless are the clients of bearers: what they are called is more, or other, than it seems.
var endless = []string{"x9", "+/v", "#v", "${username}", "x/", "$SYS/v", "${clientid}/v", "/", "x+"}

// enders are users whose login ends that are in the list of users.
var enders = []string{"e2", "e3", "+e4", "#e5", "#e6", "#e7", "e9"}

// trust has those log in once who come when others have failed, so that they do not wait for that.
func (m *matrix) trust() {
	for _, name := range append(enders, "${clientid}") {
		b, err := m.backEnd(&person{user: name})
		if err != nil {
			m.t.Fatal(name, err)
		}
		_ = b.nc.Close()
	}
}

// bearers makes those whose login ends, in each way.
func (m *matrix) bearers() (all []*bearer) {
	add := func(user, how string, secret string, end func()) *bearer {
		client := endless[len(all)%len(endless)]
		b := &bearer{how: how, secret: secret, end: end, who: &person{user: user, client: client, listener: "mqtt",
			address: "127.0.0.1", roles: []string{"obs", "looks"}}}
		all = append(all, b)
		return b
	}
	remove := func(user string) func() {
		return func() { m.admin(http.MethodDelete, "/user?"+url.Values{"name": {user}}.Encode(), nil) }
	}
	made := func(owner, expires string) (id, text string) {
		var line tokenLine
		if err := json.Unmarshal(m.admin(http.MethodPost, "/token", map[string]any{"owner": owner, "expires": expires}),
			&line); err != nil {
			m.t.Fatal(err)
		}
		return line.ID, line.Text
	}
	issued := add("x", "a token of an issuer ends", m.issuer.Token(map[string]any{"sub": "x",
		"roles": []string{"obs", "looks"}}), nil)
	issued.bearer, issued.still = true, true
	add("${clientid}", "what the service gave ends", mxPassword, nil).still = true
	_, text := made("e2", "1h")
	b := add("e2", "a token ends", text, nil)
	b.bearer, b.still = true, true
	if m.found != nil { // leaks show where the connection stays
		return all
	}
	id, text := made("e3", "24h")
	add("e3", "a token is revoked", text, func() { m.admin(http.MethodDelete, "/token?id="+id, nil) }).bearer = true
	_, text = made("+e4", "24h")
	add("+e4", "the owner of a token is removed", text, remove("+e4")).bearer = true
	for i, how := range []string{"removed", "disabled", "given another password"} {
		user := fmt.Sprint("#e", 5+i)
		end := map[string]func(){"removed": remove(user),
			"disabled": func() { m.user(user, map[string]any{"disabled": true}, false) },
			"given another password": func() {
				m.user(user, map[string]any{"password": mxPassword + "2", "generated": true}, false)
			}}[how]
		add(user, how, mxPassword, end).still = how == "given another password"
	}
	return all
}

// comes has a bearer do everything that goes on.
func (m *matrix) comes(b *bearer, i int) {
	m.t.Helper()
	dial := func(suffix string, change func(*client.Options)) *visitor {
		as := *b.who
		as.client += suffix
		d, err := m.dial(&as, func(o *client.Options) {
			o.Version, o.Password, o.Resume = packet.V5, []byte(b.secret), false
			if change != nil {
				change(o)
			}
		})
		if m.judge("ends: before", &as, b.how+": CONNECT", true, err == nil); err != nil {
			m.t.Fatal(b.how, err)
		}
		return d
	}
	b.live = dial("", nil)
	b.live.subscribe(packet.Properties{}, 1, "+/endlive/#", "$share/ends/+/endshared/#")
	b.held = dial("-held", func(o *client.Options) { o.Props.SetReceiveMaximum(1) })
	b.held.hold = true
	b.held.subscribe(packet.Properties{}, 1, "+/endheld/#")
	names := m.names("endwill")
	for n := range 3 {
		name := names[(i*5+n*11)%len(names)]
		as := *b.who
		as.client += fmt.Sprint("-will", n)
		payload := m.next("endwill")
		may := m.oracle.name(&as, "write", name)
		d, err := m.dial(&as, func(o *client.Options) {
			o.Version, o.Password, o.Resume = packet.V5, []byte(b.secret), false
			o.Will = &packet.Will{Topic: []byte(name), Payload: []byte(payload), QoS: 1}
		})
		if m.judge("endwill at CONNECT", &as, name, may, err == nil); err == nil {
			b.wills = append(b.wills, will{attempt{"endwill", name, payload, &as, may}, d})
		}
	}
	for i, name := range m.names("enddelayed") {
		one := attempt{"enddelayed", name, m.next("enddelayed"), b.who, m.oracle.name(b.who, "write", name)}
		b.live.publish(&packet.Publish{Topic: fmt.Appendf(nil, "$delayed/%d/%s", delay, name),
			Payload: []byte(one.payload), QoS: 1}, uint64(i))
		b.later = append(b.later, one)
	}
	b.live.drain()
}

// comesBehind has it come by the door of back ends.
func (m *matrix) comesBehind(b *bearer, i int) {
	as := asBackEnd(b.who)
	login := func() *backEnd {
		own, err := m.backEndBy(as, plain.Auth{User: as.user, Pass: b.secret}.AsMechanism())
		if err != nil {
			m.t.Fatal(b.how, err)
		}
		return own
	}
	b.backEnd = login()
	for _, topic := range []string{"mxlit", "mxcov"} {
		w := waiting{login(), topic, m.oracle.topic(as, "read", topic), m.fetchOf(int64(m.end(topic)), 600_000, topic)}
		w.b.send(w.req, 12)
		b.waits = append(b.waits, w)
	}
	b.begun = m.begin(b.backEnd, fmt.Sprint("mxt-pre-end", i), "mxtxn")
	b.written = m.next("endtxn")
	resp, _ := b.backEnd.must(produceIn(b.begun, "mxtxn", b.written), 9)
	m.judge("ends: before", as, b.how+": a transaction", true, !isRefused(resp))
}

// looks has it follow what the administrative interface sends.
func (m *matrix) looks(b *bearer, i int) {
	as := asBackEnd(b.who)
	as.listener = "http"
	before := m.open
	m.open = nil
	auth := basicHeader(as.user, b.secret)
	if b.bearer {
		auth = "Authorization: Bearer " + b.secret
	}
	m.follow(as, newBrowser(m.t, m.node), fmt.Sprint("ends", i), auth)
	b.streams, m.open = m.open, before
}

// ends has everybody come whose login ends, ends all of them, and judges what is under way for them then.
func (m *matrix) ends() {
	for _, f := range m.open {
		_ = f.body.Close()
	}
	m.open = nil
	all := m.bearers()
	witness, err := m.dial(&person{user: "root", client: "witness", listener: "mqtt"}, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	for i, b := range all {
		m.comes(b, i)
	}
	witness.subscribe(packet.Properties{}, 1, "$share/ends/+/endshared/#")
	before := m.send("endlive", nil)
	m.send("endheld", nil)
	for _, b := range all {
		b.live.await(readable(&m.oracle, b.live.who, before))
		for name, payload := range before {
			m.judge("ends: before", b.who, name, m.oracle.name(b.who, "read", name), b.live.has(payload))
		}
		for deadline := time.Now().Add(patience); b.held.count() == 0 && time.Now().Before(deadline); {
			<-time.After(time.Millisecond)
		}
	}
	for i, b := range all {
		m.comesBehind(b, i)
		m.looks(b, i)
	}
	m.ahead.Add(int64(2 * delay * time.Second))
	for _, b := range all {
		if b.end != nil {
			b.end()
		}
		m.oracle.out[b.who.user] = true
	}
	clear(m.oracle.topics)
	live, shared := m.send("endlive", nil), m.send("endshared", nil)
	got := flipped(shared)
	maps.DeleteFunc(got, func(_, name string) bool { return strings.HasSuffix(name, "/everybody/a") }) // nor may it
	// A leak may have taken them.
	if m.found == nil {
		missing := witness.await(got)
		for payload, name := range got {
			m.judge("ended shared", witness.who, name+" to who is left", true, !slices.Contains(missing, payload))
		}
	}
	for _, b := range all {
		m.left(b, live, shared)
	}
	m.looked(all)
	m.behind(all)
	m.leftBehind(all)
	m.again(all)
}

func flipped(byName map[string]string) map[string]string {
	all := map[string]string{}
	for name, payload := range byName {
		all[payload] = name
	}
	return all
}

// left judges what comes to the connections of a bearer.
func (m *matrix) left(b *bearer, live, shared map[string]string) {
	first := b.held.count()
	b.held.release()
	m.after("ended held", b.who, b.how, func() bool { return b.held.count() > first })
	for path, sent := range map[string]map[string]string{"ended live": live, "ended shared": shared} {
		for name, payload := range sent {
			m.after(path, b.who, b.how+" "+name, func() bool { return b.live.has(payload) })
		}
	}
}

// looked judges what streams show.
func (m *matrix) looked(all []*bearer) {
	for _, b := range all {
		m.open = append(m.open, b.streams...)
	}
	m.happens("mark-ends")
	for _, f := range m.open {
		m.judge("ended stream", f.who, f.what, false, f.shows("mark-ends"))
	}
	m.open = nil
}

// behind judges what comes of requests of back ends that wait, and what they can do.
func (m *matrix) behind(all []*bearer) {
	m.send("backend", nil)
	for _, b := range all {
		m.come(b.waits)
		as := asBackEnd(b.who)
		_, raw, err := b.backEnd.ask(m.fetchOf(0, 0, "mxlit"), 12)
		m.judge("ended Fetch", as, b.how, false, err == nil && payloads.Match(raw))
		one := attempt{"ended Produce", "mxtxn/txn", m.next("ended"), as, false}
		_, _, _ = b.backEnd.ask(produceIn(b.begun, "mxtxn", one.payload), 9)
		end := kmsg.NewPtrEndTxnRequest()
		end.TransactionalID, end.ProducerID, end.ProducerEpoch, end.Commit = b.begun.id, b.begun.pid, b.begun.epoch, true
		_, _, _ = b.backEnd.ask(end, 3)
		m.stored([]attempt{one, {"ended transaction", "mxtxn/txn", b.written, as, false}})
	}
}

// leftBehind judges what of it is published that waited, and its wills.
func (m *matrix) leftBehind(all []*bearer) {
	last := m.next("fence")
	m.root.publish(&packet.Publish{Topic: []byte("$delayed/0/" + mxRoot + "/fence"), Payload: []byte(last), QoS: 1}, 0)
	m.root.await(map[string]string{last: "fence"})
	for _, b := range all {
		var tried []attempt
		for _, w := range b.wills {
			w.d.c.Abort()
			tried = append(tried, w.attempt)
		}
		tried = append(tried, b.later...)
		for i := range tried {
			tried[i].may = tried[i].may && b.still
		}
		m.stored(tried)
	}
}

// again has everybody try to come back by what it came by.
func (m *matrix) again(all []*bearer) {
	for _, b := range all {
		as := *b.who
		as.client += "-again"
		_, err := m.dial(&as, func(o *client.Options) {
			o.Version, o.Password = packet.V5, []byte(b.secret)
		})
		m.judge("ended CONNECT", &as, b.how, b.how == "what the service gave ends", err == nil)
		_, err = m.backEndBy(asBackEnd(b.who), plain.Auth{User: as.user, Pass: b.secret}.AsMechanism())
		m.judge("ended SASL", &as, b.how, b.how == "what the service gave ends", err == nil)
	}
}

// delegated judges what a delegation token is good for when it has ended: by time, and by a call.
func (m *matrix) delegated() {
	owner := &person{user: "e9", address: "127.0.0.1", listener: "kafka", roles: []string{"obs", "looks"}}
	own, err := m.backEnd(owner)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, how := range []string{"it is expired", "time passes"} {
		req := kmsg.NewPtrCreateDelegationTokenRequest()
		req.MaxLifetimeMillis = -1
		resp, _ := own.must(req, 3)
		made := resp.(*kmsg.CreateDelegationTokenResponse)
		by := func() (*backEnd, error) {
			mac := base64.StdEncoding.EncodeToString(made.HMAC)
			return m.backEndBy(owner, scram.Auth{User: made.TokenID, Pass: mac, IsToken: true}.AsSha256Mechanism())
		}
		worker, err := by()
		if err != nil {
			m.t.Fatal(how, err)
		}
		waits, err := by()
		if err != nil {
			m.t.Fatal(how, err)
		}
		_, raw := worker.must(m.fetchOf(0, 0, "mxlit"), 12)
		m.judge("delegation: before", owner, how, m.oracle.topic(owner, "read", "mxlit"), payloads.Match(raw))
		wait := m.fetchOf(int64(m.end("mxlit")), 600_000, "mxlit")
		waits.send(wait, 12)
		if how == "time passes" {
			m.ahead.Add(int64(48 * time.Hour))
		} else {
			expire := kmsg.NewPtrExpireDelegationTokenRequest()
			expire.HMAC, expire.ExpiryPeriodMillis = made.HMAC, -1
			own.must(expire, 2)
		}
		m.root.publish(secretly("mxlit/delegation", m.next("delegation")), 0)
		m.root.drain()
		_, raw, err = waits.answer(wait)
		m.judge("ended waiting Fetch", owner, how, false, err == nil && payloads.Match(raw))
		_, raw, err = worker.ask(m.fetchOf(0, 0, "mxlit"), 12)
		m.judge("ended Fetch", owner, how, false, err == nil && payloads.Match(raw))
		_, err = by()
		m.judge("ended SASL", owner, how, false, err == nil)
	}
}
