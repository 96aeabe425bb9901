package people

import (
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
)

// Line is a session as administrators see it. What would prove it is not known.
type Line struct {
	ID      string    `json:"id"`
	User    string    `json:"user"`
	Method  string    `json:"method"` // password, oidc
	Address string    `json:"address,omitempty"`
	Began   time.Time `json:"began"`
	Used    time.Time `json:"used"`
	Ends    time.Time `json:"ends"`
}

// id names a session for administrators.
func (s *session) id() string { return hex.EncodeToString(s.key[:8]) }

// List lists the sessions of a user, or ("") of all, by user, the oldest first.
func (d *Desk) List(user string) []Line {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sweep(d.opt.Now())
	lines := []Line{}
	for _, s := range d.mu.sessions {
		who := s.pass.Who()
		if user != "" && who.User != user {
			continue
		}
		line := Line{ID: s.id(), User: who.User, Method: s.method, Began: s.began.UTC(), Used: s.used.UTC(),
			Ends: d.idleAt(s).UTC()}
		if who.Address.IsValid() {
			line.Address = who.Address.Unmap().String()
		}
		lines = append(lines, line)
	}
	slices.SortFunc(lines, func(a, b Line) int {
		if c := strings.Compare(a.User, b.User); c != 0 {
			return c
		}
		return a.Began.Compare(b.Began)
	})
	return lines
}

// End ends the session of an id, or all of a user, and tells how many. Errors: NotFound when there is none.
func (d *Desk) End(id, user string) (int, error) {
	n := 0
	for _, s := range d.all() {
		if id != "" && s.id() == id || id == "" && user != "" && s.pass.Who().User == user {
			d.drop(s, "an administrator has ended it")
			n++
		}
	}
	if n == 0 {
		return 0, fault.New(fault.NotFound, op, "there is no such session")
	}
	return n, nil
}
