import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { type ReactNode, useEffect, useState } from "react";
import { call, metrics } from "../api/client";
import { byLabel, parse, rate, type Sample } from "../lib/metrics";
import { every } from "../lib/queries";
import { bytes, count, duration, short } from "../lib/show";
import { Page } from "../parts/page";
import { Spark, slots } from "../parts/spark";
import { Table } from "../parts/table";
import { Trouble } from "../parts/trouble";

/** How often the rates are looked at, in milliseconds. */
const beat = 2000;

export function OverviewPage() {
	const health = useQuery({
		queryKey: ["health"],
		queryFn: ({ signal }) => call("GET /health", {}, signal),
		refetchInterval: every(5000),
	});
	const failing = health.data?.checks.filter((c) => !c.ok) ?? [];
	const notes = health.data?.checks.filter((c) => c.ok && c.reason) ?? [];
	return (
		<Page title="Overview">
			{health.error && <Trouble error={health.error} />}
			{health.data && (
				<section className={health.data.ready ? "card good" : "card bad"} aria-label="Health">
					<p className="verdict">
						<strong>{health.data.ready ? "Ready" : "Not ready"}</strong>
						<span className="muted"> · version {health.data.version}</span>
					</p>
					{[...failing, ...notes].map((c) => (
						<p key={c.name}>
							<strong>{c.name}</strong>: {c.reason}
						</p>
					))}
					<details>
						<summary>{count(health.data.checks.length)} checks</summary>
						<ul>
							{health.data.checks.map((c) => (
								<li key={c.name}>
									{c.name}: {c.ok ? "ok" : "not met"}
									{c.reason && `, ${c.reason}`}
								</li>
							))}
						</ul>
					</details>
				</section>
			)}
			<Welcome />
			<Rates />
			<Behind />
		</Page>
	);
}

/** Welcome leads to the first message as long as there is none. */
function Welcome() {
	const topics = useQuery({
		queryKey: ["GET /topics", "any"],
		queryFn: ({ signal }) => call("GET /topics", { limit: 1 }, signal),
		refetchInterval: every(5000),
	});
	if (topics.data?.total !== 0) return null;
	return (
		<section className="card" aria-label="Welcome">
			<p>
				There is no message here yet. <Link to="/start">Send the first one through both doors</Link>.
			</p>
		</section>
	);
}

/** useSamples are the last looks at /metrics, the newest last. */
function useSamples(): [Sample[], Error | null] {
	const [samples, setSamples] = useState<Sample[]>([]);
	const look = useQuery({
		queryKey: ["metrics"],
		queryFn: async ({ signal }) => parse(await metrics(signal), performance.now()),
		refetchInterval: every(beat),
	});
	const newest = look.data;
	useEffect(() => {
		if (newest) setSamples((was) => [...was, newest].slice(-slots - 1));
	}, [newest]);
	return [samples, look.error];
}

