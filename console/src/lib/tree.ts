import type { RetainedMessage } from "../api/schema";

/** Level is one level of topic names: its word, the whole name up to it, and what is below. */
export interface Level {
	word: string;
	name: string;
	message?: RetainedMessage;
	/** How many retained messages are below it. */
	names: number;
	below: Level[];
}

/** grow makes the tree of the topic names of messages, which are sorted. */
export function grow(messages: RetainedMessage[]): Level[] {
	const top: Level[] = [];
	const known = new Map<string, Level>();
	for (const message of messages) {
		let name = "";
		let at: Level | undefined;
		message.name.split("/").forEach((word, i) => {
			name = i === 0 ? word : `${name}/${word}`;
			let level = known.get(name);
			if (!level) {
				level = { word, name, names: 0, below: [] };
				known.set(name, level);
				(at ? at.below : top).push(level);
			}
			if (at) at.names++;
			at = level;
		});
		if (at) at.message = message;
	}
	return top;
}
