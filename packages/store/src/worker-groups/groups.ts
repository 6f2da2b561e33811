/** Creating, changing, reading and deleting worker groups. */
import { ApiError } from "@helmr/api";
import { type RawBuilder, sql } from "kysely";
import { type Actor, recordAudit } from "../audit.ts";
import { type Queryable, type Tx, transaction, violatedConstraint } from "../database.ts";
import { uuidv7 } from "../ids.ts";
import { defaultWorkerGroupId } from "./lifecycle.ts";

/** Who operates the installation; `organizationId`: a member of it, whose audit log tells of the change. */
export interface Operator {
  readonly actor: Actor;
  readonly organizationId?: string | undefined;
}

export interface WorkerGroupRow {
  readonly id: string;
  readonly name: string;
  readonly labels: Record<string, string>;
  readonly active: number;
  readonly draining: number;
  readonly gone: number;
  readonly environments: number;
  readonly created_at: Date;
  readonly updated_at: Date;
}

const uuidPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** `g` is the group of this name or id. A name that looks like an id is one (names may). */
export function isNamed(group: string): RawBuilder<boolean> {
  return uuidPattern.test(group)
    ? sql<boolean>`(g.id = ${group.toLowerCase()}::uuid or g.name = ${group})`
    : sql<boolean>`g.name = ${group}`;
}

function selectGroups(condition: RawBuilder<unknown>) {
  return sql<WorkerGroupRow>`
    select g.id, g.name, g.labels, g.created_at, g.updated_at, n.active, n.draining, n.gone,
      (select count(*) from environments e where e.worker_group_id = g.id and e.deleting_at is null) as environments
    from worker_groups g cross join lateral (
      select count(*) filter (where i.state = 'active') as active, count(*) filter (where i.state = 'draining') as draining,
        count(*) filter (where i.state = 'gone') as gone
      from worker_instances i where i.worker_group_id = g.id) n
    where ${condition} order by g.name`;
}

export async function listWorkerGroups(db: Queryable): Promise<WorkerGroupRow[]> {
  return (await selectGroups(sql`true`).execute(db)).rows;
}

/** By name or id. */
export async function getWorkerGroup(db: Queryable, group: string): Promise<WorkerGroupRow | undefined> {
  return (await selectGroups(isNamed(group)).execute(db)).rows[0];
}

/** Throws ApiError 409 when the name is taken. */
export async function createWorkerGroup(
  db: Queryable,
  { actor, organizationId }: Operator,
  {
    name,
    labels = {},
  }: { readonly name: string; readonly labels?: Readonly<Record<string, string>> | undefined },
): Promise<WorkerGroupRow> {
  const id = uuidv7();
  return await refuseTaken(name, () =>
    transaction(db, async (tx) => {
      await sql`insert into worker_groups (id, name, labels) values (${id}, ${name}, ${JSON.stringify(labels)}::jsonb)`.execute(
        tx,
      );
      await recordAudit(tx, actor, {
        action: "worker_group.create",
        ...(organizationId && { organizationId }),
        resourceId: id,
        attributes: { name },
      });
      return await mustRead(tx, id);
    }),
  );
}

/** Undefined when there is none; throws ApiError 409 for a taken name, 400 for another name of `default` (G1). */
export async function updateWorkerGroup(
  db: Queryable,
  { actor, organizationId }: Operator,
  group: string,
  change: {
    readonly name?: string | undefined;
    readonly labels?: Readonly<Record<string, string>> | undefined;
  },
): Promise<WorkerGroupRow | undefined> {
  return await refuseTaken(change.name ?? "", () =>
    transaction(db, async (tx) => {
      const found = await lockGroup(tx, group);
      if (found === undefined) return undefined;
      const name = change.name ?? found.name;
      if (found.id === defaultWorkerGroupId && name !== found.name)
        throw new ApiError(400, "name: the group default keeps its name; what names no group goes there");
      const labels = change.labels === undefined ? null : JSON.stringify(change.labels);
      await sql`update worker_groups set name = ${name}, labels = coalesce(${labels}::jsonb, labels), updated_at = now()
        where id = ${found.id}`.execute(tx);
      await recordAudit(tx, actor, {
        action: "worker_group.update",
        ...(organizationId && { organizationId }),
        resourceId: found.id,
        attributes: { name, ...(name === found.name ? {} : { old_name: found.name }) },
      });
      return await mustRead(tx, found.id);
    }),
  );
}

/** G3. False when there is none; throws ApiError 409 that says what refers to it, 400 for `default` (G1). */
export async function deleteWorkerGroup(
  db: Queryable,
  { actor, organizationId }: Operator,
  group: string,
): Promise<boolean> {
  return await transaction(db, async (tx) => {
    const found = await lockGroup(tx, group);
    if (found === undefined) return false;
    if (found.id === defaultWorkerGroupId) throw new ApiError(400, "the group default cannot be deleted");
    const { rows } = await sql<{ workers: number; environments: number; deployments: number }>`
      select (select count(*) from worker_instances where worker_group_id = ${found.id}) as workers,
        (select count(*) from environments where worker_group_id = ${found.id}) as environments,
        (select count(*) from deployments where worker_group_id = ${found.id}) as deployments`.execute(tx);
    const uses = Object.entries(rows[0] ?? {}).filter(([, count]) => count > 0);
    if (uses.length > 0) {
      const text = uses.map(([what, count]) => `${count} ${what}`).join(", ");
      throw new ApiError(
        409,
        `the worker group ${found.name} is in use (${text}): remove its workers, and route its environments elsewhere; ` +
          "deployments keep their group, and go with their environment",
      );
    }
    await sql`delete from worker_bootstrap_tokens where worker_group_id = ${found.id}`.execute(tx);
    await sql`delete from worker_groups where id = ${found.id}`.execute(tx);
    await recordAudit(tx, actor, {
      action: "worker_group.delete",
      ...(organizationId && { organizationId }),
      resourceId: found.id,
      attributes: { name: found.name },
    });
    return true;
  });
}

/** The group of that name or id, locked against its deletion and against rows that begin to refer to it. */
async function lockGroup(tx: Tx, group: string): Promise<{ id: string; name: string } | undefined> {
  const { rows } = await sql<{ id: string; name: string }>`
    select g.id, g.name from worker_groups g where ${isNamed(group)} order by g.id for update`.execute(tx);
  return rows[0];
}

async function mustRead(tx: Tx, id: string): Promise<WorkerGroupRow> {
  const row = await getWorkerGroup(tx, id);
  if (row === undefined) throw new Error("a worker group is not there after its change");
  return row;
}

async function refuseTaken<T>(name: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (violatedConstraint(error) === "worker_groups_name_key")
      throw new ApiError(409, `name: there is a worker group ${name} already`);
    throw error;
  }
}
