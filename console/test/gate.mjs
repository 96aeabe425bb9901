// The console in a browser: every view in both themes, the main jobs by mouse and by keyboard only.
//
//	node test/gate.mjs open ORIGIN     a node without users
//	node test/gate.mjs login ORIGIN    one with the user ada, password lovelace1815, and TOKEN in the environment
//
// What conformance/console.sh has put into the node is looked for. SHOTS=folder keeps pictures of the views, ONLY="name
// name" runs these tests.

import assert from "node:assert/strict";
import { fits, heading, open, shoot, tabTo, visitor } from "./browser.mjs";
import { documentation } from "./docs.mjs";
import { both } from "./hands.mjs";
import { addUser, audit, backlog, firstRun, follow, reset, restore } from "./jobs.mjs";
import { decoders, drops, live } from "./messages.mjs";
import { enter, explain, twoEdit } from "./people.mjs";

const [what, origin] = process.argv.slice(2);
const tests = {
	open: [
		decoders,
		...both(firstRun),
		views,
		...both(follow),
		records,
		...both(backlog),
		sessions,
		groups,
		...both(reset),
		...both(restore),
		live,
		mapping,
		settings,
		documentation,
		focus,
		themes,
	],
	login: [login, token, explain, ...both(addUser), twoEdit, ...both(audit), drops],
};
const browser = await open();
let failed = 0;
const wanted = process.env.ONLY?.split(" ");
for (const test of tests[what]) {
	if (wanted && !wanted.includes(test.name)) continue;
	const who = await visitor(browser, origin);
	try {
		await test(who.page, who.context);
		assert.deepEqual(who.sins, []);
		console.log(`  ok: ${what}: ${test.name}`);
	} catch (e) {
		failed++;
		console.error(`FAIL: ${what}: ${test.name}, at ${who.page.url()}:`, e);
		console.error(
			await who.page
				.locator("body")
				.textContent()
				.catch(() => "(no page)"),
		);
	}
	await who.context.close();
}
await browser.close();
process.exit(failed === 0 ? 0 : 1);

/** Every view by its URL: it says what it should, fits a telephone, and axe finds nothing in either theme. */
async function views(page) {
	for (const [name, url, title, text] of [
		["overview", "/", "Overview", "messages/s"],
		["topics", "/topics", "Topics", "sensors"],
		["records", "/topics/sensors?last=50", "sensors", "looked at"],
		["record", "/topics/sensors?offset=0&filter=sensors/big&at=0", "sensors", "9007199254740993"],
		["partitions", "/topics/sensors?tab=partitions", "sensors", "First offset"],
		["settings", "/topics/sensors?tab=settings", "sensors", "retention.ms"],
		["live", "/live?filter=plant/%23&retained=true", "Live", "1 came"],
		["retained", "/retained?name=plant/1/state", "Retained messages", "plant/1/state"],
		["sessions", "/sessions", "MQTT sessions", "meter-1"],
		["session", "/sessions/meter%2F1", "Session meter/1", "commands/#"],
		["groups", "/groups", "Groups", "readers"],
		["group", "/groups/readers", "Group readers", "sensors"],
		["hour", "/hour", "Last hour", "least to most"],
		["drops", "/drops", "Drops", "The last refusals"],
		["users", "/access", "Access", "There is no such user"],
		["rules", "/access?tab=rules", "Access", "There is no such rule"],
		["explain", "/access?tab=explain&operation=publish&name=a/b", "Access", "Allowed"],
		["audit", "/audit", "Audit", "looked at"],
		["mapping", "/mapping?name=sensors/room1/temp", "Mapping", "Topic of the log"],
		["config", "/config", "Configuration", "listen.http"],
		["nowhere", "/topics/no-such-topic", "no-such-topic", "there is no such topic"],
	]) {
		await page.goto(url);
		await heading(page, title);
		await page.getByText(text).first().waitFor();
		assert.equal(await page.title(), `${title} · Firth`);
		await shoot(page, name);
		await fits(page, name);
	}
}

