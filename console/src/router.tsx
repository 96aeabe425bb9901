// A URL for every view. The first segments are known to internal/apps/console, too, which answers them with the page.

import { createRootRoute, createRoute, createRouter } from "@tanstack/react-router";
import { AccessPage } from "./pages/access";
import { AuditPage } from "./pages/audit";
import { ConfigPage } from "./pages/config";
import { DropsPage } from "./pages/drops";
import { GroupPage } from "./pages/group";
import { GroupsPage } from "./pages/groups";
import { HourPage } from "./pages/hour";
import { LivePage } from "./pages/live";
import { MappingPage } from "./pages/mapping";
import { OverviewPage } from "./pages/overview";
import { RetainedPage } from "./pages/retained";
import { SessionPage } from "./pages/session";
import { SessionsPage } from "./pages/sessions";
import { StartPage } from "./pages/start";
import { TopicPage } from "./pages/topic";
import { TopicsPage } from "./pages/topics";
import { UserPage } from "./pages/users";
import { Missing, Shell } from "./shell";

/** Search is what stands behind the ? of a view: text only, for an offset of 64 bits is no number here. */
export type Search = Record<string, string | undefined>;

const root = createRootRoute({
	component: Shell,
	notFoundComponent: Missing,
	validateSearch: (search): Search => search as Search,
});
const at = <const P extends string>(path: P, component: () => React.ReactNode) =>
	createRoute({ getParentRoute: () => root, path, component });

const routeTree = root.addChildren([
	at("/", OverviewPage),
	at("/topics", TopicsPage),
	at("/topics/$topic", TopicPage),
	at("/live", LivePage),
	at("/retained", RetainedPage),
	at("/sessions", SessionsPage),
	at("/sessions/$client", SessionPage),
	at("/groups", GroupsPage),
	at("/groups/$group", GroupPage),
	at("/drops", DropsPage),
	at("/hour", HourPage),
	at("/start", StartPage),
	at("/access", AccessPage),
	at("/access/users/$user", UserPage),
	at("/audit", AuditPage),
	at("/mapping", MappingPage),
	at("/config", ConfigPage),
]);

export const router = createRouter({
	routeTree,
	defaultPreload: false,
	parseSearch: (text) => Object.fromEntries(new URLSearchParams(text)),
	stringifySearch: (search) => {
		const said = Object.entries(search as Search).filter(([, value]) => value !== undefined && value !== "");
		return said.length > 0 ? `?${new URLSearchParams(said as [string, string][])}` : "";
	},
});

declare module "@tanstack/react-router" {
	interface Register {
		router: typeof router;
	}
}
