/** Readers of option values. Each throws commander's InvalidArgumentError, which ends in exit code 2. */
import { readFile } from "node:fs/promises";
import { InvalidArgumentError } from "commander";
import { messageOf, usageError } from "./errors.ts";

const unitsMs: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** `90s`, `1h30m`, `500ms`, `2d` → milliseconds. */
export function durationMs(text: string): number {
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d)/g)];
  const total = parts.reduce((sum, [, amount, unit]) => sum + Number(amount) * (unitsMs[unit ?? ""] ?? 0), 0);
  if (parts.map(([part]) => part).join("") !== text || total <= 0) {
    throw new InvalidArgumentError("Use a duration such as 90s, 20m or 1h30m.");
  }
  return Math.ceil(total);
}

/** A whole number, or a duration in whole seconds. */
export function seconds(text: string): number {
  if (/^\d+$/.test(text)) return Number(text);
  return Math.ceil(durationMs(text) / 1000);
}

/** A whole number within bounds. */
export function integer(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^-?\d+$/.test(text) || value < min || value > max) {
      throw new InvalidArgumentError(`Use a whole number from ${min} to ${max}.`);
    }
    return value;
  };
}

/** Collects an option that may be given several times. */
export function repeated(value: string, before: readonly string[] | undefined): string[] {
  return [...(before ?? []), value];
}

/** JSON given as text, as `@file`, or as `-` for stdin. `name` is the option's, for the message. */
export async function jsonValue(text: string, name: string): Promise<unknown> {
  const source =
    text === "-" ? await readStdin() : text.startsWith("@") ? await readText(text.slice(1), name) : text;
  const value = parseJson(source, name);
  const { maxJsonDepth, withinDepth } = await import("@helmr/api");
  if (!withinDepth(value)) throw usageError(`${name} is nested deeper than ${maxJsonDepth} levels`);
  return value;
}

function parseJson(text: string, name: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw usageError(
      `${name} is not valid JSON: ${messageOf(error)}`,
      `give JSON such as '{"name":"Ada"}', a file as @payload.json, or - to read stdin`,
    );
  }
}

/** As `jsonValue`, for an object. */
export async function jsonObject(text: string, name: string): Promise<Record<string, unknown>> {
  const value = await jsonValue(text, name);
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw usageError(`${name} must be a JSON object, such as '{"team":"web"}'`);
  }
  return { ...value };
}

async function readText(path: string, name: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    throw usageError(`cannot read the file of ${name}: ${messageOf(error)}`);
  }
}

/** Everything on stdin, bounded: a value for the API cannot be larger than a request (128 MiB). */
export async function readStdin(limitBytes = 128 * 1024 * 1024): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of process.stdin) {
    const bytes = Buffer.from(chunk);
    size += bytes.length;
    if (size > limitBytes) throw usageError(`stdin is larger than ${limitBytes} bytes`);
    chunks.push(bytes);
  }
  return Buffer.concat(chunks).toString("utf8");
}
