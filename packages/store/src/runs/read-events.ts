/** Reading what a run left: events, and logs, which are events too. Pages by seq, each served by a primary key. */
import { sql } from "kysely";
import type { Queryable } from "../database.ts";
import type { Scope } from "../scope.ts";

export interface RunEventRow {
  readonly run_id: string;
  readonly seq: number;
  readonly run_lease_id: string | null;
  readonly attempt_id: string | null;
  readonly attempt_number: number | null;
  readonly category: string;
  readonly severity: string;
  readonly source: string;
  readonly kind: string;
  readonly message: string;
  readonly redaction_class: string;
  readonly attributes: Record<string, unknown>;
  /** Of its run. */
  readonly trace_context: string | null;
  readonly occurred_at: Date;
  readonly at: Date;
}

export interface RunLogRow {
  readonly run_id: string;
  readonly seq: number;
  readonly run_lease_id: string;
  readonly attempt_number: number;
  readonly stream: "stdout" | "stderr";
  readonly observed_seq: number;
  readonly content: Buffer;
  readonly at: Date;
}

export interface Page {
  /** Only what has a greater seq. */
  readonly after: number;
  readonly limit: number;
}

const ofScope = (scope: Scope, runId: string) =>
  sql<boolean>`exists (select from runs where id = ${runId} and environment_id = ${scope.environmentId})`;

/** Events with seq above `after`, in order; log chunks among them as log.stdout and log.stderr, without their bytes. */
export async function listRunEvents(
  db: Queryable,
  scope: Scope,
  runId: string,
  page: Page,
): Promise<RunEventRow[]> {
  const { rows } = await sql<RunEventRow>`
    select e.*, r.trace_context from (
      (select run_id, seq, run_lease_id, attempt_id, attempt_number, category, severity, source, kind, message,
         redaction_class, attributes, occurred_at, at
       from run_events where run_id = ${runId} and seq > ${page.after}::bigint order by seq limit ${page.limit}::integer)
      union all
      (select run_id, seq, run_lease_id, attempt_id, attempt_number, 'log', 'info', 'guest', 'log.' || stream,
         'log.' || stream, 'none',
         jsonb_build_object('stream', stream, 'bytes', octet_length(content), 'observed_seq', observed_seq), occurred_at, at
       from run_logs where run_id = ${runId} and seq > ${page.after}::bigint order by seq limit ${page.limit}::integer)
    ) e join runs r on r.id = ${runId} and r.environment_id = ${scope.environmentId} order by seq limit ${page.limit}::integer`.execute(
    db,
  );
  return rows;
}

/** Log chunks with their bytes, seq above `after`, in order. */
export async function listRunLogChunks(
  db: Queryable,
  scope: Scope,
  runId: string,
  page: Page,
): Promise<RunLogRow[]> {
  const { rows } = await sql<RunLogRow>`
    select run_id, seq, run_lease_id, attempt_number, stream, observed_seq, content, at from run_logs
    where run_id = ${runId} and seq > ${page.after}::bigint and ${ofScope(scope, runId)}
    order by seq limit ${page.limit}::integer`.execute(db);
  return rows;
}

export interface RunLogs {
  readonly stdout: Buffer;
  readonly stderr: Buffer;
  /** Seq of the last chunk there is; following goes on after it. 0 without logs. */
  readonly cursor: number;
  /** Bytes the task wrote, also what is not here. */
  readonly stdoutBytes: number;
  readonly stderrBytes: number;
  /** Some of what the task wrote is not in `stdout` and `stderr`. */
  readonly truncated: boolean;
}

const logPageChunks = 500;
/** Bounds the walk back over a log of tiny chunks. */
const maxLogPages = 40;

/** The last `maxBytes` (contract 6.3: 1 MiB) of each stream; undefined when the scope has no such run. */
export async function readRunLogs(
  db: Queryable,
  scope: Scope,
  runId: string,
  maxBytes = 2 ** 20,
): Promise<RunLogs | undefined> {
  const run = await db
    .selectFrom("runs")
    .select(["stdout_bytes", "stderr_bytes"])
    .where("id", "=", runId)
    .where("environment_id", "=", scope.environmentId)
    .executeTakeFirst();
  if (run === undefined) return undefined;
  const tails = { stdout: new Tail(maxBytes), stderr: new Tail(maxBytes) };
  let cursor = 0;
  let before = Number.MAX_SAFE_INTEGER;
  for (let pages = 0; pages < maxLogPages; pages += 1) {
    const { rows } = await sql<Pick<RunLogRow, "seq" | "stream" | "content">>`
      select seq, stream, content from run_logs where run_id = ${runId} and seq < ${before}::bigint
      order by seq desc limit ${logPageChunks}`.execute(db);
    cursor ||= rows[0]?.seq ?? 0;
    before = rows.at(-1)?.seq ?? 0;
    for (const { stream, content } of rows) tails[stream].prepend(content);
    if (rows.length < logPageChunks || (tails.stdout.isFull && tails.stderr.isFull)) break;
  }
  const [stdout, stderr] = [tails.stdout.bytes(), tails.stderr.bytes()];
  const truncated = stdout.length < run.stdout_bytes || stderr.length < run.stderr_bytes;
  return { stdout, stderr, cursor, stdoutBytes: run.stdout_bytes, stderrBytes: run.stderr_bytes, truncated };
}

/** The last bytes of a stream whose chunks arrive from its end. */
class Tail {
  readonly #limit: number;
  readonly #chunks: Buffer[] = [];
  #length = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get isFull(): boolean {
    return this.#length >= this.#limit;
  }

  prepend(chunk: Buffer): void {
    const room = this.#limit - this.#length;
    if (room <= 0) return;
    const kept = chunk.subarray(Math.max(0, chunk.length - room));
    this.#chunks.unshift(kept);
    this.#length += kept.length;
  }

  bytes(): Buffer {
    return Buffer.concat(this.#chunks);
  }
}