/** A record in every form, by a URL that stays; and where to look for others. */
async function records(page) {
	await page.goto("/topics/sensors?filter=sensors/big&last=1000");
	await page.getByRole("link", { name: "Show offset 0" }).click();
	const value = page.getByRole("region", { name: "Value" });
	await page.getByLabel("Hex").check();
	await value.getByText("00000000  7b 22 6e 22").waitFor();
	await page.getByLabel("Text").check();
	await value.getByText('{"n":9007199254740993,"t":21.5}').waitFor();
	const url = page.url();
	await page.reload();
	await value.waitFor();
	assert.equal(page.url(), url);
	await page.getByRole("button", { name: "Close" }).click();
	await value.waitFor({ state: "detached" });
	assert.match(page.url(), /filter=sensors%2Fbig/);

	await page.getByLabel("Begin").selectOption("at an offset");
	await page.getByLabel("Offset", { exact: true }).fill("2");
	await page.getByLabel("MQTT topic filter").fill("");
	await page.getByRole("button", { name: "Show", exact: true }).click();
	await page.getByRole("link", { name: "Show offset 2", exact: true }).waitFor();
	assert.equal(await page.getByRole("link", { name: "Show offset 1", exact: true }).count(), 0);

	await page.getByLabel("Begin").selectOption("at a time");
	await page.getByLabel("Time", { exact: true }).fill("2099-01-01T00:00:00.000");
	await page.getByRole("button", { name: "Show", exact: true }).click();
	await page.getByText("There is no such record.").waitFor();

	await page.goto("/topics/sensors?filter=%23bad");
	await page.getByRole("alert").getByText("is no topic filter").waitFor();
}

/** Somebody is disconnected, after a question. */
async function sessions(page) {
	await page.goto("/sessions");
	await page.getByLabel("State").selectOption("away");
	await page.getByRole("link", { name: "meter-away" }).click();
	await heading(page, "Session meter-away");
	await page.getByRole("button", { name: "End the session…" }).click();
	await fits(page, "the dialog");
	await page.getByRole("button", { name: "Cancel" }).click();
	await page.getByRole("dialog").waitFor({ state: "detached" });
	await page.getByRole("button", { name: "End the session…" }).click();
	await page.getByRole("dialog").getByRole("button", { name: "End the session" }).click();
	await heading(page, "MQTT sessions");
	await page.goto("/sessions/meter-away");
	await page.getByRole("alert").waitFor();
}

async function groups(page) {
	await page.goto("/groups");
	await page.getByRole("button", { name: "Members" }).click();
	await page.waitForURL("**/groups?sort=-members");
	await page.getByRole("link", { name: "readers" }).click();
	await heading(page, "Group readers");
	const lag = page.getByRole("region", { name: "Committed offsets" }).getByRole("row");
	await lag.filter({ hasText: "sensors" }).first().getByRole("link").nth(1).click();
	await heading(page, "sensors");
	assert.match(page.url(), /partition=\d+&offset=\d+/);
}

async function mapping(page) {
	await page.goto("/mapping");
	await page.getByLabel("Topic name").fill("sensors/new/thing");
	await page.getByRole("button", { name: "Try" }).click();
	await page.getByRole("region", { name: "Where it goes" }).getByRole("link", { name: "sensors" }).waitFor();
	await page.getByLabel("Topic name").fill("a/#");
	await page.getByRole("button", { name: "Try" }).click();
	await page.getByRole("alert").waitFor();
}

async function settings(page) {
	await page.goto("/config");
	await page.getByLabel("With this text in name or description").fill("listen.http");
	await page.getByLabel("Only those that somebody has set").check();
	const row = page.getByRole("row").filter({ hasText: "listen.http" }).first();
	await row.getByText("--set").waitFor();
	assert.match(page.url(), /search=listen\.http&set=true/);
}

