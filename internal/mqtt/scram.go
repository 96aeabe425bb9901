package mqtt

import (
	"context"
	"net/netip"

	"github.com/firthmq/firth/internal/access/credential"
	"github.com/firthmq/firth/internal/access/verify"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// SCRAM are the methods of enhanced authentication SCRAM-SHA-256 and SCRAM-SHA-512 (RFC 5802, and MQTT 5.0, section
// 4.12, with it as the example), by their names. A client that gives a user name in CONNECT, too, gives the same.
func SCRAM(logins *verify.Logins, users verify.Users) map[string]Mechanism {
	all := map[string]Mechanism{}
	for _, m := range credential.Mechanisms() {
		all[m.String()] = scram{m, logins, users}
	}
	return all
}

type scram struct {
	mechanism credential.Mechanism
	logins    *verify.Logins
	users     verify.Users
}

// Begin begins an exchange (Mechanism).
func (m scram) Begin(who *Principal, from netip.Addr) Exchange {
	return &scramExchange{who: who, run: m.logins.SCRAM(m.mechanism, m.users, nil, from)}
}

type scramExchange struct {
	who *Principal
	run *verify.Exchange
}

// Step goes on with the exchange (Exchange).
func (e *scramExchange) Step(ctx context.Context, data []byte) (answer []byte, done bool, err error) {
	answer, done, err = e.run.Step(ctx, data)
	switch {
	case err != nil:
		return nil, false, &packet.Error{Reason: loginReason(err), Detail: err.Error()}
	case e.who.UserName != "" && e.who.UserName != e.run.User():
		return nil, false, &packet.Error{Reason: packet.NotAuthorized,
			Detail: "the client authenticates as another user than it said"}
	case done:
		e.who.UserName = e.run.User()
	}
	return answer, done, nil
}

// Claims implements Claimant.
func (e *scramExchange) Claims() string { return e.run.User() }

// loginReason is the reason code for a login that did not succeed.
func loginReason(err error) packet.ReasonCode {
	switch fault.KindOf(err) {
	case fault.Limited, fault.Timeout:
		return packet.ServerBusy
	case fault.Unsupported:
		return packet.BadAuthenticationMethod
	}
	return packet.NotAuthorized
}
