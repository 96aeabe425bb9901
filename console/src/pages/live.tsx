// Messages as they come, of a topic filter.

import { Link } from "@tanstack/react-router";
import { type FormEvent, useEffect, useState } from "react";
import { preview } from "../lib/bytes";
import { Follower, type Live, type Row } from "../lib/live";
import { lonely } from "../lib/queries";
import { bytes, count, stamp } from "../lib/show";
import { Facts } from "../parts/facts";
import { Choice, Field, said } from "../parts/field";
import { useView } from "../parts/list";
import { Page } from "../parts/page";
import { Panel } from "../parts/panel";
import { type Column, Table } from "../parts/table";
import { Value } from "../parts/value";

/** How many rows are drawn: more nobody reads while they move. The rest is kept, and drawn in pause. */
const drawn = 100;

export function LivePage() {
	const [view, change] = useView();
	const ask = (e: FormEvent<HTMLFormElement>) => {
		e.preventDefault();
		const form = new FormData(e.currentTarget);
		change({
			filter: said(form, "the-filter"),
			from: said(form, "the-from"),
			retained: form.get("the-retained") === "on" ? "true" : undefined,
		});
	};
	return (
		<Page title="Live" about="Messages of a topic filter as they come, from devices and from Kafka clients.">
			<form className="tools" onSubmit={ask} key={JSON.stringify(view)}>
				<Field label="MQTT topic filter" name="the-filter" value={view.filter} placeholder="sensors/#" wide required />
				<Choice
					label="Begin"
					name="the-from"
					value={view.from ?? ""}
					choices={[
						["", "now"],
						["-1m", "a minute ago"],
						["-1h", "an hour ago"],
						["earliest", "at the oldest there is"],
					]}
				/>
				<label className="check">
					<input type="checkbox" name="the-retained" defaultChecked={view.retained === "true"} />
					Retained messages first
				</label>
				<button type="submit" className="primary">
					Follow
				</button>
			</form>
			{view.filter && (
				<Following key={JSON.stringify(view)} filter={view.filter} from={view.from} kept={view.retained} />
			)}
		</Page>
	);
}

const states: Record<Live["state"], string> = {
	joining: "Joining…",
	live: "Live",
	away: "The node does not answer; it goes on where it was",
	ended: "Ended",
};

function Following({ filter, from, kept }: { filter: string; from?: string; kept?: string }) {
	const [live, setLive] = useState<Live>({ rows: [], came: 0, left: 0, missed: 0, state: "joining" });
	const [paused, setPaused] = useState<Live>();
	const [open, setOpen] = useState<Row>();
	const [idle, setIdle] = useState(false);
	useEffect(() => {
		const follower = new Follower(filter, from ?? "", kept === "true", setLive);
		const look = setInterval(() => {
			if (!lonely()) return;
			follower.end();
			setIdle(true);
			clearInterval(look);
		}, 10_000);
		return () => {
			clearInterval(look);
			follower.end();
		};
	}, [filter, from, kept]);
	const shown = paused ?? live;
	return (
		<>
			<div className="tools">
				<button type="button" aria-pressed={paused !== undefined} onClick={() => setPaused(paused ? undefined : live)}>
					{paused ? "Go on" : "Pause"}
				</button>
				<span role="status">{idle ? "Ended: nobody touched the page for ten minutes" : states[live.state]}</span>
				<span className="muted">
					{count(live.came)} came
					{live.left > 0 && `, ${count(live.left)} more were too many to send`}
					{live.missed > 0 && `, ${count(live.missed)} records had gone by retention`}
					{paused && `; ${count(live.came - paused.came)} since the pause`}
				</span>
			</div>
			{live.problem && (
				<div className="trouble" role="alert">
					<p>
						<strong>{live.problem.detail}</strong>
					</p>
					{live.problem.hint && <p>{live.problem.hint}</p>}
				</div>
			)}
			{open && <One row={open} onClose={() => setOpen(undefined)} />}
			<Table
				label="Messages"
				rows={paused ? shown.rows : shown.rows.slice(0, drawn)}
				id={(r) => String(r.n)}
				columns={columns(setOpen)}
				empty="None so far."
			/>
		</>
	);
}

const columns = (onOpen: (row: Row) => void): Column<Row>[] => [
	{
		name: "Message",
		number: true,
		cell: (r) => (
			<button type="button" aria-label={`Show message ${r.n}`} onClick={() => onOpen(r)}>
				{count(r.n)}
			</button>
		),
	},
	{ name: "Time", cell: (r) => r.message.time && <time dateTime={r.message.time}>{stamp(r.message.time)}</time> },
	{ name: "Topic name", cell: (r) => <code>{r.message.name}</code> },
	{
		name: "Value",
		cell: (r) =>
			r.message.payload_hidden ? (
				<span className="muted">hidden by a mask</span>
			) : (
				<code>{preview(r.message.payload ?? null)}</code>
			),
	},
	{ name: "Size", number: true, cell: (r) => bytes(r.message.payload_bytes) },
];

/** One is a message in full. It stays when its row has gone. */
function One({ row, onClose }: { row: Row; onClose: () => void }) {
	const { message: m } = row;
	return (
		<Panel of={String(row.n)} title={`Message ${count(row.n)}`} onClose={onClose}>
			<Facts
				facts={[
					["Topic name", <code key="name">{m.name}</code>],
					["Time", m.time && stamp(m.time)],
					["Retained", m.retained ? "it was there before" : m.retain ? "it became the retained message" : ""],
					["Content type", m.content_type],
					[
						"In the log",
						m.place && (
							<Link
								key="place"
								to="/topics/$topic"
								params={{ topic: m.place.topic }}
								search={{ partition: String(m.place.partition), offset: m.place.offset, at: m.place.offset }}
							>
								{m.place.topic}, partition {m.place.partition}, offset {count(m.place.offset)}
							</Link>
						),
					],
					...(m.user_properties ?? []).map((p) => [p.name, p.value] as [string, string]),
				]}
			/>
			{m.payload && <Value key={row.n} value={m.payload} />}
		</Panel>
	);
}
