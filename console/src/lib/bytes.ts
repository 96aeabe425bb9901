// What a record holds, as people read it.

import type { Bytes } from "../api/schema";

/** raw is the bytes of a key or a value. */
export function raw(b: Bytes): Uint8Array {
	if (b.text !== undefined) return new TextEncoder().encode(b.text);
	return Uint8Array.from(atob(b.base64 ?? ""), (c) => c.charCodeAt(0));
}

/** preview is one line of a key or a value: its text, or the first of its bytes. */
export function preview(b: Bytes | null, most = 160): string {
	if (b === null) return "";
	if (b.text !== undefined) return b.text.slice(0, most).replace(/\s+/g, " ");
	return Array.from(raw(b).subarray(0, 24), hexOf).join(" ");
}

const hexOf = (byte: number) => byte.toString(16).padStart(2, "0");

/** dump is the classic view of bytes: where, 16 in hex, the same as ASCII. */
export function dump(bytes: Uint8Array): string {
	const lines: string[] = [];
	for (let at = 0; at < bytes.length; at += 16) {
		const row = bytes.subarray(at, at + 16);
		const hex = Array.from(row, hexOf);
		const text = Array.from(row, (b) => (b >= 0x20 && b < 0x7f ? String.fromCharCode(b) : "."));
		const left = hex.slice(0, 8).join(" ").padEnd(23);
		const right = hex.slice(8).join(" ").padEnd(23);
		lines.push(`${at.toString(16).padStart(8, "0")}  ${left}  ${right}  ${text.join("")}`);
	}
	return lines.join("\n");
}
