package node

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/race"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/mqtt/client"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// TestAccessMatrix tries every way to data against every way to have a right, and wants to see exactly what may be
// seen: docs/conformance/access.md.
func TestAccessMatrix(t *testing.T) {
	m := newMatrix(t, catalogGuards, strangeText(), everything)
	if race.Detector || testing.Short() {
		m.thin = 5
	}
	m.run()
	for _, path := range slices.Sorted(maps.Keys(m.cases)) {
		t.Logf("%-28s %6d", path, m.cases[path])
	}
	t.Logf("%d cases: %d leaks, %d missing", m.total(), len(m.leaks), len(m.missing))
	for what, lines := range map[string][]string{"leak": m.leaks, "missing": m.missing} {
		for _, line := range lines[:min(len(lines), firstLines)] {
			t.Errorf("%s: %s", what, line)
		}
	}
	if n := m.total(); n < leastCases {
		t.Errorf("%d cases, want at least %d", n, leastCases)
	}
}

const (
	leastCases = 5_000
	firstLines = 25 // of what went wrong
)

// run goes through all phases.
func (m *matrix) run() {
	var err error
	m.root, err = m.dial(&person{user: "root", client: "root", listener: "mqtt"}, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	m.root.subscribe(packet.Properties{}, 1, "#")
	if m.does(endPart) {
		m.trust()
	}
	var devices deviceSide
	var backEnds backEndSide
	var letters *sorter
	for phase := range phases {
		m.enter(phase)
		for _, root := range roots(m.rows) { // so that it is there
			if phase == 0 {
				m.root.publish(&packet.Publish{Topic: []byte(within(root)), Payload: []byte("x"), QoS: 1}, 0)
			}
		}
		m.root.drain()
		if m.does(devicePart) {
			m.devices(&devices)
		}
		if m.does(backEndPart) {
			m.backEnds(&backEnds)
		}
		if m.does(pagePart) {
			m.pages()
		}
		if m.does(apiPart) {
			m.asksAPI()
			m.flows()
		}
		if m.does(streamPart) {
			m.streams()
		}
		if m.does(bridgePart) {
			m.cross()
		}
		if m.does(letterPart) {
			if letters == nil {
				letters = m.newSorter()
			}
			m.arrive(devices.of(m))
			m.connect(backEnds.of(m))
			m.letters(letters, backEnds.all, devices.all)
		}
		if m.found != nil && m.found() {
			return
		}
		if m.does(devicePart) {
			m.leave(&devices)
		}
		if m.does(transactionPart) {
			backEnds.begun = m.transact(backEnds.all)
		}
		if m.does(fetchPart) {
			backEnds.waits = m.wait(backEnds.all)
		}
	}
	m.finish(&devices)
}

// finish goes through what comes once, behind all phases.
func (m *matrix) finish(devices *deviceSide) {
	if m.does(devicePart) && m.does(pagePart) {
		m.loginsDown(devices)
		m.storageDown(devices)
	}
	if m.does(endPart) {
		m.ends()
		m.delegated()
	}
	m.passes()
	if m.does(bridgePart) {
		m.lastBridge()
	}
	m.root.fence()
	for _, judge := range m.late {
		judge()
	}
	for payload, one := range m.never {
		if m.root.has(payload) {
			m.leaks = append(m.leaks, fmt.Sprintf("later, %s: %q to %s", one.path, one.who.user, one.name))
		}
	}
}

// loginsDown has those come whom only the service of logins knows, while it is away: none comes in by any door, and who
// is there stays.
func (m *matrix) loginsDown(s *deviceSide) {
	m.logins.shut(true)
	for i, who := range m.people {
		if !who.elsewhere {
			continue
		}
		if d := s.all[i]; d != nil {
			m.judge("logins down", who, "who is there", true, d.c.Err() == nil)
		}
		again := *who
		again.client += "again"
		for _, change := range []func(*client.Options){nil, func(o *client.Options) { o.Version = packet.V311 }} {
			_, err := m.dial(&again, change)
			m.judge("logins down", who, "CONNECT", false, err == nil)
		}
		_, err := m.backEnd(asBackEnd(who))
		m.judge("logins down", who, "SASL", false, err == nil)
		basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(who.user+":"+mxPassword))
		status, _ := m.http(http.MethodGet, "/sessions", basic, 0)
		m.judge("logins down", who, "HTTP", false, status != http.StatusServiceUnavailable)
	}
	_, err := m.dial(&person{user: "root", client: "other root", listener: "mqtt"}, nil)
	m.judge("logins down", &person{user: "root"}, "CONNECT", true, err == nil)
	m.logins.shut(false)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); { // until it is asked again
		if _, err = m.dial(&person{user: "*u", client: "probe", listener: "mqtt"}, nil); err == nil {
			break
		}
	}
	m.judge("logins down", &person{user: "*u"}, "CONNECT, when it is back", true, err == nil)
}

