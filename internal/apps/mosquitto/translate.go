package mosquitto

import (
	"cmp"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/firthmq/firth/internal/kit/fault"
)

// Translation is what a mosquitto.conf says, in our keys.
type Translation struct {
	Notes []Note // in the order of the file
	keys  []setting
	doors []*door
	open  bool // listeners that nobody has to log in to, beyond this machine

	bridges []*joined
}

// setting is one key of ours.
type setting struct {
	key, value string
	from       Directive
}

// door is one listener.
type door struct {
	from               Directive
	port, host, domain string
	unix               string
	ws, proxy, tls     bool
	shows              [6]string // certificate, key and the like, by their place in shown
	identity           bool      // the certificate of a client says who it is
	psk                bool
	most               string // connections; empty: unlimited
	anonymous          *bool  // as the listener says
}

// translation is a translation under way.
type translation struct {
	Translation
	levels    []string   // of the log
	anonymous bool       // as is said for all
	said      *Directive // the last allow_anonymous; nil: there is none
	problems  []string
	first     *door // port and bind_address

	identified string // what names the users of certificates; "": nothing was said
}

// Translate translates directives. Errors: Invalid names all lines that Mosquitto would not take.
func Translate(all []Directive) (*Translation, error) {
	t := &translation{}
	for _, d := range all {
		t.directive(d)
	}
	t.finishBridges()
	if len(t.problems) > 0 {
		return nil, fault.New(fault.Invalid, "mosquitto", "%s", strings.Join(t.problems, "\n"))
	}
	t.log()
	t.finishDoors()
	slices.SortStableFunc(t.Notes, func(a, b Note) int {
		if a.File != b.File {
			return 0
		}
		return cmp.Compare(a.Line, b.Line)
	})
	return &t.Translation, nil
}

// rules are the directives with keys of ours.
var rules = map[string]func(t *translation, d Directive){
	"connection":                   (*translation).connection,
	"listener":                     (*translation).listener,
	"port":                         func(t *translation, d Directive) { t.byDefault(d).port = d.Value; t.number(d) },
	"bind_address":                 func(t *translation, d Directive) { t.byDefault(d).host = d.Value },
	"protocol":                     (*translation).protocol,
	"max_connections":              (*translation).maxConnections,
	"socket_domain":                func(t *translation, d Directive) { t.door(d).domain = d.Value },
	"enable_proxy_protocol":        func(t *translation, d Directive) { t.door(d).proxy = t.number(d) > 0 },
	"allow_anonymous":              (*translation).allowAnonymous,
	"websockets_origin":            (*translation).origin,
	"cafile":                       file(itsAuthorities, true),
	"certfile":                     file(itsCertificate, true),
	"keyfile":                      file(itsKey, true),
	"crlfile":                      file(itsCRL, false),
	"require_certificate":          (*translation).demand,
	"tls_version":                  (*translation).version,
	"use_identity_as_username":     identity("${cert.cn}"),
	"use_subject_as_username":      identity("${cert.subject}"),
	"log_type":                     func(t *translation, d Directive) { t.levels = append(t.levels, d.Value) },
	"log_dest":                     (*translation).logDest,
	"persistence":                  (*translation).persistence,
	"persistence_location":         (*translation).location,
	"persistent_client_expiration": (*translation).expiration,
	"queue_qos0_messages":          (*translation).queueQoS0,
	"max_inflight_messages":        (*translation).inflight,
	"max_packet_size":              func(t *translation, d Directive) { t.packet(d, t.number(d)) },
	"message_size_limit":           (*translation).messageSize,
	"sys_interval":                 func(t *translation, d Directive) { t.counted("mqtt.sys_interval", "s", d) },
	"max_topic_alias_broker":       func(t *translation, d Directive) { t.counted("mqtt.topic_aliases", "", d) },
}

// encrypts are the directives without a key of ours that make a listener one with TLS.
var encrypts = []string{"capath", "psk_hint"}

// shown are the keys of a listener with TLS.
var shown = [...]string{"certificate", "key", "client_ca", "client_auth", "crl", "min_version"}

// Places in shown.
const (
	itsCertificate = iota
	itsKey
	itsAuthorities
	itsDemand
	itsCRL
	itsVersion
)

// file is the rule of a directive that names a file of TLS.
func file(place int, encrypts bool) func(t *translation, d Directive) {
	return func(t *translation, d Directive) {
		at := t.door(d)
		at.shows[place] = d.Value
		at.tls = at.tls || encrypts
	}
}

func (t *translation) demand(d Directive) {
	if t.is(d) {
		t.door(d).shows[itsDemand] = "require"
	}
}

func (t *translation) version(d Directive) {
	switch d.Value {
	case "tlsv1.3":
		t.door(d).shows[itsVersion] = "1.3"
	case "tlsv1.2":
	default:
		t.note(d, false, "clients need TLS 1.2 or newer")
	}
}

