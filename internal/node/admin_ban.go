package node

import (
	"net/http"
	"time"

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
	return n.mqtt.Ban(r.Context(), mqtt.BanLine{
		Kind: q.Get("kind"), Who: q.Get("who"), Until: until, By: q.Get("by"), Reason: q.Get("reason"),
	})
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
	return n.mqtt.Unban(r.Context(), q.Get("kind"), q.Get("who"))
}
