/** appendBuildEvents: progress of a build, numbered by the worker, written once. */
import { sql } from "kysely";
import { type Queryable, transaction } from "../database.ts";
import { appendDeploymentEvents, type NewEvent } from "../events.ts";
import { columnText } from "../json.ts";
import type { LeaseRef } from "../runs/index.ts";
import { type BuildRef, lockBuild } from "./lifecycle.ts";

export interface BuildEventItem {
  readonly number: number;
  readonly kind: string;
  readonly message: string;
  readonly severity: "info" | "warn" | "error";
  readonly attributes: Readonly<Record<string, unknown>>;
  readonly occurredAt: string;
}

/** Beyond that many events progress is dropped: a step that prints for hours. */
const maxBuildEvents = 100_000;
/** Kinds that only the lifecycle writes (contract 9.3). */
const lifecycleKinds = new Set([
  "deployment.queued",
  "deployment.building",
  "deployment.deployed",
  "deployment.failed",
]);

/** Whether a worker may append an event of this kind. */
export function isBuildEventKind(kind: string): boolean {
  return /^[a-z][a-z0-9_.]{0,127}$/.test(kind) && !lifecycleKinds.has(kind);
}

/** Undefined when the lease is lost. Items in ascending order of number. */
export async function appendBuildEvents(
  db: Queryable,
  lease: LeaseRef,
  items: readonly BuildEventItem[],
): Promise<BuildRef | undefined> {
  return await transaction(db, async (tx) => {
    const build = await lockBuild(tx, lease);
    if (build === undefined) return undefined;
    const fresh = items.filter((item) => item.number > build.append_number);
    const last = fresh.at(-1);
    if (last !== undefined) {
      await sql`update deployments set append_number = ${last.number}::bigint where id = ${build.id}`.execute(
        tx,
      );
      if (build.event_seq < maxBuildEvents) await appendDeploymentEvents(tx, build.id, fresh.map(buildEvent));
    }
    return { deploymentId: build.id, environmentId: build.environment_id };
  });
}

function buildEvent(item: BuildEventItem): NewEvent {
  const { kind, severity, attributes, occurredAt } = item;
  return {
    kind,
    message: columnText(item.message),
    category: "build",
    source: "worker",
    severity,
    attributes,
    occurredAt,
  };
}
