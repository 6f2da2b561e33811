/** Plays the worker of one run: lease it, let it write, end it. */
import {
  appendToRun,
  type ClaimedRun,
  claimRuns,
  createWait,
  type Database,
  finishRuns,
  type RunOutcome,
  startRuns,
  type WaitFor,
  type WaitRow,
} from "@helmr/store";
import { seedWorker } from "@helmr/store/testing";
import { sql } from "kysely";
import type { TestServer } from "./server.ts";

export interface LeasedRun {
  readonly runId: string;
  readonly workerInstanceId: string;
  /** Its next wait. */
  wait(waitFor: WaitFor): Promise<WaitRow>;
  /** Hints as the worker's routes do. */
  log(stream: "stdout" | "stderr", text: string | Buffer): Promise<void>;
  finish(outcome?: RunOutcome): Promise<void>;
}

const succeeded: RunOutcome = { status: "succeeded", outputJson: '{"done":true}' };

/** Lease that run, whatever else is queued, in other environments too. */
export async function claimRun(db: Database, workerInstanceId: string, runId: string): Promise<ClaimedRun> {
  const others = sql`status = 'queued' and id <> ${runId}`;
  await sql`update runs set available_at = available_at + interval '1 hour' where ${others}`.execute(db);
  const [claimed] = await claimRuns(db, { workerInstanceId, limit: 1, leaseDurationMs: 60_000 });
  await sql`update runs set available_at = available_at - interval '1 hour' where ${others}`.execute(db);
  if (claimed?.id !== runId) throw new Error(`leased ${claimed?.id} instead of ${runId}`);
  return claimed;
}

export async function leaseRun(
  server: Pick<TestServer, "db" | "bus" | "environment">,
  runId: string,
): Promise<LeasedRun> {
  const { db, bus } = server;
  const workerInstanceId = await seedWorker(db, server.environment.workerGroupId);
  const claimed = await claimRun(db, workerInstanceId, runId);
  const lease = { workerInstanceId, leaseId: claimed.lease_id, fencing: claimed.fencing };
  await startRuns(db, [{ ...lease, notes: [], guest: { pooled: false, startMs: 1 } }]);
  let number = 0;
  let waits = 0;
  return {
    runId,
    workerInstanceId,
    wait: async (waitFor) => {
      waits += 1;
      const made = await createWait(db, {
        ...lease,
        number: waits,
        waitFor,
        metadata: { why: "test" },
        tags: [],
      });
      if (made.status === "lost") throw new Error("the lease is lost");
      return made.wait;
    },
    log: async (stream, text) => {
      number += 1;
      const occurredAt = new Date().toISOString();
      await appendToRun(db, {
        ...lease,
        items: [{ kind: "log", number, occurredAt, stream, content: Buffer.from(text) }],
      });
      bus.publish(`run:${runId}`);
    },
    finish: async (outcome = succeeded) => {
      await finishRuns(db, [{ ...lease, outcome }]);
      bus.publish(`run:${runId}`);
    },
  };
}

export async function finishRun(
  server: TestServer,
  runId: string,
  whileRunning?: () => Promise<void>,
): Promise<void> {
  const run = await leaseRun(server, runId);
  await whileRunning?.();
  await run.finish();
}
