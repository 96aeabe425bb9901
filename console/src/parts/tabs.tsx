import { Link } from "@tanstack/react-router";
import type { Search } from "../router";

/** Tabs are the views of one thing; each has its URL. */
export function Tabs({ label, tabs, now }: { label: string; tabs: [string, string][]; now: string }) {
	return (
		<nav className="tabs" aria-label={label}>
			{tabs.map(([id, name], i) => (
				<Link
					key={id}
					to="."
					search={(): Search => ({ tab: i === 0 ? undefined : id })}
					activeOptions={{ explicitUndefined: true }}
					aria-current={id === now ? "page" : undefined}
				>
					{name}
				</Link>
			))}
		</nav>
	);
}
