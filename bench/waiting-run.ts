/** A run that waits for tokens, driven over the API: made, watched, completed one token at a time. */
import { setTimeout as sleep } from "node:timers/promises";
import type { BenchStack } from "./stack.ts";

export interface RunEvent {
  readonly id: string;
  readonly kind: string;
  readonly at: string;
  readonly attributes: Readonly<Record<string, unknown>>;
}

/** Between two looks at a run; they load the machine that is measured. */
const lookEveryMs = 25;
const lookLimitMs = 60_000;

export class WaitingRun {
  readonly #bench: BenchStack;
  readonly #id: string;
  readonly #tokens: readonly string[];
  readonly #completedAt: number[] = [];
  readonly #events: RunEvent[] = [];

  private constructor(bench: BenchStack, id: string, tokens: readonly string[]) {
    this.#bench = bench;
    this.#id = id;
    this.#tokens = tokens;
  }

  /** A run of the task that will wait `waits` times, with that much memory held. */
  static async start(bench: BenchStack, waits: number, holdMib: number): Promise<WaitingRun> {
    const tokens: string[] = [];
    for (let n = 0; n < waits; n += 1)
      tokens.push((await api<{ id: string }>(bench, "POST", "/tokens", {})).id);
    const { run } = await bench.client.sessions.start("waits-for-tokens", { tokens, hold_mib: holdMib });
    return new WaitingRun(bench, run.id, tokens);
  }

  async untilWaiting(): Promise<void> {
    await this.#until(`waits for its token ${this.#completedAt.length + 1}`, async () => {
      const { status } = await this.#look();
      return status === "waiting";
    });
  }

  /** The guest of the wait that is next is saved and gone. */
  async untilParked(): Promise<void> {
    await this.untilWaiting();
    await this.#until("is parked", async () => {
      const last = (await this.events()).at(-1);
      return last?.kind === "run.parked";
    });
  }

  async completeNext(): Promise<void> {
    const id = this.#tokens[this.#completedAt.length];
    if (id === undefined) throw new Error("the run has no token left");
    const from = Date.now();
    await api(this.#bench, "POST", `/tokens/${id}/complete`, { data: true });
    this.#completedAt.push(from);
  }

  /** All until now; each is asked for once. */
  async events(): Promise<readonly RunEvent[]> {
    for (;;) {
      const path = `/runs/${this.#id}/events?limit=200&cursor=${this.#events.at(-1)?.id ?? 0}`;
      const page = await api<{ events: RunEvent[]; next_cursor?: number }>(this.#bench, "GET", path);
      this.#events.push(...page.events);
      if (page.next_cursor === undefined) return this.#events;
    }
  }

  /** Waits for the end; milliseconds from each completion's call to the task's next line. */
  async latencies(): Promise<number[]> {
    const run = await this.#bench.client.runs.wait(this.#id, { timeoutMs: lookLimitMs });
    if (run.status !== "succeeded") throw new Error(`the run that waits ended ${run.status}`);
    const { at_ms: reached } = run.output as { at_ms: number[] };
    return reached.map((at, index) => at - (this.#completedAt[index] ?? Number.NaN));
  }

  async #until(what: string, isSo: () => Promise<boolean>): Promise<void> {
    const deadline = performance.now() + lookLimitMs;
    while (!(await isSo())) {
      if (performance.now() > deadline) {
        const kinds = (await this.events()).slice(-6).map(({ kind }) => kind);
        throw new Error(`no run that ${what} within ${lookLimitMs} ms; its last events: ${kinds.join(", ")}`);
      }
      await sleep(lookEveryMs);
    }
  }

  async #look(): Promise<{ readonly status: string }> {
    const run = await api<{ status: string }>(this.#bench, "GET", `/runs/${this.#id}`);
    if (["failed", "cancelled", "expired"].includes(run.status))
      throw new Error(`the run that waits ended ${run.status}`);
    return run;
  }
}

async function api<T>({ stack }: BenchStack, method: string, path: string, body?: unknown): Promise<T> {
  const response = await fetch(`${stack.url}/api${path}`, {
    method,
    headers: { authorization: `Bearer ${stack.apiKey}`, "content-type": "application/json" },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  if (!response.ok)
    throw new Error(`${method} ${path}: ${response.status} ${(await response.text()).slice(0, 300)}`);
  return (await response.json()) as T;
}
