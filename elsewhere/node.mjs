// SPDX-License-Identifier: MIT
// Run replay.c and the core, which are compiled to one module of WebAssembly, in node: node node.mjs MODULE ARGUMENTS
import { readFile } from "node:fs/promises";
import { WASI } from "node:wasi";

const [module, ...words] = process.argv.slice(2);
const wasi = new WASI({ version: "preview1", args: ["replay", ...words], preopens: { "/": "/" } });
const { instance } = await WebAssembly.instantiate(await readFile(module), wasi.getImportObject());
process.exit(wasi.start(instance));
