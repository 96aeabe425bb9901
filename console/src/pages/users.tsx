// Users: the list, how one is made, and all of one with how it is changed.

import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate, useParams } from "@tanstack/react-router";
import { type FormEvent, useState } from "react";
import { call, change, Refused, tagged } from "../api/client";
import type { User } from "../api/schema";
import { Dialog, Ends } from "../parts/dialog";
import { Facts } from "../parts/facts";
import { Checks, Choice, Field, said, words } from "../parts/field";
import { List, useView } from "../parts/list";
import { Page } from "../parts/page";
import { Sure } from "../parts/sure";
import { Trouble } from "../parts/trouble";
import { useStanding } from "../parts/who";
import { RuleTable } from "./rules";

export function Users() {
	const [view, change] = useView();
	return (
		<>
			<p>
				<button type="button" className="primary" onClick={() => change({ add: "true" })}>
					Add a user…
				</button>
			</p>
			{view.add && <AddUser onClose={() => change({ add: undefined }, true)} />}
			<List
				route="GET /users"
				label="Users"
				searchLabel="With this text in their name"
				sort="name"
				params={["role", "group"]}
				id={(u) => u.name}
				columns={[
					{
						name: "User",
						sort: "name",
						cell: (u) => (
							<Link to="/access/users/$user" params={{ user: u.name }}>
								{u.name}
							</Link>
						),
					},
					{ name: "Roles", cell: (u) => list(u.roles) },
					{ name: "Groups", cell: (u) => list(u.groups) },
					{ name: "Client identifier", cell: (u) => <code>{u.client_id ?? ""}</code> },
					{ name: "Proves itself by", cell: (u) => list(u.proofs) },
					{ name: "State", cell: (u) => (u.disabled ? "kept out" : "") },
				]}
				empty="There is no such user."
			/>
		</>
	);
}

const list = (all: string[] | null) => (all ?? []).join(", ");

/** useRoles are the names of the roles there are. */
function useRoles(): string[] {
	const roles = useQuery({
		queryKey: ["GET /roles"],
		queryFn: ({ signal }) => call("GET /roles", { limit: 100 }, signal),
	});
	return roles.data?.items.map((r) => r.name) ?? [];
}

const ways: [string, string][] = [
	["generate", "a password that is made, and shown once"],
	["typed", "a password that I type"],
	["none", "a certificate or a token"],
];

/** AddUser makes a user. The first one ends the time when everybody on this machine may do everything. */
function AddUser({ onClose }: { onClose: () => void }) {
	const client = useQueryClient();
	const roles = useRoles();
	const first = useStanding()?.open === true;
	const [way, setWay] = useState(first ? "typed" : "generate");
	const make = useMutation({
		mutationFn: (form: FormData) =>
			change(
				"POST /users",
				{},
				{
					name: said(form, "user"),
					roles: form.getAll("role").map(String),
					groups: words(said(form, "groups")),
					client_id: said(form, "client") || undefined,
					password: way === "typed" ? String(form.get("password") ?? "") : undefined,
					generate: way === "generate",
				},
			),
		onSuccess: (made) => {
			if (!made.password) onClose();
			void client.invalidateQueries();
		},
	});
	const send = (e: FormEvent<HTMLFormElement>) => {
		e.preventDefault();
		make.mutate(new FormData(e.currentTarget));
	};
	if (make.data?.password) return <Password of={make.data.name} is={make.data.password} onClose={onClose} />;
	return (
		<Dialog title="Add a user" onClose={onClose}>
			{first && <p>With the first user everybody has to log in: give it the role admin, and remember the password.</p>}
			<form onSubmit={send}>
				<Field label="Name" name="user" required />
				{roles.length > 0 && <Checks legend="Roles" name="role" all={roles} on={first ? ["admin"] : []} />}
				<Field label="Groups" name="groups" />
				<Field label="Client identifier that it has to have" name="client" />
				<Choice
					label="It proves who it is by"
					value={way}
					choices={first ? ways.filter(([w]) => w === "typed") : ways}
					onChange={setWay}
				/>
				{way === "typed" && (
					<Field label="Password" name="password" type="password" autoComplete="new-password" required />
				)}
				{make.error && <Trouble error={make.error} />}
				<Ends verb="Add" busy={make.isPending} as="primary" onClose={onClose} />
			</form>
		</Dialog>
	);
}

/** Password shows one that was made, this once. */
function Password({ of, is, onClose }: { of: string; is: string; onClose: () => void }) {
	return (
		<Dialog title={`The password of ${of}`} onClose={onClose}>
			<p>
				<code>{is}</code>
			</p>
			<p>It is not shown again.</p>
			<div className="row">
				<button type="button" onClick={() => void navigator.clipboard?.writeText(is)}>
					Copy
				</button>
				<button type="button" className="primary" onClick={onClose}>
					I have it
				</button>
			</div>
		</Dialog>
	);
}

export function UserPage() {
	const { user = "" } = useParams({ strict: false });
	const it = useQuery({
		queryKey: ["GET /users/{user}", user],
		queryFn: ({ signal }) => tagged("GET /users/{user}", { user }, signal),
	});
	return (
		<Page key={user} title={`User ${user}`}>
			{it.error && <Trouble error={it.error} />}
			{it.data && <Known user={it.data.value} tag={it.data.tag} />}
		</Page>
	);
}

