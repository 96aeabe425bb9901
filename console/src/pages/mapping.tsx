import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { type FormEvent, useId } from "react";
import { call } from "../api/client";
import type { Mapped } from "../api/schema";
import { preview } from "../lib/bytes";
import { Facts } from "../parts/facts";
import { useView } from "../parts/list";
import { Page } from "../parts/page";
import { Trouble } from "../parts/trouble";

export function MappingPage() {
	const [view, change] = useView();
	const id = useId();
	const name = view.name ?? "";
	const it = useQuery({
		queryKey: ["GET /mapping", name],
		queryFn: ({ signal }) => call("GET /mapping", { name }, signal),
		enabled: name !== "",
	});
	const ask = (e: FormEvent<HTMLFormElement>) => {
		e.preventDefault();
		change({ name: String(new FormData(e.currentTarget).get("name") ?? "") });
	};
	return (
		<Page title="Mapping" about="Where the messages of a topic name of MQTT would go in the log. Nothing is published.">
			<form className="tools" onSubmit={ask}>
				<div className="field wide">
					<label htmlFor={id}>Topic name</label>
					<input
						key={name}
						id={id}
						name="name"
						defaultValue={name}
						placeholder="sensors/room1/temp"
						autoComplete="off"
						spellCheck={false}
						required
					/>
				</div>
				<button type="submit" className="primary">
					Try
				</button>
			</form>
			{name !== "" && it.error && <Trouble error={it.error} />}
			{it.data && <Answer to={it.data} />}
		</Page>
	);
}

function Answer({ to }: { to: Mapped }) {
	const partitions = to.partitions === 0 ? "as many as the log makes by default" : String(to.partitions);
	return (
		<section className="card" aria-label="Where it goes">
			<Facts
				facts={[
					["Topic of the log", <Target key="topic" to={to} />],
					["Key", to.key ? <code key="key">{preview(to.key, 4096)}</code> : "none: any partition will do"],
					["Partitions", partitions],
					["Topic name in a header", to.in_header ? "yes, because topic and key do not tell it" : "no need"],
					["By", to.catch_all ? "the catch-all: no entry of the mapping is for it" : "an entry of the mapping"],
					["Names that may be in that topic", to.mqtt_filters.map((f) => <code key={f}>{f} </code>)],
				]}
			/>
		</section>
	);
}

function Target({ to }: { to: Mapped }) {
	if (!to.exists) return <>{to.topic}, which the first message makes</>;
	return (
		<Link to="/topics/$topic" params={{ topic: to.topic }}>
			{to.topic}
		</Link>
	);
}
