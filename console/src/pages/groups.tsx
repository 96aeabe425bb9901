import { Link } from "@tanstack/react-router";
import { count } from "../lib/show";
import { List, useView } from "../parts/list";
import { Page } from "../parts/page";

export function GroupsPage() {
	const [view, change] = useView();
	return (
		<Page title="Groups" about="Groups of Kafka clients, and how many records each has still to read.">
			<List
				route="GET /groups"
				label="Groups"
				searchLabel="With this text in their id"
				sort="-lag"
				params={["topic"]}
				id={(g) => g.id}
				columns={[
					{
						name: "Group",
						sort: "id",
						cell: (g) => (
							<Link to="/groups/$group" params={{ group: g.id }}>
								{g.id}
							</Link>
						),
					},
					{ name: "Kind", cell: (g) => g.type },
					{ name: "State", cell: (g) => g.state },
					{ name: "Members", sort: "members", number: true, cell: (g) => count(g.members) },
					{ name: "Records behind", sort: "lag", number: true, cell: (g) => (g.type === "share" ? "" : count(g.lag)) },
				]}
				tools={
					view.topic && (
						<p className="field">
							Only those that read {view.topic}
							<button type="button" onClick={() => change({ topic: undefined })}>
								Show all
							</button>
						</p>
					)
				}
				empty="There is no such group."
			/>
		</Page>
	);
}
