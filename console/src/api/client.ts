// How the console asks the node: the routes of the API with their types, the login, the metrics.

import type { Problem, Routes } from "./schema";

/** Refused is an answer that says no, or none at all (status 0). */
export class Refused extends Error {
	constructor(
		readonly status: number,
		detail: string,
		readonly hint?: string,
		readonly refused?: Problem["refused"],
	) {
		super(detail);
	}
}

/** Standing is who asks: the answer of GET /auth/session. */
export interface Standing {
	known: boolean;
	/** Nobody has made users: everybody on this machine may do everything. */
	open?: boolean;
	user?: string;
	roles?: string[];
	cluster?: string[];
	csrf?: string;
	ways: string[];
}

const tokenKey = "firth.token";

/** token is what somebody logged in with in this tab; it goes when the tab does. */
export const token = {
	get: () => sessionStorage.getItem(tokenKey),
	set: (text: string) => sessionStorage.setItem(tokenKey, text),
	clear: () => sessionStorage.removeItem(tokenKey),
};

/** The CSRF token of the session, which every change needs. */
let csrf = "";

type Route = keyof Routes;

/** address is the URL of a route. What it takes goes into the path where that names it, else into the query. */
function address<R extends Route>(route: R, takes: Routes[R]["takes"]): { method: string; url: string } {
	const [method = "", path = ""] = route.split(" ");
	const query = new URLSearchParams();
	let at = path;
	for (const [name, value] of Object.entries(takes)) {
		if (value === undefined || value === "") continue;
		if (at.includes(`{${name}}`)) at = at.replace(`{${name}}`, encodeURIComponent(String(value)));
		else query.set(name, String(value));
	}
	const asked = query.size > 0 ? `?${query}` : "";
	return { method, url: `/api/v1${at}${asked}` };
}

/** call asks a route. */
export async function call<R extends Route>(
	route: R,
	takes: Routes[R]["takes"],
	signal?: AbortSignal,
): Promise<Routes[R]["answers"]> {
	const { method, url } = address(route, takes);
	const answer = await ask(url, { method, signal });
	return answer.json() as Promise<Routes[R]["answers"]>;
}

/** tagged asks a route for what somebody may change, with its entity tag. */
export async function tagged<R extends Route>(
	route: R,
	takes: Routes[R]["takes"],
	signal?: AbortSignal,
): Promise<{ value: Routes[R]["answers"]; tag: string }> {
	const { method, url } = address(route, takes);
	const answer = await ask(url, { method, signal });
	return { value: (await answer.json()) as Routes[R]["answers"], tag: answer.headers.get("ETag") ?? "" };
}

/** change tells a route something. With the tag of what was seen it is refused (412) once somebody else changed that. */
export async function change<R extends Route>(
	route: R,
	takes: Routes[R]["takes"],
	says: Routes[R]["says"],
	tag?: string,
): Promise<Routes[R]["answers"]> {
	const { method, url } = address(route, takes);
	const headers: HeadersInit = tag ? { "If-Match": tag } : {};
	const answer = await ask(url, { method, headers, body: says && JSON.stringify(says) });
	return answer.json() as Promise<Routes[R]["answers"]>;
}

/** events begins to read what a route sends as it comes, behind the event of an id. */
export async function events<R extends Route>(
	route: R,
	takes: Routes[R]["takes"],
	last: string,
	signal: AbortSignal,
): Promise<Response> {
	return ask(address(route, takes).url, { headers: last ? { "Last-Event-ID": last } : {}, signal });
}

async function ask(url: string, init: RequestInit): Promise<Response> {
	const headers = new Headers(init.headers);
	const bearer = token.get();
	if (bearer) headers.set("Authorization", `Bearer ${bearer}`);
	if (init.method && init.method !== "GET") {
		headers.set("Content-Type", "application/json");
		if (csrf) headers.set("X-CSRF-Token", csrf);
	}
	let answer: Response;
	try {
		answer = await fetch(url, { ...init, headers, cache: "no-store" });
	} catch (e) {
		if (e instanceof DOMException && e.name === "AbortError") throw e;
		throw new Refused(0, "The node does not answer.", "Is it running? The console goes on by itself when it is back.");
	}
	if (!answer.ok) throw await refusal(answer);
	return answer;
}

/** What is said by an answer that refuses: a problem document, or the shape of /auth. */
async function refusal(answer: Response): Promise<Refused> {
	try {
		const said = (await answer.json()) as Partial<Problem> & { error?: string };
		return new Refused(answer.status, said.detail ?? said.error ?? answer.statusText, said.hint, said.refused);
	} catch {
		return new Refused(answer.status, answer.statusText || `status ${answer.status}`);
	}
}

/** standing tells who asks. Who shows a token has no session. */
export async function standing(): Promise<Standing> {
	const who = (await (await ask("/auth/session", {})).json()) as Standing;
	csrf = who.csrf ?? "";
	return who;
}

/** login begins a session by a password. */
export async function login(name: string, password: string): Promise<void> {
	token.clear();
	await ask("/auth/login", { method: "POST", body: JSON.stringify({ name, password }) });
}

/** loginByToken shows a token from now on, if the node takes it. */
export async function loginByToken(text: string): Promise<void> {
	token.set(text);
	try {
		await call("GET /topics", { limit: 1 });
	} catch (e) {
		if (e instanceof Refused && e.status === 403) return; // it is known, and may do other things
		token.clear();
		throw e;
	}
}

/** logout ends the session, or forgets the token; it tells where to log out at the identity provider, too. */
export async function logout(): Promise<string | undefined> {
	if (token.get()) {
		token.clear();
		return undefined;
	}
	const said = (await (await ask("/auth/logout", { method: "POST" })).json()) as { leave?: string };
	return said.leave;
}

/** metrics are the lines of /metrics. */
export async function metrics(signal?: AbortSignal): Promise<string> {
	return (await ask("/metrics", { signal })).text();
}
