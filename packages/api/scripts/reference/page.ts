/** The reference as Markdown: the operations by resource, then every named schema. */
import type { Operation, ReferenceDocument, SchemaNode } from "./document.ts";
import { code, typeText } from "./schema-text.ts";

/** Routes of an environment exist twice (contract 1.4); they are shown once. */
const environmentPrefix = "/projects/{projectID}/environments/{environmentID}";
const prefixParameters = new Set(["projectID", "environmentID"]);
/** Said once, at the head. */
const versionHeader = "Helmr-API-Version";

interface Entry {
  readonly method: string;
  readonly path: string;
  readonly operation: Operation;
  /** The same for signed-in users, below the prefix. */
  readonly twin: Operation | undefined;
}

export function apiReference(document: ReferenceDocument): string {
  const entries = entriesOf(document);
  const tags = [...new Set(entries.map(({ operation }) => operation.tags[0] ?? "other"))];
  const ofTag = (tag: string) => entries.filter(({ operation }) => (operation.tags[0] ?? "other") === tag);
  const schemas = Object.entries(document.components.schemas).sort(([a], [b]) => (a < b ? -1 : 1));
  return `${[
    head(document),
    `## Resources\n\n${tags.map((tag) => `- [${tag}](#${tag}): ${countText(ofTag(tag).length)}`).join("\n")}\n- [schemas](#schemas)`,
    ...tags.flatMap((tag) => [`## ${tag}`, ...ofTag(tag).map(operationText)]),
    "## Schemas",
    ...schemas.map(([name, schema]) => schemaText(name, schema)),
  ].join("\n\n")}\n`;
}

function countText(count: number): string {
  return count === 1 ? "1 operation" : `${count} operations`;
}

function head({ info }: ReferenceDocument): string {
  return `<!-- Made by packages/api/scripts/openapi.ts from the schemas; changes here are lost. -->

# API reference

Version \`${info.version}\`. ${info.description}

How to use it, with examples: [HTTP API](api.md). The same for programs: [openapi.json](openapi.json). Paths are below \`/api\`. A
request may name the version it was written for in \`${versionHeader}\`. Every error has the shape [Error](#error); its codes are in
[errors](errors.md).`;
}

function entriesOf({ paths }: ReferenceDocument): Entry[] {
  return Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).flatMap(([method, operation]) => {
      const plain = path.startsWith(environmentPrefix) ? path.slice(environmentPrefix.length) : undefined;
      if (plain !== undefined && paths[plain]?.[method] !== undefined) return [];
      const twin = paths[`${environmentPrefix}${path}`]?.[method];
      return [{ method: method.toUpperCase(), path, operation, twin }];
    }),
  );
}

function operationText({ method, path, operation, twin }: Entry): string {
  const parameters = (operation.parameters ?? []).filter(({ name, in: place }) => {
    const isOfPrefix = path.startsWith(environmentPrefix) && prefixParameters.has(name);
    return name !== versionHeader && !isOfPrefix && place !== "cookie";
  });
  const rows = parameters.map(
    ({ name, in: place, required, schema }) =>
      `| ${code(name)} | ${place} | ${required ? "yes" : "no"} | ${schema === undefined ? "" : fieldText(schema)} |`,
  );
  const body = Object.entries(operation.requestBody?.content ?? {}).map(
    ([type, { schema }]) =>
      `Body (${type}${operation.requestBody?.required ? "" : ", optional"}): ${schema === undefined ? "" : typeText(schema)}`,
  );
  return [
    `### ${method} ${path}`,
    `${operation.summary}. ${operation.description ?? ""}`.trim(),
    ...(twin === undefined ? [] : [`Below \`${environmentPrefix}\` too. ${twin.description ?? ""}`.trim()]),
    ...(rows.length === 0
      ? []
      : [`| parameter | in | required | value |\n|---|---|---|---|\n${rows.join("\n")}`]),
    ...body,
    `| status | meaning | answer |\n|---|---|---|\n${answers(operation).join("\n")}`,
  ].join("\n\n");
}

function answers({ responses }: Operation): string[] {
  return Object.entries(responses).map(([status, { description, content = {} }]) => {
    const shapes = Object.entries(content).map(([type, { schema }]) => {
      const shape = schema === undefined ? "" : typeText(schema);
      return type === "application/json" ? shape : `${shape} as ${type}`;
    });
    return `| ${status} | ${description} | ${shapes.join(" or ")} |`;
  });
}

function schemaText(name: string, schema: SchemaNode): string {
  const fields = Object.entries(schema.properties ?? {});
  const title = `### ${name}`;
  if (fields.length === 0) return `${title}\n\n${typeText(schema)}`;
  const rows = fields.map(
    ([field, value]) =>
      `| ${code(field)} | ${schema.required?.includes(field) ? "yes" : "no"} | ${fieldText(value)} |`,
  );
  return `${title}\n\n| field | always | value |\n|---|---|---|\n${rows.join("\n")}`;
}

function fieldText(schema: SchemaNode): string {
  const described = schema.description === undefined ? "" : `. ${schema.description}`;
  return `${typeText(schema)}${described}`.replaceAll("\n", " ");
}
