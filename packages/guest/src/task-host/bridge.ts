/**
 * The RuntimeBridge of one run: metadata operations are checked against the limits of contract 13.6, applied to a
 * local copy and sent in order; log entries go to the process's own stdout and stderr.
 */
import type { MetadataOperation } from "@helmr/guest-protocol";
import { limits } from "@helmr/guest-protocol/constants";
import type { RuntimeBridge } from "@helmr/sdk/internal";
import type { RunStart } from "../host-protocol.ts";

const maxKeyLength = 1024;

export interface BridgeSeams {
  /** Gets every operation that passed the checks. */
  readonly metadata: (operation: MetadataOperation) => void;
  readonly call: RuntimeBridge["call"];
  readonly signal: AbortSignal;
}

export function createBridge(
  run: Omit<RunStart, "secrets">,
  { metadata: send, call, signal }: BridgeSeams,
): RuntimeBridge {
  const metadata = new Map<string, unknown>(
    Object.entries(JSON.parse(run.metadata_json) as Record<string, unknown>),
  );
  const { stdout, stderr } = process;

  const apply = (changes: readonly [string, unknown][], operation: MetadataOperation): void => {
    const next = new Map([...metadata, ...changes]);
    const size = Buffer.byteLength(JSON.stringify(Object.fromEntries(next)));
    if (size > limits.metadataBytes) {
      throw new RangeError(
        `The run's metadata would take ${size} bytes; the limit is ${limits.metadataBytes}.`,
      );
    }
    for (const [key, value] of changes) metadata.set(key, value);
    send(operation);
  };

  return {
    runId: run.run.id,
    sessionId: run.session_id,
    taskId: run.task.id,
    metadata: {
      set(key, value) {
        checkKey(key);
        const json = toJson(value, `metadata.set(${JSON.stringify(key)})`);
        apply([[key, JSON.parse(json)]], { op: "set", key, value_json: json });
      },
      patch(value) {
        if (typeof value !== "object" || value === null || Array.isArray(value)) {
          throw new TypeError("metadata.patch takes an object.");
        }
        const json = toJson(value, "metadata.patch");
        const entries = Object.entries(JSON.parse(json) as Record<string, unknown>);
        for (const [key] of entries) checkKey(key);
        apply(entries, { op: "patch", value_json: json });
      },
      increment(key, amount) {
        checkKey(key);
        if (typeof amount !== "number" || !Number.isFinite(amount)) {
          throw new TypeError(`metadata.increment(${JSON.stringify(key)}) takes a finite number.`);
        }
        const current = metadata.get(key) ?? 0;
        if (typeof current !== "number") {
          throw new TypeError(
            `metadata.increment(${JSON.stringify(key)}): the present value is not a number.`,
          );
        }
        apply([[key, current + amount]], { op: "increment", key, amount });
      },
    },
    call,
    signal,
    log(level, text) {
      (level === "info" ? stdout : stderr).write(`${text}\n`);
    },
  };
}

function checkKey(key: unknown): asserts key is string {
  if (typeof key !== "string" || key === "" || key.length > maxKeyLength) {
    throw new TypeError(`A metadata key is a string of 1 to ${maxKeyLength} characters.`);
  }
}

function toJson(value: unknown, what: string): string {
  const json = JSON.stringify(value) as string | undefined;
  if (json === undefined) throw new TypeError(`${what}: the value cannot be written as JSON.`);
  const size = Buffer.byteLength(json);
  if (size > limits.metadataBytes) {
    throw new RangeError(
      `${what}: the value takes ${size} bytes as JSON; the limit is ${limits.metadataBytes}.`,
    );
  }
  return json;
}
