/** Whom to tell of what became of live copies: the same topics as the control plane's hints. */
import type { LiveBus } from "@helmr/coordination";
import { type EndedMaterialization, type RequestedMaterialization, workTopic } from "@helmr/store";

/** Who waits for the copy's end, and who follows or waits for what was in it. */
export function tellEnded(bus: LiveBus, ended: EndedMaterialization | undefined): void {
  if (ended === undefined) return;
  bus.publish(`workspace:${ended.workspaceId}`);
  for (const id of ended.execIds) bus.publish(`exec:${id}`);
  for (const id of ended.ptyIds) bus.publish(`pty:${id}`);
  for (const id of ended.requestIds) bus.publish(`workspace-request:${id}`);
  if (ended.workerInstanceId !== null) bus.publish(`workspaces:${ended.workerInstanceId}`);
  bus.publish(workTopic(ended.workerGroupId));
}

/** The worker of the run that a copy was attached to, or those that may take the run. */
export function tellAttached(
  bus: LiveBus,
  { materialization, resumedRunId }: RequestedMaterialization,
): void {
  if (resumedRunId !== undefined) bus.publish(`run:${resumedRunId}`);
  const worker = materialization.worker_instance_id;
  bus.publish(worker === null ? workTopic(materialization.worker_group_id) : `workspaces:${worker}`);
}
