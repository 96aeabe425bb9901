import { type ReactNode, useEffect, useRef } from "react";

interface Props {
	/** Another one says that another thing is looked at. */
	of: string;
	title: ReactNode;
	onClose: () => void;
	children: ReactNode;
}

/** Panel is one thing of a list in full. Who looks at another one finds the keyboard at its heading. */
export function Panel({ of, title, onClose, children }: Props) {
	const heading = useRef<HTMLHeadingElement>(null);
	// biome-ignore lint/correctness/useExhaustiveDependencies: another thing is looked at
	useEffect(() => heading.current?.focus(), [of]);
	return (
		<section className="card inspector" aria-labelledby="panel-title">
			<div className="row">
				<h2 id="panel-title" ref={heading} tabIndex={-1}>
					{title}
				</h2>
				<button type="button" onClick={onClose}>
					Close
				</button>
			</div>
			{children}
		</section>
	);
}
