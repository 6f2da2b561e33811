/** The outbox of a live copy: commands for its worker, numbered under the copy's row lock (M5). */
import { ApiError, type WorkspaceCommand } from "@helmr/api";
import { sql } from "kysely";
import type { Tx } from "../database.ts";
import { jsonbText } from "../json.ts";
import { type CommandTarget, maxWaitingCommands } from "./lifecycle.ts";

/** Of copy `m`: how many commands its worker has not taken, about: seq has few gaps. */
export const waitingCommands = sql<number>`(m.command_seq - coalesce((select c.seq from workspace_commands c
  where c.materialization_id = m.id order by c.seq limit 1) - 1, m.command_seq))`;

/** What writers are told while the worker is far behind. */
export function tooFarBehind(): ApiError {
  return new ApiError(503, "the live copy has not taken what came before this yet; try again");
}

/**
 * Queue a command; tells whom to hint after the commit. Undefined when the copy has ended. Throws 503 when too many wait,
 * but for a stop.
 */
export async function insertCommand(
  tx: Tx,
  materializationId: string,
  command: WorkspaceCommand,
): Promise<CommandTarget | undefined> {
  const { rows } = await sql<{ worker_instance_id: string | null; waiting: number }>`
    with m as (
      update workspace_materializations m set command_seq = command_seq + 1
      where id = ${materializationId} and ended_at is null
      returning m.id, m.command_seq, m.worker_instance_id, ${waitingCommands} as waiting
    ), queued as (
      insert into workspace_commands (materialization_id, seq, body)
      select id, command_seq, ${jsonbText(command)}::jsonb from m
    )
    select worker_instance_id, waiting from m`.execute(tx);
  const row = rows[0];
  if (row !== undefined && row.waiting > maxWaitingCommands && command.kind !== "stop") throw tooFarBehind();
  return row && { materializationId, workerInstanceId: row.worker_instance_id };
}
