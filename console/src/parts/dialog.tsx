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
