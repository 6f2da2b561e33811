/** Faults at their moments. Those of one target come one after the other, also when the end of one takes long. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Cluster } from "./cluster.ts";
import { breakers } from "./faults/index.ts";
import type { Journal } from "./journal.ts";
import type { Fault } from "./plan.ts";

/** Resolves when the last is over. Rejects when one could not be ended: then nothing that follows can be trusted. */
export async function injectFaults(
  cluster: Cluster,
  faults: readonly Fault[],
  journal: Journal,
  signal: AbortSignal,
): Promise<void> {
  const begun = Date.now();
  const before = new Map<string, Promise<void>>();
  for (const fault of faults) {
    const earlier = before.get(fault.target);
    const one = async () => {
      await sleep(Math.max(0, begun + fault.at - Date.now()), undefined, { signal });
      await earlier;
      await inject(cluster, fault, journal, signal);
    };
    before.set(fault.target, one());
  }
  await Promise.all(before.values());
}

async function inject(cluster: Cluster, fault: Fault, journal: Journal, signal: AbortSignal): Promise<void> {
  const { begin, end } = breakers[fault.kind];
  const what = `${fault.kind} ${fault.target}${"stepMs" in fault ? ` by ${fault.stepMs} ms` : ""}`;
  journal.note(`fault: ${what}${fault.forMs > 0 ? ` for ${fault.forMs} ms` : ""}`);
  try {
    await begin(cluster, fault);
    await sleep(fault.forMs, undefined, { signal });
  } finally {
    await end(cluster, fault);
  }
  if (fault.forMs > 0) journal.note(`over:  ${what}`);
}