// identity is the rule of a directive that has certificates say who clients are. All listeners have the same here.
func identity(template string) func(t *translation, d Directive) {
	return func(t *translation, d Directive) {
		if !t.is(d) {
			return
		}
		t.door(d).identity = true
		switch t.identified {
		case "", template:
			t.identified = template
			t.set("access.certificate_identity", quoted(template), d)
		default:
			t.note(d, false, "another listener names certificates by something else: one way holds for all here")
		}
	}
}

func (t *translation) directive(d Directive) {
	if strings.ContainsFunc(d.Value, notText) || !utf8.ValidString(d.Value) {
		if secret(d.Name) {
			d.Value = "a secret"
		}
		t.problem(d, "%q is no text", d.Value)
		return
	}
	rule, ofBridge := rules[d.Name], bridgeRules[d.Name]
	switch {
	case rule == nil && ofBridge == nil:
	case d.Value == "":
		t.problem(d, "a value is missing")
		return
	case rule != nil:
		rule(t, d)
		return
	default:
		t.bridged(ofBridge, d)
		return
	}
	name := d.Name
	for _, prefix := range []string{"auth_opt_", "plugin_opt_"} {
		if strings.HasPrefix(name, prefix) {
			name = prefix
		}
	}
	switch why, needed := missing[name]; {
	case needed:
		t.note(d, false, why)
		if slices.Contains(encrypts, name) {
			t.door(d).tls, t.door(d).psk = true, true
		}
	case needless[name] != "":
		t.note(d, true, needless[name])
	default:
		t.problem(d, "Mosquitto has no such directive")
	}
}

func notText(r rune) bool { return !unicode.IsPrint(r) && r != '\t' }

func (t *translation) note(d Directive, needless bool, why string) {
	t.Notes = append(t.Notes, Note{Directive: d, Needless: needless, Why: why})
}

func (t *translation) problem(d Directive, format string, args ...any) {
	t.problems = append(t.problems, fmt.Sprintf("%s: %s: ", d.Place, d.Name)+fmt.Sprintf(format, args...))
}

// set sets a key; the last one holds.
func (t *translation) set(key, value string, from Directive) {
	t.keys = slices.DeleteFunc(t.keys, func(s setting) bool { return s.key == key })
	t.keys = append(t.keys, setting{key, value, from})
}

// counted sets a key to the number that a directive gives, in a unit.
func (t *translation) counted(key, unit string, d Directive) {
	t.set(key, fmt.Sprint(t.number(d))+unit, d)
}

func (t *translation) number(d Directive) int64 {
	n, err := strconv.ParseInt(d.Value, 10, 64)
	if err != nil {
		t.problem(d, "%q is no whole number", d.Value)
	}
	return n
}

func (t *translation) is(d Directive) bool {
	switch strings.ToLower(d.Value) {
	case "true", "1":
		return true
	case "false", "0":
	default:
		t.problem(d, "%q is neither true nor false", d.Value)
	}
	return false
}

// byDefault is the listener of port and bind_address.
func (t *translation) byDefault(d Directive) *door {
	if t.first == nil {
		t.first = &door{from: d, port: "1883"}
		t.doors = append(t.doors, t.first)
	}
	return t.first
}

// door is the listener that a directive is about: the last one.
func (t *translation) door(d Directive) *door {
	if len(t.doors) == 0 {
		return t.byDefault(d)
	}
	return t.doors[len(t.doors)-1]
}

func (t *translation) listener(d Directive) {
	port, host, _ := strings.Cut(d.Value, " ")
	at := &door{from: d, port: port, host: strings.TrimSpace(host)}
	n, err := strconv.Atoi(port)
	switch {
	case err != nil || n < 0 || n > 65535:
		t.problem(d, "%q is no port", port)
	case n == 0 && strings.HasPrefix(at.host, "/"):
		at.unix = at.host
	case n == 0:
		t.problem(d, "port 0 is for a Unix socket, whose path must follow")
	}
	t.doors = append(t.doors, at)
}

func (t *translation) protocol(d Directive) {
	switch d.Value {
	case "mqtt":
	case "websockets":
		t.door(d).ws = true
	default:
		t.problem(d, "%q is neither mqtt nor websockets", d.Value)
	}
}

func (t *translation) maxConnections(d Directive) {
	if n := t.number(d); n > 0 {
		t.door(d).most = d.Value
	}
}

func (t *translation) allowAnonymous(d Directive) {
	yes := t.is(d)
	t.said = &d
	if len(t.doors) == 0 {
		t.anonymous = yes
	} else {
		t.doors[len(t.doors)-1].anonymous = &yes
	}
}

