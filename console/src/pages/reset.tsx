// Where a group goes on: first it is shown where that would be, and then done.

import { useMutation, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { change } from "../api/client";
import type { GroupDetail, Moved, Reset } from "../api/schema";
import { count } from "../lib/show";
import { Dialog, Ends } from "../parts/dialog";
import { Choice, Field, said } from "../parts/field";
import { Table } from "../parts/table";
import { Trouble } from "../parts/trouble";

const places: [string, string][] = [
	["earliest", "at the first record there is"],
	["latest", "at the end: it skips what it has not read"],
	["time", "at a time"],
	["offset", "at an offset"],
	["shift", "so many records on; below 0 back"],
];

/** ResetGroup asks where to, shows what would be, and does exactly that. */
export function ResetGroup({ group: g, onClose }: { group: GroupDetail; onClose: () => void }) {
	const client = useQueryClient();
	const topics = [...new Set(g.positions.map((p) => p.topic))];
	const [to, setTo] = useState("earliest");
	const [plan, setPlan] = useState<Reset>();
	const send = (says: Reset) => change("POST /groups/{group}/offsets", { group: g.id }, says);
	const look = useMutation({ mutationFn: (says: Reset) => send({ ...says, dry_run: true }) });
	const move = useMutation({
		mutationFn: send,
		onSuccess: () => {
			onClose();
			void client.invalidateQueries();
		},
	});
	const ask = (e: FormEvent<HTMLFormElement>) => {
		e.preventDefault();
		const form = new FormData(e.currentTarget);
		const partition = said(form, "partition");
		const at = said(form, "at");
		const says: Reset = {
			topic: said(form, "topic"),
			partition: partition === "" ? undefined : Number(partition),
			to: to as Reset["to"],
			offset: to === "offset" || to === "shift" ? at : undefined,
			time: to === "time" ? new Date(at).toISOString() : undefined,
		};
		setPlan(says);
		look.mutate(says);
	};
	return (
		<Dialog title={`Reset ${g.id}`} onClose={onClose}>
			{g.members > 0 && (
				<p className="trouble">It has members: it cannot be moved until they are stopped. What would be is shown.</p>
			)}
			<form onSubmit={ask} onChange={() => setPlan(undefined)}>
				<Choice label="Topic" name="topic" choices={topics} />
				<Field label="Partition, or all of them" name="partition" placeholder="all" />
				<Choice label="It goes on" value={to} choices={places} onChange={setTo} />
				{to === "time" && <Field label="Time" name="at" type="datetime-local" required />}
				{(to === "offset" || to === "shift") && (
					<Field label={to === "offset" ? "Offset" : "Records"} name="at" placeholder="0" required />
				)}
				<Ends verb="Show what would be" busy={look.isPending} onClose={onClose} />
			</form>
			{look.error && <Trouble error={look.error} />}
			<div role="status">{plan && look.data && <Plan is={look.data} />}</div>
			{move.error && <Trouble error={move.error} />}
			{plan && look.data && (
				<div className="row">
					<span />
					<button type="button" className="danger" disabled={move.isPending} onClick={() => move.mutate(plan)}>
						Reset the group
					</button>
				</div>
			)}
		</Dialog>
	);
}

function Plan({ is }: { is: Moved }) {
	return (
		<Table
			label="Where it would go on"
			rows={is.items}
			id={(p) => String(p.partition)}
			columns={[
				{ name: "Partition", number: true, cell: (p) => p.partition },
				{ name: "Now at", number: true, cell: (p) => (p.before === "-1" ? "none" : count(p.before)) },
				{ name: "Then at", number: true, cell: (p) => count(p.next) },
				{ name: "To read", number: true, cell: (p) => count(p.lag) },
			]}
			empty="There is no such partition."
		/>
	);
}
