// Messages as they come: server-sent events, read by fetch, because EventSource shows no token.

import { events } from "../api/client";
import type { Event as Message, Problem } from "../api/schema";

/** Row is a message that came; n counts them. */
export interface Row {
	n: number;
	message: Message;
}

/** Live is what is shown: the newest rows, and what was not. */
export interface Live {
	rows: Row[];
	/** How many messages came, and how many the node left out because they were too many. */
	came: number;
	left: number;
	/** How many records retention took before they were looked at. */
	missed: number;
	state: "joining" | "live" | "away" | "ended";
	problem?: Problem;
}

/** How many rows are kept, and about how many bytes: the tab stays as small, however long it is open. */
const mostRows = 1000;
const mostBytes = 4 << 20;
/** How much is kept of one payload, in characters. */
const mostOfOne = 16 << 10;
/** How many messages a second the node sends at most; it tells how many it left out. */
const mostRate = 200;
/** How often what came is shown, in milliseconds. */
export const beat = 250;

/** Follower follows a filter, and keeps what came last. It is told of a change not more often than each beat. */
export class Follower {
	private rows: Row[] = [];
	private size = 0;
	private came = 0;
	private left = 0;
	private missed = 0;
	private state: Live["state"] = "joining";
	private problem?: Problem;
	private last = "";
	private dirty = false;
	private readonly ends = new AbortController();
	private readonly timer: ReturnType<typeof setInterval>;

	constructor(
		private readonly filter: string,
		private readonly from: string,
		private readonly retained: boolean,
		show: (live: Live) => void,
	) {
		this.timer = setInterval(() => {
			if (!this.dirty) return;
			this.dirty = false;
			const { came, left, missed, state, problem } = this;
			show({ rows: this.rows.toReversed(), came, left, missed, state, problem });
		}, beat);
		void this.run();
	}

	/** end ends it: no more is asked for, and what came stays as it was shown. */
	end(): void {
		clearInterval(this.timer);
		this.ends.abort();
	}

	private async run(): Promise<void> {
		while (!this.over()) {
			try {
				await this.read();
			} catch (e) {
				if (this.ends.signal.aborted) return;
				if (e instanceof Error && "status" in e && Number(e.status) >= 400 && Number(e.status) < 500) {
					this.finish({ detail: e.message } as Problem);
					return;
				}
			}
			if (!this.over()) this.to("away");
			await new Promise((again) => setTimeout(again, 1000));
		}
	}

	private over(): boolean {
		return this.ends.signal.aborted || this.state === "ended";
	}

	private to(state: Live["state"]): void {
		this.dirty ||= state !== this.state;
		this.state = state;
	}

	private finish(problem: Problem): void {
		this.problem = problem;
		this.to("ended");
	}

	private async read(): Promise<void> {
		const takes = { filter: this.filter, from: this.last ? "" : this.from, retained: this.retained, rate: mostRate };
		const answer = await events("GET /filters/{filter}/messages", takes, this.last, this.ends.signal);
		this.to("live");
		const body = answer.body?.pipeThrough(new TextDecoderStream()).getReader();
		for (let rest = ""; body; ) {
			const { done, value } = await body.read();
			if (done) return;
			const parts = (rest + value).split("\n\n");
			rest = parts.pop() ?? "";
			for (const part of parts) this.take(part);
		}
	}

	/** take takes one event: its lines are a field each (HTML Living Standard, section 9.2). */
	private take(text: string): void {
		const fields: Record<string, string> = {};
		for (const line of text.split("\n")) {
			const at = line.indexOf(": ");
			if (at > 0) fields[line.slice(0, at)] = line.slice(at + 2);
		}
		if (fields.id) this.last = fields.id;
		if (!fields.data) return;
		const data: unknown = JSON.parse(fields.data);
		if (fields.event === "message") this.keep(data as Message);
		else if (fields.event === "skipped") this.left += Number((data as { messages: string }).messages);
		else if (fields.event === "missed") this.missed += Number((data as { records: string }).records);
		else if (fields.event === "end") this.finish(data as Problem);
		this.dirty = true;
	}

	private keep(message: Message): void {
		const p = message.payload;
		if (p?.text && p.text.length > mostOfOne) message.payload = { text: p.text.slice(0, mostOfOne) };
		else if (p?.base64 && p.base64.length > mostOfOne) message.payload = { base64: p.base64.slice(0, mostOfOne) };
		this.came++;
		this.rows.push({ n: this.came, message });
		this.size += weight(message);
		while (this.rows.length > mostRows || this.size > mostBytes) {
			const gone = this.rows.shift();
			if (!gone) break;
			this.size -= weight(gone.message);
		}
	}
}

const weight = (m: Message) => 300 + m.name.length + (m.payload?.text ?? m.payload?.base64 ?? "").length;
