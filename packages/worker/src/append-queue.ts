/**
 * What a run says (log chunks, metadata, events) on its way to the control plane: ordered, numbered, bounded.
 *
 *  state    | enters by            | push           | sends
 *  held     | constructor          | kept           | no: the lease is not started yet
 *  open     | open()               | kept           | one request at a time, first chunk at once
 *  failed   | a request failed     | dropped        | no; onFailure told once
 *
 *  I1  Items reach the control plane in the order of push, each under one number of its own, from 1, without gaps.
 *  I2  Bytes waiting here stay below `highWaterBytes` plus one item when the caller awaits what push returns.
 *  I3  At most `logLimitBytes` of log content is sent; then an event and a notice as the last log line say so.
 */
import type { MetadataOperation } from "@helmr/guest-protocol";
import type { AppendItem } from "./control-plane-client.ts";

export interface AppendQueueOptions {
  readonly send: (items: readonly AppendItem[]) => Promise<void>;
  /** A request failed for good: the lease is lost or the control plane refuses. */
  readonly onFailure: (error: unknown) => void;
  readonly logLimitBytes?: number;
  /** Pause between two requests, so that a chatty task makes few large ones. */
  readonly coalesceMs?: number;
}

/** base64 of a batch must fit 256 KiB with the JSON around it: 176 KiB * 4/3 = 235 KiB. */
const batchBytes = 176 * 1024;
const batchItems = 500;
/** One item must fit a request; only a metadata value near its own limit (256 KiB) can be larger. */
const maxItemBytes = 250 * 1024;
/** A merged log item; one row and one SSE event each. */
const mergedLogBytes = 48 * 1024;
const highWaterBytes = 1024 * 1024;
const lowWaterBytes = 256 * 1024;
const itemOverheadBytes = 160;
/** The control plane keeps 64 MiB a run; the notice must be within. */
const defaultLogLimitBytes = 64 * 1024 * 1024 - 64 * 1024;

type Pending =
  | {
      readonly kind: "log";
      readonly stream: "stdout" | "stderr";
      chunks: Uint8Array[];
      bytes: number;
      readonly atMs: number;
    }
  | {
      readonly kind: "metadata";
      readonly operation: MetadataOperation;
      readonly bytes: number;
      readonly atMs: number;
    }
  | {
      readonly kind: "event";
      readonly eventKind: string;
      readonly severity: "info" | "warn" | "error";
      readonly attributes: Record<string, unknown>;
      readonly bytes: number;
      readonly atMs: number;
    };

export class AppendQueue {
  readonly #options: Required<AppendQueueOptions>;
  #state: "held" | "open" | "failed" = "held";
  #pending: Pending[] = [];
  #pendingBytes = 0;
  #loggedBytes = 0;
  #truncated = false;
  #nextNumber = 1;
  #sending = false;
  #lastSentAt = 0;
  #timer: NodeJS.Timeout | undefined;
  #drainWaiters: (() => void)[] = [];
  #idleWaiters: (() => void)[] = [];

  constructor(options: AppendQueueOptions) {
    this.#options = { logLimitBytes: defaultLogLimitBytes, coalesceMs: 30, ...options };
  }

  /** Log content was cut at the limit (I3). */
  get truncated(): boolean {
    return this.#truncated;
  }

