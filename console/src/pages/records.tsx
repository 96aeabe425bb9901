// The records of a partition: where to begin, what to look for, one of them in full.

import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { type FormEvent, useId, useState } from "react";
import { call } from "../api/client";
import type { RecordPage, TopicDetail } from "../api/schema";
import { preview } from "../lib/bytes";
import { every } from "../lib/queries";
import { bytes, count, stamp } from "../lib/show";
import { Inspector } from "../parts/inspector";
import { useView } from "../parts/list";
import { Table } from "../parts/table";
import { Trouble } from "../parts/trouble";
import type { Search } from "../router";

const asked = ["partition", "offset", "time", "last", "filter", "key", "contains", "cursor"] as const;

type Entry = RecordPage["items"][number];

/** How many of the newest records are shown when the URL says nothing. */
const newest = "100";

export function Records({ topic }: { topic: TopicDetail }) {
	const [view, change] = useView();
	const takes: Search = {};
	for (const name of asked) takes[name] = view[name];
	if (!takes.offset && !takes.time && !takes.last && !takes.cursor) takes.last = newest;
	const following = view.follow === "true";
	const read = useQuery({
		queryKey: ["GET records", topic.name, takes],
		queryFn: ({ signal }) =>
			call(
				"GET /topics/{topic}/records",
				{ ...takes, topic: topic.name, partition: Number(takes.partition ?? 0) },
				signal,
			),
		placeholderData: keepPreviousData,
		refetchInterval: following ? every(2000) : false,
	});
	const shown = read.data?.items.find((r) => r.offset === view.at);
	return (
		<>
			<Where key={JSON.stringify(takes)} topic={topic} view={view} onGo={change} />
			{read.error && <Trouble error={read.error} />}
			{read.data && <Progress page={read.data} />}
			{shown && (
				<Inspector
					topic={topic.name}
					record={shown}
					onClose={() => {
						document.getElementById(`offset-${shown.offset}`)?.focus();
						change({ at: undefined, cursor: view.cursor });
					}}
				/>
			)}
			{read.data && (
				<>
					<Table
						label="Records"
						rows={read.data.items}
						id={(r) => r.offset}
						columns={columns}
						empty={read.data.end ? "There is no such record." : "None so far; go on to look at more."}
					/>
					<nav className="pager" aria-label="Pages of records">
						<Link to="." search={(was: Search): Search => ({ ...was, ...nowhere, offset: "0" })}>
							To the first
						</Link>
						<Link to="." search={(was: Search): Search => ({ ...was, ...nowhere })}>
							To the newest
						</Link>
						{!read.data.end && (
							<Link to="." search={(was: Search): Search => ({ ...was, ...nowhere, cursor: read.data.next })}>
								Go on
							</Link>
						)}
						<label className="check">
							<input
								type="checkbox"
								checked={following}
								onChange={(e) => change({ follow: e.target.checked ? "true" : undefined, cursor: view.cursor })}
							/>
							Look again every 2 s
						</label>
					</nav>
				</>
			)}
		</>
	);
}

const nowhere: Search = { offset: undefined, time: undefined, last: undefined, cursor: undefined, at: undefined };

const columns = [
	{
		name: "Offset",
		number: true,
		cell: (r: Entry) => (
			<Link
				id={`offset-${r.offset}`}
				to="."
				search={(was: Search): Search => ({ ...was, at: r.offset })}
				aria-label={`Show offset ${r.offset}`}
			>
				{count(r.offset)}
			</Link>
		),
	},
	{ name: "Time", cell: (r: Entry) => <time dateTime={r.time}>{stamp(r.time)}</time> },
	{ name: "Key", cell: (r: Entry) => <code>{preview(r.key, 60)}</code> },
	{ name: "MQTT topic", cell: (r: Entry) => <code>{r.mqtt_topic ?? ""}</code> },
	{
		name: "Value",
		cell: (r: Entry) => {
			if (r.value_hidden) return <span className="muted">hidden by a mask</span>;
			return r.value === null ? <span className="muted">none (a tombstone)</span> : <code>{preview(r.value)}</code>;
		},
	},
	{ name: "Size", number: true, cell: (r: Entry) => bytes(r.value_bytes) },
];

