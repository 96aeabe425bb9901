package kafka

import (
	"context"
	"encoding/base64"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/credential"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/access/verify"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// tokenHouse is a house with the users alice, bob, carol and root, who have the password "pencil", and a catalog of its
// own; without files there are no delegation tokens. Bob may make alice's tokens, carol may see them.
func tokenHouse(t *testing.T, files vfs.FS) (*house, *access.Access) {
	t.Helper()
	kept := openStore(t, store.Options{FS: vfs.NewMemory(), Logger: logtest.New(t)})
	t.Cleanup(func() { _ = kept.Close() })
	a, err := access.Open(t.Context(), access.Options{Log: kept, FS: files})
	if err != nil {
		t.Fatal(err)
	}
	c := &access.Change{Rules: []rule.Rule{
		allow("User:bob", rule.CreateTokens, rule.User, "User:alice"),
		allow("User:carol", rule.DescribeTokens, rule.User, "User:alice"),
		allow("User:alice", rule.Create, rule.Topic, "alices"), allow("User:alice", rule.Write, rule.Topic, "alices"),
	}}
	pencil := credential.Verifiers{SCRAM256: scramOf(t, "pencil")}
	for name, roles := range map[string][]string{"alice": nil, "bob": nil, "carol": nil, "dave": {"viewer"},
		"root": {"admin"}} {
		c.Users = append(c.Users, &access.User{Name: name, Verifiers: pencil, Roles: roles})
	}
	if err := a.Apply(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	h := openHouse(t, Options{Logins: a, Guard: a, Delegations: a.Delegations(), Logger: logtest.New(t),
		SASL: SASL{Mechanisms: PasswordMechanisms(verify.New(verify.Options{}), a, a, a.Delegations())}})
	a.Watch(h.door.Recheck)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- h.door.ServeSASL(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	h.addr = l.Addr().String()
	return h, a
}

func allow(who string, o rule.Operation, kind rule.Kind, name string) rule.Rule {
	return rule.Rule{Effect: rule.Allow, Principal: who, Operations: rule.Of(o),
		Resource: rule.Resource{Kind: kind, Pattern: rule.Literal, Name: name}}
}

// asUser is a client of a user by password; asToken one by a token.
func (h *house) asUser(name string) *kgo.Client {
	return h.by(scram.Auth{User: name, Pass: "pencil"}.AsSha256Mechanism())
}

func (h *house) asToken(id string, mac []byte) *kgo.Client {
	return h.by(tokenAuth(id, mac).AsSha512Mechanism())
}

func tokenAuth(id string, mac []byte) scram.Auth {
	return scram.Auth{User: id, Pass: base64.StdEncoding.EncodeToString(mac), IsToken: true}
}

func (h *house) by(m sasl.Mechanism) *kgo.Client {
	h.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(h.addr), kgo.SASL(m), kgo.RequestRetries(0), kgo.RetryTimeout(0))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(cl.Close)
	return cl
}

// mustAsk asks a broker for something.
func mustAsk[Resp kmsg.Response](t *testing.T, cl *kgo.Client, req kmsg.Request) Resp {
	t.Helper()
	resp, err := cl.Request(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return resp.(Resp)
}

func createToken(owner string, renewers ...string) *kmsg.CreateDelegationTokenRequest {
	req := kmsg.NewPtrCreateDelegationTokenRequest()
	req.MaxLifetimeMillis = -1
	if owner != "" {
		req.OwnerPrincipalType, req.OwnerPrincipalName = new("User"), &owner
	}
	for _, name := range renewers {
		req.Renewers = append(req.Renewers,
			kmsg.CreateDelegationTokenRequestRenewer{PrincipalType: "User", PrincipalName: name})
	}
	return req
}

func renewToken(mac []byte, millis int64) *kmsg.RenewDelegationTokenRequest {
	req := kmsg.NewPtrRenewDelegationTokenRequest()
	req.HMAC, req.RenewTimeMillis = mac, millis
	return req
}

func expireToken(mac []byte, millis int64) *kmsg.ExpireDelegationTokenRequest {
	req := kmsg.NewPtrExpireDelegationTokenRequest()
	req.HMAC, req.ExpiryPeriodMillis = mac, millis
	return req
}

// A client gets a token, another logs in by it as the owner, with the rights of the owner and none to more tokens; when
// it is ended its connections end.
//
// Long: one play from beginning to end.
//
// [Kafka-CreateDelegationToken] [Kafka-RenewDelegationToken] [Kafka-ExpireDelegationToken]
// [Kafka-DescribeDelegationToken].
func TestDelegationTokens(t *testing.T) {
	h, a := tokenHouse(t, vfs.NewMemory())
	alice := h.asUser("alice")
	made := mustAsk[*kmsg.CreateDelegationTokenResponse](t, alice, createToken("", "carol"))
	const day = int64(24 * time.Hour / time.Millisecond)
	if made.ErrorCode != wire.None || made.PrincipalName != "alice" || made.TokenRequesterPrincipalName != "alice" ||
		made.ExpiryTimestamp-made.IssueTimestamp != day || made.MaxTimestamp-made.IssueTimestamp != 7*day ||
		len(made.HMAC) != 64 {
		t.Fatalf("made %+v", made)
	}
	for name, m := range map[string]sasl.Mechanism{
		"256":          tokenAuth(made.TokenID, made.HMAC).AsSha256Mechanism(),
		"512":          tokenAuth(made.TokenID, made.HMAC).AsSha512Mechanism(),
		"wrong HMAC":   tokenAuth(made.TokenID, made.HMAC[1:]).AsSha256Mechanism(),
		"unknown":      tokenAuth("unknown", made.HMAC).AsSha256Mechanism(),
		"no extension": scram.Auth{User: made.TokenID, Pass: tokenAuth("", made.HMAC).Pass}.AsSha256Mechanism(),
		"of a user":    scram.Auth{User: "alice", Pass: "pencil", IsToken: true}.AsSha256Mechanism(),
	} {
		err := enterBy(t, h, m)
		if good := name == "256" || name == "512"; good != (err == nil) ||
			!good && !errors.Is(err, kerr.SaslAuthenticationFailed) {
			t.Errorf("%s: %v", name, err)
		}
	}

	by := h.asToken(made.TokenID, made.HMAC)
	create := kmsg.NewPtrCreateTopicsRequest()
	create.Topics = []kmsg.CreateTopicsRequestTopic{newTopic("alices", 1, 1), newTopic("others", 1, 1)}
	codes := map[string]wire.Code{}
	for _, topic := range mustAsk[*kmsg.CreateTopicsResponse](t, by, create).Topics {
		codes[topic.Topic] = topic.ErrorCode
	}
	if codes["alices"] != wire.None || codes["others"] != wire.TopicAuthorizationFailed {
		t.Errorf("the token makes topics: %v", codes)
	}
	for what, code := range map[string]wire.Code{
		"create": mustAsk[*kmsg.CreateDelegationTokenResponse](t, by, createToken("")).ErrorCode,
		"renew":  mustAsk[*kmsg.RenewDelegationTokenResponse](t, by, renewToken(made.HMAC, -1)).ErrorCode,
		"expire": mustAsk[*kmsg.ExpireDelegationTokenResponse](t, by, expireToken(made.HMAC, -1)).ErrorCode,
		"describe": mustAsk[*kmsg.DescribeDelegationTokenResponse](t, by,
			kmsg.NewPtrDescribeDelegationTokenRequest()).ErrorCode,
	} {
		wantCode(t, what+" by a token", code, wire.DelegationTokenRequestNotAllowed)
	}

	renewed := mustAsk[*kmsg.RenewDelegationTokenResponse](t, h.asUser("carol"), renewToken(made.HMAC, 3_600_000))
	wantCode(t, "renew", renewed.ErrorCode, wire.None)
	if left := renewed.ExpiryTimestamp - time.Now().UnixMilli(); left > 3_600_000 || left < 0 {
		t.Errorf("renewed for %d ms", left)
	}
	c := h.dial()
	c.enterByToken(made.TokenID, made.HMAC)
	gone := mustAsk[*kmsg.ExpireDelegationTokenResponse](t, alice, expireToken(made.HMAC, -1))
	wantCode(t, "expire", gone.ErrorCode, wire.None)
	c.closed("the token is gone")
	if err := enterBy(t, h, tokenAuth(made.TokenID, made.HMAC).AsSha256Mechanism()); err == nil {
		t.Error("a token that is gone lets in")
	}
	if left := a.Catalog().Delegations(); len(left) != 0 {
		t.Errorf("%d tokens are left", len(left))
	}
}

// enterByToken logs in by hand, and tells for how many milliseconds.
func (c *client) enterByToken(id string, mac []byte) int64 {
	c.t.Helper()
	wantCode(c.t, "handshake", c.handshake(1, "SCRAM-SHA-256").ErrorCode, wire.None)
	session, first, err := tokenAuth(id, mac).AsSha256Mechanism().Authenticate(c.t.Context(), "")
	if err != nil {
		c.t.Fatal(err)
	}
	for {
		resp := c.authenticate(2, string(first))
		wantCode(c.t, "authenticate", resp.ErrorCode, wire.None)
		done, next, err := session.Challenge(resp.SASLAuthBytes)
		if err != nil {
			c.t.Fatal(err)
		}
		if done {
			return resp.SessionLifetimeMillis
		}
		first = next
	}
}

// A connection is told that it ends with its token (KIP-368).
func TestDelegationTokenSession(t *testing.T) {
	h, _ := tokenHouse(t, vfs.NewMemory())
	req := createToken("")
	req.MaxLifetimeMillis = 600_000
	made := mustAsk[*kmsg.CreateDelegationTokenResponse](t, h.asUser("alice"), req)
	if made.MaxTimestamp-made.IssueTimestamp != 600_000 || made.ExpiryTimestamp != made.MaxTimestamp {
		t.Errorf("made %+v", made)
	}
	if told := h.dial().enterByToken(made.TokenID, made.HMAC); told <= 0 || told > 600_000 {
		t.Errorf("the session ends in %d ms", told)
	}
}

func ofOwner(kind *string, name string) func(*kmsg.CreateDelegationTokenRequest) {
	return func(r *kmsg.CreateDelegationTokenRequest) { r.OwnerPrincipalType, r.OwnerPrincipalName = kind, &name }
}

func withRenewer(kind, name string) func(*kmsg.CreateDelegationTokenRequest) {
	return func(r *kmsg.CreateDelegationTokenRequest) {
		r.Renewers = []kmsg.CreateDelegationTokenRequestRenewer{{PrincipalType: kind, PrincipalName: name}}
	}
}

// The codes of what is refused.
func TestDelegationTokensRefused(t *testing.T) {
	h, _ := tokenHouse(t, vfs.NewMemory())
	alice, bob, dave := h.asUser("alice"), h.asUser("bob"), h.asUser("dave")
	for name, test := range map[string]struct {
		change func(*kmsg.CreateDelegationTokenRequest)
		want   wire.Code
	}{
		"of alice":         {ofOwner(new("User"), "alice"), wire.None},
		"of root":          {ofOwner(new("User"), "root"), wire.DelegationTokenAuthorizationFailed},
		"of a group":       {ofOwner(new("Group"), "alice"), wire.InvalidPrincipalType},
		"without a type":   {ofOwner(nil, "alice"), wire.InvalidPrincipalType},
		"an empty owner":   {ofOwner(new("User"), ""), wire.None},
		"a group renews":   {withRenewer("Group", "x"), wire.InvalidPrincipalType},
		"nobody renews it": {withRenewer("User", ""), wire.InvalidRequest},
	} {
		req := createToken("")
		test.change(req)
		wantCode(t, name, mustAsk[*kmsg.CreateDelegationTokenResponse](t, bob, req).ErrorCode, test.want)
	}
	made := mustAsk[*kmsg.CreateDelegationTokenResponse](t, alice, createToken("", "carol"))
	mac := made.HMAC
	for name, test := range map[string]struct {
		cl   *kgo.Client
		mac  []byte
		want wire.Code
	}{
		"not known":  {alice, mac[1:], wire.DelegationTokenNotFound},
		"none":       {alice, nil, wire.DelegationTokenNotFound},
		"another's":  {bob, mac, wire.DelegationTokenOwnerMismatch},
		"a viewer's": {dave, mac, wire.DelegationTokenOwnerMismatch},
	} {
		renewed := mustAsk[*kmsg.RenewDelegationTokenResponse](t, test.cl, renewToken(test.mac, -1))
		wantCode(t, "renew "+name, renewed.ErrorCode, test.want)
		expired := mustAsk[*kmsg.ExpireDelegationTokenResponse](t, test.cl, expireToken(test.mac, 0))
		wantCode(t, "expire "+name, expired.ErrorCode, test.want)
	}
	expired := mustAsk[*kmsg.ExpireDelegationTokenResponse](t, alice, expireToken(mac, 0))
	wantCode(t, "expire", expired.ErrorCode, wire.None)
	renewed := mustAsk[*kmsg.RenewDelegationTokenResponse](t, alice, renewToken(mac, -1))
	wantCode(t, "renew what has ended", renewed.ErrorCode, wire.DelegationTokenExpired)
}

// Who sees which tokens: its own, those that it made or may renew, and those that it has a right to; a viewer none of
// others, for who sees one can be its owner.
func TestDescribeDelegationTokens(t *testing.T) {
	h, _ := tokenHouse(t, vfs.NewMemory())
	ids := map[string]string{}
	for name, by := range map[string]string{
		"alice's": "alice", "bob's": "bob", "bob's of alice": "bob", "root's": "root",
	} {
		req := createToken("")
		switch name {
		case "bob's":
			req = createToken("", "carol")
		case "bob's of alice":
			req = createToken("alice")
		}
		made := mustAsk[*kmsg.CreateDelegationTokenResponse](t, h.asUser(by), req)
		wantCode(t, name, made.ErrorCode, wire.None)
		ids[made.TokenID] = name
	}
	owners := func(names ...string) *[]kmsg.DescribeDelegationTokenRequestOwner {
		all := []kmsg.DescribeDelegationTokenRequestOwner{}
		for _, name := range names {
			all = append(all, kmsg.DescribeDelegationTokenRequestOwner{PrincipalType: "User", PrincipalName: name})
		}
		return &all
	}
	for _, test := range []struct {
		by     string
		owners *[]kmsg.DescribeDelegationTokenRequestOwner
		want   []string
	}{
		{"alice", nil, []string{"alice's", "bob's of alice"}},
		{"bob", nil, []string{"bob's", "bob's of alice"}},
		{"carol", nil, []string{"alice's", "bob's", "bob's of alice"}},
		{"dave", nil, nil},
		{"root", nil, []string{"alice's", "bob's", "bob's of alice", "root's"}},
		{"root", owners(), nil},
		{"root", owners("carol", "nobody"), []string{"bob's"}},
		{"root", owners("alice"), []string{"alice's", "bob's of alice"}},
		{"alice", owners("root"), nil},
	} {
		req := kmsg.NewPtrDescribeDelegationTokenRequest()
		if test.owners != nil {
			req.Owners = *test.owners
		}
		resp := mustAsk[*kmsg.DescribeDelegationTokenResponse](t, h.asUser(test.by), req)
		var got []string
		for _, d := range resp.TokenDetails {
			got = append(got, ids[d.TokenID])
			if err := enterBy(t, h, tokenAuth(d.TokenID, d.HMAC).AsSha256Mechanism()); err != nil {
				t.Errorf("the token that %s is shown: %v", test.by, err)
			}
			if name := ids[d.TokenID]; name == "bob's of alice" &&
				(d.PrincipalName != "alice" || d.TokenRequesterPrincipalName != "bob") ||
				name == "bob's" && (len(d.Renewers) != 1 || d.Renewers[0].PrincipalName != "carol") {
				t.Errorf("%s is %+v", name, d)
			}
		}
		if slices.Sort(got); resp.ErrorCode != wire.None || !slices.Equal(got, test.want) {
			t.Errorf("%s sees %q of %v, want %q", test.by, got, test.owners, test.want)
		}
	}
}

// Where there is no folder for their secret, delegation tokens are off; nobody gets one who has not proven who it is.
func TestDelegationTokensOff(t *testing.T) {
	h, _ := tokenHouse(t, nil)
	cl := h.asUser("alice")
	wantCode(t, "create", mustAsk[*kmsg.CreateDelegationTokenResponse](t, cl, createToken("")).ErrorCode,
		wire.DelegationTokenAuthDisabled)
	wantCode(t, "describe", mustAsk[*kmsg.DescribeDelegationTokenResponse](t, cl,
		kmsg.NewPtrDescribeDelegationTokenRequest()).ErrorCode, wire.DelegationTokenAuthDisabled)
	wantCode(t, "renew", mustAsk[*kmsg.RenewDelegationTokenResponse](t, cl, renewToken([]byte("x"), -1)).ErrorCode,
		wire.DelegationTokenAuthDisabled)
	err := enterBy(t, h, tokenAuth("id", []byte("x")).AsSha256Mechanism())
	if !errors.Is(err, kerr.SaslAuthenticationFailed) {
		t.Errorf("a token where there are none: %v", err)
	}
	open := openHouse(t, Options{})
	for version := int16(1); version <= 3; version++ {
		resp := askFor[*kmsg.CreateDelegationTokenResponse](open.dial(), version, createToken(""))
		wantCode(t, "without a login", resp.ErrorCode, wire.DelegationTokenRequestNotAllowed)
	}
}
