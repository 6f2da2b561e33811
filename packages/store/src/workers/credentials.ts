/** Workers' credentials: who calls, rotation, revocation (W3 of lifecycle.ts). */
import { randomBytes } from "node:crypto";
import { sql } from "kysely";
import type { Queryable } from "../database.ts";
import { credentialOverlapSeconds, hashSecret, newCredential } from "./lifecycle.ts";

export interface AuthenticatedWorker {
  readonly workerInstanceId: string;
  /** Its work is hinted on `workTopic` of it. */
  readonly workerGroupId: string;
}

/** Whose credential this is; undefined when it is nobody's (any more). */
export async function authenticateWorker(
  db: Queryable,
  credential: string,
): Promise<AuthenticatedWorker | undefined> {
  const hash = hashSecret(credential);
  const { rows } = await sql<AuthenticatedWorker>`
    select id as "workerInstanceId", worker_group_id as "workerGroupId" from worker_instances
    where credential_hash = ${hash} or (previous_credential_hash = ${hash} and previous_valid_until > now())`.execute(
    db,
  );
  return rows[0];
}

/** A new credential for the worker that has this one; undefined when it is not good (any more). */
export async function rotateCredential(
  db: Queryable,
  workerInstanceId: string,
  presented: string,
): Promise<{ readonly credential: string; readonly previousValidUntil: Date } | undefined> {
  const credential = newCredential();
  const hash = hashSecret(presented);
  const { rows } = await sql<{ previousValidUntil: Date }>`
    update worker_instances set credential_hash = ${hashSecret(credential)}, credential_issued_at = now(),
      previous_credential_hash = ${hash},
      previous_valid_until = now() + ${sql.lit(credentialOverlapSeconds)} * interval '1 second'
    where id = ${workerInstanceId}
      and (credential_hash = ${hash} or (previous_credential_hash = ${hash} and previous_valid_until > now()))
    returning previous_valid_until as "previousValidUntil"`.execute(db);
  const row = rows[0];
  return row && { credential, previousValidUntil: row.previousValidUntil };
}

/** For a revocation: nobody knows what has this hash. */
export async function voidCredential(
  db: Queryable,
  workerInstanceId: string,
): Promise<{ rows: { name: string }[] }> {
  return await sql<{ name: string }>`
    update worker_instances set credential_hash = ${randomBytes(32)}, previous_credential_hash = null,
      previous_valid_until = null, credential_issued_at = now()
    where id = ${workerInstanceId} returning name`.execute(db);
}
