// The metrics of the last hour, as the node has kept them.

import { useQuery } from "@tanstack/react-query";
import { call } from "../api/client";
import type { Hour } from "../api/schema";
import { every } from "../lib/queries";
import { bytes, short } from "../lib/show";
import { Page } from "../parts/page";
import { Spark } from "../parts/spark";
import { Trouble } from "../parts/trouble";

const titles: Record<string, [title: string, show: (n: number) => string]> = {
	firth_mqtt_connections: ["Connections of devices", short],
	firth_mqtt_subscriptions: ["Subscriptions", short],
	firth_mqtt_messages_received_total: ["Published by devices, a second", short],
	firth_mqtt_messages_sent_total: ["Sent to devices, a second", short],
	firth_mqtt_messages_dropped_total: ["Dropped or refused, a second", short],
	firth_mqtt_fanout_dropped_total: ["Expired or gone before they were sent, a second", short],
	firth_kafka_connections: ["Connections of Kafka clients", short],
	firth_kafka_batches_produced_total: ["Batches of Kafka clients, a second", short],
	firth_kafka_sent_bytes_total: ["Answered to Kafka clients, a second", bytes],
	firth_log_append_bytes_total: ["Appended to the log, a second", bytes],
	firth_log_topics: ["Topics", short],
	firth_log_disk_free_bytes: ["Free on the disk", bytes],
};

export function HourPage() {
	const it = useQuery({
		queryKey: ["GET /metrics/hour"],
		queryFn: ({ signal }) => call("GET /metrics/hour", {}, signal),
		refetchInterval: every(10_000),
	});
	const h = it.data;
	return (
		<Page title="Last hour" about="What the node has seen every ten seconds. It forgets it when it ends.">
			{it.error && <Trouble error={it.error} />}
			<div className="path">
				{h?.names.map((name, i) => (
					<Course key={name} hour={h} name={name} at={i} />
				))}
			</div>
		</Page>
	);
}

/** course is what a family was, and of a counter how fast it grew. */
function course(h: Hour, name: string, at: number): number[] {
	const values = h.items.map((m) => m.values[at] ?? 0);
	if (!name.endsWith("_total")) return values;
	const times = h.items.map((m) => new Date(m.time).getTime() / 1000);
	return values.slice(1).map((v, i) => {
		const seconds = (times[i + 1] ?? 0) - (times[i] ?? 0);
		return seconds > 0 ? Math.max(v - (values[i] ?? 0), 0) / seconds : 0;
	});
}

function Course({ hour, name, at }: { hour: Hour; name: string; at: number }) {
	const values = course(hour, name, at);
	const [title, show] = titles[name] ?? [name, short];
	const now = values.at(-1);
	return (
		<section className="card" aria-label={title}>
			<h2>{title}</h2>
			<Spark values={values} room={360} />
			{now === undefined ? (
				<p className="muted">Known ten seconds after the node began.</p>
			) : (
				<>
					<p className="fact">
						<span>now</span>
						<strong>{show(now)}</strong>
					</p>
					<p className="fact">
						<span>least to most</span>
						<strong>
							{show(Math.min(...values))} to {show(Math.max(...values))}
						</strong>
					</p>
				</>
			)}
		</section>
	);
}
