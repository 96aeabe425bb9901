package node

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/firthmq/firth/internal/audit"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/given"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/cluster"
	"github.com/firthmq/firth/internal/log/spool"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/mqtt/roster"
)

// Brokers say that the log is a Kafka cluster, and how to reach it.
type Brokers struct {
	Addresses          string // host:port, with commas; "": the log is on this machine's disk
	ClientID           string
	TLS                BrokerTLS
	SASL               BrokerSASL
	ReplicationFactor  int // unlimited: by the number of brokers
	MinInSync          int // the same
	RequestTimeout     time.Duration
	TransactionTimeout time.Duration
	Takeover           time.Duration
	Gateways           string // "one", "many" or "shared"
	Peers              PeersConfig
	AcceptUnsafe       string // settings, with commas
	Ack                string // "log" or "spool"
	SpoolBytes         int64
	SpoolRate          int64 // bytes a second; unlimited: any
}

// BrokerTLS says how brokers are spoken to.
type BrokerTLS struct {
	Enabled                          bool
	CA, Certificate, Key, ServerName string
}

// BrokerSASL says who we are.
type BrokerSASL struct {
	Mechanism                     string // "none", "plain", "scram-sha-256", "scram-sha-512" or "oauthbearer"
	User, PasswordFile, TokenFile string
}

// isGateway tells whether the log is a Kafka cluster.
func (c *Config) isGateway() bool { return c.Log.Kafka.Addresses != "" }

// spools tells whether units are held on the disk while the cluster is away.
func (c *Config) spools() bool { return c.isGateway() && c.Log.Kafka.Ack == ackSpool }

// instanceFile holds the name of this node in the cluster: another folder is another node.
const instanceFile = "gateway.id"

// openCluster opens the log in a Kafka cluster. The folder of data then holds what is this machine's own: keys, and the
// token of commands.
func (n *Node) openCluster(ctx context.Context) error {
	lock, err := store.Vacant(n.fs)
	if fault.Is(err, fault.Invalid) {
		return fault.New(fault.Invalid, "data", "%s holds a log of its own, and log.kafka.brokers says that the log is in "+
			"Kafka", n.folder).WithHint("give a gateway a folder of its own: --data DIR")
	}
	if err != nil {
		return fmt.Errorf("data: %w", err)
	}
	n.opened("data folder", func(context.Context) error { return lock.Close() })
	options, err := n.clusterOptions()
	if err != nil {
		return err
	}
	n.instanceName = options.Instance
	switch n.cfg.Log.Kafka.Gateways {
	case manyGateways:
		options.Place, err = n.awaitTurn(ctx, options)
	case sharedGateways:
		options.Shards, options.RefreshInterval = roster.TopicName, sharedRefresh
		options.Place, err = n.share(ctx, options)
	}
	if err != nil {
		return fmt.Errorf("log.kafka: %w", err)
	}
	begin := time.Now()
	log, err := cluster.Open(ctx, options)
	if err != nil {
		return fault.New(fault.KindOf(err), "log.kafka", "%s: %w", n.cfg.Log.Kafka.Addresses, err).
			WithHint("%s", fault.HintOf(err))
	}
	n.keeper = log
	n.opened("log", func(context.Context) error { return log.Close() })
	n.opened("lease", n.run("lease", func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return nil
		case err := <-log.Lost():
			return err
		}
	}))
	n.log.Info("opened the log in Kafka", "brokers", n.cfg.Log.Kafka.Addresses, "cluster", log.ClusterID(),
		"topics", log.Topics().Len(), "instance", options.Instance, "took", since(begin))
	if n.sharesSessions() {
		return n.openShared(ctx, log)
	}
	return n.openSpool(ctx, log, options.Instance)
}

// spoolFolder is where units are held, in the folder of data.
const spoolFolder = "spool"

