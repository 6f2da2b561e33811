/** A schema in words, short enough for a cell of a table. */
import type { SchemaNode } from "./document.ts";

const largest = Number.MAX_SAFE_INTEGER;

/** Such as "text matching `^a+$`, at most 64 characters", with links to named schemas. */
export function typeText(schema: SchemaNode): string {
  if (schema.$ref !== undefined) return link(nameOf(schema.$ref));
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices !== undefined) return [...new Set(choices.map(typeText))].join(" or ");
  if (schema.allOf !== undefined) return schema.allOf.map(typeText).join(" and ");
  if (schema.const !== undefined) return code(JSON.stringify(schema.const));
  if (schema.enum !== undefined) return schema.enum.map((value) => code(JSON.stringify(value))).join(", ");
  return ofType(schema);
}

function ofType(schema: SchemaNode): string {
  switch (schema.type) {
    case "string":
      return ["text", ...textLimits(schema)].join(", ");
    case "integer":
    case "number":
      return [schema.type === "integer" ? "whole number" : "number", ...numberLimits(schema)].join(", ");
    case "boolean":
      return "true or false";
    case "null":
      return "null";
    case "array":
      return [
        `list of ${schema.items === undefined ? "any value" : typeText(schema.items)}`,
        ...listLimits(schema),
      ].join(", ");
    case "object":
      return objectText(schema);
    default:
      return "any JSON value";
  }
}

function objectText({ properties = {}, required = [] }: SchemaNode): string {
  const fields = Object.entries(properties);
  if (fields.length === 0) return "object";
  const texts = fields.map(([name, field]) => {
    const optional = required.includes(name) ? "" : " (optional)";
    return `${code(name)}${optional}: ${typeText(field)}`;
  });
  return `object with ${texts.join("; ")}`;
}

function textLimits({ format, pattern, minLength, maxLength }: SchemaNode): string[] {
  return [
    ...(format === undefined ? [] : [format]),
    // Of a format the pattern says nothing more to a person.
    ...(pattern === undefined || format !== undefined ? [] : [`matching ${code(pattern)}`]),
    ...(minLength === undefined ? [] : [`at least ${minLength} characters`]),
    ...(maxLength === undefined ? [] : [`at most ${maxLength} characters`]),
  ];
}

function numberLimits({ minimum, maximum, exclusiveMinimum }: SchemaNode): string[] {
  return [
    ...(minimum === undefined || minimum <= -largest ? [] : [`at least ${minimum}`]),
    ...(exclusiveMinimum === undefined ? [] : [`above ${exclusiveMinimum}`]),
    ...(maximum === undefined || maximum >= largest ? [] : [`at most ${maximum}`]),
  ];
}

function listLimits({ minItems, maxItems }: SchemaNode): string[] {
  return [
    ...(minItems === undefined ? [] : [`at least ${minItems}`]),
    ...(maxItems === undefined ? [] : [`at most ${maxItems}`]),
  ];
}

/** In a table: bars would end the cell. */
export function code(text: string): string {
  return `\`${text.replaceAll("|", "\\|")}\``;
}

function nameOf(reference: string): string {
  return reference.slice(reference.lastIndexOf("/") + 1);
}

function link(name: string): string {
  return `[${name}](#${name.toLowerCase()})`;
}
