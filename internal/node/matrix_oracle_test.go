package node

import (
	"net/netip"
	"slices"
	"strings"
)

// The oracle of the access matrix: who may do what, decided by looking at every rule each time, in the plainest way.
// It shares no code with access/rule, names or hinge, so that a fault of theirs is not a fault of its own.

// said is a rule as the administrative interface takes it.
type said struct {
	Effect     string   `json:"effect"`
	Principal  string   `json:"principal"`
	Operations []string `json:"operations"`
	Kind       string   `json:"kind"`
	Pattern    string   `json:"pattern"`
	Name       string   `json:"name"`
	Networks   []string `json:"networks,omitempty"`
	Listener   string   `json:"listener,omitempty"`
	TLS        bool     `json:"tls,omitempty"`
	ClientID   string   `json:"client_id,omitempty"`
	given      bool     // by the service that knows its user
	levels     []string // of its name
	Masks      []string `json:"masks,omitempty"`
}

// person is one connection as the oracle knows it.
type person struct {
	user, client, cn, listener, address string
	tls                                 bool
	leaves                              bool // it is disabled in the last phase
	elsewhere                           bool // the service of logins knows it, and no list of users
	roles                               []string
}

// oracle is what holds at one time.
type oracle struct {
	rules []said
	roles map[string][]string // of users who have other ones than at first
	out   map[string]bool     // users who are not served

	topics map[string]bool // what was decided about topics of the log, which takes long
}

// concerns tells whether a rule is about somebody.
func (o *oracle) concerns(r *said, who *person) bool {
	if o.out[who.user] {
		return false
	}
	roles, changed := o.roles[who.user]
	if !changed {
		roles = who.roles
	}
	is := r.Principal == "User:"+who.user || r.Principal == "User:*"
	for _, role := range roles {
		is = is || r.Principal == "Role:"+role
	}
	if r.TLS && !who.tls || r.Listener != "" && r.Listener != who.listener {
		return false
	}
	if prefix, open := strings.CutSuffix(r.ClientID, "*"); open && !strings.HasPrefix(who.client, prefix) ||
		!open && r.ClientID != "" && r.ClientID != who.client {
		return false
	}
	from := len(r.Networks) == 0
	for _, text := range r.Networks {
		from = from || who.address != "" && netip.MustParsePrefix(text).Contains(netip.MustParseAddr(who.address))
	}
	return is && from
}

// implies are the operations whose right is a right to another one too.
var implies = map[string][]string{
	"describe":         {"read", "write", "delete", "alter"},
	"describe_configs": {"alter_configs"},
}

// counts tells whether a rule has a say about an operation: what it allows implies more than what it denies.
func (r *said) counts(operation string) bool {
	if slices.Contains(r.Operations, operation) || slices.Contains(r.Operations, "all") {
		return true
	}
	return r.Effect == "allow" && slices.ContainsFunc(implies[operation], func(other string) bool {
		return slices.Contains(r.Operations, other)
	})
}

// decide goes through the rules: about tells whether one is about the thing.
func (o *oracle) decide(who *person, operation string, about func(r *said) bool) bool {
	allowed := false
	for i := range o.rules {
		r := &o.rules[i]
		if r.Effect == "mask" || !r.counts(operation) || !about(r) || !o.concerns(r, who) {
			continue
		}
		if r.Effect == "deny" {
			return false
		}
		allowed = true
	}
	return allowed
}

// name decides about a topic name of devices.
func (o *oracle) name(who *person, operation, name string) bool {
	levels, topic := split(name), logTopic(name)
	return o.decide(who, operation, func(r *said) bool {
		switch {
		case r.Kind != "topic":
			return false
		case r.Pattern == "filter":
			return isAbout(r, levels, who)
		}
		return name[0] != '$' && r.byName(topic)
	})
}

// topic decides about a topic of the log: a rule about names allows it if it is about all that the topic can hold, and
// denies it if it is about some of it.
func (o *oracle) topic(who *person, operation, topic string) bool {
	key := strings.Join([]string{who.user, who.client, who.listener, operation, topic}, "\x00")
	may, known := o.topics[key]
	if !known {
		may = o.ofTopic(who, operation, topic)
		o.topics[key] = may
	}
	return may
}

func (o *oracle) ofTopic(who *person, operation, topic string) bool {
	return o.decide(who, operation, func(r *said) bool {
		switch {
		case r.Kind != "topic":
			return false
		case r.Pattern != "filter":
			return r.byName(topic)
		}
		some, all := false, true
		for _, name := range samples(topic, r.Name, who) {
			one := isAbout(r, split(name), who)
			some, all = some || one, all && one
		}
		return r.Effect == "deny" && some || r.Effect == "allow" && all
	})
}

