/** Workers of these groups are told that there may be work: queued again, or a place or a workspace is free. */
import type { LiveBus } from "@helmr/coordination";
import { workTopic } from "@helmr/store";

export function tellWork(bus: LiveBus, work: readonly { readonly workerGroupId: string }[]): void {
  for (const id of new Set(work.map(({ workerGroupId }) => workerGroupId))) bus.publish(workTopic(id));
}
