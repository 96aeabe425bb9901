// The way of one record: where it came from, where it lies, and which groups of Kafka clients and sessions have it.

import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { call } from "../api/client";
import type { Recipient, RecordPage } from "../api/schema";
import { every } from "../lib/queries";
import { count } from "../lib/show";
import { Table } from "./table";
import { Trouble } from "./trouble";

/** How many groups are asked: each is a request. */
const most = 20;

interface Reader {
	group: string;
	state: string;
	/** Where it goes on in the partition; undefined: it has committed nothing there. */
	next?: string;
}

/** readers are the groups that read a topic, those that are behind most first. */
async function readers(topic: string, partition: number, signal: AbortSignal) {
	const page = await call("GET /groups", { topic, sort: "-lag", limit: most }, signal);
	const all = await Promise.all(
		page.items.map(async (g): Promise<Reader> => {
			const { positions } = await call("GET /groups/{group}", { group: g.id }, signal);
			const at = positions.find((p) => p.topic === topic && p.partition === partition);
			return { group: g.id, state: g.state, next: at?.committed };
		}),
	);
	return { all, total: page.total };
}

/** What each stage of a recipient is called. */
const stages: Record<Recipient["stage"], string> = {
	has: "has it",
	in_flight: "sent, not acknowledged",
	waits: "to come",
	shared: "one of its group gets it",
	before: "older than its subscription",
};

type One = RecordPage["items"][number];

export function Journey({ topic, record }: { topic: string; record: One }) {
	return (
		<section aria-label="Journey">
			<h3>Journey</h3>
			<p>
				{record.mqtt_topic ? (
					<>
						It has the topic name <code>{record.mqtt_topic}</code>, which{" "}
						<Link to="/mapping" search={{ name: record.mqtt_topic }}>
							the mapping
						</Link>{" "}
						leads
					</>
				) : (
					"A Kafka client produced it"
				)}{" "}
				to partition {record.partition} of {topic}, where it is offset {count(record.offset)}.
			</p>
			<Groups topic={topic} record={record} />
			{record.mqtt_topic && <Sessions topic={topic} record={record} name={record.mqtt_topic} />}
		</section>
	);
}

/** Groups are those that read the topic. */
function Groups({ topic, record }: { topic: string; record: One }) {
	const it = useQuery({
		queryKey: ["journey", topic, record.partition],
		queryFn: ({ signal }) => readers(topic, record.partition, signal),
		refetchInterval: every(3000),
	});
	const has = (next?: string) => next !== undefined && BigInt(next) > BigInt(record.offset);
	if (it.error) return <Trouble error={it.error} />;
	if (!it.data) return null;
	return (
		<>
			<Table
				label="Groups that read it"
				rows={it.data.all}
				id={(r) => r.group}
				columns={[
					{
						name: "Group",
						cell: (r) => (
							<Link to="/groups/$group" params={{ group: r.group }}>
								{r.group}
							</Link>
						),
					},
					{ name: "State", cell: (r) => r.state },
					{
						name: "This record",
						cell: (r) => (r.next === undefined ? "nothing committed here" : has(r.next) ? "has it" : "to come"),
					},
					{
						name: "Records before it",
						number: true,
						cell: (r) =>
							r.next === undefined || has(r.next) ? "" : count(String(BigInt(record.offset) - BigInt(r.next))),
					},
				]}
				empty="No group of Kafka clients has committed anything of this topic."
			/>
			<More shown={most} total={it.data.total} what="that are behind most" />
		</>
	);
}

/** Sessions are those with a subscription that the record is for, those that wait for it first. */
function Sessions({ topic, record, name }: { topic: string; record: One; name: string }) {
	const { partition, offset, time } = record;
	const it = useQuery({
		queryKey: ["recipients", topic, partition, offset],
		queryFn: ({ signal }) =>
			call(
				"GET /names/{name}/recipients",
				{ name, topic, partition, offset, time, sort: "stage", limit: most },
				signal,
			),
		refetchInterval: every(3000),
	});
	if (it.error) return <Trouble error={it.error} />;
	if (!it.data) return null;
	return (
		<>
			<Table
				label="Sessions that it is for"
				rows={it.data.items}
				id={(r) => r.client}
				columns={[
					{
						name: "Session",
						cell: (r) => (
							<Link to="/sessions/$client" params={{ client: r.client }}>
								{r.client}
							</Link>
						),
					},
					{ name: "State", cell: (r) => r.state },
					{ name: "Subscription", cell: (r) => <code>{r.filter}</code> },
					{ name: "This record", cell: (r) => stages[r.stage] },
					{
						name: "Records before it",
						number: true,
						cell: (r) => (r.stage === "waits" && r.next !== "-1" ? count(String(BigInt(offset) - BigInt(r.next))) : ""),
					},
				]}
				empty="No MQTT session has a subscription that it is for."
			/>
			<More shown={most} total={it.data.total} what="that wait for it, or have got it" />
		</>
	);
}

function More({ shown, total, what }: { shown: number; total: number; what: string }) {
	if (total <= shown) return null;
	return (
		<p className="muted">
			The {shown} {what}, of {count(total)}.
		</p>
	);
}
