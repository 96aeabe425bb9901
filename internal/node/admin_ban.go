package node

import (
	"context"
	"net/http"
	"time"

	"github.com/firthmq/firth/internal/audit"
	"github.com/firthmq/firth/internal/audit/chain"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/mqtt"
)

func (n *Node) adminBans(*http.Request) (any, error) { return n.mqtt.Bans(), nil }

// adminBan keeps out whom kind and who say: for a time, until one, or for ever.
func (n *Node) adminBan(r *http.Request) (any, error) {
	q := r.URL.Query()
	until, err := banUntil(q.Get("for"), q.Get("until"))
	if err != nil {
		return nil, err
	}
	return n.ban(r.Context(), mqtt.BanLine{Kind: q.Get("kind"), Who: q.Get("who"), Until: until, By: q.Get("by"),
		Reason: q.Get("reason")})
}

// ban keeps somebody out, and ends its connections.
func (n *Node) ban(ctx context.Context, line mqtt.BanLine) (made *mqtt.BanLine, err error) {
	e := n.banChange("set", line.Kind, line.Who)
	e.After = audit.State(line)
	err = n.audit.Change(ctx, e, func() (err error) {
		made, err = n.mqtt.Ban(ctx, line)
		return err
	})
	return made, err
}

// banChange is what is done to a ban as the audit has it, with the one that is there.
func (n *Node) banChange(what, kind, who string) chain.Event {
	e := chain.Event{Action: "ban." + what, Resource: chain.Resource{Kind: "ban", Name: kind + " " + who}}
	for _, line := range n.mqtt.Bans() {
		if line.Kind == kind && line.Who == who {
			e.Before = audit.State(line)
		}
	}
	return e
}

// banUntil is when a ban ends; nil: never.
func banUntil(length, end string) (*time.Time, error) {
	switch {
	case length != "":
		d, err := parseDuration(length)
		if err != nil || d == 0 {
			return nil, fault.New(fault.Invalid, "ban", "for=%s is not a time (examples: 90s, 12h, 7d)", length)
		}
		until := time.Now().Add(d)
		return &until, nil
	case end != "":
		until, err := time.Parse(time.RFC3339, end)
		if err != nil {
			return nil, fault.New(fault.Invalid, "ban", "until=%s is not a moment (example: 2030-01-31T12:00:00Z)", end)
		}
		return &until, nil
	}
	return nil, nil
}

func (n *Node) adminUnban(r *http.Request) (any, error) {
	q := r.URL.Query()
	return n.unban(r.Context(), q.Get("kind"), q.Get("who"))
}

// unban lets somebody in again.
func (n *Node) unban(ctx context.Context, kind, who string) (gone *mqtt.BanLine, err error) {
	err = n.audit.Change(ctx, n.banChange("remove", kind, who), func() (err error) {
		gone, err = n.mqtt.Unban(ctx, kind, who)
		return err
	})
	return gone, err
}
