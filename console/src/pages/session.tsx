import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate, useParams } from "@tanstack/react-router";
import { useState } from "react";
import { call } from "../api/client";
import type { SessionDetail } from "../api/schema";
import { every } from "../lib/queries";
import { count, duration, stamp } from "../lib/show";
import { Dialog, Ends } from "../parts/dialog";
import { Facts } from "../parts/facts";
import { Page } from "../parts/page";
import { Table } from "../parts/table";
import { Trouble } from "../parts/trouble";

export function SessionPage() {
	const { client = "" } = useParams({ strict: false });
	const it = useQuery({
		queryKey: ["GET /sessions/{client}", client],
		queryFn: ({ signal }) => call("GET /sessions/{client}", { client }, signal),
		refetchInterval: every(3000),
	});
	return (
		<Page key={client} title={`Session ${client}`}>
			{it.error && <Trouble error={it.error} />}
			{it.data && <Session session={it.data} />}
		</Page>
	);
}

function Session({ session: s }: { session: SessionDetail }) {
	const [asking, setAsking] = useState(false);
	return (
		<>
			<Facts
				facts={[
					["State", s.state],
					["Since", s.since && stamp(s.since)],
					["User", s.user],
					["Address", s.remote],
					["Listener", s.listener],
					["Version of MQTT", s.version],
					["Lasts without a connection", s.expiry === undefined ? "for ever" : duration(s.expiry * 1000)],
					["Keep alive", s.keep_alive === 0 ? "none" : duration(s.keep_alive * 1000)],
					["In flight", `${count(s.in_flight)} of ${count(s.window)}`],
					["Will", s.will && <code>{s.will}</code>],
				]}
			/>
			<p>
				<button type="button" className="danger" onClick={() => setAsking(true)}>
					{s.state === "connected" ? "Disconnect…" : "End the session…"}
				</button>
			</p>
			{asking && <Kick session={s} onClose={() => setAsking(false)} />}
			<h2>Subscriptions</h2>
			<Table
				label="Subscriptions"
				rows={s.filters}
				id={(f) => f.filter}
				columns={[
					{ name: "Filter", cell: (f) => <code>{f.filter}</code> },
					{ name: "QoS", number: true, cell: (f) => f.qos },
					{ name: "Began", cell: (f) => f.from ?? "" },
				]}
				empty="It subscribes to nothing."
			/>
			<h2>Behind</h2>
			<Table
				label="Where it is behind"
				rows={s.lag}
				id={(l) => `${l.topic} ${l.partition}`}
				columns={[
					{ name: "Topic", cell: (l) => l.topic },
					{ name: "Partition", number: true, cell: (l) => l.partition },
					{ name: "Has all up to", number: true, cell: (l) => count(l.next) },
					{ name: "End", number: true, cell: (l) => count(l.end) },
					{ name: "Records between", number: true, cell: (l) => count(l.lag) },
				]}
				empty="It has all that is stored."
			/>
			<h2>Dropped or refused</h2>
			<Table
				label="Drops"
				rows={Object.entries(s.drops)}
				id={([reason]) => reason}
				columns={[
					{ name: "Reason", cell: ([reason]) => reason.replaceAll("_", " ") },
					{ name: "Messages", number: true, cell: ([, n]) => count(n) },
				]}
				empty="Nothing."
			/>
			<p>
				<Link to="/drops">What each reason means, and what to do</Link>
				{s.user && (
					<>
						{" · "}
						<Link to="/audit" search={{ principal: `User:${s.user}`, outcome: "denied" }}>
							what {s.user} was refused
						</Link>
					</>
				)}
			</p>
			<Events client={s.client} />
		</>
	);
}

/** Events are the last of a client, the newest first. */
function Events({ client }: { client: string }) {
	const it = useQuery({
		queryKey: ["GET /sessions/{client}/events", client],
		queryFn: ({ signal }) => call("GET /sessions/{client}/events", { client }, signal),
		refetchInterval: every(3000),
	});
	if (!it.data) return null;
	return (
		<>
			<h2>What happened</h2>
			<Table
				label="Events"
				rows={it.data.items.map((e, i) => ({ ...e, i })).reverse()}
				id={(e) => String(e.i)}
				columns={[
					{ name: "Time", cell: (e) => <time dateTime={e.time}>{stamp(e.time)}</time> },
					{ name: "Event", cell: (e) => e.what },
					{ name: "More", cell: (e) => e.text ?? "" },
					{ name: "Reason", cell: (e) => e.reason ?? "" },
				]}
				empty="Nothing that is remembered."
			/>
		</>
	);
}

/** Kick asks before it ends a connection, or all of a session. */
function Kick({ session: s, onClose }: { session: SessionDetail; onClose: () => void }) {
	const away = s.state !== "connected";
	const [forget, setForget] = useState(away);
	const client = useQueryClient();
	const navigate = useNavigate();
	const kick = useMutation({
		mutationFn: () => call("DELETE /sessions/{client}", { client: s.client, forget }),
		onSuccess: async (said) => {
			if (said.forgotten) await navigate({ to: "/sessions" });
			else await client.invalidateQueries({ queryKey: ["GET /sessions/{client}", s.client] });
			onClose();
		},
	});
	return (
		<Dialog title={`${away ? "End" : "Disconnect"} ${s.client}?`} onClose={onClose}>
			<p>
				{away
					? "What waits for the session is lost to it. The log keeps it."
					: "The client is told that an administrator did it, and its will is published. It may connect again."}
			</p>
			{!away && (
				<label className="check">
					<input type="checkbox" checked={forget} onChange={(e) => setForget(e.target.checked)} />
					End the session, too, with its subscriptions and what waits for it
				</label>
			)}
			{kick.error && <Trouble error={kick.error} />}
			<Ends
				verb={forget ? "End the session" : "Disconnect"}
				busy={kick.isPending}
				as="danger"
				onClose={onClose}
				onAct={() => kick.mutate()}
			/>
		</Dialog>
	);
}
