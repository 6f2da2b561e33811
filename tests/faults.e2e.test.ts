/**
 * The fault harness, short: one plan of half a minute, in which workers, a control plane and a dispatcher are killed, a worker
 * is frozen beyond its lease, PostgreSQL crashes, Redis forgets and connections break. Longer: `npm run test:faults`.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { runPlan } from "./faults/driver.ts";
import { planSchema } from "./faults/plan.ts";

const limitMs = 600_000;

test(
  "a cluster loses nothing while its parts break",
  async ({ signal }) => {
    const file = join(import.meta.dirname, "faults/short-plan.json");
    const plan = planSchema.parse(JSON.parse(await readFile(file, "utf8")));
    const journal: string[] = [];
    const outcome = await runPlan(plan, {
      echo: (line) => journal.push(line),
      signal,
      settleMs: 180_000,
      collectMs: 60_000,
    });
    const story = `${journal.join("\n")}\n${outcome.summary}\nevidence: ${outcome.evidenceDir}`;
    expect(outcome.violations, story).toEqual([]);
  },
  limitMs,
);
