package api

import (
	"crypto/ed25519"
	"time"

	"github.com/firthmq/firth/internal/audit/chain"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// AuditVerdict is what the chain of the audit is.
type AuditVerdict struct {
	Good    bool   `json:"good" doc:"nothing is wrong in what was looked at"`
	Whole   bool   `json:"whole" doc:"all was looked at that the log has; false: time was up"`
	Records int    `json:"records" doc:"how many were looked at"`
	First   uint64 `json:"first,string" doc:"the number of the first; what was before it went by retention"`
	Last    uint64 `json:"last,string"`
	Signed  uint64 `json:"signed,string" doc:"the last checkpoint; what is behind it is linked, and not signed yet"`
	Wrong   string `json:"wrong,omitempty" enum:"removed,altered,reordered,forged,truncated" doc:"what was done first"`
	At      uint64 `json:"at,string,omitempty" doc:"the number of the record that it was done to"`
	Detail  string `json:"detail,omitempty" doc:"how that is known"`
}

// verifyTime is for how long a request looks: some million records.
const verifyTime = 20 * time.Second

func auditVerifyRoutes() []route {
	return []route{{method: "GET", path: "/audit/verify", id: "verifyAudit", tag: "audit",
		summary: "Tell whether a record of the audit was removed, altered or moved",
		text: "By the hashes of the records, the signatures of the checkpoints, and the checkpoint that the node has " +
			"noted. It looks for 20 seconds at most. Who does not trust the node runs firth audit verify elsewhere.",
		right: watching, walks: true, answer: AuditVerdict{}, do: (*API).verifyAudit}}
}

func (a *API) verifyAudit(q *ask) (any, error) {
	if a.opt.AuditKey == nil {
		return nil, fault.New(fault.NotFound, op, "nothing is recorded here").WithHint("audit.enabled is false")
	}
	key, head, err := a.opt.AuditKey()
	if err != nil {
		return nil, err
	}
	v := &chain.Verifier{Key: key}
	if head != nil {
		if v.Head, err = chain.Parse(head); err != nil {
			return nil, err
		}
	}
	whole := true
	if t := a.opt.Log.Topics().ByName(a.opt.AuditTopic); t != nil {
		if whole, err = a.walkChain(q, t.Partitions[0], v); err != nil {
			return nil, err
		}
	}
	if !whole { // the checkpoint may be behind
		v.Head = nil
	}
	r := v.End()
	said := &AuditVerdict{Good: r.Fault == nil, Whole: whole, Records: r.Records, First: uint64(r.First),
		Last: uint64(r.Last.Sequence), Signed: uint64(r.Signed)}
	if r.Fault != nil {
		said.Wrong, said.At, said.Detail = string(r.Fault.Wrong), uint64(r.Fault.Sequence), r.Fault.Detail
	}
	return said, nil
}

// walkChain gives a verifier the records of the audit. It is true when there are no more, or more would tell nothing.
// Errors: those of the log.
func (a *API) walkChain(q *ask, p stream.PartitionID, v *chain.Verifier) (whole bool, err error) {
	b, err := a.opt.Log.Bounds(p)
	if err != nil {
		return false, err
	}
	goes := true
	for until, next := time.Now().Add(verifyTime), b.Start; goes && next < b.High; {
		if time.Now().After(until) || q.r.Context().Err() != nil {
			return false, nil //nolint:nilerr // nobody waits for more
		}
		was := next
		next, err = a.opt.Log.Scan(p, next, stream.ScanOptions{}, func(r *record.View) bool {
			goes = v.Next(append([]byte(nil), r.Value...)) // it is good during the visit only
			return goes
		})
		switch {
		case lostIn(err) != nil:
			v.Lost("records are damaged on the disk")
			return true, nil //nolint:nilerr // it is what was asked
		case err != nil:
			return false, err
		case next == was:
			return true, nil
		}
	}
	return true, nil
}

// AuditKeyFunc is by what the audit is verified: the key of its checkpoints, and the last one that the node knows to be
// stored; nil: none is known.
type AuditKeyFunc func() (key ed25519.PublicKey, head []byte, err error)
