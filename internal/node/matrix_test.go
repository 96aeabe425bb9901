package node

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/firthmq/firth/internal/mqtt/packet"
)

// TestAccessMatrix tries every way to data against every way to have a right, and wants to see exactly what may be
// seen: docs/conformance/access.md.
func TestAccessMatrix(t *testing.T) {
	m := newMatrix(t, catalogGuards)
	m.run()
	for _, path := range slices.Sorted(maps.Keys(m.cases)) {
		t.Logf("%-24s %6d", path, m.cases[path])
	}
	t.Logf("%d cases: %d leaks, %d missing", m.total(), len(m.leaks), len(m.missing))
	for what, lines := range map[string][]string{"leak": m.leaks, "missing": m.missing} {
		for i, line := range lines {
			if i == 25 {
				break
			}
			t.Errorf("%s: %s", what, line)
		}
	}
	if n := m.total(); n < leastCases {
		t.Errorf("%d cases, want at least %d", n, leastCases)
	}
}

const leastCases = 5_000

// run goes through all phases.
func (m *matrix) run() {
	var err error
	m.root, err = m.dial(&person{user: "root", client: "root", listener: "mqtt"}, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	m.root.subscribe(packet.Properties{}, 1, "#")
	devices := make([]*visitor, len(m.people))
	was := make([]*visitor, len(m.people))
	history := map[string][]map[string]string{}
	var again, twice, away map[string]string
	var wills []will
	for phase := range phases {
		m.enter(phase)
		m.arrive(devices)
		if phase > 0 {
			m.back(devices, was, again, twice, away)
			m.die(wills)
		}
		m.live(devices)
		m.past(devices, history)
		m.filters(devices)
		m.write(devices)
		m.seesSys(devices)
		m.die(m.wills("will", 0))
		wills = m.wills("willlater", 0)
		again, twice, away = m.leave(devices)
		copy(was, devices)
	}
	m.root.fence()
	for payload, one := range m.never {
		if m.root.has(payload) {
			m.leaks = append(m.leaks, fmt.Sprintf("later, %s: %q to %s", one.path, one.who.user, one.name))
		}
	}
}
