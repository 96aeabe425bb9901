import { Link } from "@tanstack/react-router";
import { Refused } from "../api/client";
import type { Problem } from "../api/schema";
import type { Search } from "../router";

/** Trouble says what went wrong, and what to do about it; of a refusal it leads to the rules by which it is one. */
export function Trouble({ error }: { error: Error }) {
	const refused = error instanceof Refused ? error.refused : undefined;
	return (
		<div className="trouble" role="alert">
			<p>
				<strong>{error.message}</strong>
			</p>
			{error instanceof Refused && error.hint && <p>{error.hint}</p>}
			{refused && (
				<p>
					<Link to="/access" search={why(refused)}>
						Why?
					</Link>
				</p>
			)}
		</div>
	);
}

/** why leads to the explanation of a refusal. Topic names and filters of MQTT are written and read by devices. */
export function why(refused: NonNullable<Problem["refused"]>): Search {
	const { user, operation, kind, name } = refused;
	if (kind !== "name" && kind !== "filter") return { tab: "explain", user, operation, kind, name };
	return { tab: "explain", user, operation: operation === "write" ? "publish" : "subscribe", name };
}
