// Who may do what: users, rules, and what the guard would decide.

import { useQuery } from "@tanstack/react-query";
import { type FormEvent, useId } from "react";
import { call } from "../api/client";
import type { Explained, Routes, Rule } from "../api/schema";
import { List, useView } from "../parts/list";
import { Page } from "../parts/page";
import { Table } from "../parts/table";
import { Tabs } from "../parts/tabs";
import { Trouble } from "../parts/trouble";
import type { Search } from "../router";

export function AccessPage() {
	const [view] = useView();
	const tab = view.tab ?? "users";
	return (
		<Page title="Access" about="Who may do what. Commands change it: firth user, firth acl.">
			<Tabs
				label="Views of access"
				now={tab}
				tabs={[
					["users", "Users"],
					["rules", "Rules"],
					["explain", "May it?"],
				]}
			/>
			{tab === "users" && <Users />}
			{tab === "rules" && <Rules />}
			{tab === "explain" && <Explain view={view} />}
		</Page>
	);
}

function Users() {
	return (
		<List
			route="GET /users"
			label="Users"
			searchLabel="With this text in their name"
			sort="name"
			params={["role", "group"]}
			id={(u) => u.name}
			columns={[
				{ name: "User", sort: "name", cell: (u) => u.name },
				{ name: "Roles", cell: (u) => list(u.roles) },
				{ name: "Groups", cell: (u) => list(u.groups) },
				{ name: "Client identifier", cell: (u) => <code>{u.client_id ?? ""}</code> },
				{ name: "Proves itself by", cell: (u) => list(u.proofs) },
				{ name: "State", cell: (u) => (u.disabled ? "kept out" : "") },
			]}
			empty="There is no such user. The first is made by: firth user add NAME --role admin"
		/>
	);
}

const list = (all: string[] | null) => (all ?? []).join(", ");

function Rules() {
	return (
		<List
			route="GET /rules"
			label="Rules"
			searchLabel="With this text in the rule"
			sort="text"
			params={["principal", "user"]}
			id={(r) => r.id}
			columns={[{ name: "Rule", sort: "text", cell: (r) => r.text }]}
			empty="There is no such rule."
		/>
	);
}

const operations = ["publish", "subscribe", "read", "write", "describe", "create", "delete", "alter"];
const kinds = ["topic", "group", "cluster", "transactional_id"];
const asked = ["user", "operation", "kind", "name", "client", "address"] as const;

/** Explain asks the guard what it would decide, whether it has to or not. */
function Explain({ view }: { view: Search }) {
	const [, change] = useView();
	const id = useId();
	const takes: Search = {};
	for (const name of asked) takes[name] = view[name];
	if (takes.operation === "publish" || takes.operation === "subscribe") {
		takes.kind = undefined;
		takes.pattern = "filter"; // the name is one of MQTT
	}
	const it = useQuery({
		queryKey: ["GET /explain", takes],
		queryFn: ({ signal }) => call("GET /explain", takes as Routes["GET /explain"]["takes"], signal),
		enabled: view.operation !== undefined,
	});
	const ask = (e: FormEvent<HTMLFormElement>) => {
		e.preventDefault();
		const data = new FormData(e.currentTarget);
		change(Object.fromEntries(asked.map((name) => [name, String(data.get(`the-${name}`) ?? "").trim()])));
	};
	const text = (name: (typeof asked)[number], label: string, required = false) => (
		<div className="field">
			<label htmlFor={id + name}>{label}</label>
			<input
				id={id + name}
				name={`the-${name}`}
				defaultValue={view[name]}
				autoComplete="off"
				spellCheck={false}
				required={required}
			/>
		</div>
	);
	const choice = (name: (typeof asked)[number], label: string, choices: string[]) => (
		<div className="field">
			<label htmlFor={id + name}>{label}</label>
			<select id={id + name} name={`the-${name}`} defaultValue={view[name] ?? choices[0]}>
				{choices.map((c) => (
					<option key={c}>{c}</option>
				))}
			</select>
		</div>
	);
	return (
		<>
			<form className="tools" key={JSON.stringify(takes)} onSubmit={ask} aria-label="What to ask the guard">
				{text("user", "User")}
				{choice("operation", "May it", operations)}
				{choice("kind", "Kind, unless it is a topic name of MQTT", kinds)}
				{text("name", "Name", true)}
				{text("client", "Client identifier")}
				{text("address", "Address")}
				<button type="submit" className="primary">
					Ask
				</button>
			</form>
			{view.operation && it.error && <Trouble error={it.error} />}
			<div role="status">{it.data && <Decision said={it.data} />}</div>
		</>
	);
}

function Decision({ said }: { said: Explained }) {
	const rules = (label: string, rows: Rule[], empty: string) => (
		<Table
			label={label}
			rows={rows ?? []}
			id={(r) => r.id}
			columns={[{ name: label, cell: (r: Rule) => r.text }]}
			empty={empty}
		/>
	);
	return (
		<section className={said.allowed ? "card good" : "card bad"} aria-label="Decision">
			<p className="verdict">
				<strong>{said.allowed ? "Allowed" : "Denied"}</strong>
				<span className="muted"> · {said.reason}</span>
			</p>
			{rules("By these rules", said.rules, "No rule says so.")}
			{said.masks?.length > 0 && rules("Masked by", said.masks, "")}
		</section>
	);
}
