package node

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/firthmq/firth/internal/access/authority"
	"github.com/firthmq/firth/internal/access/enrol"
	"github.com/firthmq/firth/internal/audit"
	"github.com/firthmq/firth/internal/audit/chain"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/given"
	"github.com/firthmq/firth/internal/kit/secure"
)

// openAuthority opens the certificate authority of the node, which is there from the first firth cert ca or expose on.
func (n *Node) openAuthority(ctx context.Context) (err error) {
	if n.folder != "" {
		err := given.CheckPrivate("authority", filepath.Join(n.folder, filepath.FromSlash(authority.KeyFile)))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	n.authority, err = authority.Open(ctx, authority.Options{
		FS: n.fs, Log: n.keeper, Changed: n.lookAtFiles, Shared: n.sharesSessions(), Passed: n.clocks.passed,
		AcceptDamage: n.acceptsDamage(), Metrics: n.metrics, Logger: n.log,
	})
	if err == nil && n.sharesSessions() {
		n.opened("revocations", n.run("revocations", n.authority.Follow))
	}
	return err
}

// keepCertificates renews what the authority has to renew, once listeners can be told.
func (n *Node) keepCertificates(context.Context) error {
	n.opened("certificates", n.run("certificates", n.authority.Run))
	return nil
}

// lookAtFiles has listeners read files that the node has changed, so that who is revoked is gone at once.
func (n *Node) lookAtFiles() {
	for _, s := range n.tls.sources {
		s.Look()
	}
}

// ownFile is the path of a file of the authority.
func (c *Config) ownFile(name string) string { return filepath.Join(c.Data, filepath.FromSlash(name)) }

// filesOf are the files of a listener. Who is held against the authority of the node is held against its list, too.
func (c *Config) filesOf(t TLS) secure.Files {
	f := t.files()
	if f.CRL == "" && f.ClientCA != "" && same(f.ClientCA, c.ownFile(authority.CertificateFile)) {
		f.CRL = c.ownFile(authority.RevokedFile)
	}
	return f
}

func same(x, y string) bool {
	x, errX := filepath.Abs(x)
	y, errY := filepath.Abs(y)
	return errX == nil && errY == nil && x == y
}

// openDesk lets devices enrol.
func (n *Node) openDesk(context.Context) error {
	n.desk = enrol.New(enrol.Options{Authority: n.authority, Users: enrolled{n}, Logins: n.access.Passwords(),
		Done: n.noteEnrolment})
	return nil
}

// noteEnrolment tells of an enrolment.
func (n *Node) noteEnrolment(e enrol.Event) {
	told := chain.Event{Type: chain.TypeChange, Action: "certificate.enrol", Outcome: chain.Success,
		Resource: chain.Resource{Kind: "certificate", Name: e.Name}, Origin: chain.Origin{TLS: true},
		Actor: chain.Actor{Principal: "User:" + e.Name, Method: e.By}}
	if e.Address.IsValid() {
		told.Origin.Address = e.Address.String()
	}
	if e.Err != nil {
		told.Type, told.Outcome, told.Reason = chain.TypeRefused, chain.Denied, e.Err.Error()
	} else {
		told.After = audit.State(map[string]string{"serial": e.Serial})
	}
	n.audit.Tell(told)
	if e.Err != nil {
		if held, ok := n.refusals.Pass(e.Address.String()); ok {
			n.log.Warn("refused an enrolment", "name", fault.Text(e.Name), "from", e.Address, "by", e.By, "because", e.Err,
				"more", held)
		}
		return
	}
	n.log.Info("a device enrolled", "name", fault.Text(e.Name), "from", e.Address, "by", e.By, "serial", e.Serial)
}

// enrolled are the users that devices become.
type enrolled struct{ n *Node }

// Known implements enrol.Users.
func (e enrolled) Known(name string) bool { return e.n.access.Catalog().User(name) != nil }

// Ensure implements enrol.Users.
func (e enrolled) Ensure(ctx context.Context, name string, roles []string) error {
	return e.n.userOf(ctx, name, roles)
}

// userOf sees that the holder of a certificate is a user with roles, where anybody is: it is the user of its name, and
// has its name as its client identifier. One that is there stays as it is.
func (n *Node) userOf(ctx context.Context, name string, roles []string) error {
	if len(roles) == 0 {
		if !n.access.Asked() {
			return nil
		}
		roles = []string{"device"}
	}
	return n.access.EnsureUser(ctx, name, roles, "${username}")
}

// errIncomplete wraps what went wrong behind a certificate that was made.
func errIncomplete(name string, err error) error {
	return fault.New(fault.KindOf(err), "certificate", "the certificate of %s was made, its user was not: %w",
		fault.Text(name), err)
}
