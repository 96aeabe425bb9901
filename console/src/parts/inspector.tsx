// One record in full.

import { useEffect, useRef, useState } from "react";
import type { Bytes, RecordPage } from "../api/schema";
import { dump, preview, raw } from "../lib/bytes";
import { isJSON, pretty } from "../lib/json";
import { bytes, count, stamp } from "../lib/show";
import { Facts } from "./facts";

type Form = "json" | "text" | "hex";

interface Props {
	topic: string;
	record: RecordPage["items"][number];
	onClose: () => void;
}

export function Inspector({ topic, record, onClose }: Props) {
	const heading = useRef<HTMLHeadingElement>(null);
	// biome-ignore lint/correctness/useExhaustiveDependencies: another record is looked at
	useEffect(() => heading.current?.focus(), [record.offset]);
	return (
		<section className="card inspector" aria-labelledby="record">
			<div className="row">
				<h2 id="record" ref={heading} tabIndex={-1}>
					Offset {count(record.offset)}
				</h2>
				<button type="button" onClick={onClose}>
					Close
				</button>
			</div>
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
		</section>
	);
}

function Value({ value }: { value: Bytes }) {
	const forms: Form[] = [];
	if (value.text !== undefined && isJSON(value.text)) forms.push("json");
	if (value.text !== undefined) forms.push("text");
	forms.push("hex");
	const [wanted, setWanted] = useState<Form>();
	const form = wanted && forms.includes(wanted) ? wanted : (forms[0] ?? "hex");
	const text = value.text ?? "";
	const shown = form === "json" ? pretty(text) : form === "text" ? text : dump(raw(value).subarray(0, mostHex));
	return (
		<>
			<fieldset className="choice">
				<legend className="away">Shown as</legend>
				{forms.map((f) => (
					<label key={f}>
						<input type="radio" name="form" checked={f === form} onChange={() => setWanted(f)} />
						{names[f]}
					</label>
				))}
			</fieldset>
			{/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls has to be reached by keyboard */}
			<section className="scroll" aria-label="Value" tabIndex={0}>
				<pre>{shown}</pre>
			</section>
		</>
	);
}

const names: Record<Form, string> = { json: "JSON", text: "Text", hex: "Hex" };

/** How many bytes are shown in hex: more is slow, and nobody reads them. */
const mostHex = 16 << 10;
