import { type ReactNode, useLayoutEffect, useRef } from "react";

/** Dialog is the browser's own modal dialog: it holds the focus, Escape closes it, and the focus goes back. */
export function Dialog({ title, onClose, children }: { title: string; onClose: () => void; children: ReactNode }) {
	const dialog = useRef<HTMLDialogElement>(null);
	// Before it is taken out of the page: only then the browser gives the focus back.
	useLayoutEffect(() => {
		const it = dialog.current;
		it?.showModal();
		return () => it?.close();
	}, []);
	return (
		<dialog ref={dialog} aria-labelledby="dialog-title" onCancel={onClose}>
			<h2 id="dialog-title">{title}</h2>
			{children}
		</dialog>
	);
}

interface EndsProps {
	verb: string;
	/** It was begun, and has not ended yet. */
	busy: boolean;
	/** How the button looks that does it. */
	as?: "primary" | "danger";
	onClose: () => void;
	/** What it does; without it the form is sent. */
	onAct?: () => void;
}

/** Ends are the last buttons of a dialog: the way back, and what it is for. */
export function Ends({ verb, busy, as, onClose, onAct }: EndsProps) {
	return (
		<div className="row">
			<button type="button" onClick={onClose}>
				Cancel
			</button>
			<button type={onAct ? "button" : "submit"} className={as} disabled={busy} onClick={onAct}>
				{verb}
			</button>
		</div>
	);
}
