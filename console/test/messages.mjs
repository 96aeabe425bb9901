// Messages: as they come, what did not arrive, and the forms of what devices send.

import assert from "node:assert/strict";
import { build } from "vite";
import { fits, heading, publish, shoot, tabTo } from "./browser.mjs";
import { enter } from "./people.mjs";

/** Messages come as they are published, stand still in a pause, and are shown in the form that they have. */
export async function live(page) {
	await page.goto("/live");
	await page.getByLabel("MQTT topic filter").fill("live/#");
	await page.keyboard.press("Enter");
	await page.getByText("Live", { exact: true }).last().waitFor();
	await page.getByRole("status").getByText("Live").waitFor();
	await publish(page, "other/1", { payload: { text: "not for it" } });
	await publish(page, "live/cbor", { payload: { base64: "omFuG///////////YXQZAQA=" } });
	await page.getByText("1 came").waitFor();
	await page.getByRole("button", { name: "Show message 1", exact: true }).click();
	await page.getByText('"n": 18446744073709551615').waitFor();
	await page.getByLabel("Hex").check();
	await page.getByText("00000000  a2 61 6e 1b").waitFor();
	await shoot(page, "live");
	await fits(page, "messages that came");
	await tabTo(page, "Pause", "Shift+Tab");
	await page.keyboard.press("Enter");
	await publish(page, "live/2", { payload: { text: "second" } });
	await page.getByText("1 since the pause").waitFor();
	assert.equal(await page.getByText("second").count(), 0);
	await page.getByRole("button", { name: "Go on" }).click();
	await page.getByText("second").waitFor();
	await page.getByRole("region", { name: "Messages" }).getByText("live/2").waitFor();

	await page.goto("/live?filter=a/%23/b");
	await page.getByRole("alert").getByText("filter").waitFor();
	await heading(page, "Live");
}

/** What was refused is counted, with what to do, and who was refused is told, with the way to the rules. */
export async function drops(page) {
	await page.goto("/drops");
	await enter(page);
	const refusals = page.getByRole("region", { name: "The last refusals" });
	await refusals.getByText("User:grace").first().waitFor();
	await refusals.getByRole("link").first().waitFor();
	await shoot(page, "drops");
	await fits(page, "drops");
	await page.getByText("Every reason there is").click();
	await page.getByText("outbox full: QoS 0").first().waitFor();
	await fits(page, "all reasons of drops");
}

/** The decoders read what the formats say, exactly, and whatever comes they say yes or no. */
export async function decoders() {
	const made = await build({
		configFile: false,
		logLevel: "error",
		build: { write: false, minify: false, lib: { entry: "src/lib/decode.ts", formats: ["es"] } },
	});
	const code = made[0].output[0].code;
	const { decoded } = await import(`data:text/javascript,${encodeURIComponent(code)}`);
	const bytes = (hex) => Uint8Array.from(hex.match(/../g), (b) => Number.parseInt(b, 16));
	const flat = (text) => text?.replace(/\s+/g, "");
	for (const [form, hex, want] of [
		// RFC 8949, appendix A
		["cbor", "83010203", "[1,2,3]"],
		["cbor", "8301820203820405", "[1,[2,3],[4,5]]"],
		["cbor", "a26161016162820203", '{"a":1,"b":[2,3]}'],
		["cbor", "9f018202039f0405ffff", "[1,[2,3],[4,5]]"],
		["cbor", "bf61610161629f0203ffff", '{"a":1,"b":[2,3]}'],
		["cbor", "a201020304", "{1:2,3:4}"],
		["cbor", "811bffffffffffffffff", "[18446744073709551615]"],
		["cbor", "813bffffffffffffffff", "[-18446744073709551616]"],
		["cbor", "81f93c00", "[1]"],
		["cbor", "81f90001", "[5.960464477539063e-8]"],
		["cbor", "81f9fc00", "[-Infinity]"],
		["cbor", "81fb3ff199999999999a", "[1.1]"],
		["cbor", "84f4f5f6f7", "[false,true,null,undefined]"],
		["cbor", "81c11a514b67b0", "[1(1363896240)]"],
		["cbor", "815f42010243030405ff", "[h'0102030405']"],
		["cbor", "817f657374726561646d696e67ff", '["streaming"]'],
		["cbor", "80", "[]"],
		["cbor", "8301", undefined], // too few
		["cbor", "8101ff", undefined], // too many
		["cbor", "9bffffffffffffffff", undefined],
		["cbor", `${"81".repeat(100)}01`, undefined], // too deep
		["cbor", "01", undefined], // a number: anything is one
		["msgpack", "82a7636f6d70616374c3a6736368656d6100", '{"compact":true,"schema":0}'],
		["msgpack", "93ffd0807f", "[-1,-128,127]"],
		["msgpack", "91cfffffffffffffffff", "[18446744073709551615]"],
		["msgpack", "91d38000000000000000", "[-9223372036854775808]"],
		["msgpack", "91cb3ff199999999999a", "[1.1]"],
		["msgpack", "dc0002c0c2", "[null,false]"],
		["msgpack", "de0001d90161c4020102", "{\"a\":h'0102'}"],
		["msgpack", "91d6ff12345678", "[-1(h'12345678')]"],
		["msgpack", "ddffffffff01", undefined],
		["msgpack", "91c1", undefined],
	]) {
		assert.equal(flat(decoded(bytes(hex))[form]), want, `${form} ${hex.slice(0, 40)}`);
	}
	for (let seed = 1, i = 0; i < 20_000; i++) {
		const noise = Uint8Array.from({ length: 1 + (i % 40) }, () => {
			seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
			return seed >>> 24;
		});
		noise[0] = [0x81, 0x9f, 0xa2, 0xbf, 0x92, 0xdc, 0xde][i % 7];
		decoded(noise);
	}
}
