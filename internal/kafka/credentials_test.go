package kafka

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/credential"
	"github.com/firthmq/firth/internal/access/mask"
	"github.com/firthmq/firth/internal/access/verify"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// register keeps users in memory.
type register struct {
	mu    sync.Mutex
	users map[string]*credential.Verifiers
}

func (r *register) Lookup(name string) (*credential.Verifiers, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	v, is := r.users[name]
	return v, is
}

func (r *register) Names() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.users))
}

func (r *register) AlterSCRAM(
	_ context.Context, user string, set []credential.SCRAM, remove []credential.Mechanism,
) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var v credential.Verifiers
	if old := r.users[user]; old != nil {
		v = *old
	}
	for _, m := range remove {
		if v.SCRAM(m).IsZero() {
			return fault.New(fault.NotFound, "test", "no credential")
		}
		v.Remove(m)
	}
	for _, s := range set {
		v.Put(s)
	}
	r.users[user] = &v
	return nil
}

func upsertion(user string, mechanism int8, iterations int32, salt, salted int,
) kmsg.AlterUserSCRAMCredentialsRequestUpsertion {
	return kmsg.AlterUserSCRAMCredentialsRequestUpsertion{
		Name: user, Mechanism: mechanism, Iterations: iterations,
		Salt: bytes.Repeat([]byte("s"), salt), SaltedPassword: bytes.Repeat([]byte("p"), salted),
	}
}

// Clients make users with passwords, look at what they have, and take them away (KIP-554).
//
// [Kafka-DescribeUserScramCredentials] [Kafka-AlterUserScramCredentials].
func TestUserScramCredentials(t *testing.T) {
	kept := &register{users: map[string]*credential.Verifiers{}}
	h := openHouse(t, Options{Credentials: kept})
	c := h.dial()
	alter := func(deletions []kmsg.AlterUserSCRAMCredentialsRequestDeletion,
		upsertions ...kmsg.AlterUserSCRAMCredentialsRequestUpsertion,
	) map[string]wire.Code {
		req := kmsg.NewPtrAlterUserSCRAMCredentialsRequest()
		req.Deletions, req.Upsertions = deletions, upsertions
		codes := map[string]wire.Code{}
		for _, r := range askFor[*kmsg.AlterUserSCRAMCredentialsResponse](c, 0, req).Results {
			if _, twice := codes[r.User]; twice || (r.ErrorMessage != nil) != (r.ErrorCode != 0) {
				t.Errorf("%+v", r)
			}
			codes[r.User] = r.ErrorCode
		}
		return codes
	}
	del := func(user string, mechanism int8) kmsg.AlterUserSCRAMCredentialsRequestDeletion {
		return kmsg.AlterUserSCRAMCredentialsRequestDeletion{Name: user, Mechanism: mechanism}
	}
	type deletions = []kmsg.AlterUserSCRAMCredentialsRequestDeletion
	want := map[string]wire.Code{
		"alice": wire.None, "bob": wire.None, "": wire.UnacceptableCredential, "few": wire.UnacceptableCredential,
		"many": wire.UnacceptableCredential, "unsalted": wire.UnacceptableCredential,
		"short": wire.UnacceptableCredential, "other": wire.UnsupportedSaslMechanism,
		"negative": wire.UnsupportedSaslMechanism, "twice": wire.DuplicateResource, "both": wire.DuplicateResource,
		"nobody": wire.ResourceNotFound,
	}
	got := alter(deletions{del("nobody", 1), del("both", 1)},
		upsertion("alice", 1, 4096, 16, 32), upsertion("bob", 2, 16384, 1, 64), upsertion("", 1, 4096, 16, 32),
		upsertion("few", 1, 4095, 16, 32), upsertion("many", 1, 16385, 16, 32), upsertion("unsalted", 1, 4096, 0, 32),
		upsertion("short", 1, 4096, 16, 31), upsertion("other", 3, 4096, 16, 32), upsertion("negative", -1, 4096, 16, 32),
		upsertion("twice", 1, 4096, 16, 32), upsertion("twice", 2, 4096, 16, 64), upsertion("both", 1, 4096, 16, 32))
	if !maps.Equal(got, want) {
		t.Errorf("altered %v, want %v", got, want)
	}
	if names := kept.Names(); !slices.Equal(names, []string{"alice", "bob"}) {
		t.Errorf("there are %v", names)
	}
	if got := alter(deletions{del("bob", 1)}); got["bob"] != wire.ResourceNotFound {
		t.Errorf("a mechanism that is not there: %v", got)
	}
	if got := alter(deletions{del("bob", 2)}); got["bob"] != wire.None {
		t.Errorf("bob goes: %v", got)
	}

	req := kmsg.NewPtrDescribeUserSCRAMCredentialsRequest()
	resp := askFor[*kmsg.DescribeUserSCRAMCredentialsResponse](c, 0, req)
	if len(resp.Results) != 1 || resp.Results[0].User != "alice" || len(resp.Results[0].CredentialInfos) != 1 ||
		resp.Results[0].CredentialInfos[0].Mechanism != 1 || resp.Results[0].CredentialInfos[0].Iterations != 4096 {
		t.Errorf("described %+v", resp.Results)
	}
	for _, name := range []string{"alice", "bob", "carol", "dave", "dave"} {
		req.Users = append(req.Users, kmsg.DescribeUserSCRAMCredentialsRequestUser{Name: name})
	}
	codes := map[string]wire.Code{}
	for _, r := range askFor[*kmsg.DescribeUserSCRAMCredentialsResponse](c, 0, req).Results {
		codes[r.User] = r.ErrorCode
	}
	want = map[string]wire.Code{"alice": wire.None, "bob": wire.ResourceNotFound, "carol": wire.ResourceNotFound,
		"dave": wire.DuplicateResource}
	if !maps.Equal(codes, want) {
		t.Errorf("described %v, want %v", codes, want)
	}
}

