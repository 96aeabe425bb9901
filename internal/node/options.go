package node

import (
	"slices"
	"time"
)

const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30
	tib = 1 << 40

	century = 36_500 * day
)

// Options lists every option, in the order of the manual page.
func Options() []Option {
	return slices.Concat(
		placeOptions(), accessOptions(), peopleOptions(), oidcOptions(), httpOptions(),
		auditOptions(), tlsOptions(), topicOptions(), mqttLimits(),
		limitRates(), limitHandshakes(),
		kafkaLimits(), logLimits(),
		mqttOptions(), sessionOptions(), flappingOptions(), rewritingOptions(), bridgesOption(), webhooksOption(),
		groupOptions(),
		transactionOptions(), encryptionOptions(), gatewayOptions(), processOptions(),
	)
}

// bothFamilies says what localhost is for a door.
const bothFamilies = " On localhost that is this machine by IPv4 and, if it has that, by IPv6."

func placeOptions() []Option {
	return []Option{
		Option{Key: "data", Type: "path", Default: "./firth-data",
			Doc: "The folder that holds the log. It is made with mode 0700 if it is not there, and one process at a time " +
				"may use it.",
		}.text(func(c *Config) *string { return &c.Data }, checkPath),
		Option{Key: "listen.mqtt", Default: "localhost:1883",
			Doc: "Where devices connect with MQTT over TCP, or over Unix sockets: unix:/run/firth/mqtt.sock. For an address " +
				"with limits of its own see listeners." + bothFamilies,
		}.addresses(func(c *Config) *string { return &c.Listen.MQTT }),
		Option{Key: "listen.ws", Default: "localhost:8083",
			Doc: "Where devices and browsers connect with MQTT over WebSocket, at the path /mqtt." + bothFamilies,
		}.addresses(func(c *Config) *string { return &c.Listen.WS }),
		Option{Key: "listen.kafka", Default: "localhost:9092",
			Doc: "Where Kafka clients connect: one address, or a list." + bothFamilies,
		}.hosts(func(c *Config) *string { return &c.Listen.Kafka }),
		Option{Key: "listen.http", Default: "localhost:8080",
			Doc: "Where /healthz, /readyz and /metrics are served." + bothFamilies,
		}.hosts(func(c *Config) *string { return &c.Listen.HTTP }),
		Option{Key: "listen.mqtts", Default: "off",
			Doc: "Where devices connect with MQTT over TLS; 8883 is usual. It needs tls.certificate and tls.key, as do the " +
				"three that follow." + bothFamilies,
		}.addresses(func(c *Config) *string { return &c.Listen.MQTTS }),
		Option{Key: "listen.wss", Default: "off",
			Doc: "Where devices and browsers connect with MQTT over WebSocket over TLS, at the path /mqtt; 8084 is usual.",
		}.addresses(func(c *Config) *string { return &c.Listen.WSS }),
		Option{Key: "listen.kafkas", Default: "off",
			Doc: "Where Kafka clients connect with TLS (security.protocol=SSL); 9093 is usual.",
		}.hosts(func(c *Config) *string { return &c.Listen.Kafkas }),
		Option{Key: "listen.https", Default: "off",
			Doc: "Where what listen.http serves is served over TLS; 8443 is usual.",
		}.hosts(func(c *Config) *string { return &c.Listen.HTTPS }),
		listenersOption(),
		Option{Key: "advertise", Type: "auto | host:port", Default: "auto",
			Doc: "The address that Kafka clients are told to connect to. auto tells each client the address that it " +
				"reached this node by, " +
				"which is right unless a proxy or a published container port stands between.",
		}.text(func(c *Config) *string { return &c.Advertise }, checkAdvertise),
		Option{Key: "advertise_tls", Type: "auto | host:port", Default: "auto",
			Doc: "As advertise, for clients that connect with TLS. auto tells each client the name that it asked for (SNI), " +
				"so that the certificate fits, and the address that it reached this node by where it asked for none.",
		}.text(func(c *Config) *string { return &c.AdvertiseTLS }, checkAdvertise),
		Option{Key: "allow_remote_without_auth", Default: "false",
			Doc: "Lets doors listen beyond this machine although nobody has to log in: whoever reaches them may read and " +
				"write everything. A listener that requires client certificates (client_auth) needs no such leave. " +
				"For containers and closed test networks; a warning is logged at every start.",
		}.flag(func(c *Config) *bool { return &c.AllowRemoteWithoutAuth }),
		Option{Key: "ws_origins", Type: "list of patterns", Default: "", list: true,
			Doc: "The web sites whose pages may connect to listen.ws, as patterns of host[:port] (*.example.org). " +
				"Pages from the very address they connect to always may; programs that are no browser send no origin and " +
				"always may. On a loopback address, hosts that a proxy on this machine passes on must be listed too.",
		}.text(func(c *Config) *string { return &c.WSOrigins }, checkOrigins),
		objects(Option{Key: "mapping", Type: "list of rules", Reload: true,
			Doc: "How MQTT topic names and log topics belong together: an ordered list, the first rule that matches is " +
				"taken. " +
				"Without a rule, the first level of the MQTT topic name is the log topic and the whole name is the key.",
		}, mappingRules{}),
	}
}

