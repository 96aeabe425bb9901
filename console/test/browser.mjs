// A browser that tells of everything that a page must not do, and what the tests ask of pages.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const axeSource = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const patience = Number(process.env.PATIENCE ?? 120_000); // milliseconds; the machine may be busy with other things

export async function open() {
	const browser = await chromium.launch({
		executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
		args: [
			"--no-sandbox",
			"--disable-gpu",
			"--disable-quic",
			"--no-first-run",
			"--disable-background-networking",
			"--disable-component-update",
			"--disable-sync",
		],
		timeout: patience,
	});
	return browser;
}

/** visitor is somebody with a browser of its own at a node. Its sins are what its pages did and must not do. */
export async function visitor(browser, origin, options = {}) {
	const context = await browser.newContext({
		baseURL: origin,
		viewport: { width: 1280, height: 800 },
		colorScheme: "light",
		timezoneId: "UTC",
		...options,
	});
	context.setDefaultTimeout(patience);
	const sins = [];
	context.on("request", (r) => {
		if (new URL(r.url()).origin !== origin) sins.push(`a request to ${r.url()}`);
	});
	context.on("weberror", (e) => sins.push(`an error: ${e.error().message}`));
	context.on("console", (m) => {
		// The browser itself writes down what the node refuses.
		if (m.type() === "error" && !m.text().startsWith("Failed to load resource")) sins.push(`it wrote: ${m.text()}`);
	});
	const page = await context.newPage();
	return { page, sins, context };
}

/** fits looks at a page with axe, in both themes, and at 360 px, where nothing may be wider than the window. */
export async function fits(page, name) {
	await page.setViewportSize({ width: 360, height: 740 });
	const wide = await page.evaluate(() => document.documentElement.scrollWidth);
	assert.ok(wide <= 360, `${name} is ${wide} px wide in a window of 360 px`);
	await page.setViewportSize({ width: 1280, height: 800 });
	if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(axeSource);
	for (const theme of ["light", "dark"]) {
		await page.emulateMedia({ colorScheme: theme });
		const found = await page.evaluate(() =>
			window.axe.run(document, {
				resultTypes: ["violations"],
				runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
			}),
		);
		const said = found.violations.map((v) => `${v.id}: ${v.help}: ${v.nodes.map((n) => n.html).join(" ")}`);
		assert.deepEqual(said, [], `axe at ${name}, ${theme}`);
	}
	await page.emulateMedia({ colorScheme: "light" });
}

/** shoot takes a picture of what is seen, where somebody wants pictures. */
export async function shoot(page, name) {
	if (!process.env.SHOTS) return;
	await page.evaluate(() => document.fonts.ready);
	await page.screenshot({ path: `${process.env.SHOTS}/${name}.png` });
}

/** tabTo goes by the key Tab until something with a name has the focus. */
export async function tabTo(page, name, key = "Tab") {
	for (let i = 0; i < 200; i++) {
		await page.keyboard.press(key);
		const at = await page.evaluate(() => {
			const it = document.activeElement;
			const label = it.getAttribute("aria-label") ?? it.labels?.[0]?.textContent ?? it.textContent;
			return label.trim();
		});
		if (at === name) return;
	}
	assert.fail(`the key ${key} does not lead to "${name}"`);
}

/** heading waits for the heading of a view. */
export const heading = (page, name) => page.getByRole("heading", { level: 1, name, exact: true }).waitFor();

/** publish publishes a message by HTTP. */
export const publish = async (page, name, message) => {
	const status = await page.evaluate(
		async ([name, body]) => {
			const headers = { "Content-Type": "application/json" };
			return (await fetch(`/api/v1/names/${encodeURIComponent(name)}/messages`, { method: "POST", headers, body }))
				.status;
		},
		[name, JSON.stringify(message)],
	);
	assert.equal(status, 200);
};
