// Made from docs/openapi.json by `npm run types`; not to be edited.
// Numbers of 64 bits are strings: a number of JavaScript does not hold all of them.

export interface Bytes {
	/** it, where it is not */
	base64?: string;
	/** it, where it is UTF-8 */
	text?: string;
}

export interface Check {
	name: string;
	ok: boolean;
	/** why it is not met, or what there is to say though it is */
	reason?: string;
}

export interface Group {
	id: string;
	/** records behind, in all topics that who asks may describe; 0 for share groups */
	lag: string;
	members: number;
	/** the type of protocol of a classic group */
	protocol?: string;
	/** by Kafka's names */
	state: string;
	type: "classic" | "consumer" | "share" | "streams";
}

export interface GroupDetail {
	id: string;
	/** records behind, in all topics that who asks may describe; 0 for share groups */
	lag: string;
	members: number;
	/** its committed offsets, of topics that who asks may describe */
	positions: GroupPosition[];
	/** the type of protocol of a classic group */
	protocol?: string;
	/** by Kafka's names */
	state: string;
	type: "classic" | "consumer" | "share" | "streams";
}

export interface GroupPage {
	items: Group[];
	/** cursor of the next page; without it this is the last */
	next?: string;
	/** how many there are on all pages */
	total: number;
}

export interface GroupPosition {
	/** the offset that it goes on at */
	committed: string;
	/** records from there to the end */
	lag: string;
	/** the first that is left: committed, unless retention has taken it */
	next: string;
	partition: number;
	topic: string;
}

export interface Health {
	checks: Check[];
	/** all checks are met */
	ready: boolean;
	/** of the binary */
	version: string;
}

export interface Kicked {
	client: string;
	/** it had a connection, which ends */
	connected: boolean;
	/** the session ends, too */
	forgotten: boolean;
}

export interface Lost {
	from: string;
	/** the first offset behind them */
	next: string;
}

export interface Mapped {
	/** it goes to the topic for names that no topic of their own is for */
	catch_all: boolean;
	/** the topic is there; else the first message has it made, where devices may */
	exists: boolean;
	/** the topic name goes into a header, because topic and key do not tell it */
	in_header: boolean;
	key: Bytes | null;
	/** the topic filters whose messages may be in that topic */
	mqtt_filters: string[];
	name: string;
	/** how many it has, or would be made with; 0: the default of the log */
	partitions: number;
	/** the topic of the log */
	topic: string;
}

export interface PartitionBounds {
	/** the high watermark: one past the last record */
	end: string;
	/** why the bounds are not known */
	error?: string;
	partition: number;
	/** the last stable offset: below it all records are committed or aborted */
	stable: string;
	/** the first offset that may be read */
	start: string;
}

export interface Problem {
	/** what went wrong, for people */
	detail: string;
	/** what to do about it */
	hint?: string;
	/** the kind of error, for programs: it does not change */
	kind: string;
	/** the status of the answer */
	status: number;
	/** the status in words */
	title: string;
	/** about:blank: the status says what kind of problem it is, and kind says it closer */
	type: string;
}

export interface Record {
	headers: RecordHeader[];
	/** null: there is none */
	key: Bytes | null;
	/** the topic name under which devices get it */
	mqtt_topic?: string;
	offset: string;
	partition: number;
	/** its stamp, to the millisecond */
	time: string;
	/** null: there is none, it is a tombstone */
	value: Bytes | null;
	/** the length of the value */
	value_bytes: number;
	/** value is only the beginning of it: it is longer than 1 MiB */
	value_cut?: boolean;
	/** a mask of access lets nothing of the value be seen */
	value_hidden?: boolean;
}

export interface RecordHeader {
	name: string;
	value: Bytes | null;
}

export interface RecordPage {
	/** the offset where Next goes on */
	at: string;
	/** everything that is committed was looked at */
	end: boolean;
	items: Record[];
	/** offsets that are damaged on the disk */
	lost?: Lost[];
	/** goes on behind what was looked at, also at the end, where more may come */
	next: string;
	/** how many records were looked at */
	scanned: number;
	/** where the committed records end now */
	stable: string;
}

export interface Session {
	/** partitions that it reads by itself, because it fell behind */
	behind: number;
	/** its client identifier */
	client: string;
	/** messages that its connection did not get, or that were refused */
	dropped: string;
	/** seconds that it lasts without a connection; none: for ever */
	expiry?: number;
	/** messages sent above QoS 0 whose exchange is not over */
	in_flight: number;
	listener?: string;
	/** the address of the client */
	remote?: string;
	/** it has been connected, or away, since then */
	since?: string;
	state: "connected" | "away";
	subscriptions: number;
	user?: string;
	/** of MQTT: 3.1, 3.1.1 or 5 */
	version: string;
}

