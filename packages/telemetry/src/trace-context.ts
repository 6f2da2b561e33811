/** W3C trace context: `00-<trace id>-<span id>-<flags>`, as callers send it and runs keep it. */
import { createHash } from "node:crypto";

export interface TraceContext {
  /** 32 hexadecimal digits. */
  readonly traceId: string;
  /** 16 hexadecimal digits. */
  readonly spanId: string;
  readonly flags: number;
}

const form = /^(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;
const maxLength = 512;
/** Flags of version 00: sampled, random trace id. */
const knownFlags = 0b11;

/** Undefined when it is none, as the specification wants it; of a later version the parts of 00 are taken. */
export function parseTraceparent(text: unknown): TraceContext | undefined {
  if (typeof text !== "string" || text.length > maxLength) return undefined;
  const [, version, traceId, spanId, flags, more] = form.exec(text) ?? [];
  if (version === undefined || traceId === undefined || spanId === undefined || flags === undefined)
    return undefined;
  if (version === "00" && more !== undefined) return undefined;
  return { traceId, spanId, flags: Number.parseInt(flags, 16) & knownFlags };
}

/** A valid traceparent in the form that is stored and handed on, else undefined. */
export function normalTraceparent(text: unknown): string | undefined {
  const parsed = parseTraceparent(text);
  return parsed && traceparentOf(parsed);
}

export function traceparentOf({ traceId, spanId, flags }: TraceContext): string {
  return `00-${traceId}-${spanId}-${flags.toString(16).padStart(2, "0")}`;
}

/** The span that stands for something with an id (a lease, a run): the same wherever it is asked for. */
export function spanIdOf(id: string): string {
  const spanId = createHash("sha256").update(id).digest("hex").slice(0, 16);
  return /^0+$/.test(spanId) ? "0000000000000001" : spanId;
}

/** The trace that a run belongs to: of who started it, when that is known, else one of its own. */
export function runTrace(runId: string, traceContext: string | null | undefined): TraceContext {
  return (
    parseTraceparent(traceContext) ?? {
      traceId: runId.replaceAll("-", ""),
      spanId: spanIdOf(runId),
      flags: 1,
    }
  );
}

/** The span of a lease in that trace: the worker makes it, the run's events name it. */
export function leaseTrace(
  runId: string,
  traceContext: string | null | undefined,
  leaseId: string,
): TraceContext {
  return { ...runTrace(runId, traceContext), spanId: spanIdOf(leaseId) };
}
