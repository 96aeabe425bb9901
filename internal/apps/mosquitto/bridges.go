package mosquitto

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// joined is one connection: a bridge to another server.
type joined struct {
	from      Directive
	name      string
	addresses setting
	keys      []setting
	topics    []setting // each a topic in one line
	tls       bool
	options   []setting // those that mean something with TLS only
	lost      string    // why it cannot be one here; empty: it can
}

// bridgeRules are the directives of a connection with keys of ours.
var bridgeRules = map[string]func(t *translation, at *joined, d Directive){
	"address":                        (*translation).bridgeAddress,
	"addresses":                      (*translation).bridgeAddress,
	"topic":                          (*translation).bridgeTopic,
	"bridge_protocol_version":        (*translation).bridgeProtocol,
	"clientid":                       bridgeText("client_id"),
	"remote_clientid":                bridgeText("client_id"),
	"local_clientid":                 bridgeText("local_client_id"),
	"username":                       bridgeText("username"),
	"remote_username":                bridgeText("username"),
	"local_username":                 bridgeText("user"),
	"password":                       (*translation).bridgePassword,
	"remote_password":                (*translation).bridgePassword,
	"cleansession":                   bridgeFlag("clean_session"),
	"local_cleansession":             (*translation).bridgeLocalClean,
	"bridge_session_expiry_interval": (*translation).bridgeExpiry,
	"keepalive_interval":             bridgeCount("keepalive", "s", 5, 65535),
	"try_private":                    bridgeFlag("try_private"),
	"round_robin":                    bridgeFlag("round_robin"),
	"start_type":                     (*translation).bridgeStart,
	"threshold":                      bridgeCount("threshold", "", 1, 1_000_000_000),
	"idle_timeout":                   bridgeCount("idle_timeout", "s", 1, 86400),
	"restart_timeout":                (*translation).bridgeRestart,
	"bridge_receive_maximum":         bridgeCount("max_inflight", "", 1, 65535),
	"bridge_outgoing_retain":         bridgeFlag("outgoing_retain"),
	"notifications":                  (*translation).bridgeNotify,
	"notifications_local_only":       (*translation).bridgeNotify,
	"notification_topic":             bridgeText("notification_topic"),
	"bridge_cafile":                  bridgeFile("ca"),
	"bridge_certfile":                bridgeFile("certificate"),
	"bridge_keyfile":                 bridgeFile("key"),
	"bridge_tls_use_os_certs":        (*translation).bridgeSystem,
	"bridge_capath":                  (*translation).bridgeFolder,
	"bridge_alpn":                    bridgeFile("alpn"),
	"bridge_insecure":                (*translation).bridgeInsecure,
	"bridge_tls_version":             (*translation).bridgeVersion,
	"bridge_identity":                bridgeLost("there are no shared keys (PSK) here; give the bridge certificates"),
	"bridge_psk":                     bridgeLost("there are no shared keys (PSK) here; give the bridge certificates"),
	"bridge_require_ocsp":            (*translation).bridgeOCSP,
	"bridge_max_packet_size":         (*translation).bridgePacket,
	"bridge_attempt_unsubscribe":     (*translation).bridgeUnsubscribe,
}

// secret tells whether the value of a directive is never shown.
func secret(name string) bool {
	return slices.Contains([]string{"password", "remote_password", "local_password", "bridge_psk"}, name)
}

// connection begins a bridge.
func (t *translation) connection(d Directive) {
	at := &joined{from: d, name: d.Value}
	if strings.ContainsAny(d.Value, "/+#") {
		at.name = strings.NewReplacer("/", "-", "+", "-", "#", "-").Replace(d.Value)
		t.note(d, false, "a name is one level of a topic name: "+at.name+" stands for it")
	}
	if slices.ContainsFunc(t.bridges, func(other *joined) bool { return other.name == at.name }) {
		t.problem(d, "there is another connection called %s", at.name)
	}
	t.bridges = append(t.bridges, at)
}