func topicOptions() []Option {
	return []Option{
		Option{Key: "topics.auto_create", Default: "true",
			Doc: "Whether a Kafka client makes a topic by asking for one that is not there, where its request allows that.",
		}.flag(func(c *Config) *bool { return &c.Topics.AutoCreate }),
		Option{Key: "topics.max_from_devices", Default: "1000",
			Doc: "While the log has fewer topics than this, a device that publishes makes the topic that its message " +
				"belongs to. From there on, messages for topics that are not there go to the catch-all topic.",
			Shows: "the record lies in the catch-all topic, its MQTT topic name is its key",
		}.count(func(c *Config) *int { return &c.Topics.MaxFromDevices }, 1, 1_000_000),
		Option{Key: "topics.catch_all", Type: "topic name", Default: "mqtt",
			Doc: "The log topic of messages whose MQTT topic name gives no legal name of a log topic, and of those that " +
				"would need " +
				"one topic too many.",
		}.text(func(c *Config) *string { return &c.Topics.CatchAll }, checkCatchAll),
		Option{Key: "topics.defaults.partitions", Default: "1",
			Doc: "How many partitions a topic gets that asks for none. A topic that exists keeps what it has.",
		}.count(func(c *Config) *int { return &c.Topics.Defaults.Partitions }, 1, 10_000),
		Option{Key: "topics.defaults.retention", Default: "7d",
			Doc: "The age at which records go (retention.ms).",
		}.span(func(c *Config) *time.Duration { return &c.Topics.Defaults.Retention }, time.Millisecond, century, "forever"),
		Option{Key: "topics.defaults.retention_bytes", Default: "unlimited",
			Doc: "The size of one partition above which its oldest records go (retention.bytes).",
		}.size(func(c *Config) *int64 { return &c.Topics.Defaults.RetentionBytes }, 0, 1024*tib, "unlimited"),
		Option{Key: "topics.defaults.durability", Default: "disk",
			Doc: "When a record is acknowledged: disk, when it is on stable storage; memory, before (firth.durability).",
		}.choice(func(c *Config) *string { return &c.Topics.Defaults.Durability }, "disk", "memory"),
		Option{Key: "topics.defaults.max_message", Default: "16MiB",
			Doc:   "The largest record batch, after compression (max.message.bytes).",
			Shows: "Kafka: MESSAGE_TOO_LARGE (10); MQTT: PUBACK with reason code 0x97, Quota exceeded",
		}.size(func(c *Config) *int64 { return &c.Topics.Defaults.MaxMessage }, 1*kib, 1*gib, ""),
		Option{Key: "topics.defaults.segment", Default: "1GiB",
			Doc: "Retention removes records in steps of at most this size (segment.bytes).",
		}.size(func(c *Config) *int64 { return &c.Topics.Defaults.Segment }, 16*kib, 2*gib-1, ""),
		Option{Key: "topics.defaults.timestamp", Default: "CreateTime",
			Doc: "Whose clock stamps a record of a Kafka producer: its own, or the log's (message.timestamp.type).",
		}.choice(func(c *Config) *string { return &c.Topics.Defaults.Timestamp }, "CreateTime", "LogAppendTime"),
	}
}

