/** What a task's runs execute: fixed with the deployment, so readers may keep it. */
import type { BuiltSandbox, CatalogSecret } from "@helmr/api";
import type { Queryable } from "../database.ts";

export interface TaskDefinition {
  readonly taskId: string;
  readonly filePath: string;
  readonly exportName: string;
  readonly secrets: readonly CatalogSecret[];
  readonly sourceDigest: string;
  readonly sandbox: BuiltSandbox;
}

/** Undefined when there is no such task. */
export async function readTaskDefinition(
  db: Queryable,
  deploymentTaskId: string,
): Promise<TaskDefinition | undefined> {
  const row = await db
    .selectFrom("deployment_tasks as t")
    .innerJoin("deployments as d", "d.id", "t.deployment_id")
    .innerJoin("deployment_sandboxes as s", (join) =>
      join.onRef("s.deployment_id", "=", "t.deployment_id").onRef("s.sandbox_id", "=", "t.sandbox_id"),
    )
    .select(["t.task_id", "t.file_path", "t.export_name", "t.secrets", "d.source_digest", "s.definition"])
    .where("t.id", "=", deploymentTaskId)
    .executeTakeFirst();
  if (row === undefined) return undefined;
  return {
    taskId: row.task_id,
    filePath: row.file_path,
    exportName: row.export_name,
    secrets: row.secrets as CatalogSecret[],
    sourceDigest: row.source_digest,
    sandbox: row.definition as BuiltSandbox,
  };
}
