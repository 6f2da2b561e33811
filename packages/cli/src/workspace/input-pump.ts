/**
 * Bytes on their way to a command's stdin or a terminal (contract 7.5).
 *
 * P1  in order, each once: one write is in flight at a time, and it is sent again unchanged until it is answered;
 * P2  at once: a byte waits for no timer; what comes while a write is in flight goes out with the next one;
 * P3  bounded: `push` says when to stop reading, `drained` when to go on.
 *
 *   phase    leaves by
 *   open     a refusal that says that nobody reads any more, or an error (`onFailed`) -> over
 *   over     never: what is pushed is dropped
 */
import { setTimeout as sleep } from "node:timers/promises";
import { type ApiClient, isTransient } from "../client/api-client.ts";
import { CliError } from "../errors.ts";
import { outageLimitMs } from "./byte-stream.ts";

/** Contract 7.5. */
const maxWriteBytes = 1024 * 1024;
const highWaterBytes = 2 * 1024 * 1024;
const firstPauseMs = 50;
const maxPauseMs = 1000;
const maxConflicts = 20;

export interface PumpTarget {
  readonly api: ApiClient;
  /** Takes the writes. */
  readonly path: string;
  /** Where the stream stands. */
  readonly offset: number;
  /** Where it stands now, when somebody else has written: asked after a conflict. Absent: a conflict is an error. */
  readonly offsetNow?: () => Promise<number>;
  /** The writing has ended with an error. */
  readonly onFailed: (error: unknown) => void;
}

export class InputPump {
  readonly #target: PumpTarget;
  #offset: number;
  #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  #isOver = false;
  #sending: Promise<void> | undefined;

  constructor(target: PumpTarget) {
    this.#target = target;
    this.#offset = target.offset;
  }

  /** P2, P3: false when enough is waiting; see `drained`. */
  push(bytes: Uint8Array): boolean {
    if (this.#isOver || bytes.length === 0) return true;
    this.#queue.push(bytes);
    this.#queuedBytes += bytes.length;
    this.#sending ??= this.#send();
    return this.#queuedBytes < highWaterBytes;
  }

  /** Resolves when everything is sent, nobody reads any more, or the writing has failed. */
  async drained(): Promise<void> {
    while (this.#sending !== undefined) await this.#sending;
  }

  async #send(): Promise<void> {
    try {
      while (this.#queue.length > 0 && !this.#isOver) await this.#write(this.#take());
    } catch (error) {
      this.#drop();
      this.#target.onFailed(error);
    } finally {
      this.#sending = undefined;
    }
  }

  /** What waits, up to the longest write. */
  #take(): Buffer {
    const all = Buffer.concat(this.#queue);
    this.#queue = all.length > maxWriteBytes ? [all.subarray(maxWriteBytes)] : [];
    const write = all.subarray(0, maxWriteBytes);
    this.#queuedBytes -= write.length;
    return write;
  }

  #drop(): void {
    this.#isOver = true;
    this.#queue = [];
    this.#queuedBytes = 0;
  }

  /** P1 */
  async #write(bytes: Buffer): Promise<void> {
    const { api, path, offsetNow } = this.#target;
    const data = bytes.toString("base64");
    const startedMs = performance.now();
    let conflicts = 0;
    for (let pauseMs = firstPauseMs; ; ) {
      try {
        const body = { offset: this.#offset, data };
        await api.send("POST", path, { body, schema: "workspaceChunk" });
        this.#offset += bytes.length;
        return;
      } catch (error) {
        api.signal.throwIfAborted();
        const code = codeOf(error);
        if (code !== undefined && overCodes.has(code)) return this.#drop();
        if (code === "workspace_stream_offset_conflict" && offsetNow && conflicts < maxConflicts) {
          conflicts += 1;
          this.#offset = await offsetNow();
          continue;
        }
        if (!isTransient(error) || performance.now() - startedMs > outageLimitMs) throw error;
      }
      await sleep(pauseMs, undefined, { signal: api.signal });
      pauseMs = Math.min(pauseMs * 2, maxPauseMs);
    }
  }
}

const overCodes = new Set([
  "workspace_exec_terminal",
  "workspace_exec_stdin_closed",
  "workspace_pty_terminal",
  // It is closing: the pump is of a terminal that was open.
  "workspace_pty_not_open",
]);

/** The machine code of a refusal. */
export function codeOf(error: unknown): string | undefined {
  return error instanceof CliError ? error.code : undefined;
}
