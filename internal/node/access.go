package node

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"slices"
	"time"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/keys"
	"github.com/firthmq/firth/internal/access/mask"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kafka"
	"github.com/firthmq/firth/internal/mqtt"
)

// Access is how the node treats who comes.
type Access struct {
	Mode      string // enforce or report
	Anonymous string // auto, allow or deny
	Metrics   string // auto or open
	Damaged   string // refuse or accept
	JWT       []JWT
	HTTP      LoginService
	Bare      bool          // secrets as they are without TLS from other machines, over Kafka
	Identity  string        // whose a certificate is: a template
	Session   time.Duration // of a Kafka connection until it authenticates again; forever
	People    People
	OIDC      OIDC
}

// The values of access.mode.
const (
	modeEnforce = "enforce"
	modeReport  = "report" // rules are tried out
)

func accessOptions() []Option {
	return slices.Concat([]Option{
		Option{Key: "access.mode", Default: modeEnforce, Reload: true,
			Doc: "Whether access rules are in force (enforce), or are tried out (report): what they would deny of topics, " +
				"groups and transactional ids is let through, counted, and shown by firth acl denied with the rule that " +
				"would allow it. Who somebody is has to be proven all the same, and users, rules and what else is of the " +
				"cluster are closed as ever.",
		}.choice(func(c *Config) *string { return &c.Access.Mode }, modeEnforce, modeReport),
		Option{Key: "access.certificate_identity", Default: "${cert.cn}", Type: "name of a certificate",
			Doc: "Whose a client certificate is, over MQTT, Kafka and HTTP: the user whose name comes of this text. Fields " +
				"are cn (the common name), subject (as Kafka writes it: CN=pump-7,O=Example), o, ou, serial, san.dns, san.uri, " +
				"san.email and san.ip; of several values the first counts.",
			Shows: "a certificate without the field is refused: MQTT: CONNACK 0x87, Not authorized (MQTT 3: 5); Kafka: the " +
				"connection ends; HTTP 403",
		}.text(func(c *Config) *string { return &c.Access.Identity }, anIdentity),
		Option{Key: "access.anonymous", Default: "auto",
			Doc: "Whether clients are served that do not say who they are. auto: as long as there is no user (firth user). " +
				"They have the rights that rules give to User:*, or to User:ANONYMOUS; while there are neither users nor " +
				"rules, all.",
			Shows: "MQTT: CONNACK 0x87, Not authorized (MQTT 3: 5); Kafka: the connection ends at the first request that is " +
				"not for authentication",
		}.choice(func(c *Config) *string { return &c.Access.Anonymous }, "auto", "allow", "deny"),
		Option{Key: "access.metrics", Default: "auto",
			Doc: "Who may read /metrics. auto: every program of this machine; from other machines, once there are users or " +
				"rules, users who may describe the cluster (firth user add prometheus --role viewer), by their password " +
				"or their certificate. open: everybody who reaches listen.http.",
			Shows: "HTTP 401, or 403 without the right",
		}.choice(func(c *Config) *string { return &c.Access.Metrics }, "auto", "open"),
		Option{Key: "access.damaged", Default: "refuse",
			Doc: "What to do when users or rules cannot be read from a damaged disk: refuse to start, or accept to go on " +
				"without them. What is missing may be what keeps somebody out.",
		}.choice(func(c *Config) *string { return &c.Access.Damaged }, "refuse", "accept"),
		jwtOption(),
	}, serviceOptions(), []Option{
		Option{Key: "access.plain_without_tls", Default: "false",
			Doc: "Whether Kafka clients on other machines may send passwords and tokens as they are (PLAIN, OAUTHBEARER) " +
				"without TLS, for whoever listens to read. SCRAM does not send them.",
			Shows: "SaslHandshake: UNSUPPORTED_SASL_MECHANISM (33)",
		}.flag(func(c *Config) *bool { return &c.Access.Bare }),
		Option{Key: "access.kafka_session", Default: "forever",
			Doc: "How long a Kafka connection is served before it has to authenticate again (connections.max.reauth.ms, " +
				"KIP-368). One with a token never is longer than that is good.",
			Shows: "the connection ends at the next request",
		}.span(func(c *Config) *time.Duration { return &c.Access.Session }, time.Second, century, "forever"),
	})
}

// anIdentity holds a text against what a certificate has. Errors: Invalid.
func anIdentity(template string) error {
	_, err := access.ParseIdentity(template)
	return err
}

