package mosquitto

// The directives without a key of ours, and why.

const (
	mixedAnonymous = "access.anonymous is for all listeners, and these differ"
	needsLogin     = "nobody can log in yet: a listener beyond this machine needs allow_anonymous true"
	needsTLS       = "TLS is not done so here; a listener that needs it is left out, so that nothing goes in the clear"
	needsACL       = "firth import mosquitto-access takes its rules over"
	needsUsers     = "firth import mosquitto-access takes its users over"
	needsStart     = "the service manager sees to that"
	plugins        = "plugins of Mosquitto do not run here"
	durable        = "everything that is acknowledged is on the disk"
	stored         = "what is kept for a device lies in the log, as long as its retention says, and takes no memory"
	clientIDs      = "client identifiers are as devices send them"
)

// missing are those that ask for something that Firth does not do.
var missing = reasons(map[string][]string{
	needsUsers: {"password_file"},
	needsLogin: {
		"use_username_as_clientid", "allow_zero_length_clientid", "auth_plugin_deny_special_chars",
	},
	needsACL:                  {"acl_file"},
	"each delivery is judged": {"check_retain_source"},
	"firth user set --client-id binds a user to client identifiers": {"clientid_prefixes"},
	needsTLS: {
		"capath", "ciphers", "ciphers_tls1.3", "dhparamfile", "psk_file", "psk_hint", "tls_engine",
		"tls_engine_kpass_sha1", "tls_keyform", "proxy_protocol_v2_require_tls", "disable_client_cert_date_checks",
	},
	plugins: {
		"auth_plugin", "plugin", "global_plugin", "plugin_load", "plugin_use", "auth_opt_", "plugin_opt_",
		"enable_control_api",
	},
	"the routes of the system say which address a bridge comes from":  {"bridge_bind_address"},
	"the keep alive interval finds dead connections of bridges":       {"bridge_tcp_keepalive", "bridge_tcp_user_timeout"},
	"the ciphers of a bridge are those of Go's TLS, all of them good": {"bridge_ciphers", "bridge_ciphers_tls1.3"},
	"a change of bridges is taken at the next start":                  {"bridge_reload_type"},
	clientIDs:                                {"auto_id_prefix"},
	needsStart:                               {"pid_file", "user", "log_facility", "daemon"},
	"topics are the same by every listener":  {"mount_point"},
	"retained messages are always available": {"retain_available"},
	"retained messages expire by their Message Expiry Interval":       {"retain_expiry_interval"},
	"QoS 2 is always available":                                       {"max_qos"},
	"devices may keep their connection as long as they like":          {"max_keepalive"},
	"limits.memory bounds the process, and is counted in another way": {"memory_limit"},
	"devices may use 64 topic aliases":                                {"max_topic_alias"},
	"all versions of the protocol come by every listener":             {"accept_protocol_versions"},
	"an address says which interface it is":                           {"bind_interface"},
	"the only pages are those of listen.http":                         {"http_dir"},
	"a delivery has the QoS of the message or of the subscription":    {"upgrade_outgoing_qos"},
	"each line of the log has a time; log.format sets the form":       {"log_timestamp", "log_timestamp_format"},
	"limits.mqtt_bytes bounds what is on its way to devices":          {"max_inflight_bytes"},
})

// needless are those that ask for what is so anyway.
var needless = reasons(map[string][]string{
	"bridges name topics in full": {"bridge_max_topic_alias"},
	"a bridge is inside: local_username says whose rights it has, and needs no password": {"local_password"},
	durable: {"autosave_interval", "autosave_on_changes", "persistence_file"},
	stored:  {"max_queued_bytes", "max_queued_messages"},
	"a subscriber whose filters overlap gets each message once": {"allow_duplicate_messages"},
	"it is always on":                                                     {"set_tcp_nodelay"},
	"each listener has what is said for all":                              {"per_listener_settings"},
	"connections are logged at level debug":                               {"connection_messages"},
	"headers of any length up to 64 KiB are taken":                        {"websockets_headers_size"},
	"the only log is that of Firth":                                       {"websockets_log_level"},
	"$SYS needs no directive, and metrics are at /metrics of listen.http": {"sys_topics"},
})

// reasons turns lists by reason into reasons by name.
func reasons(lists map[string][]string) map[string]string {
	by := make(map[string]string)
	for why, names := range lists {
		for _, name := range names {
			by[name] = why
		}
	}
	return by
}
