/** Run metadata as a task changes it: set, patch, increment (contract 13.7), within the limits of 13.6. */
import { maxMetadataBytes } from "./lifecycle.ts";

export type MetadataOperation =
  | { readonly op: "set"; readonly key: string; readonly valueJson: string }
  | { readonly op: "patch"; readonly valueJson: string }
  | { readonly op: "increment"; readonly key: string; readonly amount: number };

export interface MetadataResult {
  /** Undefined when the operation was refused: the metadata stays as it was. */
  readonly metadata: Record<string, unknown> | undefined;
  /** For the event. */
  readonly attributes: Record<string, unknown>;
}

/** A larger change is named in the event, not repeated: the run has it. */
const maxEventValueBytes = 8 * 1024;

/** `set` replaces a key, `patch` several, `increment` adds to a number (anything else counts as 0). */
export function applyMetadata(
  before: Readonly<Record<string, unknown>>,
  operation: MetadataOperation,
): MetadataResult {
  const named =
    operation.op === "patch" ? { operation: "patch" } : { operation: operation.op, key: operation.key };
  const refuse = (reason: string) => ({ metadata: undefined, attributes: { ...named, reason } });
  // A Map, because a key may be called __proto__.
  const entries = new Map(Object.entries(before));
  if (operation.op === "increment") {
    const current = entries.get(operation.key);
    const sum = (typeof current === "number" ? current : 0) + operation.amount;
    if (!Number.isFinite(sum)) return refuse("the sum is not a finite number");
    entries.set(operation.key, sum);
    return finish(entries, { ...named, amount: operation.amount, value: sum }, refuse);
  }
  const value = parse(operation.valueJson);
  if (value === undefined) return refuse("the value is not JSON");
  if (operation.op === "set") entries.set(operation.key, value);
  else if (typeof value !== "object" || value === null || Array.isArray(value))
    return refuse("a patch is an object");
  else for (const [key, each] of Object.entries(value)) entries.set(key, each);
  const isSmall = Buffer.byteLength(operation.valueJson) <= maxEventValueBytes;
  return finish(entries, isSmall ? { ...named, value } : named, refuse);
}

function finish(
  entries: ReadonlyMap<string, unknown>,
  attributes: Record<string, unknown>,
  refuse: (reason: string) => MetadataResult,
): MetadataResult {
  const metadata = Object.fromEntries(entries);
  const bytes = Buffer.byteLength(JSON.stringify(metadata));
  if (bytes > maxMetadataBytes) {
    return refuse(`the run's metadata would take ${bytes} bytes; the limit is ${maxMetadataBytes}`);
  }
  return { metadata, attributes };
}

function parse(json: string): unknown {
  try {
    return JSON.parse(json) as unknown;
  } catch {
    return undefined;
  }
}
