// Rules of access: the list, how one is added, and how one is removed.

import { useMutation, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { change } from "../api/client";
import type { NewRule, Rule } from "../api/schema";
import { Dialog, Ends } from "../parts/dialog";
import { Checks, Choice, Field, said, words } from "../parts/field";
import { List, useView } from "../parts/list";
import { Sure } from "../parts/sure";
import { type Column, Table } from "../parts/table";
import { Trouble } from "../parts/trouble";

export function Rules() {
	const [view, change] = useView();
	const [removing, setRemoving] = useState<Rule>();
	return (
		<>
			<p>
				<button type="button" className="primary" onClick={() => change({ add: "true" })}>
					Add a rule…
				</button>
			</p>
			{view.add && (
				<AddRule
					begin={{ principal: view.for, operation: view.operation, name: view.name, on: view.on }}
					onClose={() =>
						change({ add: undefined, for: undefined, operation: undefined, name: undefined, on: undefined }, true)
					}
				/>
			)}
			{removing && <RemoveRule rule={removing} onClose={() => setRemoving(undefined)} />}
			<List
				route="GET /rules"
				label="Rules"
				searchLabel="With this text in the rule"
				sort="text"
				params={["principal", "user", "effect"]}
				id={(r) => r.id}
				columns={[...columns, { name: "Change", cell: (r) => <Removal rule={r} onAsk={setRemoving} /> }]}
				tools={
					<Choice
						label="Effect"
						value={view.effect ?? ""}
						choices={[["", "any"], "allow", "deny", "mask"]}
						onChange={(effect) => change({ effect })}
					/>
				}
				empty="There is no such rule."
			/>
		</>
	);
}

const columns: Column<Rule>[] = [{ name: "Rule", sort: "text", cell: (r) => r.text }];

/** RuleTable shows some rules. */
export function RuleTable({ rules, empty, label = "Rules" }: { rules: Rule[]; empty: string; label?: string }) {
	return (
		<Table label={label} rows={rules} id={(r) => r.id} columns={[{ name: label, cell: (r) => r.text }]} empty={empty} />
	);
}

function Removal({ rule, onAsk }: { rule: Rule; onAsk: (rule: Rule) => void }) {
	return (
		<button type="button" className="danger" aria-label={`Remove: ${rule.text}`} onClick={() => onAsk(rule)}>
			Remove…
		</button>
	);
}

function RemoveRule({ rule, onClose }: { rule: Rule; onClose: () => void }) {
	return (
		<Sure
			title="Remove this rule?"
			verb="Remove"
			act={() => change("DELETE /rules/{rule}", { rule: rule.id }, undefined)}
			onClose={onClose}
		>
			<p>{rule.text}</p>
			<p>It counts no more at once, for connections that are there, too.</p>
		</Sure>
	);
}

/** What a rule may be about, as people choose it: kind and pattern of the API, and the operations that make sense. */
const things: Record<string, { label: string; kind: NewRule["kind"]; pattern: NewRule["pattern"]; may: string[] }> = {
	filter: {
		label: "topic names that an MQTT filter matches",
		kind: "topic",
		pattern: "filter",
		may: ["read", "write"],
	},
	topic: {
		label: "one topic of the log",
		kind: "topic",
		pattern: "literal",
		may: ["read", "write", "describe", "create", "delete", "alter"],
	},
	topics: {
		label: "topics of the log that begin so",
		kind: "topic",
		pattern: "prefixed",
		may: ["read", "write", "describe", "create", "delete", "alter"],
	},
	group: { label: "one group", kind: "group", pattern: "literal", may: ["read", "describe", "delete"] },
	groups: { label: "groups that begin so", kind: "group", pattern: "prefixed", may: ["read", "describe", "delete"] },
	transactional_id: {
		label: "one transactional id",
		kind: "transactional_id",
		pattern: "literal",
		may: ["write", "describe"],
	},
	cluster: { label: "the node itself", kind: "cluster", pattern: "literal", may: ["describe", "alter", "create"] },
};

interface Begin {
	principal?: string;
	operation?: string;
	name?: string;
	on?: string;
}

/** AddRule makes a rule. A refusal that somebody looks at leads here with what was refused. */
function AddRule({ begin, onClose }: { begin: Begin; onClose: () => void }) {
	const client = useQueryClient();
	const [on, setOn] = useState(begin.on && begin.on in things ? begin.on : "filter");
	const [effect, setEffect] = useState("allow");
	const thing = things[on] ?? things.filter;
	const add = useMutation({
		mutationFn: (form: FormData) =>
			change(
				"POST /rules",
				{},
				{
					principal: said(form, "principal"),
					effect: effect as NewRule["effect"],
					operations: effect === "mask" ? ["read"] : form.getAll("operation").map(String),
					kind: thing?.kind ?? "topic",
					pattern: thing?.pattern ?? "literal",
					name: on === "cluster" ? "kafka-cluster" : said(form, "resource"),
					masks: effect === "mask" ? words(said(form, "masks")) : undefined,
				},
			),
		onSuccess: () => {
			onClose();
			void client.invalidateQueries();
		},
	});
	const send = (e: FormEvent<HTMLFormElement>) => {
		e.preventDefault();
		add.mutate(new FormData(e.currentTarget));
	};
	return (
		<Dialog title="Add a rule" onClose={onClose}>
			<form onSubmit={send}>
				<Field
					label="Who"
					name="principal"
					value={begin.principal ?? ""}
					placeholder="User:alice"
					help="User:NAME, Role:NAME, Group:NAME; User:* is everybody"
					required
				/>
				<Choice label="Effect" value={effect} choices={["allow", "deny", "mask"]} onChange={setEffect} />
				<Choice
					label="About"
					value={on}
					choices={Object.entries(things).map(([key, t]) => [key, t.label])}
					onChange={setOn}
				/>
				{on !== "cluster" && <Field label="Name" name="resource" value={begin.name} required />}
				{effect === "mask" ? (
					<Field label="Masks" name="masks" placeholder="json:patient.name=remove" required />
				) : (
					<Checks
						key={on}
						legend="May, or may not"
						name="operation"
						all={thing?.may ?? []}
						on={begin.operation ? [begin.operation] : []}
					/>
				)}
				{on === "filter" && <p className="muted">To publish is to write, to subscribe is to read.</p>}
				{add.error && <Trouble error={add.error} />}
				<Ends verb="Add" busy={add.isPending} as="primary" onClose={onClose} />
			</form>
		</Dialog>
	);
}
