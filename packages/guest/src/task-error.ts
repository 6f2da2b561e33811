/** Turns whatever was thrown into what the author sees: bounded texts, at most five causes, never a throw of its own. */

import { inspect } from "node:util";
import type { TaskError } from "@helmr/guest-protocol";
import { limits } from "@helmr/guest-protocol/constants";

const maxCauses = 5;
const innerErrorBytes = 1024;
const helmrFrame =
  /^\s+at .*(?:\/opt\/helmr\/|\/(?:task-host|indexer)\.mjs:|node:internal\/(?:process\/task_queues|timers)\b)/;
const cutMarker = "… [truncated]";

/** At most `limits.errorTextBytes` bytes of UTF-8, with a marker where something was cut. */
export function boundedText(text: string, maxBytes: number = limits.errorTextBytes): string {
  if (text.length * 3 <= maxBytes) return text;
  const bytes = Buffer.from(text);
  if (bytes.length <= maxBytes) return text;
  // A character cut in two decodes to U+FFFD at the end.
  return bytes.toString("utf8", 0, maxBytes).replace(/\uFFFD+$/, "") + cutMarker;
}

/** Describe a thrown value of any kind. */
export function describeThrown(thrown: unknown): TaskError {
  return describe(thrown, 0);
}

function describe(thrown: unknown, depth: number): TaskError {
  try {
    return isErrorLike(thrown) ? describeError(thrown, depth) : describeOther(thrown);
  } catch {
    // A hostile or broken getter; there is nothing to show but that.
    return { name: "Error", message: "The task threw a value that cannot be described." };
  }
}

interface ErrorLike {
  readonly name?: unknown;
  readonly message: unknown;
  readonly stack?: unknown;
  readonly cause?: unknown;
}

function isErrorLike(value: unknown): value is ErrorLike {
  if (value instanceof Error) return true;
  // Errors of another realm (vm contexts) and DOMException.
  return typeof value === "object" && value !== null && "message" in value && "stack" in value;
}

function describeError(error: ErrorLike, depth: number): TaskError {
  const described: TaskError = {
    name: boundedText(String(error.name ?? "Error"), 256),
    message: boundedText(String(error.message) + innerErrors(error)),
  };
  if (typeof error.stack === "string") described.stack = boundedText(withoutHelmrFrames(error.stack));
  const { cause } = error;
  if (cause !== undefined && cause !== null && depth < maxCauses)
    described.cause = describe(cause, depth + 1);
  return described;
}

/** What an AggregateError holds: "All promises were rejected" alone helps nobody. */
function innerErrors(error: ErrorLike): string {
  const errors = error instanceof AggregateError ? (error.errors as unknown) : undefined;
  if (!Array.isArray(errors) || errors.length === 0) return "";
  const shown = errors.slice(0, maxCauses).map((inner) => {
    const { name, message } = describe(inner, maxCauses);
    return `${name}: ${boundedText(message, innerErrorBytes)}`;
  });
  if (errors.length > shown.length) shown.push(`and ${errors.length - shown.length} more`);
  return ` (${shown.join("; ")})`;
}

/** The author's own frames and those of packages; what lies beneath them is Helmr and Node calling the task. */
function withoutHelmrFrames(stack: string): string {
  return stack
    .split("\n")
    .filter((line) => !helmrFrame.test(line))
    .join("\n");
}

function describeOther(value: unknown): TaskError {
  const kind = value === null ? "null" : Array.isArray(value) ? "an array" : article(typeof value);
  const shown =
    value === undefined || value === null ? "" : `: ${inspect(value, { depth: 3, breakLength: 120 })}`;
  return { name: "Error", message: boundedText(`The task threw ${kind} instead of an Error${shown}`) };
}

function article(type: string): string {
  if (type === "undefined") return type;
  return type === "object" ? "an object" : `a ${type}`;
}
