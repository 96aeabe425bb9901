import { Link } from "@tanstack/react-router";
import { count, duration } from "../lib/show";
import { List, useView } from "../parts/list";
import { Page } from "../parts/page";

export function TopicsPage() {
	const [view, change] = useView();
	return (
		<Page title="Topics" about="Topics of the log. What devices publish is in them, and what back ends produce.">
			<List
				route="GET /topics"
				label="Topics"
				searchLabel="With this text in their name"
				sort="name"
				params={["internal"]}
				id={(t) => t.id}
				columns={[
					{
						name: "Name",
						sort: "name",
						cell: (t) => (
							<Link to="/topics/$topic" params={{ topic: t.name }}>
								{t.name}
							</Link>
						),
					},
					{ name: "Partitions", sort: "partitions", number: true, cell: (t) => count(t.partitions) },
					{ name: "Records", sort: "records", number: true, cell: (t) => count(t.records) },
					{
						name: "Kept",
						sort: "retention_ms",
						number: true,
						cell: (t) => (t.cleanup_policy === "compact" ? "the last of each key" : duration(Number(t.retention_ms))),
					},
				]}
				tools={
					<label className="check">
						<input
							type="checkbox"
							checked={view.internal === "true"}
							onChange={(e) => change({ internal: e.target.checked ? "true" : undefined })}
						/>
						Those with state of the log, too
					</label>
				}
				empty="There is no such topic. The first message to a topic makes it."
			/>
		</Page>
	);
}
