/** What a run writes and reads on the streams of its session, named by its lease. */
import { sql } from "kysely";
import { type Queryable, transaction } from "../database.ts";
import { holds, type LeaseRef } from "../runs/finish.ts";
import { insertRecord, type NewRecord } from "./append.ts";
import { listRecords } from "./read.ts";
import { isDeclared, lockSessionStream, type SessionStreamRow } from "./session-streams.ts";
import { committedSequence, type ReadOn, type RecordRow, takeRecord } from "./take.ts";

interface LeasedRun {
  readonly environment_id: string;
  readonly session_id: string;
  readonly deployment_id: string;
}

async function findRun(db: Queryable, lease: LeaseRef): Promise<LeasedRun | undefined> {
  const { rows } = await sql<LeasedRun & { worker_instance_id: string | null; fencing: number }>`
    select environment_id, session_id, deployment_id, worker_instance_id, fencing from runs
    where lease_id = ${lease.leaseId}`.execute(db);
  const run = rows[0];
  return run !== undefined && holds(run, lease) ? run : undefined;
}

type Refused = { readonly status: "lost" } | { readonly status: "stream_not_found" };

export interface AppendRunOutput extends LeaseRef {
  readonly stream: string;
  readonly record: NewRecord;
}

/** Append to an output stream; repeated with the same idempotency key it is the same record. */
export async function appendRunOutput(
  db: Queryable,
  input: AppendRunOutput,
): Promise<Refused | { readonly status: "appended"; readonly streamId: string; readonly record: RecordRow }> {
  return await transaction(db, async (tx) => {
    const run = await findRun(tx, input);
    if (run === undefined) return { status: "lost" } as const;
    const stream = await lockSessionStream(tx, run, input.stream, "output");
    if (stream === undefined) return { status: "stream_not_found" } as const;
    const { record } = await insertRecord(tx, stream, input.record);
    return { status: "appended", streamId: stream.id, record } as const;
  });
}

export interface ReadRunStream extends LeaseRef, ReadOn {
  readonly stream: string;
  readonly direction: "input" | "output";
  /** The next record of an input stream is the run's: nobody reads it again. */
  readonly take: boolean;
  readonly limit: number;
}

export interface RunStreamRecords {
  readonly status: "read";
  readonly streamId: string;
  /** Where the reading stood before these records. */
  readonly afterSequence: number;
  readonly records: readonly RecordRow[];
}

/** The next records for the run, none when there are none yet. */
export async function readRunStream(
  db: Queryable,
  input: ReadRunStream,
): Promise<Refused | RunStreamRecords> {
  return await transaction(db, async (tx) => {
    const run = await findRun(tx, input);
    if (run === undefined) return { status: "lost" } as const;
    if ((await isDeclared(tx, run.deployment_id, input.stream, input.direction)) !== "yes")
      return { status: "stream_not_found" } as const;
    const stream = await lockSessionStream(tx, run, input.stream, input.direction);
    if (stream === undefined) return { status: "stream_not_found" } as const;
    return await read(tx, stream, input);
  });
}

async function read(
  tx: Parameters<typeof takeRecord>[0],
  stream: SessionStreamRow,
  input: ReadRunStream,
): Promise<RunStreamRecords> {
  const head = { status: "read", streamId: stream.id } as const;
  if (input.take && input.direction === "input") {
    const { afterSequence, record } = await takeRecord(tx, stream.id, input);
    return { ...head, afterSequence, records: record === undefined ? [] : [record] };
  }
  const start = input.direction === "input" ? await committedSequence(tx, stream.id, input.correlationId) : 0;
  const afterSequence = input.afterSequence ?? start;
  const { limit, correlationId } = input;
  return {
    ...head,
    afterSequence,
    records: await listRecords(tx, stream, { afterSequence, limit, correlationId }),
  };
}
