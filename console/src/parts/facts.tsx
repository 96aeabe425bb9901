import type { ReactNode } from "react";

/** Facts are names with what they are; what is nothing is left out. */
export function Facts({ facts }: { facts: [string, ReactNode][] }) {
	return (
		<dl className="facts">
			{facts
				.filter(([, value]) => value !== undefined && value !== null && value !== "")
				.map(([name, value]) => (
					<div key={name}>
						<dt>{name}</dt>
						<dd>{value}</dd>
					</div>
				))}
		</dl>
	);
}
