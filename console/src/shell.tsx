// What is around every page: where one is, who one is, light or dark.

import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, Outlet, useLocation } from "@tanstack/react-router";
import { useEffect, useState } from "react";
import { logout, type Standing, standing, token } from "./api/client";
import { setTheme, type Theme, theme } from "./lib/theme";
import { LoginPage } from "./pages/login";
import { Page } from "./parts/page";
import { Trouble } from "./parts/trouble";

const pages = [
	["/", "Overview"],
	["/topics", "Topics"],
	["/live", "Live"],
	["/retained", "Retained"],
	["/sessions", "MQTT sessions"],
	["/groups", "Groups"],
	["/drops", "Drops"],
	["/hour", "Last hour"],
	["/access", "Access"],
	["/audit", "Audit"],
	["/mapping", "Mapping"],
	["/config", "Configuration"],
	["/start", "First message"],
] as const;

export function Shell() {
	const who = useQuery({ queryKey: ["standing"], queryFn: standing, refetchInterval: 60_000 });
	const { pathname } = useLocation();
	const [open, setOpen] = useState(false);
	// biome-ignore lint/correctness/useExhaustiveDependencies: a menu closes when it has led somewhere
	useEffect(() => setOpen(false), [pathname]);
	const inside = who.data && (who.data.open || who.data.known || token.get() !== null);
	return (
		<>
			<a className="skip" href="#main">
				Skip to content
			</a>
			<header className="bar">
				<Link to="/" className="brand">
					<img src="/icon.svg" alt="" width="24" height="24" /> Firth
				</Link>
				{inside && (
					<button
						type="button"
						className="menu"
						aria-expanded={open}
						aria-controls="pages"
						onClick={() => setOpen(!open)}
					>
						Menu
					</button>
				)}
				<span className="space" />
				<ThemeChoice />
				{who.data && <Who who={who.data} />}
			</header>
			{inside && (
				<nav id="pages" className={open ? "pages open" : "pages"} aria-label="Pages">
					<ul>
						{pages.map(([to, name]) => (
							<li key={to}>
								<Link to={to} activeOptions={{ exact: to === "/", includeSearch: false }}>
									{name}
								</Link>
							</li>
						))}
					</ul>
				</nav>
			)}
			<main id="main" tabIndex={-1}>
				{who.error && <Trouble error={who.error} />}
				{inside && <Outlet />}
				{who.data && !inside && <LoginPage ways={who.data.ways} />}
			</main>
		</>
	);
}

function Who({ who }: { who: Standing }) {
	const client = useQueryClient();
	if (who.open) return <span className="who muted">no users yet</span>;
	if (!who.known && token.get() === null) return null;
	const end = async () => {
		const leave = await logout();
		if (leave) window.location.assign(leave);
		else await client.resetQueries(); // nothing of what was seen stays, and who asks is asked at once
	};
	return (
		<span className="who">
			<span>{who.known ? who.user : "by token"}</span>
			<button type="button" onClick={() => void end()}>
				Log out
			</button>
		</span>
	);
}

function ThemeChoice() {
	const [now, setNow] = useState<Theme>(theme());
	return (
		<select
			aria-label="Theme"
			value={now}
			onChange={(e) => {
				const to = e.target.value as Theme;
				setTheme(to);
				setNow(to);
			}}
		>
			<option value="system">System theme</option>
			<option value="light">Light</option>
			<option value="dark">Dark</option>
		</select>
	);
}

/** Missing is the page of a URL that there is no view for. */
export function Missing() {
	return (
		<Page title="Nothing here">
			<p>
				There is no view at this address. <Link to="/">The overview</Link> leads to all there are.
			</p>
		</Page>
	);
}
