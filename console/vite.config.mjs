import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// OUT is where a build goes: the gate builds beside what is embedded, and compares.
const out = process.env.OUT ?? "../internal/apps/console/dist";
// FIRTH is a node for `npm run dev`.
const node = process.env.FIRTH ?? "http://127.0.0.1:8080";

export default defineConfig({
	plugins: [react()],
	build: {
		outDir: out,
		emptyOutDir: true,
		target: "es2023",
		assetsInlineLimit: 0, // no data: URL: the content security policy takes files of the node only
		modulePreload: { polyfill: false },
		reportCompressedSize: false,
		license: { fileName: "licenses.md" }, // of what is built in, as the licences ask
		rolldownOptions: {
			output: {
				// What others wrote changes seldom: browsers, and the history of the repository, keep it.
				codeSplitting: { groups: [{ name: "vendor", test: /node_modules/ }] },
			},
		},
	},
	server: {
		proxy: Object.fromEntries(["/api", "/auth", "/metrics"].map((path) => [path, { target: node }])),
	},
});
