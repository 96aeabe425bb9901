import { type ReactNode, useId } from "react";

interface Props {
	label: string;
	name: string;
	value?: string;
	type?: string;
	required?: boolean;
	placeholder?: string;
	autoComplete?: string;
	wide?: boolean;
	/** More about it, below. */
	help?: ReactNode;
}

/** Field is a line of text in a form, with its label. */
export function Field(p: Props) {
	const id = useId();
	return (
		<div className={p.wide ? "field wide" : "field"}>
			<label htmlFor={id}>{p.label}</label>
			<input
				id={id}
				name={p.name}
				type={p.type ?? "text"}
				defaultValue={p.value}
				required={p.required}
				placeholder={p.placeholder}
				autoComplete={p.autoComplete ?? "off"}
				spellCheck={false}
				aria-describedby={p.help ? `${id}-help` : undefined}
			/>
			{p.help && (
				<span id={`${id}-help`} className="muted">
					{p.help}
				</span>
			)}
		</div>
	);
}

interface ChoiceProps {
	label: string;
	name?: string;
	value?: string;
	choices: (string | [value: string, label: string])[];
	onChange?: (value: string) => void;
}

/** Choice is one of a few; with onChange its value is kept by who uses it. */
export function Choice({ label, name, value, choices, onChange }: ChoiceProps) {
	const id = useId();
	const kept = onChange ? { value, onChange: (e: { target: { value: string } }) => onChange(e.target.value) } : null;
	return (
		<div className="field">
			<label htmlFor={id}>{label}</label>
			<select id={id} name={name} defaultValue={kept ? undefined : value} {...kept}>
				{choices.map((c) => {
					const [v, text] = typeof c === "string" ? [c, c] : c;
					return (
						<option key={v} value={v}>
							{text}
						</option>
					);
				})}
			</select>
		</div>
	);
}

/** Checks are several of a few. */
export function Checks({ legend, name, all, on }: { legend: string; name: string; all: string[]; on: string[] }) {
	return (
		<fieldset className="choice">
			<legend className="muted">{legend}</legend>
			{all.map((one) => (
				<label key={one}>
					<input type="checkbox" name={name} value={one} defaultChecked={on.includes(one)} />
					{one}
				</label>
			))}
		</fieldset>
	);
}

/** words are those of a field, as people write lists. */
export const words = (text: string) => text.split(/[\s,]+/).filter((w) => w !== "");

/** said is what a form says in a field of one line. No field has the name of a method of forms. */
export const said = (form: FormData, name: string) => String(form.get(name) ?? "").trim();
