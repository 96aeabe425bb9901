import { type Held, Pairs, type Reader, Tagged, whole } from "./binary";

/** cbor reads bytes as CBOR (RFC 8949); undefined: they are no list or map of it. */
export const cbor = (bytes: Uint8Array): Held => whole(bytes, read);

const stop = 0xff;

function read(from: Reader): Held {
	const first = Number(from.uint(1));
	const major = first >> 5;
	const info = first & 31;
	if (major === 7) return simple(from, info);
	if (info === 31) return open(from, major);
	const n = argument(from, info);
	switch (major) {
		case 0:
			return n;
		case 1:
			return typeof n === "bigint" ? -1n - n : -1 - n;
		case 2:
			return from.slice(n);
		case 3:
			return from.text(n);
		case 4:
			return from.times(n, () => read(from));
		case 5:
			return new Pairs(from.times(n, () => [read(from), read(from)]) as [Held, Held][]);
	}
	return new Tagged(
		n,
		from.within(() => read(from)),
	);
}

function argument(from: Reader, info: number): number | bigint {
	if (info < 24) return info;
	if (info > 27) throw new RangeError("no argument");
	return from.uint((1 << (info - 24)) as 1 | 2 | 4 | 8);
}

function simple(from: Reader, info: number): Held {
	switch (info) {
		case 20:
			return false;
		case 21:
			return true;
		case 22:
			return null;
		case 23:
			return undefined;
		case 25:
			return half(Number(from.uint(2)));
		case 26:
			return from.float(4);
		case 27:
			return from.float(8);
	}
	throw new RangeError("no simple value");
}

/** half is a float of 16 bits. */
function half(bits: number): number {
	const exponent = (bits >> 10) & 31;
	const fraction = bits & 1023;
	const sign = bits & 0x8000 ? -1 : 1;
	if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
	return sign * (exponent ? 2 ** (exponent - 25) * (1024 + fraction) : 2 ** -24 * fraction);
}

/** open reads what goes on until a stop. */
function open(from: Reader, major: number): Held {
	const parts: Held[] = [];
	from.within(() => {
		while (from.peek() !== stop) {
			parts.push(read(from));
			if (major === 5) parts.push(read(from));
		}
	});
	from.uint(1);
	if (major === 4) return parts;
	if (major === 5) return new Pairs(parts.flatMap((k, i) => (i % 2 === 0 ? [[k, parts[i + 1]] as [Held, Held]] : [])));
	if (major === 3 && parts.every((p) => typeof p === "string")) return parts.join("");
	if (major === 2 && parts.every((p) => p instanceof Uint8Array)) {
		return Uint8Array.from((parts as Uint8Array[]).flatMap((p) => [...p]));
	}
	throw new RangeError("no parts");
}