// bridged has a directive that is about a connection say something of the last one.
func (t *translation) bridged(rule func(*translation, *joined, Directive), d Directive) {
	if len(t.bridges) == 0 {
		t.problem(d, "no connection stands before it")
		return
	}
	rule(t, t.bridges[len(t.bridges)-1], d)
}

// set sets a key; the last one holds.
func (at *joined) set(key, value string, from Directive) {
	at.keys = slices.DeleteFunc(at.keys, func(s setting) bool { return s.key == key })
	at.keys = append(at.keys, setting{key, value, from})
}

// value is what a key was set to; empty: it was not.
func (at *joined) value(key string) string {
	for _, s := range at.keys {
		if s.key == key {
			return s.value
		}
	}
	return ""
}

func bridgeText(key string) func(*translation, *joined, Directive) {
	return func(_ *translation, at *joined, d Directive) { at.set(key, quoted(d.Value), d) }
}

func bridgeFlag(key string) func(*translation, *joined, Directive) {
	return func(t *translation, at *joined, d Directive) { at.set(key, fmt.Sprint(t.is(d)), d) }
}

func bridgeLost(why string) func(*translation, *joined, Directive) {
	return func(t *translation, at *joined, d Directive) {
		at.lost = d.Name + ": " + why
		t.note(d, false, why)
	}
}

// bridgeCount is the rule of a number in a unit. Mosquitto takes none below the least one.
func bridgeCount(key, unit string, least, most int64) func(*translation, *joined, Directive) {
	return func(t *translation, at *joined, d Directive) {
		n := t.number(d)
		if n < least {
			t.problem(d, "%d is the least", least)
		}
		at.set(key, t.atMost(d, n, most)+unit, d)
	}
}

// atMost is a number no higher than can be said here.
func (t *translation) atMost(d Directive, n, most int64) string {
	if n > most {
		t.note(d, false, fmt.Sprintf("%d is the most here, and stands for it", most))
	}
	return fmt.Sprint(min(n, most))
}

// bridgeFile is the rule of a key that means something with TLS only.
func bridgeFile(key string) func(*translation, *joined, Directive) {
	return func(_ *translation, at *joined, d Directive) {
		at.tls = at.tls || key == "ca"
		at.option(key, quoted(d.Value), d)
	}
}

func (at *joined) option(key, value string, d Directive) {
	at.options = slices.DeleteFunc(at.options, func(s setting) bool { return s.key == key })
	at.options = append(at.options, setting{key, value, d})
}

func (t *translation) bridgeAddress(at *joined, d Directive) {
	var all []string
	if at.addresses.value != "" {
		all = append(all, at.addresses.value)
	}
	for address := range strings.FieldsSeq(d.Value) {
		host, port := address, "1883"
		if i := strings.LastIndexByte(address, ':'); i >= 0 && !strings.HasSuffix(address, "]") {
			host, port = address[:i], address[i+1:]
		}
		bare := strings.Trim(host, "[]")
		n, err := strconv.Atoi(port)
		switch {
		case bare == "" || strings.Contains(host, ",") || strings.Contains(bare, ":") && !strings.HasPrefix(host, "["):
			t.problem(d, "%q is neither host nor host:port, with [ and ] around an address of IPv6", address)
		case err != nil || n < 1 || n > 65535:
			t.problem(d, "%q is no port", port)
		}
		all = append(all, host+":"+port)
	}
	at.addresses = setting{"addresses", strings.Join(all, ","), d}
}

