/** Hints after a commit: who should look now. A lost hint only means that a slow poll finds it later. */
import type { LiveBus } from "@helmr/coordination";
import {
  type CancelledRun,
  type CommandTarget,
  type EndedMaterialization,
  type MaterializationRow,
  type RequestedMaterialization,
  type ResolvedWait,
  workTopic,
} from "@helmr/store";

/** Work of the group is queued, or a place in a lane or a workspace became free. */
export function tellWork(bus: LiveBus, workerGroupId: string): void {
  bus.publish(workTopic(workerGroupId));
}

export function tellRun(bus: LiveBus, runId: string): void {
  bus.publish(`run:${runId}`);
}

export function tellDeployment(bus: LiveBus, deploymentId: string): void {
  bus.publish(`deployment:${deploymentId}`);
}

/** Waits that ended: the worker that holds the run, or any worker when it is queued to resume. */
export function tellResolved(bus: LiveBus, waits: readonly ResolvedWait[]): void {
  for (const { runId, workerInstanceId, workerGroupId } of waits) {
    tellRun(bus, runId);
    if (workerInstanceId === null) tellWork(bus, workerGroupId);
    else bus.publish(`waits:${workerInstanceId}`);
  }
}

export function tellStream(bus: LiveBus, streamId: string): void {
  bus.publish(`stream:${streamId}`);
}

export function tellCancelled(bus: LiveBus, runs: readonly CancelledRun[]): void {
  for (const { runId, workerInstanceId } of runs) {
    tellRun(bus, runId);
    if (workerInstanceId !== null) bus.publish(`worker:${workerInstanceId}`);
  }
}

/** A live copy was asked for, or is another than before: its worker, or those that may take it or its run. */
export function tellMaterialization(
  bus: LiveBus,
  {
    worker_instance_id: worker,
    worker_group_id: workerGroupId,
  }: Pick<MaterializationRow, "worker_instance_id" | "worker_group_id">,
): void {
  if (worker === null) tellWork(bus, workerGroupId);
  else bus.publish(`workspaces:${worker}`);
}

/** A command is in a live copy's outbox; one that no worker has yet is found when one has. */
export function tellCommand(bus: LiveBus, target: CommandTarget | undefined): void {
  if (target?.workerInstanceId != null) bus.publish(`workspaces:${target.workerInstanceId}`);
}

/** A live copy ended: who waits for that, and who follows or waits for what was in it. */
export function tellEnded(bus: LiveBus, ended: EndedMaterialization | undefined): void {
  if (ended === undefined) return;
  bus.publish(`workspace:${ended.workspaceId}`);
  tellExecs(bus, ended.execIds, ended.ptyIds);
  for (const id of ended.requestIds) bus.publish(`workspace-request:${id}`);
  if (ended.workerInstanceId !== null) bus.publish(`workspaces:${ended.workerInstanceId}`);
  // A run may wait for the workspace.
  tellWork(bus, ended.workerGroupId);
}

/** Output or a new state. */
export function tellExecs(bus: LiveBus, execIds: readonly string[], ptyIds: readonly string[]): void {
  for (const id of execIds) bus.publish(`exec:${id}`);
  for (const id of ptyIds) bus.publish(`pty:${id}`);
}

/** A live copy was asked for, for itself or for a command in it. */
export function tellRequested(bus: LiveBus, requested: RequestedMaterialization): void {
  tellEnded(bus, requested.ended);
  if (requested.resumedRunId !== undefined) tellRun(bus, requested.resumedRunId);
  tellMaterialization(bus, requested.materialization);
}
