// The main jobs, each from the page that somebody opens first to what he wanted to know or do.

import assert from "node:assert/strict";
import { fits, heading, publish, shoot } from "./browser.mjs";
import { enter } from "./people.mjs";

/** go leads to a page by the list of pages. */
const go = async (page, hand, name) => {
	await hand.press(page.getByRole("navigation", { name: "Pages" }).getByRole("link", { name, exact: true }));
};
const button = (page, name) => page.getByRole("button", { name, exact: true });
const link = (page, name) => page.getByRole("link", { name, exact: true });
const field = (page, name) => page.getByLabel(name, { exact: true });

/** Who is new sends a message through each door, and sees it in the log. */
export async function firstRun(page, by) {
	const hand = by(page);
	await page.goto("/");
	await go(page, hand, "First message");
	await page.getByText("None so far.").waitFor();
	await hand.press(button(page, "Publish"));
	await page.getByRole("link", { name: "topic hello, partition" }).waitFor();
	const got = page.getByRole("region", { name: "Messages of hello/#" });
	await got.getByText('{"from":"a device"}').waitFor();
	await hand.press(button(page, "Produce"));
	await got.getByText('{"from":"a Kafka client"}').waitFor();
	await shoot(page, "start");
	await fits(page, "the first message");
	await hand.press(page.getByRole("link", { name: "topic hello, partition" }));
	await heading(page, "hello");
	await page.getByText('"from": "a device"').waitFor();
}

/** The message of a device: where it lies, which groups and sessions have it, and which one not yet. */
export async function follow(page, by) {
	const hand = by(page);
	await page.goto("/");
	await go(page, hand, "Topics");
	await hand.type(field(page, "With this text in their name"), "sens");
	await page.waitForURL("**/topics?search=sens");
	await hand.press(link(page, "sensors"));
	await hand.type(field(page, "MQTT topic filter"), "sensors/big");
	await hand.press(button(page, "Show"));
	await hand.press(link(page, "Show offset 0"));
	await page.getByRole("region", { name: "Value" }).getByText('"n": 9007199254740993,').waitFor();
	const journey = page.getByRole("region", { name: "Journey", exact: true });
	const row = (name) => journey.getByRole("row").filter({ hasText: name });
	await row("readers").getByText("has it").waitFor();
	await row("watcher").getByText("has it").waitFor();
	await row("slow-reader").getByText("to come").waitFor();
	await journey.scrollIntoViewIfNeeded();
	await shoot(page, "journey");
	await fits(page, "a record and its journey");
	await hand.press(journey.getByRole("link", { name: "slow-reader" }));
	await heading(page, "Session slow-reader");
	await page.getByRole("region", { name: "Where it is behind" }).getByText("sensors").waitFor();
}

/** The session that has most to catch up with, and where. */
export async function backlog(page, by) {
	const hand = by(page);
	await page.goto("/");
	await go(page, hand, "MQTT sessions");
	await hand.press(page.getByRole("button", { name: "Backlog" }));
	await page.waitForURL("**/sessions?sort=-backlog");
	await page.getByRole("columnheader", { name: "Backlog" }).and(page.locator("[aria-sort=descending]")).waitFor();
	const first = page.getByRole("region", { name: "Sessions" }).getByRole("row").nth(1);
	await first.getByRole("link", { name: "slow-reader" }).waitFor();
	await hand.press(first.getByRole("link"));
	await heading(page, "Session slow-reader");
	await page.getByRole("region", { name: "Where it is behind" }).getByText("sensors").waitFor();
}

/** Where a group would go on is shown first, and then it goes on there: two records on, and back. */
export async function reset(page, by) {
	const hand = by(page);
	await page.goto("/");
	await go(page, hand, "Groups");
	await hand.press(link(page, "readers"));
	await heading(page, "Group readers");
	const from = await committed(page);
	const to = from === "0" ? "2" : "0";
	await hand.press(button(page, "Reset…"));
	await hand.choose(field(page, "It goes on"), "at an offset");
	await hand.type(field(page, "Offset"), to);
	await hand.press(button(page, "Show what would be"));
	await page.getByRole("region", { name: "Where it would go on" }).waitFor();
	await shoot(page, "reset");
	await fits(page, "a group that would be reset");
	assert.equal(await committed(page), from, "nothing is changed before it is said");
	await hand.press(button(page, "Reset the group"));
	await page.getByRole("dialog").waitFor({ state: "detached" });
	await page.waitForFunction((to) => document.querySelector("td:nth-child(3)")?.textContent === to, to);
}

const committed = (page) =>
	page.evaluate(async () => (await (await fetch("/api/v1/groups/readers")).json()).positions[0].committed);

