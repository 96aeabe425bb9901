// What bytes are besides text, as far as they say so themselves.

import { lay } from "./binary";
import { cbor } from "./cbor";
import { msgpack } from "./msgpack";

/** decoded is what bytes are in the formats that they are whole in. */
export function decoded(bytes: Uint8Array): { cbor?: string; msgpack?: string } {
	const as: { cbor?: string; msgpack?: string } = {};
	for (const [name, read] of [
		["cbor", cbor],
		["msgpack", msgpack],
	] as const) {
		const value = read(bytes);
		if (value !== undefined) as[name] = lay(value);
	}
	return as;
}