// openSpool opens the spool, if there is to be one or was one, and waits until the cluster has what a life before has
// left in it.
func (n *Node) openSpool(ctx context.Context, log *cluster.Cluster, instance string) (err error) {
	if _, err := n.fs.List(spoolFolder); err != nil && !n.cfg.spools() {
		if !fault.Is(err, fault.NotFound) {
			return fmt.Errorf("data: %w", err)
		}
		return spool.Serve(ctx, log, instance)
	}
	if n.keys, err = n.cfg.Encryption.Keys(); err != nil {
		return fmt.Errorf("encryption: %w", err)
	}
	if err = n.fs.MkdirAll(spoolFolder); err == nil {
		err = n.fs.SyncDir(".")
	}
	if err != nil {
		return fmt.Errorf("data: %w", err)
	}
	k := n.cfg.Log.Kafka
	held, err := spool.Open(ctx, log, spool.Options{
		FS: vfs.Below(n.fs, spoolFolder), Keys: n.keys, Plain: !n.cfg.Encryption.NewFiles, Instance: instance,
		Logger: n.log, Metrics: n.metrics, Bytes: k.SpoolBytes, MemoryBytes: 2 * n.cfg.Limits.CommitBytes,
		Rate: max(k.SpoolRate, 0),
	})
	if err != nil {
		return fault.New(fault.KindOf(err), "log.kafka.ack", "the spool in %s: %w", spoolFolder, err).
			WithHint("%s", fault.HintOf(err))
	}
	if !n.cfg.spools() { // nothing is left in it now
		return held.Close()
	}
	n.keeper = &spooled{Spool: held, log: log}
	n.opened("spool", func(context.Context) error { return held.Close() })
	return nil
}

// spooled is a log in a cluster behind a spool.
type spooled struct {
	*spool.Spool
	log *cluster.Cluster
}

// ClusterID implements keeper.
func (s *spooled) ClusterID() string { return s.log.ClusterID() }

// Refused implements keeper: that the cluster is away is what the spool is for.
func (s *spooled) Refused() error {
	if err := s.log.Refused(); err != nil && !fault.Is(err, fault.IO) {
		return err
	}
	return s.Spool.Refused()
}

// Notice implements noticer.
func (s *spooled) Notice() string {
	st := s.Status()
	if !st.Holding && st.Bytes == 0 {
		return ""
	}
	notice := fmt.Sprintf("%d bytes of %d wait in the spool, the oldest for %s", st.Bytes, st.Limit,
		st.Oldest.Round(time.Second))
	if err := s.log.Refused(); err != nil {
		notice += "; " + err.Error()
	}
	return notice
}

func (n *Node) clusterOptions() (o cluster.Options, err error) {
	if o, err = n.clusterSettings(); err == nil {
		o.Instance, err = n.instance()
	}
	return o, err
}

// clusterSettings are the options but for who this node is.
func (n *Node) clusterSettings() (o cluster.Options, err error) {
	k, never := n.cfg.Log.Kafka, century
	o = cluster.Options{
		Seeds: splitList(k.Addresses), ClientID: k.ClientID, Logger: n.log, Metrics: n.metrics,
		GroupBytes: n.cfg.Limits.CommitBytes, QueueBytes: 4 * n.cfg.Limits.CommitBytes,
		ReplicationFactor: int16(max(k.ReplicationFactor, 0)), MinInSync: max(k.MinInSync, 0),
		TopicDefaults: n.cfg.clusterDefaults(), StateBytes: max(16*mib, n.cfg.Limits.Packet+mib),
		LargestMessage: n.cfg.Limits.Packet, Histories: []string{audit.TopicName}, Accept: splitList(k.AcceptUnsafe),
		Takeover: k.Takeover, OwnerTimeout: k.TransactionTimeout, Patience: k.RequestTimeout, Hold: never,
	}
	if n.cfg.isSet("topics.defaults.partitions") {
		o.DefaultPartitions = n.cfg.Topics.Defaults.Partitions
	}
	if o.TLS, err = k.TLS.client(); err != nil {
		return o, err
	}
	o.Login, err = k.SASL.login()
	return o, err
}

