package node

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/firthmq/firth/internal/log/cluster"
)

const brokersKey = "log.kafka.brokers"

// What may be said of log.kafka.ack.
const (
	ackLog   = "log"
	ackSpool = "spool"
)

func gatewayOptions() []Option {
	return slices.Concat([]Option{
		Option{Key: brokersKey, Type: "list of host:port", Default: "", list: true,
			Doc: "Brokers of a Kafka cluster that is the log, in place of this machine's disk: this node is a gateway then, " +
				"with doors for devices and for HTTP, and Kafka clients connect to the brokers ([gateway.md](gateway.md)). " +
				"A few are enough to find the others by. The folder of data then holds only what is this machine's own: " +
				"keys, the token of commands, and the name of this node.",
		}.text(func(c *Config) *string { return &c.Log.Kafka.Addresses }, checkBrokers),
		Option{Key: "log.kafka.client_id", Type: "text", Default: "firth",
			Doc: "What the cluster's logs and quotas call this node (client.id).",
		}.text(func(c *Config) *string { return &c.Log.Kafka.ClientID }, checkClientID),
	}, brokerTLSOptions(), brokerSASLOptions(), []Option{
		Option{Key: "log.kafka.replication_factor", Default: auto,
			Doc: "How many replicas topics get that this node makes in the cluster. auto: 3, or as many as there are " +
				"brokers. Topics of Firth's own state that have fewer are refused at the start.",
		}.automatic(func(c *Config) *int { return &c.Log.Kafka.ReplicationFactor }, 1, 32_767),
		Option{Key: "log.kafka.min_insync_replicas", Default: auto,
			Doc: "How many replicas have to have a record before it is acknowledged (min.insync.replicas), of topics that " +
				"this node makes. auto: 2, or 1 where there is one replica.",
		}.automatic(func(c *Config) *int { return &c.Log.Kafka.MinInSync }, 1, 32_767),
		Option{Key: "log.kafka.ack", Default: ackLog,
			Doc: "When what devices publish, and the state of their sessions, is acknowledged. log: when Kafka has it; while " +
				"Kafka is away publishers wait. spool: the same while Kafka takes it, and when this machine's disk has it while " +
				"Kafka does not: it is sent later, in order ([gateway.md](gateway.md#ack-spool)). Until then it is lost with " +
				"this disk.",
		}.choice(func(c *Config) *string { return &c.Log.Kafka.Ack }, ackLog, ackSpool),
		Option{Key: "log.kafka.spool_bytes", Default: "1GiB",
			Doc: "With log.kafka.ack: spool, how much may wait on the disk for Kafka, about; above it publishers wait, as " +
				"with log. Up to 128 MiB more are taken on the disk for the files.",
		}.size(func(c *Config) *int64 { return &c.Log.Kafka.SpoolBytes }, 16*mib, 1024*tib, ""),
		Option{Key: "log.kafka.spool_rate", Default: "16MiB",
			Doc: "With log.kafka.ack: spool, how many bytes a second go from the disk to Kafka once that is back, so that it " +
				"has strength left for others. What is published meanwhile goes behind.",
		}.size(func(c *Config) *int64 { return &c.Log.Kafka.SpoolRate }, 64*kib, 1*tib, "unlimited"),
		Option{Key: "log.kafka.request_timeout", Default: "15s",
			Doc: "How long a request to the cluster is tried. What devices publish is tried until the cluster takes it, " +
				"however long that is; once limits.commit_bytes wait four times, whoever publishes waits.",
		}.span(func(c *Config) *time.Duration { return &c.Log.Kafka.RequestTimeout }, time.Second, time.Hour, ""),
		Option{Key: "log.kafka.transaction_timeout", Default: "1m",
			Doc: "When the cluster ends a transaction of this node that has stayed open, because the node died and no other " +
				"took its place (transaction.timeout.ms). Until then readers that take committed records only wait where it " +
				"wrote. The brokers bound it (transaction.max.timeout.ms).",
		}.span(func(c *Config) *time.Duration { return &c.Log.Kafka.TransactionTimeout }, time.Second, time.Hour, ""),
		Option{Key: "log.kafka.takeover", Default: "6s",
			Doc: "After what time without a sign of life another gateway may take the place of this one, and this one ends. " +
				"Longer, and a machine or a broker may pause for longer at no cost; devices are without service for as long when " +
				"a gateway dies. The brokers bound it (group.min.session.timeout.ms, 6 s by default, and " +
				"group.max.session.timeout.ms).",
		}.span(func(c *Config) *time.Duration { return &c.Log.Kafka.Takeover }, time.Second, time.Hour, ""),
	}, peersOptions(), []Option{
		Option{Key: "log.kafka.accept_unsafe", Type: "list of settings", Default: "", list: true,
			Doc: "Settings of the cluster with which what is promised cannot be kept, and with which this node starts all " +
				"the same, with a warning for each at every start: " + strings.Join(cluster.AcceptableSettings(), ", ") + ". " +
				"What was acknowledged may be lost then.",
		}.text(func(c *Config) *string { return &c.Log.Kafka.AcceptUnsafe }, checkUnsafe),
	})
}

