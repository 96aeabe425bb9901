// A list that the server pages, sorts and filters; how is said by the URL.

import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { type ReactNode, useEffect, useId, useState } from "react";
import { call } from "../api/client";
import type { Routes } from "../api/schema";
import { every } from "../lib/queries";
import { count } from "../lib/show";
import type { Search } from "../router";
import { type Column, Table } from "./table";
import { Trouble } from "./trouble";

type Lists = "GET /topics" | "GET /sessions" | "GET /groups" | "GET /users" | "GET /rules";
type Item<R extends Lists> = Routes[R]["answers"]["items"][number];

/** useView is what the URL says of a view, and how to change it. What changes the list begins at its first page. */
export function useView(): [Search, (change: Search, replace?: boolean) => void] {
	const search = useSearch({ strict: false }) as Search;
	const navigate = useNavigate();
	const change = (to: Search, replace = false) =>
		void navigate({ to: ".", search: (was: Search) => ({ ...was, cursor: undefined, ...to }), replace });
	return [search, change];
}

interface Props<R extends Lists> {
	route: R;
	label: string;
	columns: Column<Item<R>>[];
	id: (item: Item<R>) => string;
	/** The order when the URL says none. */
	sort: string;
	/** The parameters of the route that the URL may hold besides search, sort and cursor. */
	params?: string[];
	searchLabel: string;
	tools?: ReactNode;
	empty: ReactNode;
}

/** List is a page of a list with its search, its order and the way to the next page. */
export function List<R extends Lists>(p: Props<R>) {
	const [view, change] = useView();
	const takes: Search = { search: view.search, sort: view.sort ?? p.sort, cursor: view.cursor };
	for (const name of p.params ?? []) takes[name] = view[name];
	const list = useQuery({
		queryKey: [p.route, takes],
		queryFn: ({ signal }) => call(p.route, takes as Routes[R]["takes"], signal),
		placeholderData: keepPreviousData,
		refetchInterval: every(5000),
	});
	const page = list.data;
	return (
		<>
			<form className="tools" onSubmit={(e) => e.preventDefault()}>
				<SearchField label={p.searchLabel} value={view.search ?? ""} onChange={(search) => change({ search }, true)} />
				{p.tools}
			</form>
			{list.error && <Trouble error={list.error} />}
			{page && (
				<>
					<Table
						label={p.label}
						columns={p.columns}
						rows={page.items as Item<R>[]}
						id={p.id}
						sort={takes.sort}
						onSort={(sort) => change({ sort })}
						empty={p.empty}
					/>
					<nav className="pager" aria-label="Pages of the list">
						<span role="status">{page.total === 1 ? "1 in all" : `${count(page.total)} in all`}</span>
						{view.cursor && (
							<Link to="." search={(was: Search) => ({ ...was, cursor: undefined })}>
								First page
							</Link>
						)}
						{page.next && (
							<Link to="." search={(was: Search) => ({ ...was, cursor: page.next })}>
								Next page
							</Link>
						)}
					</nav>
				</>
			)}
		</>
	);
}

/** How long who types pauses until what was typed is looked for, in milliseconds. */
const pause = 150;

function SearchField({ label, value, onChange }: { label: string; value: string; onChange: (text: string) => void }) {
	const id = useId();
	const [text, setText] = useState(value);
	useEffect(() => setText(value), [value]);
	// biome-ignore lint/correctness/useExhaustiveDependencies: only what is typed starts the clock
	useEffect(() => {
		if (text === value) return;
		const timer = setTimeout(() => onChange(text), pause);
		return () => clearTimeout(timer);
	}, [text]);
	return (
		<div className="field">
			<label htmlFor={id}>{label}</label>
			<input
				id={id}
				type="search"
				value={text}
				autoComplete="off"
				spellCheck={false}
				onChange={(e) => setText(e.target.value)}
			/>
		</div>
	);
}
