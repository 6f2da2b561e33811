/** What the database says when all is over, as plain rows: what the invariants look at. */
import type { Database } from "@helmr/store";
import { type RawBuilder, sql } from "kysely";
import { Seen } from "./seen.ts";

export interface RunFact {
  readonly id: string;
  readonly session_id: string;
  readonly session_status: string;
  readonly workspace_id: string;
  readonly task_id: string;
  readonly turn_index: number;
  readonly status: string;
  readonly execution_status: string;
  readonly attempt_number: number;
  readonly lease_id: string | null;
  readonly queue_name: string;
  readonly concurrency_key: string | null;
  readonly event_seq: number;
  readonly schedule_id: string | null;
  /** JSON texts. */
  readonly payload: string;
  readonly output: string | null;
  readonly failure_kind: string | null;
  readonly failure_detail: unknown;
}
/** Events, and log chunks among them as `log.stdout` and `log.stderr` with their text. */
export interface EventFact {
  readonly run_id: string;
  readonly seq: number;
  readonly kind: string;
  readonly lease: string | null;
  readonly attempt: number | null;
  readonly attributes: Readonly<Record<string, unknown>>;
  readonly text: string;
  /** Milliseconds since 1970. */
  readonly at: number;
}
export interface WaitFact {
  readonly id: string;
  readonly run_id: string;
  readonly attempt_number: number;
  readonly number: number;
  readonly kind: string;
  readonly status: string;
  readonly stream_id: string | null;
  readonly token_id: string | null;
  readonly result: string | null;
  readonly due: boolean;
}
export interface StreamFact {
  readonly id: string;
  readonly session_id: string;
  readonly name: string;
  readonly direction: string;
  readonly sequence: number;
  readonly committed: number;
}
export interface RecordFact {
  readonly stream_id: string;
  readonly session_id: string;
  readonly name: string;
  readonly direction: string;
  readonly sequence: number;
  readonly id: string;
  readonly data: string;
}
export interface TokenFact {
  readonly id: string;
  readonly status: string;
  readonly data: string | null;
}
export interface ScheduleFact {
  readonly id: string;
  readonly active: boolean;
  readonly due_at: number | null;
  readonly last_fire_at: number | null;
  readonly lease_expires_at: number | null;
}

export interface Facts {
  readonly runs: readonly RunFact[];
  /** By run and seq. */
  readonly events: readonly EventFact[];
  readonly waits: readonly WaitFact[];
  readonly streams: readonly StreamFact[];
  /** By stream and sequence. */
  readonly records: readonly RecordFact[];
  readonly tokens: readonly TokenFact[];
  readonly schedules: readonly ScheduleFact[];
  readonly limits: readonly { readonly queue: string; readonly limit: number }[];
  readonly objects: {
    readonly referenced: readonly string[];
    readonly stored: readonly string[];
  };
  /** Processes, mounts and parts of the network that are there though their owner has stopped. */
  readonly remains: readonly string[];
  /** Parts that ended without being asked to. */
  readonly ownEnds: readonly string[];
  readonly seen: Seen;
  readonly now: number;
}

/** For tests of invariants: nothing happened. */
export function noFacts(): Facts {
  return {
    runs: [],
    events: [],
    waits: [],
    streams: [],
    records: [],
    tokens: [],
    schedules: [],
    limits: [],
    objects: { referenced: [], stored: [] },
    remains: [],
    ownEnds: [],
    seen: new Seen(),
    now: 0,
  };
}

export type DatabaseFacts = Omit<Facts, "objects" | "remains" | "ownEnds" | "seen">;

/** One snapshot of everything that invariants read. */
export async function readFacts(db: Database): Promise<DatabaseFacts> {
  return await db
    .transaction()
    .setIsolationLevel("repeatable read")
    .execute(async (tx) => {
      const rows = async <Row>(query: RawBuilder<Row>) => (await query.execute(tx)).rows;
      const [{ now } = { now: 0 }] = await rows(sql<{ now: number }>`select ${ms(sql`now()`)} as now`);
      return {
        now,
        runs: await rows(sql<RunFact>`select r.id, r.session_id, s.status as session_status, r.workspace_id, r.task_id,
          r.turn_index, r.status, r.execution_status, r.attempt_number, r.lease_id, r.queue_name, r.concurrency_key,
          r.event_seq, r.schedule_id,
          r.payload::text, r.output::text, r.failure_kind, r.failure_detail
        from runs r join sessions s on s.id = r.session_id order by r.id`),
        events:
          await rows(sql<EventFact>`select run_id, seq, kind, run_lease_id as lease, attempt_number as attempt,
          attributes, '' as text, ${ms(sql`at`)} as at from run_events
        union all select run_id, seq, 'log.' || stream, run_lease_id, attempt_number, '{}'::jsonb,
          convert_from(content, 'UTF8'), ${ms(sql`at`)} from run_logs
        order by run_id, seq`),
        waits:
          await rows(sql<WaitFact>`select id, run_id, attempt_number, number, kind, status, stream_id, token_id,
          result::text, coalesce(timeout_at < now() - interval '10 seconds', false) as due
        from run_waits order by run_id, attempt_number, number`),
        streams: await rows(sql<StreamFact>`select s.id, s.session_id, s.name, s.direction, s.sequence,
          coalesce((select max(committed_sequence) from stream_cursors k where k.stream_id = s.id), 0) as committed
        from session_streams s`),
        records:
          await rows(sql<RecordFact>`select r.stream_id, s.session_id, s.name, s.direction, r.sequence, r.id,
          r.data::text from stream_records r join session_streams s on s.id = r.stream_id
        order by r.stream_id, r.sequence`),
        tokens: await rows(sql<TokenFact>`select id, status, data::text from tokens`),
        schedules: await rows(sql<ScheduleFact>`select id, active, ${ms(sql`due_at`)} as due_at,
          ${ms(sql`last_fire_at`)} as last_fire_at, ${ms(sql`lease_expires_at`)} as lease_expires_at from schedules`),
        limits: await rows(sql<{
          queue: string;
          limit: number;
        }>`select name as queue, concurrency_limit as limit
        from queues where concurrency_limit is not null`),
      };
    });
}

const ms = (time: RawBuilder<unknown>) => sql`(extract(epoch from ${time}) * 1000)::float8`;

/** Every digest that something refers to. */
export async function readReferenced(db: Database): Promise<string[]> {
  const { rows } = await sql<{ digest: string }>`select source_digest as digest from deployments
    union select artifact_digest from run_checkpoints
    union select digest from workspace_version_artifacts
    union select digest from artifact_reservations`.execute(db);
  return rows.map(({ digest }) => digest);
}

/** How many runs of each limited lane hold a lease in this moment (F7). */
export async function sampleLanes(db: Database): Promise<{ lane: string; limit: number; leased: number }[]> {
  const { rows } = await sql<{ lane: string; limit: number; leased: number }>`
    select r.queue_name || ' ' || coalesce(r.concurrency_key, '') as lane, q.concurrency_limit as limit,
      count(*)::int as leased
    from runs r join queues q on q.environment_id = r.environment_id and q.name = r.queue_name
    where r.lease_id is not null and q.concurrency_limit is not null group by 1, 2`.execute(db);
  return rows;
}
