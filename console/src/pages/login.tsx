import { useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useId, useState } from "react";
import { login, loginByToken } from "../api/client";
import { Page } from "../parts/page";
import { Trouble } from "../parts/trouble";

/** LoginPage stands in place of every view until it is known who looks; the view comes at the same URL. */
export function LoginPage({ ways }: { ways: string[] }) {
	const client = useQueryClient();
	const [error, setError] = useState<Error>();
	const [busy, setBusy] = useState(false);
	const enter = async (by: () => Promise<void>) => {
		setBusy(true);
		setError(undefined);
		try {
			await by();
			await client.resetQueries();
		} catch (e) {
			setError(e as Error);
		} finally {
			setBusy(false);
		}
	};
	const back = window.location.pathname + window.location.search;
	return (
		<Page title="Log in">
			{error && <Trouble error={error} />}
			<div className="cards">
				{ways.includes("oidc") && (
					<section className="card">
						<h2>At the identity provider</h2>
						<a className="button" href={`/auth/oidc/start?return=${encodeURIComponent(back)}`}>
							Log in there
						</a>
					</section>
				)}
				<Form
					title="With a password"
					busy={busy}
					fields={[
						["name", "User", "text", "username"],
						["password", "Password", "password", "current-password"],
					]}
					onSend={(f) => enter(() => login(f("name"), f("password")))}
				/>
				<Form
					title="With a token"
					about="It is kept in this tab only, until the tab is closed."
					busy={busy}
					fields={[["token", "Token", "password", "off"]]}
					onSend={(f) => enter(() => loginByToken(f("token").trim()))}
				/>
			</div>
		</Page>
	);
}

interface FormProps {
	title: string;
	about?: string;
	busy: boolean;
	fields: [name: string, label: string, type: string, autoComplete: string][];
	onSend: (field: (name: string) => string) => Promise<void>;
}

function Form({ title, about, busy, fields, onSend }: FormProps) {
	const id = useId();
	const send = (e: FormEvent<HTMLFormElement>) => {
		e.preventDefault();
		const data = new FormData(e.currentTarget);
		void onSend((name) => String(data.get(name) ?? ""));
	};
	return (
		<form className="card" onSubmit={send} aria-labelledby={id}>
			<h2 id={id}>{title}</h2>
			{about && <p className="muted">{about}</p>}
			{fields.map(([name, label, type, autoComplete]) => (
				<div className="field" key={name}>
					<label htmlFor={`${id}-${name}`}>{label}</label>
					<input id={`${id}-${name}`} name={name} type={type} autoComplete={autoComplete} spellCheck={false} required />
				</div>
			))}
			<button type="submit" className="primary" disabled={busy}>
				Log in
			</button>
		</form>
	);
}