func mqttLimits() []Option {
	return []Option{
		Option{Key: "limits.packet", Default: "2MiB",
			Doc:   "The largest MQTT packet that a device may send.",
			Shows: "CONNACK says Maximum Packet Size; a larger packet ends the connection with 0x95, Packet too large",
		}.size(func(c *Config) *int64 { return &c.Limits.Packet }, 1*kib, 256*mib-1, ""),
		Option{Key: "limits.connections", Default: "100000",
			Doc: "How many MQTT connections may be open at once, WebSocket included. The operating system's limit of " +
				"open files may be lower: a quarter of it, at most 512 files, is kept from clients.",
			Shows: "the connection is closed at once",
		}.count(func(c *Config) *int { return &c.Limits.Connections }, 1, 10_000_000),
		Option{Key: "limits.inflight", Default: "1000",
			Doc: "How many messages of QoS 1 and 2 may be on their way to one device, not yet acknowledged by it. A " +
				"device may ask for fewer (Receive Maximum).",
			Shows: "delivery to that device waits; nothing is dropped",
		}.count(func(c *Config) *int { return &c.Limits.Inflight }, 1, 16_000),
		Option{Key: "limits.receive_maximum", Default: "1024",
			Doc:   "How many messages of QoS 1 and 2 one device may send before it has the acknowledgement of the first.",
			Shows: "CONNACK says Receive Maximum; one more ends the connection with 0x93, Receive Maximum exceeded",
		}.count(func(c *Config) *int { return &c.Limits.ReceiveMaximum }, 1, 65_535),
		Option{Key: "limits.subscriptions", Default: "10000",
			Doc:   "How many topic filters one device may subscribe to.",
			Shows: "SUBACK with reason code 0x97, Quota exceeded",
		}.count(func(c *Config) *int { return &c.Limits.Subscriptions }, 1, 10_000_000),
		Option{Key: "limits.sessions", Default: "1000000",
			Doc:   "How many sessions that outlive their connections there may be.",
			Shows: "CONNACK with reason code 0x97, Quota exceeded",
		}.count(func(c *Config) *int { return &c.Limits.Sessions }, 1, 1_000_000_000),
		Option{Key: "limits.session_bytes", Default: "256MiB",
			Doc: "About how much memory the sessions of devices that are away may take: about 500 bytes each, their " +
				"filters, and their wills until those are published. The messages for them lie in the log only. " +
				"firth_mqtt_session_bytes shows it.",
			Shows: "CONNACK with reason code 0x97, Quota exceeded, to a device that wants another session, or would leave a " +
				"larger will than its session had (of more than about 400 bytes)",
		}.size(func(c *Config) *int64 { return &c.Limits.SessionBytes }, 64*kib, 1*tib, ""),
		Option{Key: "limits.retained", Default: "1000000",
			Doc:   "How many topic names may have a retained message.",
			Shows: "PUBACK with reason code 0x97, Quota exceeded",
		}.count(func(c *Config) *int { return &c.Limits.Retained }, 1, 1_000_000_000),
		Option{Key: "limits.retained_bytes", Default: "256MiB",
			Doc: "About how much memory retained messages may take: their names, and the messages of up to 512 bytes. " +
				"Larger ones are read from the log when they are asked for, as are small ones that came when there was no room.",
			Shows: "PUBACK with reason code 0x97, Quota exceeded, for another name",
		}.size(func(c *Config) *int64 { return &c.Limits.RetainedBytes }, 64*kib, 1*tib, ""),
		Option{Key: "limits.delayed", Default: "100000",
			Doc: "About how many messages may wait at a time that devices published to $delayed/SECONDS/TOPIC, each about 100 " +
				"bytes of memory. With 0 there is no such thing: such names are refused as others that begin with $.",
			Shows: "PUBACK with reason code 0x97, Quota exceeded",
		}.count(func(c *Config) *int { return &c.Limits.Delayed }, 0, 100_000_000),
		Option{Key: "limits.outbox_bytes", Default: "1MiB",
			Doc:   "How much may wait to be written to one device that reads slowly.",
			Shows: "messages of QoS 0 to it are dropped and counted; those of QoS 1 and 2 wait in the log",
		}.size(func(c *Config) *int64 { return &c.Limits.OutboxBytes }, 4*kib, 1*gib, ""),
		Option{Key: "limits.mqtt_bytes", Default: "256MiB",
			Doc: "How much memory all MQTT connections together may make the server hold: what waits to be written, topic " +
				"names, aliases and filters, wills, packets that are not complete, the names of retained messages that are " +
				"to be sent. One half is for all connections " +
				"alike; of the other none takes more than a quarter of what is free, so that the largest are held " +
				"back first. firth_mqtt_held_bytes shows it.",
			Shows: "as for limits.outbox_bytes, with a smaller bound; then 0x97, Quota exceeded, in the SUBACK or CONNACK " +
				"or at the end of the connection",
		}.size(func(c *Config) *int64 { return &c.Limits.MQTTBytes }, 1*mib, 1<<10*gib, ""),
		Option{Key: "limits.connect_timeout", Default: "10s",
			Doc:   "How long a new MQTT connection has for its CONNECT.",
			Shows: "the connection is closed",
		}.span(func(c *Config) *time.Duration { return &c.Limits.ConnectTimeout }, 100*time.Millisecond, time.Hour, ""),
	}
}

