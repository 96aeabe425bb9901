import { useQuery } from "@tanstack/react-query";
import { Link, useParams } from "@tanstack/react-router";
import { call } from "../api/client";
import type { TopicDetail } from "../api/schema";
import { every } from "../lib/queries";
import { count } from "../lib/show";
import { useView } from "../parts/list";
import { Page } from "../parts/page";
import { Table } from "../parts/table";
import { Tabs } from "../parts/tabs";
import { Trouble } from "../parts/trouble";
import { Records } from "./records";

export function TopicPage() {
	const { topic = "" } = useParams({ strict: false });
	const [view] = useView();
	const tab = view.tab ?? "records";
	const it = useQuery({
		queryKey: ["GET /topics/{topic}", topic],
		queryFn: ({ signal }) => call("GET /topics/{topic}", { topic }, signal),
		refetchInterval: every(5000),
	});
	return (
		<Page key={topic} title={topic} about={it.data && <About topic={it.data} />}>
			<Tabs
				label="Views of the topic"
				now={tab}
				tabs={[
					["records", "Records"],
					["partitions", "Partitions"],
					["settings", "Settings"],
				]}
			/>
			{it.error && <Trouble error={it.error} />}
			{it.data && tab === "records" && <Records topic={it.data} />}
			{it.data && tab === "partitions" && <Partitions topic={it.data} />}
			{it.data && tab === "settings" && <Settings topic={it.data} />}
		</Page>
	);
}

function About({ topic }: { topic: TopicDetail }) {
	return (
		<>
			{topic.partitions === 1 ? "1 partition" : `${count(topic.partitions)} partitions`}
			{topic.records !== undefined && `, ${count(topic.records)} records`}
			{topic.mqtt_filters.length > 0 && (
				<>
					{" · devices find it at "}
					{topic.mqtt_filters.map((f) => (
						<code key={f}>{f} </code>
					))}
				</>
			)}
			{" · "}
			<Link to="/groups" search={{ topic: topic.name }}>
				groups that read it
			</Link>
		</>
	);
}

function Partitions({ topic }: { topic: TopicDetail }) {
	return (
		<Table
			label="Partitions"
			rows={topic.bounds}
			id={(b) => String(b.partition)}
			columns={[
				{ name: "Partition", number: true, cell: (b) => b.partition },
				{ name: "First offset", number: true, cell: (b) => count(b.start) },
				{ name: "Committed up to", number: true, cell: (b) => count(b.stable) },
				{ name: "End", number: true, cell: (b) => count(b.end) },
				{ name: "Trouble", cell: (b) => b.error ?? "" },
			]}
			empty="It has no partitions."
		/>
	);
}

function Settings({ topic }: { topic: TopicDetail }) {
	return (
		<Table
			label="Settings"
			rows={topic.config}
			id={(s) => s.name}
			columns={[
				{ name: "Setting", cell: (s) => <code>{s.name}</code> },
				{ name: "Value", cell: (s) => <code>{s.value}</code> },
				{ name: "From", cell: (s) => s.origin },
				{ name: "What it does", cell: (s) => s.doc },
			]}
			empty="It has no settings."
		/>
	);
}
