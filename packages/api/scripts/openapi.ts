/** `node packages/api/scripts/openapi.ts [--check]`: write docs/openapi.json, or fail when it is not what the schemas say. */
import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { openapiDocument } from "../src/openapi.ts";

const path = fileURLToPath(new URL("../../../docs/openapi.json", import.meta.url));
const text = `${JSON.stringify(openapiDocument(), undefined, 2)}\n`;

if (process.argv.includes("--check")) {
  const stored = await readFile(path, "utf8").catch(() => "");
  if (stored !== text) {
    console.error("docs/openapi.json differs from the schemas; run: node packages/api/scripts/openapi.ts");
    process.exitCode = 1;
  }
} else {
  await writeFile(path, text);
}