func kafkaLimits() []Option {
	return []Option{
		Option{Key: "limits.request", Default: "100MiB",
			Doc:   "The largest Kafka request.",
			Shows: "the connection is closed",
		}.size(func(c *Config) *int64 { return &c.Limits.Request }, 64*kib, 1*gib, ""),
		Option{Key: "limits.kafka_connections", Default: "10000",
			Doc:   "How many Kafka connections may be open at once.",
			Shows: "the connection is closed at once",
		}.count(func(c *Config) *int { return &c.Limits.KafkaConnections }, 1, 10_000_000),
		Option{Key: "limits.kafka_bytes", Default: "512MiB",
			Doc: "How much memory the requests and answers of all Kafka connections and consumer groups may take together. " +
				"Near it those connections wait that hold the most. A quarter of it is for groups, which keep what their " +
				"members say of themselves and are assigned, the metadata of offsets, and which records a share group has given " +
				"out; the more one has, the more room it leaves to others.",
			Shows: "after 10 s of waiting, Produce and Fetch: KAFKA_STORAGE_ERROR (56), and the client tries again; other " +
				"requests: the connection is closed; JoinGroup and SyncGroup that would make a group larger: " +
				"COORDINATOR_NOT_AVAILABLE (15) at once, and the client tries again; OffsetCommit with metadata: " +
				"OFFSET_METADATA_TOO_LARGE (12); ShareFetch: no more records are given out; `firth_kafka_held_bytes`, " +
				"`firth_kafka_group_bytes`, `firth_kafka_short_of_memory_total`",
		}.size(func(c *Config) *int64 { return &c.Limits.KafkaBytes }, 1*mib, 1*tib, ""),
	}
}

func mqttOptions() []Option {
	return []Option{
		Option{Key: "mqtt.sys_interval", Default: "10s",
			Doc: "How often those who subscribe below $SYS are told what has changed (sys_interval of Mosquitto). With 0s " +
				"there is nothing below $SYS. While nobody subscribes there, nothing is done.",
		}.span(func(c *Config) *time.Duration { return &c.MQTT.SysInterval }, 0, day, ""),
		Option{Key: "mqtt.sparkplug", Default: "false",
			Doc: "Whether the server is Sparkplug Aware (Sparkplug 3.0): an NBIRTH or DBIRTH that is published to " +
				"spBv1.0/GROUP/NBIRTH/NODE or spBv1.0/GROUP/DBIRTH/NODE/DEVICE is kept as a retained message of " +
				"$sparkplug/certificates/ and that name.",
		}.flag(func(c *Config) *bool { return &c.MQTT.Sparkplug }),
		Option{Key: "mqtt.topic_aliases", Default: "32",
			Doc: "How many topic aliases the server sets for a device of MQTT 5 that takes them (Topic Alias Maximum), at " +
				"most: for the topics that it gets often, whose names are sent once then. 0 sets none.",
		}.count(func(c *Config) *int { return &c.MQTT.TopicAliases }, 0, 65_535),
		Option{Key: "mqtt.response_prefix", Type: "topic name", Default: "",
			Doc: "What the response information begins with that a device of MQTT 5 may ask for in CONNECT (Request " +
				"Response Information); its client identifier follows, with %XX for characters that mean something in a " +
				"topic name. A place for the answers to what it asks others. Empty: there is no response information.",
		}.text(func(c *Config) *string { return &c.MQTT.ResponsePrefix }, checkTopicPrefix),
		Option{Key: "mqtt.server_reference", Type: "host:port", Default: "",
			Doc: "The server that devices of MQTT 5 are told to use when this one shuts down: DISCONNECT 0x9C, Use another " +
				"server, with this Server Reference, in place of 0x8B.",
		}.text(func(c *Config) *string { return &c.MQTT.ServerReference }, checkReference),
		Option{Key: "mqtt.redirect", Default: "none",
			Doc: "Whether devices are refused, because this server is to be left: for_now with 0x9C, Use another server, " +
				"for_good with 0x9D, Server moved, and with mqtt.server_reference if that is set. Devices of MQTT 3 get " +
				"return code 3.",
		}.choice(func(c *Config) *string { return &c.MQTT.Redirect }, "none", "for_now", "for_good"),
	}
}

