/** The outbox of a live copy: commands for its worker, numbered under the copy's row lock (M5). */
import type { WorkspaceCommand } from "@helmr/api";
import { sql } from "kysely";
import type { Tx } from "../database.ts";
import { jsonbText } from "../json.ts";
import type { CommandTarget } from "./lifecycle.ts";

/** Queue a command; tells whom to hint after the commit. Undefined when the copy has ended. */
export async function insertCommand(
  tx: Tx,
  materializationId: string,
  command: WorkspaceCommand,
): Promise<CommandTarget | undefined> {
  const { rows } = await sql<{ worker_instance_id: string | null }>`
    with m as (
      update workspace_materializations set command_seq = command_seq + 1
      where id = ${materializationId} and ended_at is null returning id, command_seq, worker_instance_id
    ), queued as (
      insert into workspace_commands (materialization_id, seq, body)
      select id, command_seq, ${jsonbText(command)}::jsonb from m
    )
    select worker_instance_id from m`.execute(tx);
  const row = rows[0];
  return row && { materializationId, workerInstanceId: row.worker_instance_id };
}
