import type { ReactNode } from "react";

/** Column is one column of a table; sort is the field of the API that it is sorted by. */
export interface Column<T> {
	name: string;
	cell: (row: T) => ReactNode;
	sort?: string;
	number?: boolean;
}

interface Props<T> {
	label: string;
	columns: Column<T>[];
	rows: T[];
	id: (row: T) => string;
	/** The order in force: a field, with - from the largest down. */
	sort?: string;
	onSort?: (sort: string) => void;
	empty: ReactNode;
}

/** Table shows rows. It scrolls by itself where it is wider than the window, by keyboard, too. */
export function Table<T>({ label, columns, rows, id, sort, onSort, empty }: Props<T>) {
	if (rows.length === 0) return <p className="empty">{empty}</p>;
	return (
		// biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls has to be reached by keyboard
		<section className="scroll" aria-label={label} tabIndex={0}>
			<table>
				<thead>
					<tr>
						{columns.map((c) => (
							<Head key={c.name} column={c} sort={sort} onSort={onSort} />
						))}
					</tr>
				</thead>
				<tbody>
					{rows.map((row) => (
						<tr key={id(row)}>
							{columns.map((c) => (
								<td key={c.name} className={c.number ? "number" : undefined}>
									{c.cell(row)}
								</td>
							))}
						</tr>
					))}
				</tbody>
			</table>
		</section>
	);
}

function Head<T>({ column, sort, onSort }: { column: Column<T>; sort?: string; onSort?: (sort: string) => void }) {
	const kind = column.number ? "number" : undefined;
	const field = column.sort;
	if (!field || !onSort) {
		return (
			<th scope="col" className={kind}>
				{column.name}
			</th>
		);
	}
	const down = sort === `-${field}`;
	const on = down || sort === field;
	// Numbers are looked at from the largest down first.
	const next = on ? (down ? field : `-${field}`) : column.number ? `-${field}` : field;
	return (
		<th scope="col" className={kind} aria-sort={on ? (down ? "descending" : "ascending") : undefined}>
			<button type="button" className="sort" onClick={() => onSort(next)}>
				{column.name}
				<span aria-hidden="true">{on ? (down ? " ↓" : " ↑") : " ↕"}</span>
			</button>
		</th>
	);
}
