package mosquitto

import (
	"slices"
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/node"
)

// plant is a connection as they are written, with a bit of everything.
const plant = `# /etc/mosquitto/conf.d/bridge.conf
connection plant
address a.plant.example:8883 b.plant.example [2001:db8::1]:8883
bridge_protocol_version mqttv50
remote_clientid site-17
remote_username alice
remote_password hunter2
local_clientid here-17
local_username bridge
local_password hunter3
cleansession false
local_cleansession true
bridge_session_expiry_interval 86400
keepalive_interval 30
start_type lazy
threshold 5
idle_timeout 90
restart_timeout 10 30
round_robin true
try_private true
notifications true
notifications_local_only true
notification_topic bridges/plant
bridge_cafile /etc/mosquitto/ca.pem
bridge_certfile /etc/mosquitto/site.pem
bridge_keyfile /etc/mosquitto/site.key
bridge_insecure true
bridge_tls_version tlsv1.2
bridge_alpn mqtt
bridge_max_packet_size 65536
bridge_receive_maximum 50
bridge_outgoing_retain false
bridge_attempt_unsubscribe true
topic sensors/# out 1
topic commands/# in 2 plant/ site-17/
topic # both 0 "" shared/
topic "" out 1 lamp lights/lamp
topic plain`

const plantYAML = `bridges:
  - name: "plant" # connection plant, m.conf:2
    addresses: "a.plant.example:8883,b.plant.example:1883,[2001:db8::1]:8883" # address a.plant.example:8883 ` +
	`b.plant.example [2001:db8::1]:8883, m.conf:3
    tls: true
    protocol: "5" # bridge_protocol_version mqttv50, m.conf:4
    client_id: "site-17" # remote_clientid site-17, m.conf:5
    username: "alice" # remote_username alice, m.conf:6
    password_file: "plant.password" # remote_password, m.conf:7
    local_client_id: "here-17" # local_clientid here-17, m.conf:8
    user: "bridge" # local_username bridge, m.conf:9
    clean_session: false # cleansession false, m.conf:11
    session_expiry: 86400s # bridge_session_expiry_interval 86400, m.conf:13
    keepalive: 30s # keepalive_interval 30, m.conf:14
    start: lazy # start_type lazy, m.conf:15
    threshold: 5 # threshold 5, m.conf:16
    idle_timeout: 90s # idle_timeout 90, m.conf:17
    restart_min: 10s # restart_timeout 10 30, m.conf:18
    restart_max: 30s # restart_timeout 10 30, m.conf:18
    round_robin: true # round_robin true, m.conf:19
    try_private: true # try_private true, m.conf:20
    notifications: local # notifications_local_only true, m.conf:22
    notification_topic: "bridges/plant" # notification_topic bridges/plant, m.conf:23
    max_inflight: 50 # bridge_receive_maximum 50, m.conf:31
    outgoing_retain: false # bridge_outgoing_retain false, m.conf:32
    ca: "/etc/mosquitto/ca.pem" # bridge_cafile /etc/mosquitto/ca.pem, m.conf:24
    certificate: "/etc/mosquitto/site.pem" # bridge_certfile /etc/mosquitto/site.pem, m.conf:25
    key: "/etc/mosquitto/site.key" # bridge_keyfile /etc/mosquitto/site.key, m.conf:26
    insecure: true # bridge_insecure true, m.conf:27
    alpn: "mqtt" # bridge_alpn mqtt, m.conf:29
    topics:
      - { filter: "sensors/#", direction: out, qos: 1 } # topic sensors/# out 1, m.conf:34
      - { filter: "commands/#", direction: in, qos: 2, local_prefix: "plant/", remote_prefix: "site-17/" } # topic ` +
	`commands/# in 2 plant/ site-17/, m.conf:35
      - { filter: "#", direction: both, qos: 0, remote_prefix: "shared/" } # topic # both 0 "" shared/, m.conf:36
      - { filter: "", direction: out, qos: 1, local_prefix: "lamp", remote_prefix: "lights/lamp" } # topic "" out 1 ` +
	`lamp lights/lamp, m.conf:37
      - { filter: "plain", direction: out, qos: 0 } # topic plain, m.conf:38
`

// small is the least that a connection needs, with the name that it goes by.
const small = "connection up\naddress example.org\nremote_clientid c\ntopic # both\n"

