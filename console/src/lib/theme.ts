// Light, dark, or as the system has it.

export type Theme = "system" | "light" | "dark";

const key = "firth.theme";

export function theme(): Theme {
	const kept = localStorage.getItem(key);
	return kept === "light" || kept === "dark" ? kept : "system";
}

export function setTheme(to: Theme): void {
	if (to === "system") {
		localStorage.removeItem(key);
		delete document.documentElement.dataset.theme;
	} else {
		localStorage.setItem(key, to);
		document.documentElement.dataset.theme = to;
	}
}
