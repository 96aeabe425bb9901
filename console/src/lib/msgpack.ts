import { type Held, Pairs, type Reader, Tagged, whole } from "./binary";

/** msgpack reads bytes as MessagePack; undefined: they are no list or map of it. */
export const msgpack = (bytes: Uint8Array): Held => whole(bytes, read);

const sizes = [1, 2, 4, 8] as const;

function read(from: Reader): Held {
	const first = Number(from.uint(1));
	if (first < 0x80) return first;
	if (first < 0x90) return map(from, first & 15);
	if (first < 0xa0) return from.times(first & 15, () => read(from));
	if (first < 0xc0) return from.text(first & 31);
	if (first >= 0xe0) return first - 256;
	return long(from, first);
}

const map = (from: Reader, count: number | bigint) =>
	new Pairs(from.times(count, () => [read(from), read(from)]) as [Held, Held][]);

/** long reads what says its type, and mostly its length, in bytes of their own. */
function long(from: Reader, first: number): Held {
	const size = (base: number) => sizes[first - base] ?? 1;
	if (first === 0xc0) return null;
	if (first === 0xc2 || first === 0xc3) return first === 0xc3;
	if (first >= 0xc4 && first <= 0xc6) return from.slice(from.uint(size(0xc4)));
	if (first >= 0xc7 && first <= 0xc9) return extension(from, from.uint(size(0xc7)));
	if (first === 0xca || first === 0xcb) return from.float(first === 0xca ? 4 : 8);
	if (first >= 0xcc && first <= 0xcf) return from.uint(size(0xcc));
	if (first >= 0xd0 && first <= 0xd3) return from.int(size(0xd0));
	if (first >= 0xd4 && first <= 0xd8) return extension(from, 1 << (first - 0xd4));
	if (first >= 0xd9 && first <= 0xdb) return from.text(from.uint(size(0xd9)));
	if (first >= 0xdc && first <= 0xdd) return from.times(from.uint(size(0xdb)), () => read(from));
	if (first >= 0xde && first <= 0xdf) return map(from, from.uint(size(0xdd)));
	throw new RangeError("no type");
}

function extension(from: Reader, length: number | bigint): Held {
	const type = from.int(1);
	return new Tagged(type, from.slice(length));
}