// maskedName tells whether not all may be seen of the messages with a name, and maskedTopic of the records of a topic.
func (o *oracle) maskedName(who *person, name string) bool {
	levels, topic := split(name), logTopic(name)
	return o.masked(who, func(r *said) bool {
		return r.Pattern == "filter" && isAbout(r, levels, who) || r.Pattern != "filter" && r.byName(topic)
	})
}

func (o *oracle) maskedTopic(who *person, topic string) bool {
	return o.masked(who, func(r *said) bool {
		if r.Pattern != "filter" {
			return r.byName(topic)
		}
		return slices.ContainsFunc(samples(topic, r.Name, who), func(name string) bool {
			return isAbout(r, split(name), who)
		})
	})
}

func (o *oracle) masked(who *person, about func(r *said) bool) bool {
	for i := range o.rules {
		if r := &o.rules[i]; r.Effect == "mask" && about(r) && o.concerns(r, who) {
			return true
		}
	}
	return false
}

// resource decides about what is no topic.
func (o *oracle) resource(who *person, operation, kind, name string) bool {
	return o.decide(who, operation, func(r *said) bool { return r.Kind == kind && r.byName(name) })
}

func (r *said) byName(name string) bool {
	internal := r.Kind == "topic" && strings.HasPrefix(name, "__firth_")
	switch {
	case r.Pattern == "prefixed":
		return strings.HasPrefix(name, r.Name) && (!internal || strings.HasPrefix(r.Name, "__firth_"))
	case r.Name == "*":
		return !internal
	}
	return r.Name == name
}

func split(name string) []string { return strings.Split(name, "/") }

// isAbout holds the levels of a name against the filter of a rule. Wildcards do not begin what begins with $.
func isAbout(r *said, levels []string, who *person) bool {
	filter := r.levels
	if strings.HasPrefix(levels[0], "$") && (filter[0] == "+" || filter[0] == "#") {
		return false
	}
	for i, want := range filter {
		switch {
		case want == "#":
			return true
		case i == len(levels):
			return false
		case !isLevel(want, levels[i], who, r.Effect != "allow"):
			return false
		case i == len(filter)-2 && filter[i+1] == "#" && i == len(levels)-1:
			return true // x/# is about x too
		}
	}
	return len(filter) == len(levels)
}

// isLevel holds one level against that of a filter. A template is the text that the person has; if that is no text of
// one level, nothing matches it, but where it denies everything does.
func isLevel(want, level string, who *person, denied bool) bool {
	switch {
	case want == "+":
		return true
	case !strings.Contains(want, "${"):
		return want == level
	}
	for variable, value := range map[string]string{
		"${clientid}": who.client, "${username}": who.user, "${cert.cn}": who.cn,
	} {
		switch {
		case !strings.Contains(want, variable):
		case value == "" || strings.ContainsAny(value, "+#/\x00"):
			return denied
		default:
			return strings.ReplaceAll(want, variable, value) == level
		}
	}
	return want == level
}

// logTopic is where names go: by their first level, but for the one rule of the mapping that the matrix has.
func logTopic(name string) string {
	switch levels := split(name); {
	case levels[0] == zoneLevel && len(levels) >= 2:
		return zoneTopic
	default:
		for _, c := range levels[0] {
			if c > 127 {
				return "mqtt"
			}
		}
		return levels[0]
	}
}

const (
	zoneLevel = "mxzone"
	zoneTopic = "mxzones"
)

// samples are names that a topic of the log can hold: below what it is called, below what the mapping sends it, and
// what a filter is about if it begins so.
func samples(topic, filter string, who *person) []string {
	roots := []string{topic}
	if topic == zoneTopic {
		roots = []string{zoneTopic, zoneLevel + "/a", zoneLevel + "/b"}
	}
	var all []string
	for _, root := range roots {
		all = append(all, root, root+"/qq", root+"/qq/rr", root+"/qq/rr/ss", root+"/live/qq/rr")
	}
	levels := split(filter)
	for i, level := range levels {
		level = strings.ReplaceAll(strings.ReplaceAll(level, "${clientid}", who.client), "${username}", who.user)
		level = strings.ReplaceAll(level, "${cert.cn}", who.cn)
		if level == "+" || level == "#" || strings.ContainsAny(level, "/") {
			level = "qq"
		}
		levels[i] = level
	}
	for _, first := range roots {
		own := slices.Concat(split(first), levels[min(len(split(first)), len(levels)):])
		if split(filter)[0] == split(first)[0] || split(filter)[0] == "+" || split(filter)[0] == "#" {
			all = append(all, strings.Join(own, "/"))
		}
	}
	return all
}