function Progress({ page }: { page: RecordPage }) {
	const found = page.items.length === 1 ? "1 record" : `${count(page.items.length)} records`;
	return (
		<>
			<p className="muted" role="status">
				{found} of {count(page.scanned)} looked at, up to offset {count(page.at)}
				{page.end ? ", the end." : `; the end is ${count(page.stable)}.`}
			</p>
			{page.lost?.map((l) => (
				<p key={l.from} className="trouble">
					Offsets {count(l.from)} to {count(l.next)} are damaged on the disk.
				</p>
			))}
		</>
	);
}

/** Where asks where to begin, and what to look for. No field has the name of a method of forms, such as contains. */
function Where({ topic, view, onGo }: { topic: TopicDetail; view: Search; onGo: (to: Search) => void }) {
	const id = useId();
	const begin = view.offset ? "offset" : view.time ? "time" : "last";
	const go = (e: FormEvent<HTMLFormElement>) => {
		e.preventDefault();
		const data = new FormData(e.currentTarget);
		const said = (name: string) => String(data.get(`the-${name}`) ?? "").trim() || undefined;
		const at = said("at");
		const to: Search = { ...nowhere };
		for (const name of ["partition", "filter", "key", "contains"]) to[name] = said(name);
		if (said("begin") === "time") to.time = at && new Date(at).toISOString();
		else if (said("begin") === "offset") to.offset = at ?? "0";
		else to.last = at;
		onGo(to);
	};
	const field = (name: string, label: string, placeholder = "") => (
		<div className="field">
			<label htmlFor={id + name}>{label}</label>
			<input
				id={id + name}
				name={`the-${name}`}
				defaultValue={view[name]}
				placeholder={placeholder}
				autoComplete="off"
				spellCheck={false}
			/>
		</div>
	);
	return (
		<form className="tools" onSubmit={go} aria-label="Which records">
			<div className="field">
				<label htmlFor={`${id}partition`}>Partition</label>
				<select id={`${id}partition`} name="the-partition" defaultValue={view.partition ?? "0"}>
					{topic.bounds.map((b) => (
						<option key={b.partition}>{b.partition}</option>
					))}
				</select>
			</div>
			<Begin id={id} begin={begin} at={view[begin]} />
			{field("filter", "MQTT topic filter", "sensors/+/temp")}
			{field("key", "Key")}
			{field("contains", "Value contains")}
			<button type="submit" className="primary">
				Show
			</button>
		</form>
	);
}

/** Begin asks for a place: so many before the end, an offset, or a time in the zone of who looks. */
function Begin({ id, begin, at }: { id: string; begin: string; at?: string }) {
	const [kind, setKind] = useState(begin);
	return (
		<>
			<div className="field">
				<label htmlFor={`${id}begin`}>Begin</label>
				<select id={`${id}begin`} name="the-begin" value={kind} onChange={(e) => setKind(e.target.value)}>
					<option value="last">so many before the end</option>
					<option value="offset">at an offset</option>
					<option value="time">at a time</option>
				</select>
			</div>
			<div className="field">
				<label htmlFor={`${id}at`}>{places[kind]}</label>
				{kind === "time" ? (
					<input
						key="time"
						id={`${id}at`}
						name="the-at"
						type="datetime-local"
						step="0.001"
						required
						defaultValue={begin === "time" && at ? stamp(at).replace(" ", "T") : ""}
					/>
				) : (
					<input
						key={kind}
						id={`${id}at`}
						name="the-at"
						inputMode="numeric"
						pattern="[0-9]{1,19}"
						title="a whole number"
						autoComplete="off"
						defaultValue={kind === begin ? at : ""}
						placeholder={kind === "last" ? newest : "0"}
					/>
				)}
			</div>
		</>
	);
}

const places: Record<string, string> = { last: "Records", offset: "Offset", time: "Time" };