func (t *translation) persistence(d Directive) {
	if !t.is(d) {
		t.note(d, false, "everything is kept; topics.defaults.durability: memory acknowledges before it is on the disk")
	} else {
		t.note(d, true, durable)
	}
}

func (t *translation) origin(d Directive) { t.set("ws_origins", "["+quoted(d.Value)+"]", d) }

func (t *translation) location(d Directive) { t.set("data", quoted(path.Join(d.Value, "firth")), d) }

func (t *translation) queueQoS0(d Directive) { t.set("sessions.queue_qos0", fmt.Sprint(t.is(d)), d) }

func (t *translation) logDest(d Directive) {
	where, _, _ := strings.Cut(d.Value, " ")
	if where == "stderr" {
		t.note(d, true, "the log goes to standard error")
		return
	}
	t.note(d, false, "the log goes to standard error, where a service manager takes it")
}

// log sets the level of the log by the most talkative of log_type.
func (t *translation) log() {
	least := -1
	names := []string{"error", "warn", "info", "debug"}
	for _, level := range t.levels {
		at := 3 // all, debug, subscribe, unsubscribe, websockets, internal
		switch level {
		case "none":
			continue
		case "error":
			at = 0
		case "warning":
			at = 1
		case "notice", "information":
			at = 2
		}
		least = max(least, at)
	}
	if least >= 0 {
		t.set("log.level", names[least], Directive{Name: "log_type"})
	}
}

// units are those of persistent_client_expiration, in days; hours are apart.
var units = map[byte]int64{'d': 1, 'w': 7, 'm': 30, 'y': 365}

func (t *translation) expiration(d Directive) {
	unit := d.Value[len(d.Value)-1]
	n, err := strconv.ParseInt(d.Value[:len(d.Value)-1], 10, 32)
	switch days := units[unit]; {
	case err != nil || n <= 0 || days == 0 && unit != 'h':
		t.problem(d, "%q is not a number with h, d, w, m or y behind it", d.Value)
	case unit == 'h':
		t.set("sessions.max_expiry", fmt.Sprintf("%dh", n), d)
	default:
		t.set("sessions.max_expiry", fmt.Sprintf("%dd", n*days), d)
	}
}

func (t *translation) inflight(d Directive) {
	const most = 16000
	n := t.number(d)
	if n <= 0 || n > most { // 0 is no limit
		n = most
	}
	t.set("limits.inflight", fmt.Sprint(n), d)
}

// The bounds of limits.packet.
const leastPacket, mostPacket = 1 << 10, 268_435_455

func (t *translation) packet(d Directive, n int64) {
	if n <= 0 {
		n = mostPacket
	}
	t.set("limits.packet", fmt.Sprint(min(max(n, leastPacket), mostPacket)), d)
}

func (t *translation) messageSize(d Directive) {
	const beside = 64 << 10 // a topic name of any length
	if n := t.number(d); n > 0 {
		t.packet(d, n+beside)
	} else {
		t.packet(d, 0)
	}
}

// lost tells why a listener with TLS cannot be one here; "": it can. One that asked for a password besides a
// certificate would be more open than it was.
func (t *translation) lost(at *door, free bool) string {
	switch {
	case !at.tls:
		return ""
	case at.psk || at.shows[itsCertificate] == "" || at.shows[itsKey] == "":
		return needsTLS
	case at.shows[itsDemand] != "" && !free && !at.identity:
		return needsLogin
	}
	return ""
}

// free tells whether nobody had to log in to a listener.
func (t *translation) free(at *door) bool {
	if at.anonymous != nil {
		return *at.anonymous
	}
	return t.anonymous
}

// finishDoors leaves out listeners that cannot be what they were, and opens those beyond this machine only where nobody
// had to log in before.
func (t *translation) finishDoors() {
	t.doors = slices.DeleteFunc(t.doors, func(at *door) bool {
		why := t.lost(at, t.free(at))
		if why != "" {
			t.note(at.from, false, why)
		}
		return why != ""
	})
	t.sayAnonymous()
	for _, at := range t.doors {
		free := t.free(at)
		switch {
		case at.unix != "" || loopback(at.host) || at.shows[itsDemand] != "":
		case free:
			t.open = true
		default:
			t.note(at.from, false, needsLogin+"; Firth will not start with this one")
		}
	}
}

// sayAnonymous has access.anonymous say what allow_anonymous did, where it said the same of all listeners.
func (t *translation) sayAnonymous() {
	if t.said == nil {
		return
	}
	free := t.anonymous
	for i, at := range t.doors {
		if i == 0 {
			free = t.free(at)
		} else if t.free(at) != free {
			t.note(*t.said, false, mixedAnonymous)
			return
		}
	}
	value := "deny"
	if free {
		value = "allow"
	}
	t.set("access.anonymous", value, *t.said)
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
