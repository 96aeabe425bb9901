// What was asked of the node, kept and asked again.

import { QueryCache, QueryClient } from "@tanstack/react-query";
import { Refused, token } from "../api/client";

/** A page that nobody touches for so long asks no more: its session may then end by itself. */
const abandoned = 10 * 60_000;

let touched = Date.now();

export const queries: QueryClient = new QueryClient({
	queryCache: new QueryCache({
		onError: (error, query) => {
			if (!(error instanceof Refused) || error.status !== 401 || query.queryKey[0] === "standing") return;
			token.clear(); // it is good no longer
			void queries.invalidateQueries({ queryKey: ["standing"] });
		},
	}),
	defaultOptions: {
		queries: {
			staleTime: 1000,
			retry: (failed, error) => failed < 2 && error instanceof Refused && (error.status === 0 || error.status === 503),
		},
	},
});

/** lonely tells that nobody has touched the page for long. */
export const lonely = () => Date.now() - touched >= abandoned;

/** every asks again so often (milliseconds), as long as somebody is there. */
export function every(ms: number): () => number | false {
	return () => (lonely() ? false : ms);
}

for (const event of ["pointerdown", "keydown", "wheel", "touchstart"]) {
	window.addEventListener(
		event,
		() => {
			const was = touched;
			touched = Date.now();
			if (touched - was >= abandoned) void queries.invalidateQueries();
		},
		{ passive: true },
	);
}