// Who may not manage users, or where there are none, is told so.
func TestUserScramCredentialsDenied(t *testing.T) {
	for code, o := range map[wire.Code]Options{
		wire.SecurityDisabled: {},
		wire.ClusterAuthorizationFailed: {
			Credentials: &register{}, Guard: denies(func(op Operation) bool { return op == OpAlter || op == OpDescribe }),
		},
	} {
		c := openHouse(t, o).dial()
		describe := kmsg.NewPtrDescribeUserSCRAMCredentialsRequest()
		if got := askFor[*kmsg.DescribeUserSCRAMCredentialsResponse](c, 0, describe).ErrorCode; got != code {
			t.Errorf("describe: %d, want %d", got, code)
		}
		alter := kmsg.NewPtrAlterUserSCRAMCredentialsRequest()
		alter.Upsertions = append(alter.Upsertions, upsertion("alice", 1, 4096, 16, 32))
		if got := askFor[*kmsg.AlterUserSCRAMCredentialsResponse](c, 0, alter).Results[0].ErrorCode; got != code {
			t.Errorf("alter: %d, want %d", got, code)
		}
	}
}

// denies is a guard that denies what it is true for.
type denies func(op Operation) bool

func (d denies) May(_ *access.Pass, op Operation, _ Resource, _ string) bool { return !d(op) }

func (denies) MaskTopic(*access.Pass, string) *mask.Set { return nil }

func (denies) MaskSome(string) bool { return false }

func (d denies) MaySome(_ *access.Pass, op Operation, _ Resource) bool { return !d(op) }

// A user that a client of Kafka has made logs in with the password by all mechanisms that it suits.
func TestMadeUsersLogIn(t *testing.T) {
	kept := &register{users: map[string]*credential.Verifiers{}}
	h := saslHouse(t, SASL{Mechanisms: PasswordMechanisms(verify.New(verify.Options{}), kept, nil, nil)}, nil)
	h.door.opt.Credentials = kept
	if err := kept.AlterSCRAM(t.Context(), "admin", []credential.SCRAM{scramOf(t, "secret")}, nil); err != nil {
		t.Fatal(err)
	}
	admin := scram.Auth{User: "admin", Pass: "secret"}.AsSha256Mechanism()
	cl, err := kgo.NewClient(kgo.SeedBrokers(h.addr), kgo.SASL(admin))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	results, err := kadm.NewClient(cl).AlterUserSCRAMs(t.Context(), nil, []kadm.UpsertSCRAM{
		{User: "alice", Mechanism: kadm.ScramSha512, Iterations: 4096, Password: "pencil"},
	})
	if err != nil || results["alice"].Err != nil {
		t.Fatal(err, results)
	}
	if err := enterBy(t, h, scram.Auth{User: "alice", Pass: "pencil"}.AsSha512Mechanism()); err != nil {
		t.Error(err)
	}
	if err := enterBy(t, h, plain.Auth{User: "alice", Pass: "pencil"}.AsMechanism()); err != nil {
		t.Error(err)
	}
	if err := enterBy(t, h, scram.Auth{User: "alice", Pass: "pencil"}.AsSha256Mechanism()); err == nil {
		t.Error("a mechanism that nobody has set")
	}
}

func scramOf(t *testing.T, password string) credential.SCRAM {
	t.Helper()
	s, err := verify.NewSCRAM(credential.SHA256, []byte(password))
	if err != nil {
		t.Fatal(err)
	}
	return s
}
