import { useState } from "react";
import type { Bytes } from "../api/schema";
import { dump, raw } from "../lib/bytes";
import { decoded } from "../lib/decode";
import { isJSON, pretty } from "../lib/json";

type Form = "json" | "text" | "cbor" | "msgpack" | "hex";

const names: Record<Form, string> = {
	json: "JSON",
	text: "Text",
	cbor: "CBOR",
	msgpack: "MessagePack",
	hex: "Hex",
};

/** How many bytes are shown in hex, or decoded: more is slow, and nobody reads them. */
const most = 16 << 10;

/** Value shows bytes in the forms that they have. */
export function Value({ value, label = "Value" }: { value: Bytes; label?: string }) {
	const [wanted, setWanted] = useState<Form>();
	const forms = formsOf(value);
	const form = wanted && forms[wanted] !== undefined ? wanted : (Object.keys(forms)[0] as Form);
	return (
		<>
			<fieldset className="choice">
				<legend className="away">Shown as</legend>
				{(Object.keys(forms) as Form[]).map((f) => (
					<label key={f}>
						<input type="radio" name="form" checked={f === form} onChange={() => setWanted(f)} />
						{names[f]}
					</label>
				))}
			</fieldset>
			{/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls has to be reached by keyboard */}
			<section className="scroll" aria-label={label} tabIndex={0}>
				<pre>{forms[form]}</pre>
			</section>
		</>
	);
}

/** formsOf is a value in each of its forms, the one that says most first. */
function formsOf(value: Bytes): Partial<Record<Form, string>> {
	const bytes = raw(value);
	const forms: Partial<Record<Form, string>> = {};
	if (value.text !== undefined && isJSON(value.text)) forms.json = pretty(value.text);
	if (value.text !== undefined) forms.text = value.text;
	else if (bytes.length <= most) Object.assign(forms, decoded(bytes));
	forms.hex = dump(bytes.subarray(0, most));
	return forms;
}
