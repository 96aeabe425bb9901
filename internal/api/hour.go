package api

import (
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
)

// Hour is what some metrics were in the last hour.
type Hour struct {
	Names []string `json:"names" doc:"families of /metrics; those that end in _total are counters, which only grow"`
	Items []Moment `json:"items" doc:"the oldest first; there is less than an hour of them when the node began since"`
}

// Moment is what they were at a time.
type Moment struct {
	Time   time.Time `json:"time"`
	Values []float64 `json:"values" doc:"of each family the sum of its series, in the order of the names"`
}

func hourRoutes() []route {
	return []route{{method: "GET", path: "/metrics/hour", id: "getLastHour", tag: "node",
		summary: "Show what some metrics were in the last hour",
		text:    "The node looks every ten seconds, and keeps them in memory. Who wants more has Prometheus read /metrics.",
		right:   watching, answer: Hour{}, do: func(a *API, _ *ask) (any, error) {
			if a.opt.LastHour == nil {
				return nil, fault.New(fault.Unsupported, op, "nobody remembers metrics here")
			}
			return a.opt.LastHour(), nil
		}}}
}