/** Where the focus is for who has no mouse: past the list of pages, at what is new, and back where one came from. */
async function focus(page) {
	await page.goto("/");
	await page.getByText("Ready").waitFor();
	await page.keyboard.press("Tab");
	assert.equal(await page.evaluate(() => document.activeElement.textContent.trim()), "Skip to content");
	await tabTo(page, "Topics");
	await page.keyboard.press("Enter");
	await heading(page, "Topics");
	await page.waitForFunction(() => document.activeElement?.tagName === "H1");

	await page.goto("/topics/sensors?offset=0&filter=sensors/big");
	await page.getByText("1 record of").waitFor();
	await tabTo(page, "Show offset 0");
	await page.keyboard.press("Enter");
	await page.getByText('"n": 9007199254740993,').waitFor();
	await tabTo(page, "JSON");
	await page.keyboard.press("ArrowRight");
	await page.getByText('{"n":9007199254740993,"t":21.5}').first().waitFor();
	await tabTo(page, "Close", "Shift+Tab");
	await page.keyboard.press("Enter");
	await page.waitForFunction(() => document.activeElement?.id === "offset-0");

	await page.goto("/sessions/meter-1");
	await page.getByRole("button", { name: "Disconnect…" }).waitFor();
	await tabTo(page, "Disconnect…");
	await page.keyboard.press("Enter");
	await page.getByRole("dialog").waitFor();
	await page.keyboard.press("Escape");
	await page.getByRole("dialog").waitFor({ state: "detached" });
	await page.waitForFunction(() => document.activeElement?.textContent === "Disconnect…");
	await page.keyboard.press("Enter");
	await page.getByRole("dialog").waitFor();
	await tabTo(page, "Disconnect");
	await page.keyboard.press("Enter");
	await page.getByRole("dialog").waitFor({ state: "detached" });
}

/** The theme that somebody has chosen stays. */
async function themes(page) {
	await page.goto("/");
	await page.getByLabel("Theme").selectOption("dark");
	const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
	const dark = await ground();
	await page.reload();
	await page.getByText("Ready").waitFor();
	assert.equal(await ground(), dark);
	await page.getByLabel("Theme").selectOption("system");
	assert.notEqual(await ground(), dark);
}

/** Who is not known sees nothing but the login, and then the view at the same URL. */
async function login(page) {
	await page.goto("/mapping?name=sensors/room1/temp");
	await heading(page, "Log in");
	await fits(page, "the login");
	await page.getByLabel("User", { exact: true }).fill("ada");
	await page.getByLabel("Password", { exact: true }).fill("wrong");
	await page.getByRole("form", { name: "With a password" }).getByRole("button").click();
	await page.getByRole("alert").waitFor();
	await enter(page);
	await heading(page, "Mapping");
	await page.getByRole("region", { name: "Where it goes" }).waitFor();
	await page.getByText("ada").waitFor();

	await page.goto("/sessions/meter-gone"); // a change by cookie needs the token of the session
	await page.getByRole("button", { name: "End the session…" }).click();
	await page.getByRole("dialog").getByRole("button", { name: "End the session" }).click();
	await heading(page, "MQTT sessions");

	await page.getByRole("button", { name: "Log out" }).click();
	await heading(page, "Log in");
	await page.goto("/");
	await heading(page, "Log in");
}

async function token(page) {
	await page.goto("/topics");
	await page.getByLabel("Token", { exact: true }).fill("nonsense");
	await page.keyboard.press("Enter");
	await page.getByRole("alert").waitFor();
	await page.getByLabel("Token", { exact: true }).fill(process.env.TOKEN);
	await page.keyboard.press("Enter");
	await heading(page, "Topics");
	await page.getByText("by token").waitFor();
	await page.reload();
	await heading(page, "Topics");
	await page.getByRole("button", { name: "Log out" }).click();
	await heading(page, "Log in");
}