// TestBridges has connections become bridges that Firth takes, and what they lose is named with its place.
// Long: the table.
func TestBridges(t *testing.T) {
	for name, test := range map[string]struct {
		text  string
		yaml  string   // what must be there
		notes []string // how each begins, or a part of it
	}{
		"with everything": {text: plant, yaml: plantYAML, notes: []string{
			"m.conf:7: remote_password: not translated: write the password to plant.password",
			"m.conf:10: local_password: not needed", "m.conf:12: local_cleansession: not translated",
			"m.conf:28: bridge_tls_version: not needed", "m.conf:30: bridge_max_packet_size: not translated",
			"m.conf:33: bridge_attempt_unsubscribe: not needed",
		}},
		"with little": {
			text: "connection up\naddress example.org\ntopic # both",
			yaml: `    protocol: "3.1.1" # bridge_protocol_version mqttv311, the default` + "\n    topics:\n",
			notes: []string{"m.conf:1: connection: not translated: without remote_clientid it has a session of its own there: " +
				"give it client_id HOST.up"},
		},
		"two": {
			text: small + "notifications false\nbridge_session_expiry_interval 0\nconnection b/c\naddresses h:1 h:2\n" +
				"clientid d\nrestart_timeout 100000\ntopic x\nbridge_session_expiry_interval 4294967295\n" +
				"bridge_bind_address ::1\nbridge_alpn mqtt",
			yaml: `    clean_session: true # bridge_session_expiry_interval 0, m.conf:6
    protocol: "3.1.1" # bridge_protocol_version mqttv311, the default
    topics:
      - { filter: "#", direction: both, qos: 0 } # topic # both, m.conf:4
  - name: "b-c" # connection b/c, m.conf:7
    addresses: "h:1,h:2" # addresses h:1 h:2, m.conf:8
    client_id: "d" # clientid d, m.conf:9
    restart_min: 3600s # restart_timeout 100000, m.conf:10
    restart_max: 86400s # restart_timeout 100000, m.conf:10
    session_expiry: forever`,
			notes: []string{"m.conf:7: connection: not translated: a name is one level", "m.conf:10: restart_timeout",
				"m.conf:13: bridge_bind_address", "m.conf:14: bridge_alpn: not needed"},
		},
		"with a folder of authorities": {
			text: small + "bridge_capath /etc/plant/ca\n", yaml: "    tls: true\n",
			notes: []string{"m.conf:5: bridge_capath: not translated: put the certificates"},
		},
		"with the authorities of the system": {
			text: small + "bridge_capath /etc/ssl/certs/\nconnection v\naddress v:8883\nremote_clientid c\n" +
				"topic x\nbridge_tls_use_os_certs true",
			yaml:  "    tls: true\n    client_id: \"c\" # remote_clientid c, m.conf:3\n    protocol",
			notes: []string{"m.conf:5: bridge_capath: not needed"},
		},
		"that would be less safe": {
			text: small + "bridge_identity me\nbridge_psk c0ffee\nconnection v\naddress v:8883\n" +
				"topic x\nbridge_cafile x\nbridge_require_ocsp true\nconnection w\naddress w\n",
			notes: []string{"m.conf:1: connection: not translated: the bridge is left out: bridge_psk: there are no shared",
				"m.conf:5: bridge_identity", "m.conf:6: bridge_psk", "m.conf:7: connection: not translated: the bridge is left",
				"m.conf:11: bridge_require_ocsp", "m.conf:12: connection: not translated: the bridge is left out: it has no topic"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := translate(t, test.text)
			if err != nil {
				t.Fatal(err)
			}
			text := string(got.YAML())
			if !strings.Contains(text, test.yaml) {
				t.Errorf("got\n%s\nwant\n%s", text, test.yaml)
			}
			if len(got.Notes) != len(test.notes) {
				t.Errorf("notes: %v", got.Notes)
			}
			for i, n := range got.Notes[:min(len(got.Notes), len(test.notes))] {
				if !strings.HasPrefix(n.String(), test.notes[i]) {
					t.Errorf("note %q, want %q", n, test.notes[i])
				}
				text += n.String()
			}
			for _, password := range []string{"hunter2", "hunter3", "c0ffee"} {
				if strings.Contains(text, password) {
					t.Errorf("%s is shown", password)
				}
			}
			if _, err := node.Load(node.Sources{File: "m.yaml", Text: got.YAML()}); err != nil {
				t.Errorf("Firth says %v", err)
			}
		})
	}
}

// TestBridgeRefusals names every line of a connection that Mosquitto would not take, and no secret.
func TestBridgeRefusals(t *testing.T) {
	lines := []string{"topic x", "connection a", "address h:x", "address 2001:db8::1", "topic x up", "topic x in 3",
		`topic "" in 1 a/`, "topic a b c d e f", "bridge_protocol_version 5", "keepalive_interval 4", "start_type manual",
		"restart_timeout 0", "restart_timeout 9 8", "bridge_session_expiry_interval -1", "remote_password hun\ater2",
		"bridge_psk", "connection a"}
	_, err := translate(t, strings.Join(lines, "\n"))
	if !fault.Is(err, fault.Invalid) {
		t.Fatalf("got %v", err)
	}
	for i, line := range lines {
		name, _, _ := strings.Cut(line, " ")
		place := (Place{"m.conf", i + 1}).String() + ": " + name
		if passes := slices.Contains([]int{1}, i); strings.Contains(err.Error(), place+": ") == passes {
			t.Errorf("%s: %v", place, err)
		}
	}
	if strings.Contains(err.Error(), "ter2") {
		t.Errorf("a password is shown: %v", err)
	}
}
