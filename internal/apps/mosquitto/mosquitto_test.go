package mosquitto

import (
	"slices"
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/node"
)

func nothing(string) ([]string, [][]byte, error) { return nil, nil, nil }

func translate(t *testing.T, text string) (*Translation, error) {
	t.Helper()
	all, err := Parse("m.conf", []byte(text), nothing)
	if err != nil {
		t.Fatal(err)
	}
	return Translate(all)
}

// TestTranslate has each configuration become lines of YAML that Firth takes, and notes. Long: the table.
func TestTranslate(t *testing.T) {
	for name, test := range map[string]struct {
		text  string
		yaml  []string // all lines but those that every listener has
		notes []string // how each begins
	}{
		"nothing": {text: "# nothing\n\n"},
		"open to all": {
			text: "listener 1883\nallow_anonymous true",
			yaml: []string{
				`  - { address: ":1883" } # listener 1883, m.conf:1`, "allow_remote_without_auth: true # allow_anonymous",
				"access:", "  anonymous: allow # allow_anonymous true, m.conf:2",
			},
		},
		"closed": {
			text: "listener 1883\nallow_anonymous false\npassword_file /etc/p",
			yaml: []string{`  - { address: ":1883" } # listener 1883, m.conf:1`, "access:",
				"  anonymous: deny # allow_anonymous false, m.conf:2"},
			notes: []string{"m.conf:1: listener: not translated", "m.conf:3: password_file"},
		},
		"this machine": {
			text: "port 1884\nbind_address 127.0.0.1\nlistener 9001 localhost\nprotocol websockets\nmax_connections 7\n" +
				"listener 0 /run/m.sock\nmax_connections -1\nlistener 1885 ::1\nenable_proxy_protocol 2",
			yaml: []string{
				`  - { address: "127.0.0.1:1884" } # port 1884, m.conf:1`,
				`  - { address: "localhost:9001", kind: ws, connections: 7 } # listener 9001 localhost, m.conf:3`,
				`  - { address: "unix:/run/m.sock" } # listener 0 /run/m.sock, m.conf:6`,
				`  - { address: "[::1]:1885", proxy: true } # listener 1885 ::1, m.conf:8`,
			},
		},
		"with TLS": {
			text: "listener 8883\ncertfile c.pem\nkeyfile k.pem\ncafile ca.pem\nrequire_certificate true\ncrlfile r.pem\n" +
				"tls_version tlsv1.3\nallow_anonymous true\nlistener 8884 127.0.0.1\ncertfile c.pem\nkeyfile k.pem\n" +
				"cafile ca.pem\nlistener 1883 127.0.0.1",
			yaml: []string{
				`  - { address: ":8883", tls: true, certificate: "c.pem", key: "k.pem", client_ca: "ca.pem", ` +
					`client_auth: "require", crl: "r.pem", min_version: "1.3" } # listener 8883, m.conf:1`,
				`  - { address: "127.0.0.1:8884", tls: true, certificate: "c.pem", key: "k.pem" } # listener 8884 127.0.0.1, ` +
					`m.conf:9`,
				`  - { address: "127.0.0.1:1883" } # listener 1883 127.0.0.1, m.conf:13`,
			},
			notes: []string{"m.conf:8: allow_anonymous: not translated: access.anonymous is for all"},
		},
		"names of certificates": {
			text: "listener 8883\ncertfile c.pem\nkeyfile k.pem\ncafile ca.pem\nrequire_certificate true\n" +
				"use_subject_as_username true\nlistener 8884\ncertfile c.pem\nkeyfile k.pem\ncafile ca.pem\n" +
				"require_certificate true\nuse_identity_as_username true\nuse_subject_as_username false",
			yaml: []string{
				`  - { address: ":8883", tls: true, certificate: "c.pem", key: "k.pem", client_ca: "ca.pem", ` +
					`client_auth: "require" } # listener 8883, m.conf:1`,
				`  - { address: ":8884", tls: true, certificate: "c.pem", key: "k.pem", client_ca: "ca.pem", ` +
					`client_auth: "require" } # listener 8884, m.conf:7`,
				"access:", `  certificate_identity: "${cert.subject}" # use_subject_as_username true, m.conf:6`,
			},
			notes: []string{"m.conf:12: use_identity_as_username: not translated: another listener"},
		},
		"with TLS that cannot be": {
			text: "listener 8883 127.0.0.1\npsk_hint x\nlistener 8884\ncertfile c.pem\nkeyfile k.pem\ncafile ca.pem\n" +
				"require_certificate true\nallow_anonymous false\nlistener 8885 127.0.0.1\ncertfile c.pem\n" +
				"tls_version tlsv1.1",
			yaml: []string{"access:", "  anonymous: deny # allow_anonymous false, m.conf:8"},
			notes: []string{"m.conf:1: listener: not translated", "m.conf:2: psk_hint", "m.conf:3: listener: not translated",
				"m.conf:9: listener: not translated", "m.conf:11: tls_version"},
		},
		"limits": {
			text: "max_inflight_messages 0\nmessage_size_limit 1000\nmax_queued_messages 5000\nsys_interval 20\n" +
				"persistent_client_expiration 2w\nqueue_qos0_messages true\nlog_type error\nlog_type notice\n" +
				"persistence true\npersistence_location /var/lib/mosquitto/",
			yaml: []string{
				`data: "/var/lib/mosquitto/firth" # persistence_location /var/lib/mosquitto/, m.conf:10`,
				"limits:", "  inflight: 16000 # max_inflight_messages 0, m.conf:1",
				"  packet: 66536 # message_size_limit 1000, m.conf:2", "log:", "  level: info # log_type", "mqtt:",
				"  sys_interval: 20s # sys_interval 20, m.conf:4", "sessions:",
				"  max_expiry: 14d # persistent_client_expiration 2w, m.conf:5",
				"  queue_qos0: true # queue_qos0_messages true, m.conf:6",
			},
			notes: []string{"m.conf:3: max_queued_messages: not needed", "m.conf:9: persistence: not needed"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := translate(t, test.text)
			if err != nil {
				t.Fatal(err)
			}
			lines := slices.DeleteFunc(strings.Split(strings.TrimSpace(string(got.YAML())), "\n"), func(line string) bool {
				return line == "# Translated from a mosquitto.conf." ||
					slices.Contains([]string{"listen:", "  mqtt: []", "  ws: []", "listeners:"}, line)
			})
			if !slices.Equal(lines, test.yaml) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(test.yaml, "\n"))
			}
			if len(got.Notes) != len(test.notes) {
				t.Fatalf("notes: %v", got.Notes)
			}
			for i, n := range got.Notes {
				if !strings.HasPrefix(n.String(), test.notes[i]) {
					t.Errorf("note %q, want %q", n, test.notes[i])
				}
			}
			_, err = node.Load(node.Sources{File: "m.yaml", Text: got.YAML()})
			if closed := name == "closed"; (err != nil) != closed {
				t.Errorf("Firth says %v", err)
			}
		})
	}
}