func brokerTLSOptions() []Option {
	anyPath := func(string) error { return nil }
	of := func(c *Config) *BrokerTLS { return &c.Log.Kafka.TLS }
	return []Option{
		Option{Key: "log.kafka.tls.enabled", Default: "false",
			Doc: "Whether brokers are spoken to by TLS (security.protocol SSL or SASL_SSL).",
		}.flag(func(c *Config) *bool { return &of(c).Enabled }),
		Option{Key: "log.kafka.tls.ca", Type: "path",
			Doc: "The certificates of the authorities that the brokers' certificates come from, as PEM. Empty: those that " +
				"the system trusts.",
		}.text(func(c *Config) *string { return &of(c).CA }, anyPath),
		Option{Key: "log.kafka.tls.certificate", Type: "path",
			Doc: "The certificate that brokers are shown, with its chain, as PEM. It is read at each connection.",
		}.text(func(c *Config) *string { return &of(c).Certificate }, anyPath),
		Option{Key: "log.kafka.tls.key", Type: "path",
			Doc: "Its key, as PEM. Nobody else may be able to read it: mode 0600, or 0640 where it belongs to root.",
		}.text(func(c *Config) *string { return &of(c).Key }, anyPath),
		Option{Key: "log.kafka.tls.host", Type: "host",
			Doc: "The name that the brokers' certificates have to have. Empty: the host that is connected to.",
		}.text(func(c *Config) *string { return &of(c).ServerName }, anyPath),
	}
}

func brokerSASLOptions() []Option {
	anything := func(string) error { return nil }
	of := func(c *Config) *BrokerSASL { return &c.Log.Kafka.SASL }
	return []Option{
		Option{Key: "log.kafka.sasl.mechanism", Default: "none",
			Doc: "How brokers are told who this node is. plain, and oauthbearer, send the secret itself: they need TLS, " +
				"unless the brokers are on this machine.",
		}.choice(func(c *Config) *string { return &of(c).Mechanism }, "none", "plain", "scram-sha-256", "scram-sha-512",
			"oauthbearer"),
		Option{Key: "log.kafka.sasl.user", Type: "text",
			Doc: "The user, for plain and scram.",
		}.text(func(c *Config) *string { return &of(c).User }, anything),
		Option{Key: "log.kafka.sasl.password_file", Type: "path",
			Doc: "The file with its password, for plain and scram. Nobody else may be able to read it. It is read at each " +
				"connection.",
		}.text(func(c *Config) *string { return &of(c).PasswordFile }, anything),
		Option{Key: "log.kafka.sasl.token_file", Type: "path",
			Doc: "The file with the token, for oauthbearer, which something else keeps new. As password_file otherwise.",
		}.text(func(c *Config) *string { return &of(c).TokenFile }, anything),
	}
}

// auto stands for a number that the node finds.
const auto = "auto"

// automatic is a count that the node may find by itself: auto.
func (o OptionOf[C]) automatic(field func(*C) *int, low, high int) OptionOf[C] {
	o = o.count(field, low, high)
	o.Bounds += ", or " + auto
	parse, show := o.parse, o.show
	o.parse = func(c *C, s string) error {
		if s == auto {
			*field(c) = unlimited
			return nil
		}
		return parse(c, s)
	}
	o.show = func(c *C) string {
		if *field(c) == unlimited {
			return auto
		}
		return show(c)
	}
	return o
}

func checkBrokers(s string) error {
	for _, one := range splitList(s) {
		if err := checkAdvertise(one); err != nil || one == auto {
			return fmt.Errorf("%q is not host:port (example: kafka1.example.org:9092)", one)
		}
	}
	return nil
}

func checkClientID(s string) error {
	if s == "" {
		return errors.New("an empty name")
	}
	return nil
}

func checkUnsafe(s string) error {
	known := cluster.AcceptableSettings()
	for _, one := range splitList(s) {
		if !slices.Contains(known, one) {
			return fmt.Errorf("%q is not one of %s%s", one, strings.Join(known, ", "), didYouMean(one, known))
		}
	}
	return nil
}