  /** The lease was started: appends are accepted from now on. */
  open(): void {
    if (this.#state === "held") this.#state = "open";
    this.#schedule();
  }

  /** Forget what waits and send nothing more. */
  abandon(): void {
    this.#state = "failed";
    clearTimeout(this.#timer);
    this.#pending = [];
    this.#pendingBytes = 0;
    this.#wakeAll();
  }

  /** Bytes of a stream; resolves when the queue has room again (await it before reading more: I2). */
  log(stream: "stdout" | "stderr", data: Uint8Array, atMs: number): Promise<void> {
    const room = this.#options.logLimitBytes - this.#loggedBytes;
    if (this.#truncated || data.length === 0) return this.#room();
    const kept = data.length <= room ? data : data.subarray(0, Math.max(0, room));
    this.#loggedBytes += kept.length;
    if (kept.length > 0) this.#pushLog(stream, kept, atMs);
    if (kept.length < data.length) this.#truncate(atMs);
    this.#schedule();
    return this.#room();
  }

  metadata(operation: MetadataOperation, atMs: number): Promise<void> {
    const bytes = Buffer.byteLength(JSON.stringify(operation)) + itemOverheadBytes;
    if (bytes > maxItemBytes) {
      this.event(
        "worker.metadata_dropped",
        "warn",
        { reason: `one update is larger than ${maxItemBytes} bytes` },
        atMs,
      );
      return this.#room();
    }
    this.#push({ kind: "metadata", operation, bytes, atMs });
    return this.#room();
  }

  event(
    eventKind: string,
    severity: "info" | "warn" | "error",
    attributes: Record<string, unknown>,
    atMs: number,
  ): void {
    const bytes = Buffer.byteLength(JSON.stringify(attributes)) + itemOverheadBytes;
    this.#push({ kind: "event", eventKind, severity, attributes, bytes, atMs });
  }

  /** Resolves when everything pushed so far is acknowledged, or the queue has failed. */
  async flush(): Promise<void> {
    while (this.#state !== "failed" && (this.#pending.length > 0 || this.#sending)) {
      this.#sendNow();
      await new Promise<void>((resolve) => this.#idleWaiters.push(resolve));
    }
  }

  #truncate(atMs: number): void {
    this.#truncated = true;
    const limitBytes = this.#options.logLimitBytes;
    const notice = `\n[helmr] log output cut: this run wrote more than ${limitBytes} bytes\n`;
    this.#pushLog("stderr", Buffer.from(notice), atMs);
    this.event("worker.log_truncated", "warn", { limit_bytes: limitBytes }, atMs);
  }

  #pushLog(stream: "stdout" | "stderr", data: Uint8Array, atMs: number): void {
    const last = this.#pending.at(-1);
    if (last?.kind === "log" && last.stream === stream && last.bytes + data.length <= mergedLogBytes) {
      last.chunks.push(data);
      last.bytes += data.length;
      this.#pendingBytes += data.length;
    } else {
      this.#push({ kind: "log", stream, chunks: [data], bytes: data.length + itemOverheadBytes, atMs });
    }
  }

  #push(item: Pending): void {
    if (this.#state === "failed") return;
    this.#pending.push(item);
    this.#pendingBytes += item.bytes;
    this.#schedule();
  }

  #room(): Promise<void> {
    if (this.#pendingBytes < highWaterBytes || this.#state === "failed") return Promise.resolve();
    return new Promise((resolve) => this.#drainWaiters.push(resolve));
  }

  #schedule(): void {
    if (this.#state !== "open" || this.#sending || this.#timer !== undefined || this.#pending.length === 0)
      return;
    const waitMs = this.#lastSentAt + this.#options.coalesceMs - performance.now();
    if (waitMs <= 0 || this.#pendingBytes >= batchBytes) this.#sendNow();
    else {
      this.#timer = setTimeout(() => this.#sendNow(), waitMs);
    }
  }

  #sendNow(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#state !== "open" || this.#sending || this.#pending.length === 0) return;
    const batch = this.#takeBatch();
    this.#sending = true;
    this.#lastSentAt = performance.now();
    this.#options.send(batch).then(
      () => this.#sent(),
      (error: unknown) => this.#fail(error),
    );
  }

  #takeBatch(): AppendItem[] {
    let bytes = 0;
    let count = 0;
    for (const item of this.#pending) {
      if (count > 0 && (bytes + item.bytes > batchBytes || count === batchItems)) break;
      bytes += item.bytes;
      count += 1;
    }
    this.#pendingBytes -= bytes;
    return this.#pending.splice(0, count).map((item) => this.#toWire(item));
  }

  #toWire(item: Pending): AppendItem {
    const number = this.#nextNumber++;
    const occurred_at = new Date(item.atMs).toISOString();
    if (item.kind === "log") {
      const content_base64 = Buffer.concat(item.chunks).toString("base64");
      return { kind: "log", number, stream: item.stream, content_base64, occurred_at };
    }
    if (item.kind === "metadata") return { kind: "metadata", number, operation: item.operation, occurred_at };
    const { eventKind: event_kind, severity, attributes } = item;
    return { kind: "event", number, event_kind, severity, attributes, occurred_at };
  }

  #sent(): void {
    this.#sending = false;
    if (this.#pendingBytes <= lowWaterBytes) wake(this.#drainWaiters);
    if (this.#pending.length === 0) wake(this.#idleWaiters);
    if (this.#idleWaiters.length > 0) this.#sendNow();
    else this.#schedule();
  }

  #fail(error: unknown): void {
    this.#sending = false;
    if (this.#state === "failed") return;
    this.abandon();
    this.#options.onFailure(error);
  }

  #wakeAll(): void {
    wake(this.#drainWaiters);
    wake(this.#idleWaiters);
  }
}

function wake(waiters: (() => void)[]): void {
  for (const resolve of waiters.splice(0)) resolve();
}