// TestEveryDirective knows every directive of mosquitto.conf(5).
func TestEveryDirective(t *testing.T) {
	for name := range strings.FieldsSeq(directives) {
		_, needed := missing[name]
		ways := rules[name] != nil || bridgeRules[name] != nil
		if !ways && !needed && needless[name] == "" && name != "include_dir" {
			t.Errorf("%s is neither translated nor explained", name)
		} else if ways && (needed || needless[name] != "") {
			t.Errorf("%s is translated and explained", name)
		}
	}
}

const directives = `
	acl_file allow_anonymous allow_duplicate_messages allow_zero_length_clientid auto_id_prefix autosave_interval
	autosave_on_changes check_retain_source clientid_prefixes connection_messages include_dir log_dest
	log_facility log_timestamp log_timestamp_format log_type max_inflight_bytes max_inflight_messages
	max_keepalive max_packet_size max_queued_bytes max_queued_messages memory_limit message_size_limit
	password_file per_listener_settings persistence persistence_file persistence_location
	persistent_client_expiration pid_file plugin auth_plugin auth_plugin_deny_special_chars psk_file
	queue_qos0_messages retain_available set_tcp_nodelay sys_interval upgrade_outgoing_qos user
	accept_protocol_versions bind_address bind_interface http_dir listener max_connections max_qos max_topic_alias
	max_topic_alias_broker mount_point port protocol socket_domain use_username_as_clientid
	websockets_headers_size websockets_log_level websockets_origin cafile capath certfile ciphers ciphers_tls1.3
	crlfile dhparamfile keyfile require_certificate tls_engine tls_engine_kpass_sha1 tls_keyform tls_version
	use_identity_as_username use_subject_as_username psk_hint address addresses bridge_attempt_unsubscribe
	bridge_bind_address bridge_max_packet_size bridge_outgoing_retain bridge_protocol_version cleansession
	local_cleansession connection keepalive_interval idle_timeout local_clientid local_password local_username
	notifications notifications_local_only notification_topic remote_clientid remote_password remote_username
	restart_timeout round_robin start_type threshold topic try_private bridge_alpn bridge_cafile bridge_capath
	bridge_certfile bridge_identity bridge_insecure bridge_keyfile bridge_psk bridge_require_ocsp
	bridge_tls_version enable_control_api global_plugin enable_proxy_protocol proxy_protocol_v2_require_tls
	retain_expiry_interval`

