// JSON laid out for reading, with every number as it was written: JSON.parse would round 9007199254740993.

/** isJSON tells whether a text is an object or a list of JSON. */
export function isJSON(text: string): boolean {
	if (!/^\s*[[{]/.test(text)) return false;
	try {
		JSON.parse(text);
		return true;
	} catch {
		return false;
	}
}

/** pretty lays out JSON; it has to be JSON. */
export function pretty(text: string): string {
	const tokens = text.match(/"(?:[^"\\]|\\.)*"|[[\]{}:,]|[^\s[\]{}:,"]+/g) ?? [];
	let out = "";
	let depth = 0;
	const line = () => `\n${"  ".repeat(depth)}`;
	tokens.forEach((token, i) => {
		const empty = (token === "{" && tokens[i + 1] === "}") || (token === "[" && tokens[i + 1] === "]");
		const closesEmpty = (token === "}" && tokens[i - 1] === "{") || (token === "]" && tokens[i - 1] === "[");
		if (token === "{" || token === "[") {
			depth++;
			out += token + (empty ? "" : line());
		} else if (token === "}" || token === "]") {
			depth--;
			out += (closesEmpty ? "" : line()) + token;
		} else if (token === ",") out += token + line();
		else if (token === ":") out += ": ";
		else out += token;
	});
	return out;
}
