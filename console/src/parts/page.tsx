import { type ReactNode, useEffect, useRef } from "react";

let first = true; // a page that a browser opens keeps the focus where the browser has it

/** Page is a view with its heading, which gets the focus when one comes from another view. */
export function Page({ title, about, children }: { title: string; about?: ReactNode; children: ReactNode }) {
	const heading = useRef<HTMLHeadingElement>(null);
	useEffect(() => {
		document.title = `${title} · Firth`;
		if (!first) heading.current?.focus();
		first = false;
	}, [title]);
	return (
		<>
			<h1 ref={heading} tabIndex={-1}>
				{title}
			</h1>
			{about && <p className="about">{about}</p>}
			{children}
		</>
	);
}
