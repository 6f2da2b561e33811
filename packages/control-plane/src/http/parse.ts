/** Turning what a client sent into checked values; every mistake is a 400 that names the field. */
import { ApiError, maxJsonDepth } from "@helmr/api";
import type { z } from "zod";
import { isWithinJsonDepth } from "./json-depth.ts";

/** Strict: a byte order mark is no JSON. */
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const maxIssues = 5;

/** One JSON value, nothing after it. An empty body is an error unless the route allows it. */
export function parseJsonBody(body: unknown, emptyAllowed: boolean): unknown {
  const bytes = Buffer.isBuffer(body) ? body : Buffer.alloc(0);
  if (bytes.length === 0) {
    if (emptyAllowed) return {};
    throw new ApiError(400, "request body is empty; send a JSON object, {} at least");
  }
  return parseJsonText(bytes, "request body");
}

/** Counted before anything is parsed: nothing that walks the value later, here or in PostgreSQL, runs out of stack. */
const maxBodyDepth = maxJsonDepth + 50;

export function parseJsonText(bytes: Buffer, what: string): unknown {
  if (!isWithinJsonDepth(bytes, maxBodyDepth)) {
    throw new ApiError(400, `${what} must not be nested deeper than ${maxBodyDepth} levels`);
  }
  try {
    return JSON.parse(utf8.decode(bytes)) as unknown;
  } catch (error) {
    throw new ApiError(400, `${what} is not valid JSON${whereOf(error)}`);
  }
}

/** Only where: the parser's own message quotes the text around it, which may be a secret. */
function whereOf(error: unknown): string {
  const text = error instanceof Error ? error.message : "";
  if (error instanceof TypeError) return ": it is not valid UTF-8";
  const position = /at position \d+( \(line \d+ column \d+\))?/.exec(text)?.[0];
  return position === undefined ? "" : ` ${position}`;
}

/** The schema's output; throws ApiError 400 with the first problems, each with its path. */
export function parseWith<S extends z.ZodType>(schema: S, value: unknown): z.output<S> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const problems = result.error.issues.slice(0, maxIssues).map(describeIssue);
  throw new ApiError(400, problems.join("; "));
}

function describeIssue(issue: z.core.$ZodIssue): string {
  const path = issue.path.map(String).join(".");
  return path === "" ? issue.message : `${path}: ${issue.message}`;
}
