// What GitHub's language service finds in workflow and action files, a line each. usage: node lint.mjs FOLDER FILE...
// FOLDER holds node_modules.
import { readFileSync } from "node:fs";
import { register } from "node:module";
import { pathToFileURL } from "node:url";

// Its packages are made for bundlers: they import JSON without saying so, which Node.js refuses.
const json = `import { readFile } from "node:fs/promises";
export const load = async (url, context, next) => url.endsWith(".json")
  ? { format: "module", shortCircuit: true, source: "export default " + await readFile(new URL(url), "utf8") }
  : next(url, context);`;
register(`data:text/javascript,${encodeURIComponent(json)}`);

const [folder, ...files] = process.argv.slice(2);
const load = (path) => import(pathToFileURL(`${folder}/node_modules/${path}`).href);
const { validate } = await load("@actions/languageservice/dist/index.js");
const { TextDocument } = await load("vscode-languageserver-textdocument/lib/esm/main.js");

for (const file of files) {
  const document = TextDocument.create(pathToFileURL(file).href, "yaml", 0, readFileSync(file, "utf8"));
  for (const found of await validate(document)) {
    console.log(`${file}:${found.range.start.line + 1}: ${found.message}`);
  }
}
