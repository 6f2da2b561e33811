/** registerWorker: a worker comes, or comes back, with a bootstrap token of its group. */
import { sql } from "kysely";
import type { Queryable } from "../database.ts";
import { hashSecret, newCredential, type WorkerCapacity } from "./lifecycle.ts";

export interface WorkerRegistration {
  readonly workerInstanceId: string;
  readonly name: string;
  readonly version: string;
  readonly capacity: WorkerCapacity;
  readonly capabilities: Readonly<Record<string, unknown>>;
  readonly labels?: Readonly<Record<string, string>> | undefined;
}

/**
 * Register a worker, or register it anew, with its group's bootstrap token; undefined when the token is not good for it (W4).
 * The credential is told this once. The caller ends the leases of its earlier life.
 */
export async function registerWorker(
  db: Queryable,
  bootstrapToken: string,
  registration: WorkerRegistration,
): Promise<{ readonly credential: string } | undefined> {
  const credential = newCredential();
  const { rows } = await sql`
    with token as (
      update worker_bootstrap_tokens set last_used_at = now()
      where token_hash = ${hashSecret(bootstrapToken)} and revoked_at is null and (expires_at is null or expires_at > now())
      returning id, worker_group_id
    )
    insert into worker_instances as w (id, worker_group_id, bootstrap_token_id, name, credential_hash, state, version,
      capacity, capabilities, labels)
    select ${registration.workerInstanceId}::uuid, t.worker_group_id, t.id, ${registration.name},
      ${hashSecret(credential)}, 'active', ${registration.version}, ${JSON.stringify(registration.capacity)}::jsonb,
      ${JSON.stringify(registration.capabilities)}::jsonb, ${JSON.stringify(registration.labels ?? {})}::jsonb
    from token t
    on conflict (id) do update set name = excluded.name, credential_hash = excluded.credential_hash,
      state = case when w.drain_requested_at is null then 'active' else 'draining' end, -- W2
      version = excluded.version, capacity = excluded.capacity, capabilities = excluded.capabilities,
      labels = excluded.labels, bootstrap_token_id = excluded.bootstrap_token_id, capacity_free = null,
      previous_credential_hash = null, previous_valid_until = null, credential_issued_at = now(),
      registered_at = now(), last_heartbeat_at = now()
    where w.worker_group_id = excluded.worker_group_id -- W4
    returning w.id`.execute(db);
  return rows.length === 0 ? undefined : { credential };
}