/** A retained value that somebody has overwritten comes back. */
export async function restore(page, by) {
	const hand = by(page);
	await page.goto("/");
	await publish(page, "plant/7/state", { payload: { text: "warm" }, retain: true });
	await publish(page, "plant/7/state", { payload: { text: "wrong" }, retain: true });
	await go(page, hand, "Retained");
	await hand.type(field(page, "MQTT topic filter"), "plant/+/state");
	await page.keyboard.press("Enter");
	await page.waitForURL("**filter=plant*");
	await hand.press(link(page, "Show plant/7/state"));
	const value = page.getByRole("region", { name: "Retained value" });
	await value.getByText("wrong").waitFor();
	await shoot(page, "retained");
	await hand.press(button(page, "Restore warm").first());
	await page.getByRole("dialog").waitFor();
	await fits(page, "a value that would be restored");
	await hand.press(page.getByRole("dialog").getByRole("button", { name: "Restore" }));
	await page.getByRole("dialog").waitFor({ state: "detached" });
	await value.getByText("warm").waitFor();
	await hand.press(button(page, "Clear…"));
	await hand.press(page.getByRole("dialog").getByRole("button", { name: "Clear" }));
	await page.getByText("Nothing is retained there now.").waitFor();
}

/** A user with a role is added; what it is refused is explained to it. */
export async function addUser(page, by, context) {
	const hand = by(page);
	const name = `grace-${by.name}`;
	await page.goto("/");
	await enter(page);
	await go(page, hand, "Access");
	await page.getByRole("cell", { name: "ada", exact: true }).waitFor();
	await fits(page, "the users");
	await hand.press(button(page, "Add a user…"));
	await field(page, "viewer").waitFor();
	await fits(page, "the dialog of a new user");
	await hand.type(field(page, "Name"), name);
	await hand.check(field(page, "viewer"));
	await page.keyboard.press("Enter");
	const shown = page.getByRole("dialog", { name: `The password of ${name}` });
	await shown.waitFor();
	const password = await shown.locator("code").textContent();
	await hand.press(shown.getByRole("button", { name: "I have it" }));
	await shown.waitFor({ state: "detached" });
	await shoot(page, "users");
	await hand.press(link(page, name));
	await heading(page, `User ${name}`);
	await page.getByText("viewer").first().waitFor();
	await shoot(page, "user");
	await fits(page, "a user");
	await refused(context, by, new URL(page.url()).origin, name, password);
}

/** refused is what somebody sees who may not: who, what, and by which rules. */
async function refused(context, by, origin, name, password) {
	const page = await (await context.browser().newContext({ baseURL: origin })).newPage();
	page.setDefaultTimeout(120_000);
	const hand = by(page);
	await page.goto("/access?tab=rules&add=true");
	await enter(page, name, password);
	await hand.type(page.getByLabel("Who"), `User:${name}`);
	await hand.type(field(page, "Name"), "#");
	await hand.check(field(page, "read"));
	await hand.press(button(page, "Add"));
	await page.getByRole("alert").getByText(`${name} may not alter`).waitFor();
	await fits(page, "a refusal");
	await hand.press(link(page, "Why?"));
	await page.getByRole("region", { name: "Decision" }).getByText("Denied").waitFor();
	assert.match(page.url(), new RegExp(`user=${name}&operation=alter&kind=cluster`));
	await page.context().close();
}

/** What was refused is found in the audit, with why, and that no record was changed. */
export async function audit(page, by) {
	const hand = by(page);
	await page.goto("/");
	await enter(page);
	await go(page, hand, "Audit");
	await page.getByRole("region", { name: "Events" }).waitFor();
	await fits(page, "the audit");
	await hand.press(button(page, "Verify the audit"));
	await page.getByText("Whole", { exact: true }).waitFor();
	await hand.type(field(page, "Who"), `grace-${by.name}`);
	await hand.choose(field(page, "Outcome"), "denied");
	await hand.press(button(page, "Search"));
	await page.waitForURL("**outcome=denied**");
	await page.getByRole("cell", { name: "cluster kafka-cluster" }).first().waitFor();
	const first = page.getByRole("link", { name: /^Show event/ }).first();
	const name = await first.getAttribute("aria-label");
	await hand.press(link(page, name));
	await page.getByRole("heading", { name: /^Event/ }).waitFor();
	await shoot(page, "event");
	await fits(page, "an event");
	await hand.press(button(page, "Close"));
	await page.waitForFunction((label) => document.activeElement?.getAttribute("aria-label") === label, name);
	await hand.press(link(page, `${name.replace("Show event", "Why was event")} denied?`));
	await page.getByRole("region", { name: "Decision" }).getByText("Denied").waitFor();
}