// openAccess reads who is who and who may do what.
func (n *Node) openAccess(ctx context.Context) (err error) {
	n.issuers = keys.NewMetrics(n.metrics)
	tokens, err := n.openTokens()
	if err != nil {
		return err
	}
	service, err := n.openService()
	if err != nil {
		return err
	}
	identity, err := access.ParseIdentity(n.cfg.Access.Identity)
	if err != nil {
		return err
	}
	anonymous := map[string]access.Anonymous{"allow": access.Always, "deny": access.Never}
	n.access, err = access.Open(ctx, access.Options{
		Log: n.keeper, Mapping: mapped{n}, Anonymous: anonymous[n.cfg.Access.Anonymous], Tokens: tokens,
		People: n.cfg.Access.OIDC.Issuer != "", Identity: identity, Service: service, TryOut: n.cfg.Access.Mode == modeReport,
		Shared: n.sharesSessions(), Unsure: n.unsure, AcceptDamage: n.acceptsDamage(), Audit: n.audit, FS: n.fs,
		Metrics: n.metrics, Logger: n.log, Clock: n.clocks.wall, Passed: n.clocks.passed,
	})
	if err != nil {
		return err
	}
	if n.sharesSessions() {
		n.opened("users and rules", n.run("users and rules", n.access.Run))
	}
	_, _, n.guard = n.guards(n.access)
	n.tellMode()
	n.makeToken()
	return nil
}

// tellMode warns while rules are not in force.
func (n *Node) tellMode() {
	if n.access.TriesOut() {
		n.log.Warn("ACCESS RULES ARE NOT IN FORCE: what they deny is let through and told", "because",
			"access.mode is report", "hint", "firth acl denied shows what would be denied; then set access.mode to enforce")
	}
}

// guards are what the door of devices, that of back ends and the administrative interface ask. Tests put guards there
// that leak.
type guards func(*access.Access) (mqtt.Guard, kafka.Guard, adminGuard)

func catalogGuards(a *access.Access) (mqtt.Guard, kafka.Guard, adminGuard) { return a, a, a }

// adminGuard answers what who administers may do and see. *access.Access is one.
type adminGuard interface {
	May(p *access.Pass, o rule.Operation, kind rule.Kind, name string) bool
	MayName(p *access.Pass, o rule.Operation, name []byte, topic string) bool
	MayFilter(p *access.Pass, filter string) bool
	MaskName(p *access.Pass, name []byte, topic string) *mask.Set
	MaskTopic(p *access.Pass, topic string) *mask.Set
	Masked(p *access.Pass) bool
}

// mapped is the mapping of the moment, for rules: SIGHUP may change it.
type mapped struct{ n *Node }

// TopicOf implements rule.Mapping.
func (m mapped) TopicOf(name []byte) string { return m.n.mapping.Load().TopicOf(name) }

// FiltersOf implements rule.Mapping.
func (m mapped) FiltersOf(topic string) []string { return m.n.mapping.Load().FiltersOf(topic) }

// unsure tells why something that other gateways change, and that decides who may come in, is not known; users and
// rules aside. Nobody comes in before the device door is open.
func (n *Node) unsure() error { return errors.Join(n.mqtt.UnsureOfBans(), n.authority.Unsure()) }

// acceptsDamage tells whether what is damaged of who may come in is as if it had not been there.
func (n *Node) acceptsDamage() bool { return n.cfg.Access.Damaged == "accept" }

// recheck has the doors look at who is there after a change.
func (n *Node) recheck() {
	n.mqtt.Recheck()
	if n.kafka != nil {
		n.kafka.Recheck()
	}
}

// TokenFile is the file in the data directory whose text lets commands of the same user administer the node. It is
// another one after each start.
const TokenFile = "admin.token"

// makeToken makes the token of this start.
func (n *Node) makeToken() {
	var chance [32]byte
	_, _ = rand.Read(chance[:]) // never fails
	n.token = base64.RawURLEncoding.EncodeToString(chance[:])
	const next = TokenFile + ".new"
	f, err := n.fs.Create(next)
	if err == nil {
		_, err = f.WriteAt([]byte(n.token+"\n"), 0)
		err = errors.Join(err, f.Close())
	}
	if err == nil {
		err = n.fs.Rename(next, TokenFile)
	}
	if err != nil { // what is full or cannot be written is no reason not to serve reads
		n.log.Warn("commands cannot administer this node without a user", "because", err, "file", TokenFile)
		n.token = ""
	}
}
