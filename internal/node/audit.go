package node

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/audit"
	"github.com/firthmq/firth/internal/audit/chain"
	"github.com/firthmq/firth/internal/kit/secure"
	"github.com/firthmq/firth/internal/log/stream"
)

// Audit says what is written down of who did what.
type Audit struct {
	Enabled        bool
	Data           string        // topics whose reads and writes are told, with commas
	Retention      time.Duration // forever: as long as there is room
	RetentionBytes int64         // unlimited: no bound
}

func auditOptions() []Option {
	return []Option{
		Option{Key: "audit.enabled", Default: "true",
			Doc: "Whether logins, refusals, changes by administrators and session takeovers are recorded, in the topic " +
				"__firth_audit. It is made with the first of them; while there are neither users nor rules, and nobody " +
				"changes anything, nothing is written.",
			Shows: "what cannot be recorded is not changed: a full disk refuses changes by administrators, too",
		}.flag(func(c *Config) *bool { return &c.Audit.Enabled }),
		Option{Key: "audit.data", Type: "list of topics", Default: "", list: true,
			Doc: "The topics of the log of which it is recorded who writes and who reads them, once a second for each " +
				"client and topic with how often: names, or with * at the end what they begin with.",
		}.text(func(c *Config) *string { return &c.Audit.Data }, checkTopicPatterns),
		Option{Key: "audit.retention", Default: "365d",
			Doc: "The age at which records of the audit go. What is left verifies from its oldest record on.",
		}.span(func(c *Config) *time.Duration { return &c.Audit.Retention }, time.Second, century, "forever"),
		Option{Key: "audit.retention_bytes", Default: "1GiB",
			Doc: "The size of the audit above which its oldest records go.",
		}.size(func(c *Config) *int64 { return &c.Audit.RetentionBytes }, 1*mib, 1024*tib, "unlimited"),
	}
}

// checkTopicPatterns wants names of topics, and beginnings of them with a * behind.
func checkTopicPatterns(s string) error {
	for _, one := range splitList(s) {
		name, _ := strings.CutSuffix(one, "*")
		if name == "" && one != "" {
			continue // every one
		}
		if err := stream.CheckTopicName(name); err != nil {
			return fmt.Errorf("%q is neither the name of a topic nor the beginning of one with a * behind it", one)
		}
	}
	return nil
}

// openAudit finds the end of the audit.
func (n *Node) openAudit(ctx context.Context) (err error) {
	if !n.cfg.Audit.Enabled {
		return nil
	}
	n.audit, err = audit.Open(ctx, audit.Options{
		Log: n.keeper, FS: n.fs, Source: "/firth/" + n.keeper.ClusterID(), Data: splitList(n.cfg.Audit.Data),
		Retention: max(n.cfg.Audit.Retention, 0), RetentionBytes: max(n.cfg.Audit.RetentionBytes, 0),
		Metrics: n.metrics, Logger: n.log, Rule: n.ruleOf, Asked: func() bool { return n.access.Asked() },
	})
	return err
}

// runAudit writes the audit from now on.
func (n *Node) runAudit(context.Context) error {
	if n.audit != nil {
		n.opened("audit", n.run("audit", n.audit.Run))
	}
	return nil
}

// ruleOf is the rule by which somebody was refused, by its id; "": no rule allowed it.
func (n *Node) ruleOf(e *chain.Event) string {
	o, err := rule.ParseOperation(e.Action)
	if err != nil {
		return ""
	}
	resource := rule.Resource{Name: e.Resource.Name, Pattern: rule.Literal}
	switch e.Resource.Kind {
	case audit.KindName, audit.KindFilter:
		resource.Kind, resource.Pattern = rule.Topic, rule.Filter
	default:
		if resource.Kind, err = rule.ParseKind(e.Resource.Kind); err != nil {
			return ""
		}
	}
	if resource.Check() != nil { // it is what a client says
		return ""
	}
	who := rule.Subject{User: strings.TrimPrefix(e.Actor.Principal, rule.UserPrefix), ClientID: e.Origin.Client,
		CommonName: e.Actor.CN, Listener: e.Origin.Listener, Encrypted: e.Origin.TLS}
	who.Address, _ = netip.ParseAddr(e.Origin.Address)
	answer := n.access.Explain(who, rule.Question{Operation: o, Resource: resource})
	if answer.Allowed || len(answer.Rules) == 0 {
		return ""
	}
	return answer.Rules[0].ID()
}

// tellHTTP tells the audit how somebody came in by HTTP.
func (n *Node) tellHTTP(who *rule.Subject, method string, err error) {
	by := access.By(who)
	by.Actor.Method = method
	e := chain.Event{Type: chain.TypeLogin, Actor: by.Actor, Origin: by.Origin, Action: "administer",
		Outcome: chain.Success}
	if err != nil {
		e.Outcome, e.Reason = chain.Failure, err.Error()
	}
	n.audit.Tell(e)
}

// tellHandshake tells the audit of a handshake of TLS that failed.
func (n *Node) tellHandshake(listener string, f secure.Failure) {
	if !n.audit.On() {
		return
	}
	e := chain.Event{Type: chain.TypeHandshake, Action: "connect", Actor: chain.Actor{CN: f.Name},
		Origin: chain.Origin{Listener: listener}, Outcome: chain.Failure, Reason: f.Reason + ": " + f.Err.Error()}
	if at, err := netip.ParseAddrPort(f.From.String()); err == nil { // a Unix socket has none
		e.Origin.Address = at.Addr().Unmap().String()
	}
	n.audit.Tell(e)
}
