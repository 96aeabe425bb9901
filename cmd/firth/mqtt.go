package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/firthmq/firth/internal/cli/output"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/mqtt/client"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// mqttFlags are the flags that pub and sub share, named as in mosquitto_pub and mosquitto_sub.
type mqttFlags struct {
	host, unix, id, idPrefix, user, password, version, url string
	port, keepAlive                                        int
	sessionExpiry                                          int64
	qos                                                    int
	resume, debug, quiet                                   bool
	encrypted                                              tlsFlags
	properties                                             []string
	will                                                   struct {
		topic, payload string
		qos            int
		retain         bool
	}

	byCommand map[string]*packet.Properties // of -D
}

func addMQTTFlags(cmd *cobra.Command) *mqttFlags {
	m := &mqttFlags{}
	flags := cmd.Flags()
	flags.Bool("help", false, "help for "+cmd.Name()) // without -h, which is the host, as in mosquitto's tools
	flags.StringVarP(&m.host, "host", "h", "127.0.0.1", "`host` to connect to")
	flags.IntVarP(&m.port, "port", "p", 0, "`port` to connect to (default 1883, with TLS 8883)")
	flags.StringVar(&m.unix, "unix", "", "Unix socket at `path` to connect to, instead of -h and -p")
	flags.StringVarP(&m.url, "url", "L", "", "`mqtt(s)://[user[:password]@]host[:port]/topic` instead of -h -p -u -P -t")
	flags.StringVarP(&m.id, "id", "i", "", "client `identifier`; without one the server chooses")
	flags.StringVarP(&m.idPrefix, "id-prefix", "I", "", "client identifier `prefix`, the process id is added")
	flags.StringVarP(&m.user, "username", "u", "", "user `name`")
	flags.StringVarP(&m.password, "pw", "P", "", "`password`")
	flags.StringVarP(&m.version, "protocol-version", "V", "5", "MQTT `version`: 5, 311 or 31")
	flags.IntVarP(&m.keepAlive, "keepalive", "k", 60, "keep alive in `seconds`")
	flags.IntVarP(&m.qos, "qos", "q", 0, "quality of service: 0, 1 or `2`")
	flags.BoolVarP(&m.resume, "disable-clean-session", "c", false, "go on with the session of the client identifier")
	flags.Int64VarP(&m.sessionExpiry, "session-expiry-interval", "x", -2, "`seconds` a session lives on; -1: for ever")
	flags.StringArrayVarP(&m.properties, "property", "D", nil,
		"MQTT 5 property as `command name value`, for instance: -D publish user-property k v; the commands are connect, "+
			"publish, subscribe, unsubscribe, disconnect and will")
	flags.BoolVarP(&m.debug, "debug", "d", false, "say what happens, on standard error")
	flags.BoolVar(&m.quiet, "quiet", false, "print no errors")
	m.encrypted.add(flags)
	flags.StringVar(&m.encrypted.alpn, "tls-alpn", "", "TLS: `protocol` to ask for (ALPN), mqtt as a rule")
	flags.StringVar(&m.will.topic, "will-topic", "", "`topic` of the will")
	flags.StringVar(&m.will.payload, "will-payload", "", "`payload` of the will")
	flags.IntVar(&m.will.qos, "will-qos", 0, "`QoS` of the will")
	flags.BoolVar(&m.will.retain, "will-retain", false, "retain the will")
	return m
}

// settle checks the flags among themselves and works out the rest. args are what follows -D: its
// operands, since a flag takes only one. It returns the topic of -L, if any.
func (m *mqttFlags) settle(args []string) (topic string, err error) {
	if m.qos < 0 || m.qos > 2 || m.will.qos < 0 || m.will.qos > 2 {
		return "", output.Usage("QoS is 0, 1 or 2")
	}
	if m.byCommand, err = parseProperties(m.properties, args); err != nil {
		return "", err
	}
	if m.idPrefix != "" {
		m.id = m.idPrefix + strconv.Itoa(os.Getpid())
	}
	if m.url != "" {
		if topic, err = m.fromURL(); err != nil {
			return "", err
		}
	}
	if m.port == 0 {
		m.port = 1883
		if m.tls() {
			m.port = 8883
		}
	}
	return topic, nil
}

