/** What goes with a run that leaves its attempt: its pending wait, its checkpoint, and how far it read its input. */
import { type RawBuilder, sql } from "kysely";
import { discardArtifacts } from "../deletion/artifacts.ts";
import { hasUntaken } from "../streams/untaken.ts";

/**
 * CTEs of a statement whose CTE `changed` has run_id, session_id, to_status and execution_status.
 *
 *   the run ends           its pending wait is cancelled, its checkpoint discarded, what it took of its input counts; of what
 *                          it left the next run is asked for, unless it took nothing: the next one would do the same, for ever
 *   starts again           the same, but the next attempt reads the input from where the first one began
 *   resumes                the checkpoint stays, and the waits after it never were: the restored guest counts from there
 */
export function leaveWaits(changed: string): RawBuilder<unknown> {
  const c = sql.ref(changed);
  return sql`left_waits as (
      update run_waits w set status = 'cancelled', resolved_at = now() from ${c} c
      where w.run_id = c.run_id and w.status = 'pending' and c.execution_status <> 'resume_queued'
    ), undone_waits as (
      delete from run_waits w using ${c} c, run_checkpoints k, run_waits kw
      where c.execution_status = 'resume_queued' and k.run_id = c.run_id and kw.id = k.wait_id
        and w.run_id = c.run_id and w.attempt_number = kw.attempt_number and w.number > kw.number
    ), left_checkpoints as (
      delete from run_checkpoints k using ${c} c where k.run_id = c.run_id and c.execution_status <> 'resume_queued'
      returning k.artifact_digest
    ), left_artifacts as (
      ${discardArtifacts(sql`select artifact_digest from left_checkpoints`)}
    ), left_cursors as (
      update stream_cursors k set
        committed_sequence = case when c.to_status = 'queued' then k.committed_sequence else k.taken_sequence end,
        taken_sequence = case when c.to_status = 'queued' then k.committed_sequence else k.taken_sequence end
      from ${c} c join session_streams s on s.session_id = c.session_id
      where k.stream_id = s.id and c.execution_status <> 'resume_queued' and k.taken_sequence <> k.committed_sequence
    ), left_input as (
      insert into session_continuations (session_id, environment_id)
      select o.id, o.environment_id from ${c} c join sessions o on o.id = c.session_id
      where c.to_status in ('succeeded', 'failed') and o.status = 'open'
        and exists (select from session_streams t join stream_cursors k on k.stream_id = t.id
          where t.session_id = o.id and k.taken_sequence <> k.committed_sequence)
        and ${hasUntaken(sql`o.id`)}
      on conflict do nothing
    )`;
}
