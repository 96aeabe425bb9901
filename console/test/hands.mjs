// Two ways to use a page: what is done by one is never done by the other.

import assert from "node:assert/strict";

/** mouse points and clicks; text is typed where it has clicked. */
const mouse = (page) => ({
	press: (at) => at.click(),
	check: (at) => at.click(),
	choose: (at, text) => at.selectOption(text),
	type: async (at, text) => {
		await at.click({ clickCount: 3 });
		await page.keyboard.type(text);
	},
});

/** keyboard goes by Tab to what it presses. */
const keyboard = (page) => {
	const reach = async (at) => {
		await at.waitFor();
		for (let i = 0; i < 400; i++) {
			if (await at.evaluate((it) => it === document.activeElement)) return;
			await page.keyboard.press("Tab");
		}
		assert.fail(`the key Tab does not lead to ${at}`);
	};
	const then = (key) => async (at) => {
		await reach(at);
		await page.keyboard.press(key);
	};
	return {
		press: then("Enter"),
		check: then("Space"),
		choose: async (at, text) => {
			await reach(at);
			await page.keyboard.type(text);
		},
		type: async (at, text) => {
			await reach(at);
			await page.keyboard.press("Control+A");
			await page.keyboard.type(text);
		},
	};
};

/** both is a job twice: by mouse and by keyboard. It is given a hand for each page that it opens. */
export const both = (job) =>
	[mouse, keyboard].map((hand) => {
		const test = (page, context) => job(page, hand, context);
		return Object.defineProperty(test, "name", { value: `${job.name}-${hand.name}` });
	});
