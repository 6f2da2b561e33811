/** Keeps a terminal in a workspace as large as this one: the latest size wins, one request is in flight. */
import type { ApiClient } from "../client/api-client.ts";
import { codeOf } from "./input-pump.ts";
import { repeated } from "./repeat.ts";

export interface Size {
  readonly cols: number;
  readonly rows: number;
}

/** Contract 7.4. */
const maxSize = 500;
/** Of a terminal that does not say. */
const usual: Size = { cols: 80, rows: 24 };

/** Of the terminal that stdout is. */
export function ownSize(): Size {
  const { columns, rows } = process.stdout;
  const bounded = (value: number | undefined, other: number): number =>
    value === undefined || value < 1 ? other : Math.min(value, maxSize);
  return { cols: bounded(columns, usual.cols), rows: bounded(rows, usual.rows) };
}

export class Resizer {
  readonly #api: ApiClient;
  readonly #path: string;
  readonly #onFailed: (error: unknown) => void;
  #wanted: Size | undefined;
  #sending: Promise<void> | undefined;

  constructor(api: ApiClient, ptyPath: string, onFailed: (error: unknown) => void) {
    this.#api = api;
    this.#path = `${ptyPath}/resize`;
    this.#onFailed = onFailed;
  }

  set(size: Size): void {
    this.#wanted = size;
    this.#sending ??= this.#send();
  }

  async sent(): Promise<void> {
    await this.#sending;
  }

  async #send(): Promise<void> {
    try {
      while (this.#wanted !== undefined) {
        const body = this.#wanted;
        this.#wanted = undefined;
        await repeated(this.#api, () => this.#api.send("POST", this.#path, { body, schema: "ptyEnvelope" }));
      }
    } catch (error) {
      // It has ended, or ends: its stream says so.
      const code = codeOf(error);
      if (code !== "workspace_pty_not_open" && code !== "workspace_pty_terminal") this.#onFailed(error);
    } finally {
      this.#sending = undefined;
    }
  }
}
