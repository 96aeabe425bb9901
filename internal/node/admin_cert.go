package node

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/firthmq/firth/internal/access/authority"
	"github.com/firthmq/firth/internal/audit"
	"github.com/firthmq/firth/internal/audit/chain"
	"github.com/firthmq/firth/internal/kit/fault"
)

// authorityLine is the certificate authority as people see it.
type authorityLine struct {
	Name  string    `json:"name"`
	Until time.Time `json:"until"`
	PEM   string    `json:"pem"`
}

func (n *Node) adminAuthority(*http.Request) (any, error) {
	text, err := n.authority.PEM()
	if err != nil {
		return nil, err
	}
	return authorityLine{Name: n.authority.Name(), Until: n.authority.Until(), PEM: string(text)}, nil
}

// adminMakeAuthority makes the authority, unless it is there.
func (n *Node) adminMakeAuthority(r *http.Request) (any, error) {
	if !n.authority.Exists() {
		if err := n.authority.Create(r.Context(), r.URL.Query().Get("name")); err != nil {
			return nil, err
		}
	}
	return n.adminAuthority(r)
}

// certificateLine is a certificate as people see it.
type certificateLine struct {
	*authority.Certificate
	State string `json:"state"`         // valid, ending, revoked or over
	PEM   string `json:"pem,omitempty"` // of one that was just made, with that of the authority
}

// nearEnd is when a certificate is told of that ends.
const nearEnd = 14 * day

func certificateLines(list []*authority.Certificate) []certificateLine {
	lines, now := make([]certificateLine, len(list)), time.Now()
	for i, c := range list {
		state := "valid"
		switch {
		case c.Revoked != nil:
			state = "revoked"
		case !now.Before(c.Until):
			state = "over"
		case c.Until.Sub(now) < nearEnd:
			state = "ending"
		}
		lines[i] = certificateLine{Certificate: c, State: state}
	}
	return lines
}

func (n *Node) adminCertificates(r *http.Request) (any, error) {
	if r.URL.Query().Get("ending") == "true" {
		return certificateLines(n.authority.Ending()), nil
	}
	return certificateLines(n.authority.Certificates()), nil
}

// certificateWish is what a request says of a certificate.
type certificateWish struct {
	CSR    string   `json:"csr,omitempty"` // PEM
	Name   string   `json:"name"`
	Server bool     `json:"server,omitempty"`
	Names  []string `json:"names,omitempty"`
	Days   int      `json:"days,omitempty"`
	Roles  []string `json:"roles,omitempty"` // of the user that is made with it
	Renew  bool     `json:"renew,omitempty"` // all but the key is as in the newest one of the name
}

// adminIssue makes a certificate for the key of a request.
func (n *Node) adminIssue(r *http.Request) (any, error) {
	var said certificateWish
	if err := body(r, &said); err != nil {
		return nil, err
	}
	csr, err := authority.ParseRequest([]byte(said.CSR))
	if err != nil {
		return nil, err
	}
	if said.Days < 0 || said.Days > int(authority.MaxLife/day) {
		return nil, fault.New(fault.Invalid, "admin", "%d days: at most %d", said.Days, authority.MaxLife/day)
	}
	var made *authority.Issued
	told := said
	told.CSR = "" // it says no more
	e := chain.Event{Action: "certificate.issue", Resource: chain.Resource{Kind: "certificate", Name: said.Name},
		After: audit.State(told)}
	err = n.audit.Change(r.Context(), e, func() (err error) {
		if said.Renew {
			made, err = n.authority.Renew(r.Context(), said.Name, csr, "an operator")
			return err
		}
		made, err = n.authority.Issue(r.Context(), &authority.Request{CSR: csr, Name: said.Name, Server: said.Server,
			Names: said.Names, Life: time.Duration(said.Days) * day, By: "an operator"})
		return err
	})
	if err != nil {
		return nil, err
	}
	if !made.Server && !said.Renew {
		if err := n.userOf(r.Context(), said.Name, said.Roles); err != nil {
			return nil, errIncomplete(said.Name, err)
		}
	}
	return n.issuedLine(made)
}

func (n *Node) issuedLine(made *authority.Issued) (any, error) {
	own, err := n.authority.PEM()
	line := certificateLines([]*authority.Certificate{&made.Certificate})[0]
	line.PEM = string(append(made.PEM(), own...))
	return line, err
}

// adminServer makes the certificate of this server for the names of the query, unless it has one for them.
func (n *Node) adminServer(r *http.Request) (any, error) {
	made, err := n.authority.IssueServer(r.Context(), r.URL.Query()["name"])
	return map[string]bool{"made": made}, err
}

func (n *Node) adminRevoke(r *http.Request) (any, error) { return n.revoke(r.Context(), r.URL.Query()) }

// revoke ends the certificates that a query names, for its reason.
func (n *Node) revoke(ctx context.Context, q url.Values) (lines []certificateLine, err error) {
	e := chain.Event{Action: "certificate.revoke", Resource: chain.Resource{Kind: "certificate", Name: q.Get("who")},
		After: audit.State(q)}
	err = n.audit.Change(ctx, e, func() error {
		gone, err := n.authority.Revoke(ctx, q.Get("who"), q.Get("reason"))
		lines = certificateLines(gone)
		return err
	})
	return lines, err
}

// claimLine is a claim as people see it.
type claimLine struct {
	ID    string    `json:"id"`
	Name  string    `json:"name"`
	Uses  int       `json:"uses"`
	Until time.Time `json:"until"`
	Roles []string  `json:"roles"`
	Token string    `json:"token,omitempty"` // of one that was just made
}

func lineOfClaim(c *authority.Claim) claimLine {
	return claimLine{ID: c.ID, Name: c.Name, Uses: c.Uses, Until: c.Until, Roles: append([]string{}, c.Roles...)}
}

func (n *Node) adminClaims(*http.Request) (any, error) {
	lines := []claimLine{}
	for _, c := range n.authority.Claims() {
		lines = append(lines, lineOfClaim(c))
	}
	return lines, nil
}

// claimWish is what a request says of a claim.
type claimWish struct {
	Name  string   `json:"name"`
	Uses  int      `json:"uses"`
	For   string   `json:"for"`
	Roles []string `json:"roles,omitempty"`
}

func (n *Node) adminClaim(r *http.Request) (any, error) {
	var said claimWish
	if err := body(r, &said); err != nil {
		return nil, err
	}
	awhile, err := parseDuration(said.For)
	if err != nil {
		return nil, fault.New(fault.Invalid, "admin", "for: %w", err)
	}
	var c *authority.Claim
	var token string
	e := chain.Event{Action: "claim.add", Resource: chain.Resource{Kind: "claim", Name: said.Name},
		After: audit.State(said)}
	err = n.audit.Change(r.Context(), e, func() (err error) {
		c, token, err = n.authority.AddClaim(r.Context(), &authority.NewClaim{Name: said.Name, Uses: said.Uses, For: awhile,
			Roles: said.Roles})
		return err
	})
	if err != nil {
		return nil, err
	}
	line := lineOfClaim(c)
	line.Token = token
	return line, nil
}

func (n *Node) adminUnclaim(r *http.Request) (any, error) {
	id := r.URL.Query().Get("id")
	return id, n.authority.RemoveClaim(r.Context(), id)
}