function Rates() {
	const [samples, error] = useSamples();
	const now = samples.at(-1);
	if (!now) return error ? <Trouble error={error} /> : <p role="status">Looking at the doors…</p>;
	const rates = (name: string) => samples.slice(1).map((s, i) => rate(name, samples[i] ?? s, s));
	const value = (name: string) => now.values.get(name) ?? 0;
	const mean = (name: string) => {
		const n = value(`${name}_count`);
		return n > 0 ? duration((value(`${name}_sum`) / n) * 1000) : "";
	};
	const drops = [
		...byLabel("firth_mqtt_messages_dropped_total", now),
		...byLabel("firth_mqtt_fanout_dropped_total", now),
		...byLabel("firth_mqtt_shared_dropped_total", now),
	];
	return (
		<>
			<div className="path">
				<Station title="MQTT door" more={<Link to="/sessions">Sessions</Link>}>
					<Rate name="Published by devices" unit="messages/s" values={rates("firth_mqtt_messages_received_total")} />
					<Rate name="Sent to devices" unit="messages/s" values={rates("firth_mqtt_messages_sent_total")} />
					<Fact name="Connections" value={count(value("firth_mqtt_connections"))} />
					<Fact name="Subscriptions" value={count(value("firth_mqtt_subscriptions"))} />
				</Station>
				<Station title="The log" more={<Link to="/topics">Topics</Link>}>
					<Rate name="Appended" unit="B/s" values={rates("firth_log_append_bytes_total")} show={bytes} />
					<Fact name="A write to the disk, on average" value={mean("firth_log_fsync_duration_seconds")} />
					<Fact name="Topics" value={count(value("firth_log_topics"))} />
					<Fact name="Free on the disk" value={now.values.has(free) ? bytes(value(free)) : ""} />
				</Station>
				<Station title="Kafka door" more={<Link to="/groups">Groups</Link>}>
					<Rate name="Produced" unit="batches/s" values={rates("firth_kafka_batches_produced_total")} />
					<Rate name="Answered" unit="B/s" values={rates("firth_kafka_sent_bytes_total")} show={bytes} />
					<Fact name="Connections" value={count(value("firth_kafka_connections"))} />
				</Station>
			</div>
			<section className="card" aria-label="Dropped and refused messages">
				<h2>Dropped or refused since the node began</h2>
				<p>
					<Link to="/drops">Why, and what to do</Link>
				</p>
				{drops.length === 0 ? (
					<p className="muted">Nothing.</p>
				) : (
					<ul>
						{drops.map(([reason, n]) => (
							<li key={reason}>
								{reason.replaceAll("_", " ")}: <strong>{count(n)}</strong>
							</li>
						))}
					</ul>
				)}
			</section>
		</>
	);
}

const free = "firth_log_disk_free_bytes";

function Station({ title, more, children }: { title: string; more: ReactNode; children: ReactNode }) {
	return (
		<section className="card" aria-label={title}>
			<h2>{title}</h2>
			{children}
			<p>{more}</p>
		</section>
	);
}

function Rate(p: { name: string; unit: string; values: number[]; show?: (n: number) => string }) {
	const now = p.values.at(-1);
	const said = now === undefined ? "…" : p.show ? `${p.show(now)}/s` : `${short(now)} ${p.unit}`;
	return (
		<div className="rate">
			<Fact name={p.name} value={said} />
			<Spark values={p.values} />
		</div>
	);
}

function Fact({ name, value }: { name: string; value: string }) {
	if (value === "") return null;
	return (
		<p className="fact">
			<span>{name}</span>
			<strong>{value}</strong>
		</p>
	);
}

/** Behind are those who are behind most: groups of Kafka, sessions of MQTT. */
function Behind() {
	const groups = useQuery({
		queryKey: ["GET /groups", "behind"],
		queryFn: ({ signal }) => call("GET /groups", { sort: "-lag", limit: 5 }, signal),
		refetchInterval: every(5000),
	});
	const sessions = useQuery({
		queryKey: ["GET /sessions", "behind"],
		queryFn: ({ signal }) => call("GET /sessions", { sort: "-behind", limit: 5 }, signal),
		refetchInterval: every(5000),
	});
	return (
		<section className="card" aria-label="Who is behind">
			<h2>Who is behind</h2>
			<div className="halves">
				{groups.error ? (
					<Trouble error={groups.error} />
				) : (
					<Table
						label="Groups with the most lag"
						rows={groups.data?.items.filter((g) => g.lag !== "0") ?? []}
						id={(g) => g.id}
						columns={[
							{
								name: "Group",
								cell: (g) => (
									<Link to="/groups/$group" params={{ group: g.id }}>
										{g.id}
									</Link>
								),
							},
							{ name: "Records behind", number: true, cell: (g) => count(g.lag) },
						]}
						empty="No group of Kafka clients is behind."
					/>
				)}
				{sessions.error ? (
					<Trouble error={sessions.error} />
				) : (
					<Table
						label="Sessions that fell behind"
						rows={sessions.data?.items.filter((s) => s.behind > 0) ?? []}
						id={(s) => s.client}
						columns={[
							{
								name: "Session",
								cell: (s) => (
									<Link to="/sessions/$client" params={{ client: s.client }}>
										{s.client}
									</Link>
								),
							},
							{ name: "Partitions behind", number: true, cell: (s) => count(s.behind) },
						]}
						empty="No session of MQTT fell behind."
					/>
				)}
			</div>
		</section>
	);
}