// notOfGateways are the keys that would not be obeyed where the log is a Kafka cluster, and why; those that end with a
// point are sections.
var notOfGateways = map[string]string{
	"encryption.":                noDisk + "; what the brokers store is theirs to encrypt",
	"limits.partitions":          noDisk,
	"limits.cache_bytes":         noDisk,
	"limits.journal_file":        noDisk,
	"topics.defaults.durability": noDisk + ", and the brokers acknowledge what their replicas have",
	"listen.kafkas":              noDoor,
	"advertise":                  noDoor,
	"advertise_tls":              noDoor,
	"topics.auto_create":         noDoor,
	"limits.request":             noDoor,
	"limits.kafka_connections":   noDoor,
	"limits.kafka_bytes":         noDoor,
	"groups.":                    noDoor,
	"transactions.":              noDoor,
	"access.kafka_session":       noDoor,
}

const (
	noDisk = "the log is not on this machine's disk"
	noDoor = "Kafka clients connect to the brokers, there is no door for them here"
)

// checkGateway looks at what does not go together with a log in Kafka, and at what means nothing without.
func (l *loader) checkGateway() {
	c := l.config
	if !c.isGateway() {
		for _, key := range l.keys {
			if strings.HasPrefix(key, "log.kafka.") && key != brokersKey && l.differs(key) {
				l.report(l.origin(key), "%s: means nothing without %s", key, brokersKey)
			}
		}
		return
	}
	const door = "listen.kafka"
	switch {
	case !c.isSet(door):
		c.Listen.Kafka = ""
	case c.Listen.Kafka != "": // though it be the default
		l.report(l.origin(door), "%s: cannot be with %s (%s): %s", door, brokersKey, c.Origin(brokersKey), noDoor)
	}
	for _, key := range slices.Sorted(maps.Keys(notOfGateways)) {
		if key == "encryption." && c.spools() {
			continue // of the spool
		}
		for _, one := range l.keys {
			below := strings.HasSuffix(key, ".") && strings.HasPrefix(one, key)
			if (one == key || below) && l.differs(one) {
				l.report(l.origin(one), "%s: cannot be with %s (%s): %s", one, brokersKey, c.Origin(brokersKey),
					notOfGateways[key])
			}
		}
	}
	for _, key := range []string{"log.kafka.spool_bytes", "log.kafka.spool_rate"} {
		if !c.spools() && l.differs(key) {
			l.report(l.origin(key), "%s: means nothing without log.kafka.ack: spool", key)
		}
	}
	l.checkBrokerAccess()
	l.checkPeers()
}

// differs tells whether a key has another value than by default: a configuration that was printed says them all.
func (l *loader) differs(key string) bool {
	return l.config.isSet(key) && l.config.show(key) != Default().show(key)
}

// checkBrokerAccess looks at how brokers are reached.
func (l *loader) checkBrokerAccess() {
	k := &l.config.Log.Kafka
	wrong := func(key, format string, args ...any) {
		l.report(l.origin("log.kafka."+key), "log.kafka.%s: %s", key, fmt.Sprintf(format, args...))
	}
	for _, one := range []struct{ key, value string }{{"tls.ca", k.TLS.CA}, {"tls.certificate", k.TLS.Certificate},
		{"tls.key", k.TLS.Key}, {"tls.host", k.TLS.ServerName}} {
		if one.value != "" && !k.TLS.Enabled {
			wrong(one.key, "means nothing without log.kafka.tls.enabled: true")
		}
	}
	if (k.TLS.Certificate == "") != (k.TLS.Key == "") {
		wrong("tls.certificate", "a certificate and its key need each other: set log.kafka.tls.certificate and "+
			"log.kafka.tls.key")
	}
	s := k.SASL
	switch byPassword := s.Mechanism != "none" && s.Mechanism != "oauthbearer"; {
	case byPassword && (s.User == "" || s.PasswordFile == ""):
		wrong("sasl.mechanism", "%s needs log.kafka.sasl.user and log.kafka.sasl.password_file", s.Mechanism)
	case !byPassword && (s.User != "" || s.PasswordFile != ""):
		wrong("sasl.mechanism", "%s takes no user and no password", s.Mechanism)
	case s.Mechanism == "oauthbearer" && s.TokenFile == "":
		wrong("sasl.mechanism", "oauthbearer needs log.kafka.sasl.token_file")
	case s.Mechanism != "oauthbearer" && s.TokenFile != "":
		wrong("sasl.token_file", "is for oauthbearer only")
	}
	away := slices.ContainsFunc(splitList(k.Addresses), func(a string) bool { return !isLoopback(a) })
	if (s.Mechanism == "plain" || s.Mechanism == "oauthbearer") && away && !k.TLS.Enabled {
		wrong("sasl.mechanism", "%s would send the secret in the clear: set log.kafka.tls.enabled: true, or take "+
			"scram-sha-512", s.Mechanism)
	}
	if n, r := k.MinInSync, k.ReplicationFactor; n != unlimited && r != unlimited && n > r {
		wrong("min_insync_replicas", "%d of %d replicas cannot be: nothing could be written", n, r)
	}
}
