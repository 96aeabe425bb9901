package node

import (
	"fmt"
	"strings"
)

const configurationIntro = `# Configuration

<!-- Written from the table in internal/node/options.go: go test ./internal/node -update -->

Firth needs no configuration: every key has a default, and an empty file is valid. A value comes from the
first of these that has one:

1. a flag: ` + "`firth serve --set listen.mqtt=1884`" + ` (any key), ` + "`--data DIR`" + `
2. the environment: ` + "`FIRTH_LISTEN_MQTT=1884`" + `
3. the file: the one that ` + "`-c FILE`" + ` names, or ` + "`firth.yaml`" + ` in the current folder if there is one
4. the default

` + "`firth config print --origin`" + ` shows every value and where it came from. ` + "`firth config check`" + ` reads
everything and starts nothing.

The file is YAML and read strictly. An unknown or duplicate key, a value out of range and an unknown
` + "`FIRTH_*`" + ` variable are errors; all of them are reported at once, each with its place and, where there is
one, the name that was probably meant:

` + "```" + `
firth.yaml:14:3: unknown key "conections" under limits (did you mean "connections"?)
firth.yaml:17:14: log.level: "warning" is not one of debug, info, warn, error
FIRTH_LISTEN_MQT: unknown variable (did you mean "FIRTH_LISTEN_MQTT"?)
` + "```" + `

No value may begin or end with white space, of whatever alphabet, or hold a character that cannot be seen: such
come along with variables and copied lines.

Anchors, aliases, tags and merge keys of YAML are not supported, and a file holds at most 256 KiB.
Variables that Kubernetes and Docker set for services called firth (` + "`FIRTH_SERVICE_HOST`, `FIRTH_PORT_...`" + `)
are not taken for ours.

## Values

- **address**: ` + "`host:port`" + `; a bare port is a port on 127.0.0.1; port 0 lets the system choose one;
  ` + "`off`" + ` (or an empty text) keeps that door shut. Where several are allowed, they are a YAML list, or have
  commas between them; ` + "`unix:/run/firth/mqtt.sock`" + ` is a Unix socket.
- **size**: a number of bytes, or a number with a unit: ` + "`KiB`, `MiB`, `GiB`, `TiB`" + ` (powers of 1024),
  ` + "`kB`, `MB`, `GB`, `TB`" + ` (powers of 1000).
- **time**: numbers with units: ` + "`ms`, `s`, `m`, `h`, `d` (24 h), `w` (7 d)" + `; ` + "`1d12h`" + ` is fine.

## Doors beyond this machine

A door listens on loopback unless it is told otherwise. An address that other machines can reach is
refused at the start, with the reason, unless it has TLS and whoever connects is asked who it is: by a certificate
(client_auth), or because nobody else is served (access.anonymous, [access.md](access.md)).
` + "`allow_remote_without_auth: true`" + ` overrides that, for containers and closed test networks; every start then
logs a warning. On a loopback address, HTTP and WebSocket answer only requests that name this machine as
their host, so that no web page can reach them through a name of its own (DNS rebinding).

## Reload

SIGHUP reads everything again. If there is any problem, nothing changes. Otherwise the keys marked
*reload* take effect at once, no session is dropped, and the log says which changed keys wait for a restart.

## Keys

`