// storageDown changes rules while the disk is full: none is in force that could not be stored.
func (m *matrix) storageDown(s *deviceSide) {
	for _, on := range []vfs.OpKind{vfs.OpWrite, vfs.OpPreallocate} {
		m.disk.Inject(vfs.Fault{On: on, Times: -1, Kind: fault.Full})
	}
	given := about("allow", "User:*", mxRoot+"/#", both).said
	status, _ := m.http(http.MethodPost, "/rules", "Bearer "+m.node.token, []said{given})
	m.judge("storage down", &person{}, "a rule", false, status == http.StatusOK)
	for key, id := range m.ids {
		status, _ := m.http(http.MethodDelete, "/rules?id="+id, "Bearer "+m.node.token, nil)
		m.judge("storage down", &person{}, "without "+key, false, status == http.StatusOK)
		break
	}
	m.disk.Heal()
	for deadline := time.Now().Add(patience); ; { // until it takes writes again
		m.root.publish(&packet.Publish{Topic: []byte(mxRoot + "/fence"), Payload: []byte("x"), QoS: 1}, 1)
		m.root.drain()
		m.root.mu.Lock()
		refused := m.root.refused[1]
		m.root.mu.Unlock()
		if !refused || time.Now().After(deadline) {
			break
		}
	}
	m.arrive(s.all)
	m.live(s.all)
}

// does tells whether any of these parts is tried.
func (m *matrix) does(some ends) bool { return m.parts&some != 0 }

// within is a name that goes to a topic of the log.
func within(topic string) string {
	if topic == zoneTopic {
		topic = zoneLevel + "/a"
	}
	return topic + "/begin"
}

// deviceSide is what there is of devices between two phases.
type deviceSide struct {
	all, was           []*visitor
	history            map[string][]map[string]string
	again, twice, away map[string]string
	wills, waiting     []will
}

// of are the devices of a matrix.
func (s *deviceSide) of(m *matrix) []*visitor {
	if s.all == nil {
		s.all, s.was = make([]*visitor, len(m.people)), make([]*visitor, len(m.people))
		s.history = map[string][]map[string]string{}
	}
	return s.all
}

// devices goes the paths of devices in one phase.
func (m *matrix) devices(s *deviceSide) {
	m.arrive(s.of(m))
	if m.phase > 0 && m.does(awayPart) {
		m.back(s)
	}
	if m.phase > 0 && m.does(willPart) {
		m.die(s.wills)
	}
	if m.does(livePart) {
		m.live(s.all)
	}
	if m.does(pastPart) {
		m.past(s.all, s.history)
	}
	if m.does(filterPart) {
		m.filters(s.all)
		m.seesSys(s.all)
	}
	if m.does(writePart) {
		m.write(s.all)
	}
	if m.does(willPart) {
		m.die(m.wills("will", 0))
	}
	if m.does(delayPart) {
		m.forget(s.waiting)
		m.delay(s.all)
		s.waiting = m.wills("willdelayed", delay)
	}
}

// backEndSide is what there is of back ends between two phases.
type backEndSide struct {
	all      []*backEnd
	sessions map[string]*kmsg.FetchRequest
	members  map[*backEnd]*sharing
	waits    []waiting
	begun    map[*backEnd]open
}

// of are the back ends of a matrix.
func (s *backEndSide) of(m *matrix) []*backEnd {
	if s.all == nil {
		s.all = make([]*backEnd, len(m.people))
		s.sessions, s.members = map[string]*kmsg.FetchRequest{}, map[*backEnd]*sharing{}
	}
	return s.all
}

// backEnds goes the paths of back ends in one phase.
func (m *matrix) backEnds(s *backEndSide) {
	m.connect(s.of(m))
	m.goOn(s.all, s.begun)
	m.send("backend", nil)
	m.come(s.waits)
	if m.does(fetchPart) {
		m.consumers(s.all, s.sessions)
	}
	if m.does(sharePart) {
		m.shareOut(s.all, s.members)
	}
	if m.does(callPart) {
		m.calls(s.all)
	}
}
