import { useQuery } from "@tanstack/react-query";
import { Link, useParams } from "@tanstack/react-router";
import { useState } from "react";
import { call } from "../api/client";
import { every } from "../lib/queries";
import { count } from "../lib/show";
import { Facts } from "../parts/facts";
import { Page } from "../parts/page";
import { Table } from "../parts/table";
import { Trouble } from "../parts/trouble";
import { ResetGroup } from "./reset";

export function GroupPage() {
	const { group = "" } = useParams({ strict: false });
	const it = useQuery({
		queryKey: ["GET /groups/{group}", group],
		queryFn: ({ signal }) => call("GET /groups/{group}", { group }, signal),
		refetchInterval: every(3000),
	});
	const [resetting, setResetting] = useState(false);
	const g = it.data;
	return (
		<Page key={group} title={`Group ${group}`}>
			{it.error && <Trouble error={it.error} />}
			{g && (
				<>
					<Facts
						facts={[
							["State", g.state],
							["Kind", g.type],
							["Members", count(g.members)],
							["Records behind", g.type === "share" ? "" : count(g.lag)],
						]}
					/>
					{g.type !== "share" && g.positions.length > 0 && (
						<p>
							<button type="button" onClick={() => setResetting(true)}>
								Reset…
							</button>
						</p>
					)}
					{resetting && <ResetGroup group={g} onClose={() => setResetting(false)} />}
					<h2>Committed offsets</h2>
					<Table
						label="Committed offsets"
						rows={g.positions}
						id={(p) => `${p.topic} ${p.partition}`}
						columns={[
							{
								name: "Topic",
								cell: (p) => (
									<Link to="/topics/$topic" params={{ topic: p.topic }}>
										{p.topic}
									</Link>
								),
							},
							{ name: "Partition", number: true, cell: (p) => p.partition },
							{
								name: "Committed",
								number: true,
								cell: (p) => (
									<Link
										to="/topics/$topic"
										params={{ topic: p.topic }}
										search={{ partition: String(p.partition), offset: p.next }}
									>
										{count(p.committed)}
									</Link>
								),
							},
							{ name: "Records behind", number: true, cell: (p) => count(p.lag) },
						]}
						empty="It has committed nothing."
					/>
				</>
			)}
		</Page>
	);
}
