// The search of the documentation: everything is in search.json, which is fetched when somebody searches.
"use strict";

const root = document.currentScript.src.replace(/search\.js$/, "");
const most = 50;

// words are what has to be found, in small letters.
function words(query) {
	return query.toLowerCase().split(/\s+/).filter(Boolean);
}

// weigh is how well an entry fits: 0 if a word is missing in it. A name counts more than what is said.
function weigh(entry, wanted) {
	const name = entry.h.toLowerCase();
	const title = entry.t.toLowerCase();
	const text = (entry.x || "").toLowerCase();
	let weight = 0;
	for (const word of wanted) {
		if (name === word) weight += 100;
		else if (name.startsWith(word)) weight += 40;
		else if (name.includes(word)) weight += 20;
		else if (title.includes(word)) weight += 8;
		else if (text.includes(word)) weight += 2;
		else return 0;
	}
	return weight / (1 + name.length / 200);
}

// search gives the entries that fit, the best first.
function search(entries, query) {
	const wanted = words(query);
	if (wanted.length === 0) return [];
	return entries
		.map((entry) => ({ entry, weight: weigh(entry, wanted) }))
		.filter((found) => found.weight > 0)
		.sort((a, b) => b.weight - a.weight)
		.map((found) => found.entry);
}

function show(entries, query) {
	const found = search(entries, query);
	const list = document.getElementById("results");
	list.replaceChildren();
	for (const entry of found.slice(0, most)) {
		const link = document.createElement("a");
		link.href = root + entry.p + (entry.a ? `#${entry.a}` : "");
		link.textContent = entry.h;
		const where = document.createElement("span");
		where.textContent = entry.t === entry.h ? "" : ` in ${entry.t}`;
		const said = document.createElement("p");
		said.textContent = (entry.x || "").slice(0, 200);
		const row = document.createElement("li");
		row.append(link, where, said);
		list.append(row);
	}
	const more = found.length > most ? `, the best ${most} are shown` : "";
	document.getElementById("found").textContent =
		found.length === 0 ? `Nothing has all of: ${query}` : `${found.length} found${more}`;
}

async function searchPage(field) {
	const query = new URLSearchParams(location.search).get("q") || "";
	field.value = query;
	if (words(query).length === 0) {
		field.focus();
		return;
	}
	try {
		const answer = await fetch(`${root}search.json`);
		if (!answer.ok) throw new Error(`status ${answer.status}`);
		show(await answer.json(), query);
	} catch (error) {
		document.getElementById("found").textContent = `The search did not work: ${error.message}`;
	}
}

document.addEventListener("keydown", (event) => {
	const field = document.getElementById("q");
	if (event.key === "/" && document.activeElement !== field && !event.ctrlKey && !event.metaKey && !event.altKey) {
		event.preventDefault();
		field.focus();
	}
});

if (document.getElementById("results")) searchPage(document.getElementById("q"));
