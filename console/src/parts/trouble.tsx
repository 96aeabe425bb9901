import { Refused } from "../api/client";

/** Trouble says what went wrong, and what to do about it. */
export function Trouble({ error }: { error: Error }) {
	return (
		<div className="trouble" role="alert">
			<p>
				<strong>{error.message}</strong>
			</p>
			{error instanceof Refused && error.hint && <p>{error.hint}</p>}
		</div>
	);
}
