// Who may do what: users, rules, refusals and why.

import assert from "node:assert/strict";
import { fits, shoot } from "./browser.mjs";

/** enter logs somebody in where the login stands. */
export async function enter(page, user = "ada", password = "lovelace1815") {
	await page.getByLabel("User", { exact: true }).fill(user);
	await page.getByLabel("Password", { exact: true }).fill(password);
	await page.keyboard.press("Enter");
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
	await shoot(page, "explain");
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
