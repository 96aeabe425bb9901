import { useQuery } from "@tanstack/react-query";
import { useId } from "react";
import { call } from "../api/client";
import type { Setting } from "../api/schema";
import { count } from "../lib/show";
import { useView } from "../parts/list";
import { Page } from "../parts/page";
import { Table } from "../parts/table";
import { Trouble } from "../parts/trouble";

export function ConfigPage() {
	const [view, change] = useView();
	const id = useId();
	const it = useQuery({ queryKey: ["GET /config"], queryFn: ({ signal }) => call("GET /config", {}, signal) });
	const text = (view.search ?? "").toLowerCase();
	const set = view.set === "true";
	const shown = it.data?.items.filter(
		(s) => (!set || s.origin !== "default") && `${s.key} ${s.doc}`.toLowerCase().includes(text),
	);
	return (
		<Page title="Configuration" about="The options in force, and where the value of each comes from.">
			<form className="tools" onSubmit={(e) => e.preventDefault()}>
				<div className="field">
					<label htmlFor={id}>With this text in name or description</label>
					<input
						id={id}
						type="search"
						value={view.search ?? ""}
						autoComplete="off"
						spellCheck={false}
						onChange={(e) => change({ search: e.target.value }, true)}
					/>
				</div>
				<label className="check">
					<input
						type="checkbox"
						checked={set}
						onChange={(e) => change({ set: e.target.checked ? "true" : undefined })}
					/>
					Only those that somebody has set
				</label>
			</form>
			{it.error && <Trouble error={it.error} />}
			{shown && (
				<>
					<p className="muted" role="status">
						{count(shown.length)} of {count(it.data?.items.length)}
					</p>
					<Table label="Options" rows={shown} id={(s) => s.key} columns={columns} empty="There is no such option." />
				</>
			)}
		</Page>
	);
}

const columns = [
	{ name: "Option", cell: (s: Setting) => <code>{s.key}</code> },
	{ name: "Value", cell: (s: Setting) => <code>{said(s.value)}</code> },
	{ name: "From", cell: (s: Setting) => s.origin },
	{ name: "A change takes", cell: (s: Setting) => (s.live ? "a reload" : "a restart") },
	{ name: "What it does", cell: (s: Setting) => s.doc },
];

const said = (value: unknown) => (typeof value === "string" ? value : JSON.stringify(value));
