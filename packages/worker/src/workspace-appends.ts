/**
 * What happens in one live copy of a workspace (output, starts, ends) on its way to the control plane: ordered, numbered,
 * bounded.
 *
 * | state  | enters by        | push    | sends                                              |
 * |--------|------------------|---------|----------------------------------------------------|
 * | open   | constructor      | kept    | at once when idle, one request at a time; again while nobody answers |
 * | closed | a request was refused, abandon | dropped | nothing; onFailure is told once        |
 *
 *  I1  Items reach the control plane in the order of push, each under one number of its own, from 1, without gaps.
 *  I2  Whoever awaits what `output` returns keeps at most `highWaterBytes` and one piece waiting here.
 *  I4  A control plane that is away for however long ends nothing: the same items are sent until they are answered, or the
 *      copy's lease is over and it is abandoned.
 *  I3  Output of a stream that the control plane calls paused is taken and not given room until it is not paused any more;
 *      while one is paused and nothing else is sent, an empty append asks.
 */

import type { workspaceAppendRequest, workspaceAppendResponse } from "@helmr/api";
import type { z } from "zod";
import { isFinal } from "./control-plane-client.ts";

type WireItem = z.input<typeof workspaceAppendRequest>["items"][number];
type Unnumbered<Item> = Item extends { readonly number: number } ? Omit<Item, "number"> : never;
/** What is told as it is; output goes through `output`. */
export type WorkspaceFact = Exclude<Unnumbered<WireItem>, { readonly kind: "output" }>;
export type OutputStream = "stdout" | "stderr" | "output";

export interface WorkspaceAppendsOptions {
  readonly send: (items: readonly WireItem[]) => Promise<z.infer<typeof workspaceAppendResponse>>;
  /** A request failed for good: the copy is lost, or the control plane refuses. */
  readonly onFailure: (error: unknown) => void;
  /** Between two questions while a stream is paused. */
  readonly pausedPollMs?: number;
  /** The copy's lease is over, or its guest is let go. */
  readonly signal?: AbortSignal;
  /** Before the same is sent again (I4). */
  readonly awayPauseMs?: number;
}

/** Of content: base64 of it with the JSON around it must fit 1 MiB. */
const batchBytes = 640 * 1024;
const batchItems = 500;
const itemBytes = 256 * 1024;
const highWaterBytes = 1024 * 1024;
const defaultPausedPollMs = 250;
const defaultAwayPauseMs = 1_000;

interface PendingOutput {
  readonly kind: "output";
  readonly resourceId: string;
  readonly stream: OutputStream;
  /** Bytes of the stream before these. */
  readonly offset: number;
  readonly chunks: Uint8Array[];
  bytes: number;
  readonly atMs: number;
}
type Pending = PendingOutput | { readonly kind: "fact"; readonly fact: WorkspaceFact };

interface RoomWaiter {
  readonly key: string;
  readonly resolve: () => void;
}

