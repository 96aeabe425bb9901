package node

import (
	"encoding/json"
	"fmt"
	"regexp"

	"github.com/firthmq/firth/internal/mqtt/packet"
)

// The secrets of the access matrix: each message of the operator has one of its own in a user property and one in its
// payload, which masks take away.

const secretHeader = "mx-secret"

// secrets are as they lie in what came, whatever is around them.
var secrets = regexp.MustCompile(`#\d\.[a-z0-9]+\.\d+#`)

// secretOf is the secret of a message, by what is in its payload that no other has.
func secretOf(id string) string { return "#" + id[1:len(id)-1] + "#" }

// secretly is a message with secrets.
func secretly(name, id string) *packet.Publish {
	p := &packet.Publish{Topic: []byte(name), QoS: 1,
		Payload: fmt.Appendf(nil, `{"id":"%s","in":[{"secret":"%s"},{}]}`, id, secretOf(id))}
	p.Props.AddUser(secretHeader, secretOf(id))
	return p
}

// secretsIn are those in parts of a message.
func secretsIn(parts ...[]byte) (all [][]byte) {
	for _, part := range parts {
		all = append(all, secrets.FindAll(part, -1)...)
	}
	return all
}

// judgeMasks judges what was seen of a message that came: no secret where masks are, and else those that its client can
// see: MQTT 3 has no user properties.
func (m *matrix) judgeMasks(path string, d *visitor, name, payload string) {
	if !d.has(payload) {
		return
	}
	d.mu.Lock()
	seen := d.secrets[payload]
	d.mu.Unlock()
	all := 1
	if d.v5 {
		all = 2
	}
	if m.oracle.maskedName(d.who, name) {
		all = 1 // is a leak
	}
	m.judge(path+" masked", d.who, name, !m.oracle.maskedName(d.who, name), seen >= all)
}

// unveils judges the secrets in an answer with the messages in it.
func (b *backEnd) unveils(path string, raw []byte, got map[string]bool, topics []string) {
	seen := map[string]int{}
	for _, secret := range secrets.FindAllString(string(raw), -1) {
		seen[secret]++
	}
	some, all := map[string]bool{}, map[string]bool{}
	for _, topic := range topics {
		for _, payload := range b.m.sentTo[topic] {
			if !got[payload] {
				continue
			}
			if _, known := all[topic]; !known {
				all[topic] = true
			}
			n := seen[secretOf(payload)]
			some[topic], all[topic] = some[topic] || n > 0, all[topic] && n >= 2 // more where it was restored
		}
	}
	for topic := range all {
		may := !b.m.oracle.maskedTopic(b.who, topic)
		b.m.judge(path+" masked", b.who, topic, may, some[topic] && (all[topic] || !may))
	}
}

// unveiled judges a page that shows a message.
func (m *matrix) unveiled(who *person, page string, text []byte) {
	var shown struct {
		Topic   string
		Payload []byte
		User    [][2]string `json:"user_properties"`
	}
	if json.Unmarshal(text, &shown) != nil || !payloads.Match(shown.Payload) {
		return
	}
	seen := len(secretsIn(shown.Payload, fmt.Append(nil, shown.User)))
	may := !m.oracle.maskedName(who, shown.Topic)
	m.judge("HTTP masked", who, page, may, seen == 2 || !may && seen > 0)
}
