/** Turning what a client sent into checked values; every mistake is a 400 that names the field. */
import { ApiError } from "@helmr/api";
import type { z } from "zod";

const utf8 = new TextDecoder("utf-8", { fatal: true });
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

export function parseJsonText(bytes: Buffer, what: string): unknown {
  try {
    return JSON.parse(utf8.decode(bytes)) as unknown;
  } catch (error) {
    throw new ApiError(
      400,
      `${what} is not valid JSON: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
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
