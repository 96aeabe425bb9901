package api

import (
	"strings"

	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kit/fault"
)

// Groups is what the API asks of the back-end door; nil: Kafka clients have another one.
type Groups interface {
	// EachGroup visits the groups. What it is given does not change.
	EachGroup(visit func(*GroupDetail))
	// Group is one of them; nil: there is none.
	Group(id string) *GroupDetail
}

// Group is what a list says of a group of Kafka clients.
type Group struct {
	ID       string `json:"id"`
	Type     string `json:"type" enum:"classic,consumer,share,streams"`
	State    string `json:"state" doc:"by Kafka's names"`
	Protocol string `json:"protocol,omitempty" doc:"the type of protocol of a classic group"`
	Members  int    `json:"members"`
	Lag      int64  `json:"lag,string" doc:"records behind, in all topics that who asks may describe; 0 for share groups"`
}

// GroupDetail is all that is said of one group.
type GroupDetail struct {
	Group
	Positions []GroupPosition `json:"positions" doc:"its committed offsets, of topics that who asks may describe"`
}

// GroupPosition is the committed offset of a partition.
type GroupPosition struct {
	Topic     string `json:"topic"`
	Partition int    `json:"partition"`
	Committed int64  `json:"committed,string" doc:"the offset that it goes on at"`
	Next      int64  `json:"next,string" doc:"the first that is left: committed, unless retention has taken it"`
	Lag       int64  `json:"lag,string" doc:"records from there to the end"`
}

func groupRoutes() []route {
	return []route{
		{method: "GET", path: "/groups", id: "listGroups", tag: "groups", summary: "List groups of Kafka clients",
			right: right{operation: rule.Describe, on: rule.Group, each: true}, walks: true,
			params: append(listParams("id", "lag", "members"),
				param{name: "search", kind: "string", doc: "only those with this text in their id"},
				param{name: "topic", kind: "string", doc: "only those with a committed offset of this topic"}),
			answer: Page[Group]{}, do: (*API).groups},
		{method: "GET", path: "/groups/{group}", id: "getGroup", tag: "groups", summary: "Show a group of Kafka clients",
			text:   "With its committed offsets, and how far it is behind in each partition.",
			right:  right{operation: rule.Describe, on: rule.Group, by: "group"},
			params: []param{{name: "group", kind: "string", inPath: true, doc: "its id; / in it is %2F"}},
			answer: GroupDetail{}, do: (*API).group},
	}
}

func (a *API) groups(q *ask) (any, error) {
	p, err := newPager[Group](q)
	if err != nil {
		return nil, err
	}
	if a.opt.Groups == nil {
		return page(p, func(g Group) Group { return g }), nil
	}
	text, topic := q.text("search"), q.text("topic")
	a.opt.Groups.EachGroup(func(g *GroupDetail) {
		if !strings.Contains(g.ID, text) || !q.v.Sees(rule.Describe, rule.Group, g.ID) {
			return
		}
		if g.show(q.v); topic != "" && !g.holds(topic) {
			return
		}
		at := place{ID: g.ID}
		switch p.sort {
		case "lag":
			at.Number = g.Lag
		case "members":
			at.Number = int64(g.Members)
		}
		p.offer(at, func() Group { return g.Group })
	})
	return page(p, func(g Group) Group { return g }), nil
}

func (a *API) group(q *ask) (any, error) {
	id := q.r.PathValue("group")
	if a.opt.Groups != nil {
		if g := a.opt.Groups.Group(id); g != nil {
			g.show(q.v)
			return g, nil
		}
	}
	return nil, fault.New(fault.NotFound, "group "+fault.Text(id), "there is no such group").
		WithHint("GET %s/groups lists them", Path)
}

// show leaves the positions of the topics that somebody may describe, and sums up how far the group is behind in them.
func (g *GroupDetail) show(v Visitor) {
	seen := map[string]bool{}
	kept := []GroupPosition{}
	for _, at := range g.Positions {
		may, known := seen[at.Topic]
		if !known {
			may = v.Sees(rule.Describe, rule.Topic, at.Topic)
			seen[at.Topic] = may
		}
		if may {
			kept = append(kept, at)
			g.Lag += at.Lag
		}
	}
	g.Positions = kept
}

func (g *GroupDetail) holds(topic string) bool {
	for i := range g.Positions {
		if g.Positions[i].Topic == topic {
			return true
		}
	}
	return false
}
