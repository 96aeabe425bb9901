// Who did what: search of the audit, one event in full, whether the chain is whole.

import { keepPreviousData, useMutation, useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import type { FormEvent } from "react";
import { call } from "../api/client";
import type { AuditEvent, AuditVerdict, Routes } from "../api/schema";
import { pretty } from "../lib/json";
import { count, stamp } from "../lib/show";
import { Facts } from "../parts/facts";
import { Choice, Field, said } from "../parts/field";
import { useView } from "../parts/list";
import { Page } from "../parts/page";
import { Panel } from "../parts/panel";
import { type Column, Table } from "../parts/table";
import { Trouble, why } from "../parts/trouble";
import type { Search } from "../router";

const asked = ["type", "principal", "action", "resource", "outcome", "address", "since", "until"] as const;
const outcomes: [string, string][] = [
	["", "any"],
	["success", "success"],
	["failure", "failure"],
	["denied", "denied"],
	["begun", "begun"],
	["let_through", "let through"],
];

export function AuditPage() {
	const [view, change] = useView();
	const takes: Search = { cursor: view.cursor };
	for (const name of asked) takes[name] = view[name];
	const it = useQuery({
		queryKey: ["GET /audit", takes],
		queryFn: ({ signal }) => call("GET /audit", takes as Routes["GET /audit"]["takes"], signal),
		placeholderData: keepPreviousData,
	});
	const shown = it.data?.items.find((e) => e.sequence === view.at);
	return (
		<Page title="Audit" about="Who did what, and who was refused, the newest first.">
			<Verify />
			<Asked key={JSON.stringify(takes)} view={view} onAsk={change} />
			{it.error && <Trouble error={it.error} />}
			{it.data && (
				<p className="muted" role="status">
					{it.data.items.length === 1 ? "1 event" : `${count(it.data.items.length)} events`} of {count(it.data.scanned)}{" "}
					looked at{it.data.end ? ", the beginning." : "; there is more."}
				</p>
			)}
			{it.data?.lost?.map((l) => (
				<p key={l.from} className="trouble">
					Offsets {count(l.from)} to {count(l.next)} are damaged on the disk.
				</p>
			))}
			{shown && (
				<One
					event={shown}
					onClose={() => {
						document.getElementById(`event-${shown.sequence}`)?.focus();
						change({ at: undefined, cursor: view.cursor });
					}}
				/>
			)}
			{it.data && (
				<>
					<Table
						label="Events"
						rows={it.data.items}
						id={(e) => e.sequence}
						columns={columns}
						empty={it.data.end ? "There is no such event." : "None so far; go on to look at more."}
					/>
					<nav className="pager" aria-label="Pages of the audit">
						{view.cursor && (
							<Link to="." search={(was: Search): Search => ({ ...was, cursor: undefined, at: undefined })}>
								To the newest
							</Link>
						)}
						{!it.data.end && it.data.next && (
							<Link to="." search={(was: Search): Search => ({ ...was, cursor: it.data?.next, at: undefined })}>
								Go on
							</Link>
						)}
					</nav>
				</>
			)}
		</Page>
	);
}

const columns: Column<AuditEvent>[] = [
	{
		name: "Event",
		number: true,
		cell: (e) => (
			<Link
				id={`event-${e.sequence}`}
				to="."
				search={(was: Search): Search => ({ ...was, at: e.sequence })}
				aria-label={`Show event ${e.sequence}`}
			>
				{count(e.sequence)}
			</Link>
		),
	},
	{ name: "Time", cell: (e) => <time dateTime={e.time}>{stamp(e.time)}</time> },
	{ name: "Who", cell: (e) => e.actor.principal ?? "" },
	{ name: "What", cell: (e) => `${e.type.replace(/^firth\./, "")}${e.action ? `: ${e.action}` : ""}` },
	{ name: "On", cell: (e) => e.resources.map((r) => `${r.kind} ${r.name}`).join(", ") },
	{ name: "Outcome", cell: (e) => (e.outcome === "denied" ? <Why event={e} /> : (e.outcome ?? "")) },
	{ name: "From", cell: (e) => e.origin.client ?? e.origin.address ?? "" },
];

/** Why leads from a refusal to the rules by which it was one. */
export function Why({ event: e }: { event: AuditEvent }) {
	const on = e.resources[0];
	const user = e.actor.principal?.replace(/^User:/, "");
	if (!on || !user || !e.action) return <>denied</>;
	const search = { ...why({ user, operation: e.action, kind: on.kind, name: on.name }), client: e.origin.client };
	return (
		<>
			denied{" "}
			<Link to="/access" search={search} aria-label={`Why was event ${e.sequence} denied?`}>
				Why?
			</Link>
		</>
	);
}

function Asked({ view, onAsk }: { view: Search; onAsk: (to: Search) => void }) {
	const ask = (e: FormEvent<HTMLFormElement>) => {
		e.preventDefault();
		const form = new FormData(e.currentTarget);
		const to: Search = { at: undefined };
		for (const name of asked) to[name] = said(form, `the-${name}`);
		for (const name of ["since", "until"]) if (to[name]) to[name] = new Date(to[name]).toISOString();
		onAsk(to);
	};
	const time = (at?: string) => (at ? stamp(at).replace(" ", "T") : "");
	return (
		<form className="tools" onSubmit={ask} aria-label="Which events">
			<Field label="Who" name="the-principal" value={view.principal} placeholder="User:alice" />
			<Field label="Type" name="the-type" value={view.type} placeholder="login" />
			<Field label="Action" name="the-action" value={view.action} placeholder="user.set" />
			<Field label="On" name="the-resource" value={view.resource} placeholder="topic:plant*" />
			<Choice label="Outcome" name="the-outcome" value={view.outcome ?? ""} choices={outcomes} />
			<Field label="From the address" name="the-address" value={view.address} />
			<Field label="Since" name="the-since" type="datetime-local" value={time(view.since)} />
			<Field label="Until" name="the-until" type="datetime-local" value={time(view.until)} />
			<button type="submit" className="primary">
				Search
			</button>
		</form>
	);
}

/** Verify holds the records against their hashes and signatures, when somebody asks for it: it reads all of them. */
function Verify() {
	const look = useMutation({ mutationFn: () => call("GET /audit/verify", {}) });
	return (
		<section aria-label="Verification">
			<button type="button" disabled={look.isPending} onClick={() => look.mutate()}>
				{look.isPending ? "Looking at every record…" : "Verify the audit"}
			</button>
			<div role="status">{look.data && <Verdict is={look.data} />}</div>
			{look.error && <Trouble error={look.error} />}
		</section>
	);
}

function Verdict({ is: v }: { is: AuditVerdict }) {
	if (!v.good) {
		return (
			<div className="card bad">
				<p className="verdict">
					<strong>
						Record {count(v.at)} was {v.wrong}
					</strong>
				</p>
				<p>{v.detail}</p>
			</div>
		);
	}
	return (
		<div className="card good">
			<p className="verdict">
				<strong>{v.whole ? "Whole" : "Whole as far as time allowed"}</strong>
				<span className="muted">
					{" "}
					· {count(v.records)} records, {count(v.first)} to {count(v.last)}, signed up to {count(v.signed)}
				</span>
			</p>
		</div>
	);
}

/** One is an event in full. */
function One({ event: e, onClose }: { event: AuditEvent; onClose: () => void }) {
	return (
		<Panel of={e.sequence} title={`Event ${count(e.sequence)}`} onClose={onClose}>
			<Facts
				facts={[
					["Time", stamp(e.time)],
					["Type", e.type],
					["Action", e.action],
					["Outcome", e.outcome],
					["Reason", e.reason],
					["By the rule", e.rule],
					["Who", e.actor.principal],
					["Known by", e.actor.method],
					["Roles", e.actor.roles?.join(", ")],
					["Certificate", e.actor.certificate],
					["Token", e.actor.token],
					["Address", e.origin.address],
					["Listener", e.origin.listener],
					["Client identifier", e.origin.client],
					["With TLS", e.origin.tls ? "yes" : ""],
					["On", e.resources.map((r) => `${r.kind} ${r.name}`).join(", ")],
					["So many such", e.count && count(e.count)],
					["The last of them", e.until && stamp(e.until)],
					["Ends the event", e.of],
				]}
			/>
			<Side label="Before" value={e.before} />
			<Side label="After" value={e.after} />
		</Panel>
	);
}

function Side({ label, value }: { label: string; value: unknown }) {
	if (value === undefined || value === null) return null;
	return (
		<>
			<h3>{label}</h3>
			{/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls has to be reached by keyboard */}
			<section className="scroll" aria-label={label} tabIndex={0}>
				<pre>{pretty(JSON.stringify(value))}</pre>
			</section>
		</>
	);
}
