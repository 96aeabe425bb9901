// The documentation that a node serves, in a browser.

import assert from "node:assert/strict";
import { fits, heading, shoot } from "./browser.mjs";

/** Somebody looks a key up by keyboard only, and reads on; pages fit a telephone, and axe finds nothing. */
export async function documentation(page) {
	await page.goto("/docs/");
	await heading(page, "Documentation");
	await fits(page, "docs");
	await page.keyboard.press("/");
	await page.keyboard.type("log.kafka.takeover");
	await page.keyboard.press("Enter");
	const found = page.getByRole("link", { name: "log.kafka.takeover", exact: true });
	await found.first().waitFor();
	await fits(page, "docs, search");
	await shoot(page, "docs");
	await found.first().focus();
	await page.keyboard.press("Enter");
	await heading(page, "Configuration");
	assert.match(page.url(), /\/docs\/configuration\.html#logkafkatakeover$/);
	await fits(page, "docs, configuration");
	await page.goto("/docs/search.html?q=nothing+has+these+wordsatall");
	await page.getByText("Nothing has all of").waitFor();
	await page.goto("/docs/runbook/FirthDiskFull.html");
	await heading(page, "FirthDiskFull");
	await fits(page, "docs, runbook");
}
