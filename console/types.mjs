// Writes src/api/schema.ts, the types of the API, from docs/openapi.json. It is made anew for each check, and so is never old.
import { readFileSync, writeFileSync } from "node:fs";

const source = new URL("../docs/openapi.json", import.meta.url);
const target = new URL("src/api/schema.ts", import.meta.url);
const api = JSON.parse(readFileSync(source, "utf8"));

/** The type of a schema, in TypeScript. */
function type(schema) {
	if (schema.$ref) return schema.$ref.replace(/^.*\//, "");
	if (schema.anyOf) return schema.anyOf.map(type).join(" | ");
	if (schema.enum) return schema.enum.map((v) => JSON.stringify(v)).join(" | ");
	switch (schema.type) {
		case "array": {
			const item = type(schema.items);
			return item.includes(" ") ? `(${item})[]` : `${item}[]`;
		}
		case "integer":
		case "number":
			return "number";
		case "string":
		case "boolean":
		case "null":
			return schema.type;
		case "object":
			return schema.additionalProperties ? `{ [key: string]: ${type(schema.additionalProperties)} }` : "object";
	}
	return "unknown";
}

const field = (name, optional, schema) =>
	`${/^\w+$/.test(name) ? name : JSON.stringify(name)}${optional ? "?" : ""}: ${type(schema)};`;

const lines = [
	"// Made from docs/openapi.json by `npm run types`; not to be edited.",
	"// Numbers of 64 bits are strings: a number of JavaScript does not hold all of them.",
	"",
];
for (const [name, schema] of Object.entries(api.components.schemas)) {
	lines.push(`export interface ${name} {`);
	for (const [key, value] of Object.entries(schema.properties ?? {})) {
		if (value.description) lines.push(`\t/** ${value.description} */`);
		lines.push(`\t${field(key, !schema.required?.includes(key), value)}`);
	}
	lines.push("}", "");
}
lines.push(
	"/** Nothing is what a route without parameters takes. */",
	"export type Nothing = { [key: string]: never };",
	"",
	"/** What each route takes in its path and its query, what a request says, and what it answers. */",
	"export interface Routes {",
);
for (const [path, methods] of Object.entries(api.paths)) {
	for (const [method, route] of Object.entries(methods)) {
		const params = (route.parameters ?? [])
			.filter((p) => p.in !== "header")
			.map((p) => field(p.name, !p.required, p.schema));
		const body = route.requestBody?.content?.["application/json"]?.schema;
		const answer = Object.values((route.responses["200"] ?? route.responses["201"])?.content ?? {})[0]?.schema ?? {};
		lines.push(`\t"${method.toUpperCase()} ${path}": {`);
		if (params.length === 0) lines.push("\t\ttakes: Nothing;");
		else lines.push("\t\ttakes: {", ...params.map((p) => `\t\t\t${p}`), "\t\t};");
		lines.push(`\t\tsays: ${body ? type(body) : "undefined"};`, `\t\tanswers: ${type(answer)};`, "\t};");
	}
}
lines.push("}", "");

writeFileSync(target, lines.join("\n"));
