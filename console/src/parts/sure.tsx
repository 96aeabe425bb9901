import { useMutation, useQueryClient } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { Dialog, Ends } from "./dialog";
import { Trouble } from "./trouble";

interface Props {
	title: string;
	/** What happens then. */
	children: ReactNode;
	verb: string;
	act: () => Promise<unknown>;
	onClose: () => void;
	onDone?: () => void;
}

/** Sure asks before something is done that takes something away. */
export function Sure({ title, children, verb, act, onClose, onDone }: Props) {
	const client = useQueryClient();
	const doing = useMutation({
		mutationFn: act,
		onSuccess: () => {
			onClose();
			onDone?.();
			void client.invalidateQueries();
		},
	});
	return (
		<Dialog title={title} onClose={onClose}>
			{children}
			{doing.error && <Trouble error={doing.error} />}
			<Ends verb={verb} busy={doing.isPending} as="danger" onClose={onClose} onAct={() => doing.mutate()} />
		</Dialog>
	);
}
