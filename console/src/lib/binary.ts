// What CBOR and MessagePack hold, laid out as JSON: every number as it was written, bytes as hex.

/** Held is a value of either. A map is a list of pairs: its keys may be anything, and stand twice. */
export type Held = null | undefined | boolean | number | bigint | string | Uint8Array | Held[] | Pairs | Tagged;

/** Pairs is a map. */
export class Pairs {
	constructor(readonly all: [Held, Held][]) {}
}

/** Tagged is a value with a tag of CBOR, or the type of an extension of MessagePack. */
export class Tagged {
	constructor(
		readonly tag: number | bigint,
		readonly value: Held,
	) {}
}

/** How deep values may lie in others: what devices send must not end the page. */
const deepest = 64;

/** Reader reads bytes. What is not there, or lies too deep, is a RangeError. */
export class Reader {
	private at = 0;
	private depth = 0;
	private readonly view: DataView;

	constructor(private readonly bytes: Uint8Array) {
		this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
	}

	get left(): number {
		return this.bytes.length - this.at;
	}

	/** peek is the next byte, which is still to be read. */
	peek(): number {
		return this.view.getUint8(this.at);
	}

	/** uint is a number of 1, 2, 4 or 8 bytes, the high ones first. */
	uint(size: 1 | 2 | 4 | 8): number | bigint {
		const at = this.step(size);
		if (size === 8) return this.view.getBigUint64(at);
		return size === 4 ? this.view.getUint32(at) : size === 2 ? this.view.getUint16(at) : this.view.getUint8(at);
	}

	int(size: 1 | 2 | 4 | 8): number | bigint {
		const at = this.step(size);
		if (size === 8) return this.view.getBigInt64(at);
		return size === 4 ? this.view.getInt32(at) : size === 2 ? this.view.getInt16(at) : this.view.getInt8(at);
	}

	float(size: 4 | 8): number {
		const at = this.step(size);
		return size === 4 ? this.view.getFloat32(at) : this.view.getFloat64(at);
	}

	slice(length: number | bigint): Uint8Array {
		const at = this.step(Number(length));
		return this.bytes.subarray(at, this.at);
	}

	text(length: number | bigint): string {
		return new TextDecoder("utf-8", { fatal: true }).decode(this.slice(length));
	}

	/** times reads so many values; each takes a byte at least. */
	times(count: number | bigint, read: () => Held): Held[] {
		if (Number(count) > this.left) throw new RangeError("more values than bytes");
		return this.within(() => Array.from({ length: Number(count) }, read));
	}

	/** within reads what lies in another value. */
	within<T>(read: () => T): T {
		if (++this.depth > deepest) throw new RangeError("too deep");
		const made = read();
		this.depth--;
		return made;
	}

	private step(size: number): number {
		if (!(size <= this.left)) throw new RangeError("the end");
		const at = this.at;
		this.at += size;
		return at;
	}
}

/** whole reads a value that is all there is, and is a list or a map: any byte is a number of either format. */
export function whole(bytes: Uint8Array, read: (from: Reader) => Held): Held {
	try {
		const from = new Reader(bytes);
		const value = read(from);
		const bare = value instanceof Tagged ? value.value : value;
		return from.left === 0 && (Array.isArray(bare) || bare instanceof Pairs) ? value : undefined;
	} catch {
		return undefined;
	}
}

/** lay lays a value out for reading. */
export function lay(value: Held, depth = 0): string {
	const line = `\n${"  ".repeat(depth + 1)}`;
	const end = `\n${"  ".repeat(depth)}`;
	if (Array.isArray(value)) {
		if (value.length === 0) return "[]";
		return `[${value.map((v) => line + lay(v, depth + 1)).join(",")}${end}]`;
	}
	if (value instanceof Pairs) {
		if (value.all.length === 0) return "{}";
		return `{${value.all.map(([k, v]) => `${line}${lay(k, depth + 1)}: ${lay(v, depth + 1)}`).join(",")}${end}}`;
	}
	if (value instanceof Tagged) return `${value.tag}(${lay(value.value, depth)})`;
	if (value instanceof Uint8Array) {
		return `h'${Array.from(value.subarray(0, 4096), (b) => b.toString(16).padStart(2, "0")).join("")}'`;
	}
	return typeof value === "string" ? JSON.stringify(value) : String(value);
}
