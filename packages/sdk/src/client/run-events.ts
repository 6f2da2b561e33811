/** Events of a run: the wire's records, checked (contract 6.1), and the events that callers see. */
import { InvalidResponseError, SseProtocolError } from "../errors.ts";
import type { WireObject } from "./wire.ts";

interface EventBase {
  readonly run_id: string;
  /** Place in the run's events: pass it as `cursor` to continue after this one. */
  readonly cursor: number;
  /** RFC 3339, UTC. */
  readonly at: string;
}
type WaitKind = "token" | "stream" | "timer";
export type RunEvent =
  | (EventBase & {
      readonly type: "log";
      readonly stream: "stdout" | "stderr";
      readonly bytes: number;
      readonly observed_seq: number;
    })
  | (EventBase & {
      readonly type: `${WaitKind}_wait`;
      readonly run_wait_id: string;
      readonly params?: unknown;
      readonly metadata?: unknown;
      readonly tags?: unknown;
      /** Seconds. */
      readonly timeout?: number;
    })
  | (EventBase & {
      readonly type: `${WaitKind}_wait_completed`;
      readonly run_wait_id: string;
      readonly payload?: unknown;
    })
  | (EventBase & { readonly type: `${WaitKind}_wait_timed_out`; readonly run_wait_id: string })
  | (EventBase & { readonly type: "task_result"; readonly exit_code: number | null })
  | (EventBase & { readonly type: "run_failed"; readonly failure_kind: string; readonly detail?: unknown })
  | (EventBase & { readonly type: "run_cancelled"; readonly reason?: string })
  | (EventBase & { readonly type: "run_expired"; readonly ttl?: string; readonly message?: string });

/** A checked record of the wire. */
export interface WireEvent {
  readonly seq: number;
  readonly isTerminal: boolean;
  /** Undefined for records that callers do not see. */
  readonly event: RunEvent | undefined;
}

const terminalNames = new Set(["run.completed", "run.failed", "run.cancelled", "run.expired"]);

/** Data of a frame. Throws SseProtocolError on anything but a well-formed record. */
export function parseFrameData(data: string): WireEvent {
  let value: unknown;
  try {
    value = JSON.parse(data);
  } catch (error) {
    throw new SseProtocolError("the server sent an event that is not JSON", { cause: error });
  }
  return checkedEvent(value, (problem) => new SseProtocolError(`the server sent an event ${problem}`));
}

/** Record of a page. Throws InvalidResponseError. */
export function parsePageRecord(value: unknown): WireEvent {
  return checkedEvent(value, (problem) => new InvalidResponseError(`the server sent an event ${problem}`));
}

type Reject = (problem: string) => Error;

function checkedEvent(value: unknown, reject: Reject): WireEvent {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw reject("that is not an object");
  const record = value as WireObject;
  const { id, kind, message, at } = record;
  const seq = typeof id === "string" && /^\d+$/.test(id) ? Number(id) : Number.NaN;
  if (!Number.isSafeInteger(seq)) throw reject(`with a bad id: ${JSON.stringify(id)}`);
  if (typeof kind !== "string" || typeof message !== "string" || typeof at !== "string") {
    throw reject(`(id ${seq}) without kind, message or at`);
  }
  const attributes = objectOf(record.attributes);
  const runId = textOf(record.run_id) ?? textOf(attributes.run_id) ?? "";
  return {
    seq,
    isTerminal: terminalNames.has(message) || terminalNames.has(kind),
    event: mapped(message, attributes, { run_id: runId, cursor: seq, at }, reject),
  };
}

/** Contract 6.1: chosen by `message`. */
function mapped(
  message: string,
  attributes: WireObject,
  base: EventBase,
  reject: Reject,
): RunEvent | undefined {
  switch (message) {
    case "log.stdout":
    case "log.stderr":
      return {
        type: "log",
        stream: message === "log.stdout" ? "stdout" : "stderr",
        bytes: numberOf(attributes.bytes) ?? 0,
        observed_seq: numberOf(attributes.observed_seq) ?? 0,
        ...base,
      };
    case "run_wait.created":
    case "run_wait.completed":
    case "run_wait.timed_out":
      return waitEvent(message, attributes, base, reject);
    case "run.completed":
      return { type: "task_result", exit_code: numberOf(attributes.exit_code) ?? null, ...base };
    case "run.failed": {
      const failureKind = textOf(attributes.failure_kind) ?? "task_failed";
      return { type: "run_failed", failure_kind: failureKind, ...pick(attributes, "detail"), ...base };
    }
    case "run.cancelled":
      return { type: "run_cancelled", ...pickText(attributes, "reason"), ...base };
    case "run.expired":
      return {
        type: "run_expired",
        ...pickText(attributes, "ttl"),
        ...pickText(attributes, "message"),
        ...base,
      };
    default:
      return undefined;
  }
}

function waitEvent(
  message: string,
  attributes: WireObject,
  base: EventBase,
  reject: Reject,
): RunEvent | undefined {
  if (attributes.redacted === true) return undefined;
  const { kind, timeout } = attributes;
  const runWaitId = textOf(attributes.run_wait_id);
  if (runWaitId === undefined) throw reject(`${message} without run_wait_id`);
  if (kind !== "token" && kind !== "stream" && kind !== "timer")
    throw reject(`${message} without a known kind`);
  if (message === "run_wait.timed_out")
    return { type: `${kind}_wait_timed_out`, run_wait_id: runWaitId, ...base };
  if (message === "run_wait.completed") {
    return {
      type: `${kind}_wait_completed`,
      run_wait_id: runWaitId,
      ...pick(attributes, "payload"),
      ...base,
    };
  }
  return {
    type: `${kind}_wait`,
    run_wait_id: runWaitId,
    ...pick(attributes, "params"),
    ...pick(attributes, "metadata"),
    ...pick(attributes, "tags"),
    ...(typeof timeout === "number" ? { timeout } : {}),
    ...base,
  };
}

function pick<Key extends string>(object: WireObject, key: Key): { [K in Key]?: unknown } {
  return Object.hasOwn(object, key) ? ({ [key]: object[key] } as { [K in Key]?: unknown }) : {};
}
function pickText<Key extends string>(object: WireObject, key: Key): { [K in Key]?: string } {
  const value = object[key];
  return typeof value === "string" ? ({ [key]: value } as { [K in Key]?: string }) : {};
}
function objectOf(value: unknown): WireObject {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as WireObject) : {};
}
function textOf(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}
function numberOf(value: unknown): number | undefined {
  return typeof value === "number" ? value : undefined;
}
