package audit

import (
	"net/netip"
	"slices"
	"time"

	"github.com/firthmq/firth/internal/audit/chain"
)

// How much is told apart within a second. What is more is counted together, so that who floods us with refusals fills
// neither the memory nor the disk, and nothing goes without being counted.
const (
	gatherFor      = time.Second
	mostByAddress  = 16    // records of failures and refusals from one address (of IPv6, one /64)
	mostFailures   = 256   // records of failures and refusals
	mostHandshakes = 64    // records of handshakes that failed, which cost those who come nothing
	mostGathered   = 8_192 // records
	mostAlso       = 8     // other resources in a record
	wholeOfAddress = 64    // bits of an IPv6 address that are one network
)

// kindOf is what events have in common that become one record.
type kindOf struct {
	eventType, action string
	outcome           chain.Outcome
	principal, method string
	certificate       string
	address, listener string
	client            string
	resource          chain.Resource // of data and of changes, where it is what counts
	of                uint64
}

// gathered are the events of this second.
type gathered struct {
	events     []*chain.Event // in the order in which they came
	byKind     map[kindOf]*chain.Event
	failures   share
	handshakes share // apart, so that they leave room for what is refused to who got in
}

// share is how many of the records those of one sort have taken.
type share struct {
	all       int
	byNetwork map[string]int
}

// take takes one for a network, if there is one left to it.
func (s *share) take(network string, most int) bool {
	if s.all >= most || s.byNetwork[network] >= mostByAddress {
		return false
	}
	if s.byNetwork == nil {
		s.byNetwork = map[string]int{}
	}
	s.all++
	s.byNetwork[network]++
	return true
}

// add takes an event: a new record of it, or one more in that of another. First says that it is the first of all.
func (g *gathered) add(e *chain.Event) (first, merged bool) {
	if g.byKind == nil {
		g.byKind = map[kindOf]*chain.Event{}
	}
	k := kindOf{e.Type, e.Action, e.Outcome, e.Actor.Principal, e.Actor.Method, e.Actor.CN, e.Origin.Address,
		e.Origin.Listener, e.Origin.Client, chain.Resource{}, e.Of}
	switch e.Type {
	case chain.TypeProduce, chain.TypeFetch, chain.TypeTakeover, chain.TypeChange:
		k.resource = e.Resource
	}
	if was := g.byKind[k]; was != nil {
		more(was, e)
		return false, true
	}
	kept := *e
	if g.crowded(e) { // one record for all that are like it
		k = kindOf{eventType: e.Type, outcome: e.Outcome}
		kept = chain.Event{Type: e.Type, Time: e.Time, Outcome: e.Outcome, Count: e.Count,
			Reason: "too many to tell them apart"}
		if was := g.byKind[k]; was != nil {
			more(was, &kept)
			return false, true
		}
	}
	g.byKind[k] = &kept
	g.events = append(g.events, &kept)
	return len(g.events) == 1, false
}

// more counts an event in the record of another.
func more(was, e *chain.Event) {
	was.Count = max(was.Count, 1) + max(e.Count, 1)
	if was.Until == nil {
		was.Until = new(time.Time)
	}
	*was.Until = e.Time.UTC()
	if e.Resource == was.Resource || len(was.Also) == mostAlso || slices.Contains(was.Also, e.Resource) {
		return
	}
	was.Also = append(was.Also, e.Resource)
}

// crowded tells whether there is no room for a record more. Those of changes always have it, but not of those that
// clients cause.
func (g *gathered) crowded(e *chain.Event) bool {
	caused := e.Type == chain.TypeChange && e.Actor.Principal == NodeItself && e.Origin.Address != ""
	if e.Type == chain.TypeChange && !caused || e.Type == chain.TypeOpened {
		return false
	}
	if len(g.events) >= mostGathered {
		return true
	}
	network := networkOf(e.Origin.Address)
	switch {
	case e.Type == chain.TypeHandshake:
		return !g.handshakes.take(network, mostHandshakes)
	case caused, e.Outcome == chain.Denied, e.Outcome == chain.Failure, e.Outcome == chain.LetThrough:
		return !g.failures.take(network, mostFailures)
	}
	return false
}

// networkOf is the part of an address that one client has for itself.
func networkOf(address string) string {
	a, err := netip.ParseAddr(address)
	if err != nil || a.Unmap().Is4() {
		return address
	}
	p, err := a.WithZone("").Prefix(wholeOfAddress)
	if err != nil {
		return address
	}
	return p.String()
}

// take gives what has gathered.
func (g *gathered) take() []*chain.Event {
	events := g.events
	*g = gathered{}
	return events
}