export class WorkspaceAppends {
  readonly #options: WorkspaceAppendsOptions & {
    readonly pausedPollMs: number;
    readonly awayPauseMs: number;
  };
  #closed = false;
  #pending: Pending[] = [];
  #pendingBytes = 0;
  #nextNumber = 1;
  #sending = false;
  #paused = new Set<string>();
  #ignoresPauses = false;
  #pausedTimer: NodeJS.Timeout | undefined;
  #awayTimer: NodeJS.Timeout | undefined;
  /** Bytes of each stream so far. */
  readonly #offsets = new Map<string, number>();
  #roomWaiters: RoomWaiter[] = [];
  #idleWaiters: (() => void)[] = [];

  constructor(options: WorkspaceAppendsOptions) {
    this.#options = { pausedPollMs: defaultPausedPollMs, awayPauseMs: defaultAwayPauseMs, ...options };
  }

  push(fact: WorkspaceFact): void {
    if (this.#closed) return;
    this.#pending.push({ kind: "fact", fact });
    this.#sendNow();
  }

  /** Bytes of a stream; resolves when there is room for more of it (I2, I3). */
  output(resourceId: string, stream: OutputStream, data: Uint8Array): Promise<void> {
    if (this.#closed) return Promise.resolve();
    for (let at = 0; at < data.length; at += itemBytes)
      this.#pushOutput(resourceId, stream, data.subarray(at, at + itemBytes));
    this.#sendNow();
    const key = keyOf(resourceId, stream);
    if (this.#hasRoom(key)) return Promise.resolve();
    return new Promise((resolve) => this.#roomWaiters.push({ key, resolve }));
  }

  /** Nothing more is pushed of the exec or terminal. */
  forget(resourceId: string): void {
    for (const stream of ["stdout", "stderr", "output"]) {
      this.#offsets.delete(keyOf(resourceId, stream));
      this.#paused.delete(keyOf(resourceId, stream));
    }
    this.#giveRoom();
  }

  /** The guest is going: what is left of paused streams is taken, it is little. */
  ignorePauses(): void {
    this.#ignoresPauses = true;
    this.#paused.clear();
    this.#giveRoom();
  }

  /** Resolves when everything pushed so far is acknowledged, or nothing is sent any more. */
  async flush(): Promise<void> {
    while (!this.#closed && (this.#pending.length > 0 || this.#sending))
      await new Promise<void>((resolve) => this.#idleWaiters.push(resolve));
  }

  /** Forget what waits and send nothing more. */
  abandon(): void {
    this.#closed = true;
    clearTimeout(this.#pausedTimer);
    clearTimeout(this.#awayTimer);
    this.#pending = [];
    this.#pendingBytes = 0;
    this.#paused.clear();
    this.#giveRoom();
    for (const resolve of this.#idleWaiters.splice(0)) resolve();
  }

  #pushOutput(resourceId: string, stream: OutputStream, data: Uint8Array): void {
    const key = keyOf(resourceId, stream);
    const offset = this.#offsets.get(key) ?? 0;
    this.#offsets.set(key, offset + data.length);
    this.#pendingBytes += data.length;
    const last = this.#pending.at(-1);
    const joins =
      last?.kind === "output" &&
      last.resourceId === resourceId &&
      last.stream === stream &&
      last.bytes + data.length <= itemBytes;
    if (joins) {
      last.chunks.push(data);
      last.bytes += data.length;
    } else {
      const bytes = data.length;
      this.#pending.push({
        kind: "output",
        resourceId,
        stream,
        offset,
        chunks: [data],
        bytes,
        atMs: Date.now(),
      });
    }
  }

  #hasRoom(key: string): boolean {
    return this.#closed || (this.#pendingBytes < highWaterBytes && !this.#paused.has(key));
  }

  #sendNow(): void {
    if (this.#closed || this.#sending || this.#pending.length === 0) return;
    void this.#send(this.#takeBatch());
  }

  async #send(items: readonly WireItem[]): Promise<void> {
    this.#sending = true;
    clearTimeout(this.#pausedTimer);
    try {
      const { paused } = await this.#options.send(items);
      this.#sending = false;
      if (this.#closed) return;
      if (!this.#ignoresPauses)
        this.#paused = new Set(paused.map(({ resource_id, stream }) => keyOf(resource_id, stream)));
    } catch (error) {
      if (!this.#closed && !isFinal(error) && this.#options.signal?.aborted !== true) {
        // I4
        this.#awayTimer = setTimeout(() => void this.#send(items), this.#options.awayPauseMs);
        return;
      }
      this.#sending = false;
      if (this.#closed) return;
      this.abandon();
      this.#options.onFailure(error);
      return;
    }
    this.#giveRoom();
    if (this.#pending.length > 0) this.#sendNow();
    else {
      for (const resolve of this.#idleWaiters.splice(0)) resolve();
      this.#askAgain();
    }
  }

  /** I3 */
  #askAgain(): void {
    if (this.#paused.size === 0) return;
    this.#pausedTimer = setTimeout(() => {
      if (!this.#closed && !this.#sending) void this.#send([]);
    }, this.#options.pausedPollMs);
    this.#pausedTimer.unref();
  }

  #giveRoom(): void {
    const waiters = this.#roomWaiters.splice(0);
    for (const waiter of waiters) {
      if (this.#hasRoom(waiter.key)) waiter.resolve();
      else this.#roomWaiters.push(waiter);
    }
  }

  #takeBatch(): WireItem[] {
    let bytes = 0;
    let count = 0;
    for (const item of this.#pending) {
      const size = item.kind === "output" ? item.bytes : 0;
      if (count > 0 && (bytes + size > batchBytes || count === batchItems)) break;
      bytes += size;
      count += 1;
    }
    this.#pendingBytes -= bytes;
    return this.#pending.splice(0, count).map((item) => this.#toWire(item));
  }

  #toWire(item: Pending): WireItem {
    const number = this.#nextNumber++;
    if (item.kind === "fact") return { ...item.fact, number } as WireItem;
    const { resourceId, stream, offset, chunks, atMs } = item;
    return {
      kind: "output",
      number,
      resource_id: resourceId,
      stream,
      offset,
      content_base64: Buffer.concat(chunks).toString("base64"),
      observed_at: new Date(atMs).toISOString(),
    };
  }
}

function keyOf(resourceId: string, stream: string): string {
  return `${resourceId} ${stream}`;
}
