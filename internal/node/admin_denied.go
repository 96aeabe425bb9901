package node

import (
	"net/http"
	"time"

	"github.com/firthmq/firth/internal/access/rule"
)

// deniedLines are what rules would deny that are tried out.
type deniedLines struct {
	Mode   string       `json:"mode"` // enforce: there are none
	Denied []deniedLine `json:"denied"`
}

// deniedLine is one of those, and what to do if it should be allowed.
type deniedLine struct {
	User      string     `json:"user"`
	Client    string     `json:"client,omitempty"`
	Operation string     `json:"operation"`
	Kind      string     `json:"kind"`
	Pattern   string     `json:"pattern"`
	Name      string     `json:"name"`
	Text      string     `json:"text"` // the resource for people
	Count     int64      `json:"count"`
	First     time.Time  `json:"first"`
	Last      time.Time  `json:"last"`
	By        []ruleLine `json:"by"` // the rules that deny it; none: no rule allows it
	Fix       *rule.Rule `json:"fix,omitempty"`
}

// adminDenied shows what rules would deny that are tried out, and how to allow it.
func (n *Node) adminDenied(*http.Request) (any, error) {
	all := deniedLines{Mode: modeEnforce, Denied: []deniedLine{}}
	if n.access.TriesOut() {
		all.Mode = modeReport
	}
	for _, t := range n.access.Attempts() {
		line := deniedLine{User: t.User, Client: t.ClientID, Operation: t.Operation.String(), Kind: t.On.Kind.String(),
			Pattern: t.On.Pattern.String(), Name: t.On.Name, Text: t.On.String(), Count: t.Count, First: t.First, Last: t.Last,
			By: linesOf(t.Deniers)}
		if fix, is := t.Fix(); is {
			line.Fix = &fix
		}
		all.Denied = append(all.Denied, line)
	}
	return all, nil
}
