package api

import (
	"encoding/json"

	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/stream"
)

// Setting is one option of the node.
type Setting struct {
	Key    string          `json:"key"`
	Value  json.RawMessage `json:"value"`
	Origin string          `json:"origin" doc:"where it comes from: default, a place in a file, a variable or a flag"`
	Live   bool            `json:"live" doc:"a reload puts a change in force; else a restart does"`
	Doc    string          `json:"doc"`
}

// Settings are the options of the node.
type Settings struct {
	Items []Setting `json:"items"`
}

// Check is one condition of readiness.
type Check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Reason string `json:"reason,omitempty" doc:"why it is not met, or what there is to say though it is"`
}

// Health tells whether clients should be sent to the node, and why not.
type Health struct {
	Ready   bool    `json:"ready" doc:"all checks are met"`
	Version string  `json:"version" doc:"of the binary"`
	Checks  []Check `json:"checks"`
}

// Mapped is where the messages of a topic name go.
type Mapped struct {
	Name       string   `json:"name"`
	Topic      string   `json:"topic" doc:"the topic of the log"`
	Key        *Bytes   `json:"key"`
	Exists     bool     `json:"exists" doc:"the topic is there; else the first message has it made, where devices may"`
	Partitions int      `json:"partitions" doc:"how many it has, or would be made with; 0: the default of the log"`
	InHeader   bool     `json:"in_header" doc:"the topic name goes into a header, because topic and key do not tell it"`
	CatchAll   bool     `json:"catch_all" doc:"it goes to the topic for names that no topic of their own is for"`
	Filters    []string `json:"mqtt_filters" doc:"the topic filters whose messages may be in that topic"`
}

func aboutRoutes() []route {
	return []route{
		{method: "GET", path: "/openapi.json", id: "getOpenAPI", tag: "node", summary: "The OpenAPI document of this API",
			text: "It is the same for everybody, and tells nothing of the node.", open: true, answer: json.RawMessage(nil),
			do: func(a *API, _ *ask) (any, error) { return Document(), nil }},
		{method: "GET", path: "/health", id: "getHealth", tag: "node", summary: "Whether the node is ready, and why not",
			text: "GET /readyz says it to everybody in short.", right: watching, answer: Health{}, do: (*API).health},
		{method: "GET", path: "/config", id: "listSettings", tag: "node", summary: "List the options of the node",
			text:  "Each with where its value comes from. Secrets are not among them: options name files that hold them.",
			right: watching, answer: Settings{},
			do: func(a *API, _ *ask) (any, error) { return Settings{a.opt.Settings()}, nil }},
		{method: "GET", path: "/mapping", id: "tryMapping", tag: "node",
			summary: "Where the messages of a topic name would go",
			text:    "By the mapping in force. Nothing is published or made.", right: watching,
			params: []param{{name: "name", kind: "string", doc: "a topic name of MQTT"}}, answer: Mapped{},
			do: (*API).mapped},
	}
}

func (a *API) health(*ask) (any, error) {
	h := Health{Ready: true, Version: a.opt.Version, Checks: a.opt.Checks()}
	for _, c := range h.Checks {
		h.Ready = h.Ready && c.OK
	}
	return h, nil
}

func (a *API) mapped(q *ask) (any, error) {
	name := q.text("name")
	if name == "" {
		return nil, fault.New(fault.Invalid, op, "name is missing").WithHint("?name=sensors/room1/temp")
	}
	table := a.opt.Mapping()
	var to hinge.Target
	if err := table.Target([]byte(name), &to); err != nil {
		return nil, err
	}
	m := Mapped{Name: name, Topic: to.Topic, Key: bytesOf(to.Key), Partitions: to.Partitions, InHeader: to.InHeader,
		CatchAll: to.Topic == table.CatchAll(), Filters: table.FiltersOf(to.Topic)}
	var t *stream.Topic
	if t = a.opt.Log.Topics().ByName(to.Topic); t != nil {
		m.Exists, m.Partitions = true, len(t.Partitions)
	}
	return m, nil
}