export interface SessionDetail {
	/** partitions that it reads by itself, because it fell behind */
	behind: number;
	/** its client identifier */
	client: string;
	/** messages that its connection did not get, or that were refused */
	dropped: string;
	/** messages that its connection did not get or were refused, by reason */
	drops: { [key: string]: number };
	/** seconds that it lasts without a connection; none: for ever */
	expiry?: number;
	filters: Subscription[];
	/** messages sent above QoS 0 whose exchange is not over */
	in_flight: number;
	/** seconds; 0: none */
	keep_alive: number;
	/** partitions where it is behind what is stored */
	lag: SessionLag[];
	listener?: string;
	/** the address of the client */
	remote?: string;
	/** it has been connected, or away, since then */
	since?: string;
	state: "connected" | "away";
	subscriptions: number;
	user?: string;
	/** of MQTT: 3.1, 3.1.1 or 5 */
	version: string;
	/** the topic name of its will */
	will?: string;
	/** most messages in flight */
	window: number;
}

export interface SessionLag {
	end: string;
	/** records between them, whether they are for it or not */
	lag: string;
	/** all below was taken, or is not for it */
	next: string;
	partition: number;
	/** of the log */
	topic: string;
}

export interface SessionPage {
	items: Session[];
	/** cursor of the next page; without it this is the last */
	next?: string;
	/** how many there are on all pages */
	total: number;
}

export interface Setting {
	doc: string;
	key: string;
	/** a reload puts a change in force; else a restart does */
	live: boolean;
	/** where it comes from: default, a place in a file, a variable or a flag */
	origin: string;
	/** any value */
	value: unknown;
}

export interface Settings {
	items: Setting[];
}

export interface Subscription {
	filter: string;
	/** where it began, if in the past */
	from?: string;
	qos: number;
}

export interface Topic {
	/** delete, compact or compact,delete */
	cleanup_policy: string;
	/** the same for the whole life of the topic; one made later with its name has another */
	id: string;
	/** it holds state of the log itself */
	internal: boolean;
	name: string;
	partitions: number;
	/** offsets from start to end; not told of a log in Kafka */
	records?: string;
	/** age in milliseconds at which records go; -1: never */
	retention_ms: string;
}

export interface TopicDetail {
	/** of each partition */
	bounds: PartitionBounds[];
	/** delete, compact or compact,delete */
	cleanup_policy: string;
	config: TopicSetting[];
	/** the same for the whole life of the topic; one made later with its name has another */
	id: string;
	/** it holds state of the log itself */
	internal: boolean;
	/** the topic filters of MQTT whose messages may be in it */
	mqtt_filters: string[];
	name: string;
	partitions: number;
	/** offsets from start to end; not told of a log in Kafka */
	records?: string;
	/** age in milliseconds at which records go; -1: never */
	retention_ms: string;
}

export interface TopicPage {
	items: Topic[];
	/** cursor of the next page; without it this is the last */
	next?: string;
	/** how many there are on all pages */
	total: number;
}

export interface TopicSetting {
	doc: string;
	name: string;
	/** where the value comes from */
	origin: "topic" | "node" | "default";
	value: string;
}

/** Nothing is what a route without parameters takes. */
export type Nothing = { [key: string]: never };

/** What each route takes, in its path and its query, and what it answers. */
export interface Routes {
	"GET /config": {
		takes: Nothing;
		answers: Settings;
	};
	"GET /groups": {
		takes: {
			limit?: number;
			cursor?: string;
			sort?: "id" | "-id" | "lag" | "-lag" | "members" | "-members";
			search?: string;
			topic?: string;
		};
		answers: GroupPage;
	};
	"GET /groups/{group}": {
		takes: {
			group: string;
		};
		answers: GroupDetail;
	};
	"GET /health": {
		takes: Nothing;
		answers: Health;
	};
	"GET /mapping": {
		takes: {
			name?: string;
		};
		answers: Mapped;
	};
	"GET /openapi.json": {
		takes: Nothing;
		answers: unknown;
	};
	"GET /sessions": {
		takes: {
			limit?: number;
			cursor?: string;
			sort?: "client" | "-client" | "in_flight" | "-in_flight" | "behind" | "-behind" | "dropped" | "-dropped" | "subscriptions" | "-subscriptions" | "since" | "-since";
			search?: string;
			state?: "connected" | "away";
			user?: string;
		};
		answers: SessionPage;
	};
	"DELETE /sessions/{client}": {
		takes: {
			client: string;
			forget?: boolean;
		};
		answers: Kicked;
	};
	"GET /sessions/{client}": {
		takes: {
			client: string;
		};
		answers: SessionDetail;
	};
	"GET /topics": {
		takes: {
			limit?: number;
			cursor?: string;
			sort?: "name" | "-name" | "partitions" | "-partitions" | "records" | "-records" | "retention_ms" | "-retention_ms";
			search?: string;
			internal?: boolean;
		};
		answers: TopicPage;
	};
	"GET /topics/{topic}": {
		takes: {
			topic: string;
		};
		answers: TopicDetail;
	};
	"GET /topics/{topic}/records": {
		takes: {
			topic: string;
			partition?: number;
			offset?: string;
			time?: string;
			last?: string;
			limit?: number;
			cursor?: string;
			filter?: string;
			key?: string;
			contains?: string;
		};
		answers: RecordPage;
	};
}