type Asking = "change" | "remove" | "password" | undefined;

function Known({ user: u, tag }: { user: User; tag: string }) {
	const [asking, setAsking] = useState<Asking>();
	const navigate = useNavigate();
	const rules = useQuery({
		queryKey: ["GET /rules", "of", u.name],
		queryFn: ({ signal }) => call("GET /rules", { user: u.name, ready: true, limit: 100 }, signal),
	});
	const close = () => setAsking(undefined);
	return (
		<>
			<Facts
				facts={[
					["State", u.disabled ? "kept out" : "may log in"],
					["Roles", list(u.roles) || "none"],
					["Groups", list(u.groups)],
					["Client identifier", u.client_id && <code>{u.client_id}</code>],
					["Proves itself by", list(u.proofs) || "a certificate or a token"],
				]}
			/>
			<div className="tools">
				<button type="button" onClick={() => setAsking("change")}>
					Change…
				</button>
				<button type="button" onClick={() => setAsking("password")}>
					New password…
				</button>
				<button type="button" className="danger" onClick={() => setAsking("remove")}>
					Remove…
				</button>
				<Link to="/access" search={{ tab: "explain", user: u.name }}>
					What may it?
				</Link>
				<Link to="/audit" search={{ principal: `User:${u.name}` }}>
					What it did
				</Link>
			</div>
			{asking === "change" && <ChangeUser user={u} tag={tag} onClose={close} />}
			{asking === "password" && <NewPassword user={u} onClose={close} />}
			{asking === "remove" && (
				<Sure
					title={`Remove ${u.name}?`}
					verb="Remove"
					act={() => change("DELETE /users/{user}", { user: u.name }, undefined, tag)}
					onClose={close}
					onDone={() => void navigate({ to: "/access" })}
				>
					<p>Its connections end, and its tokens go. Rules about it stay.</p>
				</Sure>
			)}
			<h2>Rules about it</h2>
			{rules.error && <Trouble error={rules.error} />}
			{rules.data && <RuleTable rules={rules.data.items} empty="No rule is about it: it may do nothing." />}
		</>
	);
}

/** ChangeUser changes what was seen: when somebody else has changed it meanwhile, it says so, and begins anew. */
function ChangeUser({ user: u, tag, onClose }: { user: User; tag: string; onClose: () => void }) {
	const client = useQueryClient();
	const roles = useRoles();
	const [seen, setSeen] = useState({ user: u, tag });
	const save = useMutation({
		mutationFn: (form: FormData) =>
			change(
				"PATCH /users/{user}",
				{ user: u.name },
				{
					roles: [...form.getAll("role").map(String), ...words(said(form, "more"))],
					groups: words(said(form, "groups")),
					client_id: said(form, "client"),
					disabled: form.get("disabled") === "on",
				},
				seen.tag,
			),
		onSuccess: () => {
			onClose();
			void client.invalidateQueries();
		},
		onError: async (e) => {
			if (!(e instanceof Refused) || e.status !== 412) return;
			const now = await tagged("GET /users/{user}", { user: u.name });
			setSeen({ user: now.value, tag: now.tag });
		},
	});
	const overtaken = save.error instanceof Refused && save.error.status === 412;
	const now = seen.user;
	const known = [...new Set([...roles, ...now.roles])].sort();
	return (
		<Dialog title={`Change ${u.name}`} onClose={onClose}>
			<form
				key={`${seen.tag} ${known.length}`}
				onSubmit={(e) => {
					e.preventDefault();
					save.mutate(new FormData(e.currentTarget));
				}}
			>
				<Checks legend="Roles" name="role" all={known} on={now.roles} />
				<Field label="A role that is not there yet" name="more" />
				<Field label="Groups" name="groups" value={now.groups.join(", ")} />
				<Field label="Client identifier that it has to have" name="client" value={now.client_id} />
				<label className="check">
					<input type="checkbox" name="disabled" defaultChecked={now.disabled} />
					Keep it out: its connections end
				</label>
				{overtaken && (
					<div className="trouble" role="alert">
						<p>
							<strong>Somebody else has changed {u.name} meanwhile.</strong>
						</p>
						<p>What is shown now is theirs. Nothing of yours was saved: look at it, and change it again.</p>
					</div>
				)}
				{save.error && !overtaken && <Trouble error={save.error} />}
				<Ends verb="Save" busy={save.isPending} as="primary" onClose={onClose} />
			</form>
		</Dialog>
	);
}

/** NewPassword gives a user another one; whatever else is changed of it stays, so that no tag is needed. */
function NewPassword({ user: u, onClose }: { user: User; onClose: () => void }) {
	const client = useQueryClient();
	const make = useMutation({
		mutationFn: () => change("PATCH /users/{user}", { user: u.name }, { generate: true }, "*"),
		onSuccess: () => void client.invalidateQueries(),
	});
	if (make.data?.password) return <Password of={u.name} is={make.data.password} onClose={onClose} />;
	return (
		<Dialog title={`A new password for ${u.name}?`} onClose={onClose}>
			<p>One is made, and shown once. The old one is good no longer, and its connections end.</p>
			{make.error && <Trouble error={make.error} />}
			<Ends verb="Make it" busy={make.isPending} as="danger" onClose={onClose} onAct={() => make.mutate()} />
		</Dialog>
	);
}