func sessionOptions() []Option {
	return []Option{
		Option{Key: "sessions.max_expiry", Default: "30d",
			Doc: "How long the session of a device lasts at most while the device is away: its subscriptions, and with them " +
				"what it missed, as far as the retention of the topics has kept it. A device of MQTT 3 without a clean " +
				"session gets this, one of MQTT 5 what it asks for, up to this.",
			Shows: "CONNACK says Session Expiry Interval",
		}.span(func(c *Config) *time.Duration { return &c.Sessions.MaxExpiry }, time.Second, 100*365*day, "forever"),
		Option{Key: "sessions.queue_qos0", Default: "false",
			Doc: "Whether a device that was away also gets the messages of QoS 0 that it missed (queue_qos0_messages of " +
				"Mosquitto).",
		}.flag(func(c *Config) *bool { return &c.Sessions.QueueQoS0 }),
		Option{Key: "sessions.shared_order", Default: "none",
			Doc: "What the members of a shared subscription ($share/group/filter) get in order. none: a message goes to " +
				"whoever is next in turn and has room. key: messages with one key, which is the topic name where the mapping " +
				"says nothing else, go to the same member as long as it is there, and wait for it when it is slow.",
		}.choice(func(c *Config) *string { return &c.Sessions.SharedOrder }, "none", "key"),
	}
}

func flappingOptions() []Option {
	return []Option{
		Option{Key: "flapping.disconnects", Default: "unlimited",
			Doc: "How often a device may disconnect, or lose its connection, within flapping.window before its client " +
				"identifier is banned for flapping.ban. firth ban list shows it.",
			Shows: "CONNACK with reason code 0x8A, Banned, return code 5 in MQTT 3; `firth_mqtt_flapping_total`",
		}.number(func(c *Config) *int { return &c.Flapping.Disconnects }, 1, 1_000_000),
		Option{Key: "flapping.window", Default: "1m",
			Doc: "How long disconnects of a device count together.",
		}.span(func(c *Config) *time.Duration { return &c.Flapping.Window }, time.Second, day, ""),
		Option{Key: "flapping.ban", Default: "5m",
			Doc: "For how long a device is banned that disconnects too often.",
		}.span(func(c *Config) *time.Duration { return &c.Flapping.Ban }, time.Second, 365*day, ""),
	}
}

func transactionOptions() []Option {
	return []Option{
		Option{Key: "transactions.max_timeout", Default: "15m",
			Doc:   "The longest that a Kafka producer may ask its transactions to stay open (transaction.max.timeout.ms).",
			Shows: "INVALID_TRANSACTION_TIMEOUT (50)",
		}.span(func(c *Config) *time.Duration { return &c.Transactions.MaxTimeout }, time.Second, 24*day, ""),
		Option{Key: "transactions.id_expiry", Default: "7d",
			Doc: "How long a transactional id is known that nobody uses (transactional.id.expiration.ms): a producer that " +
				"comes back later begins anew.",
			Shows: "INVALID_PRODUCER_ID_MAPPING (49)",
		}.span(func(c *Config) *time.Duration { return &c.Transactions.IDExpiry }, time.Second, 365*day, ""),
	}
}

