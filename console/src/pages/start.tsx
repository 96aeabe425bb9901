// The first message, through both doors.

import { useMutation } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useEffect, useState } from "react";
import { call, change } from "../api/client";
import { preview } from "../lib/bytes";
import { Follower, type Live } from "../lib/live";
import { count } from "../lib/show";
import { Page } from "../parts/page";
import { Table } from "../parts/table";
import { Trouble } from "../parts/trouble";

const device = "hello/device";
const service = "hello/service";

/** produce has a Kafka client's record go where the messages of a topic name go. */
async function produce() {
	const to = await call("GET /mapping", { name: service });
	const key = to.key ?? undefined;
	const record = { key, value: { text: '{"from":"a Kafka client"}' } };
	return change("POST /topics/{topic}/records", { topic: to.topic }, { records: [record] });
}

export function StartPage() {
	const [live, setLive] = useState<Live>();
	useEffect(() => {
		const follower = new Follower("hello/#", "", false, setLive);
		return () => follower.end();
	}, []);
	const publish = useMutation({
		mutationFn: () =>
			change("POST /names/{name}/messages", { name: device }, { payload: { text: '{"from":"a device"}' } }),
	});
	const send = useMutation({ mutationFn: produce });
	const at = publish.data;
	return (
		<Page
			title="First message"
			about="Both doors lead to one log: what a device publishes, a Kafka client reads, and back."
		>
			<section className="card" aria-label="As a device">
				<h2>1. Publish as a device</h2>
				<p>
					A message of MQTT to the topic name <code>{device}</code>, as{" "}
					<code>
						firth pub -t {device} -q 1 -m '{'{"from":"a device"}'}'
					</code>{" "}
					does.
				</p>
				<button type="button" className="primary" disabled={publish.isPending} onClick={() => publish.mutate()}>
					Publish
				</button>
				{publish.error && <Trouble error={publish.error} />}
				<div role="status">
					{at && (
						<p>
							It is stored:{" "}
							<Link
								to="/topics/$topic"
								params={{ topic: at.topic }}
								search={{ partition: String(at.partition), offset: at.offset, at: at.offset }}
							>
								topic {at.topic}, partition {at.partition}, offset {count(at.offset)}
							</Link>
							. Any Kafka client reads it there: <code>firth consume {at.topic} -o beginning</code>
						</p>
					)}
				</div>
			</section>
			<section className="card" aria-label="As a Kafka client">
				<h2>2. Produce as a Kafka client</h2>
				<p>
					A record with the key <code>{service}</code> to that topic: devices that subscribe to <code>hello/#</code> get
					it.
				</p>
				<button type="button" className="primary" disabled={!at || send.isPending} onClick={() => send.mutate()}>
					Produce
				</button>
				{send.error && <Trouble error={send.error} />}
			</section>
			<section className="card" aria-label="As a subscriber">
				<h2>3. What a device gets that subscribes</h2>
				{live?.problem && <p className="trouble">{live.problem.detail}</p>}
				<Table
					label="Messages of hello/#"
					rows={live?.rows.slice(0, 20) ?? []}
					id={(r) => String(r.n)}
					columns={[
						{ name: "Topic name", cell: (r) => <code>{r.message.name}</code> },
						{ name: "Value", cell: (r) => <code>{preview(r.message.payload ?? null)}</code> },
					]}
					empty={live?.state === "live" ? "None so far." : "Joining…"}
				/>
				<p>
					Then: <Link to="/live">messages as they come</Link>, <Link to="/topics">all topics</Link>,{" "}
					<Link to="/access" search={{ add: "true" }}>
						the first user
					</Link>
					.
				</p>
			</section>
		</Page>
	);
}
