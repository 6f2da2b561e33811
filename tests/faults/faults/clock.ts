/** The clock of one worker is wrong for a while: its `Date` is shifted in its process (../clock.mjs). */
import { writeFile } from "node:fs/promises";
import type { Cluster } from "../cluster.ts";
import type { ClockFault } from "../plan.ts";
import type { Breaker } from "./index.ts";

export const clockStep: Breaker<ClockFault> = {
  begin: (cluster, { stepMs }) => setClock(cluster, stepMs),
  end: (cluster) => setClock(cluster, 0),
};

/** One that is starting reads the file by itself; a signal before that would end it. */
async function setClock(cluster: Cluster, offsetMs: number): Promise<void> {
  await writeFile(cluster.clockFile, String(offsetMs));
  const worker = cluster.part("worker-2");
  if (worker.state === "running" || worker.state === "frozen") worker.signal("SIGUSR2");
}
