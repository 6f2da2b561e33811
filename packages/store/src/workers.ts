/**
 * Workers: registration, credentials, liveness.
 *
 *   (none) | gone | active | draining  --registerWorker-->  active     a new credential; the old one is void
 *   active | draining                  --markGoneWorkers--> gone       no heartbeat for 60 s
 *   gone                               --touchWorker-->     active     it was only out of reach
 *
 * Of tokens and credentials only the sha256 is stored: both are 32 random bytes, which needs no slow hash.
 */
import { createHash, randomBytes } from "node:crypto";
import { sql } from "kysely";
import { type Queryable, transaction } from "./database.ts";
import { uuidv7 } from "./ids.ts";

export interface WorkerRegistration {
  readonly workerInstanceId: string;
  readonly name: string;
  readonly version: string;
  readonly capacity: Readonly<Record<string, unknown>>;
  readonly capabilities: Readonly<Record<string, unknown>>;
}

export interface AuthenticatedWorker {
  readonly workerInstanceId: string;
  /** Name of its group: its work is hinted on `work:<group>`. */
  readonly group: string;
}

/** A worker out of touch that long is gone: its workspaces' runs may go elsewhere. Twice its lease, so those are over. */
export const workerGoneAfterSeconds = 60;

const hash = (secret: string) => createHash("sha256").update(secret).digest();

/** Make the worker group and its bootstrap token, if they are not there. `token`: at least 32 random bytes of text. */
export async function ensureBootstrapToken(db: Queryable, token: string, group = "default"): Promise<void> {
  await transaction(db, async (tx) => {
    await sql`insert into worker_groups (id, name) values (${uuidv7()}, ${group}) on conflict (name) do nothing`.execute(
      tx,
    );
    await sql`insert into worker_bootstrap_tokens (id, worker_group_id, token_hash)
      select ${uuidv7()}::uuid, id, ${hash(token)} from worker_groups where name = ${group}
      on conflict (token_hash) do nothing`.execute(tx);
  });
}

/**
 * Register a worker, or register it anew, with its group's bootstrap token; undefined when the token is not good for it.
 * The credential is told this once. The caller ends the leases of its earlier life.
 */
export async function registerWorker(
  db: Queryable,
  bootstrapToken: string,
  registration: WorkerRegistration,
): Promise<{ credential: string } | undefined> {
  const credential = `hlmr_wk_${randomBytes(32).toString("base64url")}`;
  const { rows } = await sql`
    insert into worker_instances as w (id, worker_group_id, name, credential_hash, state, version, capacity, capabilities)
    select ${registration.workerInstanceId}::uuid, t.worker_group_id, ${registration.name}, ${hash(credential)}, 'active',
      ${registration.version}, ${JSON.stringify(registration.capacity)}::jsonb,
      ${JSON.stringify(registration.capabilities)}::jsonb
    from worker_bootstrap_tokens t
    where t.token_hash = ${hash(bootstrapToken)} and t.revoked_at is null
      and (t.expires_at is null or t.expires_at > now())
    on conflict (id) do update set name = excluded.name, credential_hash = excluded.credential_hash, state = 'active',
      version = excluded.version, capacity = excluded.capacity, capabilities = excluded.capabilities,
      registered_at = now(), last_heartbeat_at = now()
    where w.worker_group_id = excluded.worker_group_id
    returning w.id`.execute(db);
  return rows.length === 0 ? undefined : { credential };
}

/** Whose credential this is; undefined when it is nobody's (any more). */
export async function authenticateWorker(
  db: Queryable,
  credential: string,
): Promise<AuthenticatedWorker | undefined> {
  const { rows } = await sql<AuthenticatedWorker>`
    select w.id as "workerInstanceId", g.name as "group" from worker_instances w
    join worker_groups g on g.id = w.worker_group_id where w.credential_hash = ${hash(credential)}`.execute(
    db,
  );
  return rows[0];
}

/** Note a sign of life; says whether the worker is to take no more work. */
export async function touchWorker(db: Queryable, workerInstanceId: string): Promise<{ draining: boolean }> {
  const { rows } = await sql<{ state: string }>`
    update worker_instances set last_heartbeat_at = now(), state = case when state = 'gone' then 'active' else state end
    where id = ${workerInstanceId} returning state`.execute(db);
  return { draining: rows[0]?.state === "draining" };
}

/** Ids of the workers that just became gone. */
export async function markGoneWorkers(db: Queryable): Promise<string[]> {
  const { rows } = await sql<{ id: string }>`
    update worker_instances set state = 'gone'
    where state <> 'gone' and last_heartbeat_at < now() - ${sql.lit(workerGoneAfterSeconds)} * interval '1 second'
    returning id`.execute(db);
  return rows.map((row) => row.id);
}
