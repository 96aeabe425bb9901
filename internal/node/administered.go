package node

import (
	"cmp"
	"context"
	"crypto/subtle"
	"errors"
	"net/http"
	"strings"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/people"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/audit"
	"github.com/firthmq/firth/internal/audit/chain"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/secure"
)

// asker is who asks by HTTP.
type asker struct {
	by    audit.By
	visit *people.Visit // nil: it has no session
	pass  *access.Pass  // nil: it is the operator, or nobody was asked who it is
	token bool          // it has shown the token of the node
}

// askerKey is the key of who asks, in a context.
type askerKey struct{}

// passOf is the pass of who asks; nil: who may see everything.
func passOf(ctx context.Context) *access.Pass {
	who, _ := ctx.Value(askerKey{}).(asker)
	return who.pass
}

// mayStill judges who asks again, for an answer that goes on while rights change. Errors: Denied.
func (n *Node) mayStill(ctx context.Context, o rule.Operation) error {
	who, _ := ctx.Value(askerKey{}).(asker)
	switch {
	case who.token:
		return nil
	case who.pass != nil:
		return n.mayPass(who.pass, o)
	case n.access.Asked(): // there were neither users nor rules when it came
		return errUnknown
	}
	return nil
}

// administered lets through who may do something to the cluster: everybody as long as nobody has asked for users or
// rules, then who has the token of the node, or is a user with the right. What is under way for a session ends with it.
func (n *Node) administered(o rule.Operation, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, err := n.mayAdminister(r, o)
		switch {
		case errors.Is(err, people.ErrEnded), errors.Is(err, errUnknown), errors.Is(err, access.ErrCredentials):
			w.Header().Set("WWW-Authenticate", challenge(r))
			answerJSON(w, http.StatusUnauthorized, refusalOf(err))
			return
		case err != nil:
			refuse(w, err)
			return
		}
		ctx := context.WithValue(audit.As(r.Context(), who.by), askerKey{}, who)
		if who.visit != nil {
			var cancel context.CancelFunc
			ctx, cancel = context.WithCancel(ctx)
			defer cancel()
			defer who.visit.During(cancel)()
		}
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// challenge says how to tell who one is. A page that asks is not told of Basic, at which the browser would put its own
// dialog before it.
func challenge(r *http.Request) string {
	if mode := r.Header.Get("Sec-Fetch-Mode"); mode != "" && mode != "navigate" {
		return bearerChallenge
	}
	return `Basic realm="firth", charset="UTF-8"`
}

// bearerChallenge says how to tell who one is without a dialog of the browser.
const bearerChallenge = `Bearer realm="firth"`

// tokenHolder is who shows the token of the node, as the audit has it.
const tokenHolder = "admin.token"

// mayAdminister tells who asks, if it may do something to the cluster. Errors: Denied; those of Enter.
func (n *Node) mayAdminister(r *http.Request, o rule.Operation) (asker, error) {
	who, err := n.asks(r)
	if err == nil && who.pass != nil {
		err = n.mayPass(who.pass, o)
	}
	return who, err
}

// asks tells who asks: nobody is asked who it is as long as there are neither users nor rules. Errors: errUnknown;
// those of Enter.
func (n *Node) asks(r *http.Request) (asker, error) {
	who := n.comer(r)
	who.User = rule.Anonymous
	if !n.access.Asked() {
		return asker{by: access.By(&who)}, nil
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	bearer := strings.EqualFold(scheme, "Bearer")
	if bearer && n.token != "" && subtle.ConstantTimeCompare([]byte(token), []byte(n.token)) == 1 {
		by := access.By(&who)
		by.Actor = chain.Actor{Principal: tokenHolder, Method: tokenHolder}
		return asker{by: by, token: true}, nil
	}
	switch user, password, basic := r.BasicAuth(); {
	case basic:
		who.User = user
		return n.asksBy(r, who, proof{"password", []byte(password)})
	case bearer && n.access.IsToken([]byte(token)):
		who.User = ""
		return n.asksBy(r, who, proof{"token", []byte(token)})
	}
	visit, err := n.people.Enter(r)
	switch {
	case err != nil:
		return asker{}, err
	case visit != nil:
		return asker{by: visit.Pass.By(), visit: visit, pass: visit.Pass}, nil
	case who.Certificate != nil:
		who.User = ""
		return n.asksBy(r, who, proof{"certificate", nil})
	}
	n.tellHTTP(&who, "", errUnknown)
	return asker{}, errUnknown
}

// proof is what proves who somebody is, by HTTP.
type proof struct {
	method string
	secret []byte // nil: there is none
}

// asksBy lets a user in by what it proves who it is with. Errors: those of Enter.
func (n *Node) asksBy(r *http.Request, who rule.Subject, by proof) (asker, error) {
	pass, err := n.access.Enter(r.Context(), who, by.secret)
	if err == nil {
		by.method, err = cmp.Or(pass.Method(), by.method), pass.Over()
	}
	n.tellHTTP(&who, by.method, err)
	if err != nil {
		return asker{}, err
	}
	return asker{by: pass.By(), pass: pass}, nil
}

// mayPass tells whether somebody may do something to the cluster. Errors: Denied.
func (n *Node) mayPass(pass *access.Pass, o rule.Operation) error {
	if n.guard.May(pass, o, rule.Cluster, rule.ClusterName) {
		return nil
	}
	n.audit.Tell(audit.Refusal(pass.By(), o.String(), chain.Resource{Kind: "cluster", Name: rule.ClusterName}))
	return fault.New(fault.Denied, "admin", "%s may not %s the cluster", fault.Text(pass.Who().User), o).
		WithHint("firth acl explain tells why; the roles admin, operator and viewer have rights to the cluster")
}

// comer is where a request comes from. It does not say who asks.
func (n *Node) comer(r *http.Request) rule.Subject {
	conn := secure.ConnOf(r.Context())
	who := rule.Subject{Listener: "http", Protocol: "http", Encrypted: conn != nil, Address: n.remote(r)}
	if peer := conn.Peer(); peer != nil {
		who.CommonName, who.Certificate = peer.CommonName, peer
	}
	return who
}

// errUnknown refuses who does not say who it is.
var errUnknown = fault.New(fault.Denied, "admin", "only who is known is answered").
	WithHint("run the command as the user of the server, with --data DIR, so that it can read DIR/%s; or give --user and "+
		"--password-file", TokenFile)
