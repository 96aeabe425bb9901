// Who may do what: users, rules, refusals and why, the audit.

import assert from "node:assert/strict";
import { fits, heading, shoot, tabTo } from "./browser.mjs";

/** enter logs somebody in where the login stands. */
export async function enter(page, user = "ada", password = "lovelace1815") {
	await page.getByLabel("User", { exact: true }).fill(user);
	await page.getByLabel("Password", { exact: true }).fill(password);
	await page.keyboard.press("Enter");
}

/** A user with a role is added by keyboard alone; what it is refused is explained, and allowed by a rule. */
export async function addUser(page, context) {
	await page.goto("/access");
	await enter(page);
	await page.getByRole("cell", { name: "ada", exact: true }).waitFor();
	await fits(page, "the users");
	await tabTo(page, "Add a user…");
	await page.keyboard.press("Enter");
	await page.getByLabel("viewer", { exact: true }).waitFor();
	await fits(page, "the dialog of a new user");
	await tabTo(page, "Name");
	await page.keyboard.type("grace");
	await tabTo(page, "viewer");
	await page.keyboard.press("Space");
	await page.keyboard.press("Enter");
	const shown = page.getByRole("dialog", { name: "The password of grace" });
	await shown.waitFor();
	const password = await shown.locator("code").textContent();
	await tabTo(page, "I have it");
	await page.keyboard.press("Enter");
	await shown.waitFor({ state: "detached" });
	await page.getByRole("link", { name: "grace", exact: true }).click();
	await heading(page, "User grace");
	await page.getByText("viewer").first().waitFor();
	await shoot(page, "a-user");
	await fits(page, "a user");

	const hers = await (await context.browser().newContext({ baseURL: new URL(page.url()).origin })).newPage();
	hers.setDefaultTimeout(120_000);
	await hers.goto("/access?tab=rules&add=true");
	await enter(hers, "grace", password);
	await hers.getByLabel("Who").fill("User:grace");
	await hers.getByLabel("Name", { exact: true }).fill("#");
	await hers.getByLabel("read", { exact: true }).check();
	await hers.getByRole("button", { name: "Add", exact: true }).click();
	await hers.getByRole("alert").getByText("grace may not alter").waitFor();
	await fits(hers, "a refusal");
	await hers.getByRole("link", { name: "Why?" }).click();
	await hers.getByRole("region", { name: "Decision" }).getByText("Denied").waitFor();
	assert.match(hers.url(), /user=grace&operation=alter&kind=cluster/);
	await hers.context().close();
}

/** Two change one user: the second is told, sees what the first did, and nothing is lost. */
export async function twoEdit(page) {
	const byToken = (method, path, said) =>
		page.evaluate(
			async ([method, path, said, token]) => {
				const headers = { "Content-Type": "application/json", "If-Match": "*", Authorization: `Bearer ${token}` };
				return (await fetch(`/api/v1${path}`, { method, headers, body: said, credentials: "omit" })).status;
			},
			[method, path, JSON.stringify(said), process.env.TOKEN],
		);
	await page.goto("/access/users/edith");
	await enter(page);
	await page.getByRole("alert").getByText("no such user").waitFor();
	assert.equal(await byToken("POST", "/users", { name: "edith", roles: ["viewer"] }), 201);
	await page.reload();
	await page.getByRole("button", { name: "Change…" }).click();
	await page.getByLabel("admin", { exact: true }).waitFor();
	assert.equal(await byToken("PATCH", "/users/edith", { groups: ["plant"] }), 200);
	await page.getByLabel("A role that is not there yet").fill("shift");
	await page.getByRole("button", { name: "Save" }).click();
	await page.getByRole("alert").getByText("Somebody else has changed edith meanwhile.").waitFor();
	await fits(page, "a change that came too late");
	assert.equal(await page.getByLabel("Groups").inputValue(), "plant");
	await page.getByLabel("A role that is not there yet").fill("shift");
	await page.getByRole("button", { name: "Save" }).click();
	await page.getByRole("dialog").waitFor({ state: "detached" });
	await page.getByText("shift, viewer").or(page.getByText("viewer, shift")).waitFor();
	await page.getByText("plant", { exact: true }).waitFor();
}

/** Users are listed, the guard says what it would decide, and what it denies is allowed by a rule, and not any more. */
export async function explain(page) {
	await page.goto("/access");
	await enter(page);
	await page.getByRole("link", { name: "May it?" }).click();
	await page.getByLabel("User", { exact: true }).fill("ada");
	await page.getByLabel("Name", { exact: true }).fill("sensors/room1/temp");
	await page.keyboard.press("Enter");
	const said = page.getByRole("region", { name: "Decision" });
	await said.getByText("Allowed").waitFor();
	await page.getByLabel("User", { exact: true }).fill("eve");
	await page.getByRole("button", { name: "Ask" }).click();
	await said.getByText("Denied").waitFor();
	assert.match(page.url(), /user=eve&operation=publish/);
	await shoot(page, "a-denial");
	await fits(page, "a denial");
	await page.getByRole("link", { name: "Allow it by a rule…" }).click();
	await page.getByRole("dialog").waitFor();
	assert.equal(await page.getByLabel("Who").inputValue(), "User:eve");
	assert.ok(await page.getByLabel("write", { exact: true }).isChecked());
	await fits(page, "the dialog of a rule");
	await page.getByRole("button", { name: "Add", exact: true }).click();
	await page.getByRole("dialog").waitFor({ state: "detached" });
	const rule = page.getByRole("row").filter({ hasText: "eve" });
	await rule.waitFor();
	await rule.getByRole("button").click();
	await page.getByRole("dialog").getByRole("button", { name: "Remove" }).click();
	await rule.waitFor({ state: "detached" });
}

/** The audit, without a mouse: what was refused, why, and that no record was changed. */
export async function audit(page) {
	await page.goto("/audit");
	await enter(page);
	await page.getByRole("region", { name: "Events" }).waitFor();
	await fits(page, "the audit");
	await tabTo(page, "Verify the audit");
	await page.keyboard.press("Enter");
	await page.getByText("Whole", { exact: true }).waitFor();
	await tabTo(page, "Who");
	await page.keyboard.type("grace");
	await tabTo(page, "Outcome");
	await page.keyboard.type("denied");
	await tabTo(page, "Search");
	await page.keyboard.press("Enter");
	await page.waitForURL("**outcome=denied**");
	const first = page.getByRole("link", { name: /^Show event/ }).first();
	await page.getByRole("cell", { name: "cluster kafka-cluster" }).first().waitFor();
	const name = await first.getAttribute("aria-label");
	await tabTo(page, name);
	await page.keyboard.press("Enter");
	await page.getByRole("heading", { name: /^Event/ }).waitFor();
	await shoot(page, "an-event");
	await fits(page, "an event");
	await tabTo(page, "Close");
	await page.keyboard.press("Enter");
	await page.waitForFunction((label) => document.activeElement?.getAttribute("aria-label") === label, name);
	await tabTo(page, name.replace("Show event", "Why was event").concat(" denied?"));
	await page.keyboard.press("Enter");
	await page.getByRole("region", { name: "Decision" }).getByText("Denied").waitFor();
}
