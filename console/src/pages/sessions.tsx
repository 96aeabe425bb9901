import { Link } from "@tanstack/react-router";
import { useId } from "react";
import { count, stamp } from "../lib/show";
import { List, useView } from "../parts/list";
import { Page } from "../parts/page";

export function SessionsPage() {
	const [view, change] = useView();
	const id = useId();
	return (
		<Page
			title="MQTT sessions"
			about="Clients of the MQTT door, connected or away, with how many records each has still to come to."
		>
			<List
				route="GET /sessions"
				label="Sessions"
				searchLabel="With this text in client, user or address"
				sort="client"
				params={["state", "user"]}
				id={(s) => s.client}
				columns={[
					{
						name: "Client",
						sort: "client",
						cell: (s) => (
							<Link to="/sessions/$client" params={{ client: s.client }}>
								{s.client || "(empty)"}
							</Link>
						),
					},
					{ name: "State", cell: (s) => s.state },
					{ name: "Since", sort: "since", cell: (s) => s.since && <time dateTime={s.since}>{stamp(s.since)}</time> },
					{ name: "User", cell: (s) => s.user ?? "" },
					{ name: "Address", cell: (s) => s.remote ?? "" },
					{ name: "MQTT", cell: (s) => s.version },
					{ name: "Subscriptions", sort: "subscriptions", number: true, cell: (s) => count(s.subscriptions) },
					{ name: "In flight", sort: "in_flight", number: true, cell: (s) => count(s.in_flight) },
					{
						name: "Backlog",
						sort: "backlog",
						number: true,
						cell: (s) => (s.backlog === undefined ? "" : count(s.backlog)),
					},
					{ name: "Behind in", sort: "behind", number: true, cell: (s) => count(s.behind) },
					{ name: "Dropped", sort: "dropped", number: true, cell: (s) => count(s.dropped) },
				]}
				tools={
					<div className="field">
						<label htmlFor={id}>State</label>
						<select id={id} value={view.state ?? ""} onChange={(e) => change({ state: e.target.value })}>
							<option value="">connected or away</option>
							<option value="connected">connected</option>
							<option value="away">away</option>
						</select>
					</div>
				}
				empty="There is no such session."
			/>
		</Page>
	);
}