func groupOptions() []Option {
	return []Option{
		Option{Key: "groups.initial_rebalance_delay", Default: "0s", Reload: true,
			Doc: "How long an empty consumer group gathers members before its first generation " +
				"(group.initial.rebalance.delay.ms). Kafka clients may change it, too.",
		}.span(func(c *Config) *time.Duration { return &c.Groups.InitialRebalanceDelay }, 0, time.Hour, ""),
		Option{Key: "groups.min_session_timeout", Default: "6s", Reload: true,
			Doc: "The shortest session timeout that a member of a consumer group may ask for " +
				"(group.min.session.timeout.ms). Kafka clients may change it, too.",
			Shows: "INVALID_SESSION_TIMEOUT (26)",
		}.span(func(c *Config) *time.Duration { return &c.Groups.MinSessionTimeout }, time.Millisecond, 24*day, ""),
		Option{Key: "groups.max_session_timeout", Default: "30m", Reload: true,
			Doc: "The longest session timeout that a member of a consumer group may ask for " +
				"(group.max.session.timeout.ms). Kafka clients may change it, too.",
			Shows: "INVALID_SESSION_TIMEOUT (26)",
		}.span(func(c *Config) *time.Duration { return &c.Groups.MaxSessionTimeout }, time.Millisecond, 24*day, ""),
		Option{Key: "groups.consumer_session_timeout", Default: "45s", Reload: true,
			Doc: "How long a member of the consumer protocol (KIP-848) may be silent before its partitions go to others " +
				"(group.consumer.session.timeout.ms). Kafka clients may change it, too.",
		}.span(func(c *Config) *time.Duration { return &c.Groups.ConsumerSessionTimeout }, time.Millisecond, 24*day, ""),
		Option{Key: "groups.consumer_heartbeat_interval", Default: "5s", Reload: true,
			Doc: "How often members of the consumer protocol (KIP-848) are told to send a heartbeat, by which they are told " +
				"what they are assigned (group.consumer.heartbeat.interval.ms). Kafka clients may change it, too.",
		}.span(func(c *Config) *time.Duration { return &c.Groups.ConsumerHeartbeatInterval }, time.Millisecond, 24*day, ""),
	}
}

func logLimits() []Option {
	return []Option{
		Option{Key: "limits.partitions", Default: "100000",
			Doc:   "How many partitions all topics together may have.",
			Shows: "Kafka: POLICY_VIOLATION (44) to CreateTopics and CreatePartitions",
		}.count(func(c *Config) *int { return &c.Limits.Partitions }, 1, 10_000_000),
		Option{Key: "limits.cache_bytes", Default: "64MiB",
			Doc:   "How much of the newest records stays in memory for both doors.",
			Shows: "older records are read from the disk",
		}.size(func(c *Config) *int64 { return &c.Limits.CacheBytes }, 64*kib, 1*tib, ""),
		Option{Key: "limits.commit_bytes", Default: "8MiB",
			Doc:   "How much may gather for one commit while the disk is busy.",
			Shows: "whoever appends waits",
		}.size(func(c *Config) *int64 { return &c.Limits.CommitBytes }, 64*kib, 1*gib, ""),
		Option{Key: "limits.journal_file", Default: "64MiB",
			Doc: "The largest size of a journal file. Space for it is reserved on the disk beforehand. While little is " +
				"written, files are smaller, down to 8MiB.",
			Shows: "the next file is begun",
		}.size(func(c *Config) *int64 { return &c.Limits.JournalFile }, 64*kib, 16*gib, ""),
		Option{Key: "limits.memory", Default: "unlimited",
			Doc: "How much memory the process aims to stay within. It is no hard limit: near it memory is collected more " +
				"often, at the cost of up to half of the processors. Where the machine or container would end the process at " +
				"some size, give nine tenths of that.",
			Shows: "more CPU time",
		}.size(func(c *Config) *int64 { return &c.Limits.Memory }, 1*mib, 1024*tib, "unlimited"),
	}
}

func processOptions() []Option {
	return []Option{
		Option{Key: "log.level", Default: "info", Reload: true,
			Doc: "The least important lines that are logged. The log goes to standard error.",
		}.choice(func(c *Config) *string { return &c.Log.Level }, "debug", "info", "warn", "error"),
		Option{Key: "log.format", Default: "text",
			Doc: "The form of a line: text (key=value) or json.",
		}.choice(func(c *Config) *string { return &c.Log.Format }, "text", "json"),
		Option{Key: "profiles", Default: "false",
			Doc: "Whether profiles of CPU, memory, locks and goroutines are served under /debug/pprof on listen.http, for " +
				"go tool pprof. They slow the node by a percent or two, and show no content of messages.",
		}.flag(func(c *Config) *bool { return &c.Profiles }),
		Option{Key: "shutdown.timeout", Default: "10s", Reload: true,
			Doc: "How long clients may take to finish after SIGTERM or SIGINT. The log is closed cleanly in any case; a " +
				"second signal ends at once.",
		}.span(func(c *Config) *time.Duration { return &c.Shutdown.Timeout }, 0, time.Hour, ""),
	}
}
