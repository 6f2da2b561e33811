/** A process of stand-in workers: they lease as helmr-worker does, and finish at once or hold what they have and write logs. */
import { randomUUID } from "node:crypto";
import { ControlPlaneClient } from "../packages/worker/src/control-plane-client.ts";
import { clockMs } from "./cluster.ts";

export interface WorkersOptions {
  readonly urls: readonly string[];
  readonly bootstrapToken: string;
  readonly workers: number;
  readonly slots: number;
  /** Keep what is leased, and write the lines that are asked for. */
  readonly holds: boolean;
}
export interface LeasedMessage {
  readonly leased: { readonly runId: string; readonly atMs: number };
}
export interface FinishedMessage {
  readonly finished: string;
}
/** Each held run writes a line every `everyMs`, `lines` times; the line is the time it was written. */
export interface WriteMessage {
  readonly write: { readonly lines: number; readonly everyMs: number };
}

interface Held {
  readonly client: ControlPlaneClient;
  readonly leaseId: string;
  readonly fencing: number;
  number: number;
}

const options: WorkersOptions = JSON.parse(process.argv[2] ?? "");
const closing = new AbortController();
const held: Held[] = [];
const tell = (message: object) => process.send?.(message);

async function work(url: string): Promise<void> {
  const client = new ControlPlaneClient(url);
  const { heartbeat_interval_ms } = await client.register(options.bootstrapToken, {
    protocol: "helmr.worker.v1",
    worker_instance_id: randomUUID(),
    name: "stand-in",
    version: "0.0.0",
    capacity: { runs: options.slots, builds: 1, cpu: 64, memory_mib: 2 ** 20 },
    capabilities: {
      driver: "gvisor",
      driver_version: "none",
      architecture: "x64",
      limits: { cpu: true, memory: true, disk: true },
      network: true,
    },
  });
  let busy = 0;
  let freed = Promise.withResolvers<void>();
  const own: Held[] = [];
  let beats = 0;
  const beat = setInterval(() => {
    beats += 1;
    // As helmr-worker: one that holds nothing beats every five seconds.
    if (own.length === 0 && (beats * heartbeat_interval_ms) % 5_000 !== 0) return;
    const leases = own.map(({ leaseId, fencing }) => ({ lease_id: leaseId, fencing }));
    client.heartbeat(leases, closing.signal).catch(() => undefined);
  }, heartbeat_interval_ms);
  closing.signal.addEventListener("abort", () => clearInterval(beat));
  void loop().catch((error: unknown) => {
    if (closing.signal.aborted) return;
    throw error;
  });

  async function loop(): Promise<void> {
    while (!closing.signal.aborted) {
      if (busy >= options.slots) {
        freed = Promise.withResolvers();
        await freed.promise;
        continue;
      }
      const { runs } = await client.lease(
        { max_runs: options.slots - busy, max_builds: 0, wait_ms: 20_000 },
        closing.signal,
      );
      const atMs = clockMs();
      for (const run of runs) {
        tell({ leased: { runId: run.run_id, atMs } } satisfies LeasedMessage);
        busy += 1;
        void execute(run.run_id, run.lease_id, run.fencing);
      }
    }
  }

  async function execute(runId: string, leaseId: string, fencing: number): Promise<void> {
    await client.startLease(leaseId, { fencing, guest: { pooled: true, start_ms: 0 } });
    if (options.holds) {
      const run = { client, leaseId, fencing, number: 0 };
      own.push(run);
      held.push(run);
      return;
    }
    await client.finishRun(leaseId, { fencing, outcome: { status: "succeeded", output_json: "{}" } });
    busy -= 1;
    freed.resolve();
    tell({ finished: runId } satisfies FinishedMessage);
  }
}

async function write(run: Held, { lines, everyMs }: WriteMessage["write"]): Promise<void> {
  const started = performance.now();
  for (let line = 0; line < lines; line += 1) {
    const waitMs = started + line * everyMs - performance.now();
    if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
    run.number += 1;
    const text = `${clockMs()}\n`;
    await run.client.append(run.leaseId, run.fencing, [
      {
        kind: "log",
        number: run.number,
        stream: "stdout",
        content_base64: Buffer.from(text).toString("base64"),
        occurred_at: new Date().toISOString(),
      },
    ]);
  }
}

process.on("disconnect", () => {
  closing.abort();
  process.exit(0);
});
process.on("message", (message: WriteMessage) => {
  void Promise.all(held.map((run) => write(run, message.write))).then(() => tell({ written: true }));
});
await Promise.all(
  Array.from({ length: options.workers }, (_, n) => work(options.urls[n % options.urls.length] ?? "")),
);
tell({ ready: true });