// bridgeTopic reads: pattern [[[out | in | both] qos] local-prefix remote-prefix]. "" is an empty one.
func (t *translation) bridgeTopic(at *joined, d Directive) {
	words := strings.Fields(d.Value)
	for i, word := range words {
		if word == `""` {
			words[i] = ""
		}
	}
	const most = 5
	if len(words) > most {
		t.problem(d, "%d words follow the pattern, at most %d can", len(words)-1, most-1)
		return
	}
	words = append(words, make([]string, most-len(words))...)
	filter, direction, qos := words[0], cmp.Or(words[1], "out"), cmp.Or(words[2], "0")
	switch {
	case !slices.Contains([]string{"in", "out", "both"}, direction):
		t.problem(d, "%q is none of out, in and both", direction)
		return
	case !slices.Contains([]string{"0", "1", "2"}, qos):
		t.problem(d, "%q is no QoS", qos)
		return
	case filter == "" && (words[3] == "" || words[4] == ""):
		t.problem(d, "an empty pattern needs both prefixes")
		return
	}
	var line strings.Builder
	fmt.Fprintf(&line, "{ filter: %s, direction: %s, qos: %s", quoted(filter), direction, qos)
	for i, key := range []string{"local_prefix", "remote_prefix"} {
		if prefix := words[3+i]; prefix != "" {
			fmt.Fprintf(&line, ", %s: %s", key, quoted(prefix))
		}
	}
	line.WriteString(" }")
	at.topics = append(at.topics, setting{"", line.String(), d})
}

func (t *translation) bridgeProtocol(at *joined, d Directive) {
	version := map[string]string{"mqttv31": "3.1", "mqttv311": "3.1.1", "mqttv50": "5"}[d.Value]
	if version == "" {
		t.problem(d, "%q is none of mqttv31, mqttv311 and mqttv50", d.Value)
		return
	}
	at.set("protocol", quoted(version), d)
}

// bridgePassword names a file for the password, which is printed nowhere.
func (t *translation) bridgePassword(at *joined, d Directive) {
	file := path.Join(path.Dir(d.File), at.name+".password")
	at.set("password_file", quoted(file), d)
	t.note(d, false, "write the password to "+file+", which nobody but Firth may read (mode 0600)")
}

func (t *translation) bridgeLocalClean(_ *joined, d Directive) {
	t.note(d, !t.is(d), "what is to go out waits in the log while the other server is away")
}

func (t *translation) bridgeExpiry(at *joined, d Directive) {
	const never, century = 1<<32 - 1, 36500 * 86400
	switch n := t.number(d); {
	case n < 0 || n > never:
		t.problem(d, "%d is out of range", n)
	case n == 0:
		at.set("clean_session", "true", d)
	case n == never:
		at.set("session_expiry", "forever", d)
	default:
		at.set("session_expiry", t.atMost(d, n, century)+"s", d)
	}
}

func (t *translation) bridgeStart(at *joined, d Directive) {
	if !slices.Contains([]string{"automatic", "lazy", "once"}, d.Value) {
		t.problem(d, "%q is none of automatic, lazy and once", d.Value)
		return
	}
	at.set("start", d.Value, d)
}

// bridgeRestart reads one time, or the least and the most of a time that grows, in seconds.
func (t *translation) bridgeRestart(at *joined, d Directive) {
	words := strings.Fields(d.Value)
	if len(words) == 1 {
		words = append(words, words[0])
	}
	var times [2]int64
	for i, word := range words[:2] {
		n, err := strconv.ParseInt(word, 10, 32)
		if err != nil || n < 1 {
			t.problem(d, "%q is no number of seconds above 0", word)
			return
		}
		times[i] = n
	}
	if len(words) > 2 || times[1] < times[0] {
		t.problem(d, "want one time, or a lower and a higher one")
		return
	}
	const hour, day = 3600, 86400
	at.set("restart_min", t.atMost(d, times[0], hour)+"s", d)
	at.set("restart_max", fmt.Sprint(min(times[1], day))+"s", d)
}

func (t *translation) bridgeNotify(at *joined, d Directive) {
	yes := t.is(d)
	switch was := at.value("notifications"); {
	case d.Name == "notifications" && !yes:
		at.set("notifications", quoted("off"), d)
	case d.Name == "notifications_local_only" && yes && was != quoted("off"):
		at.set("notifications", "local", d)
	}
}

