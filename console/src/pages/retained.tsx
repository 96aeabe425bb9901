// Retained messages: the tree of their topic names, the value of one, what it was, and how it comes back.

import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { type FormEvent, useState } from "react";
import { call, change } from "../api/client";
import type { RetainedMessage, RetainedVersion } from "../api/schema";
import { preview } from "../lib/bytes";
import { every } from "../lib/queries";
import { bytes, count, stamp } from "../lib/show";
import { grow, type Level } from "../lib/tree";
import { Facts } from "../parts/facts";
import { Field, said } from "../parts/field";
import { useView } from "../parts/list";
import { Page } from "../parts/page";
import { Panel } from "../parts/panel";
import { Sure } from "../parts/sure";
import { Table } from "../parts/table";
import { Trouble } from "../parts/trouble";
import { Value } from "../parts/value";
import type { Search } from "../router";

/** How many names are on a page. */
const most = 500;

export function RetainedPage() {
	const [view, change] = useView();
	const takes = { filter: view.filter || "#", cursor: view.cursor, limit: most };
	const it = useQuery({
		queryKey: ["GET /retained", takes],
		queryFn: ({ signal }) => call("GET /retained", takes, signal),
		placeholderData: keepPreviousData,
		refetchInterval: every(5000),
	});
	const ask = (e: FormEvent<HTMLFormElement>) => {
		e.preventDefault();
		change({ filter: said(new FormData(e.currentTarget), "the-filter"), name: undefined });
	};
	return (
		<Page title="Retained messages" about="The last message of each topic name, which new subscribers get at once.">
			<form className="tools" onSubmit={ask} key={view.filter}>
				<Field label="MQTT topic filter" name="the-filter" value={view.filter} placeholder="plant/+/state" wide />
				<button type="submit" className="primary">
					Show
				</button>
			</form>
			{it.error && <Trouble error={it.error} />}
			{view.name && (
				<One
					key={view.name}
					name={view.name}
					onClose={() => {
						document.getElementById(`name-${view.name}`)?.focus();
						change({ name: undefined, cursor: view.cursor });
					}}
				/>
			)}
			{it.data && <Tree messages={it.data.items} />}
			{it.data && (
				<nav className="pager" aria-label="Pages of the tree">
					<span role="status">{count(it.data.items.length)} on this page</span>
					{view.cursor && (
						<Link to="." search={(was: Search): Search => ({ ...was, cursor: undefined })}>
							First page
						</Link>
					)}
					{it.data.next && (
						<Link to="." search={(was: Search): Search => ({ ...was, cursor: it.data?.next })}>
							Next page
						</Link>
					)}
				</nav>
			)}
		</Page>
	);
}

function Tree({ messages }: { messages: RetainedMessage[] }) {
	if (messages.length === 0) return <p className="empty">There is no such retained message.</p>;
	return (
		<section className="card tree" aria-label="Topic names">
			<Levels levels={grow(messages)} open={messages.length <= 50} />
		</section>
	);
}

/** Levels are the levels of names below one, which the browser folds. */
function Levels({ levels, open }: { levels: Level[]; open: boolean }) {
	return (
		<ul>
			{levels.map((l) => (
				<li key={l.name}>
					{l.message && <Leaf level={l} message={l.message} />}
					{l.below.length > 0 && (
						<details open={open}>
							<summary>
								<code>{l.word || "(empty)"}/</code> <span className="muted">{count(l.names)}</span>
							</summary>
							<Levels levels={l.below} open={open} />
						</details>
					)}
				</li>
			))}
		</ul>
	);
}

function Leaf({ level, message: m }: { level: Level; message: RetainedMessage }) {
	return (
		<p>
			<Link
				id={`name-${level.name}`}
				to="."
				search={(was: Search): Search => ({ ...was, name: level.name })}
				aria-label={`Show ${level.name}`}
			>
				<code>{level.word || "(empty)"}</code>
			</Link>{" "}
			{m.payload_hidden ? (
				<span className="muted">hidden by a mask</span>
			) : (
				<code>{preview(m.payload ?? null, 80)}</code>
			)}
		</p>
	);
}

/** One is a topic name: what is retained, what was, and the way back. */
function One({ name, onClose }: { name: string; onClose: () => void }) {
	const [restoring, setRestoring] = useState<RetainedVersion>();
	const [clearing, setClearing] = useState(false);
	const it = useQuery({
		queryKey: ["GET /retained/{name}/history", name],
		queryFn: ({ signal }) => call("GET /retained/{name}/history", { name }, signal),
		refetchInterval: every(5000),
	});
	const now = it.data?.items.find((v) => v.current);
	return (
		<Panel of={name} title={name} onClose={onClose}>
			{it.error && <Trouble error={it.error} />}
			{it.data && !now && <p className="muted">Nothing is retained there now.</p>}
			{now && (
				<>
					<Facts
						facts={[
							["Since", stamp(now.since)],
							["Size", bytes(now.payload_bytes)],
							["Content type", now.content_type],
						]}
					/>
					{now.payload_hidden && <p className="muted">A mask hides it from you.</p>}
					{now.payload && <Value value={now.payload} label="Retained value" />}
					<p>
						<button type="button" className="danger" onClick={() => setClearing(true)}>
							Clear…
						</button>
					</p>
				</>
			)}
			<h3>What it was</h3>
			<Table
				label="History"
				rows={it.data?.items.filter((v) => !v.current) ?? []}
				id={(v) => v.version}
				columns={[
					{ name: "Since", cell: (v) => <time dateTime={v.since}>{stamp(v.since)}</time> },
					{
						name: "Value",
						cell: (v) =>
							v.payload_hidden ? <span className="muted">hidden</span> : <code>{preview(v.payload ?? null)}</code>,
					},
					{
						name: "Back",
						cell: (v) => (
							<button
								type="button"
								aria-label={`Restore ${preview(v.payload ?? null, 40)}`}
								onClick={() => setRestoring(v)}
							>
								Restore…
							</button>
						),
					},
				]}
				empty="The log has nothing older."
			/>
			{restoring && (
				<Sure
					title={`Restore ${name}?`}
					verb="Restore"
					act={() => change("POST /retained/{name}/restore", { name }, { version: restoring.version })}
					onClose={() => setRestoring(undefined)}
				>
					<p>
						<code>{preview(restoring.payload ?? null)}</code> is published again as it was, to subscribers too.
					</p>
				</Sure>
			)}
			{clearing && (
				<Sure
					title={`Clear ${name}?`}
					verb="Clear"
					act={() => change("DELETE /retained/{name}", { name }, undefined)}
					onClose={() => setClearing(false)}
				>
					<p>New subscribers get nothing any more. What it was stays in the log, and can be restored.</p>
				</Sure>
			)}
		</Panel>
	);
}
