// One record in full.

import type { RecordPage } from "../api/schema";
import { preview } from "../lib/bytes";
import { bytes, count, stamp } from "../lib/show";
import { Facts } from "./facts";
import { Journey } from "./journey";
import { Panel } from "./panel";
import { Value } from "./value";

interface Props {
	topic: string;
	record: RecordPage["items"][number];
	onClose: () => void;
}

export function Inspector({ topic, record, onClose }: Props) {
	return (
		<Panel of={record.offset} title={`Offset ${count(record.offset)}`} onClose={onClose}>
			<Facts
				facts={[
					["Topic of the log", topic],
					["Partition", String(record.partition)],
					["Time", stamp(record.time)],
					["Topic name of MQTT", record.mqtt_topic && <code>{record.mqtt_topic}</code>],
					["Key", record.key && <code>{preview(record.key, 4096)}</code>],
					["Size", bytes(record.value_bytes)],
				]}
			/>
			<h3>Value</h3>
			{record.value_hidden && <p className="muted">A mask hides it from you.</p>}
			{record.value === null && !record.value_hidden && <p className="muted">None: it is a tombstone.</p>}
			{record.value && <Value value={record.value} />}
			{record.value_cut && <p className="muted">Only its beginning is shown.</p>}
			{record.headers.length > 0 && (
				<>
					<h3>Headers</h3>
					<Facts facts={record.headers.map((h) => [h.name, <code key="v">{preview(h.value, 4096)}</code>])} />
				</>
			)}
			<Journey topic={topic} record={record} />
		</Panel>
	);
}
