/** A program that is killed: a worker with a run at work, a pooled guest up, and a build step in progress. */
import { Bench } from "./bench.ts";
import { project } from "./projects.ts";

const [dir = ""] = process.argv.slice(2);
const bench = await Bench.start({ dir, pool: { perSandbox: 1, maxGuests: 1, idleTtlMs: 60_000 } });
const tasks = {
  waits: 'console.log("ready"); await new Promise((resolve) => setTimeout(resolve, 600_000));',
};
const deployment = await bench.deploy(project({ tasks }));
const { record } = bench.run(deployment, "waits");
await record.until(() => record.log("stdout").includes("ready"));
const slow = '.run(["sh", "-c", "echo stepping; sleep 600"])';
const building = bench.controlPlane.leases.size;
void bench.build(project({ tasks, image: slow }));
for (;;) {
  const build = [...bench.controlPlane.leases.values()][building];
  if (build?.messages.includes("stepping") === true) break;
  await new Promise((resolve) => setTimeout(resolve, 50));
}
console.log("busy");
