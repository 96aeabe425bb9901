// What did not arrive: how many messages, why, who did not get them, and what to do.

import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { call, metrics } from "../api/client";
import { byLabel, parse } from "../lib/metrics";
import { every } from "../lib/queries";
import { count, stamp } from "../lib/show";
import { Page } from "../parts/page";
import { Table } from "../parts/table";
import { Trouble } from "../parts/trouble";
import { Why } from "./audit";

/** Reason is why messages do not arrive: the series of /metrics that counts them, what it means, and what to do. */
interface Reason {
	family: string;
	reason: string;
	what: string;
	todo: string;
}

const door = "firth_mqtt_messages_dropped_total";
const fanout = "firth_mqtt_fanout_dropped_total";
const shared = "firth_mqtt_shared_dropped_total";
const retained = "firth_mqtt_retained_dropped_total";
const bridge = "firth_bridge_dropped_total";

const reasons: Reason[] = [
	{
		family: door,
		reason: "outbox_full",
		what: "QoS 0, to a client that reads too slowly",
		todo: "Have it subscribe with QoS 1: then it is caught up from the log. Or ask it to read faster.",
	},
	{
		family: door,
		reason: "too_large",
		what: "larger than the client takes",
		todo: "Raise the Maximum Packet Size that the client says, or publish less at once.",
	},
	{
		family: door,
		reason: "denied",
		what: "a subscription matches it, and the client may not see it",
		todo: "Give the user the right to read the topic name, or have it subscribe to less.",
	},
	{
		family: door,
		reason: "refused",
		what: "published where its client may not, against a quota, or to a name that is none",
		todo: "The refusals below lead to the rules; the events of the session say what else it was.",
	},
	{
		family: door,
		reason: "not_stored",
		what: "the log could not store it",
		todo: "The overview says what is wrong with the log: a full disk, most often. QoS 1 is sent again by the device.",
	},
	{
		family: door,
		reason: "removed",
		what: "in flight when the connection ended, and gone from the log before it was sent again",
		todo: "Raise retention.ms or retention.bytes of the topic.",
	},
	{
		family: fanout,
		reason: "expired",
		what: "older than the device said it is of use",
		todo: "Raise the Message Expiry Interval, or find out why who reads is away so long.",
	},
	{
		family: fanout,
		reason: "retention",
		what: "gone by retention before a session had read it",
		todo: "Raise retention.ms or retention.bytes of the topic, or end sessions that do not come back.",
	},
	{
		family: fanout,
		reason: "corrupt",
		what: "damaged on the disk",
		todo: "Look at the disk, and at the log of the node, which says where. The pages of topics show which offsets.",
	},
	{ family: fanout, reason: "panic", what: "a fault of the node", todo: "Tell us, with the lines of its log." },
	{
		family: shared,
		reason: "nobody_may",
		what: "no member of a shared subscription may read it",
		todo: "Give one of them the right to subscribe to the topic name.",
	},
	{
		family: shared,
		reason: "outbox_full",
		what: "QoS 0, and all members of a shared subscription read too slowly",
		todo: "Subscribe with QoS 1, or add members.",
	},
	{
		family: shared,
		reason: "gone",
		what: "gone from the log before a member of a shared subscription acknowledged it",
		todo: "Raise the retention of the topic, or add members.",
	},
	{
		family: retained,
		reason: "corrupt",
		what: "a retained message that is damaged",
		todo: "Publish it again, or restore one that was there before.",
	},
	{ family: bridge, reason: "", what: "not passed on by a bridge", todo: "The page of the bridge in docs/bridge.md." },
];

export function DropsPage() {
	const it = useQuery({
		queryKey: ["metrics", "drops"],
		queryFn: async ({ signal }) => parse(await metrics(signal), performance.now()),
		refetchInterval: every(5000),
	});
	const now = it.data;
	const families = [...new Set(reasons.map((r) => r.family))];
	const found = families.flatMap((family) =>
		(now ? byLabel(family, now) : []).map(([reason, n]) => ({ family, reason, n })),
	);
	const known = (family: string, reason: string) =>
		reasons.find((r) => r.family === family && (r.reason === reason || r.reason === ""));
	return (
		<Page title="Drops" about="Messages that did not arrive since the node began, why, and what to do.">
			{it.error && <Trouble error={it.error} />}
			{now && (
				<Table
					label="Reasons"
					rows={found.sort((a, b) => b.n - a.n)}
					id={(r) => `${r.family} ${r.reason}`}
					columns={[
						{ name: "Reason", cell: (r) => r.reason.replaceAll("_", " ") },
						{ name: "Messages", number: true, cell: (r) => count(r.n) },
						{ name: "What it means", cell: (r) => known(r.family, r.reason)?.what ?? r.family },
						{ name: "What to do", cell: (r) => known(r.family, r.reason)?.todo ?? "" },
					]}
					empty="Nothing was dropped, refused or expired."
				/>
			)}
			<details>
				<summary>Every reason there is</summary>
				<dl className="facts">
					{reasons.map((r) => (
						<div key={r.family + r.reason}>
							<dt>
								{r.reason.replaceAll("_", " ") || "of bridges"}: {r.what}
							</dt>
							<dd>{r.todo}</dd>
						</div>
					))}
				</dl>
			</details>
			<Sessions />
			<Refusals />
		</Page>
	);
}

/** Sessions are those that did not get the most; each says by which reasons, and what happened last. */
function Sessions() {
	const it = useQuery({
		queryKey: ["GET /sessions", "dropped"],
		queryFn: ({ signal }) => call("GET /sessions", { sort: "-dropped", limit: 10 }, signal),
		refetchInterval: every(5000),
	});
	return (
		<>
			<h2>Sessions with the most</h2>
			{it.error && <Trouble error={it.error} />}
			{it.data && (
				<Table
					label="Sessions with the most drops"
					rows={it.data.items.filter((s) => s.dropped !== "0")}
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
						{ name: "User", cell: (s) => s.user ?? "" },
						{ name: "Messages", number: true, cell: (s) => count(s.dropped) },
					]}
					empty="No connection that is there missed anything."
				/>
			)}
		</>
	);
}

/** Refusals are the last ones, as a sample of who may not do what. */
function Refusals() {
	const it = useQuery({
		queryKey: ["GET /audit", "denied"],
		queryFn: ({ signal }) => call("GET /audit", { outcome: "denied", limit: 10 }, signal),
		refetchInterval: every(10_000),
	});
	return (
		<>
			<h2>The last refusals</h2>
			{it.error && <Trouble error={it.error} />}
			{it.data && (
				<Table
					label="The last refusals"
					rows={it.data.items}
					id={(e) => e.sequence}
					columns={[
						{ name: "Time", cell: (e) => <time dateTime={e.time}>{stamp(e.time)}</time> },
						{ name: "Who", cell: (e) => e.actor.principal ?? "" },
						{ name: "What", cell: (e) => e.action ?? "" },
						{ name: "On", cell: (e) => e.resources.map((r) => `${r.kind} ${r.name}`).join(", ") },
						{ name: "So many", number: true, cell: (e) => count(e.count || 1) },
						{ name: "Outcome", cell: (e) => <Why event={e} /> },
					]}
					empty="Nobody was refused lately."
				/>
			)}
		</>
	);
}
