/**
 * Questions to the worker of a live copy that a caller waits for: saving now, reading live files.
 *
 *   pending   askLive                      answerRequest, the copy's end, expireRequests (row and command go)
 *   done | failed                          takeAnswer, expireRequests (the row goes)
 */
import type { WorkspaceCommand } from "@helmr/api";
import { sql } from "kysely";
import { type Queryable, type Tx, transaction } from "../database.ts";
import { uuidv7 } from "../ids.ts";
import { jsonbText } from "../json.ts";
import { holdMaterialization } from "../materializations/hold.ts";
import type { MaterializationRef } from "../materializations/lifecycle.ts";
import type { Scope } from "../scope.ts";
import type { CommandTarget } from "./lifecycle.ts";
import { insertCommand } from "./outbox.ts";

type Question = Extract<WorkspaceCommand, { readonly kind: "save" | "files" }>;
export type LiveQuestion = Question extends infer Q
  ? Q extends unknown
    ? Omit<Q, "request_id">
    : never
  : never;

export interface AskedLive extends CommandTarget {
  readonly requestId: string;
}

/** Ask; `workspace-request:<id>` is told of the answer. Undefined when the copy is not live (any more). */
export async function askLive(
  db: Queryable,
  scope: Scope,
  materializationId: string,
  question: LiveQuestion,
  waitMs: number,
): Promise<AskedLive | undefined> {
  return await transaction(db, (tx) => askLocked(tx, scope, materializationId, question, waitMs));
}

/** The same in a transaction that may have locked the copy. */
export async function askLocked(
  tx: Tx,
  scope: Scope,
  materializationId: string,
  question: LiveQuestion,
  waitMs: number,
): Promise<AskedLive | undefined> {
  const requestId = uuidv7();
  const { rows } = await sql`
      insert into workspace_requests (id, materialization_id, environment_id, status, params, expires_at)
      select ${requestId}::uuid, m.id, m.environment_id, 'pending', ${jsonbText(question)}::jsonb,
        now() + ${waitMs}::float8 * interval '1 millisecond'
      from workspace_materializations m where m.id = ${materializationId} and m.environment_id = ${scope.environmentId}
        and m.ended_at is null and m.state <> 'stopping' for no key update returning id`.execute(tx);
  if (rows.length === 0) return undefined;
  const target = await insertCommand(tx, materializationId, {
    ...question,
    request_id: requestId,
  } as Question);
  return target && { ...target, requestId };
}

export interface LiveAnswer {
  readonly status: "pending" | "done" | "failed";
  readonly result: Record<string, unknown> | null;
  readonly data: Buffer | null;
}

/** The answer so far, and with `take` its row goes; undefined when there is no such question (any more). */
export async function takeAnswer(
  db: Queryable,
  scope: Scope,
  requestId: string,
): Promise<LiveAnswer | undefined> {
  const { rows } = await sql<LiveAnswer>`
    with taken as (
      delete from workspace_requests where id = ${requestId} and environment_id = ${scope.environmentId}
        and status <> 'pending' returning status, result, data)
    select status, result, data from taken
    union all
    select status, result, data from workspace_requests where id = ${requestId}
      and environment_id = ${scope.environmentId} and status = 'pending'`.execute(db);
  return rows[0];
}

export interface AnswerRequest extends MaterializationRef {
  readonly requestId: string;
  readonly status: "done" | "failed";
  readonly result: Readonly<Record<string, unknown>>;
  readonly data?: Buffer | undefined;
}

/** The worker's answer; nobody may wait for it any more. Undefined: the copy is lost (M2). */
export async function answerRequest(db: Queryable, input: AnswerRequest): Promise<boolean | undefined> {
  return await transaction(db, async (tx) => {
    const row = await holdMaterialization(tx, input);
    return row === undefined ? undefined : await writeAnswer(tx, row.id, input);
  });
}

/** The same for who has locked the copy or its run: a version that answers a `save`. Whether somebody waits. */
export async function writeAnswer(
  tx: Tx,
  materializationId: string,
  answer: Pick<AnswerRequest, "requestId" | "status" | "result" | "data">,
): Promise<boolean> {
  const { numAffectedRows } = await sql`update workspace_requests set status = ${answer.status},
      result = ${jsonbText(answer.result)}::jsonb, data = ${answer.data ?? null}::bytea
    where id = ${answer.requestId} and materialization_id = ${materializationId} and status = 'pending'`.execute(
    tx,
  );
  return (numAffectedRows ?? 0n) > 0n;
}

/** Forget up to `limit` questions that nobody waits for any more, with their commands; how many. */
export async function expireRequests(db: Queryable, limit: number): Promise<number> {
  const { rows } = await sql<{ id: string }>`
    with gone as (
      delete from workspace_requests where id = any (array(
        select id from workspace_requests where expires_at <= now() order by expires_at limit ${limit}::integer
        for update skip locked)) returning id, materialization_id
    ), unasked as (
      delete from workspace_commands c using gone g
      where c.materialization_id = g.materialization_id and c.body->>'request_id' = g.id::text
    )
    select id from gone`.execute(db);
  return rows.length;
}
