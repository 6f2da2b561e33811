/** What operators do with workers: drain, undrain, revoke, remove. */
import { ApiError } from "@helmr/api";
import { sql } from "kysely";
import { recordAudit } from "../audit.ts";
import { type Queryable, transaction } from "../database.ts";
import type { Operator } from "../worker-groups/groups.ts";
import { voidCredential } from "./credentials.ts";

/** The worker is given nothing new, until it is undrained (W2); what it has it ends. False when there is no such worker. */
export async function drainWorker(
  db: Queryable,
  operator: Operator,
  workerInstanceId: string,
): Promise<boolean> {
  return await change(db, operator, "worker.drain", workerInstanceId, (tx) =>
    sql<{
      name: string;
    }>`update worker_instances set drain_requested_at = coalesce(drain_requested_at, now()),
        state = case state when 'active' then 'draining' else state end
      where id = ${workerInstanceId} returning name`.execute(tx),
  );
}

/** One that drains by its own decision says so again with its next heartbeat. */
export async function undrainWorker(
  db: Queryable,
  operator: Operator,
  workerInstanceId: string,
): Promise<boolean> {
  return await change(db, operator, "worker.undrain", workerInstanceId, (tx) =>
    sql<{ name: string }>`update worker_instances set drain_requested_at = null,
        state = case state when 'draining' then 'active' else state end
      where id = ${workerInstanceId} returning name`.execute(tx),
  );
}

/**
 * Void a worker's credentials: its calls are refused, and its leases end when they are not renewed. It can register anew with
 * a bootstrap token that is good.
 */
export async function revokeCredential(
  db: Queryable,
  operator: Operator,
  workerInstanceId: string,
): Promise<boolean> {
  return await change(db, operator, "worker.revoke_credential", workerInstanceId, (tx) =>
    voidCredential(tx, workerInstanceId),
  );
}

/** Forget a worker. Throws ApiError 409 unless it is gone and holds nothing any more. */
export async function removeWorker(
  db: Queryable,
  { actor, organizationId }: Operator,
  workerInstanceId: string,
): Promise<boolean> {
  return await transaction(db, async (tx) => {
    const { rows } = await sql<{ name: string; state: string; holds: boolean }>`
      select i.name, i.state, exists (select from runs r where r.worker_instance_id = i.id and r.lease_id is not null)
        or exists (select from workspace_materializations m where m.worker_instance_id = i.id and m.ended_at is null)
        or exists (select from deployments d where d.worker_instance_id = i.id and d.lease_id is not null) as holds
      from worker_instances i where i.id = ${workerInstanceId} for update`.execute(tx);
    const worker = rows[0];
    if (worker === undefined) return false;
    if (worker.state !== "gone")
      throw new ApiError(
        409,
        `the worker is ${worker.state}: stop it, and remove it when it is gone (after a minute)`,
      );
    if (worker.holds)
      throw new ApiError(
        409,
        "the worker holds work still, which ends when its leases do: try again in some minutes",
      );
    await sql`update deployments set worker_instance_id = null where worker_instance_id = ${workerInstanceId}`.execute(
      tx,
    );
    await sql`delete from worker_instances where id = ${workerInstanceId}`.execute(tx);
    await recordAudit(tx, actor, {
      action: "worker.remove",
      ...(organizationId && { organizationId }),
      resourceId: workerInstanceId,
      attributes: { name: worker.name },
    });
    return true;
  });
}

async function change(
  db: Queryable,
  { actor, organizationId }: Operator,
  action: "worker.drain" | "worker.undrain" | "worker.revoke_credential",
  workerInstanceId: string,
  update: (tx: Queryable) => Promise<{ rows: { name: string }[] }>,
): Promise<boolean> {
  return await transaction(db, async (tx) => {
    const worker = (await update(tx)).rows[0];
    if (worker === undefined) return false;
    await recordAudit(tx, actor, {
      action,
      ...(organizationId && { organizationId }),
      resourceId: workerInstanceId,
      attributes: { name: worker.name },
    });
    return true;
  });
}
