// Rates from two looks at /metrics.

/** Sample is one look: the sums of the families that are asked for, by name, and by name{label="value"}. */
export interface Sample {
	at: number; // milliseconds
	values: Map<string, number>;
}

const line = /^([a-z_]+)(\{[^}]*\})? (\S+)$/;

/** parse reads the text format of Prometheus: each series by itself, and the sum of each family. */
export function parse(text: string, at: number): Sample {
	const values = new Map<string, number>();
	for (const one of text.split("\n")) {
		if (one.startsWith("#") || one.includes("_bucket{")) continue;
		const [, name, labels, number] = line.exec(one) ?? [];
		if (!name || !number) continue;
		if (labels) values.set(name + labels, Number(number));
		values.set(name, (values.get(name) ?? 0) + Number(number));
	}
	return { at, values };
}

/** rate is how much a counter grew a second between two looks; a node that began anew began at nothing. */
export function rate(name: string, from: Sample, to: Sample): number {
	const seconds = (to.at - from.at) / 1000;
	const grown = (to.values.get(name) ?? 0) - (from.values.get(name) ?? 0);
	return seconds > 0 ? Math.max(grown, 0) / seconds : 0;
}

/** byLabel are the series of a family that are not nothing, by the value of their one label. */
export function byLabel(name: string, sample: Sample): [string, number][] {
	const found: [string, number][] = [];
	for (const [key, value] of sample.values) {
		if (value > 0 && key.startsWith(`${name}{`)) found.push([/"([^"]*)"/.exec(key)?.[1] ?? key, value]);
	}
	return found;
}
