/** Input that no run has taken. */
import { type RawBuilder, sql } from "kysely";

/**
 * A condition on a session: it has an input record that neither a reader of all nor one of its correlation id has taken.
 * Scalar subqueries, not `exists`: in a list of sessions the planner would turn those into hash joins over all records.
 */
export function hasUntaken(sessionId: RawBuilder<unknown>): RawBuilder<unknown> {
  return sql`coalesce((
    select true from session_streams s
    where s.session_id = ${sessionId} and s.direction = 'input'
      and s.sequence > coalesce((select k.taken_sequence from stream_cursors k
        where k.stream_id = s.id and k.correlation_id = ''), 0)
      and (
        select true from stream_records r where r.stream_id = s.id
          and r.sequence > coalesce((select k.taken_sequence from stream_cursors k
            where k.stream_id = s.id and k.correlation_id = ''), 0)
          and (r.correlation_id is null or r.sequence > coalesce((select k.taken_sequence from stream_cursors k
            where k.stream_id = s.id and k.correlation_id = r.correlation_id), 0))
        limit 1)
    limit 1), false)`;
}
