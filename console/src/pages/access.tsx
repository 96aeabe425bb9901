// Who may do what: users, rules, and what the guard would decide.

import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { type FormEvent, useId } from "react";
import { call } from "../api/client";
import type { Explained, Routes } from "../api/schema";
import { useView } from "../parts/list";
import { Page } from "../parts/page";
import { Tabs } from "../parts/tabs";
import { Trouble } from "../parts/trouble";
import type { Search } from "../router";
import { Rules, RuleTable } from "./rules";
import { Users } from "./users";

export function AccessPage() {
	const [view] = useView();
	const tab = view.tab ?? "users";
	return (
		<Page title="Access" about="Who may do what, and why.">
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
			<div role="status">{it.data && <Decision said={it.data} asked={view} />}</div>
		</>
	);
}

function Decision({ said, asked }: { said: Explained; asked: Search }) {
	return (
		<section className={said.allowed ? "card good" : "card bad"} aria-label="Decision">
			<p className="verdict">
				<strong>{said.allowed ? "Allowed" : "Denied"}</strong>
				<span className="muted"> · {said.reason}</span>
			</p>
			<RuleTable label="By these rules" rules={said.rules ?? []} empty="No rule says so." />
			{said.masks?.length > 0 && <RuleTable label="Masked by" rules={said.masks} empty="" />}
			{!said.allowed && asked.user && (said.rules ?? []).length === 0 && (
				<p>
					<Link to="/access" search={ruleFor(asked)}>
						Allow it by a rule…
					</Link>
				</p>
			)}
		</section>
	);
}

/** ruleFor leads to the rule that would allow what was asked about. */
function ruleFor(asked: Search): Search {
	const device = asked.operation === "publish" || asked.operation === "subscribe";
	const operation = { publish: "write", subscribe: "read" }[asked.operation ?? ""] ?? asked.operation;
	const on = device ? "filter" : (asked.kind ?? "topic");
	return { tab: "rules", add: "true", for: `User:${asked.user}`, operation, name: asked.name, on };
}
