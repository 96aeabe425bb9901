// Package chain is the audit as records: what an event says, how records hang together, and how to tell that one was
// removed, altered or moved.
//
// A record is a CloudEvents 1.0 event in JSON. Each carries the SHA-256 of the bytes of the one before, so that who
// changes one has to change all that follow; checkpoints, which are records too, sign how far the chain has come, so
// that who has not the key cannot. docs/format/audit.md has the fields.
package chain

import (
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"
)

// What kinds of events there are: the type of the CloudEvents event.
const (
	TypeLogin      = "firth.login"            // somebody said who it is
	TypeHandshake  = "firth.tls.handshake"    // a handshake of TLS failed
	TypeRefused    = "firth.access.refused"   // the guard said no
	TypeChange     = "firth.change"           // somebody who administers the node changes something
	TypeTakeover   = "firth.session.takeover" // a session goes to another connection
	TypeProduce    = "firth.data.produce"     // records were written to a topic of audit.data
	TypeFetch      = "firth.data.fetch"       // records were read of one
	TypeOpened     = "firth.audit.opened"     // the node goes on with the chain
	TypeCheckpoint = "firth.audit.checkpoint" // the chain up to here is signed
)

// Outcome is how something ended.
type Outcome string

// The outcomes.
const (
	Success Outcome = "success"
	Failure Outcome = "failure"
	Denied  Outcome = "denied"
	Begun   Outcome = "begun" // a change: another record says how it ended
	// LetThrough is of what rules would deny that are tried out only.
	LetThrough Outcome = "let_through"
)

// Actor is who does something.
type Actor struct {
	Principal string   `json:"principal,omitempty"` // User:alice
	Method    string   `json:"method,omitempty"`    // how it has proven that: password, SCRAM-SHA-256, certificate
	Roles     []string `json:"roles,omitempty"`
	CN        string   `json:"certificate,omitempty"` // common name of its certificate
	Token     string   `json:"token,omitempty"`       // id of the token of ours that it has proven that with
}

// Origin is where it comes from.
type Origin struct {
	Address  string `json:"address,omitempty"` // without the port
	Listener string `json:"listener,omitempty"`
	Client   string `json:"client,omitempty"` // client identifier
	TLS      bool   `json:"tls,omitempty"`
}

// Resource is what it is done to.
type Resource struct {
	Kind string `json:"type,omitempty"` // topic, name, filter, group, cluster, user, rule, ban, session
	Name string `json:"name,omitempty"`
}

// Event is what is told of one thing that happened, or of several of a kind within a second.
type Event struct {
	Type     string          `json:"-"`
	Time     time.Time       `json:"-"` // of the first
	Actor    Actor           `json:"actor"`
	Origin   Origin          `json:"origin"`
	Action   string          `json:"action,omitempty"` // write, connect, user.set
	Resource Resource        `json:"resource,omitzero"`
	Also     []Resource      `json:"also,omitempty"` // others of the same kind
	Outcome  Outcome         `json:"outcome,omitempty"`
	Reason   string          `json:"reason,omitempty"`
	Rule     string          `json:"rule,omitempty"`  // the id of the rule that decided
	Count    int             `json:"count,omitempty"` // how many, if not one
	Until    *time.Time      `json:"until,omitempty"` // of the last of them
	Of       uint64          `json:"of,omitempty"`    // the number of the record that says what has ended
	Before   json.RawMessage `json:"before,omitempty"`
	After    json.RawMessage `json:"after,omitempty"`

	Key       string `json:"key,omitempty"`       // of a checkpoint: whose signature it is
	Signature []byte `json:"signature,omitempty"` // of a checkpoint
}

// longest bounds what clients say of themselves, in bytes.
const longest = 512

// bound cuts what clients may have made long.
func (e *Event) bound() {
	for _, s := range []*string{&e.Actor.Principal, &e.Actor.CN, &e.Actor.Method, &e.Origin.Address, &e.Origin.Listener,
		&e.Origin.Client, &e.Action, &e.Resource.Kind, &e.Resource.Name, &e.Reason, &e.Rule} {
		*s = cut(*s)
	}
	for i := range e.Also {
		e.Also[i].Name = cut(e.Also[i].Name)
	}
}

func cut(s string) string {
	if len(s) > longest {
		s = s[:longest]
		for len(s) > 0 && !utf8.RuneStart(s[len(s)-1]) {
			s = s[:len(s)-1]
		}
		s += "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
