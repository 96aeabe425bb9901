package kafka

import (
	"net/netip"
	"strings"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/mask"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kit/secure"
)

// Operation is what a client wants to do.
type Operation = rule.Operation

// The operations.
const (
	OpRead            = rule.Read
	OpWrite           = rule.Write
	OpCreate          = rule.Create
	OpDelete          = rule.Delete
	OpAlter           = rule.Alter
	OpDescribe        = rule.Describe
	OpClusterAction   = rule.ClusterAction
	OpDescribeConfigs = rule.DescribeConfigs
	OpAlterConfigs    = rule.AlterConfigs
	OpIdempotentWrite = rule.IdempotentWrite
)

// Resource is a kind of thing that an operation is done to.
type Resource = rule.Kind

// The kinds. The name of the one cluster is ClusterResource.
const (
	OnTopic         = rule.Topic
	OnGroup         = rule.Group
	OnCluster       = rule.Cluster
	OnTransactional = rule.TransactionalID
)

// ClusterResource is the name of the resource OnCluster.
const ClusterResource = rule.ClusterName

// Logins knows who clients are. *access.Access is one.
type Logins interface {
	// Admit makes the pass of a client whose user is known, or rule.Anonymous. One whose pass is over may authenticate.
	Admit(who rule.Subject) *access.Pass
	// AdmitBy makes the pass of a client that has shown a token.
	AdmitBy(who rule.Subject, g *access.Grant) *access.Pass
}

// Guard answers what a client may do. It must not block and may be asked from any goroutine. *access.Access is one.
type Guard interface {
	// May tells whether a client may do something to a resource.
	May(p *access.Pass, o Operation, on Resource, name string) bool
	// MaskTopic is what a client may not see of the records of a topic that it may read; nil: it may see all of them.
	MaskTopic(p *access.Pass, topic string) *mask.Set
	// MaskSome tells whether there may be somebody who may not see all of the records of a topic.
	MaskSome(topic string) bool
	// MaySome tells whether it may to some resource of a kind.
	MaySome(p *access.Pass, o Operation, on Resource) bool
}

// may asks the guard for a connection; without a guard everything is allowed.
func (d *Door) may(c *conn, op Operation, on Resource, name string) bool {
	return d.opt.may(c, op, on, name)
}

// sees is may where nothing is refused: what a client may not see is left out.
func (d *Door) sees(c *conn, op Operation, on Resource, name string) bool {
	return d.opt.sees(c, op, on, name)
}

// mayBeIdempotent tells whether a client may have a producer id: by the right to it, or to write anything (KIP-679).
func (d *Door) mayBeIdempotent(c *conn) bool {
	if d.sees(c, OpIdempotentWrite, OnCluster, ClusterResource) || d.opt.Guard.MaySome(c.pass.Load(), OpWrite, OnTopic) {
		return true
	}
	d.opt.refused(c, OpIdempotentWrite, OnCluster, ClusterResource)
	return false
}

// know notes who a client is, by its principal and the token that it has shown, or nil.
func (c *conn) know(principal string, grant *access.Grant) {
	c.principal = principal
	if c.door.opt.Logins == nil {
		return
	}
	who := rule.Subject{User: strings.TrimPrefix(principal, rule.UserPrefix), Listener: c.listener}
	who.Address, _ = netip.ParseAddr(c.host[1:])
	if s, ok := c.nc.(*secure.Conn); ok {
		who.Encrypted = true
		if p := s.Peer(); p != nil {
			who.CommonName, who.Certificate = p.CommonName, p
		}
	}
	var pass *access.Pass
	if grant != nil {
		pass = c.door.opt.Logins.AdmitBy(who, grant)
	} else {
		pass = c.door.opt.Logins.Admit(who)
	}
	c.principal = rule.UserPrefix + pass.Who().User // a certificate may have said more
	c.pass.Store(pass)
}

// isOver tells why the client may not be here any more; nil: it may.
func (c *conn) isOver() error {
	if p := c.pass.Load(); p != nil {
		return p.Over()
	}
	return nil
}

// Recheck ends the connections that may not be here any more: a user was removed, or has another password.
func (d *Door) Recheck() {
	for _, c := range d.conns(func(c *conn) bool { return c.isOver() != nil }) {
		c.fail()
	}
}

// Anonymous is the principal of a connection that has not authenticated.
const Anonymous = rule.UserPrefix + rule.Anonymous
