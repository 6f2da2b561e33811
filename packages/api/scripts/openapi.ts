/**
 * `node packages/api/scripts/openapi.ts [--check]`: write docs/openapi.json and, from it, docs/api-reference.md; or fail when
 * one of them is not what the schemas say.
 */
import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { openapiDocument } from "../src/openapi.ts";
import { apiReference } from "./reference/page.ts";

const json = `${JSON.stringify(openapiDocument(), undefined, 2)}\n`;
const files = { "openapi.json": json, "api-reference.md": apiReference(JSON.parse(json)) };

for (const [name, text] of Object.entries(files)) {
  const path = fileURLToPath(new URL(`../../../docs/${name}`, import.meta.url));
  if (!process.argv.includes("--check")) await writeFile(path, text);
  else if ((await readFile(path, "utf8").catch(() => "")) !== text) {
    console.error(`docs/${name} differs from the schemas; run: node packages/api/scripts/openapi.ts`);
    process.exitCode = 1;
  }
}
