/**
 * `node packages/api/scripts/api-reference.ts [--check]`: write docs/api-reference.md from the OpenAPI document, or fail when
 * it is not what the document says.
 */
import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { openapiDocument } from "../src/openapi.ts";
import { apiReference } from "./reference/page.ts";

const path = fileURLToPath(new URL("../../../docs/api-reference.md", import.meta.url));
const text = apiReference(JSON.parse(JSON.stringify(openapiDocument())));

if (process.argv.includes("--check")) {
  const stored = await readFile(path, "utf8").catch(() => "");
  if (stored !== text) {
    console.error(
      "docs/api-reference.md differs from the schemas; run: node packages/api/scripts/api-reference.ts",
    );
    process.exitCode = 1;
  }
} else {
  await writeFile(path, text);
}
