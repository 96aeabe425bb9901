// The way of one record: where it came from, where it lies, and which groups of Kafka clients have it.

import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { call } from "../api/client";
import type { RecordPage } from "../api/schema";
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

export function Journey({ topic, record }: { topic: string; record: RecordPage["items"][number] }) {
	const it = useQuery({
		queryKey: ["journey", topic, record.partition],
		queryFn: ({ signal }) => readers(topic, record.partition, signal),
		refetchInterval: every(3000),
	});
	const has = (next?: string) => next !== undefined && BigInt(next) > BigInt(record.offset);
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
			{it.error && <Trouble error={it.error} />}
			{it.data && (
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
					{it.data.total > most && (
						<p className="muted">
							The {most} that are behind most, of {count(it.data.total)}.
						</p>
					)}
				</>
			)}
		</section>
	);
}
