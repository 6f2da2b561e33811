/** The streams of a session: rows that appear with the first use of what the session's deployment declares. */
import { codedError } from "@helmr/api";
import { sql } from "kysely";
import type { Queryable, Tx } from "../database.ts";
import { uuidv7 } from "../ids.ts";
import type { StreamDirection } from "../schema-waits.ts";
import type { Scope } from "../scope.ts";

export interface SessionStreamRow {
  readonly id: string;
  readonly session_id: string;
  readonly name: string;
  readonly direction: StreamDirection;
  readonly sequence: number;
  readonly created_at: Date;
}

interface SessionRef {
  readonly environment_id: string;
  readonly session_id: string;
  readonly deployment_id: string;
}

/** The row, locked for what appends to it or reads on from it; undefined when the deployment does not declare it. */
export async function lockSessionStream(
  tx: Tx,
  session: SessionRef,
  name: string,
  direction: StreamDirection,
): Promise<SessionStreamRow | undefined> {
  await sql`insert into session_streams (id, environment_id, session_id, name, direction)
    select ${uuidv7()}, ${session.environment_id}, ${session.session_id}, d.name, d.direction from deployment_streams d
    where d.deployment_id = ${session.deployment_id} and d.name = ${name} and d.direction = ${direction}
    on conflict (session_id, direction, name) do nothing`.execute(tx);
  const { rows } = await sql<SessionStreamRow>`select id, session_id, name, direction, sequence, created_at
    from session_streams where session_id = ${session.session_id} and name = ${name} and direction = ${direction}
    for update`.execute(tx);
  return rows[0];
}

/** The same without a lock, and without making it: undefined for one that nothing has used yet. */
export async function findSessionStream(
  db: Queryable,
  sessionId: string,
  name: string,
  direction: StreamDirection,
): Promise<SessionStreamRow | undefined> {
  const { rows } = await sql<SessionStreamRow>`select id, session_id, name, direction, sequence, created_at
    from session_streams where session_id = ${sessionId} and name = ${name} and direction = ${direction}`.execute(
    db,
  );
  return rows[0];
}

/** Whether the deployment declares it: `other` when only in the other direction. */
export async function isDeclared(
  db: Queryable,
  deploymentId: string,
  name: string,
  direction: StreamDirection,
): Promise<"yes" | "other" | "no"> {
  const { rows } = await sql<{ direction: StreamDirection }>`select direction from deployment_streams
    where deployment_id = ${deploymentId} and name = ${name}`.execute(db);
  if (rows.some((row) => row.direction === direction)) return "yes";
  return rows.length > 0 ? "other" : "no";
}

/** Throws stream_not_found, or stream_direction_mismatch when it is declared in the other direction only. */
export async function requireDeclared(
  db: Queryable,
  session: { readonly active_deployment_id: string },
  name: string,
  direction: StreamDirection,
): Promise<void> {
  const declared = await isDeclared(db, session.active_deployment_id, name, direction);
  if (declared !== "yes")
    throw codedError(declared === "other" ? "stream_direction_mismatch" : "stream_not_found");
}

/** Contract 3.3: rows for every declared stream first, then all of them, inputs before outputs, by name. */
export async function listSessionStreams(
  db: Queryable,
  scope: Scope,
  session: { readonly id: string; readonly active_deployment_id: string },
): Promise<SessionStreamRow[]> {
  const declared = await db
    .selectFrom("deployment_streams")
    .select(["name", "direction"])
    .where("deployment_id", "=", session.active_deployment_id)
    .execute();
  if (declared.length > 0) {
    await db
      .insertInto("session_streams")
      .values(
        declared.map(({ name, direction }) => ({
          id: uuidv7(),
          environment_id: scope.environmentId,
          session_id: session.id,
          name,
          direction,
        })),
      )
      .onConflict((conflict) => conflict.columns(["session_id", "direction", "name"]).doNothing())
      .execute();
  }
  return await db
    .selectFrom("session_streams")
    .select(["id", "session_id", "name", "direction", "sequence", "created_at"])
    .where("session_id", "=", session.id)
    .where("environment_id", "=", scope.environmentId)
    .orderBy("direction")
    .orderBy("name")
    .execute();
}