// TestRefusals names every line that Mosquitto would not take.
func TestRefusals(t *testing.T) {
	_, err := translate(t, "listener many\nport x\nprotocol http\nallow_anonymous perhaps\nno_such_thing 1\nlistener 0\n"+
		"persistent_client_expiration 5\nmax_connections\n")
	if !fault.Is(err, fault.Invalid) {
		t.Fatalf("got %v", err)
	}
	for i, want := range []string{"listener", "port", "protocol", "allow_anonymous", "no_such_thing", "listener",
		"persistent_client_expiration", "max_connections"} {
		if place := (Place{"m.conf", i + 1}).String() + ": " + want; !strings.Contains(err.Error(), place) {
			t.Errorf("%s is not in %v", place, err)
		}
	}
}

// TestInclude puts included files in the place of include_dir, and ends when they include each other.
func TestInclude(t *testing.T) {
	all, err := Parse("m.conf", []byte("user a\ninclude_dir d\nuser c"), func(dir string) ([]string, [][]byte, error) {
		return []string{dir + "/1.conf"}, [][]byte{[]byte("\nuser b")}, nil
	})
	if err != nil || len(all) != 3 || all[1].String() != "user b, d/1.conf:2" {
		t.Errorf("%v, %v", all, err)
	}
	_, err = Parse("m.conf", []byte("include_dir d"), func(string) ([]string, [][]byte, error) {
		return []string{"again"}, [][]byte{[]byte("include_dir d")}, nil
	})
	if !fault.Is(err, fault.Invalid) {
		t.Errorf("got %v", err)
	}
}

// FuzzTranslate translates anything without a fault of ours, and into what YAML takes.
func FuzzTranslate(f *testing.F) {
	f.Add("listener 1883\nallow_anonymous true\nlog_type all")
	f.Add(plant)
	f.Add("persistence_location \"\x00\\")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := Parse("m.conf", []byte(text), nothing)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Translate(all); err == nil {
			_, err := node.Load(node.Sources{File: "m.yaml", Text: got.YAML()})
			if err != nil && (strings.Contains(err.Error(), "not YAML") || strings.Contains(err.Error(), "unknown key")) {
				t.Errorf("%q became\n%s\n%v", text, got.YAML(), err)
			}
		}
	})
}