// ConfigurationPage is docs/configuration.md.
func ConfigurationPage() string {
	var b strings.Builder
	b.WriteString(configurationIntro)
	for _, o := range Options() {
		fmt.Fprintf(&b, "### `%s`\n\n%s\n\n", o.Key, o.Doc)
		fmt.Fprintf(&b, "- %s", o.Type)
		if o.Bounds != "" {
			fmt.Fprintf(&b, ": %s", o.Bounds)
		}
		value := "`" + o.Default + "`"
		if o.Default == "" {
			value = "empty"
		}
		fmt.Fprintf(&b, "\n- default: %s\n- variable: `%s`\n", value, o.Env())
		if o.Shows != "" {
			fmt.Fprintf(&b, "- at the limit: %s\n", o.Shows)
		}
		if o.Reload {
			b.WriteString("- reload: SIGHUP changes it\n")
		}
		b.WriteString("\n")
		if o.listing != nil {
			b.WriteString(o.listing.manual())
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}

const rulesManual = `A rule has these keys ([the format of a mapping](format/mapping.md) says it all):

| key | meaning |
|---|---|
| ` + "`mqtt`" + ` | the topic filter, with names for levels: ` + "`factory/{site}/{line}/#`" + ` |
| ` + "`topic`" + ` | the log topic: ` + "`factory-{site}`" + ` |
| ` + "`key`" + ` | the key of the record; without it, the whole MQTT topic name |
| ` + "`partitions`" + ` | how many partitions the log topic gets when it is made, 1 to 10000 |
| ` + "`headers`" + ` | headers for each record: names with templates |

` + "```yaml" + `
mapping:
  - { mqtt: "factory/{site}/{line}/#", topic: "factory-{site}", key: "{line}", partitions: 6 }
` + "```" + `

`

const limitsIntro = `# Limits

<!-- Written from the tables in internal/node: go test ./internal/node -update -->

Every bound that a client or an operator may meet, and what shows when it does. One client that meets a
limit does not disturb the others.

A reason code is something of MQTT 5. With MQTT 3 a PUBLISH of QoS 1 that cannot be stored gets no PUBACK: the
connection ends, and the client sends the message again. A SUBACK says 0x80.

## Limits that can be set

[docs/configuration.md](configuration.md) says how.

| key | default | allowed | what shows |
|---|---|---|---|
`

const fixedLimits = `
## Limits that are fixed

| what | limit | what shows |
|---|---|---|
| MQTT topic name, filter, client id, user name | 65,535 bytes of UTF-8 (MQTT) | the packet is malformed |
| levels of an MQTT topic name or filter | 200 | PUBACK with 0x90, SUBACK with 0x8F: the name is invalid |
| CONNECT packet, will included | 256 KiB | the connection is closed |
| what all connections together make the server hold before their CONNECT is accepted | an eighth of ` +
	"`limits.mqtt_bytes`" + `, 1 MiB at least, and 1.5 KiB each that are not counted: a CONNECT gets ` +
	`more than that step by step, each no more than half of what is free | the connection is closed |
| topic aliases of a device | 32 | CONNACK says Topic Alias Maximum; a higher one ends the connection with 0x94 |
| events of a client that are kept | 100, of all clients 65,536: those heard of last | the older are gone |
| clients that are traced at a time | 16, and what waits to be shown of each 4 MiB | ` +
	"`firth session trace`" + ` fails; what comes too fast is left out and counted |
| partitions in which a subscription that begins in the past has places from the start | 64 | ` +
	`beyond, it is found out again where it begins when the session is back |
| bans | 100,000, half of them by flapping | ` + "`firth ban add`" + ` fails; who flaps is not banned |
| clients whose disconnects are counted for flapping | 100,000 in a window | others are not counted |
| delay of a message (` + "`$delayed/SECONDS/TOPIC`" + `) | 4,294,967 s | PUBACK with 0x90, Topic name invalid |
| steps of one enhanced authentication | 64 | CONNACK or DISCONNECT with 0x87, Not authorized |
| topics that get an alias for a device | of 5 to 1,024 bytes, packets up to 8 KiB | others have their name |
| topic names behind the aliases of a device | 256 KiB | the connection ends with 0x97, Quota exceeded |
| topic filters of a device, each 300 bytes and three times its length | 16 MiB | SUBACK with reason code 0x97 |
| topic names of a publisher whose way is remembered | 256, and 256 KiB | nothing |
| what is read of a device while its messages wait | 16 KiB, or one packet | PINGREQ and PUBACK in it are heard |
| name of a log topic | 249 characters of ` + "`a-z A-Z 0-9 . _ -`" + ` (Kafka) | INVALID_TOPIC_EXCEPTION (17); ` +
	`MQTT messages go to the catch-all topic |
| record batch, whatever ` + "`max_message`" + ` says | 1 GiB | MESSAGE_TOO_LARGE (10) |
| time of a record from a Kafka producer | one hour in the future: ` +
	"`message.timestamp.after.max.ms`" + ` of the topic | INVALID_TIMESTAMP (32), record_errors names the records. ` +
	`What is let in from the future holds retention by time: nothing behind it goes before it is old, ` +
	`and ` + "`firth_topic_start_age_seconds`" + ` is below 0 where the log begins with it; retention.bytes and ` +
	`DeleteRecords remove it |
| records of one batch that record_errors names | 1,000 | the others are counted in the message |
| Kafka request, Produce aside | JoinGroup and SyncGroup 16 MiB, Fetch 8 MiB, OffsetCommit 4 MiB, others 2 MiB ` +
	`or less | the connection is closed |
| one answer to a Fetch | 55 MiB, or one batch | the client asks again for the rest |
| fetch sessions (KIP-227) | as many as ` + "`limits.kafka_connections`" + `, and a sixteenth of ` +
	"`limits.kafka_bytes`" + ` | one that was not used for 2 minutes makes room, then a smaller one that is older; ` +
	`who gets none fetches in full: ` + "`firth_kafka_fetch_sessions_evicted_total`" + ` |
| users, client ids and addresses with quotas | 10,000 | POLICY_VIOLATION (44) to AlterClientQuotas |
| subscriptions to metrics of Kafka clients | 1,000 | POLICY_VIOLATION (44) |
| Kafka clients that push metrics | 16,384, 1 MiB an interval each | THROTTLING_QUOTA_EXCEEDED (89), ` +
	`TELEMETRY_TOO_LARGE (118) |
| what one Fetch keeps of files in memory | 1 MiB for four at a time, 256 KiB for others, or one batch | nothing |
| what one Fetch keeps of the newest records in memory while its client reads | 4 MiB, 256 KiB when more than ` +
	`half of ` + "`limits.kafka_bytes`" + ` is used, or one batch | nothing; while it waits for records, none |
| the same error asked for again by Fetch | after max wait, at least 50 ms | the client gets it then |
| members of a group | 10,000 | GROUP_MAX_SIZE_REACHED (81) |
| what the protocols of a member say of it | 1 MiB | INVALID_REQUEST (42) |
| assignments of one generation of a group | 4 MiB | INVALID_REQUEST (42) |
| topics that a member of a consumer group (KIP-848) names | 100,000, and 1 MiB | INVALID_REQUEST (42) |
| regular expression of a consumer group | 4,096 bytes, and 20,000 steps with its repetitions written out | ` +
	`INVALID_REGULAR_EXPRESSION (128) |
| metadata of a committed offset | 4,096 bytes | OFFSET_METADATA_TOO_LARGE (12) |
| members of share groups that fetch (share sessions) | 2,000 | SHARE_SESSION_LIMIT_REACHED (133) |
| partitions that share groups share, counted for each group | 100,000 | POLICY_VIOLATION (44) |
| records between the start offset of a share partition and the last one that was given out | ` +
	"`share.partition.max.record.locks`" + ` of the group: 2,000, at most 10,000 | no more are given out until there is ` +
	`room |
| groups with settings of their own | 100,000 | POLICY_VIOLATION (44) |
| committed offsets of a group without members | 30 days | they are gone: auto.offset.reset decides |
| groups | 100,000 | COORDINATOR_NOT_AVAILABLE (15) |
| transactional ids | 100,000 | COORDINATOR_NOT_AVAILABLE (15) |
| configuration file | 256 KiB | the configuration is refused |
| open files of clients, all doors together | the operating system's (` + "`ulimit -n`, LimitNOFILE" + `) but for ` +
	`a quarter, at most 512; of these HTTP has half | the connection is closed at once; ` +
	"`firth_connections_refused_total`" + ` and the log tell of it |
| header of an HTTP request | 16 KiB | 431 |
| time an HTTP client has for its request | 10 s | the connection is closed |
`

// LimitsPage is docs/limits.md.
func LimitsPage() string {
	var b strings.Builder
	b.WriteString(limitsIntro)
	for _, o := range Options() {
		if o.Shows != "" {
			fmt.Fprintf(&b, "| `%s`: %s | %s | %s | %s |\n", o.Key, o.Doc, o.Default, o.Bounds, o.Shows)
		}
	}
	b.WriteString(fixedLimits)
	return b.String()
}
