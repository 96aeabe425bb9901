// Numbers, times and durations for people.

/** count is a whole number in groups of three, exact however many digits it has. */
export function count(n: number | string | undefined): string {
	if (n === undefined) return "";
	return String(n).replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** bytes is a size with three digits or so. */
export function bytes(n: number): string {
	let unit = 0;
	let at = n;
	while (at >= 1000 && unit < units.length - 1) {
		at /= 1024;
		unit++;
	}
	return `${short(at)} ${units[unit]}`;
}

/** short is a number with some three digits. */
export function short(n: number): string {
	if (n >= 1e6) return `${short(n / 1e6)} M`;
	if (n >= 1e4) return `${short(n / 1e3)} k`;
	return n >= 100 || Number.isInteger(n) ? String(Math.round(n)) : n.toPrecision(n < 10 ? 2 : 3);
}

/** duration is a time in milliseconds, in its largest units. */
export function duration(ms: number): string {
	if (ms < 0) return "for ever";
	const spans: [number, string][] = [
		[86_400_000, "d"],
		[3_600_000, "h"],
		[60_000, "min"],
		[1_000, "s"],
	];
	for (const [size, unit] of spans) {
		if (ms >= size) return `${Number((ms / size).toFixed(1))} ${unit}`;
	}
	return `${Math.round(ms)} ms`;
}

/** stamp is a time to the millisecond in the zone of who looks. */
export function stamp(iso: string): string {
	const at = new Date(iso);
	const two = (n: number) => String(n).padStart(2, "0");
	const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
	const time = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
	return `${day} ${time}.${String(at.getMilliseconds()).padStart(3, "0")}`;
}