func (t *translation) bridgeSystem(at *joined, d Directive) { at.tls = at.tls || t.is(d) }

// bridgeFolder keeps the connection closed to whom only other authorities know: a folder is no file, and until ca names
// one the bridge does not connect.
func (t *translation) bridgeFolder(at *joined, d Directive) {
	at.tls = true
	switch {
	case path.Clean(d.Value) == "/etc/ssl/certs":
		t.note(d, true, "without ca the authorities are those that the system knows")
	case slices.ContainsFunc(at.options, func(s setting) bool { return s.key == "ca" }):
		t.note(d, false, "put the certificates of the folder into the file of bridge_cafile")
	default:
		at.option("ca", quoted(d.Value), d)
		t.note(d, false, "put the certificates of the folder into one file, and have ca name it: before, nothing connects")
	}
}

func (t *translation) bridgeInsecure(at *joined, d Directive) {
	if t.is(d) {
		at.option("insecure", "true", d)
	}
}

func (t *translation) bridgeVersion(_ *joined, d Directive) {
	t.note(d, d.Value == "tlsv1.2", "TLS 1.2 or newer is spoken, the newest that both know")
}

func (t *translation) bridgeOCSP(at *joined, d Directive) {
	if t.is(d) {
		bridgeLost("stapled answers (OCSP) are not checked here, and without them it would be less safe")(t, at, d)
	}
}

func (t *translation) bridgePacket(_ *joined, d Directive) {
	t.note(d, t.number(d) == 0, "limits.packet bounds what comes in; a server of MQTT 5 says what it takes, and what is "+
		"larger is counted as too_large")
}

func (t *translation) bridgeUnsubscribe(_ *joined, d Directive) {
	t.note(d, t.is(d), "a bridge subscribes there to what comes in, and to nothing else")
}

// finishBridges leaves out those that cannot be what they were, and says what changes.
func (t *translation) finishBridges() {
	t.bridges = slices.DeleteFunc(t.bridges, func(at *joined) bool {
		why := at.lost
		switch {
		case at.addresses.value == "":
			t.problem(at.from, "it has no address")
		case why == "" && len(at.topics) == 0:
			why = "it has no topic"
		}
		if why != "" {
			t.note(at.from, false, "the bridge is left out: "+why)
		}
		return why != ""
	})
	for _, at := range t.bridges {
		t.finishBridge(at)
	}
}

func (t *translation) finishBridge(at *joined) {
	if at.value("protocol") == "" {
		at.set("protocol", quoted("3.1.1"), Directive{Name: "bridge_protocol_version", Value: "mqttv311, the default"})
	}
	if at.value("client_id") == "" {
		t.note(at.from, false, "without remote_clientid it has a session of its own there: give it client_id HOST."+at.name+
			", with the name of Mosquitto's machine, to go on with the one that is there")
	}
	if at.value("password_file") != "" && at.value("username") == "" {
		t.problem(at.from, "a password needs remote_username")
	}
	for _, s := range at.options {
		if at.tls {
			at.set(s.key, s.value, s.from)
		} else {
			t.note(s.from, true, "without bridge_cafile the connection is not encrypted")
		}
	}
}

// block is a bridge as an entry of a list of YAML.
func (at *joined) block() string {
	var b strings.Builder
	fmt.Fprintf(&b, "  - name: %s # %s\n", quoted(at.name), at.from)
	fmt.Fprintf(&b, "    addresses: %s # %s\n", quoted(at.addresses.value), at.addresses.from)
	if at.tls {
		b.WriteString("    tls: true\n")
	}
	for _, s := range at.keys {
		fmt.Fprintf(&b, "    %s: %s # %s\n", s.key, s.value, s.from)
	}
	b.WriteString("    topics:\n")
	for _, topic := range at.topics {
		fmt.Fprintf(&b, "      - %s # %s\n", topic.value, topic.from)
	}
	return b.String()
}