func (m *mqttFlags) fromURL() (topic string, err error) {
	u, err := url.Parse(m.url)
	if err != nil || u.Scheme != "mqtt" && u.Scheme != "mqtts" || u.Hostname() == "" {
		return "", output.Usage("%q is not of the form mqtt(s)://[user[:password]@]host[:port]/topic", m.url)
	}
	m.host = u.Hostname()
	if p := u.Port(); p != "" {
		if m.port, err = strconv.Atoi(p); err != nil {
			return "", output.Usage("%q is no port", p)
		}
	}
	if u.User != nil {
		m.user = u.User.Username()
		m.password, _ = u.User.Password()
	}
	if u.Scheme == "mqtts" && m.port == 0 {
		m.port = 8883
	}
	return strings.TrimPrefix(u.Path, "/"), nil
}

func (m *mqttFlags) tls() bool {
	return m.encrypted.wanted() || strings.HasPrefix(m.url, "mqtts:")
}

// properties of one command, never nil.
func (m *mqttFlags) propertiesOf(command string) *packet.Properties {
	if p := m.byCommand[command]; p != nil {
		return p
	}
	return &packet.Properties{}
}

// options are the client's options for these flags.
func (m *mqttFlags) options() (client.Options, error) {
	o := client.Options{ClientID: m.id, Resume: m.resume, KeepAlive: time.Duration(m.keepAlive) * time.Second,
		UserName: m.user,
		Props:    *m.propertiesOf("connect"), Farewell: *m.propertiesOf("disconnect")}
	if m.keepAlive == 0 {
		o.KeepAlive = -1
	}
	if m.password != "" {
		o.Password = []byte(m.password)
	}
	if o.Version = parseVersion(m.version); o.Version == 0 {
		return o, output.Usage("unknown MQTT version %q: use 5, 311 or 31", m.version)
	}
	switch {
	case m.sessionExpiry >= -1:
		o.Props.SetSessionExpiry(uint32(m.sessionExpiry))
	case m.resume && !o.Props.Has(packet.PropSessionExpiry):
		o.Props.SetSessionExpiry(1<<32 - 1)
	}
	if m.will.topic != "" {
		o.Will = &packet.Will{Topic: []byte(m.will.topic), Payload: []byte(m.will.payload), QoS: byte(m.will.qos),
			Retain: m.will.retain, Props: *m.propertiesOf("will")}
	}
	var err error
	if m.tls() {
		o.TLS, err = m.encrypted.config(m.host)
	}
	return o, err
}

// parseVersion takes the names that mosquitto's tools take, and the numbers people write. 0: none of them.
func parseVersion(name string) packet.Version {
	switch strings.TrimPrefix(strings.ToLower(name), "mqttv") {
	case "5", "5.0":
		return packet.V5
	case "311", "3.1.1", "4":
		return packet.V311
	case "31", "3.1", "3":
		return packet.V31
	}
	return 0
}

// address is where connect dials.
func (m *mqttFlags) address() string {
	if m.unix != "" {
		return m.unix
	}
	return net.JoinHostPort(m.host, strconv.Itoa(m.port))
}

// connected says for -d who we are, and what else the server has said.
func (m *mqttFlags) connected(cmd *cobra.Command, s client.Server) {
	m.note(cmd, "connected to %s as %q", m.address(), s.ClientID)
	if s.ResponseInformation != "" {
		m.note(cmd, "response information: %s", s.ResponseInformation)
	}
}

// connect dials.
func (m *mqttFlags) connect(ctx context.Context, o client.Options) (*client.Client, error) {
	address := m.address()
	if m.unix != "" {
		o.Dial = func(ctx context.Context, _, path string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
	}
	dial, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c, err := client.Dial(dial, address, o)
	if err == nil || ctx.Err() != nil {
		return c, err
	}
	if refused, ok := errors.AsType[*packet.Error](err); ok {
		if fault.Is(err, fault.Denied) {
			return nil, fault.New(fault.Denied, "connect to MQTT", "%s: %w", address, refused).
				WithHint("give user and password with -u and -P")
		}
		return nil, fault.New(fault.KindOf(err), "connect to MQTT", "%s: %w", address, refused)
	}
	return nil, connectError("MQTT", address, err)
}

// note writes a line for -d.
func (m *mqttFlags) note(cmd *cobra.Command, text string, args ...any) {
	if m.debug {
		_, _ = fmt.Fprintf(cmd.ErrOrStderr(), text+"\n", args...)
	}
}

// fails gives a reason code of a refusal its kind, and so its exit code.
func fails(what string, reason packet.ReasonCode) error {
	kind := fault.Invalid
	switch reason {
	case packet.NotAuthorized:
		kind = fault.Denied
	case packet.QuotaExceeded:
		kind = fault.Limited
	}
	return fault.New(kind, what, "the server refused it: %s", reason)
}