// isSet tells whether somebody gave a key a value.
func (c *Config) isSet(key string) bool { return c.Origin(key).Source != "default" }

// clusterDefaults are the settings of topics that devices make in a cluster: what nobody gave is the cluster's to say.
func (c *Config) clusterDefaults() map[string]string {
	all, wanted := c.Topics.Defaults.settings(), map[string]string{}
	for key, setting := range map[string]string{
		"retention": "retention.ms", "retention_bytes": "retention.bytes", "max_message": "max.message.bytes",
		"segment": "segment.bytes", "timestamp": "message.timestamp.type",
	} {
		if c.isSet("topics.defaults." + key) {
			wanted[setting] = all[setting]
		}
	}
	return wanted
}

// instance is the name of this node in the cluster, made at the first start.
func (n *Node) instance() (string, error) {
	const most = 200
	text, err := vfs.ReadWhole(n.fs, instanceFile, most)
	if name := strings.TrimSpace(string(text)); err == nil && name != "" {
		return name, nil
	}
	if err != nil && !fault.Is(err, fault.NotFound) {
		return "", fmt.Errorf("data: %w", err)
	}
	name := strings.ToLower(rand.Text())
	const next = instanceFile + ".new"
	f, err := n.fs.Create(next)
	if err == nil {
		_, err = f.WriteAt([]byte(name+"\n"), 0)
		err = errors.Join(err, f.Close())
	}
	if err == nil {
		err = n.fs.Rename(next, instanceFile)
	}
	if err != nil {
		return "", fmt.Errorf("data: %w", err)
	}
	return name, nil
}

// client is the TLS of connections to brokers; nil: they are in the clear. Errors: Invalid, NotFound, Denied, IO.
func (t BrokerTLS) client() (*tls.Config, error) {
	if !t.Enabled {
		return nil, nil //nolint:nilnil // as cluster.Options takes it
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CA != "" {
		const op = "log.kafka.tls.ca"
		text, err := given.Read(op, t.CA)
		if err != nil {
			return nil, err
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, fault.New(fault.Invalid, op, "%s holds no certificate in PEM", t.CA)
		}
	}
	if t.Certificate == "" {
		return c, nil
	}
	if _, err := t.pair(); err != nil {
		return nil, err
	}
	// It is read at each connection, so that a new one takes effect.
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return t.pair() }
	return c, nil
}

func (t BrokerTLS) pair() (*tls.Certificate, error) {
	certificate, err := given.Read("log.kafka.tls.certificate", t.Certificate)
	if err != nil {
		return nil, err
	}
	key, err := given.ReadPrivate("log.kafka.tls.key", t.Key)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, fault.New(fault.Invalid, "log.kafka.tls", "%s and %s: %w", t.Certificate, t.Key, err)
	}
	return &pair, nil
}

// login is how brokers are told who we are; nil: not at all. Errors: those of reading the secret.
func (s BrokerSASL) login() (*cluster.Login, error) {
	if s.Mechanism == "none" {
		return nil, nil //nolint:nilnil // as cluster.Options takes it
	}
	l := &cluster.Login{Mechanism: strings.ToUpper(s.Mechanism), User: s.User, Secret: s.secret}
	_, err := l.Secret()
	return l, err
}

func (s BrokerSASL) secret() (string, error) {
	op, name := "log.kafka.sasl.password_file", s.PasswordFile
	if s.Mechanism == "oauthbearer" {
		op, name = "log.kafka.sasl.token_file", s.TokenFile
	}
	text, err := given.ReadPrivate(op, name)
	if err != nil {
		return "", err
	}
	secret := strings.TrimRight(string(text), "\r\n")
	if secret == "" {
		return "", fault.New(fault.Invalid, op, "%s is empty", name)
	}
	return secret, nil
}
