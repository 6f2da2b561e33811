/**
 * `npm run test:faults [-- --minutes N] [--seed S] [--plan FILE] [--store s3] [--faults kill,freeze]`: breaks a cluster while clients use it
 * (docs/testing-faults.md). Prints the seed first; exit code 1 when something that must be true is not.
 */
import { randomInt } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { runPlan } from "./driver.ts";
import { type FaultKind, makePlan, type Plan, planSchema } from "./plan.ts";

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "2" },
    seed: { type: "string" },
    plan: { type: "string" },
    faults: { type: "string" },
    store: { type: "string", default: "file" },
    "every-ms": { type: "string", default: "1500" },
    "fault-every-ms": { type: "string", default: "6000" },
    quiet: { type: "boolean", default: false },
  },
});

function positive(text: string, name: string): number {
  const value = Number(text);
  if (!(value > 0)) throw new Error(`--${name} must be a positive number, not ${text}`);
  return value;
}

async function choosePlan(): Promise<Plan> {
  if (values.plan !== undefined) return planSchema.parse(JSON.parse(await readFile(values.plan, "utf8")));
  return makePlan({
    seed: values.seed ?? String(randomInt(2 ** 32)),
    durationMs: Math.round(positive(values.minutes, "minutes") * 60_000),
    store: values.store === "s3" ? "s3" : "file",
    everyMs: positive(values["every-ms"], "every-ms"),
    faultEveryMs: positive(values["fault-every-ms"], "fault-every-ms"),
    faultKinds: values.faults === undefined ? undefined : (values.faults.split(",") as FaultKind[]),
  });
}

const plan = await choosePlan();
const planFile = join(tmpdir(), `helmr-faults-plan-${plan.seed.replaceAll(/[^A-Za-z0-9-]/g, "_")}.json`);
await writeFile(planFile, `${JSON.stringify(plan, null, 2)}\n`);
console.log(`seed ${plan.seed}; the plan: ${planFile}`);

const stop = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    console.error(`${signal}: removing what was started …`);
    stop.abort(new Error(signal));
  });
}

const outcome = await runPlan(plan, {
  echo: (line) => {
    if (!values.quiet) console.log(line);
  },
  signal: stop.signal,
  settleMs: 180_000,
  collectMs: 150_000,
});
console.log(`\n${outcome.summary}`);
for (const { number, text } of outcome.violations) console.log(`${number} ${text}`);
if (outcome.evidenceDir === undefined) console.log("every invariant holds");
else console.log(`${outcome.violations.length} violations; evidence: ${outcome.evidenceDir}`);
process.exitCode = outcome.violations.length === 0 ? 0 : 1;
// What still holds the process is worth a look, and nothing to wait for.
setTimeout(() => {
  console.error(`still active: ${process.getActiveResourcesInfo().join(", ")}`);
  process.exit();
}, 10_000).unref();
