/** Hints after a commit: who should look now. A lost hint only means that a slow poll finds it later. */
import type { LiveBus } from "@helmr/coordination";
import type { CancelledRun, ResolvedWait } from "@helmr/store";
import { defaultWorkTopic } from "./context.ts";

/** Work is queued, or a place in a lane or a workspace became free. */
export function tellWork(bus: LiveBus): void {
  bus.publish(defaultWorkTopic);
}

/** The same for one worker group. */
export function tellWorkOf(bus: LiveBus, group: string): void {
  bus.publish(`work:${group}`);
}

export function tellRun(bus: LiveBus, runId: string): void {
  bus.publish(`run:${runId}`);
}

export function tellDeployment(bus: LiveBus, deploymentId: string): void {
  bus.publish(`deployment:${deploymentId}`);
}

/** Waits that ended: the worker that holds the run, or any worker when it is queued to resume. */
export function tellResolved(bus: LiveBus, waits: readonly ResolvedWait[]): void {
  for (const { runId, workerInstanceId } of waits) {
    tellRun(bus, runId);
    if (workerInstanceId === null) tellWork(bus);
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
